/* optimizer.c - update rules over blocks of the flat parameter array. */
#include "engine/nn/optimizer.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "engine/kernels/vector.h"

/* The rules are loops over restricted pointers and nothing else, so that they vectorise: once with and once without a
 * pace. */

INLINE void sgd_loop(const struct optimizer_update *u, real *restrict p, const real *restrict g,
                     real *restrict velocity, const real *restrict pace, const real *restrict tilt, size_t n) {
    const real rate = u->rate, scale = u->scale, decay = u->decay, momentum = u->momentum, grown = u->grown;
    for (size_t i = 0; i < n; i++) {
        real r = pace ? rate * (grown + (1 - grown) * pace[i]) : rate;
        real w = pace ? decay * (grown + (1 - grown) * tilt[i]) : decay;
        velocity[i] = momentum * velocity[i] + (g[i] * scale + w * p[i]);
        p[i] -= r * velocity[i];
    }
}

VECTORISED static void update_sgd(const struct optimizer_update *u, real *p, const real *g, real *const *state,
                                  const real *pace, const real *tilt, size_t n) {
    if (pace)
        sgd_loop(u, p, g, state[0], pace, tilt, n);
    else
        sgd_loop(u, p, g, state[0], NULL, NULL, n);
}

INLINE void adam_loop(const struct optimizer_update *u, real *restrict p, const real *restrict g, real *restrict m,
                      real *restrict v, const real *restrict pace, const real *restrict tilt, size_t n) {
    const real scale = u->scale, decay = u->decay, beta1 = u->momentum, beta2 = u->smoothing, epsilon = u->epsilon;
    const real rest1 = u->rest[0], rest2 = u->rest[1];
    const real rate = u->rate / u->correction[0], root = 1 / u->correction[1];
    const real young = u->rate / u->young_correction[0], young_root = 1 / u->young_correction[1], grown = u->grown;
    for (size_t i = 0; i < n; i++) {
        real w = pace ? decay * (grown + (1 - grown) * tilt[i]) : decay, d = g[i] * scale + w * p[i];
        bool fresh = pace && pace[i] == 0;
        real r = pace ? (fresh ? young : rate) * (grown + (1 - grown) * pace[i]) : rate, s = fresh ? young_root : root;
        m[i] = beta1 * m[i] + rest1 * d;
        v[i] = beta2 * v[i] + rest2 * d * d;
        p[i] -= r * m[i] / (real_sqrt(v[i]) * s + epsilon);
    }
}

VECTORISED static void update_adam(const struct optimizer_update *u, real *p, const real *g, real *const *state,
                                   const real *pace, const real *tilt, size_t n) {
    if (pace)
        adam_loop(u, p, g, state[0], state[1], pace, tilt, n);
    else
        adam_loop(u, p, g, state[0], state[1], NULL, NULL, n);
}

INLINE void rmsprop_loop(const struct optimizer_update *u, real *restrict p, const real *restrict g, real *restrict v,
                         real *restrict velocity, const real *restrict pace, const real *restrict tilt, size_t n) {
    const real rate = u->rate, scale = u->scale, decay = u->decay, momentum = u->momentum, grown = u->grown;
    const real alpha = u->smoothing, rest = u->rest[1], epsilon = u->epsilon;
    for (size_t i = 0; i < n; i++) {
        real w = pace ? decay * (grown + (1 - grown) * tilt[i]) : decay, d = g[i] * scale + w * p[i];
        real r = pace ? rate * (grown + (1 - grown) * pace[i]) : rate;
        v[i] = alpha * v[i] + rest * d * d;
        velocity[i] = momentum * velocity[i] + d / (real_sqrt(v[i]) + epsilon);
        p[i] -= r * velocity[i];
    }
}

VECTORISED static void update_rmsprop(const struct optimizer_update *u, real *p, const real *g, real *const *state,
                                      const real *pace, const real *tilt, size_t n) {
    if (pace)
        rmsprop_loop(u, p, g, state[0], state[1], pace, tilt, n);
    else
        rmsprop_loop(u, p, g, state[0], state[1], NULL, NULL, n);
}

