/* carry.c - see carry.h. */
#include "engine/nn/carry.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "engine/nn/origin.h"

enum { REAL_TYPE = sizeof(real) == sizeof(float) ? DT_FLOAT32 : DT_FLOAT64 };

/* What is kept of a parameter, or of an origin, and where an optimizer has it. */
struct kept {
    const char *name;
    const struct shape *shape;
    struct array **memory, **share;
    size_t start, count;
};

static struct kept of_parameter(struct graph *g, const struct net_parameter *k) {
    struct value *v = &g->values[k->value];
    return (struct kept){v->name, &v->constant->shape, v->memory, v->share, k->start, k->count};
}

static struct kept of_origin(struct origin *o, const char *name, size_t start) {
    struct array **part = o->part, *w = part[ORIGIN_WEIGHTS];
    return (struct kept){name, &w->shape, &part[ORIGIN_MEMORY], &part[ORIGIN_SHARE], start, w->count};
}

bool carry_finds(const struct graph *g, int rule) {
    if (g->training.rule != rule) return false;
    for (int i = 0; i < g->n_values; i++)
        if (g->values[i].memory[0] || g->values[i].origin) return true;
    return false;
}

static void to_real(real *out, const struct array *a) {
    if (sizeof(real) == sizeof(float))
        array_to_float((float *)(void *)out, a, 0, a->count);
    else
        array_to_double((double *)(void *)out, a, 0, a->count);
}

static int take_memory(struct optimizer *o, const struct kept *k, struct err *e) {
    for (int c = 0; c < o->rule->copies; c++) {
        if (k->memory[c] && k->memory[c]->count != k->count)
            return err_set(e, E_INVALID, "of parameter '%s' with %zu elements the optimizer kept %zu", k->name,
                           k->count, k->memory[c]->count);
        if (k->memory[c]) to_real(o->state + (size_t)c * o->n + k->start, k->memory[c]);
        array_free(k->memory[c]);
        k->memory[c] = NULL;
    }
    return 0;
}

/* Elements along dimension d. */
static size_t length_of(const struct kept *k, int d) {
    return k->shape->rank > d ? (size_t)k->shape->dim[d] : 1;
}

/* Factors of pace and tilt at index i of a dimension; see optimizer_take_pace. */
static void factors_at(double *pace, double *tilt, const struct array *shares, size_t i, int power) {
    double share = 1;
    if (shares) array_to_double(&share, shares, i, 1);
    *pace = share < 0 ? -share : pow(share, -power);
    *tilt = share < 0 ? -1 / share : share;
}

