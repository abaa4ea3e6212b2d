/* step.c - times what the engine does with one network: a training step (forward, distillation loss, backward, Adam), a
 * forward pass of the batch, and one of a single sample. Used by bench/engine.js.
 *
 *     step MODEL.onnx BATCH THREADS SECONDS [forward]
 *         prints "step_ms forward_ms single_us macs": medians, and the multiply-adds of one sample forward.
 *         With "forward" the step is left out and 0 is printed for it.
 *     step peak THREADS SECONDS
 *         prints the GFLOP/s at which that many threads multiply matrices of 1024 x 1024, one pair each. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "engine/formats/onnx.h"
#include "engine/kernels/blas.h"
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

/* ---- the machine's own speed ---- */

enum { SIDE = 1024 };

static void multiply(void *context, int unit, int thread) {
    real *matrices = (real *)context + (size_t)unit * 3 * SIDE * SIDE;
    (void)thread;
    blas_gemm(false, false, SIDE, SIDE, SIDE, matrices, SIDE, matrices + SIDE * SIDE, SIDE, matrices + 2 * SIDE * SIDE,
              SIDE, false);
}

/* Best GFLOP/s of all threads together. */
static double measure_peak(struct crew *crew, double seconds) {
    int threads = crew_threads(crew);
    size_t n = (size_t)threads * 3 * SIDE * SIDE;
    real *matrices = mem_alloc_aligned(n * sizeof *matrices);
    struct random r = random_seed(1);
    double best = 0;
    for (size_t i = 0; i < n; i++) matrices[i] = (real)random_unit(&r);
    for (int64_t end = clock_monotonic_ns() + (int64_t)(seconds * 1e9); clock_monotonic_ns() < end;) {
        int64_t start = clock_monotonic_ns();
        crew_run(crew, multiply, matrices, threads);
        double speed = 2.0 * SIDE * SIDE * SIDE * threads / (double)(clock_monotonic_ns() - start);
        best = speed > best ? speed : best;
    }
    mem_free_aligned(matrices);
    return best;
}

static const char usage[] = "usage: step MODEL.onnx BATCH THREADS SECONDS [forward]\n"
                            "       step peak THREADS SECONDS\n";

static void time_all(const char *model, struct crew *crew, int batch, double seconds, bool train) {
    struct graph *g = load(model);
    struct graph_size size;
    struct err e = {0};
    if (graph_measure(&size, g, &e)) fail(&e);
    double step = train ? time_net(g, crew, batch, true, seconds) : 0;
    double forward = time_net(g, crew, batch, false, seconds);
    double single = time_net(g, crew, 1, false, seconds / 4);
    printf("%.4f %.4f %.2f %lld\n", step, forward, single * 1e3, (long long)size.macs);
    graph_free(g);
}

int main(int argc, char **argv) {
    bool peak = argc == 4 && strcmp(argv[1], "peak") == 0, forward = argc == 6 && strcmp(argv[5], "forward") == 0;
    struct err e = {0};
    struct crew *crew;
    int64_t batch = 0, threads;
    double seconds;
    if (!(peak || argc == 5 || forward) || (!peak && !text_to_int(&batch, argv[2], 1, 1 << 20)) ||
        !text_to_int(&threads, argv[3 - peak], 0, CREW_MAX_THREADS) || !text_to_real(&seconds, argv[4 - peak]))
        return fputs(usage, stderr), 2;
    if (crew_new(&crew, (int)threads, &e)) fail(&e);
    if (peak)
        printf("%.1f\n", measure_peak(crew, seconds));
    else
        time_all(argv[1], crew, (int)batch, seconds, !forward);
    crew_free(crew);
    return 0;
}
