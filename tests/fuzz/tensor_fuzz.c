/* tensor_fuzz.c - any bytes as a tensor file. What reads must write, and read again with the same elements. */
#include <string.h>

#include "engine/formats/onnx.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct array *a = NULL, *b = NULL;
    char name[64];
    struct text t;
    struct err e = {0};
    int rc = onnx_tensor_read(&a, name, sizeof name, bytes, size, &e);
    must(rc == 0 || *e.text, "%d without a word", rc);
    if (rc) return 0;
    text_init(&t, 64u << 20);
    must(onnx_tensor_write(byte_sink_text(&t), name, a, &e) == 0, "%s", e.text);
    must(onnx_tensor_read(&b, NULL, 0, t.data, t.length, &e) == 0, "%s", e.text);
    must(a->type == b->type && shape_equal(&a->shape, &b->shape), "another tensor");
    must(memcmp(a->data, b->data, a->count * dtype_size(a->type)) == 0, "other elements");
    text_free(&t);
    array_free(a);
    array_free(b);
    return 0;
}
