/* channel_resize.c - a graph with other channels: constants gathered anew, attributes put right. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "engine/nn/op.h"
#include "engine/nn/optimizer.h"
#include "engine/nn/origin.h"
#include "engine/surgery/channels.h"

/* Where the elements along one dimension of a constant come from. */
struct pick {
    int64_t size;
    int64_t *from;  /* [size]: old index, -1 = zero; NULL: as it is */
    double *factor; /* [size]; NULL: 1 */
    int64_t *next; /* [size]: the next copy of the same old index that takes a share of it, -1: none; NULL: no shares */
    bool *takes;   /* [size]: gets its share; else it is the first of its copies, and gets what the others leave */
    bool beside;   /* the only copy gets its share too */
};

static void pick_fini(struct pick *p) {
    mem_free(p->from);
    mem_free(p->factor);
    mem_free(p->next);
    mem_free(p->takes);
    *p = (struct pick){0};
}

static int64_t new_size(const struct channels *c, const struct channel_map *maps, int group) {
    return maps[group].size ? maps[group].size : c->groups[group].size;
}

static int64_t new_count(const struct channels *c, struct channel_list list, const struct channel_map *maps) {
    int64_t n = 0;
    for (int i = 0; i < list.n; i++) {
        const struct channel_segment *s = &c->segments[list.first + i];
        n += new_size(c, maps, s->group) * s->inner;
    }
    return n;
}

static bool list_changes(const struct channels *c, struct channel_list list, const struct channel_map *maps) {
    for (int i = 0; i < list.n; i++) {
        int group = c->segments[list.first + i].group;
        if (maps[group].size && (maps[group].size != c->groups[group].size || maps[group].from)) return true;
    }
    return false;
}

/* Old channel of new channel j. */
static int64_t origin(const struct channel_map *map, int64_t old_size, int64_t j) {
    if (map->size && map->from) return map->from[j];
    return j < old_size ? j : -1;
}

/* What is gathered: the constant itself, or numbers of the same channels that lie beside it, or what an optimizer keeps of
 * it, which grows with that power of the gradient. The gradient of a copy's weights is its share of the old one's, whatever
 * the shares of what it reads. Weights that read channels which are joined have been added up before (alike_join), while
 * what lies beside them still has to be multiplied. */
enum { THE_CONSTANT = -1, BESIDE_IT = -2 };

static double factor_of(const struct channel_axis *axis, const struct channel_map *map, int64_t j, int power) {
    bool reads = axis->role == CHANNELS_READ;
    if (!map->share || reads != (power < 0)) return 1;
    return power < 0 ? map->share[j] : pow(map->share[j], power);
}

/* Fills the pick of an axis, segment by segment. */
static void fill_pick(struct pick *p, const struct channels *c, const struct channel_axis *axis,
                      const struct channel_map *maps, int power) {
    int64_t at = 0, start = 0;
    for (int i = 0; i < axis->list.n; i++) {
        const struct channel_segment *s = &c->segments[axis->list.first + i];
        const struct channel_map *map = &maps[s->group];
        int64_t old = c->groups[s->group].size, fresh = new_size(c, maps, s->group);
        for (int64_t j = 0; j < fresh; j++) {
            int64_t channel = origin(map, old, j);
            for (int64_t t = 0; t < s->inner; t++, at++) {
                p->from[at] = channel < 0 ? -1 : start + channel * s->inner + t;
                p->factor[at] = factor_of(axis, map, j, power);
            }
        }
        start += old * s->inner;
    }
}

/* Inside a grouped convolution the axis is one group's part of the list. */
static void fill_part(struct pick *p, const struct channels *c, const struct channel_axis *axis,
                      const struct channel_map *maps, int power) {
    int group = c->segments[axis->list.first].group;
    int64_t old = c->groups[group].size / axis->parts;
    for (int64_t i = 0; i < p->size; i++) {
        int64_t from = origin(&maps[group], old, i);
        p->from[i] = from < old ? from : -1;
        p->factor[i] = factor_of(axis, &maps[group], i, power);
    }
}

