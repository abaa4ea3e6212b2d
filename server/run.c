/* run.c - see run.h. Batches of more than CHUNK samples go through the network piece by piece. */
#include "server/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "engine/formats/arraystream.h"
#include "engine/formats/npz.h"
#include "engine/formats/onnx.h"
#include "engine/nn/infer.h"
#include "engine/nn/net.h"

enum { MAX_INPUTS = 16, CHUNK = 256, MAX_TIMES = 100000 };

struct options {
    const char *model, *inputs[MAX_INPUTS], *out, *export;
    int n_inputs, threads;
    double seconds;
};

static const char usage[] =
    "usage: retort run MODEL.onnx INPUT... [-o OUT.npz] [--export OUT.onnx] [--threads N] [--time SECONDS]\n"
    "  INPUT         .npy, IDX (.gz) or ONNX tensor (.pb), in the order of the graph's inputs\n"
    "  -o OUT.npz    writes every output under its name\n"
    "  --export OUT  writes the network as retort gives it out\n"
    "  --threads N   0 = one per processor (the default)\n"
    "  --time S      repeats the run for S seconds and prints the median time of one, and its memory\n";

static bool parse_options(struct options *o, int argc, char **argv) {
    for (int i = 0; i < argc; i++) {
        const char *a = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        int64_t threads;
        if (strcmp(a, "-o") == 0 && value)
            o->out = argv[++i];
        else if (strcmp(a, "--export") == 0 && value)
            o->export = argv[++i];
        else if (strcmp(a, "--threads") == 0 && value && text_to_int(&threads, argv[++i], 0, CREW_MAX_THREADS))
            o->threads = (int)threads;
        else if (strcmp(a, "--time") == 0 && value && text_to_real(&o->seconds, argv[++i]) && o->seconds > 0)
            continue;
        else if (a[0] == '-')
            return false;
        else if (!o->model)
            o->model = a;
        else if (o->n_inputs < MAX_INPUTS)
            o->inputs[o->n_inputs++] = a;
        else
            return false;
    }
    return o->model != NULL;
}

/* ---- files ---- */

static int read_file(char **out, size_t *size, const char *path, struct err *e) {
    FILE *f = fopen(path, "rb");
    long length = -1;
    if (f && fseek(f, 0, SEEK_END) == 0) length = ftell(f);
    if (!f || length < 0) {
        if (f) fclose(f);
        return err_set(e, E_NOT_FOUND, "cannot read %s", path);
    }
    rewind(f);
    *size = (size_t)length;
    *out = mem_alloc(*size + 1);
    int status = *out ? 0 : err_memory(e, *size);
    if (!status && fread(*out, 1, *size, f) != *size) status = err_set(e, E_IO, "%s ended early", path);
    fclose(f);
    if (status) mem_free(*out);
    return status;
}

/* Collects one array of a stream. */
struct collecting {
    struct array *array;
    size_t have;
};

static int collect_begin(void *context, const char *name, enum dtype type, const struct shape *shape, struct err *e) {
    struct collecting *c = context;
    (void)name;
    return array_new(&c->array, type, shape, e);
}

static int collect_data(void *context, const void *bytes, size_t size, struct err *e) {
    struct collecting *c = context;
    (void)e;
    memcpy((char *)c->array->data + c->have, bytes, size);
    c->have += size;
    return 0;
}

static int collect_end(void *context, struct err *e) {
    (void)context, (void)e;
    return 0;
}

static int read_stream(struct array **out, const char *bytes, size_t size, struct err *e) {
    struct collecting c = {0};
    struct array_sink sink = {collect_begin, collect_data, collect_end, &c};
    struct arraystream *stream = NULL;
    int status = arraystream_new(&stream, sink, SIZE_MAX / 2, e);
    if (!status) status = arraystream_feed(stream, bytes, size, e);
    if (!status) status = arraystream_finish(stream, e);
    arraystream_free(stream);
    if (status)
        array_free(c.array);
    else
        *out = c.array;
    return status;
}

static int read_input(struct array **out, const char *path, struct err *e) {
    char *bytes = NULL;
    size_t size = 0, length = strlen(path);
    int status = read_file(&bytes, &size, path, e);
    if (status) return status;
    bool tensor = length > 3 && strcmp(path + length - 3, ".pb") == 0;
    status = tensor ? onnx_tensor_read(out, NULL, 0, bytes, size, e) : read_stream(out, bytes, size, e);
    mem_free(bytes);
    if (status) err_prefix(e, "%s", path);
    return status;
}

static int read_piece(void *to, size_t size, uint64_t offset, void *context, struct err *e) {
    FILE *f = context;
    bool good = fseeko(f, (off_t)offset, SEEK_SET) == 0 && fread(to, 1, size, f) == size;
    return good ? 0 : err_set(e, E_IO, "the file ended early");
}

