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

static struct kept of_origin(struct graph *g, int value, size_t start) {
    struct array **part = g->values[value].origin->part, *w = part[ORIGIN_WEIGHTS];
    return (struct kept){g->values[value].name, &w->shape, &part[ORIGIN_MEMORY], &part[ORIGIN_SHARE], start, w->count};
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

/* Elements of the origins, how many parameters carry them, and reals of scratch. */
struct origins_size {
    size_t n, scratch;
    int carriers;
};

static int measure_origins(struct origins_size *out, const struct graph *g, struct err *e) {
    int status = 0;
    *out = (struct origins_size){0};
    for (int i = 0; i < g->n_values && !status; i++) {
        struct frame f;
        if (!g->values[i].origin) continue;
        status = frame_init(&f, &g->values[i], e);
        if (status) break;
        out->n += g->values[i].origin->part[ORIGIN_WEIGHTS]->count;
        out->carriers++;
        if (frame_scratch(&f) > out->scratch) out->scratch = frame_scratch(&f);
    }
    return status;
}

int carry_beside(size_t *bytes, const struct graph *g, const struct optimizer_rule *rule, struct err *e) {
    struct origins_size size = {0};
    int status = g->training.changed ? measure_origins(&size, g, e) : 0;
    *bytes = size.n ? (size.n * (size_t)(rule->copies + 5) + size.scratch) * sizeof(real) : 0;
    return status;
}

static int take_origins(struct optimizer *o, struct graph *g, const struct net_parameter *list, int count,
                        struct err *e) {
    struct origins_size size;
    size_t start = 0;
    int status = measure_origins(&size, g, e);
    if (!status && size.carriers) status = optimizer_take_origins(o, size.n, size.carriers, size.scratch, e);
    struct optimizer_carrier *c = o->origins ? o->origins->carriers : NULL;
    for (int i = 0; i < count && !status && size.carriers; i++) {
        if (!list[i].trainable || !g->values[list[i].value].origin) continue;
        struct optimizer *own = &o->origins->own;
        *c = (struct optimizer_carrier){.at = list[i].start, .from = start};
        status = frame_init(&c++->frame, &g->values[list[i].value], e);
        if (status) break;
        struct kept k = of_origin(g, list[i].value, start);
        start += k.count;
        to_real(o->origins->weights + k.start, g->values[list[i].value].origin->part[ORIGIN_WEIGHTS]);
        status = take_memory(own, &k, e);
        if (!status) status = set_pace(own, &k, e);
    }
    if (!status && size.carriers) mark_new(&o->origins->own);
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

/* The weights of an origin as they are now, and what is kept of it. */
static int keep_origin(struct graph *g, const struct optimizer_origins *q, int value, size_t start, struct err *e) {
    struct kept k = of_origin(g, value, start);
    struct array *weights;
    int status = array_new(&weights, (enum dtype)REAL_TYPE, k.shape, e);
    if (status) return status;
    memcpy(weights->data, q->weights + start, k.count * sizeof(real));
    array_free(g->values[value].origin->part[ORIGIN_WEIGHTS]);
    g->values[value].origin->part[ORIGIN_WEIGHTS] = weights;
    k = of_origin(g, value, start);
    return keep(&k, &q->own, true, e);
}

int carry_out(struct graph *g, const struct optimizer *o, const struct net_parameter *list, int n,
              const struct graph_training *how, struct err *e) {
    bool young = optimizer_is_young(o);
    int status = 0;
    size_t start = 0;
    if (!young) graph_forget_training(g); /* shares, origins */
    for (int i = 0; i < n && !status; i++) {
        if (!list[i].trainable) continue;
        struct value *v = &g->values[list[i].value];
        struct kept k = of_parameter(g, &list[i]);
        status = keep(&k, o, young, e);
        if (status || !v->origin) continue;
        status = keep_origin(g, o->origins, list[i].value, start, e);
        start += v->origin->part[ORIGIN_WEIGHTS]->count;
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