/* Links the copies of every old index. */
static int link_copies(struct pick *p, int64_t old, struct err *e) {
    int64_t *last = mem_calloc((size_t)old + 1, sizeof *last);
    p->next = mem_calloc((size_t)p->size + 1, sizeof *p->next);
    p->takes = mem_calloc((size_t)p->size + 1, sizeof *p->takes);
    int status = last && p->next && p->takes ? 0 : err_memory(e, (size_t)p->size * sizeof *p->next);
    for (int64_t i = 0; i < p->size && !status; i++) {
        p->next[i] = -1;
        if (p->from[i] < 0) continue;
        int64_t *before = &last[p->from[i]]; /* + 1 */
        p->takes[i] = *before > 0;
        if (*before) p->next[*before - 1] = i;
        *before = i + 1;
    }
    mem_free(last);
    return status;
}

/* Every part of a grouped convolution must get the same channels of its own. */
static bool is_periodic(const struct channel_map *map, int64_t old, int64_t parts) {
    int64_t size = map->size / parts;
    for (int64_t j = 0; map->from && j < map->size; j++) {
        int64_t first = j % size, part = j / size;
        bool same = map->from[first] < 0 ? map->from[j] < 0 : map->from[j] == map->from[first] + part * (old / parts);
        if (!same || map->from[first] >= old / parts || (map->share && map->share[j] != map->share[first]))
            return false;
    }
    return true;
}

static int check_parts(const struct channels *c, const struct graph *g, const struct channel_axis *axis,
                       const struct channel_map *maps, struct err *e) {
    bool good = axis->parts == 1 || axis->list.n == 1;
    if (good && axis->parts > 1) {
        int group = c->segments[axis->list.first].group;
        good = !maps[group].size || is_periodic(&maps[group], c->groups[group].size, axis->parts);
    }
    return good ? 0
                : err_set(e, E_UNSUPPORTED,
                          "node '%s' (%s) is a grouped convolution: its channels can only be rearranged alike in each "
                          "of its groups",
                          g->nodes[axis->node].name, g->nodes[axis->node].op->name);
}

static bool has_shares(const struct channels *c, struct channel_list list, const struct channel_map *maps) {
    for (int i = 0; i < list.n; i++)
        if (maps[c->segments[list.first + i].group].share) return true;
    return false;
}

static int make_pick(struct pick *p, const struct channels *c, const struct graph *g, const struct channel_axis *axis,
                     const struct channel_map *maps, int power, struct err *e) {
    int status = check_parts(c, g, axis, maps, e);
    if (status) return status;
    p->size = new_count(c, axis->list, maps) / axis->parts;
    p->from = mem_calloc((size_t)p->size + 1, sizeof *p->from);
    p->factor = mem_calloc((size_t)p->size + 1, sizeof *p->factor);
    if (!p->from || !p->factor) return err_memory(e, (size_t)p->size * (sizeof *p->from + sizeof *p->factor));
    if (axis->parts > 1)
        fill_part(p, c, axis, maps, power);
    else
        fill_pick(p, c, axis, maps, power);
    p->beside = power == BESIDE_IT;
    if (power >= 0 || axis->role != CHANNELS_READ || !has_shares(c, axis->list, maps)) return 0;
    return link_copies(p, channels_count(c, axis->list) / axis->parts, e);
}

/* A share of a weight, rounded to a multiple of the weight's last digit: so the shares that are rounded and what they
 * leave are all numbers of the weight's type, and add up to the weight without any error. `digits`: that a double has
 * more than the type. */
static double share_of(double weight, double share, int digits) {
    uint64_t bits;
    memcpy(&bits, &weight, sizeof bits);
    bits = (bits & 0x7ff0000000000000u) + ((uint64_t)(digits + 1) << 52); /* 2^(exponent + digits + 1) */
    double large;
    memcpy(&large, &bits, sizeof large);
    large *= 1.5;
    return (weight * share + large) - large;
}

/* Numbers that follow each other, copy k of them along an axis: their share, what the others leave, or their multiple. */
static void copy_numbers(double *out, const double *in, size_t n, const struct pick *p, int64_t k, int digits) {
    double factor = p->factor ? p->factor[k] : 1;
    bool only = p->next && !p->takes[k] && p->next[k] < 0;
    if (!p->next || (only && p->beside)) {
        for (size_t i = 0; i < n; i++) out[i] = in[i] * factor;
    } else if (p->takes[k]) {
        for (size_t i = 0; i < n; i++) out[i] = share_of(in[i], factor, digits);
    } else {
        memcpy(out, in, n * sizeof *out);
        for (int64_t other = p->next[k]; other >= 0; other = p->next[other])
            for (size_t i = 0; i < n; i++) out[i] -= share_of(in[i], p->factor[other], digits);
    }
}

