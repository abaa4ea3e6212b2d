/* plan.c - from a graph to calls with tensors and steps. See plan.h for the stages. */
#include "engine/nn/plan.h"

#include <string.h>

#include "base/memory.h"

/* ---- stage 1: lanes and shapes ---- */

/* Samples per lane: a divisor of the batch near 8 where there is one, so that all lanes are equal;
 * at most LANES_MOST lanes. Small lanes keep a layer's data in the cache of a core. */
enum { LANE_SIZE = 8, LANES_MOST = 32 };

static int choose_lane_size(int batch) {
    int least = (batch + LANES_MOST - 1) / LANES_MOST;
    int wish = least > LANE_SIZE ? least : LANE_SIZE;
    if (batch <= wish) return batch >= 4 ? (batch + 3) / 4 : 1;
    for (int size = wish; size >= least && 2 * size >= wish; size--)
        if (batch % size == 0) return size;
    for (int size = wish; size <= 2 * wish; size++)
        if (batch % size == 0) return size;
    return wish;
}

/* The element count of a shape that inference has checked. */
static size_t count_of(const struct shape *s) {
    size_t n = 1;
    for (int d = 0; d < s->rank; d++) n *= (size_t)s->dim[d];
    return n;
}

static bool is_constant(const struct plan *p, int v) {
    return p->known->values[v].constant != NULL;
}

/* Whether every value that is computed is a row per sample, rows in order: dimension 0 grows with
 * the batch and no other does. Else the batch stays in one piece. */
static int samples_stay_apart(bool *out, const struct plan *p, struct err *e) {
    struct inferred *twice = NULL;
    int status = graph_infer(&twice, p->graph, 2 * (int64_t)p->options.batch, e);
    if (status) return status;
    *out = !p->known->mixes;
    for (int v = 0; v < p->graph->n_values && *out; v++) {
        const struct shape *one = &p->known->values[v].shape, *two = &twice->values[v].shape;
        if (is_constant(p, v) || one->rank < 0) continue;
        bool good = one->rank > 0 && two->dim[0] == 2 * one->dim[0] && one->dim[0] % p->options.batch == 0;
        for (int d = 1; d < one->rank; d++) good = good && one->dim[d] == two->dim[d];
        *out = good;
    }
    inferred_free(twice);
    return 0;
}

/* Reals that the gradients which one call gathers may take: a twelfth of about what a network needs, with
 * value, gradient and two copies of the optimizer. */
enum { COPIES = 4, GATHER_SHARE = 12 };

static size_t gather_room(const struct plan *p) {
    size_t needed = 0;
    for (int v = 0; v < p->graph->n_values; v++) {
        const struct known *k = &p->known->values[v];
        if (k->shape.rank < 0 || (k->constant && !k->trainable)) continue;
        needed += count_of(&k->shape) * (k->constant ? COPIES : 1);
    }
    return needed / GATHER_SHARE;
}

static int find_shapes(struct plan *p, struct err *e) {
    int status = graph_infer(&p->known, p->graph, p->options.batch, e);
    if (status) return status;
    bool apart = false;
    status = samples_stay_apart(&apart, p, NULL);
    if (status == E_NOMEM) return err_memory(e, 0);
    p->lane_size = status == 0 && apart ? choose_lane_size(p->options.batch) : p->options.batch;
    p->lanes = (p->options.batch + p->lane_size - 1) / p->lane_size;
    p->gather_room = gather_room(p);
    return 0;
}

/* ---- stage 2: values and calls ---- */

struct storage plan_storage(const struct plan *p, int index, const struct shape *shape, enum layout layout) {
    size_t count = count_of(shape), batch = (size_t)p->options.batch;
    bool per_sample = count % batch == 0 && count > 0;
    return (struct storage){
        .tensor = {.shape = *shape,
                   .layout = layout,
                   .per_sample = per_sample,
                   .row = per_sample ? count / batch : count,
                   .samples = per_sample ? batch : 1},
        .root = index,
        .first = -1,
        .last = -1,
    };
}

