/* dense.c - Gemm and MatMul by constant weights: y[rows, n] = x[rows, k] . w + bias.
 *
 * Large weights are read once per batch: the work is cut into blocks of output columns, each for
 * the whole batch. Small ones stay in every core's cache: there the work is cut into lanes. */
#include <string.h>

#include "engine/kernels/blas.h"
#include "engine/kernels/loops.h"
#include "engine/ops/product.h"

enum { DATA, WEIGHTS, BIAS };

/* Weights of more elements than this are worth reading once per batch rather than once per lane. */
enum { LARGE_WEIGHTS = 1 << 14 };

struct dense_state {
    int k, n;
    bool transposed; /* weights are [n, k], else [k, n] */
    bool has_bias, train, by_columns;
    real *packed;           /* NULL: the weights are used as they stand */
    bool packed_transposed; /* packed are [n, k], else [k, n] */
    int out_units, in_units, weight_units;
    struct gathering weights_gradient, bias_gradient;
};

/* Blocks of at least 64, at most 8 of them; their borders depend on the size alone. */
static int units_for(int n) {
    return n <= 64 ? 1 : n >= 512 ? 8 : n / 64;
}

/* Where block `unit` begins: multiples of 16, the last block takes the rest. */
static int border(int n, int units, int unit) {
    return unit == units ? n : (int)((int64_t)n * unit / units / 16 * 16);
}

struct block {
    int from, size;
};

static struct block block_of(int n, int units, int unit) {
    int from = border(n, units, unit);
    return (struct block){from, border(n, units, unit + 1) - from};
}

static int rows_in(const struct call *c, const struct part *p) {
    const struct dense_state *s = c->state;
    return (int)(tensor_count(c->in[DATA], p) / (size_t)s->k);
}

/* ---- weights made ready, for inference ---- */

/* From row or column `to` of the packed weights to that of the given ones: data that is a flattened image comes pixel by
 * pixel, and the weights have it channel by channel. */
static size_t given_place(const struct call *c, size_t to) {
    const struct dense_state *s = c->state;
    size_t pixels = c->in[DATA]->pixels, channels = pixels > 1 ? (size_t)s->k / pixels : 1;
    return pixels > 1 ? to % channels * pixels + to / channels : to;
}

static void dense_prepare(const struct call *c, const struct part *p) {
    const struct dense_state *s = c->state;
    const real *w = c->in[WEIGHTS]->base;
    size_t n = (size_t)s->n, k = (size_t)s->k, in = s->transposed ? 1 : n, out = s->transposed ? k : 1;
    (void)p;
    for (size_t i = 0; i < k; i++) {
        const real *from = w + given_place(c, i) * in;
        real *to = s->packed + i * (s->packed_transposed ? 1 : n);
        size_t step = s->packed_transposed ? k : 1;
        for (size_t j = 0; j < n; j++) to[j * step] = from[j * out];
    }
}

enum { PACKED_MOST = 1 << 22 };

/* A copy in the order that is fastest, unless it would take too much memory: for a few rows weights that lie along the
 * sum, for many those that lie across it. */
static int plan_packed_weights(struct call *c, struct plan *p, struct err *e) {
    struct dense_state *s = c->state;
    size_t rows = c->in[DATA]->row * c->in[DATA]->samples / (size_t)s->k, count = (size_t)s->n * (size_t)s->k;
    bool few = rows<4, turned = c->in[DATA]->pixels> 1;
    if (c->training || (!turned && (few || !s->transposed || count > PACKED_MOST))) return 0;
    s->packed_transposed = few;
    int status = plan_memory(&s->packed, p, count, e);
    return status ? status : plan_units(p, PHASE_PREPARE, dense_prepare, 1, e);
}

/* ---- the three products, for rows of one part and one block ---- */

static void product(const struct call *c, const real *x, real *y, int rows, struct block b) {
    const struct dense_state *s = c->state;
    const real *w = s->packed ? s->packed : c->in[WEIGHTS]->base;
    bool transposed = s->packed ? s->packed_transposed : s->transposed;
    blas_gemm(false, transposed, rows, b.size, s->k, x, s->k,
              transposed ? w + (size_t)b.from * (size_t)s->k : w + b.from, transposed ? s->k : s->n, y + b.from, s->n,
              false);
    const real *bias = s->has_bias ? c->in[BIAS]->base + b.from : NULL;
    if (!bias && c->activation == ACTIVATION_NONE) return;
    for (int r = 0; r < rows; r++)
        loop_bias_relu(y + (size_t)r * (size_t)s->n + b.from, bias, 1, (size_t)b.size,
                       c->activation == ACTIVATION_RELU);
}

