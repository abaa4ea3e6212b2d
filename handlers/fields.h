/* fields.h - what replies of several resources have in common: times, digests, pages. */
#ifndef HANDLERS_FIELDS_H
#define HANDLERS_FIELDS_H

#include "base/digest.h"
#include "base/json.h"
#include "server/http.h"
#include "store/catalog.h"

#define PAGE_STANDARD "100"
#define CURSOR_SIZE 24

/* RFC 3339; 0 is null. */
void put_time(struct json_writer *w, const char *name, int64_t ms);
/* "sha256:<hex>" */
void put_digest(struct json_writer *w, const char *name, const struct digest *d);
/* JSON text as it is; NULL is null. */
void put_json(struct json_writer *w, const char *name, const char *json);
/* A number from 1 on; 0 is null. */
void put_id(struct json_writer *w, const char *name, int64_t id);

/* What every list takes: rows for a struct that has int64_t limit, after. */
#define PAGE_PARAMS(s) \
    PARAM_INT(s, limit, PAGE_STANDARD, 1, 1000, "most items of the page"), \
        PARAM_INT(s, after, "0", 0, 9e15, "the \"next\" of the page before")

/* Ends {"items":[...],"next":...}: closes the array and the object that are open in w, and adds the
 * Link header. `next` is 0 on the last page. */
void page_close(struct json_writer *w, struct response *out, const struct request *r, int64_t next);

/* Models under /v1/models, data sets under /v1/datasets: what the calls they share work on. */
enum store_kind kind_of(const struct request *r);

/* The bare name in a capture: E_INVALID with what is wrong, also for "name@version". */
int name_of(const char **out, const struct request *r, int capture, struct err *e);

/* A decimal id in a capture; E_NOT_FOUND when it is none, naming `what` ("job"). */
int id_of(int64_t *out, const struct request *r, int capture, const char *what, struct err *e);

/* Cache-Control and, when the reference can move, Content-Location of a version's bytes; `rest` is
 * what follows the reference in the path ("/onnx"). */
void reply_version_headers(struct response *out, const struct request *r, const struct store_version *v,
                           const char *reference, const char *rest);

/* What is in an uploaded file is the client's mistake, however it is wrong: E_SYNTAX becomes E_INVALID (422). */
int blame_content(int code, struct err *e);

/* Parses the body as JSON and fills a struct by the table; no body counts as {}. */
int body_parse(void *to, const struct param *table, const struct request *r, struct err *e);

#endif
