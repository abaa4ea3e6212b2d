/* datasets.c - see datasets.h. */
#include "store/datasets.h"

#include <stdlib.h>

#include "base/memory.h"
#include "base/text.h"
#include "store/internal.h"

#define SHAPE_TEXT_SIZE (STORE_ARRAY_RANK * 20 + 1)

/* ---- arrays ---- */

static bool is_array_name(const char *name) {
    size_t n = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-");
    return n > 0 && name[n] == '\0' && name[0] != '.' && name[0] != '-';
}

static int check_array(const struct store_array *a, struct err *e) {
    if (!memchr(a->name, 0, sizeof a->name) || !is_array_name(a->name))
        return err_set(e, E_INVALID, "\"%.64s\" is not an array name: letters, digits, '_', '.' and '-', at most 64",
                       a->name);
    if (!memchr(a->dtype, 0, sizeof a->dtype) || !a->dtype[0])
        return err_set(e, E_INVALID, "array %s has no element type", a->name);
    if (a->rank < 0 || a->rank > STORE_ARRAY_RANK)
        return err_set(e, E_INVALID, "array %s has %d dimensions, at most %d are taken", a->name, a->rank,
                       STORE_ARRAY_RANK);
    for (int i = 0; i < a->rank; i++)
        if (a->shape[i] < 0) return err_set(e, E_INVALID, "array %s has a negative dimension", a->name);
    if (a->bytes < 0 || a->offset < 0) return err_set(e, E_INVALID, "array %s has a negative size or offset", a->name);
    return 0;
}

/* "60000,28,28"; "" for a scalar. */
static void shape_to_text(char out[SHAPE_TEXT_SIZE], const struct store_array *a) {
    size_t n = 0;
    out[0] = '\0';
    for (int i = 0; i < a->rank; i++) {
        text_print(out + n, SHAPE_TEXT_SIZE - n, "%s%lld", i ? "," : "", (long long)a->shape[i]);
        n += strlen(out + n);
    }
}

static int shape_from_text(struct store_array *a, char *text, struct err *e) {
    for (char *at = text; *at;) {
        char *comma = strchr(at, ',');
        if (comma) *comma = '\0';
        if (a->rank == STORE_ARRAY_RANK || !text_to_int(&a->shape[a->rank++], at, 0, INT64_MAX))
            return err_set(e, E_CORRUPT, "array %s has a shape that cannot be read", a->name);
        at = comma ? comma + 1 : at + strlen(at);
    }
    return 0;
}

static int row_array(struct store_array *a, struct statement *st, struct err *e) {
    char shape[SHAPE_TEXT_SIZE];
    column_word(a->name, sizeof a->name, st, 0);
    column_word(a->dtype, sizeof a->dtype, st, 1);
    column_word(shape, sizeof shape, st, 2);
    a->bytes = column_int(st, 3);
    column_digest(&a->digest, st, 4);
    a->blob = column_int(st, 5);
    a->offset = column_int(st, 6);
    return shape_from_text(a, shape, e);
}

/* Arrays of a version, by name; `out` has room for STORE_ARRAYS_MAX. */
static int read_arrays(struct store_array *out, size_t *n, struct store *s, int64_t version, struct err *e) {
    struct statement *st;
    *n = 0;
    int r = db_query(&st, s->meta,
                     "SELECT name, dtype, shape, bytes, digest, blob, blob_offset FROM dataset_arrays"
                     " WHERE version_id = ?1 ORDER BY name LIMIT ?2",
                     BIND(value_int(version), value_int(STORE_ARRAYS_MAX)), e);
    while (!r && (r = statement_step(st, e)) == 1) r = row_array(&out[(*n)++], st, e);
    statement_reset(st);
    return r;
}

static int write_array(struct store *s, int64_t version, const struct store_array *a, struct err *e) {
    char shape[SHAPE_TEXT_SIZE];
    shape_to_text(shape, a);
    return db_run(s->meta,
                  "INSERT INTO dataset_arrays (version_id, name, dtype, shape, bytes, digest, blob, blob_offset)"
                  " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                  BIND(value_int(version), value_text(a->name), value_text(a->dtype), value_text(shape),
                       value_int(a->bytes), value_digest(&a->digest), value_int(a->blob), value_int(a->offset)),
                  e);
}

/* ---- putting ---- */

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct store_array *)a)->name, ((const struct store_array *)b)->name);
}

/* Puts an array in, or in the place of the one with its name. */
static int merge_array(struct store_array *arrays, size_t *n, const struct store_array *a, struct err *e) {
    size_t i = 0;
    while (i < *n && strcmp(arrays[i].name, a->name) != 0) i++;
    if (i == STORE_ARRAYS_MAX) return err_set(e, E_TOO_LARGE, "a data set has at most %d arrays", STORE_ARRAYS_MAX);
    if (i == *n) ++*n;
    arrays[i] = *a;
    return 0;
}

static int merge(struct store_array *arrays, size_t *n, const struct store_array *given, size_t n_given,
                 struct err *e) {
    int r = n_given == 0 ? err_set(e, E_INVALID, "a version of a data set needs an array") : 0;
    if (n_given > STORE_ARRAYS_MAX)
        return err_set(e, E_TOO_LARGE, "a data set has at most %d arrays", STORE_ARRAYS_MAX);
    for (size_t i = 0; !r && i < n_given; i++) {
        r = check_array(&given[i], e);
        for (size_t j = 0; !r && j < i; j++)
            if (strcmp(given[i].name, given[j].name) == 0)
                r = err_set(e, E_INVALID, "two arrays are called %s", given[i].name);
        if (!r) r = merge_array(arrays, n, &given[i], e);
    }
    qsort(arrays, *n, sizeof *arrays, by_name);
    return r;
}

