/* product.c - see product.h. Products of many small matrices are done one after the other, by lanes. */
#include "engine/ops/product.h"

#include <string.h>

#include "engine/kernels/blas.h"
#include "engine/kernels/loops.h"

enum { A, B, C };

/* ---- shapes ---- */

/* As a matrix: a vector on the left is a row, on the right a column. */
static struct shape as_matrix(const struct shape *s, bool right) {
    if (s->rank != 1) return *s;
    return right ? (struct shape){2, {s->dim[0], 1}} : (struct shape){2, {1, s->dim[0]}};
}

static struct shape before_matrix(const struct shape *s) {
    struct shape batch = *s;
    batch.rank -= 2;
    return batch;
}

static int refuse_shapes(const struct inference *i, struct err *e) {
    char left[96], right[96];
    shape_print(left, sizeof left, &i->in[A]->shape);
    shape_print(right, sizeof right, &i->in[B]->shape);
    return err_set(e, E_INVALID, "%s by %s: rows and columns do not go together", left, right);
}

int product_check(const struct inference *i, struct err *e) {
    for (int k = 0; k < 2; k++)
        for (int d = 0; d < i->in[k]->shape.rank; d++)
            if (i->in[k]->shape.dim[d] > INT32_MAX)
                return err_set(e, E_TOO_LARGE, "a dimension of %lld", (long long)i->in[k]->shape.dim[d]);
    return 0;
}

int product_infer(struct inference *i, struct err *e) {
    if (product_check(i, e)) return E_TOO_LARGE;
    if (i->in[A]->shape.rank < 1 || i->in[B]->shape.rank < 1) return refuse_shapes(i, e);
    struct shape a = as_matrix(&i->in[A]->shape, false), b = as_matrix(&i->in[B]->shape, true);
    struct shape y = before_matrix(&a), batch = before_matrix(&b);
    if (a.dim[a.rank - 1] != b.dim[b.rank - 2]) return refuse_shapes(i, e);
    int status = shape_broadcast(&y, &batch, e);
    if (status) return status;
    if (i->in[A]->shape.rank > 1) y.dim[y.rank++] = a.dim[a.rank - 2];
    if (i->in[B]->shape.rank > 1) y.dim[y.rank++] = b.dim[b.rank - 1];
    i->out[0].shape = y;
    return 0;
}

/* ---- one product ---- */

struct job {
    const struct product_state *s;
    int m;
    bool add;
};

static void multiply(real *const *at, const ptrdiff_t *step, size_t count, const void *context) {
    const struct job *j = context;
    const struct product_state *s = j->s;
    for (ptrdiff_t i = 0; i < (ptrdiff_t)count; i++)
        blas_gemm(s->transpose_a, s->transpose_b, j->m, s->n, s->k, at[1] + i * step[1], s->transpose_a ? j->m : s->k,
                  at[2] + i * step[2], s->transpose_b ? s->k : s->n, at[0] + i * step[0], s->n, false);
}

/* at: dy, da, b */
static void multiply_for_a(real *const *at, const ptrdiff_t *step, size_t count, const void *context) {
    const struct job *j = context;
    const struct product_state *s = j->s;
    int ldb = s->transpose_b ? s->k : s->n;
    for (ptrdiff_t i = 0; i < (ptrdiff_t)count; i++) {
        const real *dy = at[0] + i * step[0], *b = at[2] + i * step[2];
        real *da = at[1] + i * step[1];
        if (s->transpose_a)
            blas_gemm(s->transpose_b, true, s->k, j->m, s->n, b, ldb, dy, s->n, da, j->m, j->add);
        else
            blas_gemm(false, !s->transpose_b, j->m, s->k, s->n, dy, s->n, b, ldb, da, s->k, j->add);
    }
}

