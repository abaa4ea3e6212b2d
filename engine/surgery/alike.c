/* alike.c - finding channels that are multiples of each other, and joining what reads them. */
#include "engine/surgery/alike.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "engine/nn/op.h"
#include "engine/nn/origin.h"

enum { SIZE_MOST = 1 << 28 }; /* numbers of one group that are compared */
#define ALIKE 1e-14           /* relative */

static bool is_op(const struct node *n, const char *name) {
    return strcmp(n->op->name, name) == 0;
}

/* ---- whether multiples stay multiples ---- */

/* Operators that make of s times their data s times their result, s > 0, channel by channel. */
static bool is_homogeneous(const struct node *n) {
    static const char *const names[] = {"Conv",      "Gemm",          "MatMul",      "Relu",      "LeakyRelu",
                                        "PRelu",     "MaxPool",       "AveragePool", "Identity",  "GlobalAveragePool",
                                        "Dropout",   "GlobalMaxPool", "Flatten",     "Reshape",   "Squeeze",
                                        "Unsqueeze", "Concat",        "ReduceMean",  "ReduceSum", "ReduceMax",
                                        "ReduceMin"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (is_op(n, names[i])) return true;
    return false;
}

static bool is_claimed(const struct channels *c, int value, int group) {
    for (int dim = 0; dim < 2; dim++) {
        const struct channel_axis *axis = channels_axis_at(c, value, dim);
        if (axis && channels_has(c, axis->list, group)) return true;
    }
    return false;
}

/* Additions of the group's own channels, or of one constant for each of them. */
static bool is_sum(const struct channels *c, const struct graph *g, const struct node *n, int group) {
    if (!is_op(n, "Add")) return false;
    for (int k = 0; k < n->n_inputs; k++) {
        bool constant = g->values[n->inputs[k]].constant != NULL;
        if (constant ? !is_claimed(c, n->inputs[k], group) : !channels_has(c, c->values[n->inputs[k]], group))
            return false;
    }
    return true;
}

/* A bias that is one number for all is no multiple of itself, and a constant with two uses may mean two things. */
static bool has_plain_constants(const struct channels *c, const struct graph *g, const struct uses *u, int node,
                                int group) {
    const struct node *n = &g->nodes[node];
    if (n->n_inputs > 2 && n->inputs[2] != VALUE_NONE && channels_has(c, c->values[n->outputs[0]], group) &&
        (is_op(n, "Conv") || is_op(n, "Gemm")) && !is_claimed(c, n->inputs[2], group))
        return false;
    for (int k = 1; k < n->n_inputs; k++)
        if (n->inputs[k] != VALUE_NONE && g->values[n->inputs[k]].constant && is_claimed(c, n->inputs[k], group))
            for (int i = u->first[n->inputs[k]]; i < u->first[n->inputs[k] + 1]; i++)
                if (u->nodes[i] != node) return false;
    return true;
}

static bool node_keeps_multiples(const struct channels *c, const struct graph *g, const struct uses *u, int node,
                                 int group) {
    const struct node *n = &g->nodes[node];
    if (!is_homogeneous(n) && !is_sum(c, g, n, group)) return false;
    if (!has_plain_constants(c, g, u, node, group)) return false;
    for (int k = 1; k < n->n_inputs && is_op(n, "PRelu"); k++)
        if (!g->values[n->inputs[k]].constant) return false;
    return true;
}

/* Asks the nodes that make the group's values and those that read them. */
static bool keeps_multiples(const struct channels *c, const struct graph *g, const struct uses *u, int group) {
    const int *values = c->values_of.items + c->values_of.first[group];
    for (int i = 0; i < c->values_of.n[group]; i++) {
        int v = values[i], maker = g->values[v].producer;
        if (maker >= 0 && !node_keeps_multiples(c, g, u, maker, group)) return false;
        for (int k = u->first[v]; k < u->first[v + 1]; k++)
            if (!node_keeps_multiples(c, g, u, u->nodes[k], group)) return false;
    }
    return true;
}

/* ---- what makes a channel ---- */

/* A constant's slice that belongs to a channel is multiplied with it, or has to be equal. */
static bool is_scaled(const struct graph *g, const struct channel_axis *axis) {
    const struct node *n = &g->nodes[axis->node];
    if (axis->role == CHANNELS_MADE) return true;
    return is_op(n, "Add") || (n->n_inputs > 2 && n->inputs[2] == axis->value);
}

/* Numbers of channel 0 along the axis: its part of the constant. */
static size_t slice_size(const struct channels *c, const struct graph *g, const struct channel_axis *axis, int group) {
    size_t each = 0, along = (size_t)g->values[axis->value].constant->shape.dim[axis->dim];
    for (int i = 0; i < axis->list.n; i++) {
        const struct channel_segment *s = &c->segments[axis->list.first + i];
        if (s->group == group) each += (size_t)s->inner;
    }
    return along ? each * (g->values[axis->value].constant->count / along) : 0;
}

struct table {
    size_t part;   /* channels of one part of a grouped convolution: each part reads other channels */
    double *rows;  /* [channels][width]: `scaled` numbers first, then those that must be equal */
    double *scale; /* [channels]: norm of the scaled numbers; 1 when multiples do not count */
    size_t width, scaled, channels;
};

struct filling {
    struct table *t;
    const double *from;
    size_t *used; /* per channel, of this part of the row */
    size_t start;
};

static void fill(void *context, size_t element, int64_t channel) {
    struct filling *f = context;
    f->t->rows[(size_t)channel * f->t->width + f->start + f->used[channel]++] = f->from[element] + 0.0; /* no -0 */
}

static int fill_axis(struct table *t, size_t start, const struct channels *c, const struct graph *g,
                     const struct channel_axis *axis, int group, struct err *e) {
    const struct array *a = g->values[axis->value].constant;
    double *from = mem_alloc(a->count * sizeof *from + 1);
    size_t *used = mem_calloc(t->channels + 1, sizeof *used);
    int status = from && used ? 0 : err_memory(e, a->count * sizeof *from);
    if (!status) {
        struct filling f = {t, from, used, start};
        array_to_double(from, a, 0, a->count);
        channels_visit(c, g, axis, group, fill, &f);
    }
    mem_free(from);
    mem_free(used);
    return status;
}

static int make_table(struct table *t, const struct channels *c, const struct graph *g, int group, struct err *e) {
    size_t at[2] = {0, 0}, total;
    *t = (struct table){.channels = (size_t)c->groups[group].size,
                        .part = (size_t)(c->groups[group].size / c->groups[group].multiple)};
    const struct channel_axis *axis;
    for (int i = 0; (axis = channels_along(c, group, i)); i++) {
        if (axis->role == CHANNELS_READ) continue;
        t->width += slice_size(c, g, axis, group);
        if (is_scaled(g, axis)) t->scaled += slice_size(c, g, axis, group);
    }
    if (!mem_mul(&total, t->width + 1, t->channels + 1) || total > SIZE_MOST)
        return err_set(e, E_TOO_LARGE, "its channels have too many weights to be compared");
    t->rows = mem_calloc(total, sizeof *t->rows);
    t->scale = mem_calloc(t->channels + 1, sizeof *t->scale);
    if (!t->rows || !t->scale) return err_memory(e, total * sizeof *t->rows);
    int status = 0;
    at[1] = t->scaled;
    for (int i = 0; !status && (axis = channels_along(c, group, i)); i++) {
        if (axis->role == CHANNELS_READ) continue;
        size_t *start = &at[!is_scaled(g, axis)];
        status = fill_axis(t, *start, c, g, axis, group, e);
        *start += slice_size(c, g, axis, group);
    }
    return status;
}

static void table_fini(struct table *t) {
    mem_free(t->rows);
    mem_free(t->scale);
}

/* Divides the scaled numbers of each row by their norm. */
static void normalise(struct table *t, bool multiples) {
    for (size_t j = 0; j < t->channels; j++) {
        double sum = 0, *row = t->rows + j * t->width;
        t->scale[j] = 1;
        for (size_t i = 0; i < t->scaled && multiples; i++) sum += row[i] * row[i];
        if (!(sum > 0) || !isfinite(sum)) continue;
        t->scale[j] = sqrt(sum);
        for (size_t i = 0; i < t->scaled; i++) row[i] /= t->scale[j];
    }
}

/* ---- comparing ---- */

/* A number without its last digits, so that what differs by rounding sorts together. */
static double rounded(double x) {
    return rint(x * 68719476736.0); /* 2^36 */
}

struct sorted {
    const struct table *t;
    bool multiples;
};

static int compare_rows(const void *pa, const void *pb, void *context) {
    const struct sorted *s = context;
    int32_t i = *(const int32_t *)pa, j = *(const int32_t *)pb;
    const double *a = s->t->rows + (size_t)i * s->t->width, *b = s->t->rows + (size_t)j * s->t->width;
    for (size_t k = 0; k < s->t->width; k++) {
        double x = s->multiples && k < s->t->scaled ? rounded(a[k]) : a[k];
        double y = s->multiples && k < s->t->scaled ? rounded(b[k]) : b[k];
        if (x != y) return x < y ? -1 : 1;
    }
    return i < j ? -1 : i > j;
}

/* Whether row b is row a, both normalised. */
static bool same(const struct table *t, size_t a, size_t b) {
    const double *x = t->rows + a * t->width, *y = t->rows + b * t->width;
    if (a / t->part != b / t->part) return false;
    for (size_t k = 0; k < t->width; k++)
        if (k < t->scaled && t->scale[a] != t->scale[b] ? !(fabs(x[k] - y[k]) <= ALIKE) : x[k] != y[k]) return false;
    return true;
}

/* Equal rows come in the order of the channels, part by part, so the first of them stands for all. */
static void match(struct alike *out, const struct table *t, int32_t *order, bool multiples) {
    struct sorted s = {t, multiples};
    for (int64_t j = 0; j < out->size; j++) order[j] = (int32_t)j;
    qsort_r(order, (size_t)out->size, sizeof *order, compare_rows, &s);
    for (int64_t first = 0, j = 0; j < out->size; j++) {
        int32_t channel = order[j], to = order[first];
        out->like[channel] = channel;
        out->ratio[channel] = 1;
        if (j == first) continue;
        if (!same(t, (size_t)to, (size_t)channel)) {
            first = j;
            continue;
        }
        out->like[channel] = to;
        out->ratio[channel] = t->scale[channel] / t->scale[to];
        out->n++;
    }
}

void alike_fini(struct alike *a) {
    mem_free(a->like);
    mem_free(a->ratio);
    *a = (struct alike){0};
}

int alike_find(struct alike *out, const struct channels *c, const struct graph *g, const struct uses *u, int group,
               struct err *e) {
    struct table t = {0};
    bool multiples = keeps_multiples(c, g, u, group);
    size_t n = (size_t)c->groups[group].size;
    *out = (struct alike){.size = c->groups[group].size};
    out->like = mem_calloc(n + 1, sizeof *out->like);
    out->ratio = mem_calloc(n + 1, sizeof *out->ratio);
    int32_t *order = mem_calloc(n + 1, sizeof *order);
    int status = out->like && out->ratio && order ? make_table(&t, c, g, group, e) : err_memory(e, n * sizeof *order);
    if (!status) {
        normalise(&t, multiples);
        match(out, &t, order, multiples);
    } else {
        alike_fini(out);
    }
    table_fini(&t);
    mem_free(order);
    return status;
}

/* ---- what reads ---- */

struct joining {
    double *weights;
    size_t *where; /* [channels][slice]: elements of each channel, in order */
    size_t *used, slice;
};

static void note(void *context, size_t element, int64_t channel) {
    struct joining *j = context;
    j->where[(size_t)channel * j->slice + j->used[channel]++] = element;
}

static int note_axis(struct joining *j, const struct channels *c, const struct graph *g,
                     const struct channel_axis *axis, int group, struct err *e) {
    size_t n = (size_t)c->groups[group].size;
    *j = (struct joining){.slice = slice_size(c, g, axis, group)};
    j->where = mem_calloc(n * j->slice + 1, sizeof *j->where);
    j->used = mem_calloc(n + 1, sizeof *j->used);
    if (!j->where || !j->used) return err_memory(e, n * j->slice * sizeof *j->where);
    channels_visit(c, g, axis, group, note, j);
    return 0;
}

static void joining_fini(struct joining *j) {
    mem_free(j->where);
    mem_free(j->used);
}

/* What a list of channels is along dimension `dim` of an array, whose slices are added to those that stay. */
static int join_array(struct array **out, const struct array *old, int dim, const struct channels *c,
                      struct channel_list list, int group, const int32_t *keep, const double *ratio, struct err *e) {
    size_t outer = 1, inner = 1, length = (size_t)old->shape.dim[dim], start = 0;
    int status = array_new(out, DT_FLOAT64, &old->shape, e);
    if (status) return status;
    double *w = (*out)->data;
    array_to_double(w, old, 0, old->count);
    for (int d = 0; d < dim; d++) outer *= (size_t)old->shape.dim[d];
    for (int d = dim + 1; d < old->shape.rank; d++) inner *= (size_t)old->shape.dim[d];
    for (int i = 0; i < list.n; i++) {
        const struct channel_segment *s = &c->segments[list.first + i];
        size_t each = (size_t)s->inner * inner, n = (size_t)c->groups[s->group].size;
        for (size_t k = 0; k < n && s->group == group; k++)
            for (size_t o = 0; o < outer && keep[k] != (int32_t)k; o++) {
                double *first = w + (o * length + start) * inner, *from = first + k * each;
                for (size_t at = 0; at < each; at++) {
                    first[(size_t)keep[k] * each + at] += from[at] * ratio[k];
                    from[at] = 0;
                }
            }
        start += n * (size_t)s->inner;
    }
    return 0;
}

/* The layers of a merger are numbers that gradients go through: they are joined like what they were merged to. */
static int join_merged(struct origin *o, const struct shape *carrier, const struct channels *c,
                       struct channel_list list, int group, const int32_t *keep, const double *ratio, struct err *e) {
    struct joint j;
    if (!o || !o->merger) return 0;
    struct merger *m = o->merger;
    int status = joint_init(&j, m, carrier, "a merged layer", e);
    for (int k = FACTOR_A; k <= (j.sum ? FACTOR_B : FACTOR_A) && !status; k += FACTOR_B) {
        struct array *fresh;
        const struct joint_side *side = k ? &j.b : &j.a;
        if (!m->factor[k] || side->in != channels_count(c, list)) continue; /* of groups: it will not follow */
        status = join_merged(m->origin[k], &m->factor[k]->shape, c, list, group, keep, ratio, e);
        if (!status) status = join_array(&fresh, m->factor[k], !side->columns, c, list, group, keep, ratio, e);
        if (status) break;
        array_free(m->factor[k]);
        m->factor[k] = fresh;
    }
    return status;
}

static int join_axis(struct graph *g, const struct channels *c, const struct channel_axis *axis, int group,
                     const int32_t *keep, const double *ratio, struct err *e) {
    struct value *v = &g->values[axis->value];
    struct array *fresh;
    int status = join_merged(v->origin, &v->constant->shape, c, axis->list, group, keep, ratio, e);
    if (!status) status = join_array(&fresh, v->constant, axis->dim, c, axis->list, group, keep, ratio, e);
    if (!status) graph_correct_constant_take(g, axis->value, fresh);
    return status;
}

/* In a grouped convolution every part of the outputs reads a part of the channels of its own, which the axis holds. */
static int join_parts(struct graph *g, const struct channels *c, const struct channel_axis *axis, int group,
                      const int32_t *keep, const double *ratio, struct err *e) {
    const struct array *old = g->values[axis->value].constant;
    struct array *fresh;
    int status = array_new(&fresh, DT_FLOAT64, &old->shape, e);
    if (status) return status;
    double *w = fresh->data;
    size_t outs = (size_t)old->shape.dim[0], ins = (size_t)old->shape.dim[1], taps = old->count / (outs * ins);
    array_to_double(w, old, 0, old->count);
    for (size_t o = 0; o < outs; o++)
        for (size_t i = 0; i < ins; i++) {
            size_t first = o / (outs / (size_t)axis->parts) * ins, k = first + i;
            if (keep[k] == (int32_t)k) continue;
            double *from = w + (o * ins + i) * taps, *to = w + (o * ins + (size_t)keep[k] - first) * taps;
            for (size_t t = 0; t < taps; t++) {
                to[t] += from[t] * ratio[k];
                from[t] = 0;
            }
        }
    graph_correct_constant_take(g, axis->value, fresh);
    (void)c, (void)group;
    return 0;
}

/* Of one axis: sums[channel][0] is the product of what reads it with what will, [1] the square of that. */
static int measure_shares(double (*sums)[2], const struct channels *c, const struct graph *g,
                          const struct channel_axis *axis, int group, const int32_t *keep, const double *ratio,
                          struct err *e) {
    const struct array *a = g->values[axis->value].constant;
    size_t n = (size_t)c->groups[group].size;
    struct joining j = {0};
    double *w = mem_alloc(a->count * sizeof *w + 1), *joined = NULL;
    int status = w ? note_axis(&j, c, g, axis, group, e) : err_memory(e, a->count * sizeof *w);
    if (!status && !(joined = mem_calloc(n * j.slice + 1, sizeof *joined)))
        status = err_memory(e, n * j.slice * sizeof *joined);
    if (!status) {
        array_to_double(w, a, 0, a->count);
        for (size_t at = 0; at < n * j.slice; at++) {
            size_t k = at / j.slice;
            joined[(size_t)keep[k] * j.slice + at % j.slice] += w[j.where[at]] * ratio[k];
        }
        for (size_t at = 0; at < n * j.slice; at++) {
            sums[at / j.slice][0] += w[j.where[at]] * joined[at];
            sums[at / j.slice][1] += joined[at] * joined[at];
        }
    }
    joining_fini(&j);
    mem_free(joined);
    mem_free(w);
    return status;
}

/* Parts of grouped convolutions have to get shares alike: there, none. */
static int find_shares(double *share, const struct channels *c, const struct graph *g, int group, const int32_t *keep,
                       const double *ratio, struct err *e) {
    size_t n = (size_t)c->groups[group].size;
    double(*sums)[2] = mem_calloc(n + 1, sizeof *sums);
    int status = sums ? 0 : err_memory(e, n * sizeof *sums);
    const struct channel_axis *axis;
    bool whole = c->groups[group].multiple == 1;
    for (int i = 0; whole && !status && (axis = channels_along(c, group, i)); i++)
        if (axis->role == CHANNELS_READ) status = measure_shares(sums, c, g, axis, group, keep, ratio, e);
    for (size_t k = 0; k < n && !status; k++) {
        double found = sums[k][1] / sums[k][0];
        share[k] = isfinite(found) && found > 0 ? found : 1;
    }
    mem_free(sums);
    return status;
}

int alike_join(double *share, struct graph *g, const struct channels *c, int group, const int32_t *keep,
               const double *ratio, struct err *e) {
    int status = find_shares(share, c, g, group, keep, ratio, e);
    const struct channel_axis *axis;
    for (int i = 0; !status && (axis = channels_along(c, group, i)); i++)
        if (axis->role == CHANNELS_READ)
            status = (axis->parts > 1 ? join_parts : join_axis)(g, c, axis, group, keep, ratio, e);
    return status;
}

int alike_unread(bool *unread, const struct channels *c, const struct graph *g, int group, struct err *e) {
    int status = 0, readers = 0;
    const struct channel_axis *axis;
    memset(unread, 1, (size_t)c->groups[group].size);
    for (int i = 0; !status && (axis = channels_along(c, group, i)); i++) {
        struct joining j = {0};
        if (axis->role != CHANNELS_READ) continue;
        readers++;
        if (axis->parts > 1) memset(unread, 0, (size_t)c->groups[group].size); /* not looked at */
        status = note_axis(&j, c, g, axis, group, e);
        for (int64_t k = 0; k < c->groups[group].size && !status; k++)
            for (size_t x = 0; x < j.slice && unread[k]; x++) {
                double weight;
                array_to_double(&weight, g->values[axis->value].constant, j.where[(size_t)k * j.slice + x], 1);
                unread[k] = weight == 0;
            }
        joining_fini(&j);
    }
    if (!readers) memset(unread, 0, (size_t)c->groups[group].size);
    return status;
}

/* ---- what nothing depends on ---- */

/* The channel, counted over all groups, of each position of a list; *out with mem_free. */
static int spell(int64_t **out, const struct channels *c, struct channel_list list, struct err *e) {
    int64_t n = channels_count(c, list), at = 0;
    *out = mem_calloc((size_t)n + 1, sizeof **out);
    if (!*out) return err_memory(e, (size_t)n * sizeof **out);
    for (int i = 0; i < list.n; i++) {
        const struct channel_segment *s = &c->segments[list.first + i];
        for (int64_t p = 0; p < c->groups[s->group].size * s->inner; p++)
            (*out)[at++] = c->groups[s->group].first + p / s->inner;
    }
    return 0;
}

/* Brings to life what living channels read through these weights. */
static bool revive(bool *dead, const struct array *w, const struct channel_axis *read, const int64_t *from,
                   const struct channel_axis *made, const int64_t *to) {
    size_t rest = 1, n[2] = {(size_t)w->shape.dim[0], (size_t)w->shape.dim[1]};
    for (int d = 2; d < w->shape.rank; d++) rest *= (size_t)w->shape.dim[d];
    bool changed = false;
    for (size_t a = 0; a < n[0]; a++)
        for (size_t b = 0; b < n[1]; b++) {
            size_t o = made->dim ? b : a, i = read->dim ? b : a;
            size_t part = read->parts > 1 ? o / (n[made->dim] / (size_t)read->parts) : 0;
            bool *in = &dead[from[part * n[read->dim] + i]];
            if (!*in || dead[to[o]]) continue;
            for (size_t k = 0; k < rest && *in; k++) {
                double x;
                array_to_double(&x, w, (a * n[1] + b) * rest + k, 1);
                *in = x == 0;
            }
            changed = changed || !*in;
        }
    return changed;
}

static int revive_readers(bool *changed, bool *dead, const struct channels *c, const struct graph *g,
                          const struct channel_axis *read, struct err *e) {
    const struct channel_axis *made = channels_axis(c, read->value, CHANNELS_MADE);
    int64_t *from = NULL, *to = NULL;
    int status = spell(&from, c, read->list, e);
    if (!status && made) status = spell(&to, c, made->list, e);
    if (!status && made && revive(dead, g->values[read->value].constant, read, from, made, to)) *changed = true;
    for (int64_t p = 0; !status && !made && p < channels_count(c, read->list); p++) dead[from[p]] = false;
    mem_free(from);
    mem_free(to);
    return status;
}

int alike_dead(bool **dead, const struct channels *c, const struct graph *g, struct err *e) {
    size_t n = 0;
    bool changed = true;
    for (int i = 0; i < c->n_groups; i++) n += (size_t)c->groups[i].size;
    *dead = mem_calloc(n + 1, 1);
    int status = *dead ? 0 : err_memory(e, n);
    for (int i = 0; i < c->n_groups && !status; i++)
        memset(*dead + c->groups[i].first, c->groups[i].fixed_by == CHANNELS_FREE, (size_t)c->groups[i].size);
    while (changed && !status) {
        changed = false;
        for (int i = c->n_axes - 1; i >= 0 && !status; i--) /* from the outputs to the inputs */
            if (c->axes[i].role == CHANNELS_READ) status = revive_readers(&changed, *dead, c, g, &c->axes[i], e);
    }
    if (status) {
        mem_free(*dead);
        *dead = NULL;
    }
    return status;
}
