/* widen.c - more channels: Net2WiderNet (Chen et al. 2016, arXiv:1511.05641) over whole groups of channels, with the
 * new ones as copies that share what is read of them, or as fresh ones that nothing reads yet.
 *
 *   net2wider      copies, shares nearly equal: distinct, so that the copies part when training goes on
 *   uneven         copies, shares drawn from [1/2, 3/2] before they are made to add up to 1
 *   random-fanin   fresh weights in, zeros out (Network Morphism's width morph, Wei et al. 2016)
 *   grad-max       zeros in, and out what makes their gradient largest: gradmax.h
 *
 * Shares are split so that a weight's copies add up to it without rounding: see channel_resize.c. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "engine/nn/op.h"
#include "engine/surgery/channels.h"
#include "engine/surgery/edit.h"
#include "engine/surgery/gradmax.h"
#include "engine/surgery/morph.h"

/* ---- which groups, and how wide ---- */

static bool is_gradmax(const struct morph_step *s) {
    return strcmp(s->mode, "grad-max") == 0;
}

static int check_group(const struct channel_group *group, const struct morph_step *s, struct err *e) {
    int64_t wish = edit_width(group, s);
    if (wish < group->size)
        return err_set(e, E_INVALID, "it has %lld channels, and %lld are fewer: that is for narrow",
                       (long long)group->size, (long long)wish);
    if (wish == group->size) return err_set(e, E_INVALID, "it has %lld channels already", (long long)wish);
    return 0;
}

static int widen_can(struct morphing *m, int node, const struct morph_step *s, struct err *e) {
    struct channel_list list;
    int status = edit_channels(&list, m, node, s, e);
    if (status) return status;
    const struct channels *c = m->channels;
    for (int i = 0; i < list.n && !status; i++)
        status = check_group(&c->groups[c->segments[list.first + i].group], s, e);
    if (status || !is_gradmax(s)) return status;
    if (s->noise > 0) return err_set(e, E_INVALID, "mode grad-max takes no noise: it would change the function");
    const struct channel_group *group = &c->groups[c->segments[list.first].group];
    return gradmax_can(m, node, edit_width(group, s) - group->size, e);
}

/* The group whose channels the layer makes, or the first of them. */
static const struct channel_group *group_of(const struct channels *c, const struct graph *g, int node) {
    return &c->groups[c->segments[channels_made_by(c, g, node).first].group];
}

/* ---- maps ---- */

static bool is_fresh(const struct morph_step *s) {
    return strcmp(s->mode, "random-fanin") == 0 || is_gradmax(s);
}

/* Whether channel j is one that was not there before: the old ones come first in each part. */
static bool is_new(const struct channel_map *map, const struct channel_group *group, int64_t j) {
    return map->size && j % (map->size / group->multiple) >= group->size / group->multiple;
}

/* Which old channels the new ones of a part copy: the old ones themselves, then random ones. */
static void draw_copies(int32_t *from, int64_t old, int64_t size, bool fresh, struct random *r) {
    for (int64_t j = 0; j < size; j++)
        from[j] = j < old ? (int32_t)j : fresh ? -1 : (int32_t)random_below(r, (uint64_t)old);
}

/* Shares of the copies of each channel, adding up to 1. */
static void draw_shares(double *share, double *sum, const int32_t *from, int64_t old, int64_t size, double spread,
                        struct random *r) {
    for (int64_t k = 0; k < old; k++) sum[k] = 0;
    for (int64_t j = 0; j < size; j++) {
        share[j] = 1 - spread + 2 * spread * random_unit(r);
        if (from[j] >= 0) sum[from[j]] += share[j];
    }
    for (int64_t j = 0; j < size; j++) share[j] = from[j] < 0 ? 1 : share[j] / sum[from[j]];
}

struct drawing {
    struct channel_map *maps; /* [groups] */
    int n;
};

static void drawing_fini(struct drawing *d) {
    for (int i = 0; i < d->n; i++) {
        mem_free((void *)(size_t)d->maps[i].from);
        mem_free((void *)(size_t)d->maps[i].share);
    }
    mem_free(d->maps);
}

/* Grouped convolutions take the same pattern in each of their parts; `multiple` parts suit them all. */
static int draw_map(struct channel_map *map, const struct channel_group *group, int64_t size,
                    const struct morph_step *s, struct random *r, struct err *e) {
    int64_t parts = group->multiple, old = group->size / parts, fresh = size / parts;
    double spread = strcmp(s->mode, "uneven") == 0 ? 0.5 : 0.05;
    int32_t *from = mem_calloc((size_t)size, sizeof *from);
    double *share = mem_calloc((size_t)size, sizeof *share), *sum = mem_calloc((size_t)old + 1, sizeof *sum);
    int status = from && share && sum ? 0 : err_memory(e, (size_t)size * (sizeof *from + sizeof *share));
    *map = (struct channel_map){.size = size, .from = from, .share = share};
    if (!status) {
        draw_copies(from, old, fresh, is_fresh(s), r);
        draw_shares(share, sum, from, old, fresh, spread, r);
        for (int64_t j = fresh; j < size; j++) {
            from[j] = from[j - fresh] < 0 ? -1 : from[j - fresh] + (int32_t)old;
            share[j] = share[j - fresh];
        }
    }
    mem_free(sum);
    return status;
}