static int check_slices(struct store *s, const struct store_array *arrays, size_t n, struct err *e) {
    for (size_t i = 0; i < n; i++) {
        struct store_blob blob;
        int r = blob_check(&blob, s, arrays[i].blob, e);
        if (r) return r;
        if (arrays[i].offset > blob.size || arrays[i].bytes > blob.size - arrays[i].offset)
            return err_set(e, E_INVALID, "array %s leaves its blob", arrays[i].name);
    }
    return 0;
}

static void describe(struct store_version *v, const struct store_array *arrays, size_t n) {
    struct hasher hash;
    hasher_init(&hash);
    v->bytes = 0;
    for (size_t i = 0; i < n; i++) {
        char line[512], shape[SHAPE_TEXT_SIZE], hex[DIGEST_HEX_SIZE];
        shape_to_text(shape, &arrays[i]);
        digest_to_hex(hex, &arrays[i].digest);
        text_print(line, sizeof line, "%s %s %s %s\n", arrays[i].name, arrays[i].dtype, shape, hex);
        hasher_add(&hash, line, strlen(line));
        v->bytes += arrays[i].bytes;
    }
    v->digest = hasher_finish(&hash);
}

struct put {
    const char *name;
    const struct store_array *given;
    size_t n_given;
    struct store_array *arrays; /* room for STORE_ARRAYS_MAX: the arrays of the new version */
};

static int latest_arrays(struct put *p, size_t *n, struct store *s, struct err *e) {
    int64_t latest;
    *n = 0;
    int r = db_integer(&latest, s->meta, "SELECT latest FROM names WHERE kind = ?1 AND name = ?2 AND latest > 0",
                       BIND(value_int(STORE_DATASET), value_text(p->name)), e);
    if (r) return r == E_NOT_FOUND ? 0 : r;
    return read_arrays(p->arrays, n, s, latest, e);
}

static int put_within(struct store_version *out, bool *existed, struct store *s, struct put *p, struct err *e) {
    struct store_version v = {.kind = STORE_DATASET};
    size_t n;
    int r = latest_arrays(p, &n, s, e);
    if (!r) r = merge(p->arrays, &n, p->given, p->n_given, e);
    if (!r) r = check_slices(s, p->arrays, n, e);
    if (r) return r;
    memcpy(v.name, p->name, strlen(p->name) + 1);
    describe(&v, p->arrays, n);
    r = version_put_within(out, existed, s, &v, e);
    for (size_t i = 0; !r && !*existed && i < n; i++) r = write_array(s, out->id, &p->arrays[i], e);
    return r;
}

int store_dataset_put(struct store_version *out, bool *existed, struct store *s, const char *name,
                      const struct store_array *arrays, size_t n, struct err *e) {
    struct put p = {.name = name, .given = arrays, .n_given = n};
    bool was_there = false;
    *out = (struct store_version){0};
    if (existed) *existed = false;
    int r = store_name_check(name, e);
    if (r) return r;
    p.arrays = mem_calloc(STORE_ARRAYS_MAX, sizeof *p.arrays);
    if (!p.arrays) return err_memory(e, STORE_ARRAYS_MAX * sizeof *p.arrays);
    r = db_begin(s->meta, DB_DURABLE, e);
    if (!r) r = db_end(s->meta, put_within(out, &was_there, s, &p, e), e);
    if (r)
        *out = (struct store_version){0};
    else if (existed)
        *existed = was_there;
    mem_free(p.arrays);
    return r;
}

/* ---- getting ---- */

static int read_within(struct store_dataset *out, struct store *s, const struct store_version *version, struct err *e) {
    if (version->kind != STORE_DATASET)
        return err_set(e, E_NOT_FOUND, "version with id %lld is not one of a data set", (long long)version->id);
    out->version = *version;
    out->arrays = mem_calloc(STORE_ARRAYS_MAX, sizeof *out->arrays);
    if (!out->arrays) return err_memory(e, STORE_ARRAYS_MAX * sizeof *out->arrays);
    return read_arrays(out->arrays, &out->n, s, version->id, e);
}

static int get_within(struct store_dataset *out, struct store *s, const struct store_reference *ref, struct err *e) {
    struct store_version version;
    int r = resolve_within(&version, s, STORE_DATASET, ref, e);
    return r ? r : read_within(out, s, &version, e);
}

int store_dataset_get(struct store_dataset *out, struct store *s, const char *reference, struct err *e) {
    struct store_reference ref;
    *out = (struct store_dataset){0};
    int r = store_reference_parse(&ref, reference, e);
    if (!r) r = db_begin(s->meta, DB_READ, e);
    if (!r) r = db_end(s->meta, get_within(out, s, &ref, e), e);
    if (r) store_dataset_fini(out);
    return r;
}

static int by_id_within(struct store_dataset *out, struct store *s, int64_t id, struct err *e) {
    struct store_version version;
    int r = version_get_within(&version, s, id, e);
    return r ? r : read_within(out, s, &version, e);
}

int store_dataset_read(struct store_dataset *out, struct store *s, int64_t version, struct err *e) {
    *out = (struct store_dataset){0};
    int r = db_begin(s->meta, DB_READ, e);
    if (!r) r = db_end(s->meta, by_id_within(out, s, version, e), e);
    if (r) store_dataset_fini(out);
    return r;
}

void store_dataset_fini(struct store_dataset *d) {
    mem_free(d->arrays);
    *d = (struct store_dataset){0};
}

const struct store_array *store_dataset_array(const struct store_dataset *d, const char *name) {
    for (size_t i = 0; i < d->n; i++)
        if (strcmp(d->arrays[i].name, name) == 0) return &d->arrays[i];
    return NULL;
}
