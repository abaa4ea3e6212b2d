/* tensor_fuzz.c - any bytes as a tensor file and as an .npy file in memory. */
#include "engine/formats/npy.h"
#include "engine/formats/onnx.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct array *a = NULL, *b = NULL;
    char name[64];
    if (onnx_tensor_read(&a, name, sizeof name, bytes, size, NULL) == 0) {
        struct text t;
        struct err e = {0};
        text_init(&t, 64u << 20);
        must(onnx_tensor_write(byte_sink_text(&t), name, a, &e) == 0, "%s", e.text);
        text_free(&t);
    }
    if (npy_read(&b, bytes, size, NULL) == 0) {
        char header[NPY_HEADER_ROOM];
        size_t header_size;
        struct npy_header h;
        must(npy_header_write(header, &header_size, b->type, &b->shape, NULL) == 0, "a header that was read");
        must(npy_header_read(&h, header, header_size, NULL) == 0 && h.count == b->count, "the same header");
    }
    array_free(a);
    array_free(b);
    return 0;
}
