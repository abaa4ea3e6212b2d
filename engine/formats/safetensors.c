/* safetensors.c - the header of a safetensors file, and the tensors behind it as they come. */
#include "engine/formats/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "engine/formats/safetensors_types.h"

#define PREFIX 8                    /* bytes that say how long the header is */
#define FORMAT_MAX_HEADER 100000000 /* what the format allows */

struct tensor {
    const char *name; /* in the header's tree */
    enum dtype type;
    struct shape shape;
    uint64_t begin, end; /* in the data */
    size_t index;        /* in the header */
};

struct safetensors_reader {
    struct array_sink sink;
    uint64_t budget;
    unsigned char prefix[PREFIX];
    size_t have; /* bytes of prefix and header */
    size_t header_size;
    char *header; /* until it is complete */
    struct json *tree;
    struct tensor *tensors; /* by place, once the header is read */
    size_t n, at;           /* tensors, and which of them is coming */
    uint64_t missing;       /* bytes of it */
};

int safetensors_reader_new(struct safetensors_reader **out, struct array_sink sink, uint64_t budget, struct err *e) {
    struct safetensors_reader *r = mem_calloc(1, sizeof *r);
    if (!r) return err_memory(e, sizeof *r);
    r->sink = sink;
    r->budget = budget;
    *out = r;
    return 0;
}

void safetensors_reader_free(struct safetensors_reader *r) {
    if (!r) return;
    mem_free(r->header);
    mem_free(r->tensors);
    json_free(r->tree);
    mem_free(r);
}

/* ---- one tensor's entry ---- */

static int read_type(enum dtype *out, const struct json *v, struct err *e) {
    if (json_type(v) != JSON_STRING)
        return err_set(e, E_SYNTAX, "\"dtype\" is %s; it must be a string like \"F32\"", json_type_name(json_type(v)));
    if (safetensors_type_from_name(out, json_string(v))) return 0;
    return err_set(e, E_UNSUPPORTED,
                   "elements of type %.40s; possible are F64, F32, F16, BF16, I64 to I8, U64 to U8 and BOOL: "
                   "convert it, in PyTorch with tensor.float()",
                   json_string(v));
}

/* A whole number from 0 to 2^53 - 1. */
static bool is_whole(int64_t *out, const struct json *v) {
    return json_type(v) == JSON_NUMBER && json_int(out, v) && *out >= 0;
}

static int read_shape(struct shape *s, const struct json *v, struct err *e) {
    *s = (struct shape){0};
    if (json_type(v) != JSON_ARRAY)
        return err_set(e, E_SYNTAX, "\"shape\" is %s; it must be an array", json_type_name(json_type(v)));
    for (const struct json *d = json_first(v); d; d = json_next(d)) {
        if (s->rank == SHAPE_MAX_RANK)
            return err_set(e, E_UNSUPPORTED, "it has more than %d dimensions", SHAPE_MAX_RANK);
        if (!is_whole(&s->dim[s->rank], d))
            return err_set(e, E_SYNTAX, "dimension %d is not a whole number from 0 to 2^53 - 1", s->rank);
        s->rank++;
    }
    return 0;
}

static int read_offsets(struct tensor *t, const struct json *v, struct err *e) {
    int64_t offsets[2] = {0};
    size_t n = 0;
    bool good = json_type(v) == JSON_ARRAY && json_count(v) == 2;
    for (const struct json *o = good ? json_first(v) : NULL; o; o = json_next(o))
        good = good && is_whole(&offsets[n++], o);
    if (!good || offsets[0] > offsets[1])
        return err_set(e, E_SYNTAX, "\"data_offsets\" must be two whole numbers, the begin and then the end");
    t->begin = (uint64_t)offsets[0];
    t->end = (uint64_t)offsets[1];
    return 0;
}

static int check_size(const struct tensor *t, struct err *e) {
    char text[SHAPE_MAX_RANK * 24];
    size_t count, size;
    int rc = shape_count(&count, &t->shape, e);
    if (rc) return rc;
    size = count * dtype_size(t->type);
    if (size == t->end - t->begin) return 0;
    shape_print(text, sizeof text, &t->shape);
    return err_set(e, E_INVALID, "its offsets %llu to %llu are %llu bytes; %s %s takes %zu",
                   (unsigned long long)t->begin, (unsigned long long)t->end, (unsigned long long)(t->end - t->begin),
                   dtype_name(t->type), text, size);
}

