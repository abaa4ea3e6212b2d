/* narrow_refit.c - layers fitted to what they gave before channels went: linear least squares on calibration data
 * (refit.h), of what is missing rather than of everything, so that a layer that lost nothing stays as it is.
 *
 * The ridge that keeps badly determined weights small also keeps the others from their place; repeating the fit with
 * what is still missing takes that back where the data determine the weights. How strong a ridge has to be the samples
 * held out tell: of several the strongest is taken that does about as well on them as the best, provided that it beats
 * plain selection. Where channels nearly depend on each other, as copies do that have parted in training, even so
 * weights may come out that are large and cancel; a fit that leaves them too large does not count. */
#include "engine/surgery/narrow.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "engine/kernels/lapack.h"
#include "engine/surgery/edit.h"
#include "engine/surgery/linear.h"
#include "engine/surgery/lossy.h"
#include "engine/surgery/patches.h"
#include "engine/surgery/refit.h"

enum { ROUNDS = 3, CHUNK = 512 };
#define BUDGET ((size_t)1 << 28) /* bytes, when nobody says */
#define ABOUT_AS_WELL 1.02       /* times the smallest error on held-out samples */
#define GROWTH 2.0               /* of the largest weight, beyond what fewer inputs have to make up for */

static const double ridges[] = {1, 1e-2, 1e-4, REFIT_RIDGE}; /* as refit_options */
enum { RIDGES = sizeof ridges / sizeof *ridges };

/* ---- rows: what a layer reads and should give ---- */

struct rows {
    struct patches p;
    double *y; /* [samples][channels][pixels], of the parent */
    size_t channels;
    const int32_t *origin; /* [out]: which of these channels each of the layer's was */
};

static void rows_fini(struct rows *r) {
    patches_close(&r->p);
    mem_free(r->y);
}

static int open_rows(struct rows *r, const struct linear *l, struct morphing *m, const struct graph *parent,
                     const int32_t *origin, size_t budget, struct err *e) {
    size_t more;
    r->origin = origin;
    int status = patches_open(&r->p, l, m, budget / 2, e);
    if (!status) status = patches_sample(&r->y, &more, m->data, parent, l->made, r->p.samples, e);
    if (!status) r->channels = patches_elements(parent, l->made) / r->p.pixels;
    if (!status && more != r->p.samples)
        status = err_set(e, E_INVALID, "%zu samples of what it reads, %zu of what it gave", r->p.samples, more);
    return status;
}

/* ---- what is missing ---- */

/* Rows of [patch, what is missing] for one group. */
struct table {
    const struct rows *r;
    int64_t group;
    size_t inputs, outs, width;
    double *z, *given; /* [CHUNK][width], [CHUNK][outs] */
};

/* Rows number `index`, index + 1, ... of `all`, spread over them. Returns how many. */
static size_t fill_chunk(struct table *t, size_t first_row, size_t all, size_t wanted, size_t index) {
    const struct linear *l = t->r->p.l;
    size_t n = wanted - index < CHUNK ? wanted - index : CHUNK, pixels = t->r->p.pixels;
    for (size_t k = 0; k < n; k++) {
        size_t row = first_row + patches_spread(index + k, wanted, all);
        double *z = t->z + k * t->width;
        patches_row(z, &t->r->p, row, t->group);
        for (size_t o = 0; o < t->outs; o++) {
            size_t channel = (size_t)t->r->origin[(size_t)t->group * t->outs + o];
            z[t->inputs + o] = t->r->y[(row / pixels * t->r->channels + channel) * pixels + row % pixels];
        }
    }
    lapack_product(false, true, n, t->outs, t->inputs, t->z, t->width,
                   l->weights + (size_t)t->group * t->outs * t->inputs, t->inputs, t->given, t->outs, false);
    for (size_t k = 0; k < n; k++)
        for (size_t o = 0; o < t->outs; o++)
            t->z[k * t->width + t->inputs + o] -= t->given[k * t->outs + o] + l->bias[(size_t)t->group * t->outs + o];
    return n;
}

