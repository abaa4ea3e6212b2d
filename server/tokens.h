/* tokens.h - who may do what: bearer tokens with scopes, in a file that holds only their hashes.
 *
 *     # name scope sha256 expires
 *     ci write 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 2027-01-31
 *
 * A token comes as "Authorization: Bearer hf_..." or, from the dashboard, which cannot set headers on
 * event streams, in the cookie "retort_token". Without a file everybody who reaches the loopback
 * interface may do everything. */
#ifndef SERVER_TOKENS_H
#define SERVER_TOKENS_H

#include "server/http.h"

#define TOKENS_MAX 1000
#define TOKEN_SIZE 48 /* "hf_" and 43 characters, with the NUL */

/* Reads the file, in place of what was read before; on error that stays. E_NOT_FOUND, E_SYNTAX with the
 * line, E_INVALID when there is no token in it. May be called while requests are served. */
int tokens_load(const char *path, struct err *e);

/* True when the request may use a route of that scope; sets r->principal. False: the response is a 401
 * or 403 problem. */
bool tokens_allow(struct request *r, enum scope needed, struct response *out);

/* `retort token --file FILE --name NAME --scope SCOPE [--days N]`: makes a token, appends its line to
 * the file and prints the token, this once. Returns the process's exit status. */
int tokens_main(int argc, char **argv);

#endif