static void product_for_data(const struct call *c, const real *dy, real *dx, int rows, struct block b) {
    const struct dense_state *s = c->state;
    const real *w = c->in[WEIGHTS]->base;
    blas_gemm(false, !s->transposed, rows, b.size, s->n, dy, s->n,
              s->transposed ? w + b.from : w + (size_t)b.from * (size_t)s->n, s->transposed ? s->k : s->n, dx + b.from,
              s->k, c->add[DATA]);
}

/* Rows b of the weight gradient, as the weights are stored. */
static void product_for_weights(const struct dense_state *s, const real *x, const real *dy, real *dw, int rows,
                                struct block b, bool add) {
    const real *left = s->transposed ? dy : x, *right = s->transposed ? x : dy;
    int columns = s->transposed ? s->k : s->n, left_width = s->transposed ? s->n : s->k;
    blas_gemm(true, false, b.size, columns, rows, left + b.from, left_width, right, columns,
              dw + (size_t)b.from * (size_t)columns, columns, add);
}

/* ---- by lanes ---- */

static void lanes_forward(const struct call *c, const struct part *p) {
    const struct dense_state *s = c->state;
    product(c, tensor_at(c->in[DATA], p), tensor_at(c->out[0], p), rows_in(c, p), (struct block){0, s->n});
}

static void mask(const struct call *c, const struct part *p) {
    loop_relu_mask(tensor_at(c->d_out[0], p), tensor_at(c->out[0], p), tensor_count(c->out[0], p));
}

static void lanes_backward(const struct call *c, const struct part *p) {
    const struct dense_state *s = c->state;
    if (c->activation == ACTIVATION_RELU) mask(c, p);
    const real *x = tensor_at(c->in[DATA], p), *dy = tensor_at(c->d_out[0], p);
    if (c->d_in[DATA]) product_for_data(c, dy, tensor_at(c->d_in[DATA], p), rows_in(c, p), (struct block){0, s->k});
    if (!s->train) return;
    product_for_weights(s, x, dy, s->weights_gradient.slots + (size_t)p->index * s->weights_gradient.size,
                        rows_in(c, p), (struct block){0, s->transposed ? s->n : s->k}, false);
    if (s->has_bias)
        loop_column_sums(s->bias_gradient.slots + (size_t)p->index * s->bias_gradient.size, dy, (size_t)rows_in(c, p),
                         (size_t)s->n);
}

static void lanes_finish(const struct call *c, const struct part *p) {
    const struct dense_state *s = c->state;
    (void)p;
    gathering_sum(&s->weights_gradient, c->lanes, 0, (size_t)s->n * (size_t)s->k, c->d_in[WEIGHTS]->base,
                  c->add[WEIGHTS]);
    if (s->has_bias && c->d_in[BIAS])
        gathering_sum(&s->bias_gradient, c->lanes, 0, (size_t)s->n, c->d_in[BIAS]->base, c->add[BIAS]);
}

static int plan_by_lanes(struct call *c, struct plan *p, struct err *e) {
    struct dense_state *s = c->state;
    int status = plan_lanes(p, PHASE_FORWARD, lanes_forward, false, e);
    if (status || !c->d_out[0]) return status;
    if (s->train) status = plan_gathering(&s->weights_gradient, p, (size_t)s->n * (size_t)s->k, e);
    if (!status && s->train && s->has_bias) status = plan_gathering(&s->bias_gradient, p, (size_t)s->n, e);
    if (!status) status = plan_lanes(p, PHASE_BACKWARD, lanes_backward, false, e);
    return status || !s->train ? status : plan_units(p, PHASE_FINISH, lanes_finish, 1, e);
}

/* ---- by columns ---- */

static void columns_forward(const struct call *c, const struct part *p) {
    const struct dense_state *s = c->state;
    product(c, c->in[DATA]->base, c->out[0]->base, rows_in(c, p), block_of(s->n, s->out_units, p->index));
}

/* Units of the weight gradient first, then those of the data's. */
static void columns_backward(const struct call *c, const struct part *p) {
    const struct dense_state *s = c->state;
    const real *x = c->in[DATA]->base, *dy = c->d_out[0]->base;
    int rows = rows_in(c, p);
    if (p->index >= s->weight_units) {
        struct block b = block_of(s->k, s->in_units, p->index - s->weight_units);
        product_for_data(c, dy, c->d_in[DATA]->base, rows, b);
        return;
    }
    struct block b = block_of(s->transposed ? s->n : s->k, s->weight_units, p->index);
    product_for_weights(s, x, dy, c->d_in[WEIGHTS]->base, rows, b, c->add[WEIGHTS]);
    if (p->index > 0 || !s->has_bias || !c->d_in[BIAS]) return;
    loop_column_sums(p->scratch, dy, (size_t)rows, (size_t)s->n);
    loop_give(c->d_in[BIAS]->base, p->scratch, (size_t)s->n, c->add[BIAS]);
}

