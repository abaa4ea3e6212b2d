/* morph.c - times surgery: each step is applied to a copy of the network, rounded to what is stored, and exported.
 *
 *     morph MODEL.onnx ROUNDS STEP...
 *
 * STEP is JSON as requests write it, {"op":"widen","layer":"*","factor":1.5}. Prints a line for each:
 *     total_s_least total_s_median export_s_median parent_bytes child_bytes peak_share layers
 * Seconds are of copy, step, rounding and export together, and of the export alone. Bytes are of the files. The share is
 * the most memory that the process has in any round, beside what it had before it read the parent, of the bytes of parent
 * and child. Layers are those that the step changed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "engine/formats/onnx.h"
#include "engine/surgery/morph.h"
#include "tests/peak.h"

enum { MOST = 1000 };

struct bench {
    struct graph *parent;
    size_t parent_bytes, child_bytes;
    size_t empty; /* memory without the parent */
    size_t most;  /* memory at most */
    int rounds;
    double total[MOST], export[MOST];
};

static void fail(const struct err *e) {
    fprintf(stderr, "morph: %s\n", e->text);
    exit(1);
}

/* The file goes away again before anything is measured. */
static void load(struct bench *b, const char *path) {
    struct err e = {0};
    FILE *f = fopen(path, "rb");
    if (!f) perror(path), exit(1);
    fseek(f, 0, SEEK_END);
    size_t size = b->parent_bytes = (size_t)ftell(f);
    rewind(f);
    b->empty = peak_now();
    void *bytes = mem_alloc(size);
    if (!bytes || fread(bytes, 1, size, f) != size) perror(path), exit(1);
    fclose(f);
    if (onnx_read(&b->parent, bytes, size, &e)) fail(&e);
    mem_free(bytes);
}

static int count_bytes(void *context, const void *bytes, size_t size, struct err *e) {
    (void)bytes, (void)e;
    *(size_t *)context += size;
    return 0;
}

static double seconds_since(int64_t start) {
    return (double)(clock_monotonic_ns() - start) * 1e-9;
}

static void one_round(struct bench *b, int round, const struct morph_step *step, struct json_writer *w) {
    struct err e = {0};
    struct morphing m;
    struct graph *copy;
    if (!peak_forget()) fputs("morph: the peak cannot be measured here\n", stderr);
    int64_t start = clock_monotonic_ns();
    if (graph_clone(&copy, b->parent, &e)) fail(&e);
    morphing_init(&m, copy, 1, NULL);
    if (morph_apply(&m, step, w, &e) || morph_round(m.graph, b->parent, &e)) fail(&e);
    int64_t written = clock_monotonic_ns();
    b->child_bytes = 0;
    if (onnx_write((struct byte_sink){count_bytes, &b->child_bytes}, m.graph, &e)) fail(&e);
    b->export[round] = seconds_since(written);
    b->total[round] = seconds_since(start);
    if (peak_most() > b->most) b->most = peak_most();
    morphing_fini(&m);
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *times, int n) {
    qsort(times, (size_t)n, sizeof *times, ascending);
    return times[n / 2];
}

/* How many layers the report of a step names. */
static size_t count_layers(const struct text *report) {
    struct json *root;
    struct err e = {0};
    if (json_parse(&root, report->data, report->length, &e)) fail(&e);
    size_t n = json_count(json_get(root, "layers"));
    json_free(root);
    return n;
}

static void measure(struct bench *b, const char *json) {
    struct err e = {0};
    struct json *root;
    struct morph_step step = {0};
    if (json_parse(&root, json, strlen(json), &e) || param_parse(&step, morph_step_params, root, "", &e) ||
        morph_check(&step, "", &e))
        fail(&e);
    json_free(root);
    b->most = 0;
    size_t layers = 0;
    for (int i = 0; i < b->rounds; i++) {
        struct text report;
        text_init(&report, 1 << 20);
        struct json_writer w = json_writer(&report);
        json_open_object(&w, NULL);
        one_round(b, i, &step, &w);
        json_close_object(&w);
        layers = count_layers(&report);
        text_free(&report);
    }
    double middle = median(b->total, b->rounds);
    printf("%.4f %.4f %.4f %zu %zu %.3f %zu\n", b->total[0], middle, median(b->export, b->rounds), b->parent_bytes,
           b->child_bytes, (double)(b->most - b->empty) / (double)(b->parent_bytes + b->child_bytes), layers);
    fflush(stdout);
}

int main(int argc, char **argv) {
    static struct bench b;
    int64_t rounds;
    if (argc < 4 || !text_to_int(&rounds, argv[2], 1, MOST))
        return fputs("usage: morph MODEL.onnx ROUNDS STEP...\n", stderr), 2;
    b.rounds = (int)rounds;
    load(&b, argv[1]);
    for (int i = 3; i < argc; i++) measure(&b, argv[i]);
    graph_free(b.parent);
    return 0;
}
