/* onnx_fuzz.c - any bytes as a model. What reads, with free dimensions bound if they can be, must write, and what was
 * written must read as the same. */
#include "engine/formats/onnx.h"
#include "tests/fuzz/fuzz.h"

static void write_again(struct text *out, const struct graph *g) {
    struct err e = {0};
    text_init(out, 64u << 20);
    must(onnx_write(byte_sink_text(out), g, &e) == 0, "%s", e.text);
}

/* Small sizes for what is free; false when the network does not work with them. */
static bool bind(struct graph *g) {
    for (int i = 0; i < g->n_inputs; i++) {
        struct shape s = g->values[g->inputs[i]].shape;
        struct err e = {0};
        for (int d = 0; d < s.rank; d++)
            if (s.dim[d] < 0) s.dim[d] = 4;
        int rc = graph_bind_input(g, i, &s, "the fuzzer", &e);
        must(rc == 0 || *e.text, "%d without a word", rc);
        if (rc) return false;
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct graph *a = NULL, *b = NULL;
    struct err e = {0};
    int rc = onnx_read(&a, bytes, size, &e);
    must(rc == 0 || *e.text, "%d without a word", rc);
    if (rc || !bind(a)) {
        graph_free(a);
        return 0;
    }
    struct text first, second;
    write_again(&first, a);
    must(onnx_read(&b, first.data, first.length, &e) == 0, "%s", e.text);
    write_again(&second, b);
    must(first.length == second.length && a->n_nodes == b->n_nodes, "another graph");
    text_free(&first);
    text_free(&second);
    graph_free(a);
    graph_free(b);
    return 0;
}
