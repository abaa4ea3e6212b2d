/* train.c - the training loop. */
#include "engine/nn/train.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "engine/nn/carry.h"
#include "engine/nn/checkpoint.h"
#include "engine/nn/net.h"
#include "engine/nn/optimizer.h"

#define MAX_TERMS (2 * LOSS_MAX_TERMS)
#define LOSS_BLOCK 32    /* rows whose loss one unit computes */
#define CURVE_POINTS 400 /* of train_loss over the whole run, about */
#define EVAL_BATCH_MIN 32
#define EVAL_BATCH_MAX 256

/* Labels for splitting the seed: independent random numbers for each purpose. */
enum { RANDOM_ORDER = 1, RANDOM_STEP = 2 };

/* Sums of each term's loss over rows, unweighted. */
struct tally {
    double sums[MAX_TERMS];
    int64_t rows;
};

/* All that changes from step to step, besides the arrays: plain memory, stored in checkpoints. */
struct progress {
    int64_t step;
    int64_t best_epoch, stale_epochs;
    double best_value;
    bool has_best, stopped;
    uint64_t optimizer_steps;
    struct tally epoch, window, last_epoch;
    struct score score, best_score;
};

struct trainer {
    const struct train_task *task;
    const struct train_spec *spec;
    const struct train_hooks *hooks;
    struct crew *crew;
    struct net *net, *eval;
    struct optimizer optimizer;
    struct schedule schedule;
    struct random random;
    struct digest identity;
    size_t batch, classes;
    int64_t steps, steps_per_epoch, window;
    size_t needed, taken; /* bytes; see struct train_result */
    size_t origins;       /* bytes of them; see carry.h */
    struct progress now;

    uint32_t *order;            /* [train.n]: this epoch's permutation */
    uint32_t *samples;          /* [batch]: numbers in the data set */
    int32_t *labels;            /* [batch]; NULL without */
    real *targets[TARGETS_MAX]; /* [batch, classes] of each teacher */
    double *scratch;            /* [threads][loss_scratch] */
    double *sums;               /* [blocks][MAX_TERMS] */
    real *best;                 /* parameters of the best epoch; NULL without early stop */
    real *eval_logits;          /* [eval.n, classes] */
};

/* ---- opening ---- */