/* An old row with its dimension 1 picked. */
static void pick_row(double *out, const double *row, const struct pick *p, size_t rest, int digits) {
    for (int64_t k = 0; k < p->size; k++, out += rest) {
        int64_t from = p->from ? p->from[k] : k;
        if (from >= 0)
            copy_numbers(out, row + (size_t)from * rest, rest, p, k, digits);
        else
            memset(out, 0, rest * sizeof *out);
    }
}

static void put_row(struct array *to, int64_t i, const double *row, size_t n) {
    if (to->type == DT_FLOAT64) {
        memcpy((double *)to->data + (size_t)i * n, row, n * sizeof *row);
        return;
    }
    float *out = (float *)to->data + (size_t)i * n;
    for (size_t j = 0; j < n; j++) out[j] = (float)row[j];
}

/* Buffers for a row as it was, picked along dimension 1, and along dimension 0 as well; and which new rows each old one
 * becomes. */
struct rows {
    double *old, *picked, *made;
    int64_t *first, *next; /* [old rows], [new rows]: + 1, 0 = none */
};

static void rows_fini(struct rows *r) {
    mem_free(r->old);
    mem_free(r->picked);
    mem_free(r->made);
    mem_free(r->first);
    mem_free(r->next);
}

static int rows_init(struct rows *r, const struct pick pick[2], const int64_t old[2], size_t rest, struct err *e) {
    size_t before = (size_t)old[1] * rest + 1, after = (size_t)pick[1].size * rest + 1;
    *r = (struct rows){.old = mem_calloc(before, sizeof(double)),
                       .picked = mem_calloc(after, sizeof(double)),
                       .made = mem_calloc(after, sizeof(double)),
                       .first = mem_calloc((size_t)old[0] + 1, sizeof(int64_t)),
                       .next = mem_calloc((size_t)pick[0].size + 1, sizeof(int64_t))};
    if (!r->old || !r->picked || !r->made || !r->first || !r->next)
        return err_memory(e, (before + 2 * after) * sizeof(double));
    for (int64_t i = pick[0].size - 1; i >= 0; i--) {
        int64_t from = pick[0].from ? pick[0].from[i] : i;
        if (from < 0) continue; /* new arrays are zeros */
        r->next[i] = r->first[from];
        r->first[from] = i + 1;
    }
    return 0;
}

/* out[i, k, rest] = in[pick0(i), pick1(k), rest], old row by old row. */
static void gather(struct array *out, const struct array *in, struct rows *r, const struct pick pick[2],
                   const int64_t old[2], size_t rest) {
    size_t before = (size_t)old[1] * rest, after = (size_t)pick[1].size * rest;
    int digits = out->type == DT_FLOAT64 ? 0 : DBL_MANT_DIG - FLT_MANT_DIG;
    for (int64_t from = 0; from < old[0]; from++) {
        if (!r->first[from]) continue;
        array_to_double(r->old, in, (size_t)from * before, before);
        pick_row(r->picked, r->old, &pick[1], rest, digits);
        for (int64_t i = r->first[from] - 1; i >= 0; i = r->next[i] - 1) {
            copy_numbers(r->made, r->picked, after, &pick[0], i, digits);
            put_row(out, i, r->made, after);
        }
    }
}

/* The constant with its dimensions 0 and 1 picked. Both are there: rank 0 never has an axis, rank 1 gets a 1. */
static int gather_array(struct array **out, const struct array *a, const struct pick wish[2], struct err *e) {
    int rank = a->shape.rank;
    int64_t old[2] = {a->shape.dim[0], rank > 1 ? a->shape.dim[1] : 1};
    struct pick pick[2] = {wish[0], wish[1]};
    struct shape shape = a->shape;
    struct rows r = {0};
    for (int d = 0; d < 2; d++) {
        if (!pick[d].from) pick[d].size = old[d];
        if (d < rank) shape.dim[d] = pick[d].size;
    }
    size_t rest = 1;
    for (int d = 2; d < rank; d++) rest *= (size_t)a->shape.dim[d];
    *out = NULL;
    int status = array_new(out, a->type == DT_FLOAT64 ? DT_FLOAT64 : DT_FLOAT32, &shape, e);
    if (!status) status = rows_init(&r, pick, old, rest, e);
    if (!status) {
        gather(*out, a, &r, pick, old, rest);
    } else {
        array_free(*out);
        *out = NULL;
    }
    rows_fini(&r);
    return status;
}