/* at: dy, a, db */
static void multiply_for_b(real *const *at, const ptrdiff_t *step, size_t count, const void *context) {
    const struct job *j = context;
    const struct product_state *s = j->s;
    int lda = s->transpose_a ? j->m : s->k;
    for (ptrdiff_t i = 0; i < (ptrdiff_t)count; i++) {
        const real *dy = at[0] + i * step[0], *a = at[1] + i * step[1];
        real *db = at[2] + i * step[2];
        if (s->transpose_b)
            blas_gemm(true, s->transpose_a, s->n, s->k, j->m, dy, s->n, a, lda, db, s->k, j->add);
        else
            blas_gemm(!s->transpose_a, false, s->k, s->n, j->m, a, lda, dy, s->n, db, s->n, j->add);
    }
}

/* ---- the third operand ---- */

static void add_bias(real *const *at, const ptrdiff_t *step, size_t n, const void *context) {
    real beta = *(const real *)context;
    for (ptrdiff_t i = 0; i < (ptrdiff_t)n; i++) at[0][i * step[0]] += beta * at[1][i * step[1]];
}

static void scale(const real *from, real *to, size_t n, real factor) {
    for (size_t i = 0; i < n; i++) to[i] = from[i] * factor;
}

/* ---- steps ---- */

static struct job job_for(const struct product_state *s, const struct call *c, const struct part *p) {
    return (struct job){.s = s, .m = s->rows_vary ? (int)tensor_rows(c->in[A], p) : s->m};
}

/* A matrix that a lane has some rows of is one matrix; else the walk's first axis is the batch. */
static const struct part *share_of(const struct product_state *s, const struct part *p) {
    return s->rows_vary ? NULL : p;
}

static bool has_bias(const struct call *c) {
    return c->n_in > C && c->in[C];
}

static void product_forward(const struct call *c, const struct part *p) {
    const struct product_state *s = c->state;
    real *y = tensor_at(c->out[0], p);
    size_t n = tensor_count(c->out[0], p);
    struct job job = job_for(s, c, p);
    walk_run(&s->batch, share_of(s, p), c->batch, (real *[]){y, tensor_at(c->in[A], p), tensor_at(c->in[B], p)},
             multiply, &job);
    if (s->alpha < 1 || s->alpha > 1) scale(y, y, n, s->alpha);
    if (has_bias(c)) walk_run(&s->bias[0], p, c->batch, (real *[]){y, tensor_at(c->in[C], p)}, add_bias, &s->beta);
    if (c->activation == ACTIVATION_RELU) loop_bias_relu(y, NULL, 1, n, true);
}

static void product_backward(const struct call *c, const struct part *p) {
    const struct product_state *s = c->state;
    real *dy = tensor_at(c->d_out[0], p), *a = tensor_at(c->in[A], p), *b = tensor_at(c->in[B], p);
    struct job job = job_for(s, c, p);
    bool add;
    if (c->activation == ACTIVATION_RELU) loop_relu_mask(dy, tensor_at(c->out[0], p), tensor_count(c->out[0], p));
    if (has_bias(c) && c->d_in[C]) {
        real *dc = target_open(&s->target[C], c, C, p, false, &add);
        walk_run(&s->bias[1], p, c->batch, (real *[]){dc, dy}, add_bias, &s->beta);
    }
    if (s->alpha < 1 || s->alpha > 1) {
        scale(dy, p->scratch, tensor_count(c->d_out[0], p), s->alpha);
        dy = p->scratch;
    }
    if (c->d_in[A]) {
        real *da = target_open(&s->target[A], c, A, p, !s->spread[A], &job.add);
        walk_run(&s->batch, share_of(s, p), c->batch, (real *[]){dy, da, b}, multiply_for_a, &job);
    }
    if (c->d_in[B]) {
        real *db = target_open(&s->target[B], c, B, p, !s->spread[B], &job.add);
        walk_run(&s->batch, share_of(s, p), c->batch, (real *[]){dy, a, db}, multiply_for_b, &job);
    }
}