static void say(const struct trainer *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(const struct trainer *t, const char *format, ...) {
    if (!t->hooks->log) return;
    struct text line;
    text_init(&line, 1024);
    va_list args;
    va_start(args, format);
    int status = text_vformat(&line, format, args);
    va_end(args);
    if (!status) t->hooks->log(t->hooks->context, line.data);
    text_free(&line);
}

static void trainer_fini(struct trainer *t) {
    net_free(t->eval);
    net_free(t->net);
    optimizer_fini(&t->optimizer);
    mem_free(t->order);
    mem_free(t->samples);
    mem_free(t->labels);
    for (int m = 0; m < TARGETS_MAX; m++) mem_free(t->targets[m]);
    mem_free(t->scratch);
    mem_free(t->sums);
    mem_free(t->best);
    mem_free(t->eval_logits);
}

static int plan_steps(struct trainer *t, struct err *e) {
    const struct train_spec *s = t->spec;
    size_t n = t->task->train.n;
    int status = train_steps(&t->steps, &t->steps_per_epoch, s, n, t->task->schedule_from, e);
    t->batch = (size_t)s->batch < n ? (size_t)s->batch : n;
    t->window = t->steps / CURVE_POINTS > 1 ? t->steps / CURVE_POINTS : 1;
    t->schedule = (struct schedule){.spec = s->schedule,
                                    .peak = s->learning_rate,
                                    .steps = s->schedule.length == PARAM_ABSENT ? t->steps : s->schedule.length,
                                    .steps_per_epoch = t->steps_per_epoch,
                                    .warmup = s->warmup_steps};
    return status;
}

static double rate_of(const struct trainer *t, int64_t step) {
    return schedule_rate(&t->schedule, t->task->schedule_from + step);
}

static size_t clamp(size_t x, size_t low, size_t high) {
    return x < low ? low : x > high ? high : x;
}

static int open_nets(struct trainer *t, const struct graph *g, struct err *e) {
    size_t memory = t->task->memory;
    struct net_options options = {.batch = (int)t->batch, .training = true, .memory = memory};
    int status = net_new(&t->net, g, t->crew, &options, e);
    if (status) return status;
    t->classes = evaluate_width(t->net);
    t->taken = net_memory(t->net).taken;
    if (t->task->eval.n == 0) return 0;
    size_t batch = clamp(t->batch, EVAL_BATCH_MIN, EVAL_BATCH_MAX);
    options = (struct net_options){.batch = (int)clamp(batch, 1, t->task->eval.n),
                                   .memory = memory ? (memory > t->taken ? memory - t->taken : 1) : 0,
                                   .beside = t->net};
    status = net_new(&t->eval, g, t->crew, &options, e);
    if (!status) t->taken += net_memory(t->eval).taken;
    return status;
}

/* Counts bytes that are about to be taken. */
static int count_bytes(struct trainer *t, size_t bytes, struct err *e) {
    size_t memory = t->task->memory;
    if (!mem_add(&t->taken, t->taken, bytes)) return err_memory(e, bytes);
    if (!memory || t->taken <= memory) return 0;
    return err_set(e, E_TOO_LARGE,
                   "training takes more than %zu bytes, and %zu are allowed; a smaller batch (now %zu), an optimizer "
                   "with fewer copies than %s, or a larger --memory helps",
                   t->taken, memory, t->batch, optimizer_table[t->spec->optimizer].name);
}

/* n * m elements of `size` bytes, zeroed, with overflow check. */
static int take(void *out, struct trainer *t, size_t n, size_t m, size_t size, struct err *e) {
    size_t row, bytes;
    if (!mem_mul(&row, m, size) || !mem_mul(&bytes, n, row)) return err_memory(e, n);
    int status = count_bytes(t, bytes, e);
    if (status) return status;
    void *block = mem_calloc(n, row);
    if (!block) return err_memory(e, bytes);
    memcpy(out, &block, sizeof block);
    return 0;
}

/* From what the graph keeps of an earlier training, or fresh; the graph keeps nothing afterwards. */
static int open_optimizer(struct trainer *t, struct graph *g, struct err *e) {
    const struct optimizer_rule *rule = &optimizer_table[t->spec->optimizer];
    bool found = t->task->go_on && carry_finds(g, t->spec->optimizer);
    size_t n = net_trainable_count(t->net), copies = (size_t)rule->copies + (found && g->training.changed ? 2 : 0);
    if (t->task->go_on && !found)
        say(t, "the network keeps nothing of an earlier training with %s: the optimizer starts fresh", rule->name);
    if (!found) graph_forget_training(g);
    int status = carry_beside(&t->origins, g, rule, e);
    if (!status) status = count_bytes(t, n * copies * sizeof(real) + t->origins, e);
    if (!status) status = optimizer_init(&t->optimizer, rule, n, t->spec->momentum, t->spec->weight_decay, e);
    if (status || !found) return status;
    status = carry_in(&t->optimizer, t->net, g, e);
    if (!status) say(t, "going on with %s after its %llu steps", rule->name, (unsigned long long)t->optimizer.steps);
    return status;
}

static int take_buffers(struct trainer *t, struct err *e) {
    const struct train_task *task = t->task;
    size_t blocks = (t->batch + LOSS_BLOCK - 1) / LOSS_BLOCK, threads = (size_t)crew_threads(t->crew);
    int status = take(&t->order, t, task->train.n, 1, sizeof *t->order, e);
    if (!status) status = take(&t->samples, t, t->batch, 1, sizeof *t->samples, e);
    if (!status && task->train.data->labels.data) status = take(&t->labels, t, t->batch, 1, sizeof *t->labels, e);
    for (int m = 0; m < task->train_targets.n && !status; m++)
        status = take(&t->targets[m], t, t->batch, t->classes, sizeof(real), e);
    if (!status) status = take(&t->scratch, t, threads, loss_scratch(t->classes), sizeof(double), e);
    if (!status) status = take(&t->sums, t, blocks, MAX_TERMS, sizeof(double), e);
    if (!status && t->spec->has_early_stop) status = take(&t->best, t, net_parameter_count(t->net), 1, sizeof(real), e);
    if (!status && t->eval) status = take(&t->eval_logits, t, task->eval.n, t->classes, sizeof(real), e);
    return status;
}

/* What a checkpoint must have in common with this run. */
static struct digest identify(const struct trainer *t) {
    struct hasher h;
    hasher_init(&h);
    hasher_add(&h, &t->steps, sizeof t->steps);
    hasher_add(&h, &t->batch, sizeof t->batch);
    hasher_add(&h, &t->classes, sizeof t->classes);
    hasher_add(&h, &t->task->train.n, sizeof t->task->train.n);
    hasher_add(&h, &t->spec->seed, sizeof t->spec->seed);
    hasher_add(&h, &t->spec->learning_rate, sizeof t->spec->learning_rate);
    hasher_add(&h, t->optimizer.rule->name, strlen(t->optimizer.rule->name));
    hasher_add(&h, &t->optimizer.steps, sizeof t->optimizer.steps); /* of an earlier run */
    hasher_add(&h, &t->task->schedule_from, sizeof t->task->schedule_from);
    hasher_add(&h, &t->schedule.steps, sizeof t->schedule.steps);
    return hasher_finish(&h);
}

struct amount {
    char text[32];
};

static struct amount amount_of(size_t bytes) {
    struct amount a;
    bool large = bytes >= 1 << 20;
    text_print(a.text, sizeof a.text, "%.1f %s", (double)bytes / (large ? 1 << 20 : 1 << 10), large ? "MiB" : "KiB");
    return a;
}

/* What the run needs at least, and what it takes. */
static void say_memory(struct trainer *t) {
    struct net_memory m = net_memory(t->net);
    const struct optimizer_rule *rule = t->optimizer.rule;
    size_t best = t->best ? net_parameter_count(t->net) * sizeof(real) : 0;
    size_t pace = t->optimizer.pace ? 2 * t->optimizer.n * sizeof(real) : 0;
    size_t parameters = m.parameters + optimizer_state_count(&t->optimizer) * sizeof(real) + pace + best + t->origins;
    t->needed = parameters + m.live;
    say(t, "memory: needs %s for parameters (%d copies with %s%s) and %s for live activations, takes %s",
        amount_of(parameters).text, 2 + rule->copies + (pace ? 2 : 0) + (best > 0), rule->name,
        best ? " and early_stop" : "", amount_of(m.live).text, amount_of(t->taken).text);
}

static int trainer_init(struct trainer *t, struct graph *g, struct err *e) {
    int status = plan_steps(t, e);
    if (!status) status = open_nets(t, g, e);
    if (!status) net_empty_graph(t->net, g);
    if (!status) status = open_optimizer(t, g, e);
    if (!status) status = take_buffers(t, e);
    if (status) return status;
    say_memory(t);
    t->random = random_seed((uint64_t)t->spec->seed);
    t->identity = identify(t);
    t->now.score = t->now.best_score =
        (struct score){.accuracy = (double)NAN, .loss = (double)NAN, .agreement = (double)NAN, .kl = (double)NAN};
    return 0;
}

/* ---- checkpoints ---- */

enum { PARTS = 6 };

static void list_parts(struct checkpoint_part parts[PARTS], struct trainer *t) {
    size_t parameters = net_parameter_count(t->net) * sizeof(real);
    parts[0] = (struct checkpoint_part){&t->now, sizeof t->now};
    parts[1] = (struct checkpoint_part){net_parameters(t->net), parameters};
    parts[2] = (struct checkpoint_part){t->optimizer.state, optimizer_state_count(&t->optimizer) * sizeof(real)};
    parts[3] = (struct checkpoint_part){t->best, t->best ? parameters : 0};
    const struct optimizer_origins *q = t->optimizer.origins;
    parts[4] = (struct checkpoint_part){q ? q->weights : NULL, q ? q->n * sizeof(real) : 0};
    parts[5] = (struct checkpoint_part){q ? q->own.state : NULL, q ? optimizer_state_count(&q->own) * sizeof(real) : 0};
}

static int save_checkpoint(struct trainer *t, struct err *e) {
    struct checkpoint_part parts[PARTS];
    t->now.optimizer_steps = t->optimizer.steps;
    list_parts(parts, t);
    return checkpoint_write(&t->identity, parts, PARTS, t->hooks->checkpoint_save, t->hooks->context, e);
}

static int resume(struct trainer *t, struct err *e) {
    if (!t->hooks->checkpoint_find) return 0;
    struct checkpoint_source source = {0};
    int status = t->hooks->checkpoint_find(&source, t->hooks->context, e);
    if (status || source.size == 0) return status;
    struct checkpoint_part parts[PARTS];
    bool good;
    list_parts(parts, t);
    status = checkpoint_read(&good, parts, PARTS, &t->identity, &source, e);
    if (status) return status;
    if (good) {
        t->optimizer.steps = t->now.optimizer_steps;
        net_parameters_changed(t->net);
        say(t, "resuming from the checkpoint at step %lld of %lld", (long long)t->now.step, (long long)t->steps);
    } else {
        say(t, "the checkpoint is damaged or of another run: starting from the beginning");
    }
    return 0;
}

/* ---- one step ---- */

static void load_samples(void *context, int first, int count) {
    struct trainer *t = context;
    const struct dataset *data = t->task->train.data;
    real *rows = net_input(t->net, 0) + (size_t)first * data->row;
    dataset_fetch(data, rows, t->samples + first, 0, (size_t)count);
}

/* Labels and teachers' logits of rows [first, first + n) of the batch. */
static void gather_answers(struct trainer *t, size_t first, size_t n) {
    const struct targets *targets = &t->task->train_targets;
    for (size_t i = first; i < first + n; i++) {
        size_t sample = t->samples[i], width = t->classes;
        if (t->labels) t->labels[i] = (int32_t)dataset_label(t->task->train.data, sample);
        for (int m = 0; m < targets->n; m++)
            memcpy(t->targets[m] + i * width, targets->logits[m] + sample * width, width * sizeof(real));
    }
}

static void loss_block(void *context, int unit, int thread) {
    struct trainer *t = context;
    size_t first = (size_t)unit * LOSS_BLOCK, n = t->batch - first < LOSS_BLOCK ? t->batch - first : LOSS_BLOCK;
    gather_answers(t, first, n);
    const real *targets[TARGETS_MAX];
    for (int m = 0; m < t->task->train_targets.n; m++) targets[m] = t->targets[m] + first * t->classes;
    struct loss_rows rows = {
        .logits = net_output(t->net, 0) + first * t->classes,
        .targets = targets,
        .shares = t->task->train_targets.share,
        .teachers = t->task->train_targets.n,
        .labels = t->labels ? t->labels + first : NULL,
        .n = n,
        .classes = t->classes,
        .scratch = t->scratch + (size_t)thread * loss_scratch(t->classes),
    };
    loss_run(t->task->loss, &rows, t->batch, net_output_gradient(t->net, 0) + first * t->classes,
             t->sums + (size_t)unit * MAX_TERMS);
}

/* Adds the blocks' sums, in order, to a tally of this batch. */
static struct tally batch_tally(const struct trainer *t, size_t blocks) {
    struct tally sum = {.rows = (int64_t)t->batch};
    for (size_t b = 0; b < blocks; b++)
        for (int i = 0; i < t->task->loss->n_terms; i++) sum.sums[i] += t->sums[b * MAX_TERMS + (size_t)i];
    return sum;
}

static void tally_add(struct tally *to, const struct tally *from) {
    for (int i = 0; i < MAX_TERMS; i++) to->sums[i] += from->sums[i];
    to->rows += from->rows;
}

static int diverged(const struct trainer *t, const char *what, double value, struct err *e) {
    return err_set(e, E_INVALID,
                   "the %s became %g at step %lld of %lld (learning rate %g): a lower learning_rate, warmup_steps or "
                   "clip_norm may help",
                   what, value, (long long)t->now.step + 1, (long long)t->steps, rate_of(t, t->now.step));
}

/* The samples of this step: the next ones of the epoch's permutation. */
static void choose_samples(struct trainer *t) {
    size_t place = (size_t)(t->now.step % t->steps_per_epoch) * t->batch;
    for (size_t i = 0; i < t->batch; i++) t->samples[i] = selection_sample(&t->task->train, t->order[place + i]);
}

static void shuffle(struct trainer *t) {
    struct random orders = random_split(&t->random, RANDOM_ORDER);
    struct random order = random_split(&orders, (uint64_t)(t->now.step / t->steps_per_epoch));
    random_permutation(&order, t->order, t->task->train.n);
}

static int train_step(struct trainer *t, struct err *e) {
    choose_samples(t);
    struct random steps = random_split(&t->random, RANDOM_STEP);
    net_forward(t->net, (int)t->batch, random_split(&steps, (uint64_t)t->now.step), load_samples, t);
    int blocks = (int)((t->batch + LOSS_BLOCK - 1) / LOSS_BLOCK);
    crew_run(t->crew, loss_block, t, blocks);
    struct tally batch = batch_tally(t, (size_t)blocks);
    double loss = loss_total(t->task->loss, batch.sums, t->batch);
    if (!isfinite(loss)) return diverged(t, "loss", loss, e);
    net_backward(t->net);
    double clip = isnan(t->spec->clip_norm) ? 0 : t->spec->clip_norm;
    double norm = optimizer_step(&t->optimizer, t->crew, net_parameters(t->net), net_gradients(t->net),
                                 rate_of(t, t->now.step), clip);
    if (!isfinite(norm)) return diverged(t, "gradient's norm", norm, e);
    net_parameters_changed(t->net);
    tally_add(&t->now.epoch, &batch);
    tally_add(&t->now.window, &batch);
    t->now.step++;
    return 0;
}

/* ---- curves ---- */

static void metric(const struct trainer *t, const char *series, double value) {
    if (t->hooks->metric && !isnan(value)) t->hooks->metric(t->hooks->context, series, t->now.step, value);
}

/* "train_kl", and "train_kl_2" for a second one. */
static void term_series(char *out, size_t room, const struct loss_plan *plan, int term) {
    int nth = 1;
    for (int i = 0; i < term; i++) nth += plan->terms[i].loss == plan->terms[term].loss;
    if (nth == 1)
        text_print(out, room, "train_%s", plan->terms[term].loss->name);
    else
        text_print(out, room, "train_%s_%d", plan->terms[term].loss->name, nth);
}

static void report_window(struct trainer *t) {
    const struct loss_plan *plan = t->task->loss;
    struct tally *w = &t->now.window;
    metric(t, "train_loss", loss_total(plan, w->sums, (size_t)w->rows));
    for (int i = 0; i < plan->n_terms && plan->n_terms > 1; i++) {
        char series[64];
        term_series(series, sizeof series, plan, i);
        metric(t, series, w->sums[i] / (double)w->rows);
    }
    metric(t, "learning_rate", rate_of(t, t->now.step - 1));
    *w = (struct tally){0};
}

/* ---- the end of an epoch ---- */

static int tick(void *context, struct err *e) {
    struct trainer *t = context;
    if (!t->hooks->progress) return 0;
    return t->hooks->progress(t->hooks->context, t->now.step, t->steps, e);
}

static int evaluate(struct trainer *t, struct err *e) {
    if (!t->eval) return 0;
    net_parameters_changed(t->eval);
    const struct selection *s = &t->task->eval;
    int status = evaluate_logits(t->eval_logits, t->eval, s, false, (struct tick){tick, t}, e);
    if (!status)
        status = evaluate_score(&t->now.score, t->crew, t->eval_logits, s, &t->task->eval_targets, t->classes, e);
    if (status) return status;
    metric(t, "eval_accuracy", t->now.score.accuracy);
    metric(t, "eval_loss", t->now.score.loss);
    metric(t, "eval_agreement", t->now.score.agreement);
    metric(t, "eval_kl", t->now.score.kl);
    return 0;
}

/* Larger is better. */
static double watched(const struct score *s, int metric) {
    switch ((enum early_stop_metric)metric) {
        case STOP_ACCURACY: return s->accuracy;
        case STOP_LOSS: return -s->loss;
        case STOP_AGREEMENT: return s->agreement;
        case STOP_KL: return -s->kl;
    }
    return 0;
}

/* Keeps the parameters when they are the best so far, and says when it is time to stop. */
static void watch(struct trainer *t, int64_t epoch) {
    double value = watched(&t->now.score, t->spec->early_stop.metric);
    if (!t->now.has_best || value > t->now.best_value) {
        t->now.has_best = true;
        t->now.best_value = value;
        t->now.best_epoch = epoch;
        t->now.best_score = t->now.score;
        t->now.stale_epochs = 0;
        memcpy(t->best, net_parameters(t->net), net_parameter_count(t->net) * sizeof(real));
    } else if (++t->now.stale_epochs >= t->spec->early_stop.patience) {
        t->now.stopped = true;
        say(t, "no better for %lld epochs: stopping after epoch %lld, keeping epoch %lld",
            (long long)t->now.stale_epochs, (long long)epoch, (long long)t->now.best_epoch);
    }
}

static int end_epoch(struct trainer *t, struct err *e) {
    int status = evaluate(t, e);
    if (status) return status;
    int64_t epoch = (t->now.step + t->steps_per_epoch - 1) / t->steps_per_epoch;
    t->now.last_epoch = t->now.epoch;
    t->now.epoch = (struct tally){0};
    if (t->best && t->eval) watch(t, epoch);
    return 0;
}

/* ---- the run ---- */

static int run_steps(struct trainer *t, struct err *e) {
    int64_t shuffled = -1;
    int status = 0;
    while (t->now.step < t->steps && !t->now.stopped && !status) {
        if (t->now.step / t->steps_per_epoch != shuffled) {
            shuffle(t);
            shuffled = t->now.step / t->steps_per_epoch;
        }
        status = train_step(t, e);
        if (status) break;
        bool last = t->now.step == t->steps;
        if (last || t->now.step % t->window == 0) report_window(t);
        if (last || t->now.step % t->steps_per_epoch == 0) status = end_epoch(t, e);
        if (!status && t->hooks->checkpoint_due && t->hooks->checkpoint_due(t->hooks->context))
            status = save_checkpoint(t, e);
        if (!status) status = tick(t, e);
    }
    return status;
}

static void fill_result(struct train_result *out, const struct trainer *t) {
    const struct tally *last = &t->now.last_epoch;
    *out = (struct train_result){
        .score = t->now.has_best ? t->now.best_score : t->now.score,
        .steps = t->now.step,
        .epochs = (t->now.step + t->steps_per_epoch - 1) / t->steps_per_epoch,
        .loss = loss_total(t->task->loss, last->sums, (size_t)last->rows),
        .memory_needed = t->needed,
        .memory_taken = t->taken,
    };
    out->best_epoch = t->now.has_best ? t->now.best_epoch : out->epochs;
    for (int i = 0; i < t->task->loss->n_terms; i++) out->terms[i] = last->sums[i] / (double)last->rows;
}

/* Whether what the optimizer has belongs to the parameters that are kept. */
static bool state_fits(const struct trainer *t) {
    int64_t epochs = (t->now.step + t->steps_per_epoch - 1) / t->steps_per_epoch;
    if (!t->now.has_best || t->now.best_epoch == epochs) return true;
    say(t, "the parameters of epoch %lld are kept, but not the state of the optimizer, which is that of epoch %lld",
        (long long)t->now.best_epoch, (long long)epochs);
    return false;
}

/* Everything that is no longer needed goes first, so that the graph's copy takes no more than the run did. */
static int store_with_memory(struct trainer *t, struct graph *g, struct err *e) {
    const struct net_parameter *list;
    net_free(t->eval);
    t->eval = NULL;
    net_retire(t->net);
    int n = net_parameter_list(t->net, &list), status = net_store(t->net, g, e);
    struct net_parameter *kept = status ? NULL : mem_copy(list, (size_t)n * sizeof *list);
    if (!status && !kept) status = err_memory(e, (size_t)n * sizeof *list);
    net_free(t->net);
    t->net = NULL;
    struct graph_training how = {.rate = rate_of(t, t->now.step - 1),
                                 .peak = t->schedule.peak,
                                 .course = t->spec->schedule,
                                 .warmup = t->spec->warmup_steps};
    if (!status) status = carry_out(g, &t->optimizer, kept, n, &how, e);
    mem_free(kept);
    return status;
}

/* The optimizer goes first: its memory serves for the graph's. */
static int store(struct trainer *t, struct graph *g, struct err *e) {
    if (t->now.has_best) memcpy(net_parameters(t->net), t->best, net_parameter_count(t->net) * sizeof(real));
    mem_free(t->best);
    t->best = NULL;
    if (t->task->keep_memory && state_fits(t)) return store_with_memory(t, g, e);
    graph_forget_training(g); /* shares */
    optimizer_fini(&t->optimizer);
    return net_store(t->net, g, e);
}

int train_run(struct train_result *out, struct graph *g, struct crew *crew, const struct train_task *task,
              const struct train_hooks *hooks, struct err *e) {
    static const struct train_hooks nobody;
    struct trainer *t = mem_calloc(1, sizeof *t);
    if (!t) return err_memory(e, sizeof *t);
    t->task = task;
    t->spec = task->spec;
    t->hooks = hooks ? hooks : &nobody;
    t->crew = crew;
    int status = trainer_init(t, g, e);
    if (!status) status = resume(t, e);
    if (!status) status = run_steps(t, e);
    if (!status) {
        fill_result(out, t);
        status = store(t, g, e);
    }
    trainer_fini(t);
    mem_free(t);
    return status;
}
