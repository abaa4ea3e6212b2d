/* aim.c - see aim.h. Sizes are reckoned from the shapes alone, so that trying is cheap. */
#include "engine/surgery/aim.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "engine/nn/infer.h"
#include "engine/nn/op.h"
#include "engine/surgery/channels.h"

const struct param morph_aim_params[] = {
    PARAM_REAL(struct morph_aim, width, NULL, 1e-3, 1e3, "factor of all channels that may change"),
    PARAM_REAL(struct morph_aim, parameters, NULL, 1, 1e12, "parameters that the child shall have, about"),
    PARAM_REAL(struct morph_aim, macs, NULL, 1e-3, 1e3, "multiply-adds, as a multiple of the parent's"),
    PARAM_END,
};

int morph_aim_check(const struct morph_aim *aim, const char *at, struct err *e) {
    int given = !isnan(aim->width) + !isnan(aim->parameters) + !isnan(aim->macs);
    return given == 1
               ? 0
               : err_set_at(e, E_INVALID, at, "give exactly one of width, parameters and macs; there are %d", given);
}

/* ---- sizes at a factor ---- */

/* What sizes are reckoned with. */
struct scale {
    const struct graph *graph;
    const struct channels *channels;
    const struct inferred *known; /* the shapes of one sample; NULL: parameters are reckoned, not multiply-adds */
    bool *changes;                /* [groups]: the step reaches them */
    double *growths;              /* [values] */
};

/* Channels of a list when every group that changes has `factor` times as many. */
static double scaled(const struct scale *s, struct channel_list list, double factor) {
    const struct channels *c = s->channels;
    double n = 0;
    for (int i = 0; i < list.n; i++) {
        const struct channel_segment *segment = &c->segments[list.first + i];
        const struct channel_group *group = &c->groups[segment->group];
        double size = (double)group->size;
        if (s->changes[segment->group])
            size = fmax(1, ceil(size * factor / (double)group->multiple - 1e-9)) * (double)group->multiple;
        n += size * (double)segment->inner;
    }
    return n;
}

static double growth(const struct scale *s, struct channel_list list, double factor) {
    double old = (double)channels_count(s->channels, list);
    return old > 0 ? scaled(s, list, factor) / old : 1;
}

/* How many times as large every constant becomes: [values]. */
static void find_growths(const struct scale *s, double factor) {
    for (int v = 0; v < s->graph->n_values; v++) s->growths[v] = 1;
    for (int i = 0; i < s->channels->n_axes; i++) {
        const struct channel_axis *axis = &s->channels->axes[i];
        s->growths[axis->value] *= growth(s, axis->list, factor);
    }
}

/* As graph_measure counts. */
static double count_parameters(const struct scale *s) {
    const struct graph *g = s->graph;
    double total = 0;
    for (int v = 0; v < g->n_values; v++) {
        const struct value *value = &g->values[v];
        if (value->constant && dtype_is_real(value->type) && value->trainable)
            total += (double)value->constant->count * s->growths[v];
    }
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i].n_inputs; k++) {
            int v = g->nodes[i].inputs[k];
            if (v != VALUE_NONE && g->values[v].constant && op_takes(k, g->nodes[i].op->statistics))
                total += (double)g->values[v].constant->count * s->growths[v];
        }
    return total;
}

/* Multiply-adds grow with the weights they multiply by; the pixels stay. */
static double count_macs(const struct scale *s) {
    double total = 0;
    for (int i = 0; i < s->graph->n_nodes; i++) {
        const struct node *n = &s->graph->nodes[i];
        const struct shape *in[OP_KEEP_INPUTS] = {0}, *made[OP_KEEP_INPUTS] = {0};
        if (!n->op->macs) continue;
        for (int k = 0; k < n->n_inputs && k < OP_KEEP_INPUTS; k++)
            if (n->inputs[k] != VALUE_NONE) in[k] = &s->known->values[n->inputs[k]].shape;
        for (int k = 0; k < n->n_outputs && k < OP_KEEP_INPUTS; k++)
            if (n->outputs[k] != VALUE_NONE) made[k] = &s->known->values[n->outputs[k]].shape;
        double macs = (double)n->op->macs(n, in, made);
        total += macs * (n->n_inputs > 1 && n->inputs[1] != VALUE_NONE ? s->growths[n->inputs[1]] : 1);
    }
    return total;
}