static int open_table(struct table *t, const struct rows *r, struct err *e) {
    *t =
        (struct table){.r = r, .inputs = (size_t)linear_fan_in(r->p.l), .outs = (size_t)(r->p.l->out / r->p.l->groups)};
    t->width = t->inputs + t->outs;
    t->z = mem_alloc(CHUNK * t->width * sizeof *t->z);
    t->given = mem_alloc(CHUNK * t->outs * sizeof *t->given);
    if (t->z && t->given) return 0;
    return err_memory(e, CHUNK * t->width * sizeof *t->z);
}

static void table_fini(struct table *t) {
    mem_free(t->z);
    mem_free(t->given);
}

/* Norm of what is missing over that of what the layer gave, over all groups. */
static double missing(struct table *t, size_t from, size_t to) {
    const struct linear *l = t->r->p.l;
    size_t pixels = t->r->p.pixels, all = (to - from) * pixels, rows = patches_enough(t->inputs, all);
    double left = 0, whole = 0;
    for (t->group = 0; t->group < l->groups; t->group++)
        for (size_t at = 0, n; at < rows; at += n) {
            n = fill_chunk(t, from * pixels, all, rows, at);
            for (size_t k = 0; k < n; k++)
                for (size_t o = 0; o < t->outs; o++) {
                    double rest = t->z[k * t->width + t->inputs + o];
                    double y = rest + t->given[k * t->outs + o] + l->bias[(size_t)t->group * t->outs + o];
                    left += rest * rest, whole += y * y;
                }
        }
    return whole > 0 ? sqrt(left / whole) : 0;
}

/* ---- the fit of one group ---- */

struct fit {
    double *gram, *sum;         /* [width][width], [width] */
    double *pick, *more, *bias; /* [outs][width]: that what is missing is wanted; [outs][inputs], [outs]: what to add */
    int *kept;
};

static void fit_fini(struct fit *f) {
    mem_free(f->gram);
    mem_free(f->sum);
    mem_free(f->pick);
    mem_free(f->more);
    mem_free(f->bias);
    mem_free(f->kept);
}

static int open_fit(struct fit *f, const struct table *t, struct err *e) {
    size_t square, n = t->width;
    *f = (struct fit){0};
    if (!mem_mul(&square, n, n) || square > LAPACK_MOST)
        return err_set(e, E_TOO_LARGE, "%zu weights of one channel are too many to be fitted", t->inputs);
    f->gram = mem_calloc(square, sizeof *f->gram);
    f->sum = mem_calloc(n, sizeof *f->sum);
    f->pick = mem_calloc(t->outs * n, sizeof *f->pick);
    f->more = mem_calloc(t->outs * t->inputs, sizeof *f->more);
    f->bias = mem_calloc(t->outs, sizeof *f->bias);
    f->kept = mem_calloc(t->inputs, sizeof *f->kept);
    if (!f->gram || !f->sum || !f->pick || !f->more || !f->bias || !f->kept) {
        fit_fini(f);
        return err_memory(e, square * sizeof *f->gram);
    }
    for (size_t o = 0; o < t->outs; o++) f->pick[o * n + t->inputs + o] = 1;
    for (size_t i = 0; i < t->inputs; i++) f->kept[i] = (int)i;
    return 0;
}

static size_t gather(struct fit *f, struct table *t, size_t samples) {
    size_t all = samples * t->r->p.pixels, rows = patches_enough(t->inputs, all), width = t->width;
    for (size_t at = 0, n; at < rows; at += n) {
        n = fill_chunk(t, 0, all, rows, at);
        lapack_product(true, false, width, width, n, t->z, width, t->z, width, f->gram, width, at > 0);
        for (size_t k = 0; k < n; k++)
            for (size_t i = 0; i < width; i++) f->sum[i] += t->z[k * width + i];
    }
    return rows;
}

/* After the weights were changed by f->more and f->bias: the statistics of what is missing now. */
static void take_back(struct fit *f, const struct table *t, size_t rows) {
    size_t n = t->width, inputs = t->inputs;
    for (size_t o = 0; o < t->outs; o++) {
        const double *d = f->more + o * inputs;
        double sum = f->bias[o] * (double)rows;
        for (size_t i = 0; i < inputs; i++) {
            double moved = f->bias[o] * f->sum[i];
            for (size_t k = 0; k < inputs; k++) moved += d[k] * f->gram[i * n + k];
            f->gram[i * n + inputs + o] -= moved;
            f->gram[(inputs + o) * n + i] -= moved;
            sum += d[i] * f->sum[i];
        }
        f->sum[inputs + o] -= sum;
    }
}

