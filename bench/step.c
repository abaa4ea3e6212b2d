/* step.c - times what the engine does with one network: a training step (forward, distillation loss,
 * backward, Adam), a forward pass of the batch, and one of a single sample. Used by bench/engine.
 *
 *     step MODEL.onnx BATCH [THREADS [SECONDS]]
 *
 * prints "step_ms forward_ms single_us", medians. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "engine/formats/onnx.h"
#include "engine/nn/loss.h"
#include "engine/nn/net.h"
#include "engine/nn/optimizer.h"

struct bench {
    struct net *net;
    struct crew *crew;
    struct optimizer optimizer;
    struct loss_plan loss;
    double *scratch;
    real *target;
    size_t batch, classes;
    bool train;
};

static void fail(const struct err *e) {
    fprintf(stderr, "step: %s\n", e->text);
    exit(1);
}

static void one_run(struct bench *b) {
    net_forward(b->net, (int)b->batch, random_seed(1), NULL, NULL);
    if (!b->train) return;
    const real *logits = net_output(b->net, 0);
    for (size_t i = 0; i < b->batch * b->classes; i++) b->target[i] = logits[i] * 100;
    double sums[2 * LOSS_MAX_TERMS];
    const real *targets[] = {b->target};
    struct loss_rows rows = {.logits = logits,
                             .targets = targets,
                             .shares = (double[]){1},
                             .teachers = 1,
                             .n = b->batch,
                             .classes = b->classes,
                             .scratch = b->scratch};
    loss_run(&b->loss, &rows, b->batch, net_output_gradient(b->net, 0), sums);
    net_backward(b->net);
    optimizer_step(&b->optimizer, b->crew, net_parameters(b->net), net_gradients(b->net), 1e-4, 0);
    net_parameters_changed(b->net);
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median milliseconds. */
static double measure(struct bench *b, double seconds) {
    enum { MOST = 100000 };
    static double times[MOST];
    int n = 0;
    for (int i = 0; i < 3; i++) one_run(b);
    int64_t end = clock_monotonic_ns() + (int64_t)(seconds * 1e9);
    while (n < MOST && (n < 5 || clock_monotonic_ns() < end)) {
        int64_t start = clock_monotonic_ns();
        one_run(b);
        times[n++] = (double)(clock_monotonic_ns() - start) * 1e-6;
    }
    qsort(times, (size_t)n, sizeof *times, ascending);
    return times[n / 2];
}

static double time_net(const struct graph *g, struct crew *crew, int batch, bool train, double seconds) {
    struct err e = {0};
    struct bench b = {.crew = crew, .batch = (size_t)batch, .train = train};
    if (net_new(&b.net, g, crew, &(struct net_options){.batch = batch, .training = train}, &e)) fail(&e);
    struct shape in = net_input_shape(b.net, 0), out = net_output_shape(b.net, 0);
    size_t n;
    shape_count(&n, &in, NULL);
    struct random r = random_seed(1);
    for (size_t i = 0; i < n; i++) net_input(b.net, 0)[i] = (real)random_unit(&r);
    shape_count(&n, &out, NULL);
    b.classes = n / b.batch;
    b.target = mem_calloc(n, sizeof *b.target);
    b.scratch = mem_calloc(loss_scratch(b.classes), sizeof *b.scratch);
    struct loss_spec spec = {.kind = 0, .weight = 1, .temperature = 1, .hard_weight = 0};
    if (loss_plan(&b.loss, &spec, 1, false, true, &e)) fail(&e);
    if (train && optimizer_init(&b.optimizer, &optimizer_table[1], net_trainable_count(b.net), NAN, 0, &e)) fail(&e);
    double ms = measure(&b, seconds);
    if (train) optimizer_fini(&b.optimizer);
    net_free(b.net);
    mem_free(b.target);
    mem_free(b.scratch);
    return ms;
}

static struct graph *load(const char *path) {
    struct err e = {0};
    FILE *f = fopen(path, "rb");
    if (!f) perror(path), exit(1);
    fseek(f, 0, SEEK_END);
    size_t size = (size_t)ftell(f);
    rewind(f);
    void *bytes = mem_alloc(size);
    if (!bytes || fread(bytes, 1, size, f) != size) perror(path), exit(1);
    fclose(f);
    struct graph *g;
    if (onnx_read(&g, bytes, size, &e)) fail(&e);
    mem_free(bytes);
    return g;
}

int main(int argc, char **argv) {
    if (argc < 3) return fprintf(stderr, "usage: step MODEL.onnx BATCH [THREADS [SECONDS]]\n"), 2;
    struct err e = {0};
    struct crew *crew;
    int64_t batch, threads = 0;
    double seconds = 2;
    if (!text_to_int(&batch, argv[2], 1, 1 << 20) ||
        (argc > 3 && !text_to_int(&threads, argv[3], 0, CREW_MAX_THREADS)) ||
        (argc > 4 && !text_to_real(&seconds, argv[4])))
        return fprintf(stderr, "step: BATCH, THREADS and SECONDS are numbers\n"), 2;
    if (crew_new(&crew, (int)threads, &e)) fail(&e);
    struct graph *g = load(argv[1]);
    double step = time_net(g, crew, (int)batch, true, seconds);
    double forward = time_net(g, crew, (int)batch, false, seconds);
    double single = time_net(g, crew, 1, false, seconds / 4);
    printf("%.4f %.4f %.2f\n", step, forward, single * 1e3);
    graph_free(g);
    crew_free(crew);
    return 0;
}
