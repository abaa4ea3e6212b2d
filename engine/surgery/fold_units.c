/* fold_units.c - channels that the network can do without, exactly: those that repeat another one or are a positive
 * multiple of it, those that nobody reads, and those that are constant where what reads them can have the constant in
 * its bias (a convolution that pads with zeros cannot, but for the constant 0). */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "engine/nn/op.h"
#include "engine/surgery/alike.h"
#include "engine/surgery/channels.h"
#include "engine/surgery/constancy.h"
#include "engine/surgery/fold.h"

/* What goes from one group. */
struct units {
    int group;
    int64_t size, alike, constant, unread;
    int32_t *keep; /* [size]: the channel that takes it over, itself when it stays, or one of the below */
    double *ratio;
};
enum { UNREAD = -1, CONSTANT = -2 };

static void units_fini(struct units *u) {
    mem_free(u->keep);
    mem_free(u->ratio);
    *u = (struct units){0};
}

static int64_t count(const struct units *u) {
    return u->alike + u->constant + u->unread;
}

/* ---- constants ---- */

/* Whether a layer can have constants of what it reads in its bias. */
static bool takes_constants(const struct graph *g, const struct uses *uses, int node) {
    struct edit_window w;
    struct err refused = {0};
    const struct shape *kernel = &g->values[g->nodes[node].inputs[1]].shape;
    if (linear_check_own(g, uses, node, &refused)) return false;
    if (kernel->rank < 3) return true;
    int64_t size[2] = {kernel->rank == 4 ? kernel->dim[2] : 1, kernel->dim[kernel->rank - 1]};
    return !linear_window(&w, g, node, size, &refused) && !linear_is_padded(&w);
}

/* Takes out of `constant` the channels that one layer cannot have in its bias. False: it does not read the group. */
static bool ask_reader(bool *constant, const struct channels *c, const struct channel_axis *axis, int group,
                       const double *x, bool takes) {
    bool reads = false;
    int64_t at = 0;
    for (int s = 0; s < axis->list.n; s++) {
        const struct channel_segment *seg = &c->segments[axis->list.first + s];
        int64_t n = c->groups[seg->group].size * seg->inner;
        for (int64_t p = 0; p < n && seg->group == group; p++) {
            reads = true;
            if (!x || isnan(x[at + p]) || (x[at + p] != 0 && !takes)) constant[p / seg->inner] = false;
        }
        at += n;
    }
    return reads;
}

/* Whether some row of the weights that make the group is zero: without one, nothing is constant. */
static bool has_zero_row(const struct channels *c, const struct graph *g, int group) {
    for (int i = 0; i < c->n_axes; i++) {
        const struct channel_axis *axis = &c->axes[i];
        if (axis->role != CHANNELS_MADE || axis->list.n != 1 || c->segments[axis->list.first].group != group) continue;
        const struct array *w = g->values[axis->value].constant;
        size_t rows = (size_t)w->shape.dim[axis->dim], inner = 1;
        for (int d = axis->dim + 1; d < w->shape.rank; d++) inner *= (size_t)w->shape.dim[d];
        for (size_t row = 0; row < rows; row++) {
            bool zero = true;
            for (size_t k = 0; k < w->count / rows && zero; k++) {
                double x;
                array_to_double(&x, w, (k / inner * rows + row) * inner + k % inner, 1);
                zero = x == 0;
            }
            if (zero) return true;
        }
    }
    return false;
}

/* Which channels of the group can go as constants: constant[size]. */
static int find_constants(bool *constant, struct morphing *m, const struct channels *c, int group, struct err *e) {
    const struct graph *g = m->graph;
    const struct uses *uses;
    struct constancy k;
    bool read = false;
    memset(constant, 0, (size_t)c->groups[group].size);
    if (!has_zero_row(c, g, group)) return 0;
    int status = morphing_uses(&uses, m, e);
    if (!status) status = constancy_find(&k, g, e);
    if (status) return status;
    memset(constant, 1, (size_t)c->groups[group].size);
    for (int i = 0; i < g->n_nodes; i++)
        for (int a = 0; a < c->n_axes; a++)
            if (channels_reads(g, i, &c->axes[a]))
                read = ask_reader(constant, c, &c->axes[a], group, k.values[g->nodes[i].inputs[0]],
                                  takes_constants(g, uses, i)) ||
                       read;
    if (!read) memset(constant, 0, (size_t)c->groups[group].size);
    constancy_fini(&k);
    return 0;
}

