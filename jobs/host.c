/* host.c - networks, arrays, cache, checkpoints and commentary of a running job. */
#include "jobs/host.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "store/cache.h"

/* Arrays up to this are read into memory, or up to a share of what the job may take; others are mapped. */
#define SMALL_ARRAYS ((size_t)32 << 20)
#define SMALL_SHARE 16
#define NS_PER_MS 1000000
#define STOP_GRACE_MS 3000

/* ---- stopping ---- */

/* Whether the job must stop: E_LOST, E_CANCELLED, or 0. */
static int must_stop(const struct job_host *h, struct err *e) {
    if (h->teller.lost || pulse_lost(h->options.pulse))
        return err_set(e, E_LOST, "another worker has job %lld now", (long long)h->lease.job);
    if (pulse_cancelled(h->options.pulse)) return err_set(e, E_CANCELLED, "the job was cancelled");
    return 0;
}

/* A worker that shall end lets the method make one more checkpoint: it is asked after every step
 * whether one is due. Before the first step there is nothing to keep, and a step or an evaluation
 * that takes too long is not waited for. */
static int must_release(struct job_host *h, struct err *e) {
    if (!atomic_load(h->options.stop)) return 0;
    int64_t now = clock_monotonic_ns();
    if (!h->stop_ns) h->stop_ns = now;
    bool late = now - h->stop_ns > (int64_t)STOP_GRACE_MS * NS_PER_MS;
    if (!h->stop_seen && !late && h->teller.steps > 0) return 0;
    return err_set(e, E_CANCELLED, "the worker is stopping");
}

static int progress(void *context, int64_t step, int64_t steps, struct err *e) {
    struct job_host *h = context;
    h->step = step;
    teller_progress(&h->teller, step, steps);
    teller_flush_when_due(&h->teller);
    int status = must_stop(h, e);
    return status ? status : must_release(h, e);
}

static int loading_tick(void *context, struct err *e) {
    struct job_host *h = context;
    teller_flush_when_due(&h->teller);
    int status = must_stop(h, e);
    if (!status && atomic_load(h->options.stop)) status = err_set(e, E_CANCELLED, "the worker is stopping");
    return status;
}

/* ---- networks and data ---- */

static int load_graph(struct graph **out, struct source *source, void *context, const char *reference, struct err *e) {
    struct job_host *h = context;
    return loader_graph(out, source, &h->loader, reference, e);
}

static int load_memory(struct graph *g, void *context, const char *reference, struct err *e) {
    struct job_host *h = context;
    return loader_memory(g, &h->loader, reference, e);
}

static int load_array(struct data_array *out, struct source *source, void *context, const char *reference,
                      const char *name, struct err *e) {
    struct job_host *h = context;
    return loader_array(out, source, &h->loader, reference, name, e);
}

static int take_scratch(void **out, size_t size, void *context, struct err *e) {
    struct job_host *h = context;
    return scratch_take(out, &h->loader.scratch, size, e);
}

/* ---- the cache ---- */

static int cache_get(void *out, size_t size, void *context, const struct digest *key, struct err *e) {
    struct job_host *h = context;
    struct store_blob blob;
    char hex[DIGEST_HEX_SIZE];
    digest_to_hex(hex, key);
    int status = store_cache_get(&blob, h->store, hex, e);
    if (!status && (size_t)blob.size != size) status = err_set(e, E_NOT_FOUND, "the cached block has another size");
    if (!status) status = store_blob_read(out, size, h->store, blob.id, 0, e);
    if (status) return status;
    struct digest sum = digest_of(out, size);
    return digest_equal(&sum, &blob.digest) ? 0 : err_set(e, E_NOT_FOUND, "the cached block is damaged");
}

static int cache_put(const void *bytes, size_t size, void *context, const struct digest *key, struct err *e) {
    struct job_host *h = context;
    struct store_blob blob;
    char hex[DIGEST_HEX_SIZE];
    digest_to_hex(hex, key);
    int status = store_blob_put(&blob, h->store, bytes, size, e);
    return status ? status : store_cache_put(h->store, hex, &blob, e);
}

/* ---- checkpoints ---- */

static int checkpoint_read_part(void *to, size_t size, size_t offset, void *context, struct err *e) {
    struct job_host *h = context;
    return store_blob_read(to, size, h->store, h->found, (int64_t)offset, e);
}