static void product_finish(const struct call *c, const struct part *p) {
    const struct product_state *s = c->state;
    (void)p;
    for (int k = 0; k < c->n_in; k++)
        if (c->in[k]) target_finish(&s->target[k], c, k);
}

/* ---- planning ---- */

static void add_matrices(struct walk *w, const struct shape *batch, size_t matrix) {
    ptrdiff_t step[SHAPE_MAX_RANK] = {0}, n = (ptrdiff_t)matrix;
    for (int d = batch->rank - 1; d >= 0; d--) {
        if (batch->dim[d] != 1) step[d + w->rank - batch->rank] = n;
        n *= (ptrdiff_t)batch->dim[d];
    }
    walk_add(w, step);
}

static void plan_matrices(const struct call *c, struct product_state *s) {
    struct shape a = as_matrix(&c->in[A]->shape, false), b = as_matrix(&c->in[B]->shape, true);
    struct shape batch_a = before_matrix(&a), batch_b = before_matrix(&b), batch_y = batch_a;
    shape_broadcast(&batch_y, &batch_b, NULL);
    s->m = (int)a.dim[a.rank - (s->transpose_a ? 1 : 2)];
    s->k = (int)a.dim[a.rank - (s->transpose_a ? 2 : 1)];
    s->n = (int)b.dim[b.rank - (s->transpose_b ? 2 : 1)];
    s->rows_vary = batch_y.rank == 0 && c->in[A]->shape.rank == 2 && !s->transpose_a;
    walk_start(&s->batch, &batch_y, LAYOUT_PLAIN);
    add_matrices(&s->batch, &batch_y, (size_t)s->m * (size_t)s->n);
    add_matrices(&s->batch, &batch_a, (size_t)s->m * (size_t)s->k);
    add_matrices(&s->batch, &batch_b, (size_t)s->k * (size_t)s->n);
    walk_close(&s->batch);
    size_t products = shape_span(&batch_y, 0, batch_y.rank);
    s->spread[A] = shape_span(&batch_a, 0, batch_a.rank) != products;
    s->spread[B] = shape_span(&batch_b, 0, batch_b.rank) != products;
}

static void plan_bias(const struct call *c, struct product_state *s) {
    const struct shape *y = &c->out[0]->shape, *bias = &c->in[C]->shape;
    for (int k = 0; k < 2; k++) {
        walk_start(&s->bias[k], y, LAYOUT_PLAIN);
        walk_add_tensor(&s->bias[k], k ? bias : y, LAYOUT_PLAIN);
        walk_add_tensor(&s->bias[k], k ? y : bias, LAYOUT_PLAIN);
        walk_close(&s->bias[k]);
    }
}

int product_plan(struct call *c, struct plan *p, struct err *e) {
    struct product_state *s = c->state;
    bool gathers = false, trains = false;
    *s = (struct product_state){.transpose_a = node_int(c->node, "transA", 0) != 0,
                                .transpose_b = node_int(c->node, "transB", 0) != 0,
                                .alpha = (real)node_real(c->node, "alpha", 1),
                                .beta = (real)node_real(c->node, "beta", 1)};
    plan_matrices(c, s);
    if (has_bias(c)) plan_bias(c, s);
    int status = 0;
    for (int k = 0; k < c->n_in && !status; k++) {
        if (!c->d_in[k]) continue;
        status = target_plan(&s->target[k], c, k, p, e);
        gathers |= s->target[k].gathers;
        trains = true;
    }
    if (s->alpha < 1 || s->alpha > 1) plan_scratch(p, lane_room(c, c->out[0]));
    if (!status) status = plan_lanes(p, PHASE_FORWARD, product_forward, false, e);
    if (!status && trains) status = plan_lanes(p, PHASE_BACKWARD, product_backward, false, e);
    return status || !gathers ? status : plan_units(p, PHASE_FINISH, product_finish, 1, e);
}
