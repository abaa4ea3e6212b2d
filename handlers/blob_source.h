/* blob_source.h - a blob of the store, or a part of one behind a header, as the content of a reply. */
#ifndef HANDLERS_BLOB_SOURCE_H
#define HANDLERS_BLOB_SOURCE_H

#include "server/http.h"

/* Fills the response's source with `header` (copied; may be empty) and then `size` bytes of the blob
 * from `offset`. E_NOMEM. The blob is not held: a version that is deleted while it is sent may be
 * collected, and the download then breaks off, which its reader notices by the length. */
int reply_blob(struct response *out, const char *type, const void *header, size_t header_size, int64_t blob,
               int64_t offset, int64_t size, struct err *e);

#endif