/* What comes of one ridge. */
struct trial {
    double *weights, *bias; /* of the whole layer */
    bool solved;            /* in every group */
    double largest;         /* weight */
    double error[2];        /* what is missing: calibration, held out */
};

static void trials_fini(struct trial *trials) {
    for (int k = 0; k < RIDGES; k++) {
        mem_free(trials[k].weights);
        mem_free(trials[k].bias);
    }
}

/* From the layer as it was selected. */
static int trials_init(struct trial *trials, const struct linear *l, struct err *e) {
    size_t n = (size_t)(l->out * linear_fan_in(l)) * sizeof *l->weights, outs = (size_t)l->out * sizeof *l->bias;
    memset(trials, 0, RIDGES * sizeof *trials);
    for (int k = 0; k < RIDGES; k++) {
        trials[k].weights = mem_copy(l->weights, n);
        trials[k].bias = mem_copy(l->bias, outs);
        trials[k].solved = true;
        if (!trials[k].weights || !trials[k].bias) return err_memory(e, n);
    }
    return 0;
}

/* One group of one trial: some rounds of the fit. */
static int solve(struct trial *trial, double ridge, struct fit *f, const struct table *t, size_t rows, struct err *e) {
    struct refit_options options = {.ridge = ridge};
    double *w = trial->weights + (size_t)t->group * t->outs * t->inputs, *b = trial->bias + (size_t)t->group * t->outs;
    double error;
    for (int round = 0; round < ROUNDS; round++) {
        struct refit_data data = {(int)t->width, f->gram, f->sum, (double)rows};
        int status = refit_weights(f->more, f->bias, &error, &data, &options, f->pick, NULL, (int)t->outs, f->kept,
                                   (int)t->inputs, e);
        if (status) return status;
        for (size_t i = 0; i < t->outs * t->inputs; i++) w[i] += f->more[i];
        for (size_t o = 0; o < t->outs; o++) b[o] += f->bias[o];
        take_back(f, t, rows);
    }
    return 0;
}

static int fit_group(struct trial *trials, struct table *t, size_t samples, struct err *e) {
    struct fit f;
    double *gram = NULL, *sum = NULL;
    size_t square = t->width * t->width * sizeof *gram;
    int status = open_fit(&f, t, e);
    if (status) return status;
    size_t rows = gather(&f, t, samples);
    gram = mem_copy(f.gram, square);
    sum = mem_copy(f.sum, t->width * sizeof *sum);
    if (!gram || !sum) status = err_memory(e, square);
    for (int k = 0; k < RIDGES && !status; k++) {
        struct err why = {0};
        memcpy(f.gram, gram, square);
        memcpy(f.sum, sum, t->width * sizeof *sum);
        if (trials[k].solved) status = solve(&trials[k], ridges[k], &f, t, rows, &why);
        if (status == E_UNSUPPORTED) status = 0, trials[k].solved = false; /* too weak a ridge */
        if (status) err_set(e, status, "%s", why.text);
    }
    mem_free(gram);
    mem_free(sum);
    fit_fini(&f);
    return status;
}

/* ---- one layer ---- */

struct outcome {
    double selected[2], fitted[2]; /* what is missing: calibration, held out */
    double weight[2];              /* the largest: as selected, as fitted */
    int ridge;                     /* of the fit that is in the graph; -1: none */
};

/* Bytes of the tables of one group, and of the trials. */
static double room_of(const struct linear *l) {
    double n = (double)(linear_fan_in(l) + l->out / l->groups);
    return (5 * n * n + RIDGES * (double)l->out * (double)linear_fan_in(l)) * sizeof(double);
}

static double largest(const double *x, size_t n) {
    double most = 0;
    for (size_t i = 0; i < n; i++) most = fmax(most, fabs(x[i]));
    return most;
}

