/* moves.c - see moves.h. */
#include "engine/ops/moves.h"

#include <string.h>

#include "base/memory.h"
#include "engine/ops/common.h"
#include "engine/ops/fold.h"
#include "engine/ops/walk.h"

struct move {
    int in, out;
    ptrdiff_t from, to;
    size_t count;
    struct walk walk; /* operands: to, from */
};

/* An input, seen from the backward pass. */
struct origin {
    struct target target;
    bool whole; /* each element goes to exactly one place that has a gradient */
};

/* ---- descriptions ---- */

void moving_in_steps(const struct moving *m, int k, ptrdiff_t *step) {
    walk_steps(step, &m->i->in[k]->shape, m->call ? m->call->in[k]->layout : LAYOUT_PLAIN);
}

void moving_out_steps(const struct moving *m, int k, ptrdiff_t *step) {
    walk_steps(step, &m->i->out[k].shape, m->call && m->call->out[k] ? m->call->out[k]->layout : LAYOUT_PLAIN);
}

static void fold_path(const struct inference *i, const struct path *path) {
    const struct array *from = i->in[path->in]->constant;
    struct array *to = i->folded[path->out];
    size_t size = dtype_size(from->type), index[SHAPE_MAX_RANK] = {0},
           count = shape_span(&path->over, 0, path->over.rank);
    ptrdiff_t source = path->from, target = path->to;
    for (size_t n = 0; n < count; n++) {
        memcpy((char *)to->data + (size_t)target * size, (const char *)from->data + (size_t)source * size, size);
        for (int d = path->over.rank - 1; d >= 0; d--) {
            source += path->from_step[d];
            target += path->to_step[d];
            if (++index[d] < (size_t)path->over.dim[d]) break;
            source -= path->from_step[d] * (ptrdiff_t)index[d];
            target -= path->to_step[d] * (ptrdiff_t)index[d];
            index[d] = 0;
        }
    }
}

void moving_add(struct moving *m, const struct path *path) {
    if (!m->call) {
        fold_path(m->i, path);
        return;
    }
    if (m->list && m->call->out[path->out]) {
        struct move *move = &m->list[m->n];
        *move = (struct move){path->in,   path->out, path->from, path->to, shape_span(&path->over, 0, path->over.rank),
                              {.rank = 0}};
        walk_start(&move->walk, &path->over,
                   path->over.rank == m->i->out[path->out].shape.rank ? m->call->out[path->out]->layout : LAYOUT_PLAIN);
        walk_add(&move->walk, path->to_step);
        walk_add(&move->walk, path->from_step);
        walk_close(&move->walk);
    }
    m->n += m->call->out[path->out] != NULL;
}

int moves_fold(struct inference *i, describe_moves *describe, struct err *e) {
    if (!folds(i)) return 0;
    for (int k = 0; k < i->n_out; k++) {
        int status = array_new(&i->folded[k], i->out[k].type, &i->out[k].shape, e);
        if (status) return status;
    }
    struct moving m = {.i = i};
    int status = describe(&m, e);
    if (status || !m.fills) return status;
    for (size_t n = 0; n < i->folded[0]->count; n++) fold_put(i->folded[0], n, m.fill);
    return describe(&m, e);
}

/* ---- steps ---- */

VECTORISED static void copy_row(real *const *at, const ptrdiff_t *step, size_t n, const void *context) {
    real *to = at[0];
    const real *from = at[1];
    (void)context;
    if (step[0] == 1 && step[1] == 1)
        memcpy(to, from, n * sizeof(real));
    else if (step[0] == 1 && step[1] == 0)
        for (size_t i = 0; i < n; i++) to[i] = from[0];
    else
        for (size_t i = 0; i < n; i++) to[(ptrdiff_t)i * step[0]] = from[(ptrdiff_t)i * step[1]];
}

/* The gradient of `from` gets, or gets more of, that of `to`. */
VECTORISED static void give_row(real *const *at, const ptrdiff_t *step, size_t n, const void *context) {
    const real *dy = at[0];
    real *dx = at[1];
    bool add = *(const bool *)context;
    if (step[0] == 1 && step[1] == 1)
        for (size_t i = 0; i < n; i++) dx[i] = dy[i] + (add ? dx[i] : 0);
    else if (add)
        for (size_t i = 0; i < n; i++) dx[(ptrdiff_t)i * step[1]] += dy[(ptrdiff_t)i * step[0]];
    else
        for (size_t i = 0; i < n; i++) dx[(ptrdiff_t)i * step[1]] = dy[(ptrdiff_t)i * step[0]];
}