/* A checkpoint whose bytes are what was written. */
static int find_checkpoint(struct checkpoint_source *out, struct job_host *h, int age, struct err *e) {
    struct store_checkpoint c;
    int status = store_checkpoint_get(&c, h->store, h->lease.job, age, e);
    if (!status) status = store_blob_verify(h->store, c.blob.id, e);
    if (status == E_CORRUPT) err_set(e, status, "the checkpoint of step %lld is damaged", (long long)c.step);
    if (status) return status;
    h->found = c.blob.id;
    *out = (struct checkpoint_source){(size_t)c.blob.size, checkpoint_read_part, h};
    return 0;
}

static int checkpoint_find(struct checkpoint_source *out, void *context, struct err *e) {
    struct job_host *h = context;
    *out = (struct checkpoint_source){0};
    for (int age = 0; age < STORE_CHECKPOINTS_KEPT; age++) {
        struct err why = {0};
        int status = find_checkpoint(out, h, age, &why);
        if (!status) return 0;
        if (status == E_NOMEM) return err_set(e, status, "%s", why.text);
        if (status == E_NOT_FOUND) continue;
        log_warn("job %lld: %s", (long long)h->lease.job, why.text);
    }
    return 0;
}

static bool checkpoint_due(void *context) {
    struct job_host *h = context;
    if (atomic_load(h->options.stop)) {
        h->stop_seen = true;
        return true;
    }
    return clock_monotonic_ns() - h->checkpoint_ns >= h->options.checkpoint_ms * NS_PER_MS;
}

static int put_pieces(struct store_blob *out, struct job_host *h, const struct checkpoint_part *pieces, int n,
                      struct err *e) {
    struct store_writer *w = NULL;
    int status = store_writer_open(&w, h->store, STORE_BLOB_MAX, e);
    if (status) return status;
    for (int i = 0; i < n && !status; i++) status = store_writer_add(w, pieces[i].data, pieces[i].size, e);
    if (!status) return store_writer_finish(out, NULL, w, NULL, e);
    store_writer_abandon(w);
    return status;
}

/* One that cannot be written costs steps if the worker dies, not the job. */
static int checkpoint_save(const struct checkpoint_part *pieces, int n, void *context, struct err *e) {
    struct job_host *h = context;
    struct store_blob blob;
    struct err why = {0};
    int64_t began = clock_monotonic_ns();
    int status = put_pieces(&blob, h, pieces, n, &why);
    if (!status) status = store_checkpoint_put(h->store, &h->lease, h->step + 1, blob.id, &why);
    if (status && status != E_LOST) log_warn("job %lld: no checkpoint: %s", (long long)h->lease.job, why.text);
    h->checkpoint_ns = clock_monotonic_ns();
    /* A slow disk: no more than a tenth of the time goes into checkpoints. */
    int64_t cost = h->checkpoint_ns - began;
    if (h->options.checkpoint_ms >= 0 && cost * 9 > h->options.checkpoint_ms * NS_PER_MS)
        h->checkpoint_ns += cost * 9 - h->options.checkpoint_ms * NS_PER_MS;
    return status == E_LOST ? err_set(e, E_LOST, "%s", why.text) : 0;
}

/* ---- commentary ---- */

static void metric(void *context, const char *series, int64_t step, double value) {
    struct job_host *h = context;
    teller_metric(&h->teller, series, step, value);
}

static void say(void *context, const char *text) {
    struct job_host *h = context;
    teller_log(&h->teller, text);
}

void job_host_init(struct job_host *h, struct store *s, const struct store_lease *lease,
                   const struct references *references, const struct job_host_options *options) {
    memset(h, 0, sizeof *h);
    h->store = s;
    h->lease = *lease;
    h->options = *options;
    h->checkpoint_ns = clock_monotonic_ns();
    size_t small = options->memory / SMALL_SHARE;
    struct loader_options loading = {.folder = options->folder,
                                     .small = small && small < SMALL_ARRAYS ? small : SMALL_ARRAYS,
                                     .memory = options->memory,
                                     .tick = loading_tick,
                                     .context = h};
    loader_init(&h->loader, s, references, &loading);
    teller_init(&h->teller, s, lease);
    h->host = (struct host){
        .context = h,
        .load_graph = load_graph,
        .load_memory = load_memory,
        .load_array = load_array,
        .scratch = take_scratch,
        .cache_get = cache_get,
        .cache_put = cache_put,
        .checkpoint_find = checkpoint_find,
        .checkpoint_due = checkpoint_due,
        .checkpoint_save = checkpoint_save,
        .progress = progress,
        .metric = metric,
        .log = say,
        .threads = options->threads,
        .memory = options->memory,
    };
}

void job_host_fini(struct job_host *h) {
    teller_flush(&h->teller);
    teller_fini(&h->teller);
    loader_fini(&h->loader);
}