static int draw_maps(struct drawing *d, const struct channels *c, struct morphing *m, const int *nodes, int n,
                     const struct morph_step *s, struct err *e) {
    int status = 0;
    d->maps = mem_calloc((size_t)c->n_groups + 1, sizeof *d->maps);
    if (!d->maps) return err_memory(e, (size_t)c->n_groups * sizeof *d->maps);
    d->n = c->n_groups;
    for (int i = 0; i < n; i++) {
        struct channel_list list = channels_made_by(c, m->graph, nodes[i]);
        for (int k = 0; k < list.n && !status; k++) {
            int group = c->segments[list.first + k].group;
            if (d->maps[group].size) continue;
            struct random r = random_split(&m->random, (uint64_t)group);
            status = draw_map(&d->maps[group], &c->groups[group], edit_width(&c->groups[group], s), s, &r, e);
        }
    }
    return status;
}

/* ---- fresh channels ---- */

static void add_real(struct array *a, size_t at, double value) {
    if (a->type == DT_FLOAT64)
        ((double *)a->data)[at] += value;
    else
        ((float *)a->data)[at] = (float)((double)((float *)a->data)[at] + value);
}

/* What a fresh channel has in a vector with one number per channel: nothing, but where nothing would stop the signal. */
static double fresh_value(const struct graph *g, const struct channel_axis *axis) {
    const struct node *n = &g->nodes[axis->node];
    int input = 0;
    while (input < n->n_inputs && n->inputs[input] != axis->value) input++;
    if (strcmp(n->op->name, "BatchNormalization") == 0) return input == 1 || input == 4;
    if (strcmp(n->op->name, "PRelu") == 0) return 0.25;
    return strcmp(n->op->name, "Mul") == 0 || strcmp(n->op->name, "Div") == 0;
}

/* Adds to the new channels of one axis, which are zeros where they are fresh. Weights, depthwise kernels among them, get
 * normal numbers of that deviation, vectors a constant. */
static void fill_axis(struct graph *g, const struct channels *c, const struct channel_axis *axis,
                      const struct channel_map *maps, double deviation, struct random *r) {
    struct array *a = g->values[axis->value].constant;
    size_t outer = axis->dim ? (size_t)a->shape.dim[0] : 1, inner = 1, length = (size_t)a->shape.dim[axis->dim], at = 0;
    for (int d = axis->dim + 1; d < a->shape.rank; d++) inner *= (size_t)a->shape.dim[d];
    bool weights = axis->role == CHANNELS_MADE || inner > 1;
    double constant = fresh_value(g, axis);
    for (int i = 0; i < axis->list.n; i++) {
        int group = c->segments[axis->list.first + i].group;
        int64_t each = c->segments[axis->list.first + i].inner, old = c->groups[group].size;
        int64_t size = maps[group].size ? maps[group].size : old;
        for (int64_t j = 0; j < size * each; j++, at++) {
            if (!is_new(&maps[group], &c->groups[group], j / each)) continue;
            if (maps[group].from[j / each] >= 0 && !weights) continue; /* noise is for weights */
            for (size_t o = 0; o < outer; o++)
                for (size_t k = 0; k < inner; k++)
                    add_real(a, (o * length + at) * inner + k, weights ? deviation * random_normal(r) : constant);
        }
    }
}

static bool touches(const struct channels *c, struct channel_list list, const struct channel_map *maps) {
    for (int i = 0; i < list.n; i++)
        if (maps[c->segments[list.first + i].group].size) return true;
    return false;
}

/* Weights into fresh channels; out of them there are none into anything that was there. Copies get noise if asked. */
static void fill_new(struct graph *fresh, struct morphing *m, const struct channels *c, const struct channel_map *maps,
                     const struct morph_step *s) {
    if (!is_fresh(s) && s->noise <= 0) return;
    for (int i = 0; i < c->n_axes; i++) {
        const struct channel_axis *axis = &c->axes[i];
        if (axis->role == CHANNELS_READ || (axis->role == CHANNELS_MADE && is_gradmax(s)) ||
            !touches(c, axis->list, maps))
            continue;
        struct random r = random_split(&m->random, (uint64_t)(c->n_groups + i));
        double deviation = edit_deviation(m->graph->values[axis->value].constant) * (is_fresh(s) ? 1 : s->noise);
        fill_axis(fresh, c, axis, maps, deviation, &r);
    }
}

/* ---- the step ---- */

static void write_groups(struct json_writer *w, const struct channels *c, const struct channel_map *maps,
                         const struct graph *g) {
    if (!w) return;
    json_open_array(w, "groups");
    for (int i = 0; i < c->n_groups; i++) {
        if (!maps[i].size) continue;
        json_open_object(w, NULL);
        json_put_string(w, "layer", edit_maker(g, &c->groups[i]));
        json_put_int(w, "before", c->groups[i].size);
        json_put_int(w, "after", maps[i].size);
        json_close_object(w);
    }
    json_close_array(w);
}

