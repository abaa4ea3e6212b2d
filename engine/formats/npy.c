/* npy.c - .npy headers: a magic, a length, and a Python dict literal. */
#include "engine/formats/npy.h"

#include <string.h>

#include "base/memory.h"
#include "base/text.h"

static const char magic[6] = "\x93NUMPY";

/* numpy's spelling after the byte-order mark; the first of a type is the one written. */
static const struct {
    const char *name;
    enum dtype type;
} descrs[] = {
    {"f4", DT_FLOAT32}, {"f8", DT_FLOAT64}, {"f2", DT_FLOAT16}, {"V2", DT_BFLOAT16}, {"i8", DT_INT64},
    {"i4", DT_INT32},   {"i2", DT_INT16},   {"i1", DT_INT8},    {"u8", DT_UINT64},   {"u4", DT_UINT32},
    {"u2", DT_UINT16},  {"u1", DT_UINT8},   {"b1", DT_BOOL},    {"?", DT_BOOL},
};

#define N_DESCRS (sizeof descrs / sizeof descrs[0])

bool npy_recognise(const void *bytes, size_t size) {
    return size >= 4 && memcmp(bytes, magic, size < sizeof magic ? size : sizeof magic) == 0;
}

/* Version 1 has a length of 2 bytes, later ones of 4. */
static size_t length_end(const unsigned char *prefix) {
    return prefix[6] == 1 ? 10 : 12;
}

int npy_header_size(size_t *out, const void *prefix, struct err *e) {
    const unsigned char *p = prefix;
    if (memcmp(p, magic, sizeof magic) != 0) return err_set(e, E_SYNTAX, "not an .npy file: the magic is missing");
    if (p[6] < 1 || p[6] > 3)
        return err_set(e, E_UNSUPPORTED, ".npy version %d.%d; retort reads 1.0, 2.0 and 3.0", p[6], p[7]);
    size_t length = (size_t)p[8] | (size_t)p[9] << 8;
    if (p[6] > 1) length |= (size_t)p[10] << 16 | (size_t)p[11] << 24;
    size_t size = length_end(p) + length;
    if (size < NPY_PREFIX) return err_set(e, E_SYNTAX, "the .npy header is empty");
    if (size > NPY_MAX_HEADER)
        return err_set(e, E_TOO_LARGE, "the .npy header has %zu bytes; at most %d are read", size, NPY_MAX_HEADER);
    *out = size;
    return 0;
}

/* ---- the dict ---- */

struct cursor {
    const char *at, *end;
};

static void skip_space(struct cursor *c) {
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\n' || *c->at == '\t')) c->at++;
}

/* Skips space and then `sign`, if it is there. */
static bool take(struct cursor *c, char sign) {
    skip_space(c);
    if (c->at == c->end || *c->at != sign) return false;
    c->at++;
    return true;
}

static bool take_word(struct cursor *c, const char *word) {
    size_t length = strlen(word);
    skip_space(c);
    if ((size_t)(c->end - c->at) < length || memcmp(c->at, word, length) != 0) return false;
    c->at += length;
    return true;
}

/* A string in either kind of quotes, without escapes. */
static bool take_string(char *out, size_t room, struct cursor *c) {
    skip_space(c);
    char quote = c->at < c->end ? *c->at : ' ';
    if (quote != '\'' && quote != '"') return false;
    const char *start = ++c->at;
    while (c->at < c->end && *c->at != quote)
        if (*c->at++ == '\\') return false;
    if (c->at == c->end) return false;
    size_t length = (size_t)(c->at++ - start);
    if (length >= room || memchr(start, '\0', length)) return false;
    memcpy(out, start, length);
    out[length] = '\0';
    return true;
}

static int read_descr(enum dtype *out, struct cursor *c, struct err *e) {
    char descr[32];
    if (take(c, '['))
        return err_set(e, E_UNSUPPORTED, "the array holds records; save each field as an array of its own");
    if (!take_string(descr, sizeof descr, c)) return err_set(e, E_SYNTAX, "the .npy header has no readable 'descr'");
    const char *name = strchr("<>|=", descr[0]) && descr[0] ? descr + 1 : descr;
    for (size_t i = 0; i < N_DESCRS; i++) {
        if (strcmp(descrs[i].name, name) != 0) continue;
        if (descr[0] == '>' && dtype_size(descrs[i].type) > 1)
            return err_set(e, E_UNSUPPORTED, "elements '%s' are big endian; save with a.astype('<%s')", descr, name);
        *out = descrs[i].type;
        return 0;
    }
    return err_set(e, E_UNSUPPORTED,
                   "elements of type '%s'; possible are floats of 16, 32 and 64 bits, integers of "
                   "8 to 64 bits and bool: save with a.astype('float32')",
                   descr);
}

static int read_dim(int64_t *out, struct cursor *c, struct err *e) {
    int64_t dim = 0;
    skip_space(c);
    const char *start = c->at;
    if (take(c, '-')) return err_set(e, E_INVALID, "the .npy header has a negative dimension");
    for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++)
        if (__builtin_mul_overflow(dim, 10, &dim) || __builtin_add_overflow(dim, *c->at - '0', &dim))
            return err_set(e, E_TOO_LARGE, "the .npy header has a dimension beyond 64 bits");
    if (c->at == start) return err_set(e, E_SYNTAX, "the .npy header has no readable 'shape'");
    if (c->at < c->end && *c->at == 'L') c->at++; /* Python 2 */
    *out = dim;
    return 0;
}

