/* merger.c - see merger.h. */
#include "engine/nn/merger.h"

#include <string.h>

#include "base/memory.h"
#include "engine/kernels/blas.h"
#include "engine/nn/origin.h"

/* ---- mergers ---- */

void merger_free(struct merger *m) {
    if (!m) return;
    array_free(m->plan);
    for (int k = 0; k < MERGER_FACTORS; k++) {
        array_free(m->factor[k]);
        origin_free(m->origin[k]);
    }
    mem_free(m);
}

int merger_clone(struct merger **out, const struct merger *m, struct err *e) {
    *out = mem_calloc(1, sizeof **out);
    if (!*out) return err_memory(e, sizeof **out);
    int status = m->plan ? array_clone(&(*out)->plan, m->plan, e) : 0;
    for (int k = 0; k < MERGER_FACTORS && !status; k++) {
        if (m->factor[k]) status = array_clone(&(*out)->factor[k], m->factor[k], e);
        if (!status && m->origin[k]) status = origin_clone(&(*out)->origin[k], m->origin[k], e);
    }
    if (!status) return 0;
    merger_free(*out);
    *out = NULL;
    return status;
}

int merger_depth(const struct merger *m) {
    int deepest = 0;
    for (int k = 0; k < MERGER_FACTORS; k++) {
        int depth = m->origin[k] && m->origin[k]->merger ? merger_depth(m->origin[k]->merger) : 0;
        if (depth > deepest) deepest = depth;
    }
    return deepest + 1;
}

/* ---- how the parts fit ---- */

/* Channels and taps of a layer. */
static bool read_side(struct joint_side *s, const struct shape *shape, const real *plan, int which) {
    if (shape->rank < 2 || shape->rank > 4) return false;
    s->columns = plan[MERGER_COLUMNS + which] != 0;
    if (s->columns && shape->rank > 2) return false;
    s->out = shape->dim[s->columns ? 1 : 0];
    s->in = shape->dim[s->columns ? 0 : 1];
    s->kernel[0] = shape->rank > 3 ? shape->dim[2] : 1;
    s->kernel[1] = shape->rank > 2 ? shape->dim[shape->rank - 1] : 1;
    s->taps = s->kernel[0] * s->kernel[1];
    return s->out > 0 && s->in > 0 && s->taps > 0;
}

/* A number of the plan, -1 for what cannot be one. */
static int64_t plan_number(real x) {
    return x >= 0 && x <= 65536 ? (int64_t)x : -1;
}

static bool read_place(struct joint_side *s, const struct joint_side *c, const real *plan, int which) {
    for (int axis = 0; axis < 2; axis++) {
        s->step[axis] = plan_number(plan[MERGER_STEP + 2 * which + axis]);
        s->start[axis] = plan_number(plan[MERGER_START + 2 * which + axis]);
        if (s->step[axis] < 0 || s->start[axis] < 0 || s->kernel[axis] > c->kernel[axis]) return false;
        if (s->start[axis] + (s->kernel[axis] - 1) * s->step[axis] >= c->kernel[axis]) return false;
    }
    return true;
}

/* Groups of a layer that reads so many channels; the merged layer's must be coarser. */
static bool fit_groups(struct joint_side *s, int64_t channels, int64_t groups) {
    if (channels % s->in) return false;
    s->groups = channels / s->in;
    return s->groups % groups == 0 && s->out % s->groups == 0 && channels % groups == 0;
}

/* Elements of a layer when it has the groups of the merged one: zeros between its own. */
static int64_t packed(const struct joint_side *s, int64_t groups) {
    return s->out * (s->in * s->groups / groups) * s->taps;
}

/* Layer A or B. */
static bool fit_side(struct joint *j, int k, const struct array *weights, const real *plan) {
    struct joint_side *s = k ? &j->b : &j->a;
    s->groups = j->groups;
    if (!weights) return k == 1 && j->sum;
    int64_t reads = k && !j->sum ? j->a.out : j->c.in * j->groups;
    return read_side(s, &weights->shape, plan, 1 + k) && read_place(s, &j->c, plan, k) &&
           fit_groups(s, reads, j->groups) && (!j->sum || s->out == j->c.out);
}

static bool parts_meet(const struct joint *j) {
    for (int axis = 0; axis < 2 && !j->sum; axis++) {
        int64_t last = 0;
        for (int k = 0; k < 2; k++) {
            const struct joint_side *s = k ? &j->b : &j->a;
            last += s->start[axis] + (s->kernel[axis] - 1) * s->step[axis];
        }
        if (last >= j->c.kernel[axis]) return false;
    }
    return j->sum || j->b.out == j->c.out;
}

static bool is_bias(const struct array *bias, int64_t channels) {
    return !bias || (bias->shape.rank == 1 && bias->shape.dim[0] == channels);
}

