/* weights.h - weights as safetensors, for the resources that give or take them. */
#ifndef HANDLERS_WEIGHTS_H
#define HANDLERS_WEIGHTS_H

#include "server/http.h"
#include "store/models.h"

/* The weights of a stored network, with everything that belongs to such bytes; `reference` as the client wrote it. It
 * may write to the store: for routes that are slow. */
int reply_weights(struct response *out, const struct request *r, const struct store_model *m, const char *reference,
                  struct err *e);

/* Takes the weights of a version, or with the bare name of all, out of the cache, before it is deleted. What fails stays
 * there until the cache is full. */
void weights_forget(const struct request *r, const char *reference);

/* *blob is a safetensors file; it becomes the latest network under the name with these weights, as ONNX. When no weight
 * differs, that is the stored network itself. */
int weights_apply(struct store_blob *blob, const struct request *r, const char *name, struct err *e);

#endif
