/* dispatch.h - from a request to the route that answers it, and through it. */
#ifndef HANDLERS_DISPATCH_H
#define HANDLERS_DISPATCH_H

#include "server/http.h"

/* All routes (handlers/routes.def), ended by NULL. */
extern const struct route *const route_table[];

/* The route of the request, with r->captures filled, or NULL: `out` is then a 404 or 405 problem. */
const struct route *route_find(struct request *r, const struct route *const *routes, struct response *out);

/* Checks the query, runs the handler and turns an error into a problem document. */
void route_run(const struct route *route, const struct request *r, struct response *out);

/* The same for the beginning of an upload: true when the sink is open, otherwise `out` is a problem. */
bool route_upload(struct sink *sink, const struct route *route, const struct request *r, struct response *out);

/* Ends an upload: the sink's end, with errors turned into problem documents. */
void route_upload_end(struct sink *sink, const struct request *r, struct response *out);

/* "GET" for HTTP_GET. */
const char *http_method_name(enum http_method method);

#endif