/* Adds what the layer's bias gets of the channels of the group that go as constants. */
static int add_constants(struct graph *g, const struct channels *c, const struct channel_axis *axis, int node,
                         const struct units *u, const double *x, const bool *goes, struct err *e) {
    struct linear l;
    bool any = false;
    int64_t at = 0;
    int status = linear_read(&l, g, node, e);
    if (status) return status;
    int64_t taps = l.kernel[0] * l.kernel[1];
    for (int s = 0; s < axis->list.n; s++) {
        const struct channel_segment *seg = &c->segments[axis->list.first + s];
        int64_t n = c->groups[seg->group].size * seg->inner;
        for (int64_t p = 0; p < n && seg->group == u->group; p++) {
            if (!goes[p / seg->inner] || x[at + p] == 0) continue;
            any = true;
            for (int64_t o = 0; o < l.out; o++)
                for (int64_t tap = 0; tap < taps; tap++)
                    l.bias[o] += l.weights[(o * l.in + at + p) * taps + tap] * x[at + p];
        }
        at += n;
    }
    if (any) status = linear_write(g, &l, e);
    linear_fini(&l);
    return status;
}

static int move_constants(struct morphing *m, const struct channels *c, const struct units *u, const bool *goes,
                          struct err *e) {
    struct constancy k;
    int status = constancy_find(&k, m->graph, e), n_nodes = m->graph->n_nodes;
    if (status) return status;
    for (int i = 0; i < n_nodes && !status; i++)
        for (int a = 0; a < c->n_axes && !status; a++) {
            const double *x = k.values[m->graph->nodes[i].inputs[0]];
            if (!x || !channels_reads(m->graph, i, &c->axes[a])) continue;
            status = add_constants(m->graph, c, &c->axes[a], i, u, x, goes, e);
        }
    constancy_fini(&k);
    return status;
}

/* ---- which ---- */

static int check_group(const struct channels *c, const struct graph *g, int group, struct err *e) {
    char reason[GRAPH_MAX_NAME + 64];
    channels_reason(reason, sizeof reason, g, &c->groups[group]);
    if (c->groups[group].fixed_by != CHANNELS_FREE)
        return err_set(e, E_UNSUPPORTED, "%s needs them as they are", reason);
    if (c->groups[group].multiple > 1)
        return err_set(e, E_UNSUPPORTED, "a grouped convolution needs the same number in each of its parts");
    return 0;
}

/* One channel has to stay. */
static void leave_one(struct units *u) {
    for (int64_t j = 0; j < u->size; j++)
        if (u->keep[j] == j) return;
    *(u->keep[0] == UNREAD ? &u->unread : &u->constant) -= 1;
    u->keep[0] = 0;
}

/* `dead`, where given, knows more than that nobody reads a channel: that nobody does who counts. */
static int mark(struct units *u, struct morphing *m, const struct channels *c, const bool *dead, bool *unread,
                bool *constant, struct err *e) {
    struct alike alike;
    int status = alike_find(&alike, c, m->graph, u->group, e);
    if (status) return status;
    memcpy(u->keep, alike.like, (size_t)u->size * sizeof *u->keep);
    memcpy(u->ratio, alike.ratio, (size_t)u->size * sizeof *u->ratio);
    alike_fini(&alike);
    if (dead)
        memcpy(unread, dead, (size_t)u->size);
    else
        status = alike_unread(unread, c, m->graph, u->group, e);
    if (!status) status = find_constants(constant, m, c, u->group, e);
    if (status) return status;
    for (int64_t j = 0; j < u->size; j++)
        if (!unread[j]) unread[u->keep[j]] = false; /* it will be read for both */
    for (int64_t j = 0; j < u->size; j++) {
        if (u->keep[j] != j) {
            u->alike++;
        } else if (unread[j]) {
            u->keep[j] = UNREAD;
            u->unread++;
        } else if (constant[j]) {
            u->keep[j] = CONSTANT;
            u->constant++;
        }
    }
    leave_one(u);
    return 0;
}