/* One array of a value along its axes. *out stays NULL when nothing changes. */
static int gather_along(struct array **out, const struct array *from, const struct graph *g, const struct channels *c,
                        const struct channel_axis *const axes[2], const struct channel_map *maps, int power,
                        struct err *e) {
    struct pick pick[2] = {{0}, {0}};
    bool changes = false;
    int status = 0;
    for (int d = 0; d < 2 && !status; d++) {
        if (!axes[d] || !list_changes(c, axes[d]->list, maps)) continue;
        changes = true;
        status = make_pick(&pick[d], c, g, axes[d], maps, power, e);
    }
    if (!status && changes) status = gather_array(out, from, pick, e);
    pick_fini(&pick[0]);
    pick_fini(&pick[1]);
    return status;
}

/* Powers of the gradient by which what the optimizer keeps grows. */
static const int *powers_of(const struct graph *g) {
    static const int unknown[VALUE_MEMORIES] = {0};
    return g->training.rule < 0 ? unknown : optimizer_table[g->training.rule].powers;
}

/* ---- shares ---- */

/* What each channel along an axis is of the one it is a copy of: see value.share. */
static int make_share(struct array **out, const struct array *old, const struct graph *g, const struct channels *c,
                      const struct channel_axis *axis, const struct channel_map *maps, struct err *e) {
    struct pick p = {0};
    bool reads = axis->role == CHANNELS_READ;
    int status = make_pick(&p, c, g, axis, maps, reads ? THE_CONSTANT : 1, e);
    struct shape shape = {.rank = 1, .dim = {p.size}};
    if (!status) status = array_new(out, DT_FLOAT32, &shape, e);
    for (int64_t i = 0; i < p.size && !status; i++) {
        double share = reads ? -1 : 1;
        if (p.from[i] >= 0 && old) array_to_double(&share, old, (size_t)p.from[i], 1);
        if (p.from[i] >= 0) share *= p.factor[i];
        ((float *)(*out)->data)[i] = (float)share;
    }
    pick_fini(&p);
    return status;
}

/* Of a parameter, along both dimensions; without a training there is nothing that they could be for. */
static int make_shares(struct array *share[2], const struct value *v, const struct graph *g, const struct channels *c,
                       const struct channel_axis *const axes[2], const struct channel_map *maps, struct err *e) {
    int status = 0;
    for (int d = 0; d < 2 && !status && g->training.rule >= 0 && v->trainable; d++) {
        if (axes[d] && list_changes(c, axes[d]->list, maps))
            status = make_share(&share[d], v->share[d], g, c, axes[d], maps, e);
        else if (v->share[d])
            status = array_clone(&share[d], v->share[d], e);
    }
    return status;
}

/* ---- origins ---- */

static int gather_in_place(struct array **slot, const struct graph *g, const struct channels *c,
                           const struct channel_axis *const axes[2], const struct channel_map *maps, int power,
                           struct err *e) {
    struct array *fresh = NULL;
    int status = *slot ? gather_along(&fresh, *slot, g, c, axes, maps, power, e) : 0;
    if (!fresh) return status;
    array_free(*slot);
    *slot = fresh;
    return status;
}

/* A map [1][from][to] to other channels along its dimension. A copy of a carrier's channel changes by its share of what
 * the channel changed by, just as the carrier itself is gathered. */
static int resize_map(struct array **slot, const struct graph *g, const struct channels *c,
                      const struct channel_axis *axis, const struct channel_map *maps, int64_t channels,
                      struct err *e) {
    const struct channel_axis *axes[2] = {NULL, axis};
    struct array *map = *slot, *fresh = NULL;
    int64_t from = map->shape.dim[1], each = map->shape.dim[2] / channels;
    map->shape = (struct shape){.rank = 3, .dim = {from, channels, each}};
    int status = gather_along(&fresh, map, g, c, axes, maps, BESIDE_IT, e);
    if (!fresh) return status;
    fresh->shape = (struct shape){.rank = 3, .dim = {1, from, fresh->shape.dim[1] * each}};
    array_free(map);
    *slot = fresh;
    return 0;
}