static void moves_forward(const struct call *c, const struct part *p) {
    const struct moves_state *s = c->state;
    if (s->fills) {
        real *y = tensor_at(c->out[0], p);
        size_t n = tensor_count(c->out[0], p);
        for (size_t i = 0; i < n; i++) y[i] = s->fill;
    }
    for (int k = 0; k < s->n; k++) {
        const struct move *m = &s->list[k];
        real *at[] = {tensor_at(c->out[m->out], p) + m->to, tensor_at(c->in[m->in], p) + m->from};
        walk_run(&m->walk, p, c->batch, at, copy_row, NULL);
    }
}

static void moves_backward(const struct call *c, const struct part *p) {
    const struct moves_state *s = c->state;
    for (int k = 0; k < c->n_in; k++) {
        if (!c->d_in[k]) continue;
        bool add;
        real *dx = target_open(&s->origins[k].target, c, k, p, s->origins[k].whole, &add);
        for (int j = 0; j < s->n; j++) {
            const struct move *m = &s->list[j];
            if (m->in != k || !c->d_out[m->out]) continue;
            real *at[] = {tensor_at(c->d_out[m->out], p) + m->to, dx + m->from};
            walk_run(&m->walk, p, c->batch, at, give_row, &add);
        }
    }
}

static void moves_finish(const struct call *c, const struct part *p) {
    const struct moves_state *s = c->state;
    (void)p;
    for (int k = 0; k < c->n_in; k++) target_finish(&s->origins[k].target, c, k);
}

/* ---- planning ---- */

/* The node as inference saw it; tables belong to the plan. */
static int describe_call(struct moving *m, struct call *c, struct plan *p, struct inference *i,
                         describe_moves *describe, struct err *e) {
    struct known *all;
    const struct known **in;
    size_t n = (size_t)c->n_in + (size_t)c->n_out;
    int status = plan_table((void **)&all, p, n * sizeof *all, e);
    if (!status) status = plan_table((void **)&in, p, n * sizeof *in, e);
    if (status) return status;
    for (int k = 0; k < c->n_in; k++) {
        if (!c->in[k]) continue;
        all[k] = (struct known){c->graph->values[c->node->inputs[k]].type, c->in[k]->shape, c->constants[k], false};
        in[k] = &all[k];
    }
    struct known *out = all + c->n_in;
    for (int k = 0; k < c->n_out; k++)
        if (c->out[k])
            out[k] = (struct known){c->graph->values[c->node->outputs[k]].type, c->out[k]->shape, NULL, false};
    *i = (struct inference){
        .node = c->node, .opset = c->graph->opset, .n_in = c->n_in, .n_out = c->n_out, .in = in, .out = out};
    *m = (struct moving){.i = i, .call = c};
    status = describe(m, e);
    if (!status) status = plan_table((void **)&m->list, p, (size_t)m->n * sizeof *m->list, e);
    m->n = 0;
    return status ? status : describe(m, e);
}

/* Whether every element of input k goes to exactly one place that has a gradient. */
static bool goes_whole(const struct call *c, const struct moves_state *s, int k) {
    size_t n = 0;
    for (int j = 0; j < s->n; j++)
        if (s->list[j].in == k && c->d_out[s->list[j].out]) n += s->list[j].count;
    return n == shape_span(&c->in[k]->shape, 0, c->in[k]->shape.rank);
}

int moves_plan(struct call *c, struct plan *p, describe_moves *describe, struct err *e) {
    struct moves_state *s = c->state;
    struct inference i;
    struct moving m;
    bool trains = false, gathers = false;
    int status = describe_call(&m, c, p, &i, describe, e);
    if (!status) status = plan_table((void **)&s->origins, p, (size_t)c->n_in * sizeof *s->origins, e);
    if (status) return status;
    s->list = m.list;
    s->n = m.n;
    s->fill = (real)m.fill;
    s->fills = m.fills;
    for (int k = 0; k < c->n_in && !status; k++) {
        if (!c->d_in[k]) continue;
        status = target_plan(&s->origins[k].target, c, k, p, e);
        s->origins[k].whole = !m.repeats && goes_whole(c, s, k);
        gathers |= s->origins[k].target.gathers;
        trains = true;
    }
    if (!status) status = plan_lanes(p, PHASE_FORWARD, moves_forward, false, e);
    if (!status && trains) status = plan_lanes(p, PHASE_BACKWARD, moves_backward, false, e);
    return status || !gathers ? status : plan_units(p, PHASE_FINISH, moves_finish, 1, e);
}