/* Graph values may at most double through conversions. */
static int make_tables(struct plan *p, struct err *e) {
    size_t n = (size_t)p->graph->n_values * 2 + 1;
    p->values_room = (int)n;
    p->values = mem_calloc(n, sizeof *p->values);
    p->gradients = mem_calloc(n, sizeof *p->gradients);
    if (!p->values || !p->gradients) return err_memory(e, n * 2 * sizeof *p->values);
    int status = plan_block((void **)&p->converted, p, n, sizeof(int), e);
    if (!status) status = plan_block((void **)&p->standing, p, n, sizeof(int), e);
    if (!status) status = plan_block((void **)&p->readers, p, n, sizeof(int), e);
    if (!status) status = plan_block((void **)&p->wants, p, n, sizeof(bool), e);
    for (int v = 0; v < p->graph->n_values && !status; v++) {
        p->converted[v] = -1;
        p->standing[v] = v;
        if (p->known->values[v].shape.rank >= 0)
            p->values[v] = plan_storage(p, v, &p->known->values[v].shape, LAYOUT_PLAIN);
        if (is_constant(p, v)) {
            struct tensor *t = &p->values[v].tensor;
            t->per_sample = false;
            t->row = count_of(&t->shape);
            t->samples = 1;
            p->values[v].fixed = true;
        }
    }
    p->n_values = p->graph->n_values;
    return status;
}

static int list_parameter(struct plan *p, int v, bool trainable, struct err *e) {
    if (p->n_parameters == p->parameters_room) {
        int room = p->parameters_room ? p->parameters_room * 2 : 64;
        struct net_parameter *moved = mem_resize(p->parameters, (size_t)room, sizeof *moved);
        if (!moved) return err_memory(e, (size_t)room * sizeof *moved);
        p->parameters = moved;
        p->parameters_room = room;
    }
    size_t count = p->graph->values[v].constant->count;
    p->parameters[p->n_parameters++] = (struct net_parameter){v, p->n_all, count, trainable};
    p->n_all += count;
    if (trainable) p->n_trainable += count;
    return 0;
}

/* Trainable values first, in graph order; then statistics. */
static int find_parameters(struct plan *p, struct err *e) {
    const struct graph *g = p->graph;
    int status = 0;
    bool *listed = mem_calloc((size_t)g->n_values + 1, sizeof *listed);
    if (!listed) return err_memory(e, sizeof *listed);
    for (int v = 0; v < g->n_values && !status; v++)
        if (g->values[v].constant && g->values[v].trainable) {
            status = list_parameter(p, v, true, e);
            listed[v] = true;
        }
    for (int i = 0; i < g->n_nodes && !status; i++)
        for (int k = 0; k < g->nodes[i].n_inputs && !status; k++) {
            int v = g->nodes[i].inputs[k];
            if (v == VALUE_NONE || !g->values[v].constant || listed[v]) continue;
            if (op_takes(k, g->nodes[i].op->statistics)) {
                status = list_parameter(p, v, false, e);
                listed[v] = true;
            }
        }
    mem_free(listed);
    return status;
}

static void constant_to_real(real *out, const struct array *a) {
    if (sizeof(real) == sizeof(float))
        array_to_float((float *)(void *)out, a, 0, a->count);
    else
        array_to_double((double *)(void *)out, a, 0, a->count);
}

/* A constant as reals, where somebody computes with it: where it is, or converted. */
static int load_constant(struct plan *p, int v, struct err *e) {
    struct tensor *t = &p->values[v].tensor;
    const struct array *a = p->known->values[v].constant;
    if (t->base) return 0;
    if (a->type == DT_FLOAT32 && sizeof(real) == sizeof(float)) {
        t->base = a->data; /* nobody writes to a constant */
        return 0;
    }
    int status = plan_memory(&t->base, p, t->row, e);
    if (!status) constant_to_real(t->base, a);
    return status;
}

/* The flat array: a new one, or that of the network beside. */
static int take_parameters(struct plan *p, struct err *e) {
    if (p->host) {
        if (p->host->n_all != p->n_all) return err_set(e, E_INTERNAL, "two networks beside each other differ");
        p->parameter_values = p->host->parameter_values;
        return 0;
    }
    int status = plan_block((void **)&p->parameter_values, p, p->n_all, sizeof(real), e);
    if (!status) status = plan_block((void **)&p->parameter_gradients, p, p->n_trainable, sizeof(real), e);
    for (int i = 0; i < p->n_parameters && !status; i++) {
        const struct array *a = p->graph->values[p->parameters[i].value].constant;
        if (!a->data) return err_set(e, E_INTERNAL, "the graph's weights are in another network (net_empty_graph)");
        constant_to_real(p->parameter_values + p->parameters[i].start, a);
    }
    return status;
}

