/* net.c - running a planned network, and its parameters. */
#include "engine/nn/net.h"

#include <string.h>

#include "base/memory.h"
#include "engine/nn/plan.h"

struct net {
    struct plan plan;
    bool changed; /* parameters changed since the last PREPARE */
    real *kept;   /* the flat array, when that is all there is: net_retire */
    struct run_state state;
    int samples;
    net_load *load;
    void *load_context;
};

int net_new(struct net **out, const struct graph *g, struct crew *crew, const struct net_options *options,
            struct err *e) {
    if (options->batch < 1) return err_set(e, E_INVALID, "a batch of %d samples; at least 1 is needed", options->batch);
    struct net *n = mem_calloc(1, sizeof *n);
    if (!n) return err_memory(e, sizeof *n);
    n->plan.graph = g;
    n->plan.crew = crew;
    n->plan.options = *options;
    if (options->beside) n->plan.host = &options->beside->plan;
    n->plan.threads = crew_threads(crew);
    n->changed = true;
    int status = plan_build(&n->plan, e);
    if (!status) status = plan_place(&n->plan, e);
    if (status) {
        net_free(n);
        return status;
    }
    *out = n;
    return 0;
}

void net_free(struct net *n) {
    if (!n) return;
    plan_fini(&n->plan);
    mem_free(n->plan.parameters);
    mem_free_aligned(n->kept);
    mem_free(n);
}

struct net_memory net_memory(const struct net *n) {
    struct net_memory m = n->plan.memory;
    m.taken = n->plan.taken;
    return m;
}

/* ---- inputs and outputs ---- */

static const struct tensor *input_tensor(const struct net *n, int i) {
    return &n->plan.values[n->plan.graph->inputs[i]].tensor;
}

static int output_value(const struct net *n, int i) {
    return n->plan.standing[n->plan.graph->outputs[i]];
}

struct shape net_input_shape(const struct net *n, int i) {
    return input_tensor(n, i)->shape;
}
struct shape net_output_shape(const struct net *n, int i) {
    return n->plan.known->values[n->plan.graph->outputs[i]].shape;
}
real *net_input(struct net *n, int i) {
    return input_tensor(n, i)->base;
}
const real *net_output(const struct net *n, int i) {
    return n->plan.values[output_value(n, i)].tensor.base;
}
real *net_output_gradient(struct net *n, int i) {
    return n->plan.gradients[output_value(n, i)].tensor.base;
}
const real *net_input_gradient(const struct net *n, int i) {
    return n->plan.gradients[n->plan.graph->inputs[i]].tensor.base;
}

/* ---- running ---- */

static struct part part_for(const struct net *n, int thread) {
    return (struct part){.thread = thread,
                         .count = n->plan.options.batch,
                         .arena = n->plan.thread_arena[thread],
                         .scratch = n->plan.thread_scratch[thread],
                         .run = &n->state};
}

/* A piece of work for the crew: one segment. */
struct errand {
    struct net *net;
    const struct steps *steps; /* of its phase */
    struct segment segment;
    bool load; /* the inputs are filled first */
};

/* The last lane may be longer than what is left of the samples. */
static void load_lane(struct net *n, int first, int count) {
    n->load(n->load_context, first, first + count > n->samples ? n->samples - first : count);
}

static void run_lane(void *context, int lane, int thread) {
    const struct errand *errand = context;
    struct net *n = errand->net;
    const struct plan *p = &n->plan;
    struct part part = part_for(n, thread);
    part.index = lane;
    part.first = lane * p->lane_size;
    part.count = p->lane_size;
    if (p->options.training && part.first + part.count > p->options.batch) part.count = p->options.batch - part.first;
    if (errand->load) load_lane(n, part.first, part.count);
    for (int i = 0; i < errand->segment.n; i++) {
        const struct step *s = &errand->steps->list[errand->segment.first + i];
        s->run(&p->calls[s->call], &part);
    }
}

static void run_unit(void *context, int unit, int thread) {
    const struct errand *errand = context;
    const struct step *s = &errand->steps->list[errand->segment.first];
    struct part part = part_for(errand->net, thread);
    part.index = unit;
    s->run(&errand->net->plan.calls[s->call], &part);
}

/* Units of all steps of a segment in one go. */
static void run_any_unit(void *context, int unit, int thread) {
    struct errand errand = *(struct errand *)context;
    while (unit >= errand.steps->list[errand.segment.first].n_units)
        unit -= errand.steps->list[errand.segment.first++].n_units;
    run_unit(&errand, unit, thread);
}

/* Steps that do not depend on each other; but those that give the same parameter its gradient add up in
 * the order of calls. */
