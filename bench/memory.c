/* memory.c - what training a network takes, beside the least that it could take.
 *
 *     memory MODEL.onnx BATCH [THREADS]
 *
 * prints, in MiB: parameters with all their copies (value, gradient, Adam's two), the activations that
 * must be alive at once, what the plan takes for activations and for workspace, all of it, the ratio of
 * taken to needed, and how much the peak of the process has grown after two steps. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "engine/formats/onnx.h"
#include "engine/nn/net.h"
#include "engine/nn/optimizer.h"

#define MIB(bytes) ((double)(bytes) / 1048576)

static void fail(const struct err *e) {
    fprintf(stderr, "memory: %s\n", e->text);
    exit(1);
}

/* A line of /proc/self/status, in bytes. */
static size_t status_line(const char *name) {
    char line[256];
    size_t kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, name, strlen(name)) == 0) kib = strtoull(line + strlen(name), NULL, 10);
    if (f) fclose(f);
    return kib * 1024;
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

static void two_steps(struct net *n, struct crew *crew, struct optimizer *o, int batch) {
    struct shape out = net_output_shape(n, 0);
    size_t count;
    shape_count(&count, &out, NULL);
    for (int step = 0; step < 2; step++) {
        net_forward(n, batch, random_seed(1), NULL, NULL);
        for (size_t i = 0; i < count; i++) net_output_gradient(n, 0)[i] = (real)1e-3;
        net_backward(n);
        optimizer_step(o, crew, net_parameters(n), net_gradients(n), 1e-4, 0);
        net_parameters_changed(n);
    }
}

int main(int argc, char **argv) {
    int64_t batch, threads = 2;
    struct err e = {0};
    if (argc < 3 || !text_to_int(&batch, argv[2], 1, 1 << 20) ||
        (argc > 3 && !text_to_int(&threads, argv[3], 0, CREW_MAX_THREADS)))
        return fprintf(stderr, "usage: memory MODEL.onnx BATCH [THREADS]\n"), 2;
    struct crew *crew;
    if (crew_new(&crew, (int)threads, &e)) fail(&e);
    struct graph *g = load(argv[1]);
    size_t before = status_line("VmRSS:");
    struct net *n;
    struct optimizer o;
    if (net_new(&n, g, crew, &(struct net_options){.batch = (int)batch, .training = true}, &e)) fail(&e);
    if (optimizer_init(&o, &optimizer_table[1], net_trainable_count(n), NAN, 0, &e)) fail(&e);
    two_steps(n, crew, &o, (int)batch);
    struct net_memory m = net_memory(n);
    size_t state = optimizer_state_count(&o) * sizeof(real), needed = m.parameters + state + m.live;
    size_t taken = m.taken + state, peak = status_line("VmHWM:") - before;
    printf(
        "%8.1f parameters %8.1f live %8.1f activations %8.1f workspace %8.1f taken %5.2f ratio %8.1f peak %5.2f ratio\n",
        MIB(m.parameters + state), MIB(m.live), MIB(m.activations), MIB(m.workspace), MIB(taken),
        (double)taken / (double)needed, MIB(peak), (double)peak / (double)needed);
    optimizer_fini(&o);
    net_free(n);
    graph_free(g);
    crew_free(crew);
    return 0;
}