static int load_parameters(struct plan *p, struct err *e) {
    bool training = p->options.training, flat = training || p->host;
    p->memory.parameters = (p->n_all + (training ? p->n_trainable : 0)) * sizeof(real);
    int status = flat ? take_parameters(p, e) : 0;
    for (int i = 0; i < p->n_parameters && !status; i++) {
        const struct net_parameter *k = &p->parameters[i];
        if (flat)
            p->values[k->value].tensor.base = p->parameter_values + k->start;
        else
            status = load_constant(p, k->value, e);
        p->gradients[k->value] = p->values[k->value];
        p->gradients[k->value].tensor.base = k->trainable && training ? p->parameter_gradients + k->start : NULL;
        p->wants[k->value] = k->trainable && training;
    }
    return status;
}

static int reserve_call(struct plan *p, struct err *e) {
    if (p->n_calls < p->calls_room) return 0;
    int room = p->calls_room ? p->calls_room * 2 : 64;
    struct call *calls = mem_resize(p->calls, (size_t)room, sizeof *calls);
    if (calls) p->calls = calls;
    struct planned_call *planned = mem_resize(p->planned, (size_t)room, sizeof *planned);
    if (planned) p->planned = planned;
    if (!calls || !planned) return err_memory(e, (size_t)room * (sizeof *calls + sizeof *planned));
    p->calls_room = room;
    return 0;
}

/* A call with room for its tables; node may be NULL. */
static int add_call(int *out, struct plan *p, const struct op *op, const struct node *node, int n_in, int n_out,
                    struct err *e) {
    int status = reserve_call(p, e);
    if (status) return status;
    struct call c = {.node = node,
                     .graph = p->graph,
                     .n_in = n_in,
                     .n_out = n_out,
                     .training = p->options.training,
                     .label = (uint64_t)(unsigned)p->n_calls,
                     .lanes = p->lanes,
                     .lane_size = p->lane_size,
                     .batch = p->options.batch,
                     .threads = p->threads};
    struct planned_call planned = {.op = op, .residual = VALUE_NONE};
    size_t in = (size_t)n_in + 1, made = (size_t)n_out + 1;
    if ((status = plan_block((void **)&planned.in, p, in, sizeof(int), e)) ||
        (status = plan_block((void **)&planned.out, p, made, sizeof(int), e)) ||
        (status = plan_block((void **)&c.in, p, in, sizeof *c.in, e)) ||
        (status = plan_block((void **)&c.out, p, made, sizeof *c.out, e)) ||
        (status = plan_block((void **)&c.d_in, p, in, sizeof *c.d_in, e)) ||
        (status = plan_block((void **)&c.d_out, p, made, sizeof *c.d_out, e)) ||
        (status = plan_block((void **)&c.add, p, in, sizeof *c.add, e)) ||
        (status = plan_block((void **)&c.constants, p, in, sizeof *c.constants, e)) ||
        (status = plan_block(&c.state, p, 1, op->state_size + 1, e)))
        return status;
    p->calls[p->n_calls] = c;
    p->planned[p->n_calls] = planned;
    *out = p->n_calls++;
    return 0;
}

/* The same elements in the same order whatever the layout: one channel, or one pixel. */
static bool layouts_agree(const struct shape *s) {
    if (s->rank < 3) return true;
    size_t plane = 1;
    for (int d = 2; d < s->rank; d++) plane *= (size_t)s->dim[d];
    return s->dim[1] == 1 || plane == 1;
}

static int root_of(const struct plan *p, int v) {
    while (p->values[v].root != v) v = p->values[v].root;
    return v;
}

/* The value v in the wanted layout: itself, or a converted copy (made once). */
static int in_layout(int *out, struct plan *p, int v, enum layout wanted, struct err *e) {
    struct storage *s = &p->values[v];
    *out = v;
    if (s->tensor.layout == wanted || s->fixed || s->tensor.shape.rank < 3) return 0;
    if (p->converted[v] >= 0) {
        *out = p->converted[v];
        return 0;
    }
    int copy = p->n_values++, call;
    int status = add_call(&call, p, &op_relayout, NULL, 1, 1, e);
    if (status) return status;
    p->values[copy] = plan_storage(p, copy, &s->tensor.shape, wanted);
    if (layouts_agree(&s->tensor.shape)) p->values[copy].root = root_of(p, v);
    p->converted[copy] = v;
    p->converted[v] = copy;
    p->wants[copy] = p->wants[v];
    p->planned[call].in[0] = v;
    p->planned[call].out[0] = copy;
    *out = copy;
    return 0;
}

