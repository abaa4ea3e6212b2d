/* guard.h - what is refused before anything looks at it: requests that two parsers may read in two
 * ways (request smuggling), and requests that a foreign web page makes its visitor's browser send.
 *
 * libmicrohttpd 0.9.75 checks none of this itself. What it hides cannot be checked here either: line
 * ends that are a bare LF. Do not put retort behind a proxy that shares connections between clients
 * unless that proxy refuses them. */
#ifndef SERVER_GUARD_H
#define SERVER_GUARD_H

#include "server/http.h"

/* 0, or the status to refuse the headers of `r` with; the text is in *e. After such an answer the
 * connection must be closed: what follows would be run as another request. `version` is "HTTP/1.1". */
int guard_headers(const struct request *r, const char *version, struct err *e);

/* 0, or the status to refuse with: a Host that is a name of the outside when everybody may do
 * everything (DNS rebinding), or a change asked for by a page from another origin. `hosts`: names
 * besides "localhost" and numeric addresses, separated by spaces. */
int guard_origin(const struct request *r, const char *hosts, struct err *e);

#endif
