/* aim.c - see aim.h. Sizes are reckoned from the shapes alone, so that trying is cheap. */
#include "engine/surgery/aim.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
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

/* Channels of a list when every free group has `factor` times as many. */
static double scaled(const struct channels *c, struct channel_list list, double factor) {
    double n = 0;
    for (int i = 0; i < list.n; i++) {
        const struct channel_group *group = &c->groups[c->segments[list.first + i].group];
        double size = (double)group->size;
        if (group->fixed_by == CHANNELS_FREE)
            size = fmax(1, ceil(size * factor / (double)group->multiple - 1e-9)) * (double)group->multiple;
        n += size * (double)c->segments[list.first + i].inner;
    }
    return n;
}

static double growth(const struct channels *c, struct channel_list list, double factor) {
    double old = (double)channels_count(c, list);
    return old > 0 ? scaled(c, list, factor) / old : 1;
}

/* How many times as large every constant becomes: [values]. */
static void find_growths(double *growths, const struct graph *g, const struct channels *c, double factor) {
    for (int v = 0; v < g->n_values; v++) growths[v] = 1;
    for (int i = 0; i < c->n_axes; i++) growths[c->axes[i].value] *= growth(c, c->axes[i].list, factor);
}

static double count_parameters(const struct graph *g, const double *growths) {
    double total = 0;
    for (int v = 0; v < g->n_values; v++) {
        const struct value *value = &g->values[v];
        if (value->constant && dtype_is_real(value->type) && !value->literal)
            total += (double)value->constant->count * growths[v];
    }
    return total;
}

/* Multiply-adds grow with the weights they multiply by; the pixels stay. */
static double count_macs(const struct graph *g, const double *growths, const struct shape **shapes) {
    double total = 0;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct node *n = &g->nodes[i];
        if (!n->op->macs) continue;
        for (int k = 0; k < n->n_inputs; k++) shapes[k] = n->inputs[k] < 0 ? NULL : &g->values[n->inputs[k]].shape;
        for (int k = 0; k < n->n_outputs; k++)
            shapes[NODE_MAX_INPUTS + k] = n->outputs[k] < 0 ? NULL : &g->values[n->outputs[k]].shape;
        double macs = (double)n->op->macs(n, shapes, shapes + NODE_MAX_INPUTS);
        total += macs * (n->n_inputs > 1 && n->inputs[1] >= 0 ? growths[n->inputs[1]] : 1);
    }
    return total;
}

/* What sizes are reckoned with. */
struct scale {
    const struct graph *graph;
    const struct channels *channels;
    bool macs;                   /* else parameters */
    double *growths;             /* [values] */
    const struct shape **shapes; /* [2 * NODE_MAX_INPUTS] */
};

static double size_at(const struct scale *s, double factor) {
    find_growths(s->growths, s->graph, s->channels, factor);
    return s->macs ? count_macs(s->graph, s->growths, s->shapes) : count_parameters(s->graph, s->growths);
}

/* ---- the factor ---- */

enum { HALVINGS = 40 };

/* Sizes grow with the factor: the least one whose size reaches the goal. */
static int search(double *out, const struct scale *s, const struct morph_aim *aim, struct err *e) {
    double low = 1e-3, high = 1e3, now = size_at(s, 1), least = size_at(s, low), most = size_at(s, high);
    double goal = s->macs ? aim->macs * now : aim->parameters;
    if (goal < least * 0.99 || goal > most)
        return err_set(e, E_INVALID,
                       "%.4g %s cannot be reached by other widths, only from %.4g to %.4g; now it has %.4g", goal,
                       s->macs ? "multiply-adds" : "parameters", least, most, now);
    for (int i = 0; i < HALVINGS; i++) {
        double middle = sqrt(low * high);
        if (size_at(s, middle) < goal)
            low = middle;
        else
            high = middle;
    }
    *out = high;
    return 0;
}

static int find_factor(double *out, struct morphing *m, const struct morph_aim *aim, struct err *e) {
    struct scale s = {.graph = m->graph, .macs = isnan(aim->parameters)};
    int status = morphing_channels(&s.channels, m, e);
    if (status) return status;
    s.growths = mem_calloc((size_t)m->graph->n_values + 1, sizeof *s.growths);
    s.shapes = mem_calloc(2 * NODE_MAX_INPUTS, sizeof *s.shapes);
    status = s.growths && s.shapes ? search(out, &s, aim, e) : err_memory(e, 0);
    mem_free(s.growths);
    mem_free(s.shapes);
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