static bool fits(struct joint *j, const struct merger *m, const struct shape *carrier) {
    const real *plan = m->plan->data;
    *j = (struct joint){.sum = plan[MERGER_IS_SUM] != 0, .groups = plan_number(plan[MERGER_GROUPS])};
    if (!read_side(&j->c, carrier, plan, 0)) return false;
    if (j->groups < 1 || j->c.out % j->groups || j->c.in > (int64_t)ORIGIN_MAP_MOST / j->groups) return false;
    j->c.groups = j->groups;
    return fit_side(j, 0, m->factor[FACTOR_A], plan) && fit_side(j, 1, m->factor[FACTOR_B], plan) && parts_meet(j) &&
           is_bias(m->factor[FACTOR_A_BIAS], j->a.out) && is_bias(m->factor[FACTOR_B_BIAS], j->b.out) &&
           origin_map_fits(1, packed(&j->a, j->groups), 1) && origin_map_fits(1, packed(&j->b, j->groups), 1) &&
           origin_map_fits(1, packed(&j->c, j->groups), 1);
}

static bool is_whole(const struct merger *m) {
    bool whole = m->plan && m->plan->count == MERGER_NUMBERS && m->factor[FACTOR_A];
    for (int k = 0; k < MERGER_FACTORS; k++) whole = whole && (!m->factor[k] || dtype_is_real(m->factor[k]->type));
    return whole;
}

int joint_init(struct joint *j, struct merger *m, const struct shape *carrier, const char *name, struct err *e) {
    bool whole = is_whole(m);
    int status = whole ? origin_reals(&m->plan, e) : 0;
    for (int k = 0; k < MERGER_FACTORS && whole && !status; k++) status = origin_reals(&m->factor[k], e);
    if (status) return status;
    if (whole && fits(j, m, carrier)) return 0;
    return err_set(e, E_INVALID, "the layers that '%s' was made of do not fit it", name);
}

/* ---- scaling ---- */

static size_t place_of(const struct joint_side *s, int64_t o, int64_t i) {
    return (size_t)(s->columns ? i * s->out + o : (o * s->in + i) * s->taps);
}

/* The channel that weight [o][i] reads, of those of all groups. */
static int64_t read_by(const struct joint_side *s, int64_t o, int64_t i) {
    return o / (s->out / s->groups) * s->in + i;
}

static int scale_weights(struct array *weights, const struct joint_side *side, const struct scaling *s, struct err *e) {
    int status = array_own(weights, e);
    for (int64_t o = 0; o < side->out && !status; o++)
        for (int64_t i = 0; i < side->in; i++) {
            real by = (real)s->by[s->outputs ? o : read_by(side, o, i)];
            real *at = (real *)weights->data + place_of(side, o, i);
            for (int64_t tap = 0; tap < side->taps; tap++) at[tap] *= by;
        }
    return status;
}

static int scale_bias(struct array *bias, const struct scaling *s, struct err *e) {
    int status = array_own(bias, e);
    for (int64_t o = 0; o < s->channels && !status; o++) ((real *)bias->data)[o] *= (real)s->by[o];
    return status;
}

static int scale_layer(struct merger *m, int k, const struct joint_side *side, const struct scaling *s, struct err *e) {
    if (!m->factor[k]) return 0;
    struct scaling of_layer = *s, of_bias = *s;
    struct array *bias = s->outputs ? m->factor[k + 1] : NULL;
    of_layer.columns = side->columns;
    of_layer.groups = side->groups;
    of_bias.columns = false;
    int status = scale_weights(m->factor[k], side, &of_layer, e);
    if (!status && bias) status = scale_bias(bias, s, e);
    if (!status && m->origin[k]) status = origin_scale(m->origin[k], &m->factor[k]->shape, &of_layer, e);
    if (!status && bias && m->origin[k + 1]) status = origin_scale(m->origin[k + 1], &bias->shape, &of_bias, e);
    return status;
}

/* Of a chain the first layer has the inputs, and the second the outputs. */
int merger_scale(struct merger *m, const struct shape *carrier, const struct scaling *s, struct err *e) {
    struct joint j;
    int status = joint_init(&j, m, carrier, "a merged layer", e);
    if (!status && s->channels != (s->outputs ? j.c.out : j.c.in * j.groups))
        status = err_set(e, E_INVALID, "%lld scales are not for its channels", (long long)s->channels);
    if (!status && (j.sum || !s->outputs)) status = scale_layer(m, FACTOR_A, &j.a, s, e);
    if (!status && (j.sum || s->outputs)) status = scale_layer(m, FACTOR_B, &j.b, s, e);
    return status;
}

/* ---- layers by group and tap: [groups][taps][out of a group][in of a group] ---- */