/* Pixels of a channels-last image that is flattened for a layer which takes it as it lies; else 0. */
static size_t pixels_taken(const struct plan *p, const struct readership *r, const struct node *n) {
    int out = n->outputs[0];
    const struct tensor *from = &p->values[n->inputs[0]].tensor, *to = &p->values[out].tensor;
    if (p->options.training || from->layout != LAYOUT_LAST || from->shape.rank < 3 || to->shape.rank != 2 ||
        from->shape.dim[0] != to->shape.dim[0] || from->shape.dim[1] == 0 || r->reads[out] != 1)
        return 0;
    const struct node *reader = &p->graph->nodes[r->reader[out]];
    bool takes = reader->op->takes_pixels && reader->inputs[0] == out && reader->op->takes_pixels(p->graph, reader);
    return takes ? (size_t)(to->shape.dim[1] / from->shape.dim[1]) : 0;
}

static int plan_view(struct plan *p, const struct readership *r, const struct node *n, struct err *e) {
    int in, call, out = n->outputs[0];
    size_t pixels = pixels_taken(p, r, n);
    bool stays = n->op->layout == WISH_ANY || pixels > 1;
    int status = in_layout(&in, p, n->inputs[0], stays ? p->values[n->inputs[0]].tensor.layout : LAYOUT_PLAIN, e);
    if (!status) status = add_call(&call, p, &op_relayout, NULL, 1, 1, e);
    if (status) return status;
    p->values[out].tensor.pixels = pixels;
    p->values[out].root = root_of(p, in);
    p->values[out].tensor.layout = p->values[in].tensor.layout;
    p->values[out].ready = true;
    p->wants[out] = p->wants[in];
    p->planned[call].in[0] = in;
    p->planned[call].out[0] = out;
    return 0;
}

static enum layout layout_of_call(const struct plan *p, const struct node *n) {
    if (n->op->layout == WISH_PLAIN) return LAYOUT_PLAIN;
    if (n->op->layout == WISH_LAST) return LAYOUT_LAST;
    enum layout layout = LAYOUT_PLAIN;
    bool found = false;
    for (int k = 0; k < n->n_inputs; k++) { /* the first one decides, if all have the same rank */
        if (n->inputs[k] == VALUE_NONE || p->values[n->inputs[k]].fixed) continue;
        const struct tensor *t = &p->values[n->inputs[k]].tensor;
        if (t->shape.rank != p->values[n->outputs[0]].tensor.shape.rank) return LAYOUT_PLAIN;
        if (!found) layout = t->layout;
        found = true;
    }
    return layout;
}

static bool wants_gradient(const struct plan *p, const struct planned_call *c, int n_in) {
    if (c->residual != VALUE_NONE && p->wants[c->residual]) return true;
    for (int k = 0; k < n_in; k++)
        if (c->in[k] != VALUE_NONE && p->wants[c->in[k]]) return true;
    return false;
}

static int plan_node(struct plan *p, const struct readership *r, bool *merged, const struct node *n, struct err *e) {
    enum layout layout = layout_of_call(p, n);
    int in[OP_KEEP_INPUTS], *inputs = in, call;
    int status =
        n->n_inputs <= OP_KEEP_INPUTS ? 0 : plan_block((void **)&inputs, p, (size_t)n->n_inputs, sizeof(int), e);
    for (int k = 0; k < n->n_inputs && !status; k++) {
        inputs[k] = n->inputs[k];
        if (inputs[k] == VALUE_NONE) continue;
        if (p->values[inputs[k]].fixed)
            status = load_constant(p, inputs[k], e);
        else
            status = in_layout(&inputs[k], p, inputs[k], layout, e);
    }
    if (!status) status = add_call(&call, p, n->op, n, n->n_inputs, n->n_outputs, e);
    if (status) return status;
    struct planned_call *c = &p->planned[call];
    memcpy(c->in, inputs, (size_t)n->n_inputs * sizeof(int));
    memcpy(c->out, n->outputs, (size_t)n->n_outputs * sizeof(int));
    for (int k = 0; k < n->n_inputs; k++)
        if (inputs[k] != VALUE_NONE &&
            !(p->graph->values[n->inputs[k]].constant && p->graph->values[n->inputs[k]].trainable))
            p->calls[call].constants[k] = p->known->values[n->inputs[k]].constant;
    status = plan_merge_followers(p, r, merged, call, n, layout, e);
    c = &p->planned[call];
    for (int k = 0; k < n->n_outputs && !status; k++) {
        if (c->out[k] == VALUE_NONE) continue;
        struct tensor *t = &p->values[c->out[k]].tensor;
        t->layout = t->shape.rank >= 3 ? layout : LAYOUT_PLAIN;
        p->values[c->out[k]].ready = true;
        p->wants[c->out[k]] = p->options.training && !(n->op->traits & OP_FLAT) && wants_gradient(p, c, n->n_inputs);
    }
    return status;
}

