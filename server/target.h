/* target.h - a raw request target ("/v1/models/a%40b/onnx?wait=5") taken apart. */
#ifndef SERVER_TARGET_H
#define SERVER_TARGET_H

#include <stddef.h>

#include "server/http.h"

/* Bytes that target_split needs for a target of that length. */
#define TARGET_ROOM(length) (2 * ((length) + 1))

/* Fills path, segments and query of `r` with pointers into `room`, of TARGET_ROOM(strlen(raw)) bytes.
 * The path is split at "/" first and each segment decoded afterwards, so that "%2F" stays inside its
 * segment. E_SYNTAX, with what and why: not starting with "/", empty segments, "." and ".." as whole
 * segments (however encoded), broken percent codes, "%00" and other control characters, what is not
 * UTF-8, "#", too many segments or parameters, a parameter twice. E_TOO_LARGE beyond HTTP_MAX_TARGET. */
int target_split(struct request *r, char *room, const char *raw, struct err *e);

#endif
