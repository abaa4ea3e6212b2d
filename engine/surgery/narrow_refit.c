/* narrow_refit.c - layers fitted to what they gave before channels went: linear least squares on calibration data
 * (refit.h), of what is missing rather than of everything, so that a layer that lost nothing stays as it is.
 *
 * The ridge that keeps badly determined weights small also keeps the others from their place; repeating the fit with
 * what is still missing takes that back where the data determine the weights. */
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

static int fit_group(struct linear *l, struct table *t, size_t samples, struct err *e) {
    static const struct refit_options options = {.ridge = -1};
    struct fit f;
    double error;
    int status = open_fit(&f, t, e);
    if (status) return status;
    size_t rows = gather(&f, t, samples);
    double *w = l->weights + (size_t)t->group * t->outs * t->inputs, *b = l->bias + (size_t)t->group * t->outs;
    for (int round = 0; round < ROUNDS && !status; round++) {
        struct refit_data data = {(int)t->width, f.gram, f.sum, (double)rows};
        status = refit_weights(f.more, f.bias, &error, &data, &options, f.pick, NULL, (int)t->outs, f.kept,
                               (int)t->inputs, e);
        for (size_t i = 0; i < t->outs * t->inputs && !status; i++) w[i] += f.more[i];
        for (size_t o = 0; o < t->outs && !status; o++) b[o] += f.bias[o];
        if (!status) take_back(&f, t, rows);
    }
    fit_fini(&f);
    return status;
}

/* ---- one layer ---- */

struct outcome {
    double selected[2], fitted[2]; /* calibration, held out */
    bool kept;                     /* the fit is in the graph */
};

/* Bytes of the tables of one group. */
static double room_of(const struct linear *l) {
    double n = (double)(linear_fan_in(l) + l->out / l->groups);
    return 4 * n * n * sizeof(double);
}

static int fit_layer(struct outcome *out, struct linear *l, struct rows *r, struct err *e) {
    struct table t;
    size_t calibrate = lossy_calibrate(r->p.samples);
    size_t n = (size_t)(l->out * linear_fan_in(l));
    double *w = mem_copy(l->weights, n * sizeof *w), *b = mem_copy(l->bias, (size_t)l->out * sizeof *b);
    int status = w && b ? open_table(&t, r, e) : err_memory(e, n * sizeof *w);
    if (!status) {
        out->selected[0] = missing(&t, 0, calibrate);
        out->selected[1] = missing(&t, calibrate, r->p.samples);
        for (int64_t group = 0; group < l->groups && !status; group++) {
            t.group = group;
            status = fit_group(l, &t, calibrate, e);
        }
    }
    if (!status) {
        out->fitted[0] = missing(&t, 0, calibrate);
        out->fitted[1] = missing(&t, calibrate, r->p.samples);
        out->kept = out->fitted[1] < out->selected[1];
    }
    if (w && b) table_fini(&t);
    if (w && b && !out->kept) {
        memcpy(l->weights, w, n * sizeof *w);
        memcpy(l->bias, b, (size_t)l->out * sizeof *b);
    }
    mem_free(w);
    mem_free(b);
    return status;
}

static int try_layer(struct outcome *out, struct morphing *m, const struct graph *parent, const int32_t *origin,
                     int node, struct err *e) {
    const struct uses *uses;
    struct linear l = {0};
    struct rows rows = {0};
    size_t budget = m->memory ? m->memory / 2 : BUDGET;
    int status = morphing_uses(&uses, m, e);
    if (!status) status = linear_check_own(m->graph, uses, node, e);
    if (!status) status = linear_read(&l, m->graph, node, e);
    if (!status && room_of(&l) > (double)budget)
        status = err_set(e, E_TOO_LARGE, "fitting it takes %.0f MiB; %zu MiB are allowed", room_of(&l) / (1 << 20),
                         budget >> 20);
    if (!status) status = open_rows(&rows, &l, m, parent, origin, budget, e);
    if (!status) status = fit_layer(out, &l, &rows, e);
    if (!status && out->kept) status = linear_write(m->graph, &l, e);
    if (!status && out->kept) status = morphing_finish(m, e);
    rows_fini(&rows);
    linear_fini(&l);
    return status;
}

/* Whether a layer may stay as it was selected because of that. */
static bool is_reason(int status) {
    return status == E_UNSUPPORTED || status == E_TOO_LARGE || status == E_INVALID;
}

static void report(struct json_writer *w, const char *layer, const struct outcome *o, const struct err *why) {
    if (!w) return;
    json_open_object(w, NULL);
    json_put_string(w, "layer", layer);
    if (why) {
        json_put_string(w, "not_fitted", why->text);
    } else {
        json_put_bool(w, "fitted", o->kept);
        json_put_number(w, "error_selected", o->selected[0]);
        json_put_number(w, "error", o->kept ? o->fitted[0] : o->selected[0]);
        json_put_number(w, "held_out_error_selected", o->selected[1]);
        json_put_number(w, "held_out_error", o->kept ? o->fitted[1] : o->selected[1]);
    }
    json_close_object(w);
}

int narrow_refit(struct morphing *m, const struct graph *parent, int32_t *const *origins, struct json_writer *w,
                 struct err *e) {
    int status = 0, n = m->graph->n_nodes;
    if (w) json_open_array(w, "fits");
    for (int i = 0; i < n && !status; i++) {
        const struct node *node = &m->graph->nodes[i];
        struct outcome outcome = {0};
        struct err why = {0};
        if (node->n_inputs < 2 || node->inputs[1] == VALUE_NONE || node->inputs[1] >= parent->n_values ||
            !origins[node->inputs[1]])
            continue;
        status = try_layer(&outcome, m, parent, origins[node->inputs[1]], i, &why);
        if (status && !is_reason(status)) return err_set(e, status, "%s", why.text);
        report(w, m->graph->nodes[i].name, &outcome, status ? &why : NULL);
        status = 0;
    }
    if (w) json_close_array(w);
    return status ? status : lossy_write(w, "output", m->data, parent, m->graph, m->graph->outputs[0], e);
}