static double size_at(const struct scale *s, double factor) {
    find_growths(s, factor);
    return s->known ? count_macs(s) : count_parameters(s);
}

/* ---- the factor ---- */

enum { HALVINGS = 40 };

static const char *unit_of(const struct scale *s) {
    return s->known ? "multiply-adds" : "parameters";
}

/* Sizes grow with the factor, in leaps: of the sizes on both sides of the goal the nearer one. */
static int search(double *out, const struct scale *s, const struct morph_aim *aim, struct err *e) {
    double low = 1e-3, high = 1e3, now = size_at(s, 1), least = size_at(s, low), most = size_at(s, high);
    double goal = s->known ? aim->macs * now : aim->parameters;
    if (goal < least * 0.99 || goal > most)
        return err_set(e, E_INVALID,
                       "%.4g %s cannot be reached by other widths, only from %.4g to %.4g; now it has %.4g", goal,
                       unit_of(s), least, most, now);
    for (int i = 0; i < HALVINGS; i++) {
        double middle = sqrt(low * high);
        if (size_at(s, middle) < goal)
            low = middle;
        else
            high = middle;
    }
    double below = size_at(s, low), above = size_at(s, high);
    *out = goal - below < above - goal ? low : high;
    if (size_at(s, *out) != now) return 0;
    return err_set(e, E_INVALID,
                   "the network has %.6g %s, and no other widths come nearer to %.6g: on the other side of it are %.6g",
                   now, unit_of(s), goal, below == now ? above : below);
}

/* The groups that a step over all layers changes: those that layers make whose channels are all free. */
static void find_changes(const struct scale *s) {
    const struct channels *c = s->channels;
    for (int i = 0; i < s->graph->n_nodes; i++) {
        struct channel_list list = channels_made_by(c, s->graph, i);
        bool free = true;
        for (int k = 0; k < list.n; k++)
            free = free && c->groups[c->segments[list.first + k].group].fixed_by == CHANNELS_FREE;
        for (int k = 0; k < list.n && free; k++) s->changes[c->segments[list.first + k].group] = true;
    }
}

static int find_factor(double *out, struct morphing *m, const struct morph_aim *aim, struct err *e) {
    struct scale s = {.graph = m->graph};
    struct inferred *known = NULL;
    int status = morphing_channels(&s.channels, m, e);
    if (!status && isnan(aim->parameters)) status = graph_infer(&known, m->graph, 1, e);
    if (status) return status;
    s.known = known;
    s.growths = mem_calloc((size_t)m->graph->n_values + 1, sizeof *s.growths);
    s.changes = mem_calloc((size_t)s.channels->n_groups + 1, sizeof *s.changes);
    if (s.growths && s.changes) {
        find_changes(&s);
        status = search(out, &s, aim, e);
    } else {
        status = err_memory(e, (size_t)m->graph->n_values * sizeof *s.growths);
    }
    mem_free(s.growths);
    mem_free(s.changes);
    inferred_free(known);
    return status;
}

int morph_aim_step(struct morph_step *out, struct morphing *m, const struct morph_aim *aim, struct err *e) {
    double factor = aim->width;
    int status = isnan(factor) ? find_factor(&factor, m, aim, e) : 0;
    if (!status) status = param_parse(out, morph_step_params, NULL, "", e);
    if (status) return status;
    out->op = param_word_index(MORPH_KINDS, factor < 1 ? "narrow" : "widen");
    text_copy(out->layer, sizeof out->layer, "*");
    out->factor = factor;
    return morph_check(out, "/auto", e);
}