/* The layer with the weights of the trial, or back. */
static void exchange(struct linear *l, struct trial *trial) {
    double *w = l->weights, *b = l->bias;
    l->weights = trial->weights, l->bias = trial->bias;
    trial->weights = w, trial->bias = b;
}

static void measure(struct trial *trial, struct linear *l, struct table *t, size_t calibrate) {
    exchange(l, trial);
    trial->largest = largest(l->weights, (size_t)(l->out * linear_fan_in(l)));
    trial->error[0] = missing(t, 0, calibrate);
    trial->error[1] = missing(t, calibrate, t->r->p.samples);
    exchange(l, trial);
}

static bool counts(const struct trial *trial, const struct outcome *o, double bound) {
    return trial->solved && trial->largest <= bound && trial->error[1] < o->selected[1];
}

/* The strongest ridge that does about as well as the best. */
static int choose(const struct trial *trials, const struct outcome *o, double bound) {
    double best = INFINITY;
    for (int k = 0; k < RIDGES; k++)
        if (counts(&trials[k], o, bound)) best = fmin(best, trials[k].error[1]);
    for (int k = 0; k < RIDGES; k++)
        if (counts(&trials[k], o, bound) && trials[k].error[1] <= ABOUT_AS_WELL * best) return k;
    return -1;
}

/* `bound`: what the largest weight may be. */
static int fit_layer(struct outcome *out, struct linear *l, struct rows *r, double bound, struct err *e) {
    struct table t;
    struct trial trials[RIDGES];
    size_t calibrate = lossy_calibrate(r->p.samples);
    int status = open_table(&t, r, e), opened = !status;
    if (!status) status = trials_init(trials, l, e);
    out->selected[0] = status ? 0 : missing(&t, 0, calibrate);
    out->selected[1] = status ? 0 : missing(&t, calibrate, r->p.samples);
    out->weight[0] = largest(l->weights, (size_t)(l->out * linear_fan_in(l)));
    for (t.group = 0; !status && t.group < l->groups; t.group++) status = fit_group(trials, &t, calibrate, e);
    for (int k = 0; k < RIDGES && !status; k++)
        if (trials[k].solved) measure(&trials[k], l, &t, calibrate);
    out->ridge = status ? -1 : choose(trials, out, bound);
    if (out->ridge >= 0) {
        struct trial *chosen = &trials[out->ridge];
        memcpy(out->fitted, chosen->error, sizeof out->fitted);
        out->weight[1] = chosen->largest;
        exchange(l, chosen);
    }
    if (opened) trials_fini(trials);
    table_fini(&t);
    return status;
}

/* What the largest weight may be after the fit: what one input did, several may have to be made up for by fewer. */
static int find_bound(double *bound, const struct linear *l, const struct graph *parent, const char *layer,
                      struct err *e) {
    struct linear old = {0};
    int status = linear_read(&old, parent, graph_find_node(parent, layer), e);
    if (status) return status;
    double more = (double)linear_fan_in(&old) / (double)linear_fan_in(l);
    double before = largest(old.weights, (size_t)(old.out * linear_fan_in(&old)));
    *bound = GROWTH * fmax(more * before, largest(l->weights, (size_t)(l->out * linear_fan_in(l))));
    linear_fini(&old);
    return 0;
}

/* The layer as it was fitted. It reads what it read before, so what an optimizer keeps of its weights stays. */
static int write_layer(struct morphing *m, const struct linear *l, struct err *e) {
    struct value *v = &m->graph->values[m->graph->nodes[l->node].inputs[1]], old = *v;
    memset(v->memory, 0, sizeof v->memory);
    memset(v->share, 0, sizeof v->share);
    v->origin = NULL;
    int status = linear_write(m->graph, l, e);
    v = &m->graph->values[m->graph->nodes[l->node].inputs[1]];
    memcpy(v->memory, old.memory, sizeof v->memory);
    memcpy(v->share, old.share, sizeof v->share);
    v->origin = old.origin;
    return status ? status : morphing_finish(m, e);
}

/* Whether a layer may stay as it was selected because of that. */
static bool is_reason(int status) {
    return status == E_UNSUPPORTED || status == E_TOO_LARGE || status == E_INVALID;
}