/* Whether a map can go on to other channels: with fewer of them not all that its parameter was is within their reach. */
static bool map_follows(const struct array *map, const struct array *carrier, const struct channels *c,
                        const struct channel_axis *axis, int dim, const struct channel_map *maps) {
    const int64_t *n = map->shape.dim, old = carrier->shape.dim[dim];
    if (!axis || !list_changes(c, axis->list, maps)) return true;
    int64_t fresh = new_count(c, axis->list, maps) / axis->parts;
    return n[0] == 1 && fresh >= old && origin_map_fits(1, n[1], n[2] / old * fresh);
}

static int resize_merged(struct origin **out, const struct value *v, const struct graph *g, const struct channels *c,
                         const struct channel_axis *const axes[2], const struct channel_map *maps, struct err *e);

/* The origin of a value whose channels change: along dimensions without a map it changes alike, a map of one group per
 * channel goes with the channels. NULL where another map, or a merger, cannot follow. */
static int resize_origin(struct origin **out, const struct value *v, const struct graph *g, const struct channels *c,
                         const struct channel_axis *const axes[2], const struct channel_map *maps, struct err *e) {
    struct array *const *map = &v->origin->part[ORIGIN_MAP];
    bool each = map[0] && map[0]->shape.dim[0] == v->constant->shape.dim[0] && map[0]->shape.dim[1] == 1;
    const struct channel_axis *own[2] = {map[0] && !each ? NULL : axes[0], map[1] ? NULL : axes[1]};
    *out = NULL;
    if (v->origin->merger) return resize_merged(out, v, g, c, axes, maps, e);
    for (int d = 0; d < 2; d++)
        if (map[d] && !(each && d == 0) && !map_follows(map[d], v->constant, c, axes[d], d, maps)) return 0;
    int status = origin_clone(out, v->origin, e);
    for (int k = 0; k < ORIGIN_SHARE && !status; k++)
        status = gather_in_place(&(*out)->part[k], g, c, own, maps,
                                 k < ORIGIN_MEMORY ? BESIDE_IT : powers_of(g)[k - ORIGIN_MEMORY], e);
    for (int d = 0; d < 2 && !status; d++) {
        struct array **share = &(*out)->part[ORIGIN_SHARE + d], *old = *share;
        if (!axes[d] || !list_changes(c, axes[d]->list, maps)) continue;
        if (own[d]) {
            *share = NULL;
            status = make_share(share, old, g, c, axes[d], maps, e);
            array_free(old);
        }
        if (!status && each && d == 0)
            status = gather_in_place(&(*out)->part[ORIGIN_MAP], g, c, (const struct channel_axis *[]){axes[0], NULL},
                                     maps, THE_CONSTANT, e);
        if (!status && !own[d])
            status = resize_map(&(*out)->part[ORIGIN_MAP + d], g, c, axes[d], maps, v->constant->shape.dim[d], e);
    }
    if (!status) return 0;
    origin_free(*out);
    *out = NULL;
    return status;
}

/* A factor, and what it came from; *follows: this can. */
static int resize_factor(bool *follows, struct merger *m, int k, const struct graph *g, const struct channels *c,
                         const struct channel_axis *const axes[2], const struct channel_map *maps, struct err *e) {
    struct value factor = {.constant = m->factor[k], .origin = m->origin[k]};
    struct origin *fresh = NULL;
    if (!factor.constant) return 0;
    int status = factor.origin ? resize_origin(&fresh, &factor, g, c, axes, maps, e) : 0;
    *follows = *follows && (fresh || !factor.origin);
    origin_free(factor.origin);
    m->origin[k] = fresh;
    return status ? status : gather_in_place(&m->factor[k], g, c, axes, maps, THE_CONSTANT, e);
}

/* Of a chain the first layer has the inputs, and the second the outputs; of a sum both have both. Without groups. */
static int resize_merged(struct origin **out, const struct value *v, const struct graph *g, const struct channels *c,
                         const struct channel_axis *const axes[2], const struct channel_map *maps, struct err *e) {
    struct joint j;
    int status = origin_clone(out, v->origin, e);
    if (!status) status = joint_init(&j, (*out)->merger, &v->constant->shape, "a merged layer", e);
    bool follows = !status && j.c.groups == 1 && j.a.groups == 1 && j.b.groups == 1;
    for (int k = 0; k < MERGER_FACTORS && follows && !status; k += 2) {
        const struct joint_side *side = k == FACTOR_A ? &j.a : &j.b;
        const struct channel_axis *makes = j.sum || k == FACTOR_B ? axes[j.c.columns] : NULL;
        const struct channel_axis *reads = j.sum || k == FACTOR_A ? axes[!j.c.columns] : NULL;
        const struct channel_axis *of_weights[2] = {side->columns ? reads : makes, side->columns ? makes : reads};
        const struct channel_axis *of_bias[2] = {makes, NULL};
        status = resize_factor(&follows, (*out)->merger, k, g, c, of_weights, maps, e);
        if (!status) status = resize_factor(&follows, (*out)->merger, k + 1, g, c, of_bias, maps, e);
    }
    if (!status && follows) return 0;
    origin_free(*out);
    *out = NULL;
    return status;
}

