/* proof_compare.c - asking both graphs, how far apart their answers are, and where they part. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "engine/nn/infer.h"
#include "engine/nn/outputs.h"
#include "engine/surgery/proof_parts.h"

size_t proof_count(const struct shape *s) {
    size_t n = 1;
    for (int d = 0; d < s->rank; d++) n *= (size_t)s->dim[d];
    return n;
}

/* ---- asking ---- */

int proof_answers_init(struct answers *a, struct trial *t, struct err *e) {
    size_t each = 0, all, bytes;
    for (int i = 0; i < a->n; i++)
        if (!mem_add(&each, each, proof_count(&a->shapes[i]))) return err_memory(e, SIZE_MAX);
    if (!mem_mul(&all, each, SIDES * (size_t)a->n_inputs) || !mem_mul(&bytes, all, sizeof(double)))
        return err_memory(e, SIZE_MAX);
    a->numbers = mem_alloc(bytes);
    a->out = mem_alloc((SIDES * (size_t)a->n_inputs * (size_t)a->n + 1) * sizeof *a->out);
    if (!a->numbers || !a->out) return err_memory(e, bytes);
    t->own += bytes;
    double *at = a->numbers, **out = a->out;
    for (int pass = 0; pass < SIDES * a->n_inputs; pass++)
        for (int i = 0; i < a->n; i++) {
            *out++ = at;
            at += proof_count(&a->shapes[i]);
        }
    return 0;
}

void proof_answers_fini(struct answers *a, struct trial *t) {
    size_t each = 0;
    for (int i = 0; i < a->n; i++) each += proof_count(&a->shapes[i]);
    if (a->numbers && a->out) t->own -= each * SIDES * (size_t)a->n_inputs * sizeof(double);
    mem_free(a->numbers);
    mem_free(a->out);
    a->numbers = NULL;
    a->out = NULL;
}

int proof_ask(const struct answers *a, const struct trial *t, enum proof_mode mode, enum proof_precision precision,
              struct err *e) {
    const struct proof_options *o = t->options;
    int n_inputs = t->graphs[PARENT]->n_inputs, status = 0;
    if (o->memory && t->own >= o->memory)
        return err_set(e, E_TOO_LARGE, "the outputs to be compared take %zu bytes, and %zu are allowed", t->own,
                       o->memory);
    const double **inputs = mem_alloc(((size_t)(a->n_inputs * n_inputs) + 1) * sizeof *inputs);
    if (!inputs) return err_memory(e, (size_t)(a->n_inputs * n_inputs) * sizeof *inputs);
    for (int pass = 0; pass < a->n_inputs; pass++)
        for (int i = 0; i < n_inputs; i++) inputs[pass * n_inputs + i] = t->inputs[(int)a->inputs[pass] * n_inputs + i];
    for (int side = 0; side < SIDES && !status; side++) {
        struct outputs_task task = {.graph = t->graphs[side],
                                    .batch = t->samples,
                                    .passes = a->n_inputs,
                                    .inputs = inputs,
                                    .training = mode == PROOF_TRAINING,
                                    .seed = o->seed,
                                    .threads = o->threads,
                                    .memory = o->memory ? o->memory - t->own : 0,
                                    .values = a->values[side],
                                    .n_values = a->n,
                                    .out = a->out + side * a->n_inputs * a->n};
        if (o->tick.call) status = o->tick.call(o->tick.context, e);
        if (!status) status = precision == PROOF_DOUBLE ? outputs_double(&task, e) : outputs_single(&task, e);
    }
    mem_free(inputs);
    return status;
}

/* ---- comparing ---- */

/* 0 for two that are the same, infinite when only one of them is a number. */
static double distance(double f, double g) {
    if (f == g || (isnan(f) && isnan(g))) return 0;
    double d = fabs(f - g);
    return isnan(d) ? (double)INFINITY : d;
}

/* Width of the border of a map, 0 for what is none: every axis behind the channels has an interior. */
static int64_t border_width(const struct shape *s) {
    int64_t width = s->rank > 2 ? PROOF_BORDER : 0;
    for (int d = 2; d < s->rank; d++)
        if ((s->dim[d] - 1) / 2 < width) width = (s->dim[d] - 1) / 2;
    return width;
}

