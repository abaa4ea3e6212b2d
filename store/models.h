/* models.h - versions of networks: the bytes, and a summary that the caller worked out.
 * Names, lists, aliases and deletion: store/catalog.h. What the texts mean is none of the store's business. */
#ifndef STORE_MODELS_H
#define STORE_MODELS_H

#include "store/blobs.h"
#include "store/catalog.h"

/* What a new version is made of. The texts are JSON or NULL. */
struct store_model_new {
    const char *name;
    struct store_blob blob;
    int64_t parameters;
    int64_t macs; /* multiply-adds of one sample; negative: not known */
    const char *operators;
    const char *inputs;
    const char *outputs;
    const char *lineage; /* teacher, data set, job */
    const char *metrics;
    int64_t job;              /* that made it, 0 = uploaded */
    struct store_blob memory; /* what a training left to go on from; id 0: nothing */
    const char *training;     /* about it; only together with a memory */
};

struct store_model {
    struct store_version version; /* digest and bytes are those of the blob */
    int64_t blob;
    int64_t parameters;
    int64_t macs;
    char *operators; /* NULL when it was not given; likewise the others */
    char *inputs;
    char *outputs;
    char *lineage;
    char *metrics;
    int64_t memory; /* blob; 0: there is none */
    char *training;
};

/* Makes the next version of a name (and the name with the first). When the latest version has the
 * same bytes, that one is the result, unchanged, and *existed (may be NULL) is true; but a memory that it lacks it gets.
 * E_INVALID: bad name; E_NOT_FOUND: a blob is gone. To finish a job with a model, see store_lease_succeed. */
int store_model_put(struct store_version *out, bool *existed, struct store *s, const struct store_model_new *m,
                    struct err *e);

/* A version with its summary, by reference or by version id. E_INVALID, E_NOT_FOUND. */
int store_model_get(struct store_model *out, struct store *s, const char *reference, struct err *e);
int store_model_read(struct store_model *out, struct store *s, int64_t version, struct err *e);
void store_model_fini(struct store_model *m);

#endif