static int resize_constant(struct graph *copy, const struct channels *c, int value,
                           const struct channel_axis *const axes[2], const struct channel_map *maps, struct err *e) {
    struct value *v = &copy->values[value];
    struct array *fresh = NULL, *memory[VALUE_MEMORIES] = {0}, *share[2] = {0};
    struct origin *origin = NULL;
    if (!dtype_is_real(v->constant->type))
        return err_set(e, E_UNSUPPORTED, "constant '%s' of type %s has a channel axis", v->name,
                       dtype_name(v->constant->type));
    int status = gather_along(&fresh, v->constant, copy, c, axes, maps, THE_CONSTANT, e);
    for (int k = 0; k < VALUE_MEMORIES && !status && fresh; k++)
        if (v->memory[k]) status = gather_along(&memory[k], v->memory[k], copy, c, axes, maps, powers_of(copy)[k], e);
    if (!status && fresh) status = make_shares(share, v, copy, c, axes, maps, e);
    if (!status && fresh && v->origin) status = resize_origin(&origin, v, copy, c, axes, maps, e);
    if (!status && fresh) {
        graph_replace_constant_take(copy, value, fresh);
        memcpy(v->memory, memory, sizeof memory);
        memcpy(v->share, share, sizeof share);
        return origin ? origin_end(copy, value, origin, 0, NULL, e) : 0;
    }
    array_free(fresh);
    for (int d = 0; d < 2; d++) array_free(share[d]);
    for (int k = 0; k < VALUE_MEMORIES; k++) array_free(memory[k]);
    return status;
}

static int resize_constants(struct graph *copy, const struct channels *c, const struct channel_map *maps,
                            struct err *e) {
    const struct channel_axis *(*axes)[2] = mem_calloc((size_t)copy->n_values + 1, sizeof *axes);
    if (!axes) return err_memory(e, (size_t)copy->n_values * sizeof *axes);
    int status = 0;
    for (int i = 0; i < c->n_axes; i++) axes[c->axes[i].value][c->axes[i].dim] = &c->axes[i];
    for (int v = 0; v < copy->n_values && !status; v++)
        if ((axes[v][0] && list_changes(c, axes[v][0]->list, maps)) ||
            (axes[v][1] && list_changes(c, axes[v][1]->list, maps)))
            status = resize_constant(copy, c, v, axes[v], maps, e);
    mem_free(axes);
    return status;
}

double channels_elements(const struct channels *c, const struct graph *g, const struct channel_map *maps) {
    double total = 0;
    for (int v = 0; v < g->n_values; v++)
        if (g->values[v].constant) total += (double)g->values[v].constant->count;
    for (int i = 0; i < c->n_axes; i++) {
        const struct channel_axis *axis = &c->axes[i];
        bool first = i == 0 || c->axes[i - 1].value != axis->value; /* the two axes of weights are claimed together */
        bool paired = i + 1 < c->n_axes && c->axes[i + 1].value == axis->value;
        double old = (double)g->values[axis->value].constant->count;
        if (!first || old == 0) continue;
        double factor = (double)new_count(c, axis->list, maps) / (double)channels_count(c, axis->list);
        if (paired) factor *= (double)new_count(c, axis[1].list, maps) / (double)channels_count(c, axis[1].list);
        total += old * factor - old;
    }
    return total;
}

/* Depthwise: filters that read one channel each. */
static bool is_depthwise(const struct channels *c, const struct graph *g, const struct node *n) {
    if (strcmp(n->op->name, "Conv") != 0 || node_int(n, "group", 1) == 1) return false;
    const struct array *w = g->values[n->inputs[1]].constant;
    return w && w->shape.dim[1] == 1 && c->values[n->inputs[0]].n > 0;
}

