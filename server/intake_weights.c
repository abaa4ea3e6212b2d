/* intake_weights.c - the weights of an ONNX file as safetensors, and back into it. */
#include <malloc.h>

#include "base/memory.h"
#include "engine/formats/onnx.h"
#include "engine/formats/weights.h"
#include "server/intake.h"

struct weights_taker {
    struct graph *g;
    struct weights_reader *reader;
};

/* Memory of an import goes back at once: the server may not see another one for days. */
static void forget(struct graph *g) {
    graph_free(g);
    malloc_trim(0);
}

/* The same interface as the engine's, under its own type. */
static int put(void *context, const void *bytes, size_t size, struct err *e) {
    const struct byte_taker *to = context;
    return to->take(to->state, bytes, size, e);
}

static struct byte_sink sink_to(struct byte_taker *to) {
    return (struct byte_sink){put, to};
}

int intake_weights(const struct byte_taker *to, const struct byte_origin *from, struct err *e) {
    struct graph *g = NULL;
    struct byte_taker taker = *to;
    int code = onnx_read_plain(&g, from, e);
    if (!code) code = weights_write(sink_to(&taker), g, e);
    forget(g);
    return code;
}

int intake_weights_open(struct weights_taker **out, const struct byte_origin *from, struct err *e) {
    struct weights_taker *w = mem_calloc(1, sizeof *w);
    *out = NULL;
    if (!w) return err_memory(e, sizeof *w);
    int code = onnx_read_plain(&w->g, from, e);
    if (!code) code = weights_reader_new(&w->reader, w->g, e);
    if (code)
        intake_weights_close(w);
    else
        *out = w;
    return code;
}

int intake_weights_feed(struct weights_taker *w, const void *bytes, size_t size, struct err *e) {
    return weights_reader_feed(w->reader, bytes, size, e);
}

int intake_weights_finish(bool *changed, struct weights_taker *w, const struct byte_taker *to, struct err *e) {
    struct byte_taker taker = *to;
    int code = weights_reader_finish(changed, w->reader, e);
    return code || !*changed ? code : onnx_write(sink_to(&taker), w->g, e);
}

void intake_weights_close(struct weights_taker *w) {
    if (!w) return;
    weights_reader_free(w->reader);
    forget(w->g);
    mem_free(w);
}