static bool is_border(const struct shape *s, size_t i, int64_t width) {
    for (int d = s->rank - 1; d >= 2; d--) {
        int64_t at = (int64_t)(i % (size_t)s->dim[d]);
        if (at < width || at >= s->dim[d] - width) return true;
        i /= (size_t)s->dim[d];
    }
    return false;
}

static int64_t channel_of(const struct shape *s, size_t i) {
    if (s->rank < 2) return -1;
    for (int d = s->rank - 1; d >= 2; d--) i /= (size_t)s->dim[d];
    return (int64_t)(i % (size_t)s->dim[1]);
}

struct sums {
    double max, sum;
    size_t n;
};

static void count_in(struct sums *s, double x) {
    if (x > s->max) s->max = x;
    s->sum += x;
    s->n++;
}

static double mean_of(const struct sums *s) {
    return s->n ? s->sum / (double)s->n : 0;
}

static double tolerance_of(const struct trial *t, const struct deviation *d, double rounding,
                           enum proof_precision precision) {
    if (precision == PROOF_DOUBLE) return 1e-10 * (d->largest > 1 ? d->largest : 1);
    double allowed = t->gain_single * d->largest;
    return isfinite(rounding) && 4 * rounding > allowed ? 4 * rounding : allowed;
}

struct deviation proof_compare(const struct trial *t, const struct shape *shape, const double *f, const double *g,
                               const double *exact, enum proof_precision precision) {
    struct deviation d = {.measured = true, .channel = -1};
    struct sums all = {0}, border = {0}, interior = {0};
    int64_t width = border_width(shape);
    size_t n = proof_count(shape), at = 0;
    double rounding = 0;
    for (size_t i = 0; i < n; i++) {
        double x = distance(f[i], g[i]), size = fabs(f[i]);
        if (x > all.max) at = i;
        count_in(&all, x);
        if (width) count_in(is_border(shape, i, width) ? &border : &interior, x);
        if (isfinite(size) && size > d.largest) d.largest = size;
        if (exact && distance(f[i], exact[i]) > rounding) rounding = distance(f[i], exact[i]);
    }
    d.max = all.max;
    d.mean = mean_of(&all);
    d.is_map = width > 0;
    d.border_max = border.max, d.border_mean = mean_of(&border);
    d.interior_max = interior.max, d.interior_mean = mean_of(&interior);
    if (all.max > 0) d.channel = channel_of(shape, at);
    d.tolerance = tolerance_of(t, &d, rounding, precision);
    d.equal = d.max <= d.tolerance;
    return d;
}

static double ratio(const struct deviation *d) {
    return d->max == 0 ? 0 : d->max / d->tolerance;
}

bool proof_is_worse(const struct deviation *a, const struct deviation *b) {
    return ratio(a) > ratio(b);
}

/* ---- where they part ---- */

/* Values of both graphs with the same name and shape, in the child's order. */
struct common {
    int *values[SIDES];
    struct shape *shapes;
    int n;
};

static int find_common(struct common *c, const struct trial *t, struct err *e) {
    const struct graph *f = t->graphs[PARENT], *g = t->graphs[CHILD];
    struct inferred *known[SIDES] = {0};
    size_t room = (size_t)g->n_values + 1;
    int status = 0;
    for (int side = 0; side < SIDES && !status; side++)
        status = graph_infer(&known[side], t->graphs[side], t->samples, e);
    for (int side = 0; side < SIDES && !status; side++)
        if (!(c->values[side] = mem_alloc(room * sizeof(int)))) status = err_memory(e, room * sizeof(int));
    if (!status && !(c->shapes = mem_alloc(room * sizeof *c->shapes))) status = err_memory(e, room * sizeof *c->shapes);
    for (int i = 0; i < g->n_nodes && !status; i++)
        for (int k = 0; k < g->nodes[i].n_outputs; k++) {
            int v = g->nodes[i].outputs[k], u = v == VALUE_NONE ? v : graph_find_value(f, g->values[v].name);
            if (u == VALUE_NONE || f->values[u].producer < 0) continue;
            const struct shape *a = &known[PARENT]->values[u].shape, *b = &known[CHILD]->values[v].shape;
            if (!shape_equal(a, b)) continue;
            c->values[PARENT][c->n] = u;
            c->values[CHILD][c->n] = v;
            c->shapes[c->n++] = *a;
        }
    inferred_free(known[PARENT]);
    inferred_free(known[CHILD]);
    return status;
}