/* Copies follow what they repeat: when that goes, they go for the same reason. */
static void follow(struct units *u) {
    for (int64_t j = 0; j < u->size; j++)
        if (u->keep[j] >= 0 && u->keep[j] != j && u->keep[u->keep[j]] < 0) u->keep[j] = u->keep[u->keep[j]];
}

static int find_units(struct units *u, struct morphing *m, const struct channels *c, const bool *dead, int group,
                      struct err *e) {
    *u = (struct units){.group = group, .size = c->groups[group].size};
    int status = check_group(c, m->graph, group, e);
    if (status) return status;
    size_t n = (size_t)u->size + 1;
    bool *unread = mem_calloc(n, sizeof *unread), *constant = mem_calloc(n, sizeof *constant);
    u->keep = mem_calloc(n, sizeof *u->keep);
    u->ratio = mem_calloc(n, sizeof *u->ratio);
    if (!unread || !constant || !u->keep || !u->ratio)
        status = err_memory(e, n * sizeof *u->ratio);
    else
        status = mark(u, m, c, dead, unread, constant, e);
    if (!status) follow(u);
    if (!status && !count(u))
        status = err_set(e, E_UNSUPPORTED, "none repeats another one, is constant or is read by nobody");
    mem_free(unread);
    mem_free(constant);
    if (status) units_fini(u);
    return status;
}

int fold_units_can(struct morphing *m, int node, struct err *e) {
    const struct channels *c;
    struct err why = {0};
    int status = morphing_channels(&c, m, e);
    if (status) return status;
    struct channel_list list = channels_made_by(c, m->graph, node);
    if (!list.n) return err_set(e, E_UNSUPPORTED, "a %s makes none of its own", m->graph->nodes[node].op->name);
    for (int i = 0; i < list.n; i++) {
        struct units u;
        struct err refused = {0};
        int found = find_units(&u, m, c, NULL, c->segments[list.first + i].group, &refused);
        units_fini(&u);
        if (!found || found == E_NOMEM) return found ? err_set(e, found, "%s", refused.text) : 0;
        why = refused;
    }
    return err_set(e, why.code, "%s", why.text);
}

/* ---- taking them out ---- */

static void report(struct json_writer *w, const struct channels *c, const struct graph *g, const struct units *u) {
    if (!w) return;
    json_open_object(w, NULL);
    json_put_string(w, "layer", edit_maker(g, &c->groups[u->group]));
    json_put_string(w, "how", "channels that the network can do without");
    json_put_int(w, "repeated", u->alike);
    json_put_int(w, "constant", u->constant);
    json_put_int(w, "unread", u->unread);
    json_close_object(w);
}

/* `all`: the share of every channel, where the others have been joined. */
static int cut(struct morphing *m, const struct channels *c, const struct units *u, const double *all, struct err *e) {
    struct channel_map *maps = mem_calloc((size_t)c->n_groups + 1, sizeof *maps);
    int32_t *from = mem_calloc((size_t)u->size + 1, sizeof *from);
    double *share = mem_calloc((size_t)u->size + 1, sizeof *share);
    struct graph *fresh = NULL;
    int64_t n = 0;
    int status = maps && from && share ? 0 : err_memory(e, (size_t)c->n_groups * sizeof *maps);
    if (!status) {
        for (int64_t j = 0; j < u->size; j++) {
            if (u->keep[j] != j) continue;
            share[n] = all[j];
            from[n++] = (int32_t)j;
        }
        maps[u->group] = (struct channel_map){.size = n, .from = from, .share = share};
        status = channels_resize(&fresh, c, m->graph, maps, e);
    }
    if (!status) morphing_replace(m, fresh);
    mem_free(maps);
    mem_free(from);
    mem_free(share);
    return status;
}