/* Piece by piece: the weights are in memory once. */
static int read_model(struct graph **out, const char *path, struct err *e) {
    FILE *f = fopen(path, "rb");
    off_t length = f && fseeko(f, 0, SEEK_END) == 0 ? ftello(f) : -1;
    if (length < 0) {
        if (f) fclose(f);
        return err_set(e, E_NOT_FOUND, "cannot read %s", path);
    }
    struct byte_origin origin = {(uint64_t)length, read_piece, f};
    int status = onnx_read_from(out, &origin, e);
    fclose(f);
    if (status) err_prefix(e, "%s", path);
    return status;
}

/* ---- the run ---- */

struct session {
    struct options options;
    struct graph *graph;
    struct crew *crew;
    struct net *net;
    struct array *inputs[MAX_INPUTS];
    struct array **outputs; /* of the graph */
    size_t samples, chunk;  /* first dimension; samples of one pass */
};

/* A [n, h, w] array fits an input of one channel: [n, 1, h, w]. */
static void add_channel(struct shape *data, const struct shape *wanted) {
    if (data->rank + 1 != wanted->rank || wanted->rank < 3 || wanted->dim[1] != 1) return;
    memmove(&data->dim[2], &data->dim[1], (size_t)(data->rank - 1) * sizeof data->dim[0]);
    data->dim[1] = 1;
    data->rank++;
}

static int check_inputs(struct session *s, struct err *e) {
    const struct graph *g = s->graph;
    bool free_batch = g->n_inputs > 0;
    for (int i = 0; i < g->n_inputs; i++) {
        const struct shape *wanted = &g->values[g->inputs[i]].shape;
        const struct shape *data = &s->inputs[i]->shape;
        bool fits = data->rank == wanted->rank;
        for (int d = 0; d < wanted->rank && fits; d++) fits = wanted->dim[d] < 0 || wanted->dim[d] == data->dim[d];
        if (!fits) {
            char want[SHAPE_TEXT], have[96];
            graph_print_shape(want, sizeof want, g, g->inputs[i]);
            shape_print(have, sizeof have, data);
            return err_set(e, E_INVALID, "input '%s' has the shape %s, %s has %s", g->values[g->inputs[i]].name, want,
                           s->options.inputs[i], have);
        }
        bool batched = wanted->rank > 0 && wanted->dim[0] == DIM_BATCH;
        free_batch = free_batch && batched && (i == 0 || (size_t)data->dim[0] == s->samples);
        if (i == 0) s->samples = data->rank > 0 ? (size_t)data->dim[0] : 1;
    }
    for (int i = 0; i < g->n_outputs; i++) {
        const struct shape *shape = &g->values[g->outputs[i]].shape;
        free_batch = free_batch && shape->rank > 0 && shape->dim[0] == DIM_BATCH;
    }
    if (s->samples == 0) return err_set(e, E_INVALID, "there are no samples in the input");
    s->chunk = free_batch && s->samples > CHUNK ? CHUNK : s->samples;
    return 0;
}

/* Dimensions that the network leaves free have the sizes of the inputs. */
static int bind_inputs(struct session *s, struct err *e) {
    int status = 0;
    if (s->options.n_inputs != s->graph->n_inputs)
        return err_set(e, E_INVALID, "the network has %d inputs, %d files are given", s->graph->n_inputs,
                       s->options.n_inputs);
    for (int i = 0; i < s->graph->n_inputs && !status; i++) {
        add_channel(&s->inputs[i]->shape, &s->graph->values[s->graph->inputs[i]].shape);
        status = graph_bind_input(s->graph, i, &s->inputs[i]->shape, s->options.inputs[i], e);
    }
    return status;
}

static int make_outputs(struct session *s, struct err *e) {
    struct inferred *known = NULL;
    int status = graph_infer(&known, s->graph, (int64_t)s->samples, e);
    s->outputs = mem_calloc((size_t)s->graph->n_outputs, sizeof *s->outputs);
    if (!status && !s->outputs) status = err_memory(e, (size_t)s->graph->n_outputs * sizeof *s->outputs);
    for (int i = 0; i < s->graph->n_outputs && !status; i++)
        status = array_new(&s->outputs[i], DT_FLOAT32, &known->values[s->graph->outputs[i]].shape, e);
    inferred_free(known);
    return status;
}

/* Elements of n samples; of all of them it is everything, also where the first axis is no batch. */
static size_t count_of(const struct session *s, const struct array *a, size_t n) {
    return n == s->samples ? a->count : a->count / s->samples * n;
}

static void run_chunk(struct session *s, size_t first, size_t n) {
    for (int i = 0; i < s->graph->n_inputs; i++) {
        const struct array *a = s->inputs[i];
        array_to_float(net_input(s->net, i), a, count_of(s, a, first), count_of(s, a, n));
    }
    net_forward(s->net, (int)n, random_seed(0), NULL, NULL);
    for (int i = 0; i < s->graph->n_outputs; i++) {
        const struct array *a = s->outputs[i];
        memcpy((float *)a->data + count_of(s, a, first), net_output(s->net, i), count_of(s, a, n) * sizeof(float));
    }
}