static void common_fini(struct common *c) {
    mem_free(c->values[PARENT]);
    mem_free(c->values[CHILD]);
    mem_free(c->shapes);
}

/* How many of the common values from `first` on go into one pass: all share the memory, which they take twice here
 * and once in each network. At least one. */
static int portion(const struct common *c, const struct trial *t, int first, int most) {
    size_t budget = t->options->memory ? t->options->memory / 8 : (size_t)256 << 20, taken = 0;
    int n = 0;
    while (n < most && first + n < c->n) {
        taken += proof_count(&c->shapes[first + n]) * SIDES * sizeof(double);
        if (n && taken > budget) break;
        n++;
    }
    return n;
}

/* Index of the first of n common values from `first` on that differs, or -1. */
static int differs(int *out, struct deviation *found, const struct common *c, struct trial *t, int first, int n,
                   const struct proof_difference *at, struct err *e) {
    struct answers a = {.values = {c->values[PARENT] + first, c->values[CHILD] + first},
                        .shapes = c->shapes + first,
                        .n = n,
                        .inputs = {at->input},
                        .n_inputs = 1};
    int status = proof_answers_init(&a, t, e);
    if (!status) status = proof_ask(&a, t, at->mode, at->precision, e);
    *out = -1;
    for (int i = 0; i < n && !status && *out < 0; i++) {
        *found = proof_compare(t, &a.shapes[i], proof_answer(&a, PARENT, 0, i), proof_answer(&a, CHILD, 0, i), NULL,
                               at->precision);
        if (!found->equal) *out = first + i;
    }
    proof_answers_fini(&a, t);
    return status;
}

/* Portions that do not fit are halved; a single value that does not is passed over. */
static int walk(int *out, struct deviation *found, const struct common *c, struct trial *t,
                const struct proof_difference *at, struct err *e) {
    int most = c->n;
    *out = -1;
    for (int first = 0; first < c->n && *out < 0;) {
        struct err why = {0};
        int n = portion(c, t, first, most), status = differs(out, found, c, t, first, n, at, &why);
        if (status == E_TOO_LARGE && n > 1) {
            most = (n + 1) / 2;
            continue;
        }
        if (status && status != E_TOO_LARGE) return err_set(e, status, "%s", why.text);
        first += n;
    }
    return 0;
}

static int name_it(char **out, const char *name, struct err *e) {
    *out = mem_string(name);
    return *out ? 0 : err_memory(e, strlen(name));
}

int proof_search(struct proof *out, struct trial *t, enum proof_mode mode, enum proof_precision precision,
                 enum proof_input input, struct err *e) {
    const struct graph *g = t->graphs[CHILD];
    struct proof_difference *d = &out->first;
    struct common c = {0};
    int where = -1;
    *d = (struct proof_difference){.input = input, .mode = mode, .precision = precision};
    int status = find_common(&c, t, e);
    if (!status) status = walk(&where, &d->deviation, &c, t, d, e);
    if (where < 0) d->deviation = out->inputs[input][mode][precision];
    if (!status) {
        int last = where < 0 ? c.n - 1 : where - 1,
            v = where < 0 ? g->outputs[d->deviation.output] : c.values[CHILD][where];
        int producer = g->values[v].producer;
        status = name_it(&d->value, g->values[v].name, e);
        if (!status) status = name_it(&d->node, producer >= 0 ? g->nodes[producer].name : "", e);
        if (!status && last >= 0) status = name_it(&d->last_equal, g->values[c.values[CHILD][last]].name, e);
    }
    common_fini(&c);
    return status;
}
