/* idx_fuzz.c - any bytes as an IDX file: the header, and its elements turned around twice. */
#include <string.h>

#include "base/memory.h"
#include "engine/formats/idx.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct idx_header h;
    struct err e = {0};
    size_t header_size = 0, count;
    if (size >= IDX_PREFIX) {
        idx_recognise(bytes, size);
        int rc = idx_header_size(&header_size, bytes, &e);
        must(rc == 0 ? header_size >= IDX_PREFIX && header_size <= IDX_MAX_HEADER : *e.text != '\0', "%zu",
             header_size);
    }
    err_clear(&e);
    int rc = idx_header_read(&h, bytes, size, &e);
    must(rc == 0 || *e.text, "%d without a word", rc);
    if (rc) return 0;
    must(h.data_offset == header_size && header_size <= size, "%zu and %zu", h.data_offset, header_size);
    must(shape_count(&count, &h.shape, &e) == 0 && count == h.count, "%zu and %zu", count, h.count);
    size_t n = (size - header_size) / dtype_size(h.type), room = n * dtype_size(h.type);
    if (n > h.count) n = h.count;
    unsigned char *copy = mem_copy(bytes + header_size, room);
    must(copy, "memory");
    idx_swap(copy, h.type, n);
    idx_swap(copy, h.type, n);
    must(memcmp(copy, bytes + header_size, room) == 0, "turned twice it is another");
    mem_free(copy);
    return 0;
}
