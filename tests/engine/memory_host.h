/* memory_host.h - a host for methods, all in memory: models and arrays by name, a cache, checkpoints,
 * and a stop after so many steps. */
#ifndef TESTS_ENGINE_MEMORY_HOST_H
#define TESTS_ENGINE_MEMORY_HOST_H

#include "base/memory.h"
#include "base/random.h"
#include "engine/formats/training_memory.h"
#include "engine/nn/net.h"
#include "engine/transfer/method.h"
#include "tests/test.h"

struct memory_host {
    struct {
        const char *name;
        struct graph *graph; /* with what it keeps of a training; load_graph leaves that out */
    } models[8];
    struct {
        const char *name, *array;
        struct data_array data;
    } arrays[16];
    int n_models, n_arrays;
    struct {
        struct digest key;
        void *bytes;
        size_t size;
    } cache[8];
    int n_cache, cache_hits;
    void *scratch[16];
    int n_scratch;
    void *checkpoint;
    size_t checkpoint_size;
    int64_t steps_seen, stop_at, checkpoint_every;
    int logs, metrics;
    char last_log[1024];
    double last_loss;
};

static int mh_load_graph(struct graph **out, struct source *source, void *context, const char *reference,
                         struct err *e) {
    struct memory_host *h = context;
    for (int i = 0; i < h->n_models; i++)
        if (!strcmp(h->models[i].name, reference)) {
            if (source) *source = (struct source){.digest = digest_of(reference, strlen(reference)), .bytes = 1000};
            int status = graph_clone(out, h->models[i].graph, e);
            if (!status) graph_forget_training(*out);
            return status;
        }
    return err_set(e, E_NOT_FOUND, "no model %s", reference);
}

static int mh_load_memory(struct graph *g, void *context, const char *reference, struct err *e) {
    struct memory_host *h = context;
    struct training_memory_reader *r = NULL;
    struct text file;
    int i = 0;
    while (i < h->n_models && strcmp(h->models[i].name, reference) != 0) i++;
    if (i == h->n_models || h->models[i].graph->training.rule < 0)
        return err_set(e, E_NOT_FOUND, "model %s has no optimizer's state", reference);
    text_init(&file, (size_t)1 << 30);
    int status = training_memory_write(byte_sink_text(&file), h->models[i].graph, e);
    if (!status) status = training_memory_reader_new(&r, g, e);
    if (!status) status = training_memory_reader_feed(r, file.data, file.length, e);
    if (!status) status = training_memory_reader_finish(r, e);
    training_memory_reader_free(r);
    text_free(&file);
    return status;
}

static int mh_load_array(struct data_array *out, struct source *source, void *context, const char *reference,
                         const char *name, struct err *e) {
    struct memory_host *h = context;
    for (int i = 0; i < h->n_arrays; i++)
        if (!strcmp(h->arrays[i].name, reference) && !strcmp(h->arrays[i].array, name)) {
            *out = h->arrays[i].data;
            if (source) *source = (struct source){.digest = digest_of(reference, strlen(reference)), .bytes = 1000};
            return 0;
        }
    return err_set(e, E_NOT_FOUND, "no array %s in %s", name, reference);
}

static int mh_scratch(void **out, size_t size, void *context, struct err *e) {
    struct memory_host *h = context;
    if (h->n_scratch == 16) return err_set(e, E_TOO_LARGE, "scratch is full");
    void *block = mem_calloc(size, 1);
    if (!block) return err_memory(e, size);
    *out = h->scratch[h->n_scratch++] = block;
    return 0;
}

static int mh_cache_get(void *out, size_t size, void *context, const struct digest *key, struct err *e) {
    struct memory_host *h = context;
    for (int i = 0; i < h->n_cache; i++)
        if (digest_equal(&h->cache[i].key, key) && h->cache[i].size == size) {
            memcpy(out, h->cache[i].bytes, size);
            h->cache_hits++;
            return 0;
        }
    return err_set(e, E_NOT_FOUND, "not cached");
}

static int mh_cache_put(const void *bytes, size_t size, void *context, const struct digest *key, struct err *e) {
    struct memory_host *h = context;
    if (h->n_cache == 8) return err_set(e, E_TOO_LARGE, "cache is full");
    h->cache[h->n_cache].key = *key;
    h->cache[h->n_cache].size = size;
    h->cache[h->n_cache++].bytes = mem_copy(bytes, size);
    return 0;
}

