/* origin.c - see origin.h. */
#include "engine/nn/origin.h"

#include <string.h>

#include "base/memory.h"
#include "engine/kernels/blas.h"

/* ---- origins ---- */

void origin_free(struct origin *o) {
    if (!o) return;
    for (int i = 0; i < ORIGIN_PARTS; i++) array_free(o->part[i]);
    merger_free(o->merger);
    mem_free(o);
}

int origin_clone(struct origin **out, const struct origin *o, struct err *e) {
    int status = 0;
    *out = mem_calloc(1, sizeof **out);
    if (!*out) return err_memory(e, sizeof **out);
    for (int i = 0; i < ORIGIN_PARTS && !status; i++)
        if (o->part[i]) status = array_clone(&(*out)->part[i], o->part[i], e);
    if (!status && o->merger) status = merger_clone(&(*out)->merger, o->merger, e);
    if (!status) return 0;
    origin_free(*out);
    *out = NULL;
    return status;
}

bool origin_map_fits(int64_t groups, int64_t from, int64_t to) {
    return (double)groups * (double)from * (double)to <= (double)ORIGIN_MAP_MOST;
}

int origin_begin(struct origin **out, struct graph *g, int value, struct err *e) {
    struct value *v = &g->values[value];
    *out = v->origin;
    v->origin = NULL;
    if (*out || g->training.rule < 0 || !v->memory[0]) return 0;
    *out = mem_calloc(1, sizeof **out);
    if (!*out) return err_memory(e, sizeof **out);
    int status = array_clone(&(*out)->part[ORIGIN_WEIGHTS], v->constant, e);
    memcpy(&(*out)->part[ORIGIN_MEMORY], v->memory, sizeof v->memory);
    memcpy(&(*out)->part[ORIGIN_SHARE], v->share, sizeof v->share);
    memset(v->memory, 0, sizeof v->memory);
    memset(v->share, 0, sizeof v->share);
    return status;
}

int origin_reals(struct array **a, struct err *e) {
    enum dtype type = sizeof(real) == sizeof(float) ? DT_FLOAT32 : DT_FLOAT64;
    struct array *to;
    if (!*a || (*a)->type == type) return 0;
    int status = array_new(&to, type, &(*a)->shape, e);
    if (status) return status;
    if (type == DT_FLOAT32)
        array_to_float(to->data, *a, 0, to->count);
    else
        array_to_double(to->data, *a, 0, to->count);
    array_free(*a);
    *a = to;
    return 0;
}

/* A map of fewer parts: those that it had are on its diagonal. NULL when that is too large, or no part of parts. */
static int spread_map(struct array **map, int64_t parts, struct err *e) {
    struct array *wide = NULL;
    const int64_t *n = (*map)->shape.dim;
    int64_t each = n[0] / parts, from = each * n[1], to = each * n[2];
    if (n[0] == parts) return 0;
    bool fits = n[0] % parts == 0 && origin_map_fits(parts, from, to);
    int status = fits ? array_new(&wide, (*map)->type, &(struct shape){3, {parts, from, to}}, e) : 0;
    for (int64_t row = 0; wide && row < n[0] * n[1]; row++) {
        int64_t k = row / n[1];
        memcpy((real *)wide->data + row * to + k % each * n[2], (const real *)(*map)->data + row * n[2],
               (size_t)n[2] * sizeof(real));
    }
    array_free(*map);
    *map = wide;
    return status;
}

/* The first and then the second, [parts][from][to] each, in the place of the first; NULL when they do not fit. */
static int join_maps(struct array **first, struct array *second, struct err *e) {
    struct array *both = NULL;
    int status = origin_reals(first, e);
    if (!status) status = origin_reals(&second, e);
    int64_t parts = (*first)->shape.dim[0] < second->shape.dim[0] ? (*first)->shape.dim[0] : second->shape.dim[0];
    if (!status) status = spread_map(first, parts, e);
    if (!status) status = spread_map(&second, parts, e);
    const int64_t *a = *first ? (*first)->shape.dim : NULL, *b = second ? second->shape.dim : NULL;
    bool fit = !status && a && b && a[0] == b[0] && a[2] == b[1] && origin_map_fits(a[0], a[1], b[2]);
    if (fit) status = array_new(&both, (*first)->type, &(struct shape){3, {a[0], a[1], b[2]}}, e);
    for (int64_t k = 0; both && k < a[0]; k++)
        blas_gemm(false, false, (int)a[1], (int)b[2], (int)b[1], (real *)(*first)->data + k * a[1] * a[2], (int)a[2],
                  (real *)second->data + k * b[1] * b[2], (int)b[2], (real *)both->data + k * a[1] * b[2], (int)b[2],
                  false);
    array_free(*first);
    array_free(second);
    *first = both;
    return status;
}

