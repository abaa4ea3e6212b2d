/* headers.h - reading what a request says besides its body: headers, and the query through a table. */
#ifndef HANDLERS_HEADERS_H
#define HANDLERS_HEADERS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"
#include "server/http.h"

/* The value of a header (names are compared without case), or NULL. */
const char *header_get(const struct request *r, const char *name);

/* Whether an If-Match or If-None-Match list (`*`, `"a", W/"b"`) names the tag; `tag` with its quotes.
 * The strong comparison matches no weak tags. */
bool header_names_tag(const char *list, const char *tag, bool strong);

/* The sha-256 of a Content-Digest or Repr-Digest header (RFC 9530): *has says whether it is there;
 * other algorithms are ignored, a broken sha-256 is E_SYNTAX. */
int header_digest(struct digest *out, bool *has, const char *value, struct err *e);

/* Seconds of `Prefer: wait=` (RFC 7240); -1 without. */
int64_t header_prefer_wait(const struct request *r);

/* The Idempotency-Key, without its quotes if it has some (they are in the draft, many clients leave
 * them out): at most 255 visible ASCII characters, otherwise E_SYNTAX. "" without. */
#define IDEMPOTENCY_KEY_SIZE 256
int header_idempotency_key(char out[IDEMPOTENCY_KEY_SIZE], const struct request *r, struct err *e);

/* Fills a struct from the query parameters as param_parse does from an object. Flat tables only. A
 * parameter without value ("?dry_run") stands for true. Errors name the parameter. */
int query_parse(void *out, const struct param *table, const struct request *r, struct err *e);

#endif