/* One of its matrices. */
struct block {
    int64_t out, in;
    int64_t per_group; /* outputs of one of the layer's own groups */
};

static struct block block_of(const struct joint_side *s, int64_t groups) {
    return (struct block){s->out / groups, s->in * (s->groups / groups), s->out / s->groups};
}

/* Where weight [o][i][0] of a layer is when packed; a tap further is out * in further. */
static size_t packed_at(const struct joint_side *s, const struct block *w, int64_t o, int64_t i) {
    int64_t group = o / w->out, row = o % w->out, column = row / w->per_group * s->in + i;
    return (size_t)((group * s->taps * w->out + row) * w->in + column);
}

static void pack(real *out, const real *weights, const struct joint_side *s, int64_t groups) {
    struct block w = block_of(s, groups);
    memset(out, 0, (size_t)packed(s, groups) * sizeof *out);
    for (int64_t o = 0; o < s->out; o++)
        for (int64_t i = 0; i < s->in; i++) {
            const real *from = weights + place_of(s, o, i);
            real *to = out + packed_at(s, &w, o, i);
            for (int64_t tap = 0; tap < s->taps; tap++) to[tap * w.out * w.in] = from[tap];
        }
}

static void unpack(real *weights, const real *in, const struct joint_side *s, int64_t groups, bool add) {
    struct block w = block_of(s, groups);
    for (int64_t o = 0; o < s->out; o++)
        for (int64_t i = 0; i < s->in; i++) {
            const real *from = in + packed_at(s, &w, o, i);
            real *to = weights + place_of(s, o, i);
            for (int64_t tap = 0; tap < s->taps; tap++) to[tap] = from[tap * w.out * w.in] + (add ? to[tap] : 0);
        }
}

static int64_t tap_in(const struct joint *j, const struct joint_side *s, int64_t tap) {
    int64_t row = s->start[0] + tap / s->kernel[1] * s->step[0], column = s->start[1] + tap % s->kernel[1] * s->step[1];
    return row * j->c.kernel[1] + column;
}

/* ---- products of groups and taps ---- */

/* The matrices of one group that meet: tap u of A, v of B, and the one of C that both fall on. */
struct tap_pair {
    real *a, *b, *c;
    int out, mid, in;
};
typedef void pair_fn(const struct tap_pair *m);

static void for_each_pair(const struct joint *j, real *a, real *b, real *c, pair_fn *visit) {
    struct block wa = block_of(&j->a, j->groups), wb = block_of(&j->b, j->groups), wc = block_of(&j->c, j->groups);
    for (int64_t g = 0; g < j->groups; g++)
        for (int64_t u = 0; u < j->a.taps; u++)
            for (int64_t v = 0; v < j->b.taps; v++) {
                int64_t t = tap_in(j, &j->a, u) + tap_in(j, &j->b, v);
                struct tap_pair m = {a + (g * j->a.taps + u) * wa.out * wa.in,
                                     b + (g * j->b.taps + v) * wb.out * wb.in,
                                     c + (g * j->c.taps + t) * wc.out * wc.in,
                                     (int)wc.out,
                                     (int)wb.in,
                                     (int)wc.in};
                visit(&m);
            }
}

static void multiply(const struct tap_pair *m) {
    blas_gemm(false, false, m->out, m->in, m->mid, m->b, m->mid, m->a, m->in, m->c, m->in, true);
}

static void into_a(const struct tap_pair *m) {
    blas_gemm(true, false, m->mid, m->in, m->out, m->b, m->mid, m->c, m->in, m->a, m->in, true);
}

static void into_b(const struct tap_pair *m) {
    blas_gemm(false, true, m->out, m->mid, m->in, m->c, m->in, m->a, m->in, m->b, m->mid, true);
}

/* ---- biases ---- */

/* Of c = B a + b: to the gradients of B and a what c adds. */
static void pull_bias(real *of_b, real *of_a, const real *b, const real *a, const real *c, const struct joint *j) {
    for (int64_t o = 0; o < j->b.out; o++)
        for (int64_t i = 0; i < j->b.in; i++) {
            int64_t m = read_by(&j->b, o, i);
            size_t first = place_of(&j->b, o, i);
            for (size_t at = first; at < first + (size_t)j->b.taps; at++) {
                of_a[m] += b[at] * c[o];
                of_b[at] += a[m] * c[o];
            }
        }
}

/* c += B a - (B - dB)(a - da) */
static void push_bias(real *c, const real *b, const real *a, const real *db, const real *da, const struct joint *j) {
    for (int64_t o = 0; o < j->b.out; o++)
        for (int64_t i = 0; i < j->b.in; i++) {
            int64_t m = read_by(&j->b, o, i);
            size_t first = place_of(&j->b, o, i);
            for (size_t at = first; at < first + (size_t)j->b.taps; at++)
                c[o] += (b[at] - db[at]) * da[m] + db[at] * a[m];
        }
}

