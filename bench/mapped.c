/* mapped.c - what it costs to train from a data set that is mapped from a file instead of read into memory.
 *
 *     mapped MODEL.onnx BATCH MIB [FOLDER]
 *
 * makes MIB of random images of bytes, once in memory and once in a file without a name in FOLDER (.), and
 * trains on them in random order, a few steps with the one and a few with the other in turn. Prints the
 * median milliseconds of a step and of gathering its samples, and the ratios mapped / memory. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "engine/formats/onnx.h"
#include "engine/nn/dataset.h"
#include "engine/nn/net.h"
#include "engine/nn/optimizer.h"

#define ROUNDS 40
#define STEPS 5 /* of one kind in a row */
#define MOST (ROUNDS * STEPS)

static void fail(const char *what) {
    fprintf(stderr, "mapped: %s\n", what);
    exit(1);
}

struct bench {
    struct net *net;
    struct crew *crew;
    struct optimizer optimizer;
    struct dataset data[2]; /* in memory, mapped */
    uint32_t *samples;      /* [batch] */
    size_t batch, answers;
    const struct dataset *now;
};

static struct graph *load(const char *path) {
    struct err e = {0};
    FILE *f = fopen(path, "rb");
    if (!f) fail("no such model");
    fseek(f, 0, SEEK_END);
    size_t size = (size_t)ftell(f);
    rewind(f);
    void *bytes = mem_alloc(size);
    struct graph *g;
    if (!bytes || fread(bytes, 1, size, f) != size) fail("cannot read the model");
    fclose(f);
    if (onnx_read(&g, bytes, size, &e)) fail(e.text);
    mem_free(bytes);
    return g;
}

static void *map_file(const char *folder, const void *bytes, size_t size) {
    int file = open(folder, O_TMPFILE | O_RDWR, 0600);
    if (file < 0 || posix_fallocate(file, 0, (off_t)size)) fail("no scratch file");
    void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (map == MAP_FAILED) fail("no map");
    memcpy(map, bytes, size);
    close(file);
    return map;
}

static void open_data(struct bench *b, const struct shape *input, size_t bytes, const char *folder) {
    struct dataset_spec spec = {.ref = "random", .scale = 255, .limit = PARAM_ABSENT};
    struct shape stored = *input;
    struct err e = {0};
    size_t row;
    stored.dim[0] = 1;
    shape_count(&row, &stored, NULL);
    stored.dim[0] = (int64_t)(bytes / row);
    uint64_t *data = mem_alloc(bytes + 8);
    struct random r = random_seed(1);
    if (!data) fail("no memory");
    for (size_t i = 0; i < bytes / 8 + 1; i++) data[i] = random_u64(&r);
    const void *at[] = {data, map_file(folder, data, bytes)};
    for (int i = 0; i < 2; i++) {
        struct data_array a = {.type = DT_UINT8, .shape = stored, .data = at[i]};
        if (dataset_open(&b->data[i], &spec, &a, NULL, input, 0, &e)) fail(e.text);
    }
}

static void gather(void *context, int first, int count) {
    struct bench *b = context;
    dataset_fetch(b->now, net_input(b->net, 0) + (size_t)first * b->now->row, b->samples + first, 0, (size_t)count);
}

static void one_step(struct bench *b) {
    net_forward(b->net, (int)b->batch, random_seed(1), gather, b);
    for (size_t i = 0; i < b->answers; i++) net_output_gradient(b->net, 0)[i] = (real)1e-3;
    net_backward(b->net);
    optimizer_step(&b->optimizer, b->crew, net_parameters(b->net), net_gradients(b->net), 1e-6, 0);
    net_parameters_changed(b->net);
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(struct bench *b, const char *what, bool whole) {
    static double times[2][MOST];
    struct random r = random_seed(2);
    for (int i = 0; i < 2 * MOST; i++) {
        int kind = i / STEPS % 2, place = i / (2 * STEPS) * STEPS + i % STEPS;
        b->now = &b->data[kind];
        for (size_t k = 0; k < b->batch; k++) b->samples[k] = (uint32_t)random_below(&r, b->now->samples);
        int64_t start = clock_monotonic_ns();
        if (whole)
            one_step(b);
        else
            gather(b, 0, (int)b->batch);
        times[kind][place] = (double)(clock_monotonic_ns() - start) * 1e-6;
    }
    for (int kind = 0; kind < 2; kind++) qsort(times[kind], MOST, sizeof **times, ascending);
    double memory = times[0][MOST / 2], mapped = times[1][MOST / 2];
    printf("%-10s memory %.4f ms, mapped %.4f ms, ratio %.3f\n", what, memory, mapped, mapped / memory);
}

int main(int argc, char **argv) {
    int64_t batch, mib;
    struct bench b = {0};
    struct err e = {0};
    if (argc < 4 || !text_to_int(&batch, argv[2], 1, 1 << 20) || !text_to_int(&mib, argv[3], 1, 1 << 20))
        fail("usage: mapped MODEL.onnx BATCH MIB [FOLDER]");
    struct graph *g = load(argv[1]);
    b.batch = (size_t)batch;
    if (crew_new(&b.crew, 2, &e)) fail(e.text);
    if (net_new(&b.net, g, b.crew, &(struct net_options){.batch = (int)batch, .training = true}, &e)) fail(e.text);
    if (optimizer_init(&b.optimizer, &optimizer_table[1], net_trainable_count(b.net), 0.9, 0, &e)) fail(e.text);
    struct shape output = net_output_shape(b.net, 0);
    shape_count(&b.answers, &output, NULL);
    b.samples = mem_calloc(b.batch, sizeof *b.samples);
    open_data(&b, &g->values[g->inputs[0]].shape, (size_t)mib << 20, argc > 4 ? argv[4] : ".");
    measure(&b, "gathering", false);
    measure(&b, "step", true);
    net_free(b.net);
    graph_free(g);
    crew_free(b.crew);
    return 0;
}