/* Constants into biases; some may be new, so the groups are found again: the same ones, in the same order. */
static int take_constants(const struct channels **c, struct morphing *m, const struct units *u, struct err *e) {
    int before = (*c)->n_groups;
    bool *goes = mem_calloc((size_t)u->size + 1, sizeof *goes);
    if (!goes) return err_memory(e, (unsigned long long)u->size);
    for (int64_t j = 0; j < u->size; j++) goes[j] = u->keep[j] == CONSTANT;
    int status = move_constants(m, *c, u, goes, e);
    mem_free(goes);
    if (!status) status = morphing_finish(m, e);
    if (!status) status = morphing_channels(c, m, e);
    if (!status && ((*c)->n_groups != before || (*c)->groups[u->group].size != u->size))
        status = err_set(e, E_INTERNAL, "groups changed although only biases did");
    return status;
}

static int join(double *share, struct morphing *m, const struct channels *c, const struct units *u, struct err *e) {
    int32_t *keep = mem_calloc((size_t)u->size + 1, sizeof *keep);
    if (!keep) return err_memory(e, (size_t)u->size * sizeof *keep);
    for (int64_t j = 0; j < u->size; j++) keep[j] = u->keep[j] < 0 ? (int32_t)j : u->keep[j];
    int status = alike_join(share, m->graph, c, u->group, keep, u->ratio, e);
    mem_free(keep);
    return status;
}

static int take_out(struct morphing *m, const struct channels *c, struct units *u, struct err *e) {
    double *share = mem_calloc((size_t)u->size + 1, sizeof *share);
    if (!share) return err_memory(e, (size_t)u->size * sizeof *share);
    for (int64_t j = 0; j < u->size; j++) share[j] = 1;
    int status = u->constant ? take_constants(&c, m, u, e) : 0;
    if (!status && u->alike) status = join(share, m, c, u, e);
    if (!status) status = cut(m, c, u, share, e);
    mem_free(share);
    return status;
}

/* One group of those layers from number *at on; *n: channels that went. */
static int take_one(int *n, int *at, struct morphing *m, const int *nodes, int n_nodes, struct json_writer *w,
                    struct err *e) {
    const struct channels *c;
    bool *dead = NULL;
    int status = morphing_channels(&c, m, e);
    if (!status) status = alike_dead(&dead, c, m->graph, e);
    *n = 0;
    for (; *at < n_nodes && !status; (*at)++) {
        struct channel_list list = channels_made_by(c, m->graph, nodes[*at]);
        for (int s = 0; s < list.n && !status && !*n; s++) {
            int group = c->segments[list.first + s].group;
            struct units u;
            struct err refused = {0};
            status = morphing_tick(m, e);
            if (status) break;
            int found = find_units(&u, m, c, dead + channels_first(c, group), group, &refused);
            if (found == E_NOMEM) status = err_set(e, found, "%s", refused.text);
            if (found) continue;
            *n = (int)count(&u);
            report(w, c, m->graph, &u);
            status = take_out(m, c, &u, e);
            units_fini(&u);
        }
        if (*n) break;
    }
    mem_free(dead);
    return status;
}

int fold_units(int *n, struct morphing *m, const int *nodes, int n_nodes, struct json_writer *w, struct err *e) {
    int taken, before, status = 0;
    *n = 0;
    do { /* what goes may leave others dead or alike */
        before = *n;
        for (int at = 0; at < n_nodes && !status; *n += taken) status = take_one(&taken, &at, m, nodes, n_nodes, w, e);
    } while (*n > before && !status);
    return status;
}
