/* batchnorm.c - BatchNormalization (Ioffe & Szegedy 2015; ONNX BatchNormalization-15):
 * y = (x - mean) / sqrt(variance + epsilon) * scale + shift, per channel.
 *
 * Training takes mean and variance from the batch: every lane finds its own, then all are
 * combined (Chan et al. 1979), so that no large sums cancel. The running variance is the unbiased
 * one, as PyTorch keeps it; `momentum` is ONNX's, the weight of the old value. */
#include <string.h>

#include "engine/kernels/channels_last.h"
#include "engine/ops/common.h"

enum { DATA, SCALE, SHIFT, MEAN, VARIANCE };

struct norm_state {
    size_t channels;
    real *gain, *offset;      /* inference: y = x * gain + offset */
    real *mean, *deviation;   /* training: of the batch; 1 / sqrt(variance + epsilon) */
    struct gathering moments; /* per lane: mean, sum of squared distances; backward: sums of dy, dy * (x - mean) */
    real epsilon, momentum;
};

static int norm_infer(struct inference *i, struct err *e) {
    const struct shape *x = &i->in[DATA]->shape;
    static const char *const names[] = {"", "scale", "shift", "mean", "variance"};
    if (x->rank < 2) return err_set(e, E_INVALID, "data of rank %d has no channel axis", x->rank);
    for (int k = SCALE; k <= VARIANCE; k++)
        if (i->in[k]->shape.rank != 1 || i->in[k]->shape.dim[0] != x->dim[1]) {
            char shape[96];
            shape_print(shape, sizeof shape, &i->in[k]->shape);
            return err_set(e, E_INVALID, "%s has the shape %s for data of %lld channels", names[k], shape,
                           (long long)x->dim[1]);
        }
    i->out[0].shape = *x;
    return 0;
}

/* ---- inference ---- */

static void norm_prepare(const struct call *c, const struct part *p) {
    struct norm_state *s = c->state;
    (void)p;
    for (size_t k = 0; k < s->channels; k++) {
        s->gain[k] = c->in[SCALE]->base[k] / real_sqrt(c->in[VARIANCE]->base[k] + s->epsilon);
        s->offset[k] = c->in[SHIFT]->base[k] - c->in[MEAN]->base[k] * s->gain[k];
    }
}

static struct rows_of_channels size_of(const struct call *c, const struct part *p) {
    const struct norm_state *s = c->state;
    return (struct rows_of_channels){tensor_count(c->in[DATA], p) / s->channels, s->channels};
}

/* The call's part with everything that is merged into it. */
static void scale_part(const struct call *c, const struct part *p, const real *gain, const real *offset) {
    channels_scale(size_of(c, p), tensor_at(c->in[DATA], p), c->residual ? tensor_at(c->residual, p) : NULL,
                   tensor_at(c->out[0], p), gain, offset, c->activation == ACTIVATION_RELU);
}

static void norm_apply(const struct call *c, const struct part *p) {
    const struct norm_state *s = c->state;
    scale_part(c, p, s->gain, s->offset);
}

/* ---- training, forward ---- */

static real *lane_slot(const struct norm_state *s, int lane) {
    return s->moments.slots + (size_t)lane * s->moments.size;
}

static void norm_gather(const struct call *c, const struct part *p) {
    const struct norm_state *s = c->state;
    real *mean = lane_slot(s, p->index);
    channels_moments(size_of(c, p), tensor_at(c->in[DATA], p), mean, mean + s->channels);
}

/* Over the whole batch. */
static double numbers_per_channel(const struct call *c) {
    const struct norm_state *s = c->state;
    return (double)(c->in[DATA]->row * c->in[DATA]->samples / s->channels);
}

static int lane_samples(const struct call *c, int lane) {
    int left = c->batch - lane * c->lane_size;
    return left < c->lane_size ? left : c->lane_size;
}

/* Mean and variance of one channel over all lanes, in lane order. */
static void combine(const struct call *c, size_t channel, double *mean, double *variance) {
    const struct norm_state *s = c->state;
    double plane = numbers_per_channel(c) / c->batch, n = 0, sum_of_squares = 0;
    *mean = 0;
    for (int l = 0; l < c->lanes; l++) {
        const real *slot = lane_slot(s, l);
        double m = plane * lane_samples(c, l), delta = (double)slot[channel] - *mean;
        sum_of_squares += (double)slot[s->channels + channel] + delta * delta * n * m / (n + m);
        *mean += delta * m / (n + m);
        n += m;
    }
    *variance = sum_of_squares / n;
}

/* Every lane combines for itself (it is little work); the first one also keeps the result. */
static void norm_normalise(const struct call *c, const struct part *p) {
    struct norm_state *s = c->state;
    real *gain = p->scratch, *offset = p->scratch + s->channels;
    double n = numbers_per_channel(c);
    for (size_t k = 0; k < s->channels; k++) {
        double mean, variance;
        combine(c, k, &mean, &variance);
        real deviation = (real)(1 / sqrt(variance + (double)s->epsilon));
        gain[k] = c->in[SCALE]->base[k] * deviation;
        offset[k] = c->in[SHIFT]->base[k] - (real)mean * gain[k];
        if (p->index > 0) continue;
        s->mean[k] = (real)mean;
        s->deviation[k] = deviation;
        double unbiased = n > 1 ? variance * n / (n - 1) : variance;
        real *running_mean = &c->in[MEAN]->base[k], *running_variance = &c->in[VARIANCE]->base[k];
        *running_mean = s->momentum * *running_mean + (1 - s->momentum) * (real)mean;
        *running_variance = s->momentum * *running_variance + (1 - s->momentum) * (real)unbiased;
    }
    scale_part(c, p, gain, offset);
}

