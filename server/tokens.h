/* tokens.h - who may do what: bearer tokens with scopes. */
#ifndef SERVER_TOKENS_H
#define SERVER_TOKENS_H

#include "server/http.h"

/* True when the request may use a route of that scope; sets r->principal. False: the response is a
 * 401 or 403 problem. */
bool tokens_allow(struct request *r, enum scope needed, struct response *out);

#endif