const struct optimizer_rule optimizer_table[] = {
    {.name = "sgd",
     .help = "v = momentum v + g; p -= rate v",
     .copies = 1,
     .powers = {1},
     .power = 1,
     .momentum = 0.9,
     .update = update_sgd},
    {.name = "adam",
     .help = "m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; p -= rate m^ / (sqrt(v^) + eps), b1 = momentum",
     .copies = 2,
     .powers = {1, 2},
     .momentum = 0.9,
     .smoothing = 0.999,
     .epsilon = 1e-8,
     .update = update_adam},
    {.name = "rmsprop",
     .help = "v = 0.99 v + 0.01 g^2; b = momentum b + g / (sqrt(v) + eps); p -= rate b",
     .copies = 2,
     .powers = {2, 0},
     .momentum = 0,
     .smoothing = 0.99,
     .epsilon = 1e-8,
     .update = update_rmsprop},
    {.name = NULL},
};

/* Sum of squares with 16 partial sums whatever the vector width, so that one rounding serves all. */
VECTORISED static double sum_of_squares(const real *restrict g, size_t n) {
    double part[16] = {0};
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (size_t k = 0; k < 16; k++) part[k] += (double)g[i + k] * (double)g[i + k];
    for (; i < n; i++) part[0] += (double)g[i] * (double)g[i];
    double sum = 0;
    for (size_t k = 0; k < 16; k++) sum += part[k];
    return sum;
}

int optimizer_init(struct optimizer *out, const struct optimizer_rule *rule, size_t n, double momentum,
                   double weight_decay, struct err *e) {
    *out = (struct optimizer){
        .rule = rule,
        .momentum = isnan(momentum) ? rule->momentum : momentum,
        .smoothing = rule->smoothing,
        .epsilon = rule->epsilon,
        .weight_decay = weight_decay,
        .n = n,
    };
    size_t count, bytes;
    if (!mem_mul(&count, n, (size_t)rule->copies) || !mem_mul(&bytes, count, sizeof(real)))
        return err_set(e, E_TOO_LARGE, "%zu parameters are too many", n);
    out->state = mem_alloc_aligned(bytes);
    out->partial = mem_calloc(n / OPTIMIZER_BLOCK + 1, sizeof *out->partial);
    if (!out->state || !out->partial) {
        optimizer_fini(out);
        return err_memory(e, bytes);
    }
    return 0;
}

void optimizer_fini(struct optimizer *o) {
    mem_free_aligned(o->state);
    mem_free_aligned(o->pace);
    mem_free(o->partial);
    if (o->origins) {
        optimizer_fini(&o->origins->own);
        mem_free_aligned(o->origins->weights);
        mem_free(o->origins->carriers);
        mem_free(o->origins);
    }
    *o = (struct optimizer){0};
}

int optimizer_take_pace(struct optimizer *o, struct err *e) {
    size_t count, bytes;
    if (!mem_mul(&count, o->n, 2) || !mem_mul(&bytes, count, sizeof(real)))
        return err_set(e, E_TOO_LARGE, "%zu parameters are too many", o->n);
    o->pace = mem_alloc_aligned(bytes);
    if (!o->pace) return err_memory(e, bytes);
    for (size_t i = 0; i < count; i++) o->pace[i] = 1;
    return 0;
}

int optimizer_take_origins(struct optimizer *o, const struct origins_size *size, struct err *e) {
    struct optimizer_origins *q = o->origins = mem_calloc(1, sizeof *q);
    size_t n, count, bytes;
    if (!q) return err_memory(e, sizeof *q);
    if (!mem_add(&n, size->trained, size->factors) || !mem_mul(&count, n, 3) ||
        !mem_add(&count, count, size->scratch) || !mem_mul(&bytes, count, sizeof(real)))
        return err_set(e, E_TOO_LARGE, "%zu parameters to carry on are too many", size->trained);
    int status = optimizer_init(&q->own, o->rule, size->trained, o->momentum, o->weight_decay, e);
    if (!status) status = optimizer_take_pace(&q->own, e);
    if (status) return status;
    q->weights = mem_alloc_aligned(bytes);
    q->carriers = mem_calloc((size_t)size->carriers, sizeof *q->carriers);
    if (!q->weights || !q->carriers) return err_memory(e, bytes);
    q->n = n;
    q->gradients = q->weights + n;
    q->change = q->gradients + n;
    q->scratch = q->change + n;
    return 0;
}

