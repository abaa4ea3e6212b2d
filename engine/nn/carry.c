/* carry.c - see carry.h. */
#include "engine/nn/carry.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"

enum { REAL_TYPE = sizeof(real) == sizeof(float) ? DT_FLOAT32 : DT_FLOAT64 };

bool carry_finds(const struct graph *g, int rule) {
    if (g->training.rule != rule) return false;
    for (int i = 0; i < g->n_values; i++)
        for (int k = 0; k < VALUE_MEMORIES; k++)
            if (g->values[i].memory[k]) return true;
    return false;
}

static void to_real(real *out, const struct array *a) {
    if (sizeof(real) == sizeof(float))
        array_to_float((float *)(void *)out, a, 0, a->count);
    else
        array_to_double((double *)(void *)out, a, 0, a->count);
}

static int take_memory(struct optimizer *o, struct graph *g, const struct net_parameter *k, struct err *e) {
    struct value *v = &g->values[k->value];
    for (int c = 0; c < o->rule->copies; c++) {
        const struct array *kept = v->memory[c];
        if (kept && kept->count != k->count)
            return err_set(e, E_INVALID, "of parameter '%s' with %zu elements the optimizer kept %zu", v->name,
                           k->count, kept->count);
        if (kept) to_real(o->state + (size_t)c * o->n + k->start, kept);
        array_free(v->memory[c]);
        v->memory[c] = NULL;
    }
    return 0;
}

/* Elements along dimension d and those behind it. */
static size_t length_of(const struct value *v, int d) {
    return v->constant->shape.rank > d ? (size_t)v->constant->shape.dim[d] : 1;
}

/* Factors of pace and tilt at index i of a dimension; see optimizer_take_pace. */
static void factors_at(double *pace, double *tilt, const struct array *shares, size_t i, int power) {
    double share = 1;
    if (shares) array_to_double(&share, shares, i, 1);
    *pace = share < 0 ? -share : pow(share, -power);
    *tilt = share < 0 ? -1 / share : share;
}

static int set_pace(struct optimizer *o, const struct value *v, const struct net_parameter *k, struct err *e) {
    size_t rows = length_of(v, 0), columns = length_of(v, 1), at = k->start;
    size_t rest = rows && columns ? k->count / rows / columns : 0;
    double pace[2], tilt[2];
    for (int d = 0; d < 2; d++)
        if (v->share[d] && v->share[d]->count != (d ? columns : rows))
            return err_set(e, E_INVALID, "the shares of parameter '%s' do not fit its shape", v->name);
    for (size_t i = 0; i < rows; i++) {
        factors_at(&pace[0], &tilt[0], v->share[0], i, o->rule->power);
        for (size_t j = 0; j < columns; j++) {
            factors_at(&pace[1], &tilt[1], v->share[1], j, o->rule->power);
            for (size_t r = 0; r < rest; r++, at++) {
                o->pace[at] = (real)(pace[0] * pace[1]);
                o->pace[o->n + at] = (real)(tilt[0] * tilt[1]);
            }
        }
    }
    return 0;
}

/* 0 everywhere: see graph.h. */
static void mark_new(struct optimizer *o) {
    for (size_t i = 0; i < o->n; i++) {
        bool fresh = true;
        for (int c = 0; c < o->rule->copies; c++) {
            real kept = o->state[(size_t)c * o->n + i];
            fresh = fresh && kept == 0 && !signbit(kept);
        }
        if (fresh) o->pace[i] = 0;
    }
}

int carry_in(struct optimizer *o, const struct net *n, struct graph *g, struct err *e) {
    const struct net_parameter *list;
    int count = net_parameter_list(n, &list);
    int status = g->training.changed ? optimizer_take_pace(o, e) : 0;
    for (int i = 0; i < count && !status; i++) {
        if (!list[i].trainable) continue;
        status = take_memory(o, g, &list[i], e);
        if (!status && o->pace) status = set_pace(o, &g->values[list[i].value], &list[i], e);
    }
    if (!status && o->pace) mark_new(o);
    o->steps = o->since = g->training.steps;
    if (status) graph_forget_training(g);
    g->training = (struct graph_training){.rule = -1};
    return status;
}

static int keep_one(struct graph *g, const struct optimizer *o, const struct net_parameter *k, struct err *e) {
    struct value *v = &g->values[k->value];
    for (int c = 0; c < o->rule->copies; c++) {
        int status = array_new(&v->memory[c], (enum dtype)REAL_TYPE, &v->constant->shape, e);
        if (status) return status;
        real *kept = v->memory[c]->data;
        memcpy(kept, o->state + (size_t)c * o->n + k->start, k->count * sizeof(real));
        for (size_t i = 0; i < k->count; i++)
            if (optimizer_is_young(o) && o->pace[k->start + i] == 0)
                kept[i] = 0;
            else if (kept[i] == 0)
                kept[i] = -(real)0;
    }
    return 0;
}

int carry_out(struct graph *g, const struct optimizer *o, const struct net_parameter *list, int n, double rate,
              double peak, struct err *e) {
    bool young = optimizer_is_young(o);
    int status = 0;
    if (!young) graph_forget_training(g); /* shares */
    for (int i = 0; i < n && !status; i++)
        if (list[i].trainable) status = keep_one(g, o, &list[i], e);
    if (status)
        graph_forget_training(g);
    else
        g->training = (struct graph_training){
            .rule = (int)(o->rule - optimizer_table), .steps = o->steps, .rate = rate, .peak = peak, .changed = young};
    return status;
}