/* What reads the new channels, for every node; those without enough directions are taken out of the list. */
static int solve_gradmax(struct gradmax *found, int *nodes, int *n, struct morphing *m, const struct channels *c,
                         const struct morph_step *s, struct json_writer *w, struct err *e) {
    int kept = 0;
    struct err why = {0};
    if (w) json_open_array(w, "directions");
    for (int i = 0; i < *n; i++) {
        const struct channel_group *group = group_of(c, m->graph, nodes[i]);
        struct err unable = {0};
        int status = gradmax_solve(&found[kept], m, nodes[i], edit_width(group, s) - group->size, &unable);
        if (status && status != E_UNSUPPORTED) return err_set(e, status, "%s", unable.text);
        if (status) why = unable;
        if (w) json_open_object(w, NULL);
        if (w) json_put_string(w, "layer", m->graph->nodes[nodes[i]].name);
        if (w && status) json_put_string(w, "unchanged", unable.text);
        if (w && !status) json_put_number(w, "largest", found[kept].largest);
        if (w && !status) json_put_number(w, "least", found[kept].least);
        if (w) json_close_object(w);
        if (!status) nodes[kept++] = nodes[i];
    }
    if (w) json_close_array(w);
    *n = kept;
    return kept ? 0 : err_set(e, E_UNSUPPORTED, "%s", why.text);
}

/* Whether there is room for the widths to come. */
static int afford(struct morphing *m, const struct channels *c, const int *nodes, int n, const struct morph_step *s,
                  struct err *e) {
    struct channel_map *maps = mem_calloc((size_t)c->n_groups + 1, sizeof *maps);
    if (!maps) return err_memory(e, (size_t)c->n_groups * sizeof *maps);
    double before = channels_elements(c, m->graph, maps);
    for (int i = 0; i < n; i++) {
        struct channel_list list = channels_made_by(c, m->graph, nodes[i]);
        for (int k = 0; k < list.n; k++) {
            int group = c->segments[list.first + k].group;
            maps[group].size = edit_width(&c->groups[group], s);
        }
    }
    int status = edit_afford(m, channels_elements(c, m->graph, maps) - before, e);
    mem_free(maps);
    return status;
}

static int resize(struct morphing *m, const struct gradmax *found, const int *nodes, int n, const struct channels *c,
                  const struct morph_step *s, struct json_writer *w, struct err *e) {
    struct drawing d = {0};
    struct graph *fresh = NULL;
    int status = afford(m, c, nodes, n, s, e);
    if (!status) status = draw_maps(&d, c, m, nodes, n, s, e);
    if (!status) status = channels_resize(&fresh, c, m->graph, d.maps, e);
    if (!status) {
        fill_new(fresh, m, c, d.maps, s);
        for (int i = 0; i < n && is_gradmax(s); i++)
            gradmax_write(fresh, m->graph, &found[i], group_of(c, m->graph, nodes[i])->size);
        write_groups(w, c, d.maps, m->graph);
        m->random = random_split(&m->random, (uint64_t)c->n_groups + (uint64_t)c->n_axes);
        morphing_replace(m, fresh);
    }
    drawing_fini(&d);
    return status;
}

static int widen_apply(struct morphing *m, const int *nodes, int n, const struct morph_step *s, struct json_writer *w,
                       struct err *e) {
    const struct channels *c;
    struct gradmax *found = mem_calloc((size_t)n + 1, sizeof *found);
    int *list = mem_copy(nodes, (size_t)n * sizeof *list), all = n;
    int status = found && list ? morphing_channels(&c, m, e) : err_memory(e, (size_t)n * sizeof *found);
    if (!status && is_gradmax(s)) status = solve_gradmax(found, list, &n, m, c, s, w, e);
    if (!status) status = resize(m, found, list, n, c, s, w, e);
    for (int i = 0; i < all && found; i++) gradmax_fini(&found[i]);
    mem_free(found);
    mem_free(list);
    return status;
}

static const char *const samples[] = {
    "{\"op\":\"widen\",\"layer\":\"*\",\"factor\":1.5}",
    "{\"op\":\"widen\",\"layer\":\"*\",\"factor\":2.3,\"mode\":\"uneven\"}",
    "{\"op\":\"widen\",\"layer\":\"*\",\"factor\":1.4,\"mode\":\"random-fanin\"}",
    "{\"op\":\"widen\",\"layer\":\"*\",\"factor\":1.2,\"mode\":\"grad-max\"}",
    NULL,
};

const struct morph_kind morph_widen = {
    .name = "widen",
    .summary = "more channels in a layer, and in all that are tied to it",
    .takes = "to factor noise",
    .needs = "to factor",
    .modes = "net2wider uneven random-fanin grad-max",
    .parametric = true,
    .samples = samples,
    .can = widen_can,
    .apply = widen_apply,
};