bool optimizer_is_young(const struct optimizer *o) {
    return o->pace && o->steps - o->since < OPTIMIZER_YOUTH;
}

size_t optimizer_state_count(const struct optimizer *o) {
    return (size_t)o->rule->copies * o->n;
}

/* What the units of one step share. */
struct step {
    struct optimizer *optimizer;
    struct optimizer_update update;
    real *parameters;
    const real *gradients;
    double grown;
};

/* Elements of block `unit`, which starts at unit * OPTIMIZER_BLOCK. */
static size_t block_size(const struct optimizer *o, int unit) {
    size_t rest = o->n - (size_t)unit * OPTIMIZER_BLOCK;
    return rest < OPTIMIZER_BLOCK ? rest : OPTIMIZER_BLOCK;
}

/* Sum of squares of the gradient that the network before surgery would have had: elements count by the inverse of their
 * tilt, new ones not at all. With `grown`, from 0 to 1, it becomes that of the gradient as it is. */
static double weighted_squares(const real *g, const real *pace, const real *tilt, double grown, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double weight = pace[i] == 0 ? grown : grown + (1 - grown) / (double)tilt[i];
        sum += weight * (double)g[i] * (double)g[i];
    }
    return sum;
}

static void measure_block(void *context, int unit, int thread) {
    (void)thread;
    struct step *s = context;
    const struct optimizer *o = s->optimizer;
    size_t start = (size_t)unit * OPTIMIZER_BLOCK, n = block_size(o, unit);
    const real *pace = o->pace ? o->pace + start : NULL;
    o->partial[unit] = pace ? weighted_squares(s->gradients + start, pace, pace + o->n, s->grown, n)
                            : sum_of_squares(s->gradients + start, n);
}

static void update_block(void *context, int unit, int thread) {
    (void)thread;
    struct step *s = context;
    struct optimizer *o = s->optimizer;
    size_t start = (size_t)unit * OPTIMIZER_BLOCK;
    real *state[OPTIMIZER_MAX_COPIES];
    for (int i = 0; i < o->rule->copies; i++) state[i] = o->state + (size_t)i * o->n + start;
    o->rule->update(&s->update, s->parameters + start, s->gradients + start, state, o->pace ? o->pace + start : NULL,
                    o->pace ? o->pace + o->n + start : NULL, block_size(o, unit));
}

static int blocks_of(const struct step *s) {
    return (int)((s->optimizer->n + OPTIMIZER_BLOCK - 1) / OPTIMIZER_BLOCK);
}

/* Sum of squares of the whole gradient, as measure_block counts them. */
static double squares(struct step *s, struct crew *crew) {
    crew_run(crew, measure_block, s, blocks_of(s));
    double sum = 0;
    for (int i = 0; i < blocks_of(s); i++) sum += s->optimizer->partial[i];
    return sum;
}

/* Where the factors of a merged carrier are in an array of the origins; NULL for those that are missing. */
static void find_factors(real *out[MERGER_FACTORS], real *array, const struct optimizer_carrier *c) {
    for (int k = 0; k < MERGER_FACTORS; k++) out[k] = c->count[k] ? array + c->from[k] : NULL;
}

static bool has_bias(const struct optimizer_carrier *c) {
    return c->at[1] != ORIGIN_NOWHERE;
}

static void pull_merged(const struct optimizer_origins *q, const struct optimizer_carrier *c, const real *of) {
    real *gradient[MERGER_FACTORS], *factor[MERGER_FACTORS];
    find_factors(gradient, q->gradients, c);
    find_factors(factor, q->weights, c);
    joint_pull(gradient, (const real *const *)factor, of + c->at[0], has_bias(c) ? of + c->at[1] : NULL, &c->joint,
               q->scratch);
}