/* ---- training, backward ---- */

static void norm_gather_back(const struct call *c, const struct part *p) {
    const struct norm_state *s = c->state;
    real *sum = lane_slot(s, p->index);
    struct channels_gradient g = {.x = tensor_at(c->in[DATA], p),
                                  .mean = s->mean,
                                  .dy = tensor_at(c->d_out[0], p),
                                  .y = c->activation == ACTIVATION_RELU ? tensor_at(c->out[0], p) : NULL,
                                  .residual = c->d_residual ? tensor_at(c->d_residual, p) : NULL,
                                  .add = c->add_residual};
    channels_sums(size_of(c, p), &g, sum, sum + s->channels);
}

/* dx = scale * deviation * (dy - sum(dy) / n - xhat * sum(dy * xhat) / n) = dy * a + x * b + d */
static void norm_back(const struct call *c, const struct part *p) {
    const struct norm_state *s = c->state;
    real *a = p->scratch, *b = a + s->channels, *d = b + s->channels, *sums = d + s->channels;
    real n = (real)numbers_per_channel(c);
    gathering_sum(&s->moments, c->lanes, 0, 2 * s->channels, sums, false);
    for (size_t k = 0; k < s->channels; k++) {
        a[k] = c->in[SCALE]->base[k] * s->deviation[k];
        b[k] = -a[k] * s->deviation[k] * s->deviation[k] * sums[s->channels + k] / n;
        d[k] = -a[k] * sums[k] / n - b[k] * s->mean[k];
    }
    channels_combine(size_of(c, p), tensor_at(c->d_out[0], p), tensor_at(c->in[DATA], p), tensor_at(c->d_in[DATA], p),
                     a, b, d, c->add[DATA]);
}

static void norm_finish(const struct call *c, const struct part *p) {
    const struct norm_state *s = c->state;
    if (c->d_in[SHIFT]) gathering_sum(&s->moments, c->lanes, 0, s->channels, c->d_in[SHIFT]->base, c->add[SHIFT]);
    if (!c->d_in[SCALE]) return;
    real *products = p->scratch, *scale = c->d_in[SCALE]->base;
    gathering_sum(&s->moments, c->lanes, s->channels, s->channels, products, false);
    for (size_t k = 0; k < s->channels; k++) scale[k] = products[k] * s->deviation[k] + (c->add[SCALE] ? scale[k] : 0);
}

/* ---- planning ---- */

static int plan_inference(struct norm_state *s, struct plan *p, struct err *e) {
    int status = plan_memory(&s->gain, p, s->channels, e);
    if (!status) status = plan_memory(&s->offset, p, s->channels, e);
    if (!status) status = plan_units(p, PHASE_PREPARE, norm_prepare, 1, e);
    return status ? status : plan_lanes(p, PHASE_FORWARD, norm_apply, false, e);
}

static int norm_plan(struct call *c, struct plan *p, struct err *e) {
    struct norm_state *s = c->state;
    for (int k = SCALE; k <= VARIANCE; k++)
        if (!is_constant(c, k))
            return err_set(e, E_UNSUPPORTED, "retort normalises by constant scale, shift, mean and variance");
    s->channels = (size_t)c->in[DATA]->shape.dim[1];
    if (c->in[DATA]->row == 0) return err_set(e, E_INVALID, "the data has no elements");
    s->epsilon = (real)node_real(c->node, "epsilon", 1e-5);
    s->momentum = (real)node_real(c->node, "momentum", 0.9);
    if (!c->training) return plan_inference(s, p, e);
    plan_scratch(p, 5 * s->channels);
    int status = plan_memory(&s->mean, p, s->channels, e);
    if (!status) status = plan_memory(&s->deviation, p, s->channels, e);
    if (!status) status = plan_slots(&s->moments, p, 2 * s->channels, e);
    if (!status) status = plan_lanes(p, PHASE_FORWARD, norm_gather, false, e);
    if (!status) status = plan_lanes(p, PHASE_FORWARD, norm_normalise, true, e);
    if (status || !c->d_out[0]) return status;
    status = plan_lanes(p, PHASE_BACKWARD, norm_gather_back, false, e);
    if (!status && c->d_in[DATA]) status = plan_lanes(p, PHASE_BACKWARD, norm_back, true, e);
    return status ? status : plan_units(p, PHASE_FINISH, norm_finish, 1, e);
}

static const struct op_sample norm_samples[] = {
    {"4x3x5x4 3 3 3 3", "", "images"},
    {"6x5 5 5 5 5", "epsilon=0.01 momentum=0.8", "vectors"},
    {"3x2x7 2 2 2 2", "", "signals"},
    {"3x19x14x11 19 19 19 19", "", "more rows and channels than are walked at once"},
    {NULL, NULL, NULL},
};

const struct op op_BatchNormalization = {
    .name = "BatchNormalization",
    .help = "y = (x - mean) / sqrt(variance + epsilon) * scale + shift",
    .min_inputs = 5,
    .max_inputs = 5,
    .min_outputs = 1,
    .max_outputs = 1,
    .attributes = "epsilon momentum",
    .drops = "is_test spatial training_mode",
    .layout = WISH_LAST,
    .traits = OP_ACTIVATES | OP_ADDS | OP_ADDS_TRAINING,
    .keeps = KEEP_INPUT(DATA),
    .parameters = 1u << SCALE | 1u << SHIFT,
    .statistics = 1u << MEAN | 1u << VARIANCE,
    .state_size = sizeof(struct norm_state),
    .infer = norm_infer,
    .plan = norm_plan,
    .samples = norm_samples,
};
