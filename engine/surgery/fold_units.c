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

/* Takes out of `constant` the channels that one layer cannot have in its bias. */
static void ask_reader(bool *constant, const struct channels *c, const struct channel_axis *axis, int group,
                       const double *x, bool takes) {
    int64_t at = 0;
    for (int s = 0; s < axis->list.n; s++) {
        const struct channel_segment *seg = &c->segments[axis->list.first + s];
        int64_t n = c->groups[seg->group].size * seg->inner;
        for (int64_t p = 0; p < n && seg->group == group; p++)
            if (!x || isnan(x[at + p]) || (x[at + p] != 0 && !takes)) constant[p / seg->inner] = false;
        at += n;
    }
}

/* Whether some row of the weights that make the group is zero: without one, nothing is constant. */
static bool has_zero_row(const struct channels *c, const struct graph *g, int group) {
    const struct channel_axis *axis;
    for (int i = 0; (axis = channels_along(c, group, i)); i++) {
        if (axis->role != CHANNELS_MADE || axis->list.n != 1) continue;
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

/* Takes out of `constant` the channels that some layer which reads along the axis cannot have in its bias. */
static void ask_readers(bool *constant, const struct channels *c, const struct graph *g, const struct uses *uses,
                        const struct constancy *k, const struct channel_axis *axis, int group) {
    for (int i = uses->first[axis->value]; i < uses->first[axis->value + 1]; i++) {
        int node = uses->nodes[i];
        if (channels_read_by(c, g, node) == axis)
            ask_reader(constant, c, axis, group, k->values[g->nodes[node].inputs[0]], takes_constants(g, uses, node));
    }
}

/* Which channels of the group can go as constants: constant[size]. */
static int find_constants(bool *constant, struct morphing *m, const struct channels *c, int group, struct err *e) {
    const struct graph *g = m->graph;
    const struct uses *uses;
    const struct constancy *k;
    const struct channel_axis *axis;
    bool read = false;
    memset(constant, 0, (size_t)c->groups[group].size);
    if (!has_zero_row(c, g, group)) return 0;
    int status = morphing_uses(&uses, m, e);
    if (!status) status = morphing_constancy(&k, m, e);
    if (status) return status;
    memset(constant, 1, (size_t)c->groups[group].size);
    for (int i = 0; (axis = channels_along(c, group, i)); i++) {
        if (axis->role != CHANNELS_READ) continue;
        read = true;
        ask_readers(constant, c, g, uses, k, axis, group);
    }
    if (!read) memset(constant, 0, (size_t)c->groups[group].size);
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
    const struct constancy *k;
    const struct uses *uses;
    const struct channel_axis *axis;
    int status = morphing_constancy(&k, m, e);
    if (!status) status = morphing_uses(&uses, m, e);
    for (int i = 0; !status && (axis = channels_along(c, u->group, i)); i++)
        for (int r = uses->first[axis->value]; r < uses->first[axis->value + 1] && !status; r++) {
            int node = uses->nodes[r];
            const double *x = k->values[m->graph->nodes[node].inputs[0]];
            if (x && channels_read_by(c, m->graph, node) == axis)
                status = add_constants(m->graph, c, axis, node, u, x, goes, e);
        }
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
    const struct uses *uses;
    int status = morphing_uses(&uses, m, e);
    if (!status) status = alike_find(&alike, c, m->graph, uses, u->group, e);
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

static int refuse_none(struct err *e) {
    return err_set(e, E_UNSUPPORTED, "none repeats another one, is constant or is read by nobody");
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
    if (!status && !count(u)) status = refuse_none(e);
    mem_free(unread);
    mem_free(constant);
    if (status) units_fini(u);
    return status;
}

/* Whether the group has units, which is found once for all layers that make it. */
static int has_units(struct morphing *m, const struct channels *c, int group, struct err *e) {
    enum { WITHOUT = 1, WITH };
    struct units u;
    int status = check_group(c, m->graph, group, e);
    if (status) return status;
    if (!m->units) m->units = mem_calloc((size_t)c->n_groups + 1, 1);
    if (!m->units) return err_memory(e, (unsigned long long)c->n_groups);
    if (!m->units[group]) {
        status = find_units(&u, m, c, NULL, group, e);
        units_fini(&u);
        if (status && status != E_UNSUPPORTED) return status;
        m->units[group] = status ? WITHOUT : WITH;
    }
    return m->units[group] == WITH ? 0 : refuse_none(e);
}

int fold_units_can(struct morphing *m, int node, struct err *e) {
    const struct channels *c;
    struct err why = {0};
    int status = morphing_channels(&c, m, e);
    if (status) return status;
    struct channel_list list = channels_made_by(c, m->graph, node);
    if (!list.n)
        return err_set(e, E_UNSUPPORTED, "%s %s makes none of its own", edit_article(m->graph->nodes[node].op->name),
                       m->graph->nodes[node].op->name);
    for (int i = 0; i < list.n; i++) {
        struct err refused = {0};
        int found = has_units(m, c, c->segments[list.first + i].group, &refused);
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

/* What one group becomes; `share` is that of every channel, where the others have been joined. */
static int make_map(struct channel_map *map, const struct units *u, const double *share, struct err *e) {
    int32_t *from = mem_calloc((size_t)u->size + 1, sizeof *from);
    double *shares = mem_calloc((size_t)u->size + 1, sizeof *shares);
    *map = (struct channel_map){.from = from, .share = shares};
    if (!from || !shares) return err_memory(e, (size_t)u->size * sizeof *shares);
    for (int64_t j = 0; j < u->size; j++) {
        if (u->keep[j] != j) continue;
        shares[map->size] = share[j];
        from[map->size++] = (int32_t)j;
    }
    return 0;
}

static int join(struct channel_map *map, struct morphing *m, const struct channels *c, const struct units *u,
                struct err *e) {
    int32_t *keep = mem_calloc((size_t)u->size + 1, sizeof *keep);
    double *share = mem_calloc((size_t)u->size + 1, sizeof *share);
    int status = keep && share ? 0 : err_memory(e, (size_t)u->size * sizeof *share);
    for (int64_t j = 0; j < u->size && !status; j++) {
        share[j] = 1;
        keep[j] = u->keep[j] < 0 ? (int32_t)j : u->keep[j];
    }
    if (!status && u->alike) status = alike_join(share, m->graph, c, u->group, keep, u->ratio, e);
    if (!status) status = make_map(map, u, share, e);
    mem_free(keep);
    mem_free(share);
    return status;
}

/* What reads the channels that stay reads for the others too, and those are cut out of all groups in one go. */
static int cut(struct morphing *m, const struct channels *c, const struct units *all, int n, struct err *e) {
    struct channel_map *maps = mem_calloc((size_t)c->n_groups + 1, sizeof *maps);
    struct graph *fresh = NULL;
    int status = maps ? 0 : err_memory(e, (size_t)c->n_groups * sizeof *maps), n_groups = c->n_groups;
    for (int i = 0; i < n && !status; i++) status = join(&maps[all[i].group], m, c, &all[i], e);
    if (!status) status = channels_resize(&fresh, c, m->graph, maps, e);
    if (!status) morphing_replace(m, fresh);
    for (int i = 0; i < n_groups && maps; i++) {
        mem_free((void *)(size_t)maps[i].from);
        mem_free((void *)(size_t)maps[i].share);
    }
    mem_free(maps);
    return status;
}

static int take_constants(struct morphing *m, const struct channels *c, const struct units *u, struct err *e) {
    bool *goes = mem_calloc((size_t)u->size + 1, sizeof *goes);
    if (!goes) return err_memory(e, (unsigned long long)u->size);
    for (int64_t j = 0; j < u->size; j++) goes[j] = u->keep[j] == CONSTANT;
    int status = move_constants(m, c, u, goes, e);
    mem_free(goes);
    return status;
}

/* First constants into biases; some may be new, so the groups are found again: the same ones, in the same order. */
static int take_out(struct morphing *m, const struct channels *c, const struct units *all, int n, struct err *e) {
    int before = c->n_groups, status = 0;
    bool constants = false;
    for (int i = 0; i < n && !status; i++) {
        if (!all[i].constant) continue;
        constants = true;
        status = take_constants(m, c, &all[i], e);
    }
    if (constants && !status) status = morphing_finish(m, e);
    if (constants && !status) status = morphing_channels(&c, m, e);
    for (int i = 0; i < n && !status; i++)
        if (c->n_groups != before || c->groups[all[i].group].size != all[i].size)
            status = err_set(e, E_INTERNAL, "groups changed although only biases did");
    return status ? status : cut(m, c, all, n, e);
}

/* The groups of those layers that have channels to take out: all[n]. What is true of one stays true when the others
 * lose theirs: a channel that stays carries the numbers that it carried. */
static int find_all(struct units *all, int *n, struct morphing *m, const struct channels *c, const int *nodes,
                    int n_nodes, struct json_writer *w, struct err *e) {
    bool *dead = NULL, *asked = mem_calloc((size_t)c->n_groups + 1, sizeof *asked);
    int status = asked ? alike_dead(&dead, c, m->graph, e) : err_memory(e, (unsigned long long)c->n_groups);
    for (int i = 0; i < n_nodes && !status; i++) {
        struct channel_list list = channels_made_by(c, m->graph, nodes[i]);
        for (int s = 0; s < list.n && !status; s++) {
            int group = c->segments[list.first + s].group;
            struct err refused = {0};
            if (asked[group]) continue;
            asked[group] = true;
            status = morphing_tick(m, e);
            if (status) break;
            int found = find_units(&all[*n], m, c, dead + c->groups[group].first, group, &refused);
            if (found == E_NOMEM) status = err_set(e, found, "%s", refused.text);
            if (!found) report(w, c, m->graph, &all[(*n)++]);
        }
    }
    mem_free(asked);
    mem_free(dead);
    return status;
}

/* *n: channels that went. */
static int take_all(int *n, struct morphing *m, const int *nodes, int n_nodes, struct json_writer *w, struct err *e) {
    const struct channels *c;
    int n_all = 0, status = morphing_channels(&c, m, e);
    *n = 0;
    if (status) return status;
    struct units *all = mem_calloc((size_t)c->n_groups + 1, sizeof *all);
    status = all ? find_all(all, &n_all, m, c, nodes, n_nodes, w, e) : err_memory(e, (size_t)c->n_groups * sizeof *all);
    for (int i = 0; i < n_all; i++) *n += (int)count(&all[i]);
    if (!status && n_all) status = take_out(m, c, all, n_all, e);
    for (int i = 0; i < n_all; i++) units_fini(&all[i]);
    mem_free(all);
    return status;
}

int fold_units(int *n, struct morphing *m, const int *nodes, int n_nodes, struct json_writer *w, struct err *e) {
    int taken = 1, status = 0;
    *n = 0;
    while (taken && !status) { /* what goes may leave others dead or alike */
        status = take_all(&taken, m, nodes, n_nodes, w, e);
        *n += taken;
    }
    return status;
}