static void pull(const struct optimizer_origins *q, const real *gradients) {
    memcpy(q->change, q->weights, q->own.n * sizeof *q->change);
    memset(q->change + q->own.n, 0, (q->n - q->own.n) * sizeof *q->change);
    for (int i = 0; i < q->n_carriers; i++) {
        const struct optimizer_carrier *c = &q->carriers[i];
        const real *of = c->inner ? q->gradients : gradients;
        if (c->merged)
            pull_merged(q, c, of);
        else
            frame_pull(q->gradients + c->from[0], of + c->at[0], &c->frame, q->scratch);
    }
}

static void push_merged(const struct optimizer_origins *q, const struct optimizer_carrier *c, real *to) {
    real *change[MERGER_FACTORS], *factor[MERGER_FACTORS];
    find_factors(change, q->change, c);
    find_factors(factor, q->weights, c);
    for (int k = 0; k < MERGER_FACTORS; k++)
        for (size_t i = 0; i < c->count[k]; i++) factor[k][i] += change[k][i];
    joint_push(to + c->at[0], has_bias(c) ? to + c->at[1] : NULL, (const real *const *)factor,
               (const real *const *)change, &c->joint, q->scratch);
}

/* From the origins through the factors to the network. */
static void push(const struct optimizer_origins *q, real *parameters) {
    for (size_t i = 0; i < q->own.n; i++) q->change[i] = q->weights[i] - q->change[i];
    for (int i = q->n_carriers; i-- > 0;) {
        const struct optimizer_carrier *c = &q->carriers[i];
        real *to = c->inner ? q->change : parameters;
        if (c->merged)
            push_merged(q, c, to);
        else
            frame_push(to + c->at[0], q->change + c->from[0], &c->frame, q->scratch);
    }
}

/* How far pace and tilt have gone to 1 after so many steps. */
static double grown_after(uint64_t age) {
    double way = fmin(1, fmax(0, (double)age - OPTIMIZER_REST) / (OPTIMIZER_YOUTH - OPTIMIZER_REST));
    return way * way;
}

static struct optimizer_update prepare_update(const struct optimizer *o, double rate, double scale, double grown) {
    double t = (double)o->steps, age = (double)(o->steps - o->begun);
    return (struct optimizer_update){
        .rate = (real)rate,
        .scale = (real)scale,
        .decay = (real)o->weight_decay,
        .momentum = (real)o->momentum,
        .smoothing = (real)o->smoothing,
        .rest = {(real)(1 - o->momentum), (real)(1 - o->smoothing)},
        .epsilon = (real)o->epsilon,
        .correction = {(real)(1 - pow(o->momentum, t)), (real)sqrt(1 - pow(o->smoothing, t))},
        .grown = (real)grown,
        .young_correction = {(real)(1 - pow(o->momentum, age)), (real)sqrt(1 - pow(o->smoothing, age))},
    };
}

double optimizer_step(struct optimizer *o, struct crew *crew, real *parameters, const real *gradients, double rate,
                      double clip_norm) {
    if (o->n == 0) return 0;
    struct optimizer_origins *q = optimizer_is_young(o) ? o->origins : NULL;
    struct step s = {.optimizer = o,
                     .parameters = parameters,
                     .gradients = gradients,
                     .grown = grown_after(o->steps + 1 - o->since)};
    struct step of_origins = {.optimizer = q ? &q->own : NULL, .grown = s.grown};
    double norm = 0, scale = 1;
    if (q) {
        of_origins.parameters = q->weights;
        of_origins.gradients = q->gradients;
        pull(q, gradients);
    }
    if (!optimizer_is_young(o)) {
        mem_free_aligned(o->pace);
        o->pace = NULL;
    }
    if (clip_norm > 0) {
        norm = sqrt(squares(&s, crew) + (q ? (1 - s.grown) * squares(&of_origins, crew) : 0));
        if (!isfinite(norm)) return norm;
        scale = fmin(1, clip_norm / (norm + 1e-6));
    }
    o->steps++;
    s.update = prepare_update(o, rate, scale, s.grown);
    crew_run(crew, update_block, &s, blocks_of(&s));
    if (!q) return norm;
    of_origins.update = prepare_update(o, rate * (1 - s.grown), scale, s.grown);
    crew_run(crew, update_block, &of_origins, blocks_of(&of_origins));
    push(q, parameters);
    return norm;
}