/* A depthwise convolution has as many groups as input channels, each of those that share their weights. */
static int mend_groups(struct graph *copy, const struct channels *c, const struct channel_map *maps, struct err *e) {
    int status = 0;
    for (int i = 0; i < copy->n_nodes && !status; i++) {
        const struct node *n = &copy->nodes[i];
        if (!is_depthwise(c, copy, n)) continue;
        status = graph_set_int(copy, i, "group", new_count(c, c->values[n->inputs[0]], maps), e);
    }
    return status;
}

/* How many inputs of nodes each value is: a table to be freed. */
static int count_readers(int **out, const struct graph *g, struct err *e) {
    *out = mem_calloc((size_t)g->n_values + 1, sizeof **out);
    if (!*out) return err_memory(e, (size_t)g->n_values * sizeof **out);
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i].n_inputs; k++)
            if (g->nodes[i].inputs[k] != VALUE_NONE) (*out)[g->nodes[i].inputs[k]]++;
    return 0;
}

/* Gives a reshape its target as a constant: the batch is what is left, then the new sizes. */
static int new_target(struct graph *copy, int *readers, int node, int64_t channels, struct err *e) {
    const struct node *n = &copy->nodes[node];
    const struct shape *out = &copy->values[n->outputs[0]].shape;
    struct shape shape = {.rank = 1, .dim = {out->rank}};
    struct array *target;
    int status = array_new(&target, DT_INT64, &shape, e);
    if (status) return status;
    int64_t *dims = target->data;
    dims[0] = -1;
    dims[1] = channels;
    for (int d = 2; d < out->rank; d++) dims[d] = out->dim[d];
    struct value *old = &copy->values[n->inputs[1]];
    if (old->constant && readers[n->inputs[1]] == 1) {
        array_free(old->constant);
        old->constant = target;
        old->shape = shape;
        return 0;
    }
    int value;
    status = graph_add_constant_take(&value, copy, NULL, target, e);
    if (status) return status;
    readers[n->inputs[1]]--;
    copy->nodes[node].inputs[1] = value;
    return 0;
}

static int mend_reshapes(struct graph *copy, const struct channels *c, const struct graph *g,
                         const struct channel_map *maps, struct err *e) {
    int *readers, status = count_readers(&readers, g, e);
    for (int i = 0; i < g->n_nodes && !status; i++) {
        const struct node *n = &g->nodes[i];
        if (strcmp(n->op->name, "Reshape") != 0 || n->n_inputs < 2) continue;
        struct channel_list list = c->values[n->outputs[0]];
        if (list_changes(c, list, maps)) status = new_target(copy, readers, i, new_count(c, list, maps), e);
    }
    mem_free(readers);
    return status;
}

static int check_maps(const struct channels *c, const struct graph *g, const struct channel_map *maps, struct err *e) {
    for (int i = 0; i < c->n_groups; i++) {
        const struct channel_group *group = &c->groups[i];
        if (maps[i].size == 0 || (maps[i].size == group->size && !maps[i].from)) continue;
        char reason[GRAPH_MAX_NAME + 64];
        channels_reason(reason, sizeof reason, g, group);
        if (group->fixed_by != CHANNELS_FREE)
            return err_set(e, E_INVALID, "%lld channels cannot become %lld: %s needs them as they are",
                           (long long)group->size, (long long)maps[i].size, reason);
        if (maps[i].size % group->multiple)
            return err_set(e, E_INVALID,
                           "%lld channels cannot become %lld: grouped convolutions need a multiple of %lld",
                           (long long)group->size, (long long)maps[i].size, (long long)group->multiple);
    }
    return 0;
}

int channels_resize(struct graph **out, const struct channels *c, const struct graph *g, const struct channel_map *maps,
                    struct err *e) {
    struct graph *copy = NULL;
    int status = check_maps(c, g, maps, e);
    if (!status) status = graph_clone(&copy, g, e);
    if (!status) status = resize_constants(copy, c, maps, e);
    if (!status) status = mend_groups(copy, c, maps, e);
    if (!status) status = mend_reshapes(copy, c, g, maps, e);
    if (!status) status = graph_finish(copy, e);
    if (!status) graph_change_training(copy);
    if (status) {
        graph_free(copy);
        return status;
    }
    *out = copy;
    return 0;
}