/* One more map along a dimension, which is taken; false: it does not fit those that are there. */
static int add_map(bool *fits, struct origin *o, int dim, struct array *map, struct err *e) {
    struct array **slot = &o->part[ORIGIN_MAP + dim];
    *fits = !o->merger;
    if (!*slot) {
        *slot = map;
        return 0;
    }
    int status = join_maps(slot, map, e);
    *fits = *fits && *slot;
    return status;
}

int origin_end(struct graph *g, int value, struct origin *o, int dim, struct array *map, struct err *e) {
    struct value *v = &g->values[value];
    struct err unfit = {0};
    bool fits = o != NULL;
    int status = 0;
    if (o && map)
        status = add_map(&fits, o, dim, map, &unfit);
    else
        array_free(map);
    if (!status && fits) status = origin_check(o, &v->constant->shape, v->name, &unfit);
    if (status || !fits) {
        origin_free(o);
        return status == E_INVALID ? 0 : err_set(e, status, "%s", unfit.text);
    }
    origin_free(v->origin);
    v->origin = o;
    return 0;
}

/* [channels,1,1] along dimension 0; [groups,in,in] with the scales on the diagonals along dimension 1. */
static int scale_map(struct array **out, const struct scaling *s, int dim, struct err *e) {
    int64_t in = s->channels / (s->outputs ? 1 : s->groups);
    struct shape shape = {.rank = 3, .dim = {dim ? s->channels / in : s->channels, dim ? in : 1, dim ? in : 1}};
    int status = array_new(out, DT_FLOAT32, &shape, e);
    for (int64_t c = 0; c < s->channels && !status; c++)
        ((float *)(*out)->data)[dim ? c * in + c % in : c] = (float)s->by[c];
    return status;
}

int origin_scale(struct origin *o, const struct shape *carrier, const struct scaling *s, struct err *e) {
    if (o->merger) return merger_scale(o->merger, carrier, s, e);
    int dim = s->outputs == s->columns;
    int64_t groups = s->outputs ? 1 : s->groups, in = s->channels / groups;
    struct array *map;
    bool fits;
    if (dim && !origin_map_fits(groups, in, in))
        return err_set(e, E_INVALID, "a map of %lld channels is too large", (long long)in);
    int status = scale_map(&map, s, dim, e);
    if (!status) status = add_map(&fits, o, dim, map, e);
    return status || fits ? status : err_set(e, E_INVALID, "the scales do not fit the maps that are there");
}

int origin_check(struct origin *o, const struct shape *carrier, const char *name, struct err *e) {
    struct frame unused;
    struct joint also;
    if (!o->merger) return frame_init(&unused, o, carrier, name, e);
    for (int i = 0; i < ORIGIN_PARTS; i++)
        if (o->part[i]) return err_set(e, E_INVALID, "'%s' came from two layers and from one", name);
    int status = joint_init(&also, o->merger, carrier, name, e);
    for (int k = 0; k < MERGER_FACTORS && !status; k++)
        if (o->merger->origin[k])
            status = o->merger->factor[k]
                         ? origin_check(o->merger->origin[k], &o->merger->factor[k]->shape, name, e)
                         : err_set(e, E_INVALID, "a layer that '%s' was made of lacks its weights", name);
    return status;
}

/* ---- P ---- */

static void lengths(int64_t n[3], const struct shape *s) {
    for (int d = 0; d < 2; d++) n[d] = s->rank > d ? s->dim[d] : 1;
    n[2] = 1;
    for (int d = 2; d < s->rank; d++) n[2] *= s->dim[d];
}

bool map_keeps_taps(const struct array *map, int64_t from, int64_t to) {
    return map->shape.dim[1] == from && map->shape.dim[2] == to;
}

/* Whether a map leads along dimension d from one to the other; `between` is then completed. */
static bool leads(const struct array *map, int d, const int64_t from[3], const int64_t to[3]) {
    if (!map) return from[d] == to[d] && from[2] == to[2];
    const int64_t *n = map->shape.dim;
    if (map->shape.rank != 3 || n[0] < 1 || from[0] % n[0] || to[0] % n[0]) return false;
    int64_t a = d ? from[1] : from[0] / n[0], b = d ? to[1] : to[0] / n[0];
    return (map_keeps_taps(map, a, b) && from[2] == to[2]) || (n[1] == a * from[2] && n[2] == b * to[2]);
}

static bool parts_fit(const struct origin *o, const int64_t from[3]) {
    for (int k = 0; k < VALUE_MEMORIES; k++) {
        const struct array *memory = o->part[ORIGIN_MEMORY + k];
        if (memory && !shape_equal(&memory->shape, &o->part[ORIGIN_WEIGHTS]->shape)) return false;
    }
    for (int d = 0; d < 2; d++) {
        const struct array *share = o->part[ORIGIN_SHARE + d];
        if (share && (share->shape.rank != 1 || share->shape.dim[0] != from[d])) return false;
    }
    return true;
}

