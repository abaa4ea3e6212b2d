/* safetensors_fuzz.c - any bytes as a safetensors file, in pieces whose size the first byte says: its arrays, as weights of
 * a small network, and as what an optimizer keeps of them. */
#include "engine/formats/safetensors.h"
#include "engine/formats/training_memory.h"
#include "engine/formats/weights.h"
#include "tests/fuzz/fuzz.h"

#define BUDGET (1u << 20)

static void read_arrays(const uint8_t *bytes, size_t size, size_t piece) {
    struct safetensors_reader *r = NULL;
    struct fuzz_sink sink = {0};
    struct err e = {0};
    int rc = safetensors_reader_new(&r, fuzz_array_sink(&sink), BUDGET, &e);
    for (size_t at = 0; !rc && at < size; at += piece)
        rc = safetensors_reader_feed(r, bytes + at, size - at < piece ? size - at : piece, &e);
    if (!rc) rc = safetensors_reader_finish(r, &e);
    must(rc == 0 || *e.text, "%d without a word", rc);
    must(rc || !sink.open, "an array is not ended");
    must(sink.total <= BUDGET, "%zu bytes", sink.total);
    safetensors_reader_free(r);
}

static void add(struct graph *g, const char *name, const struct shape *shape) {
    struct array *a = NULL;
    int index;
    must(!array_new(&a, DT_FLOAT32, shape, NULL) && !graph_add_constant_take(&index, g, name, a, NULL), "%s", name);
}

static int take_weights(bool *changed, struct graph *g, const void *bytes, size_t size, size_t piece) {
    struct weights_reader *r = NULL;
    struct err e = {0};
    int rc = weights_reader_new(&r, g, &e);
    for (size_t at = 0; !rc && at < size; at += piece)
        rc = weights_reader_feed(r, (const char *)bytes + at, size - at < piece ? size - at : piece, &e);
    if (!rc) rc = weights_reader_finish(changed, r, &e);
    must(rc == 0 || *e.text, "%d without a word", rc);
    weights_reader_free(r);
    return rc;
}

/* What was taken is written, and taking that changes nothing. */
static void read_weights(const uint8_t *bytes, size_t size, size_t piece) {
    struct graph *g = NULL;
    bool changed = false;
    must(!graph_new(&g, "g", 13, NULL), "a graph");
    add(g, "w", &(struct shape){2, {2, 3}});
    add(g, "b", &(struct shape){1, {3}});
    if (!take_weights(&changed, g, bytes, size, piece)) {
        struct text file;
        text_init(&file, BUDGET);
        must(!weights_write(byte_sink_text(&file), g, NULL), "what was taken is not written");
        must(!take_weights(&changed, g, file.data, file.length, piece) && !changed, "other weights");
        text_free(&file);
    }
    graph_free(g);
}

static int take_memory(struct graph *g, const void *bytes, size_t size, size_t piece) {
    struct training_memory_reader *r = NULL;
    struct err e = {0};
    int rc = training_memory_reader_new(&r, g, &e);
    for (size_t at = 0; !rc && at < size; at += piece)
        rc = training_memory_reader_feed(r, (const char *)bytes + at, size - at < piece ? size - at : piece, &e);
    if (!rc) rc = training_memory_reader_finish(r, &e);
    must(rc == 0 || *e.text, "%d without a word", rc);
    training_memory_reader_free(r);
    must(rc == 0 || (g->training.rule < 0 && !g->values[0].memory[0] && !g->values[0].share[0]), "something is kept");
    return rc;
}

static void read_memory(const uint8_t *bytes, size_t size, size_t piece) {
    struct graph *g = NULL;
    must(!graph_new(&g, "g", 13, NULL), "a graph");
    add(g, "w", &(struct shape){2, {2, 3}});
    add(g, "b", &(struct shape){1, {3}});
    if (!take_memory(g, bytes, size, piece)) {
        struct text file;
        text_init(&file, BUDGET);
        must(!training_memory_write(byte_sink_text(&file), g, NULL), "what was taken is not written");
        must(!take_memory(g, file.data, file.length, piece), "what was written is not taken");
        text_free(&file);
    }
    graph_free(g);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    size_t piece = size && bytes[0] ? bytes[0] : 1;
    read_arrays(bytes, size, piece);
    read_weights(bytes, size, piece);
    read_memory(bytes, size, piece);
    return 0;
}
