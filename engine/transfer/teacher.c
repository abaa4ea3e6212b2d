/* teacher.c - loading teachers and asking them everything once. */
#include "engine/transfer/teacher.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "engine/nn/net.h"
#include "engine/transfer/report.h"

#define ANSWER_BATCH 128
#define CACHE_VERSION "teacher-logits-1" /* to be raised when the engine's numbers change */

static const struct param teacher_params[] = {
    PARAM_MODEL(struct teacher_spec, model, true, "name[@version] of the teacher"),
    PARAM_REAL(struct teacher_spec, weight, "1", 1e-6, 1e6, "how much it counts among several"),
    PARAM_END,
};

const struct param teacher_list_params[] = {
    {.name = "teacher",
     .type = PARAM_TYPE_OBJECT,
     .size = sizeof(struct teacher_spec),
     .present_offset = PARAM_NO_PRESENT,
     .fields = teacher_params,
     .bare = "model",
     .help = "a network that teaches"},
    PARAM_END,
};

/* ---- loading ---- */

int teachers_load(struct teachers *out, const struct teacher_spec *specs, int n, const struct dataset_spec *data,
                  const struct host *host, struct err *e) {
    *out = (struct teachers){0};
    double sum = 0;
    int status = 0;
    for (int i = 0; i < n; i++) sum += specs[i].weight;
    for (int i = 0; i < n && !status; i++) {
        char pointer[64], what[REFERENCE_SIZE + 16];
        text_print(pointer, sizeof pointer, "/teacher/%d/model", i);
        text_print(what, sizeof what, "teacher %s", specs[i].model);
        out->share[i] = specs[i].weight / sum;
        status = network_load(&out->nets[i], host, specs[i].model, data, pointer, e);
        if (!status) out->n++;
        if (!status && i > 0) status = network_agree(what, &out->nets[i], &out->nets[0], pointer, e);
    }
    if (status) teachers_fini(out);
    return status;
}

void teachers_fini(struct teachers *t) {
    for (int i = 0; i < t->n; i++) network_fini(&t->nets[i]);
    *t = (struct teachers){0};
}

/* ---- answers ---- */

/* What the logits depend on. */
static struct digest cache_key(const struct network *n, const struct examples *x) {
    const struct dataset *d = &x->data;
    uint64_t numbers[] = {d->samples, d->row, d->channels_last, d->uniform, (uint64_t)n->classes, sizeof(real)};
    struct hasher h;
    hasher_init(&h);
    hasher_add(&h, CACHE_VERSION, sizeof CACHE_VERSION);
    hasher_add(&h, n->source.digest.bytes, DIGEST_SIZE);
    hasher_add(&h, x->source.digest.bytes, DIGEST_SIZE);
    hasher_add(&h, numbers, sizeof numbers);
    size_t channels = d->uniform ? 1 : d->channels;
    hasher_add(&h, d->gain, channels * sizeof *d->gain);
    hasher_add(&h, d->shift, channels * sizeof *d->shift);
    return hasher_finish(&h);
}

/* The teacher's own progress, in batches: the steps of training are counted afterwards. */
struct answering {
    const struct host *host;
    int64_t done, batches;
};

static int answer_tick(void *context, struct err *e) {
    struct answering *a = context;
    return a->host->progress(a->host->context, a->done++, a->batches, e);
}

static int compute(real *out, const struct network *n, const struct examples *x, const struct host *host,
                   struct crew *crew, struct err *e) {
    struct net *net = NULL;
    struct selection all = {&x->data, NULL, x->data.samples};
    struct net_options options = {.batch = all.n < ANSWER_BATCH ? (int)all.n : ANSWER_BATCH, .memory = host->memory};
    struct answering a = {host, 0, (int64_t)((all.n + ANSWER_BATCH - 1) / ANSWER_BATCH)};
    int status = net_new(&net, n->graph, crew, &options, e);
    if (!status) status = evaluate_logits(out, net, &all, true, (struct tick){answer_tick, &a}, e);
    net_free(net);
    return status;
}

static int check_finite(const real *logits, size_t count, size_t classes, struct err *e) {
    for (size_t i = 0; i < count; i++)
        if (!isfinite(logits[i]))
            return err_set(e, E_INVALID,
                           "the teacher answers sample %zu with %g: its weights or the preprocessing are broken",
                           i / classes, (double)logits[i]);
    return 0;
}

static int answer(real **out, const struct network *n, const struct examples *x, const struct host *host,
                  struct crew *crew, struct err *e) {
    size_t count, bytes;
    void *block;
    if (!mem_mul(&count, x->data.samples, (size_t)n->classes) || !mem_mul(&bytes, count, sizeof(real)))
        return err_set(e, E_TOO_LARGE, "a teacher's outputs for %zu samples of %lld classes: limit the data set",
                       x->data.samples, (long long)n->classes);
    int status = host->scratch(&block, bytes, host->context, e);
    if (status) return status;
    real *logits = block;
    struct digest key = cache_key(n, x);
    struct err miss = {0};
    if (host->cache_get(logits, bytes, host->context, &key, &miss) == 0) {
        report_log(host, "the teacher's outputs for %s are known from an earlier run", x->spec.ref);
        *out = logits;
        return 0;
    }
    report_log(host, "working out the teacher's outputs for %zu samples of %s", x->data.samples, x->spec.ref);
    status = compute(logits, n, x, host, crew, e);
    if (!status) status = check_finite(logits, count, (size_t)n->classes, e);
    /* A cache that cannot be written costs time later on, not this job. */
    struct err unkept = {0};
    if (!status && host->cache_put(logits, bytes, host->context, &key, &unkept) != 0)
        report_log(host, "the teacher's outputs could not be kept: %s", unkept.text);
    if (!status) *out = logits;
    return status;
}

int teachers_answer(struct targets *out, const struct teachers *t, const struct examples *examples,
                    const struct host *host, struct crew *crew, struct err *e) {
    *out = (struct targets){0};
    int status = 0;
    for (int i = 0; i < t->n && !status; i++) {
        real *logits;
        status = answer(&logits, &t->nets[i], examples, host, crew, e);
        if (status) break;
        out->logits[i] = logits;
        out->share[i] = t->share[i];
        out->n++;
    }
    return status;
}

/* ---- scores ---- */

static int score_one(struct score *out, const real *answers, const struct selection *s, size_t classes,
                     const struct host *host, struct crew *crew, struct err *e) {
    static const struct targets none;
    void *block;
    if (s->n == s->data->samples && !s->index) return evaluate_score(out, crew, answers, s, &none, classes, e);
    int status = host->scratch(&block, s->n * classes * sizeof(real), host->context, e);
    if (status) return status;
    real *rows = block;
    for (size_t i = 0; i < s->n; i++)
        memcpy(rows + i * classes, answers + selection_sample(s, i) * classes, classes * sizeof *rows);
    return evaluate_score(out, crew, rows, s, &none, classes, e);
}

int teachers_score(struct score scores[TARGETS_MAX], const struct teachers *t, const struct targets *answers,
                   const struct selection *s, const struct host *host, struct crew *crew, struct err *e) {
    int status = 0;
    for (int i = 0; i < t->n && !status; i++)
        status = score_one(&scores[i], answers->logits[i], s, (size_t)t->nets[i].classes, host, crew, e);
    return status;
}

bool teacher_is_guessing(double accuracy, double majority, size_t classes, size_t n) {
    double chance = fmax(majority, 1 / (double)classes);
    if (chance >= 0.9) return false; /* nearly one class: accuracy tells nothing */
    return accuracy <= chance + 3 * sqrt(chance * (1 - chance) / (double)n);
}