static int read_entry(struct tensor *t, const struct json *entry, struct err *e) {
    static const char *const names[] = {"dtype", "shape", "data_offsets"};
    const struct json *found[3];
    if (json_type(entry) != JSON_OBJECT)
        return err_set(e, E_SYNTAX, "its entry is %s; it must be an object", json_type_name(json_type(entry)));
    for (int i = 0; i < 3; i++) {
        found[i] = json_get(entry, names[i]);
        if (!found[i]) return err_set(e, E_SYNTAX, "its entry has no \"%s\"", names[i]);
    }
    for (const struct json *m = json_first(entry); m; m = json_next(m))
        if (m != found[0] && m != found[1] && m != found[2])
            return err_set(e, E_SYNTAX, "its entry has a \"%.40s\"; only dtype, shape and data_offsets belong there",
                           json_name(m));
    int rc = read_type(&t->type, found[0], e);
    if (!rc) rc = read_shape(&t->shape, found[1], e);
    if (!rc) rc = read_offsets(t, found[2], e);
    return rc ? rc : check_size(t, e);
}

/* ---- the header ---- */

static int check_metadata(const struct json *v, struct err *e) {
    bool good = json_type(v) == JSON_OBJECT;
    for (const struct json *m = good ? json_first(v) : NULL; m; m = json_next(m))
        good = good && json_type(m) == JSON_STRING;
    return good ? 0 : err_set(e, E_SYNTAX, "\"%s\" must be an object of strings", SAFETENSORS_METADATA);
}

static int read_entries(struct safetensors_reader *r, struct err *e) {
    int rc = 0;
    r->tensors = mem_calloc(json_count(r->tree) + 1, sizeof *r->tensors);
    if (!r->tensors) return err_memory(e, json_count(r->tree) * sizeof *r->tensors);
    for (const struct json *m = json_first(r->tree); m && !rc; m = json_next(m)) {
        if (!strcmp(json_name(m), SAFETENSORS_METADATA)) {
            rc = check_metadata(m, e);
            continue;
        }
        struct tensor *t = &r->tensors[r->n];
        t->name = json_name(m);
        t->index = r->n++;
        rc = read_entry(t, m, e);
        if (rc) err_prefix(e, "tensor '%.100s'", t->name);
    }
    return rc;
}

static int compare_places(const void *a, const void *b) {
    const struct tensor *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end) return x->end < y->end ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

/* The entries may come in any order, but their bytes cover the data once. */
static int check_places(struct safetensors_reader *r, struct err *e) {
    uint64_t at = 0;
    qsort(r->tensors, r->n, sizeof *r->tensors, compare_places);
    for (size_t i = 0; i < r->n; i++) {
        const struct tensor *t = &r->tensors[i];
        if (t->begin > at)
            return err_set(e, E_INVALID, "before tensor '%.100s' there are %llu bytes that belong to no tensor",
                           t->name, (unsigned long long)(t->begin - at));
        if (t->begin < at)
            return err_set(e, E_INVALID, "tensor '%.100s' begins at byte %llu, inside '%.100s', which ends at %llu",
                           t->name, (unsigned long long)t->begin, r->tensors[i - 1].name, (unsigned long long)at);
        at = t->end;
    }
    if (at > r->budget)
        return err_set(e, E_TOO_LARGE, "the tensors have %llu bytes together; %llu are allowed", (unsigned long long)at,
                       (unsigned long long)r->budget);
    return 0;
}

/* Where in the header a mistake is must not look like a field of a request. */
static int blame_header(int rc, struct err *e) {
    if (e) e->pointer[0] = '\0';
    err_prefix(e, "the header");
    return rc;
}

static int read_header(struct safetensors_reader *r, struct err *e) {
    const struct json_limits limits = {SAFETENSORS_MAX_HEADER, SAFETENSORS_MAX_TENSORS + 1};
    if (r->header[0] != '{') return err_set(e, E_SYNTAX, "not a safetensors file: its header does not begin with '{'");
    int rc = json_parse_within(&r->tree, r->header, r->header_size, &limits, e);
    if (rc) return blame_header(rc, e);
    mem_free(r->header);
    r->header = NULL;
    rc = read_entries(r, e);
    return rc ? rc : check_places(r, e);
}

