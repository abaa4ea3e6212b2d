/* idx.c - IDX headers and the byte order of IDX elements. */
#include "engine/formats/idx.h"

#include <string.h>

/* The third byte of the file; 0 to 7 and 10 are no type. */
static const struct {
    unsigned char code;
    enum dtype type;
} codes[] = {
    {8, DT_UINT8}, {9, DT_INT8}, {11, DT_INT16}, {12, DT_INT32}, {13, DT_FLOAT32}, {14, DT_FLOAT64},
};

static bool type_of(enum dtype *out, unsigned char code) {
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if (codes[i].code == code) {
            *out = codes[i].type;
            return true;
        }
    return false;
}

bool idx_recognise(const void *bytes, size_t size) {
    const unsigned char *p = bytes;
    enum dtype type;
    return size >= IDX_PREFIX && p[0] == 0 && p[1] == 0 && type_of(&type, p[2]);
}

int idx_header_size(size_t *out, const void *prefix, struct err *e) {
    const unsigned char *p = prefix;
    if (!idx_recognise(prefix, IDX_PREFIX)) return err_set(e, E_SYNTAX, "not an IDX file: the magic is missing");
    if (p[3] < 1 || p[3] > SHAPE_MAX_RANK)
        return err_set(e, E_UNSUPPORTED, "the IDX file has %d dimensions; 1 to %d are possible", p[3], SHAPE_MAX_RANK);
    *out = IDX_PREFIX + 4 * (size_t)p[3];
    return 0;
}

int idx_header_read(struct idx_header *out, const void *bytes, size_t size, struct err *e) {
    const unsigned char *p = bytes;
    struct idx_header h = {0};
    if (size < IDX_PREFIX) return err_set(e, E_SYNTAX, "the IDX file ends in its header, after %zu bytes", size);
    int rc = idx_header_size(&h.data_offset, bytes, e);
    if (rc) return rc;
    if (size < h.data_offset)
        return err_set(e, E_SYNTAX, "the IDX file ends in its header, after %zu of %zu bytes", size, h.data_offset);
    type_of(&h.type, p[2]);
    h.shape.rank = p[3];
    for (int i = 0; i < h.shape.rank; i++) {
        const unsigned char *d = p + IDX_PREFIX + 4 * i;
        h.shape.dim[i] = (int64_t)d[0] << 24 | d[1] << 16 | d[2] << 8 | d[3];
    }
    rc = shape_count(&h.count, &h.shape, e);
    if (!rc) *out = h;
    return rc;
}

void idx_swap(void *bytes, enum dtype type, size_t n) {
    unsigned char *p = bytes;
    size_t size = dtype_size(type);
    if (size == 1) return;
    for (size_t i = 0; i < n; i++, p += size)
        for (size_t low = 0, high = size - 1; low < high; low++, high--) {
            unsigned char byte = p[low];
            p[low] = p[high];
            p[high] = byte;
        }
}
