/* evaluate.c - logits over a data set, and scores. */
#include "engine/nn/evaluate.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "engine/nn/loss.h"

int selection_split(struct selection *train, struct selection *held_out, uint32_t **index, const struct dataset *data,
                    double fraction, uint64_t seed, struct err *e) {
    size_t n = data->samples, held = (size_t)llround(fraction * (double)n);
    if (fraction > 0 && held == 0) held = 1;
    if (held >= n) return err_set(e, E_INVALID, "holding out %g of %zu samples leaves none to train on", fraction, n);
    uint32_t *order = mem_alloc(n * sizeof *order), *split = mem_alloc(n * sizeof *split);
    bool *is_held = mem_calloc(n, sizeof *is_held);
    if (!order || !split || !is_held) {
        mem_free(order);
        mem_free(split);
        mem_free(is_held);
        return err_memory(e, n * 9);
    }
    struct random random = random_seed(seed);
    random_permutation(&random, order, n);
    for (size_t i = 0; i < held; i++) is_held[order[i]] = true;
    size_t kept = 0, out = n - held;
    for (size_t i = 0; i < n; i++) split[is_held[i] ? out++ : kept++] = (uint32_t)i;
    mem_free(order);
    mem_free(is_held);
    *index = split;
    *train = (struct selection){data, split, n - held};
    *held_out = (struct selection){data, split + (n - held), held};
    return 0;
}

size_t evaluate_width(const struct net *net) {
    struct shape s = net_output_shape(net, 0);
    size_t width = 1;
    for (int d = 1; d < s.rank; d++) width *= (size_t)s.dim[d];
    return width;
}

/* ---- logits ---- */

struct feed {
    struct net *net;
    const struct selection *selection;
    size_t start; /* of the batch, in the selection */
};

static void feed_rows(void *context, int first, int count) {
    const struct feed *f = context;
    const struct selection *s = f->selection;
    size_t at = f->start + (size_t)first;
    real *rows = net_input(f->net, 0) + (size_t)first * s->data->row;
    dataset_fetch(s->data, rows, s->index ? s->index + at : NULL, at, (size_t)count);
}

int evaluate_logits(real *out, struct net *net, const struct selection *s, bool scatter, struct tick tick,
                    struct err *e) {
    size_t batch = (size_t)net_input_shape(net, 0).dim[0], width = evaluate_width(net);
    struct feed feed = {.net = net, .selection = s};
    for (; feed.start < s->n; feed.start += batch) {
        size_t n = s->n - feed.start < batch ? s->n - feed.start : batch;
        net_forward(net, (int)n, random_seed(0), feed_rows, &feed);
        const real *rows = net_output(net, 0);
        for (size_t i = 0; i < n; i++) {
            size_t place = scatter ? selection_sample(s, feed.start + i) : feed.start + i;
            memcpy(out + place * width, rows + i * width, width * sizeof *out);
        }
        int status = tick.call ? tick.call(tick.context, e) : 0;
        if (status) return status;
    }
    return 0;
}

/* ---- scores ---- */

size_t evaluate_argmax(const real *z, size_t n) {
    size_t best = 0;
    for (size_t k = 1; k < n; k++)
        if (z[k] > z[best]) best = k;
    return best;
}

#define SCORE_BLOCK 256 /* samples of one unit of work */

/* Sums over the samples of one block. */
struct partial {
    size_t right, same;
    double loss, kl;
};

struct scoring {
    const real *logits;
    const struct selection *selection;
    const struct targets *targets;
    size_t classes;
    struct partial *partial; /* [blocks] */
    double *scratch;         /* [threads][classes] */
};

static void score_teacher(struct partial *p, const struct scoring *s, const real *z, size_t sample, double lse,
                          double *mix) {
    memset(mix, 0, s->classes * sizeof *mix);
    for (int m = 0; m < s->targets->n; m++) {
        const real *t = s->targets->logits[m] + sample * s->classes;
        double teacher_lse = loss_log_sum_exp(t, s->classes, 1);
        for (size_t k = 0; k < s->classes; k++) mix[k] += s->targets->share[m] * exp((double)t[k] - teacher_lse);
    }
    size_t best = 0;
    for (size_t k = 0; k < s->classes; k++) {
        if (mix[k] > mix[best]) best = k;
        if (mix[k] > 0) p->kl += mix[k] * (log(mix[k]) - ((double)z[k] - lse));
    }
    if (s->targets->n == 1) best = evaluate_argmax(s->targets->logits[0] + sample * s->classes, s->classes);
    p->same += best == evaluate_argmax(z, s->classes);
}

static void score_block(void *context, int unit, int thread) {
    const struct scoring *s = context;
    struct partial p = {0};
    size_t first = (size_t)unit * SCORE_BLOCK, n = s->selection->n - first;
    if (n > SCORE_BLOCK) n = SCORE_BLOCK;
    for (size_t i = first; i < first + n; i++) {
        const real *z = s->logits + i * s->classes;
        size_t sample = selection_sample(s->selection, i);
        double lse = loss_log_sum_exp(z, s->classes, 1);
        if (s->selection->data->labels.data) {
            size_t label = (size_t)dataset_label(s->selection->data, sample);
            p.right += label == evaluate_argmax(z, s->classes);
            p.loss += lse - (double)z[label];
        }
        if (s->targets->n) score_teacher(&p, s, z, sample, lse, s->scratch + (size_t)thread * s->classes);
    }
    s->partial[unit] = p;
}

static struct score mean_score(const struct scoring *s, int blocks) {
    struct partial sum = {0};
    for (int i = 0; i < blocks; i++) {
        sum.right += s->partial[i].right;
        sum.same += s->partial[i].same;
        sum.loss += s->partial[i].loss;
        sum.kl += s->partial[i].kl;
    }
    bool labels = s->selection->data->labels.data, teacher = s->targets->n > 0;
    const double n = (double)s->selection->n, unknown = (double)NAN;
    return (struct score){
        .accuracy = labels ? (double)sum.right / n : unknown,
        .loss = labels ? sum.loss / n : unknown,
        .agreement = teacher ? (double)sum.same / n : unknown,
        .kl = teacher ? sum.kl / n : unknown,
    };
}

int evaluate_score(struct score *out, struct crew *crew, const real *logits, const struct selection *s,
                   const struct targets *targets, size_t classes, struct err *e) {
    int blocks = (int)((s->n + SCORE_BLOCK - 1) / SCORE_BLOCK);
    struct scoring scoring = {.logits = logits, .selection = s, .targets = targets, .classes = classes};
    scoring.partial = mem_calloc((size_t)blocks + 1, sizeof *scoring.partial);
    scoring.scratch = mem_calloc(classes * (size_t)crew_threads(crew), sizeof *scoring.scratch);
    int status = scoring.partial && scoring.scratch ? 0 : err_memory(e, classes * sizeof(double));
    if (!status) {
        crew_run(crew, score_block, &scoring, blocks);
        *out = mean_score(&scoring, blocks);
    }
    mem_free(scoring.partial);
    mem_free(scoring.scratch);
    return status;
}

int evaluate_majority(double *out, const struct selection *s, size_t classes, struct err *e) {
    size_t *count = mem_calloc(classes, sizeof *count), most = 0;
    if (!count) return err_memory(e, classes * sizeof *count);
    for (size_t i = 0; i < s->n; i++) count[dataset_label(s->data, selection_sample(s, i))]++;
    for (size_t k = 0; k < classes; k++)
        if (count[k] > most) most = count[k];
    mem_free(count);
    *out = (double)most / (double)s->n;
    return 0;
}
