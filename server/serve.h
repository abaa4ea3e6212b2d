/* serve.h - `retort serve`. */
#ifndef SERVER_SERVE_H
#define SERVER_SERVE_H

#include "server/options.h"

/* Serves until SIGTERM or SIGINT. `program` is the path of this binary, for the workers. Returns the
 * process's exit status. */
int serve_main(const struct settings *settings, const char *program);

#endif
