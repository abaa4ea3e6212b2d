/* npy_fuzz.c - any bytes as an .npy file in memory. A header that reads must write, and read again as the same. */
#include "engine/formats/npy.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct array *a = NULL;
    struct err e = {0};
    int rc = npy_read(&a, bytes, size, &e);
    must(rc == 0 || *e.text, "%d without a word", rc);
    if (rc) return 0;
    char header[NPY_HEADER_ROOM];
    size_t header_size;
    struct npy_header h;
    must(npy_header_write(header, &header_size, a->type, &a->shape, NULL) == 0, "a header that was read");
    must(npy_header_read(&h, header, header_size, NULL) == 0 && h.count == a->count && h.type == a->type &&
             shape_equal(&h.shape, &a->shape),
         "the same header");
    array_free(a);
    return 0;
}