static int make_calls(struct plan *p, struct err *e) {
    const struct graph *g = p->graph;
    struct readership r;
    bool *merged;
    int status = plan_find_readers(&r, p, e);
    if (!status) status = plan_block((void **)&merged, p, (size_t)g->n_nodes + 1, sizeof *merged, e);
    for (int i = 0; i < g->n_inputs && !status; i++) {
        p->wants[g->inputs[i]] = p->options.training && p->options.input_gradient;
        p->values[g->inputs[i]].ready = true;
    }
    for (int i = 0; i < g->n_nodes && !status; i++) {
        const struct node *n = &g->nodes[i];
        bool folded = true;
        for (int k = 0; k < n->n_outputs; k++)
            folded = folded && (n->outputs[k] == VALUE_NONE || is_constant(p, n->outputs[k]));
        if (merged[i] || folded) continue;
        if (n->op->traits & OP_SHAPES_ONLY)
            return err_set(e, E_UNSUPPORTED, "node '%s' (%s) depends on data; retort computes it from constants only",
                           n->name, n->op->name);
        bool view = n->n_outputs == 1 && !p->values[n->inputs[0]].fixed &&
                    (n->op->traits & (p->options.training ? OP_VIEW : OP_VIEW | OP_IDLE));
        status = view ? plan_view(p, &r, n, e) : plan_node(p, &r, merged, n, e);
    }
    return status;
}

/* Outputs are read in ONNX order, from memory of their own. */
static int finish_outputs(struct plan *p, struct err *e) {
    int status = 0;
    for (int i = 0; i < p->graph->n_outputs && !status; i++) {
        int v = p->graph->outputs[i], plain;
        if (p->values[v].fixed) status = load_constant(p, v, e);
        if (!status) status = in_layout(&plain, p, v, LAYOUT_PLAIN, e);
        if (!status) p->standing[v] = plain;
        if (!status) p->values[root_of(p, plain)].lasting = true;
    }
    for (int i = 0; i < p->graph->n_inputs; i++) p->values[p->graph->inputs[i]].lasting = true;
    return status;
}

/* ---- stage 4: operators open ---- */

static int open_calls(struct plan *p, struct err *e) {
    for (int i = 0; i < p->n_calls; i++) {
        struct planned_call *c = &p->planned[i];
        p->opening = i;
        for (int phase = 0; phase < PHASES; phase++) c->first_step[phase] = p->steps[phase].n;
        int status = c->op->plan(&p->calls[i], p, e);
        if (status) {
            if (p->calls[i].node) err_prefix(e, "node '%s' (%s)", p->calls[i].node->name, c->op->name);
            return status;
        }
    }
    return 0;
}

/* Steps were registered in node order; those of repack, backward and finish run in the opposite one. */
static int turn_around(struct plan *p, enum phase phase, struct err *e) {
    struct steps *s = &p->steps[phase];
    struct step *turned = mem_calloc((size_t)s->n + 1, sizeof *turned);
    if (!turned) return err_memory(e, (size_t)s->n * sizeof *turned);
    int at = 0;
    for (int i = p->n_calls - 1; i >= 0; i--) {
        struct planned_call *c = &p->planned[i];
        int first = c->first_step[phase], n = c->n_steps[phase];
        if (n) memcpy(&turned[at], &s->list[first], (size_t)n * sizeof *turned);
        c->first_step[phase] = at;
        at += n;
    }
    mem_free(s->list);
    s->list = turned;
    return 0;
}

int plan_build(struct plan *p, struct err *e) {
    int status = find_shapes(p, e);
    if (!status) status = make_tables(p, e);
    if (!status) status = find_parameters(p, e);
    if (!status) status = load_parameters(p, e);
    if (!status) status = make_calls(p, e);
    if (!status) status = finish_outputs(p, e);
    if (status) return status;
    bool *given;
    status = plan_block((void **)&given, p, (size_t)p->values_room, sizeof *given, e);
    if (status) return status;
    plan_wire(p, given);
    status = open_calls(p, e);
    if (!status) status = turn_around(p, PHASE_REPACK, e);
    if (!status) status = turn_around(p, PHASE_BACKWARD, e);
    return status ? status : turn_around(p, PHASE_FINISH, e);
}