/* ---- one layer of two ---- */

struct room {
    real *a, *b, *da, *db, *c;
};

static size_t packed_count(const struct joint *j, const struct joint_side *s) {
    return (size_t)packed(s, j->groups);
}

static struct room room_in(real *scratch, const struct joint *j) {
    size_t a = packed_count(j, &j->a), b = packed_count(j, &j->b);
    return (struct room){scratch, scratch + a, scratch + a + b, scratch + 2 * a + b, scratch + 2 * (a + b)};
}

size_t joint_scratch(const struct joint *j) {
    return 2 * (packed_count(j, &j->a) + packed_count(j, &j->b)) + packed_count(j, &j->c);
}

/* A summand's taps out of those of C, or added to them. */
static void at_its_taps(real *summand, real *c, const struct joint *j, const struct joint_side *s, bool add) {
    size_t block = (size_t)(s->out / j->groups * (j->c.in * j->c.groups / j->groups));
    for (int64_t g = 0; g < j->groups; g++)
        for (int64_t u = 0; u < s->taps; u++) {
            real *own = summand + (size_t)(g * s->taps + u) * block;
            real *whole = c + (size_t)(g * j->c.taps + tap_in(j, s, u)) * block;
            for (size_t i = 0; i < block; i++)
                if (add)
                    whole[i] += own[i];
                else
                    own[i] = whole[i];
        }
}

void joint_pull(real *const gradient[MERGER_FACTORS], const real *const factor[MERGER_FACTORS], const real *weights,
                const real *bias, const struct joint *j, real *scratch) {
    struct room r = room_in(scratch, j);
    pack(r.c, weights, &j->c, j->groups);
    if (j->sum) {
        at_its_taps(r.da, r.c, j, &j->a, false);
        at_its_taps(r.db, r.c, j, &j->b, false);
    } else {
        pack(r.a, factor[FACTOR_A], &j->a, j->groups);
        pack(r.b, factor[FACTOR_B], &j->b, j->groups);
        memset(r.da, 0, (packed_count(j, &j->a) + packed_count(j, &j->b)) * sizeof *r.da);
        for_each_pair(j, r.da, r.b, r.c, into_a);
        for_each_pair(j, r.a, r.db, r.c, into_b);
    }
    unpack(gradient[FACTOR_A], r.da, &j->a, j->groups, false);
    unpack(gradient[FACTOR_B], r.db, &j->b, j->groups, false);
    real *of_a = gradient[FACTOR_A_BIAS], *of_b = gradient[FACTOR_B_BIAS];
    for (int64_t i = 0; of_a && i < j->a.out; i++) of_a[i] = bias && j->sum ? bias[i] : 0;
    for (int64_t o = 0; of_b && o < j->b.out; o++) of_b[o] = bias ? bias[o] : 0;
    if (of_a && bias && !j->sum) pull_bias(gradient[FACTOR_B], of_a, factor[FACTOR_B], factor[FACTOR_A_BIAS], bias, j);
}

void joint_push(real *weights, real *bias, const real *const factor[MERGER_FACTORS],
                const real *const change[MERGER_FACTORS], const struct joint *j, real *scratch) {
    struct room r = room_in(scratch, j);
    pack(r.da, change[FACTOR_A], &j->a, j->groups);
    pack(r.db, change[FACTOR_B], &j->b, j->groups);
    memset(r.c, 0, packed_count(j, &j->c) * sizeof *r.c);
    if (j->sum) {
        at_its_taps(r.da, r.c, j, &j->a, true);
        at_its_taps(r.db, r.c, j, &j->b, true);
    } else { /* B A - (B - dB)(A - dA) */
        pack(r.a, factor[FACTOR_A], &j->a, j->groups);
        pack(r.b, factor[FACTOR_B], &j->b, j->groups);
        for_each_pair(j, r.a, r.db, r.c, multiply);
        for (size_t i = 0; i < packed_count(j, &j->b); i++) r.b[i] -= r.db[i];
        for_each_pair(j, r.da, r.b, r.c, multiply);
    }
    unpack(weights, r.c, &j->c, j->groups, true);
    const real *da = change[FACTOR_A_BIAS], *db = change[FACTOR_B_BIAS];
    if (da && bias && !j->sum) push_bias(bias, factor[FACTOR_B], factor[FACTOR_A_BIAS], change[FACTOR_B], da, j);
    for (int64_t i = 0; da && bias && j->sum && i < j->a.out; i++) bias[i] += da[i];
    for (int64_t o = 0; db && bias && o < j->b.out; o++) bias[o] += db[o];
}