int frame_init(struct frame *f, struct origin *o, const struct shape *carrier, const char *name, struct err *e) {
    struct array **map = &o->part[ORIGIN_MAP];
    const struct array *weights = o->part[ORIGIN_WEIGHTS];
    bool good = weights && dtype_is_real(weights->type) && weights->shape.rank == carrier->rank;
    *f = (struct frame){0};
    if (good) {
        lengths(f->from, &weights->shape);
        lengths(f->to, carrier);
        bool early = map[1] && (map[1]->shape.rank != 3 || !map_keeps_taps(map[1], f->from[1], f->to[1]));
        memcpy(f->between, (int64_t[]){f->from[0], f->to[1], early ? f->to[2] : f->from[2]}, sizeof f->between);
        good = parts_fit(o, f->from) && leads(map[1], 1, f->from, f->between) && leads(map[0], 0, f->between, f->to);
    }
    if (!good) return err_set(e, E_INVALID, "what parameter '%s' came from does not fit it", name);
    int status = 0;
    for (int d = 0; d < 2 && !status; d++) {
        status = origin_reals(&map[d], e);
        f->map[d] = map[d];
    }
    return status;
}

static size_t count(const int64_t n[3]) {
    return (size_t)(n[0] * n[1] * n[2]);
}

static size_t largest(const struct frame *f) {
    size_t n = count(f->from) > count(f->between) ? count(f->from) : count(f->between);
    return count(f->to) > n ? count(f->to) : n;
}

size_t frame_scratch(const struct frame *f) {
    return 4 * largest(f);
}

/* [a][b][taps] as [b][a][taps]. */
static void swap(real *out, const real *in, int64_t a, int64_t b, int64_t taps) {
    for (int64_t i = 0; i < a; i++)
        for (int64_t j = 0; j < b; j++)
            memcpy(out + (j * a + i) * taps, in + (i * b + j) * taps, (size_t)taps * sizeof *out);
}

/* out = in times a map of channels and taps along dimension 1, or its transpose. */
static void along_rows(real *out, const real *in, const real *m, int rows, int from, int to, bool back) {
    blas_gemm(false, back, rows, back ? from : to, back ? to : from, in, back ? to : from, m, to, out, back ? from : to,
              false);
}

/* One map: to[..] from from[..], or back, when `in` has the lengths `to`. */
static void along(real *out, const real *in, const struct array *map, int d, const int64_t from[3], const int64_t to[3],
                  bool back, real *scratch, size_t room) {
    const int64_t *n = map->shape.dim, *a = back ? to : from, *b = back ? from : to;
    const real *m = map->data;
    int64_t parts = n[0];
    if (map_keeps_taps(map, d ? from[1] : from[0] / parts, d ? to[1] : to[0] / parts) && (d == 0 || from[2] > 1)) {
        int64_t blocks = d ? a[0] : parts, rest = d ? a[2] : a[1] * a[2], in_each = back ? n[2] : n[1],
                out_each = back ? n[1] : n[2];
        for (int64_t k = 0; k < blocks; k++)
            blas_gemm(!back, false, (int)out_each, (int)rest, (int)in_each, m + k * parts / blocks * n[1] * n[2],
                      (int)n[2], in + k * in_each * rest, (int)rest, out + k * out_each * rest, (int)rest, false);
        return;
    }
    for (int64_t k = 0; k < parts; k++, m += n[1] * n[2]) {
        const real *part = in + k * a[0] / parts * a[1] * a[2];
        real *made = out + k * b[0] / parts * b[1] * b[2];
        if (d) {
            along_rows(made, part, m, (int)(a[0] / parts), (int)n[1], (int)n[2], back);
            continue;
        }
        swap(scratch, part, a[0] / parts, a[1], a[2]);
        along_rows(scratch + room, scratch, m, (int)a[1], (int)n[1], (int)n[2], back);
        swap(made, scratch + room, b[1], b[0] / parts, b[2]);
    }
}

void frame_push(real *c, const real *w, const struct frame *f, real *scratch) {
    size_t room = largest(f), n = count(f->to);
    real *middle = scratch, *made = scratch + room, *more = made + room;
    if (f->map[1]) along(middle, w, f->map[1], 1, f->from, f->between, false, more, room);
    const real *at = f->map[1] ? middle : w;
    if (f->map[0]) along(made, at, f->map[0], 0, f->between, f->to, false, more, room);
    at = f->map[0] ? made : at;
    for (size_t i = 0; i < n; i++) c[i] += at[i];
}

void frame_pull(real *w, const real *c, const struct frame *f, real *scratch) {
    size_t room = largest(f);
    real *more = scratch + 2 * room;
    if (f->map[0]) along(f->map[1] ? scratch : w, c, f->map[0], 0, f->between, f->to, true, more, room);
    const real *at = f->map[0] ? (f->map[1] ? scratch : w) : c;
    if (f->map[1]) along(w, at, f->map[1], 1, f->from, f->between, true, more, room);
    if (!f->map[0] && !f->map[1]) memcpy(w, c, count(f->from) * sizeof *w);
}