static int set_pace(struct optimizer *o, const struct kept *k, struct err *e) {
    size_t rows = length_of(k, 0), columns = length_of(k, 1), at = k->start;
    size_t rest = rows && columns ? k->count / rows / columns : 0;
    double pace[2], tilt[2];
    for (int d = 0; d < 2; d++)
        if (k->share[d] && k->share[d]->count != (d ? columns : rows))
            return err_set(e, E_INVALID, "the shares of parameter '%s' do not fit its shape", k->name);
    for (size_t i = 0; i < rows; i++) {
        factors_at(&pace[0], &tilt[0], k->share[0], i, o->rule->power);
        for (size_t j = 0; j < columns; j++) {
            factors_at(&pace[1], &tilt[1], k->share[1], j, o->rule->power);
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

/* ---- origins ---- */

/* Walks over all that one parameter came from, those that follow others first. */
struct lineage {
    struct optimizer_origins *q; /* NULL: only measures */
    const char *name;            /* of the parameter */
    struct origins_size so_far;
};

static void note_scratch(struct lineage *l, size_t scratch) {
    if (scratch > l->so_far.scratch) l->so_far.scratch = scratch;
}

static int walk_trained(struct lineage *l, struct optimizer_carrier *c, struct origin *o, const struct shape *carrier,
                        struct err *e) {
    int status = frame_init(&c->frame, o, carrier, l->name, e);
    if (status) return status;
    struct kept k = of_origin(o, l->name, l->so_far.trained);
    c->from[0] = k.start;
    l->so_far.trained += k.count;
    note_scratch(l, frame_scratch(&c->frame));
    if (!l->q) return 0;
    to_real(l->q->weights + k.start, o->part[ORIGIN_WEIGHTS]);
    status = take_memory(&l->q->own, &k, e);
    return status ? status : set_pace(&l->q->own, &k, e);
}

/* `bias`: elements of what stands at c->at[1]. */
static int walk_merger(struct lineage *l, struct optimizer_carrier *c, struct merger *m, const struct shape *carrier,
                       size_t bias, struct err *e) {
    int status = joint_init(&c->joint, m, carrier, l->name, e);
    if (status) return status;
    c->merged = true;
    if (bias != (size_t)c->joint.c.out) c->at[1] = ORIGIN_NOWHERE;
    note_scratch(l, joint_scratch(&c->joint));
    for (int k = 0; k < MERGER_FACTORS; k++) {
        c->count[k] = m->factor[k] ? m->factor[k]->count : 0;
        c->from[k] = (l->q ? l->q->own.n : 0) + l->so_far.factors;
        l->so_far.factors += c->count[k];
        if (l->q && c->count[k]) to_real(l->q->weights + c->from[k], m->factor[k]);
    }
    return 0;
}

static int walk(struct lineage *l, struct optimizer_carrier carrier, struct origin *o, const struct shape *shape,
                size_t bias, struct err *e) {
    struct optimizer_carrier *c = l->q ? &l->q->carriers[l->so_far.carriers] : &carrier;
    *c = carrier;
    l->so_far.carriers++;
    struct merger *m = o->merger;
    int status = m ? walk_merger(l, c, m, shape, bias, e) : walk_trained(l, c, o, shape, e);
    for (int k = 0; k < MERGER_FACTORS && m && !status; k++) {
        size_t own_bias = k % 2 == 0 ? c->count[k + 1] : 0;
        struct optimizer_carrier inner = {.inner = true,
                                          .at = {c->from[k], own_bias ? c->from[k + 1] : ORIGIN_NOWHERE}};
        if (m->origin[k] && m->factor[k]) status = walk(l, inner, m->origin[k], &m->factor[k]->shape, own_bias, e);
    }
    return status;
}

static int measure_origins(struct origins_size *out, const struct graph *g, struct err *e) {
    struct lineage l = {0};
    int status = 0;
    for (int i = 0; i < g->n_values && !status; i++) {
        struct value *v = &g->values[i];
        l.name = v->name;
        if (v->origin) status = walk(&l, (struct optimizer_carrier){0}, v->origin, &v->constant->shape, 0, e);
    }
    *out = l.so_far;
    return status;
}

int carry_beside(size_t *bytes, const struct graph *g, const struct optimizer_rule *rule, struct err *e) {
    struct origins_size size = {0};
    int status = g->training.changed ? measure_origins(&size, g, e) : 0;
    *bytes = (size.trained * (size_t)(rule->copies + 5) + 3 * size.factors + (size.carriers ? size.scratch : 0)) *
             sizeof(real);
    return status;
}

/* The bias of the layer with those weights among the parameters, NULL when there is none. */
static const struct net_parameter *bias_of(const struct graph *g, int weights, const struct net_parameter *list,
                                           int count) {
    int bias = VALUE_NONE;
    for (int i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].n_inputs > 2 && g->nodes[i].inputs[1] == weights) bias = g->nodes[i].inputs[2];
    for (int i = 0; i < count && bias != VALUE_NONE; i++)
        if (list[i].value == bias && list[i].trainable) return &list[i];
    return NULL;
}

static int take_origins(struct optimizer *o, struct graph *g, const struct net_parameter *list, int count,
                        struct err *e) {
    struct origins_size size;
    int status = measure_origins(&size, g, e);
    if (!status && size.carriers) status = optimizer_take_origins(o, &size, e);
    struct lineage l = {.q = o->origins};
    for (int i = 0; i < count && !status && l.q; i++) {
        struct value *v = &g->values[list[i].value];
        if (!list[i].trainable || !v->origin) continue;
        const struct net_parameter *bias = v->origin->merger ? bias_of(g, list[i].value, list, count) : NULL;
        struct optimizer_carrier c = {.at = {list[i].start, bias ? bias->start : ORIGIN_NOWHERE}};
        l.name = v->name;
        status = walk(&l, c, v->origin, &v->constant->shape, bias ? bias->count : 0, e);
    }
    if (l.q) l.q->n_carriers = l.so_far.carriers;
    if (!status && l.q) mark_new(&l.q->own);
    return status;
}

/* ---- in, out ---- */

int carry_in(struct optimizer *o, const struct net *n, struct graph *g, struct err *e) {
    const struct net_parameter *list;
    int count = net_parameter_list(n, &list);
    int status = g->training.changed ? optimizer_take_pace(o, e) : 0;
    for (int i = 0; i < count && !status; i++) {
        if (!list[i].trainable) continue;
        struct kept k = of_parameter(g, &list[i]);
        status = take_memory(o, &k, e);
        if (!status && o->pace) status = set_pace(o, &k, e);
    }
    if (!status && o->pace) mark_new(o);
    if (!status && o->pace) status = take_origins(o, g, list, count, e);
    o->steps = o->begun = g->training.steps;
    o->since = g->training.since;
    if (status) graph_forget_training(g);
    g->training = (struct graph_training){.rule = -1};
    return status;
}

static int keep(const struct kept *k, const struct optimizer *o, bool young, struct err *e) {
    for (int c = 0; c < o->rule->copies; c++) {
        int status = array_new(&k->memory[c], (enum dtype)REAL_TYPE, k->shape, e);
        if (status) return status;
        real *kept = k->memory[c]->data;
        memcpy(kept, o->state + (size_t)c * o->n + k->start, k->count * sizeof(real));
        for (size_t i = 0; i < k->count; i++)
            if (young && o->pace[k->start + i] == 0)
                kept[i] = 0;
            else if (kept[i] == 0)
                kept[i] = -(real)0;
    }
    return 0;
}

static int keep_numbers(struct array **a, const real *now, struct err *e) {
    struct array *fresh;
    int status = array_new(&fresh, (enum dtype)REAL_TYPE, &(*a)->shape, e);
    if (status) return status;
    memcpy(fresh->data, now, fresh->count * sizeof(real));
    array_free(*a);
    *a = fresh;
    return 0;
}

/* Origins and factors as they are now, and what is kept of them, in the order of walk. */
static int keep_origin(struct lineage *l, struct origin *o, struct err *e) {
    if (!o->merger) {
        size_t start = l->so_far.trained;
        l->so_far.trained += o->part[ORIGIN_WEIGHTS]->count;
        int status = keep_numbers(&o->part[ORIGIN_WEIGHTS], l->q->weights + start, e);
        struct kept k = of_origin(o, l->name, start);
        return status ? status : keep(&k, &l->q->own, true, e);
    }
    int status = 0;
    for (int k = 0; k < MERGER_FACTORS && !status; k++) {
        struct array **factor = &o->merger->factor[k];
        if (!*factor) continue;
        status = keep_numbers(factor, l->q->weights + l->q->own.n + l->so_far.factors, e);
        l->so_far.factors += (*factor)->count;
    }
    for (int k = 0; k < MERGER_FACTORS && !status; k++)
        if (o->merger->origin[k]) status = keep_origin(l, o->merger->origin[k], e);
    return status;
}

int carry_out(struct graph *g, const struct optimizer *o, const struct net_parameter *list, int n,
              const struct graph_training *how, struct err *e) {
    bool young = optimizer_is_young(o);
    int status = 0;
    struct lineage l = {.q = o->origins};
    if (!young) graph_forget_training(g); /* shares, origins */
    for (int i = 0; i < n && !status; i++) {
        if (!list[i].trainable) continue;
        struct value *v = &g->values[list[i].value];
        struct kept k = of_parameter(g, &list[i]);
        status = keep(&k, o, young, e);
        l.name = v->name;
        if (!status && v->origin) status = keep_origin(&l, v->origin, e);
    }
    if (status) {
        graph_forget_training(g);
        return status;
    }
    g->training = *how;
    g->training.rule = (int)(o->rule - optimizer_table);
    g->training.steps = o->steps;
    g->training.changed = young;
    g->training.since = o->since;
    return 0;
}