/* Fits a layer that was read; in a sketch only sees whether it could be. */
static int try_layer(struct outcome *out, struct linear *l, struct morphing *m, const struct graph *parent,
                     const int32_t *origin, struct err *e) {
    struct rows rows = {0};
    size_t budget = m->memory ? m->memory / 2 : BUDGET;
    double bound = 0;
    if (room_of(l) > (double)budget)
        return err_set(e, E_TOO_LARGE, "fitting it takes %.0f MiB; %zu MiB are allowed", room_of(l) / (1 << 20),
                       budget >> 20);
    int status = open_rows(&rows, l, m, parent, origin, budget, e);
    if (!status && !m->sketch) status = find_bound(&bound, l, parent, m->graph->nodes[l->node].name, e);
    if (!status && !m->sketch) status = fit_layer(out, l, &rows, bound, e);
    rows_fini(&rows);
    return status;
}

/* The layer as it was fitted, or as it was selected: with a bias in any case, since how many parameters there are must
 * hang neither on the data nor on the memory that computing them takes, which a dry run does not know. */
static int put_layer(struct morphing *m, struct linear *l, bool fitted, struct err *e) {
    bool biased = l->has_bias;
    l->has_bias = true;
    if (fitted) return write_layer(m, l, e);
    if (biased) return 0;
    int status = linear_write_bias(m->graph, l, e);
    return status ? status : morphing_finish(m, e);
}

/* One layer; *why is what keeps it from being fitted. */
static int refit_layer(struct outcome *out, struct err *why, struct morphing *m, const struct graph *parent,
                       const int32_t *origin, int node, struct err *e) {
    const struct uses *uses;
    struct linear l = {0};
    int status = morphing_uses(&uses, m, e);
    if (status) return status;
    status = linear_check_own(m->graph, uses, node, why);
    if (!status) status = linear_read(&l, m->graph, node, why);
    bool read = !status;
    if (!status) status = try_layer(out, &l, m, parent, origin, why);
    if (status && !is_reason(status))
        status = err_set(e, status, "%s", why->text);
    else
        status = read ? put_layer(m, &l, out->ridge >= 0, e) : 0;
    linear_fini(&l);
    return status;
}

static void report(struct json_writer *w, const char *layer, const struct outcome *o, const struct err *why) {
    if (!w) return;
    json_open_object(w, NULL);
    json_put_string(w, "layer", layer);
    if (why) {
        json_put_string(w, "not_fitted", why->text);
    } else {
        bool fitted = o->ridge >= 0;
        json_put_bool(w, "fitted", fitted);
        if (fitted) json_put_number(w, "ridge", ridges[o->ridge]);
        json_put_number(w, "error_selected", o->selected[0]);
        json_put_number(w, "error", fitted ? o->fitted[0] : o->selected[0]);
        json_put_number(w, "held_out_error_selected", o->selected[1]);
        json_put_number(w, "held_out_error", fitted ? o->fitted[1] : o->selected[1]);
        json_put_number(w, "largest_weight_selected", o->weight[0]);
        json_put_number(w, "largest_weight", o->weight[fitted]);
    }
    json_close_object(w);
}

int narrow_refit(struct morphing *m, const struct graph *parent, int32_t *const *origins, struct json_writer *w,
                 struct err *e) {
    int status = 0, n = m->graph->n_nodes;
    if (w) json_open_array(w, "fits");
    for (int i = 0; i < n && !status; i++) {
        const struct node *node = &m->graph->nodes[i];
        struct outcome outcome = {.ridge = -1};
        struct err why = {0};
        if (node->n_inputs < 2 || node->inputs[1] == VALUE_NONE || node->inputs[1] >= parent->n_values ||
            !origins[node->inputs[1]])
            continue;
        status = refit_layer(&outcome, &why, m, parent, origins[node->inputs[1]], i, e);
        if (!status) report(w, m->graph->nodes[i].name, &outcome, why.code ? &why : NULL);
    }
    if (w) json_close_array(w);
    return status ? status : lossy_write(w, "output", m, parent, m->graph->outputs[0], e);
}