static int read_shape(struct shape *s, struct cursor *c, struct err *e) {
    *s = (struct shape){0};
    if (!take(c, '(')) return err_set(e, E_SYNTAX, "the .npy header has no readable 'shape'");
    while (!take(c, ')')) {
        if (s->rank == SHAPE_MAX_RANK)
            return err_set(e, E_UNSUPPORTED, "the array has more than %d dimensions", SHAPE_MAX_RANK);
        int rc = read_dim(&s->dim[s->rank], c, e);
        if (rc) return rc;
        s->rank++;
        if (take(c, ',')) continue;
        if (!take(c, ')')) return err_set(e, E_SYNTAX, "the .npy header has no readable 'shape'");
        break;
    }
    return 0;
}

static int read_order(bool *fortran, struct cursor *c, struct err *e) {
    *fortran = take_word(c, "True");
    if (*fortran || take_word(c, "False")) return 0;
    return err_set(e, E_SYNTAX, "the .npy header has no readable 'fortran_order'");
}

/* {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), } in any order, each once. */
static int read_dict(struct npy_header *h, struct cursor *c, struct err *e) {
    static const char *const keys[] = {"descr", "fortran_order", "shape"};
    bool seen[3] = {false}, fortran = false;
    if (!take(c, '{')) return err_set(e, E_SYNTAX, "the .npy header is not a dict");
    while (!take(c, '}')) {
        char key[32];
        if (!take_string(key, sizeof key, c) || !take(c, ':'))
            return err_set(e, E_SYNTAX, "the .npy header is not a dict that retort can read");
        int k = 0;
        while (k < 3 && strcmp(keys[k], key) != 0) k++;
        if (k == 3 || seen[k])
            return err_set(e, E_SYNTAX, "the .npy header has '%s' %s", key, k == 3 ? "and should not" : "twice");
        seen[k] = true;
        int rc = k == 0   ? read_descr(&h->type, c, e)
                 : k == 1 ? read_order(&fortran, c, e)
                          : read_shape(&h->shape, c, e);
        if (rc) return rc;
        if (!take(c, ',') && (c->at == c->end || *c->at != '}'))
            return err_set(e, E_SYNTAX, "the .npy header is not a dict that retort can read");
    }
    for (int k = 0; k < 3; k++)
        if (!seen[k]) return err_set(e, E_SYNTAX, "the .npy header has no '%s'", keys[k]);
    if (fortran && h->shape.rank > 1)
        return err_set(e, E_UNSUPPORTED, "the array is in Fortran order; save with numpy.ascontiguousarray(a)");
    skip_space(c);
    return c->at == c->end ? 0 : err_set(e, E_SYNTAX, "the .npy header goes on after its dict");
}

int npy_header_read(struct npy_header *out, const void *bytes, size_t size, struct err *e) {
    struct npy_header h = {0};
    if (size < NPY_PREFIX) return err_set(e, E_SYNTAX, "the .npy file ends in its header, after %zu bytes", size);
    int rc = npy_header_size(&h.data_offset, bytes, e);
    if (rc) return rc;
    if (size < h.data_offset)
        return err_set(e, E_SYNTAX, "the .npy file ends in its header, after %zu of %zu bytes", size, h.data_offset);
    const char *text = bytes;
    struct cursor c = {text + length_end(bytes), text + h.data_offset};
    rc = read_dict(&h, &c, e);
    if (!rc) rc = shape_count(&h.count, &h.shape, e);
    if (!rc) *out = h;
    return rc;
}

int npy_header_write(char out[NPY_HEADER_ROOM], size_t *size, enum dtype type, const struct shape *shape,
                     struct err *e) {
    size_t count, d = 0, used = 10;
    int rc = shape_count(&count, shape, e);
    if (rc) return rc;
    while (descrs[d].type != type) d++;
    text_print(out + used, NPY_HEADER_ROOM - used, "{'descr': '%c%s', 'fortran_order': False, 'shape': (",
               dtype_size(type) == 1 ? '|' : '<', descrs[d].name);
    for (int i = 0; i < shape->rank; i++) {
        used += strlen(out + used);
        if (shape->dim[i] < 0)
            return err_set(e, E_INVALID, "dimension %d of an array is %lld", i, (long long)shape->dim[i]);
        text_print(out + used, NPY_HEADER_ROOM - used, i + 1 < shape->rank || i == 0 ? "%lld, " : "%lld",
                   (long long)shape->dim[i]);
    }
    used += strlen(out + used);
    text_print(out + used, NPY_HEADER_ROOM - used, "), }");
    used += strlen(out + used);
    size_t whole = (used + 1 + 63) / 64 * 64;
    memset(out + used, ' ', whole - used);
    out[whole - 1] = '\n';
    memcpy(out, magic, sizeof magic);
    out[6] = 1;
    out[7] = 0;
    out[8] = (char)((whole - 10) & 255);
    out[9] = (char)((whole - 10) >> 8);
    *size = whole;
    return 0;
}

int npy_read(struct array **out, const void *bytes, size_t size, struct err *e) {
    struct npy_header h;
    int rc = npy_header_read(&h, bytes, size, e);
    if (rc) return rc;
    size_t want = h.count * dtype_size(h.type), have = size - h.data_offset;
    if (want != have)
        return err_set(e, E_SYNTAX, "the .npy file has %zu bytes of elements; its header announces %zu", have, want);
    void *data = mem_copy((const char *)bytes + h.data_offset, want);
    if (!data) return err_memory(e, want);
    return array_new_take(out, h.type, &h.shape, data, e);
}
