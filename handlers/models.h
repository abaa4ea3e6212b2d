/* models.h - what other resources say about models. */
#ifndef HANDLERS_MODELS_H
#define HANDLERS_MODELS_H

#include "base/json.h"
#include "server/http.h"
#include "store/blobs.h"
#include "store/models.h"

/* The members of one version, into the object that is open in w. */
void put_model_version(struct json_writer *w, const struct store_model *m);

/* A stored network for the intake, which reads it piece by piece. E_TOO_LARGE when it is more than the server
 * may take. *out must not move. */
struct model_bytes {
    struct byte_origin origin;
    struct store_blob_place place;
};
int model_open(struct model_bytes *out, const struct request *r, int64_t blob, int64_t size, struct err *e);

/* The network's bytes, with everything that belongs to them; `reference` as the client wrote it. */
int reply_onnx(struct response *out, const struct request *r, const struct store_model *m, const char *reference,
               struct err *e);

#endif