static int open_session(struct session *s, struct err *e) {
    int status = read_model(&s->graph, s->options.model, e);
    for (int i = 0; i < s->options.n_inputs && !status; i++)
        status = read_input(&s->inputs[i], s->options.inputs[i], e);
    if (!status) status = bind_inputs(s, e);
    if (!status) status = check_inputs(s, e);
    if (!status) status = make_outputs(s, e);
    if (!status) status = crew_new(&s->crew, s->options.threads, e);
    if (!status) status = net_new(&s->net, s->graph, s->crew, &(struct net_options){.batch = (int)s->chunk}, e);
    return status;
}

static void close_session(struct session *s) {
    net_free(s->net);
    crew_free(s->crew);
    for (int i = 0; s->outputs && i < s->graph->n_outputs; i++) array_free(s->outputs[i]);
    mem_free(s->outputs);
    for (int i = 0; i < s->options.n_inputs; i++) array_free(s->inputs[i]);
    graph_free(s->graph);
}

/* ---- what it says ---- */

static void print_output(const char *name, const struct array *a) {
    char shape[96];
    double low = INFINITY, high = -INFINITY, sum = 0;
    const float *x = a->data;
    for (size_t i = 0; i < a->count; i++) {
        double value = (double)x[i];
        low = fmin(low, value), high = fmax(high, value), sum += value;
    }
    shape_print(shape, sizeof shape, &a->shape);
    printf("%s %s: min %.6g, max %.6g, mean %.6g\n", name, shape, low, high, sum / (double)a->count);
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int print_time(struct session *s, struct err *e) {
    double *times = mem_calloc(MAX_TIMES, sizeof *times);
    if (!times) return err_memory(e, MAX_TIMES * sizeof *times);
    size_t n = 0;
    int64_t end = clock_monotonic_ns() + (int64_t)(s->options.seconds * 1e9);
    do {
        int64_t start = clock_monotonic_ns();
        run_chunk(s, 0, s->chunk);
        times[n++] = (double)(clock_monotonic_ns() - start) * 1e-3;
    } while (n < MAX_TIMES && clock_monotonic_ns() < end);
    qsort(times, n, sizeof *times, ascending);
    printf("time: %.1f us, median of %zu runs of %zu samples, %d threads\n", times[n / 2], n, s->chunk,
           crew_threads(s->crew));
    mem_free(times);
    struct net_memory m = net_memory(s->net);
    const double mib = 1 << 20;
    printf("memory: %.1f MiB of weights, %.1f MiB packed and scratch, %.1f MiB activations (%.1f MiB live)\n",
           (double)m.parameters / mib, (double)m.workspace / mib, (double)m.activations / mib, (double)m.live / mib);
    return 0;
}

static int file_put(void *context, const void *bytes, size_t size, struct err *e) {
    return fwrite(bytes, 1, size, context) == size ? 0 : err_set(e, E_IO, "the disk takes no more");
}

static int write_outputs(struct session *s, struct err *e) {
    FILE *f = fopen(s->options.out, "wb");
    if (!f) return err_set(e, E_IO, "cannot write %s", s->options.out);
    struct npz_writer w;
    npz_writer_init(&w, (struct byte_sink){file_put, f});
    int status = 0;
    for (int i = 0; i < s->graph->n_outputs && !status; i++)
        status = npz_writer_add(&w, s->graph->values[s->graph->outputs[i]].name, s->outputs[i], e);
    if (!status) status = npz_writer_finish(&w, e);
    npz_writer_fini(&w);
    if (fclose(f) && !status) status = err_set(e, E_IO, "cannot write %s", s->options.out);
    return status;
}

static int write_model(const struct session *s, struct err *e) {
    FILE *f = fopen(s->options.export, "wb");
    if (!f) return err_set(e, E_IO, "cannot write %s", s->options.export);
    int status = onnx_write((struct byte_sink){file_put, f}, s->graph, e);
    if (fclose(f) && !status) status = err_set(e, E_IO, "cannot write %s", s->options.export);
    return status;
}

static int run_session(struct session *s, struct err *e) {
    int status = open_session(s, e);
    if (!status && s->options.export) status = write_model(s, e);
    if (status) return status;
    for (size_t first = 0; first < s->samples; first += s->chunk)
        run_chunk(s, first, s->samples - first < s->chunk ? s->samples - first : s->chunk);
    for (int i = 0; i < s->graph->n_outputs; i++)
        print_output(s->graph->values[s->graph->outputs[i]].name, s->outputs[i]);
    if (s->options.out) status = write_outputs(s, e);
    if (!status && s->options.seconds > 0) status = print_time(s, e);
    return status;
}

int run_main(int argc, char **argv) {
    struct session s = {0};
    struct err e = {0};
    bool asked = argc > 0 && (!strcmp(argv[0], "--help") || !strcmp(argv[0], "-h"));
    mem_return_large();
    if (asked || !parse_options(&s.options, argc, argv)) {
        fputs(usage, asked ? stdout : stderr);
        return asked ? 0 : 2;
    }
    int status = run_session(&s, &e);
    close_session(&s);
    if (status) fprintf(stderr, "retort run: %s\n", e.text);
    return status != 0;
}
