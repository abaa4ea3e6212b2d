/* dropout.c - Dropout (Srivastava et al. 2014): in training every number is dropped with probability
 * `ratio`, and what stays is scaled so that the mean does not change; otherwise y = x.
 *
 * The mask, which a node may give out, is not stored: number i of the batch decides by random number i of the step, forward and
 * backward, whichever lane or thread it is in. */
#include "base/random.h"
#include "engine/ops/common.h"
#include "engine/ops/fold.h"

static int dropout_infer(struct inference *i, struct err *e) {
    int status = infer_same(i, e);
    if (status) return status;
    double ratio = node_real(i->node, "ratio", 0.5);
    if (has_input(i, 1)) {
        const struct array *a = i->in[1]->constant;
        if (!a || a->count != 1) return err_set(e, E_UNSUPPORTED, "the ratio is not one number known beforehand");
        ratio = fold_get(a, 0);
    }
    if (!(ratio >= 0 && ratio < 1))
        return err_set(e, E_INVALID, "a ratio of %g; it must be at least 0 and below 1", ratio);
    if (i->n_out > 1) {
        i->out[1].shape = i->out[0].shape;
        if (i->opset >= 10) i->out[1].type = DT_BOOL;
    }
    return i->n_out == 1 && folds(i) ? fold_copy(i, e) : 0;
}

struct dropout_state {
    double ratio;
    uint32_t threshold; /* dropped when 32 random bits are below it */
};

enum { CHUNK = 256 }; /* numbers at a time; even */

/* to = from, or 0 where the bits are below the threshold */
VECTORISED static void drop_chunk(const uint32_t *bits, uint32_t threshold, const real *from, real *to, real scale,
                                  size_t n, bool add) {
    for (size_t i = 0; i < n; i++) to[i] = (bits[i] < threshold ? 0 : from[i] * scale) + (add ? to[i] : 0);
}

/* Two numbers share one draw: 32 bits each are plenty. */
static void drop(const struct call *c, const struct part *p, const real *from, real *to, bool add) {
    const struct dropout_state *s = c->state;
    struct random random = random_split(&p->run->random, c->label);
    size_t first = c->out[0]->per_sample ? (size_t)p->first * c->out[0]->row : 0, n = tensor_count(c->out[0], p);
    uint32_t bits[CHUNK + 2];
    random.counter = first / 2;
    for (size_t at = 0; at < n; at += CHUNK) {
        size_t size = n - at < CHUNK ? n - at : CHUNK, odd = first % 2;
        for (size_t i = 0; i < size + odd; i += 2) {
            uint64_t draw = random_u64(&random);
            bits[i] = (uint32_t)draw;
            bits[i + 1] = (uint32_t)(draw >> 32);
        }
        drop_chunk(bits + odd, s->threshold, from + at, to + at, (real)(1 / (1 - s->ratio)), size, add);
        random.counter = (first + at + CHUNK) / 2; /* an odd beginning makes chunks share a draw */
    }
}

static void dropout_forward(const struct call *c, const struct part *p) {
    drop(c, p, tensor_at(c->in[0], p), tensor_at(c->out[0], p), false);
}

/* What would be left of ones. */
static void mask_forward(const struct call *c, const struct part *p) {
    real *mask = tensor_at(c->out[1], p);
    size_t n = tensor_count(c->out[1], p);
    for (size_t i = 0; i < n; i++) mask[i] = 1;
    drop(c, p, mask, mask, false);
    for (size_t i = 0; i < n; i++) mask[i] = mask[i] > 0;
}

static void dropout_backward(const struct call *c, const struct part *p) {
    drop(c, p, tensor_at(c->d_out[0], p), tensor_at(c->d_in[0], p), c->add[0]);
}

static int dropout_plan(struct call *c, struct plan *p, struct err *e) {
    struct dropout_state *s = c->state;
    s->ratio = c->n_in > 1 && c->in[1] ? (double)c->in[1]->base[0] : node_real(c->node, "ratio", 0.5);
    if (!c->training) s->ratio = 0;
    s->threshold = (uint32_t)(s->ratio * 0x1p32);
    int status = plan_lanes(p, PHASE_FORWARD, dropout_forward, false, e);
    if (!status && c->n_out > 1) status = plan_lanes(p, PHASE_FORWARD, mask_forward, false, e);
    return status || !c->d_in[0] ? status : plan_lanes(p, PHASE_BACKWARD, dropout_backward, false, e);
}

static const struct op_sample samples[] = {{"3x5x3", "", "half"},
                                           {"3x5", "ratio=0.3", "less, as an attribute"},
                                           {"3x7 :0.2", "", "as an input"},
                                           {"3x5x3 :0.4", "opset=13 outputs=2", "with its mask"},
                                           {NULL, NULL, NULL}};

const struct op op_Dropout = {
    .name = "Dropout",
    .help = "y = x, some of it dropped while training",
    .min_inputs = 1,
    .max_inputs = 3,
    .min_outputs = 1,
    .max_outputs = 2,
    .attributes = "ratio seed",
    .drops = "is_test",
    .layout = WISH_ANY,
    .traits = OP_IDLE,
    .apart = 1u << 1,
    .state_size = sizeof(struct dropout_state),
    .infer = dropout_infer,
    .plan = dropout_plan,
    .samples = samples,
};
