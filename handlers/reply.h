/* reply.h - filling responses: JSON, headers, problem documents (RFC 9457). */
#ifndef HANDLERS_REPLY_H
#define HANDLERS_REPLY_H

#include "base/json.h"
#include "server/http.h"

void response_init(struct response *out);
/* Frees the texts and closes what is open; the response is as after response_init. */
void response_fini(struct response *out, struct store *store);

/* Starts a JSON body. The writer appends to out->body: close what you open. */
struct json_writer reply_json(struct response *out, int status);

/* Starts a body of another type (a constant). */
struct text *reply_text(struct response *out, int status, const char *type);

/* Adds a header. The value must come from us or have passed a check: no line ends (assert). */
void reply_header(struct response *out, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The value of a header of the response into out (cut to room); false without. */
bool reply_header_get(char *to, size_t room, const struct response *out, const char *name);

/* "Handle me again when something has changed, in `ms` at the latest". */
void reply_wait(struct response *out, int64_t ms);

struct problem {
    int status;
    const char *slug; /* "too-large" */
    const char *detail;
    const char *pointer; /* of the JSON field at fault, or "" */
    uint64_t max_bytes;  /* of a 413; else 0 */
};

/* Replaces whatever is in the response by a problem document. */
void reply_problem(struct response *out, const struct request *r, const struct problem *p);
/* The same, for an error with the status of its code. */
void reply_error(struct response *out, const struct request *r, const struct err *e);

#endif
