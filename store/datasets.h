/* datasets.h - versions of data sets: named arrays, each a slice of a blob.
 * Names, lists, aliases and deletion: store/catalog.h.
 *
 * The digest of a version is the sha256 of one line per array in order of names,
 * "name dtype shape digest\n" with the shape as in "60000,28,28" and the digest in hex: equal
 * contents have equal digests, wherever the bytes lie. */
#ifndef STORE_DATASETS_H
#define STORE_DATASETS_H

#include "store/blobs.h"
#include "store/catalog.h"

#define STORE_ARRAY_NAME_SIZE 65
#define STORE_ARRAY_RANK 8
#define STORE_ARRAYS_MAX 64

struct store_array {
    char name[STORE_ARRAY_NAME_SIZE]; /* [A-Za-z0-9_][A-Za-z0-9_.-]{0,63} */
    char dtype[16];                   /* "float32" */
    int rank;
    int64_t shape[STORE_ARRAY_RANK];
    int64_t bytes;        /* of the elements */
    struct digest digest; /* of the elements */
    int64_t blob;
    int64_t offset; /* of the elements inside the blob */
};

struct store_dataset {
    struct store_version version; /* bytes: the sum over the arrays */
    struct store_array *arrays;   /* by name */
    size_t n;
};

/* Makes the next version of a name: the arrays of its latest version, with those given put in or in
 * the place of the ones with the same names. When that is what the latest version holds already, it
 * is the result and *existed (may be NULL) is true. E_INVALID: bad name, two arrays of one name, a
 * slice that leaves its blob; E_TOO_LARGE: too many arrays; E_NOT_FOUND: a blob is gone. */
int store_dataset_put(struct store_version *out, bool *existed, struct store *s, const char *name,
                      const struct store_array *arrays, size_t n, struct err *e);

/* By reference or by version id. E_INVALID, E_NOT_FOUND. */
int store_dataset_get(struct store_dataset *out, struct store *s, const char *reference, struct err *e);
int store_dataset_read(struct store_dataset *out, struct store *s, int64_t version, struct err *e);
void store_dataset_fini(struct store_dataset *d);

/* The array of that name, or NULL. */
const struct store_array *store_dataset_array(const struct store_dataset *d, const char *name);

#endif