static void run_independent(struct net *n, struct segment s) {
    struct errand errand = {.net = n, .steps = &n->plan.steps[s.phase], .segment = s};
    bool ordered = s.phase == PHASE_FINISH && n->plan.shares_parameters;
    int units = 0;
    for (int i = s.first; i < s.first + s.n; i++) {
        units += errand.steps->list[i].n_units;
        if (!ordered) continue;
        errand.segment.first = i;
        crew_run(n->plan.crew, run_unit, &errand, errand.steps->list[i].n_units);
    }
    if (units && !ordered) crew_run(n->plan.crew, run_any_unit, &errand, units);
}

static void run_phase(struct net *n, enum phase phase) {
    run_independent(n, (struct segment){phase, 0, n->plan.steps[phase].n});
}

static void run_segments(struct net *n, enum phase phase, int which, int lanes, bool load) {
    struct plan *p = &n->plan;
    for (int i = 0; i < p->n_segments[which]; i++) {
        struct segment s = p->segments[which][i];
        struct errand errand = {n, &p->steps[phase], s, load && s.first == 0};
        if (s.phase != phase) {
            run_independent(n, s);
            continue;
        }
        int units = errand.steps->list[s.first].n_units;
        crew_run(p->crew, units ? run_unit : run_lane, &errand, units ? units : lanes);
    }
}

static void load_only(void *context, int lane, int thread) {
    struct net *n = context;
    (void)thread;
    load_lane(n, lane * n->plan.lane_size, n->plan.lane_size);
}

void net_forward(struct net *n, int samples, struct random random, net_load *load, void *context) {
    struct plan *p = &n->plan;
    int lanes = (samples + p->lane_size - 1) / p->lane_size;
    n->state = (struct run_state){.training = p->options.training, .random = random};
    n->samples = samples;
    n->load = load;
    n->load_context = context;
    if (n->changed && !p->packs_late) {
        run_phase(n, PHASE_PREPARE);
        run_phase(n, PHASE_REPACK);
    }
    n->changed = false;
    bool lanes_first = p->steps[PHASE_FORWARD].n && !p->steps[PHASE_FORWARD].list[0].n_units;
    if (load && !lanes_first) crew_run(p->crew, load_only, n, lanes);
    run_segments(n, PHASE_FORWARD, 0, lanes, load && lanes_first);
}

void net_backward(struct net *n) {
    run_segments(n, PHASE_BACKWARD, 1, n->plan.lanes, false);
}

/* ---- parameters ---- */

real *net_parameters(struct net *n) {
    return n->plan.parameter_values;
}
size_t net_parameter_count(const struct net *n) {
    return n->plan.n_all;
}
size_t net_trainable_count(const struct net *n) {
    return n->plan.n_trainable;
}
const real *net_gradients(const struct net *n) {
    return n->plan.parameter_gradients;
}
void net_parameters_changed(struct net *n) {
    n->changed = true;
}

int net_parameter_list(const struct net *n, const struct net_parameter **out) {
    *out = n->plan.parameters;
    return n->plan.n_parameters;
}

void net_empty_graph(const struct net *n, struct graph *g) {
    for (int i = 0; i < n->plan.n_parameters; i++) {
        const struct net_parameter *k = &n->plan.parameters[i];
        struct array *a = g->values[k->value].constant;
        if (!k->trainable || !a) continue; /* operators may look at statistics */
        array_empty(a);
    }
}

void net_retire(struct net *n) {
    struct plan old = n->plan;
    n->plan = (struct plan){.graph = old.graph,
                            .parameters = old.parameters,
                            .n_parameters = old.n_parameters,
                            .parameter_values = old.parameter_values,
                            .n_all = old.n_all,
                            .n_trainable = old.n_trainable};
    for (int i = 0; i < old.n_blocks; i++)
        if (old.blocks[i] == old.parameter_values) {
            n->kept = old.blocks[i];
            old.blocks[i] = old.blocks[--old.n_blocks];
        }
    plan_fini(&old);
}

int net_store(const struct net *n, struct graph *g, struct err *e) {
    for (int i = 0; i < n->plan.n_parameters; i++) {
        const struct net_parameter *k = &n->plan.parameters[i];
        const char *name = n->plan.graph->values[k->value].name;
        struct value *v = &g->values[k->value];
        if (!v->constant || v->constant->count != k->count)
            return err_set(e, E_INVALID, "parameter '%s' has %zu elements here and none or others there", name,
                           k->count);
        struct array *fresh;
        int status = array_new(&fresh, DT_FLOAT32, &v->constant->shape, e);
        if (status) return status;
        for (size_t j = 0; j < k->count; j++) ((float *)fresh->data)[j] = (float)n->plan.parameter_values[k->start + j];
        array_free(v->constant);
        v->constant = fresh;
        v->type = DT_FLOAT32;
    }
    return 0;
}