static int plan_by_columns(struct call *c, struct plan *p, struct err *e) {
    struct dense_state *s = c->state;
    s->out_units = units_for(s->n);
    s->in_units = c->d_in[DATA] ? units_for(s->k) : 0;
    s->weight_units = s->train ? units_for(s->transposed ? s->n : s->k) : 0;
    plan_scratch(p, (size_t)s->n);
    int status = plan_units(p, PHASE_FORWARD, columns_forward, s->out_units, e);
    if (status || !c->d_out[0]) return status;
    if (c->activation == ACTIVATION_RELU) status = plan_lanes(p, PHASE_BACKWARD, mask, false, e);
    return status ? status : plan_units(p, PHASE_BACKWARD, columns_backward, s->weight_units + s->in_units, e);
}

static int plan_dense(struct call *c, struct plan *p, bool transposed, struct err *e) {
    struct dense_state *s = c->state;
    const struct shape *w = &c->in[WEIGHTS]->shape;
    s->transposed = transposed;
    s->k = (int)w->dim[transposed];
    s->n = (int)w->dim[!transposed];
    s->has_bias = c->n_in > BIAS && c->in[BIAS];
    s->train = c->d_out[0] && c->d_in[WEIGHTS];
    s->by_columns = (size_t)s->n * (size_t)s->k > LARGE_WEIGHTS;
    int status = plan_packed_weights(c, p, e);
    if (status) return status;
    return s->by_columns ? plan_by_columns(c, p, e) : plan_by_lanes(c, p, e);
}

/* ---- Gemm ---- */

/* Memory for either way. */
union state {
    struct dense_state dense;
    struct product_state product;
};

static int gemm_infer(struct inference *i, struct err *e) {
    const struct shape *a = &i->in[DATA]->shape, *b = &i->in[WEIGHTS]->shape;
    bool ta = node_int(i->node, "transA", 0) != 0, tb = node_int(i->node, "transB", 0) != 0;
    char left[96], right[96];
    shape_print(left, sizeof left, a);
    shape_print(right, sizeof right, b);
    if (product_check(i, e)) return E_TOO_LARGE;
    if (a->rank != 2 || b->rank != 2) return err_set(e, E_INVALID, "multiplies matrices; got %s and %s", left, right);
    if (a->dim[!ta] != b->dim[tb])
        return err_set(e, E_INVALID, "the data has %lld features, the weights are made for %lld (%s%s by %s%s)",
                       (long long)a->dim[!ta], (long long)b->dim[tb], left, ta ? " transposed" : "", right,
                       tb ? " transposed" : "");
    i->out[0].shape = (struct shape){.rank = 2, .dim = {a->dim[ta], b->dim[!tb]}};
    if (i->n_in <= BIAS || !i->in[BIAS]) return 0;
    const struct shape *c = &i->in[BIAS]->shape;
    for (int d = 1; d <= c->rank; d++)
        if (c->rank > 2 || (c->dim[c->rank - d] != 1 && c->dim[c->rank - d] != i->out[0].shape.dim[2 - d])) {
            shape_print(left, sizeof left, c);
            shape_print(right, sizeof right, &i->out[0].shape);
            return err_set(e, E_INVALID, "a bias of shape %s does not spread over %s", left, right);
        }
    return 0;
}

/* Computed data by a constant matrix (which has its address already): a layer. */
static bool is_dense(const struct call *c) {
    return !is_constant(c, DATA) && c->in[DATA]->shape.rank >= 2 && is_constant(c, WEIGHTS) &&
           c->in[WEIGHTS]->shape.rank == 2 && c->in[WEIGHTS]->row > 0;
}

/* A bias for each column, or none. */
static bool is_per_column(const struct graph *g, const struct node *n) {
    if (n->n_inputs <= BIAS || n->inputs[BIAS] == VALUE_NONE) return true;
    const struct array *bias = g->values[n->inputs[BIAS]].constant;
    int64_t columns = g->values[n->outputs[0]].shape.dim[1];
    return bias && bias->shape.rank > 0 && (int64_t)bias->count == columns &&
           bias->shape.dim[bias->shape.rank - 1] == columns;
}