/* The length of the header is known. */
static int read_prefix(struct safetensors_reader *r, struct err *e) {
    uint64_t size = 0;
    for (int i = PREFIX - 1; i >= 0; i--) size = size << 8 | r->prefix[i];
    if (size < 2) return err_set(e, E_SYNTAX, "not a safetensors file: its header has %d bytes", (int)size);
    if (size > FORMAT_MAX_HEADER)
        return err_set(e, E_SYNTAX, "not a safetensors file: its header would have %llu bytes",
                       (unsigned long long)size);
    if (size > SAFETENSORS_MAX_HEADER)
        return err_set(e, E_TOO_LARGE, "the header has %llu bytes; at most %u are read", (unsigned long long)size,
                       SAFETENSORS_MAX_HEADER);
    r->header_size = (size_t)size;
    r->header = mem_alloc(r->header_size);
    return r->header ? 0 : err_memory(e, size);
}

/* ---- the stream ---- */

static int blame_tensor(const struct safetensors_reader *r, int rc, struct err *e) {
    if (rc) err_prefix(e, "tensor '%.100s'", r->tensors[r->at].name);
    return rc;
}

/* Begins the next tensor; those without elements end at once. */
static int begin_next(struct safetensors_reader *r, struct err *e) {
    for (; r->at < r->n; r->at++) {
        const struct tensor *t = &r->tensors[r->at];
        r->missing = t->end - t->begin;
        int rc = r->sink.begin(r->sink.context, t->name, t->type, &t->shape, e);
        if (!rc && r->missing) return 0;
        if (!rc) rc = r->sink.end(r->sink.context, e);
        if (rc) return blame_tensor(r, rc, e);
    }
    return 0;
}

static int feed_data(struct safetensors_reader *r, const unsigned char *bytes, size_t size, struct err *e) {
    while (size) {
        if (r->at == r->n) return err_set(e, E_SYNTAX, "there are bytes after the %zu tensors of the header", r->n);
        size_t n = r->missing < size ? (size_t)r->missing : size;
        int rc = r->sink.data(r->sink.context, bytes, n, e);
        bytes += n;
        size -= n;
        r->missing -= n;
        if (!rc && !r->missing) rc = r->sink.end(r->sink.context, e);
        if (rc) return blame_tensor(r, rc, e);
        if (!r->missing) {
            r->at++;
            rc = begin_next(r, e);
        }
        if (rc) return rc;
    }
    return 0;
}

static size_t gather(void *to, size_t have, size_t need, const unsigned char *bytes, size_t size) {
    size_t n = need - have < size ? need - have : size;
    memcpy((unsigned char *)to + have, bytes, n);
    return n;
}

int safetensors_reader_feed(struct safetensors_reader *r, const void *bytes, size_t size, struct err *e) {
    const unsigned char *at = bytes;
    int rc = 0;
    while (!rc && size && !r->tree) {
        bool prefix = r->have < PREFIX;
        size_t n = prefix ? gather(r->prefix, r->have, PREFIX, at, size)
                          : gather(r->header, r->have - PREFIX, r->header_size, at, size);
        r->have += n;
        at += n;
        size -= n;
        if (r->have == PREFIX) rc = read_prefix(r, e);
        if (prefix || r->have < PREFIX + r->header_size) continue;
        rc = read_header(r, e);
        if (!rc) rc = begin_next(r, e);
    }
    return rc ? rc : feed_data(r, at, size, e);
}

const char *safetensors_reader_note(const struct safetensors_reader *r, const char *key) {
    const struct json *notes = r->tree ? json_get(r->tree, SAFETENSORS_METADATA) : NULL;
    const struct json *note = notes ? json_get(notes, key) : NULL;
    return note ? json_string(note) : NULL;
}

int safetensors_reader_finish(struct safetensors_reader *r, struct err *e) {
    if (!r->tree) return err_set(e, E_SYNTAX, "the file is cut off in its header, after %zu bytes", r->have);
    if (r->at == r->n) return 0;
    return err_set(e, E_SYNTAX, "the file is cut off, %llu bytes before the end of tensor '%.100s'",
                   (unsigned long long)r->missing, r->tensors[r->at].name);
}