static int mh_checkpoint_read(void *to, size_t size, size_t offset, void *context, struct err *e) {
    struct memory_host *h = context;
    (void)e;
    memcpy(to, (char *)h->checkpoint + offset, size);
    return 0;
}

static int mh_checkpoint_find(struct checkpoint_source *out, void *context, struct err *e) {
    struct memory_host *h = context;
    (void)e;
    *out = (struct checkpoint_source){h->checkpoint_size, mh_checkpoint_read, h};
    return 0;
}

static bool mh_checkpoint_due(void *context) {
    struct memory_host *h = context;
    return h->checkpoint_every && (h->steps_seen + 1) % h->checkpoint_every == 0;
}

static int mh_checkpoint_save(const struct checkpoint_part *pieces, int n, void *context, struct err *e) {
    struct memory_host *h = context;
    (void)e;
    h->checkpoint_size = 0;
    for (int i = 0; i < n; i++) {
        h->checkpoint = mem_resize(h->checkpoint, h->checkpoint_size + pieces[i].size, 1);
        if (pieces[i].size) memcpy((char *)h->checkpoint + h->checkpoint_size, pieces[i].data, pieces[i].size);
        h->checkpoint_size += pieces[i].size;
    }
    return 0;
}

static int mh_progress(void *context, int64_t step, int64_t steps, struct err *e) {
    struct memory_host *h = context;
    (void)steps;
    h->steps_seen = step;
    if (h->stop_at && step >= h->stop_at) return err_set(e, E_CANCELLED, "stopped at step %lld", (long long)step);
    return 0;
}

static void mh_metric(void *context, const char *series, int64_t step, double value) {
    struct memory_host *h = context;
    (void)step;
    h->metrics++;
    if (!strcmp(series, "train_loss")) h->last_loss = value;
}

static void mh_log(void *context, const char *text) {
    struct memory_host *h = context;
    h->logs++;
    snprintf(h->last_log, sizeof h->last_log, "%s", text);
    if (getenv("TEST_VERBOSE")) printf("# log: %s\n", text);
}

static inline struct host memory_host_open(struct memory_host *h, int threads) {
    return (struct host){.context = h,
                         .load_graph = mh_load_graph,
                         .load_memory = mh_load_memory,
                         .load_array = mh_load_array,
                         .scratch = mh_scratch,
                         .cache_get = mh_cache_get,
                         .cache_put = mh_cache_put,
                         .checkpoint_find = mh_checkpoint_find,
                         .checkpoint_due = mh_checkpoint_due,
                         .checkpoint_save = mh_checkpoint_save,
                         .progress = mh_progress,
                         .metric = mh_metric,
                         .log = mh_log,
                         .threads = threads};
}

static inline void memory_host_add_model(struct memory_host *h, const char *name, struct graph *g) {
    h->models[h->n_models].name = name;
    h->models[h->n_models++].graph = g;
}

/* `data` stays the caller's; rank 1 when dim1 is 0, and so on. */
static inline void memory_host_add_array(struct memory_host *h, const char *name, const char *array, enum dtype type,
                                         const void *data, const int64_t dim[4]) {
    struct data_array a = {.type = type, .data = data};
    for (int i = 0; i < 4 && dim[i]; i++) a.shape.dim[a.shape.rank++] = dim[i];
    h->arrays[h->n_arrays].name = name;
    h->arrays[h->n_arrays].array = array;
    h->arrays[h->n_arrays++].data = a;
}

static inline void memory_host_close(struct memory_host *h) {
    for (int i = 0; i < h->n_models; i++) graph_free(h->models[i].graph);
    for (int i = 0; i < h->n_cache; i++) mem_free(h->cache[i].bytes);
    for (int i = 0; i < h->n_scratch; i++) mem_free(h->scratch[i]);
    mem_free(h->checkpoint);
}

/* All constants of two graphs of the same shape, byte for byte. */
static inline bool same_weights(const struct graph *a, const struct graph *b) {
    if (a->n_values != b->n_values) return false;
    for (int v = 0; v < a->n_values; v++) {
        const struct array *x = a->values[v].constant, *y = b->values[v].constant;
        if (!x != !y) return false;
        if (x && (x->count != y->count || memcmp(x->data, y->data, x->count * dtype_size(x->type)))) return false;
    }
    return true;
}

#endif