static bool is_plain(const struct graph *g, const struct node *n) {
    return !node_int(n, "transA", 0) && node_real(n, "alpha", 1) == 1.0 && node_real(n, "beta", 1) == 1.0 &&
           is_per_column(g, n);
}

static int gemm_plan(struct call *c, struct plan *p, struct err *e) {
    return is_plain(c->graph, c->node) && is_dense(c) ? plan_dense(c, p, node_int(c->node, "transB", 0) != 0, e)
                                                      : product_plan(c, p, e);
}

/* Weights that it would pack. */
static bool dense_takes_pixels(const struct graph *g, const struct node *n) {
    const struct array *w = n->inputs[WEIGHTS] == VALUE_NONE ? NULL : g->values[n->inputs[WEIGHTS]].constant;
    return w && w->shape.rank == 2 && w->count > 0 && w->count <= PACKED_MOST;
}

static bool gemm_takes_pixels(const struct graph *g, const struct node *n) {
    return is_plain(g, n) && dense_takes_pixels(g, n);
}

static int64_t dense_macs(const struct node *n, const struct shape *const *in, const struct shape *const *out) {
    bool transposed = node_int(n, "transA", 0) != 0;
    int64_t macs = in[DATA]->dim[transposed ? 0 : in[DATA]->rank - 1];
    for (int d = 0; d < out[0]->rank; d++) macs *= out[0]->dim[d];
    return macs;
}

static const struct op_sample gemm_samples[] = {
    {"3x5 5x4 4", "", "weights as [in, out]"},
    {"3x5 4x5 4", "transB=1", "weights as [out, in]"},
    {"3x5 4x5", "transB=1", "no bias"},
    {"3x200 130x200 130", "transB=1", "by columns"},
    {"3x130 130x200 200", "", "by columns, [in, out]"},
    {"5x3 !5x4 !3x4", "transA=1 alpha=0.5 beta=2", "three computed matrices"},
    {"3x5 !4x5 !1x4", "transB=1 alpha=2", "a row spread"},
    {"3x5 4x5 !3x1", "transB=1 beta=0.7", "a column spread"},
    {"3x5 5x4 1", "alpha=0.3", "one number spread, constant weights"},
    {NULL, NULL, NULL},
};

const struct op op_Gemm = {
    .name = "Gemm",
    .help = "y = x . w + bias",
    .min_inputs = 2,
    .max_inputs = 3,
    .min_outputs = 1,
    .max_outputs = 1,
    .attributes = "alpha beta transA transB",
    .drops = "broadcast",
    .layout = WISH_PLAIN,
    .traits = OP_ACTIVATES,
    .keeps = KEEP_INPUT(DATA) | KEEP_INPUT(WEIGHTS),
    .parameters = 1u << WEIGHTS | 1u << BIAS,
    .state_size = sizeof(union state),
    .infer = gemm_infer,
    .plan = gemm_plan,
    .takes_pixels = gemm_takes_pixels,
    .macs = dense_macs,
    .samples = gemm_samples,
};

/* ---- MatMul ---- */

static int matmul_plan(struct call *c, struct plan *p, struct err *e) {
    return is_dense(c) ? plan_dense(c, p, false, e) : product_plan(c, p, e);
}

static const struct op_sample matmul_samples[] = {
    {"!3x5 5x4", "", "matrices"},
    {"!3x2x5 5x4", "", "rows of a sequence"},
    {"!3x130 130x200", "", "by columns"},
    {"!2x3x4 !2x4x5", "", "one product per sample"},
    {"!2x3x4x5 !2x3x5x2", "", "several per sample"},
    {"!2x3x4x5 !2x1x5x2", "", "the second one spread"},
    {"2x4 !2x4x3", "", "constants on the left"},
    {"!2x3x4 4", "", "a vector on the right"},
    {"!4 !4x3", "", "a vector on the left"},
    {NULL, NULL, NULL},
};

const struct op op_MatMul = {
    .name = "MatMul",
    .help = "y = x . w",
    .min_inputs = 2,
    .max_inputs = 2,
    .min_outputs = 1,
    .max_outputs = 1,
    .layout = WISH_PLAIN,
    .traits = OP_ACTIVATES,
    .keeps = KEEP_INPUT(DATA) | KEEP_INPUT(WEIGHTS),
    .parameters = 1u << DATA | 1u << WEIGHTS,
    .state_size = sizeof(union state),
    .infer = product_infer,
    .plan = matmul_plan,
    .takes_pixels = dense_takes_pixels,
    .macs = dense_macs,
    .samples = matmul_samples,
};
