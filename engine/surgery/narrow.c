/* narrow.c - fewer channels: whole groups are pruned, and the layers that read them are fitted to what they gave before.
 *
 *   l2, l1        channels with small weights go
 *   norm-scale    those that a normalisation scales least (Liu et al. 2017, arXiv:1708.06519)
 *   activation    those with the smallest mean magnitude on calibration data
 *
 * Before any of these, channels that repeat another one go, and those that reach no output: that is exact, and takes
 * widening back. With data, what is lost otherwise is made up for as far as the channels that stay can
 * (narrow_refit.c, after He et al. 2017, arXiv:1707.06168). */
#include "engine/surgery/narrow.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "engine/nn/op.h"
#include "engine/surgery/alike.h"
#include "engine/surgery/channels.h"
#include "engine/surgery/edit.h"

enum { SAMPLES_MOST = 64 }; /* for scores by activation */

/* ---- which groups, and how narrow ---- */

static bool by_activation(const struct morph_step *s) {
    return strcmp(s->mode, "activation") == 0;
}

/* Whether the axis is the scale of a normalisation. */
static bool is_norm_scale(const struct graph *g, const struct channel_axis *axis) {
    const struct node *n = &g->nodes[axis->node];
    return strcmp(n->op->name, "BatchNormalization") == 0 && n->inputs[1] == axis->value;
}

static bool has_norm(const struct channels *c, const struct graph *g, int group) {
    const struct channel_axis *axis;
    for (int i = 0; (axis = channels_along(c, group, i)); i++)
        if (is_norm_scale(g, axis)) return true;
    return false;
}

static int check_group(const struct channels *c, const struct graph *g, int index, const struct morph_step *s,
                       struct err *e) {
    const struct channel_group *group = &c->groups[index];
    int64_t wish = edit_width(group, s);
    if (wish > group->size)
        return err_set(e, E_INVALID, "it has %lld channels, and %lld are more: that is for widen",
                       (long long)group->size, (long long)wish);
    if (wish == group->size)
        return err_set(e, E_INVALID, "it has %lld channels, and would keep %lld (in multiples of %lld)",
                       (long long)group->size, (long long)wish, (long long)group->multiple);
    if (strcmp(s->mode, "norm-scale") == 0 && !has_norm(c, g, index))
        return err_set(e, E_UNSUPPORTED,
                       "no normalisation scales its channels: mode norm-scale has no scores for them");
    return 0;
}

static int narrow_can(struct morphing *m, int node, const struct morph_step *s, struct err *e) {
    struct channel_list list;
    int status = edit_channels(&list, m, node, s, e);
    if (status) return status;
    if (by_activation(s) && (!m->data || !m->data->sample))
        return err_set(e, E_INVALID, "mode activation needs a data set to calibrate with");
    for (int i = 0; i < list.n && !status; i++)
        status = check_group(m->channels, m->graph, m->channels->segments[list.first + i].group, s, e);
    return status;
}

/* ---- scores ---- */

/* A group about to be narrowed. */
struct cut {
    int group;
    int64_t size, parts, left; /* channels before, parts of grouped convolutions, channels afterwards */
    double *score;             /* [size] */
    bool *dead;                /* [size] */
    struct alike alike;
    int32_t *from; /* [left]: which stay */
    double *share; /* [left]: of them, where they take over others; else 1 */
    int64_t exact; /* channels that go without a loss */
};

static void cut_fini(struct cut *c) {
    mem_free(c->score);
    mem_free(c->dead);
    mem_free(c->from);
    mem_free(c->share);
    alike_fini(&c->alike);
}

struct sum {
    double *score; /* [channels]: magnitudes (power 1) or squares, added up */
    const double *weights;
    int power;
};

static void add_weight(void *context, size_t element, int64_t channel) {
    const struct sum *s = context;
    double x = fabs(s->weights[element]);
    s->score[channel] += s->power == 1 ? x : x * x;
}

static int add_weights(double *score, const struct channels *c, const struct graph *g, const struct channel_axis *axis,
                       int group, int power, struct err *e) {
    const struct array *a = g->values[axis->value].constant;
    double *w = mem_alloc(a->count * sizeof *w + 1);
    if (!w) return err_memory(e, a->count * sizeof *w);
    array_to_double(w, a, 0, a->count);
    channels_visit(c, g, axis, group, add_weight, &(struct sum){score, w, power});
    mem_free(w);
    return 0;
}

static int score_weights(struct cut *cut, const struct channels *c, const struct graph *g, const char *mode,
                         struct err *e) {
    bool norm = strcmp(mode, "norm-scale") == 0;
    int power = strcmp(mode, "l2") == 0 ? 2 : 1, status = 0;
    const struct channel_axis *axis;
    for (int i = 0; !status && (axis = channels_along(c, cut->group, i)); i++)
        if (norm ? is_norm_scale(g, axis) : axis->role == CHANNELS_MADE)
            status = add_weights(cut->score, c, g, axis, cut->group, power, e);
    for (int64_t j = 0; j < cut->size && power == 2; j++) cut->score[j] = sqrt(cut->score[j]);
    return status;
}

/* ---- choosing ---- */

enum rank { OWN, REPEATED, DEAD };

struct candidate {
    enum rank rank; /* what goes last is first */
    double score;
    int64_t place; /* in each part */
};

static int compare(const void *pa, const void *pb) {
    const struct candidate *a = pa, *b = pb;
    if (a->rank != b->rank) return a->rank < b->rank ? -1 : 1;
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    return a->place < b->place ? -1 : a->place > b->place;
}

/* The same place of every part at once: dead or repeated only where it is so in each of them. */
static struct candidate candidate_at(const struct cut *cut, int64_t place) {
    int64_t each = cut->size / cut->parts, like = cut->alike.like[place];
    struct candidate c = {.place = place};
    bool dead = true, repeated = like != place && like < each;
    for (int64_t p = 0; p < cut->parts; p++) {
        int64_t j = p * each + place;
        c.score += cut->score[j];
        dead = dead && cut->dead[j];
        repeated = repeated && cut->alike.like[j] == p * each + like;
    }
    c.rank = dead ? DEAD : repeated ? REPEATED : OWN;
    return c;
}

static int by_place(const void *a, const void *b) {
    const struct candidate *x = a, *y = b;
    return x->place < y->place ? -1 : x->place > y->place;
}

static int choose(struct cut *cut, struct err *e) {
    int64_t each = cut->size / cut->parts, left = cut->left / cut->parts;
    struct candidate *all = mem_calloc((size_t)each + 1, sizeof *all);
    cut->from = mem_calloc((size_t)cut->left + 1, sizeof *cut->from);
    cut->share = mem_calloc((size_t)cut->left + 1, sizeof *cut->share);
    if (!all || !cut->from || !cut->share) {
        mem_free(all);
        return err_memory(e, (size_t)each * sizeof *all);
    }
    for (int64_t i = 0; i < each; i++) all[i] = candidate_at(cut, i);
    qsort(all, (size_t)each, sizeof *all, compare);
    for (int64_t i = left; i < each; i++) cut->exact += all[i].rank == OWN ? 0 : cut->parts;
    qsort(all, (size_t)left, sizeof *all, by_place);
    for (int64_t j = 0; j < cut->left; j++) {
        cut->from[j] = (int32_t)(j / left * each + all[j % left].place);
        cut->share[j] = 1;
    }
    mem_free(all);
    return 0;
}

/* Without the choice, and with no scores yet when activations are to tell. `dead`: of all groups. */
static int make_cut(struct cut *cut, struct morphing *m, const struct channels *c, const bool *dead, int group,
                    const struct morph_step *s, struct err *e) {
    const struct channel_group *of = &c->groups[group];
    *cut = (struct cut){.group = group, .size = of->size, .parts = of->multiple, .left = edit_width(of, s)};
    cut->score = mem_calloc((size_t)cut->size + 1, sizeof *cut->score);
    cut->dead = mem_copy(dead + of->first, (size_t)cut->size);
    const struct uses *uses;
    int status = cut->score && cut->dead ? 0 : err_memory(e, (size_t)cut->size * sizeof *cut->score);
    if (!status) status = morphing_uses(&uses, m, e);
    if (!status) status = alike_find(&cut->alike, c, m->graph, uses, group, e);
    if (!status && !by_activation(s)) status = score_weights(cut, c, m->graph, s->mode, e);
    return status;
}

/* ---- the step ---- */

struct cuts {
    struct cut *cuts;
    int *cut_of;              /* [groups]: its cut + 1; 0: it stays as it is */
    struct channel_map *maps; /* [groups] */
    int n, n_groups;
};

static void cuts_fini(struct cuts *all) {
    for (int i = 0; i < all->n; i++) cut_fini(&all->cuts[i]);
    mem_free(all->cuts);
    mem_free(all->cut_of);
    mem_free(all->maps);
}

/* NULL when the group stays as it is. */
static struct cut *find_cut(const struct cuts *all, int group) {
    return all->cut_of[group] ? &all->cuts[all->cut_of[group] - 1] : NULL;
}

static bool has_cut(const struct cuts *all, const struct channels *c, struct channel_list list) {
    for (int i = 0; i < list.n; i++)
        if (find_cut(all, c->segments[list.first + i].group)) return true;
    return false;
}

/* Mean magnitudes of what one layer reads, added to the scores of those of its channels that are to be cut. */
static int add_activations(struct cuts *all, struct morphing *m, const struct channels *c,
                           const struct channel_axis *axis, int node, struct err *e) {
    int value = m->graph->nodes[node].inputs[0];
    const struct shape *s = &m->graph->values[value].shape;
    double *x;
    size_t samples, pixels = 1, channels = (size_t)s->dim[1], at = 0;
    for (int d = 2; d < s->rank; d++) pixels *= (size_t)s->dim[d];
    int status = m->data->sample(&x, &samples, m->data->context, m->graph, value, SAMPLES_MOST, e);
    if (status) return status;
    for (int i = 0; i < axis->list.n; i++) {
        const struct channel_segment *seg = &c->segments[axis->list.first + i];
        size_t each = (size_t)seg->inner, n = (size_t)c->groups[seg->group].size * each;
        const struct cut *cut = find_cut(all, seg->group);
        for (size_t p = 0; p < n && cut; p++)
            for (size_t k = 0; k < samples * pixels; k++) {
                double y = x[(k / pixels * channels + at + p) * pixels + k % pixels];
                cut->score[p / each] += fabs(y) / (double)(samples * pixels * each);
            }
        at += n;
    }
    mem_free(x);
    return 0;
}

/* Of all groups in one go: in a network of dense blocks, one layer reads many. */
static int score_activations(struct cuts *all, struct morphing *m, const struct channels *c, struct err *e) {
    int status = 0;
    for (int i = 0; i < m->graph->n_nodes && !status; i++) {
        const struct channel_axis *axis = channels_read_by(c, m->graph, i);
        if (axis && has_cut(all, c, axis->list)) status = add_activations(all, m, c, axis, i, e);
    }
    return status;
}

static int make_cuts(struct cuts *all, struct morphing *m, const struct channels *c, const int *nodes, int n,
                     const struct morph_step *s, struct err *e) {
    bool *dead = NULL;
    all->n_groups = c->n_groups;
    all->cuts = mem_calloc((size_t)c->n_groups + 1, sizeof *all->cuts);
    all->maps = mem_calloc((size_t)c->n_groups + 1, sizeof *all->maps);
    all->cut_of = mem_calloc((size_t)c->n_groups + 1, sizeof *all->cut_of);
    int status = all->cuts && all->maps && all->cut_of ? 0 : err_memory(e, (size_t)c->n_groups * sizeof *all->cuts);
    if (!status) status = alike_dead(&dead, c, m->graph, e);
    for (int i = 0; i < n && !status; i++) {
        struct channel_list list = channels_made_by(c, m->graph, nodes[i]);
        for (int k = 0; k < list.n && !status; k++) {
            int group = c->segments[list.first + k].group;
            if (find_cut(all, group)) continue;
            all->cut_of[group] = all->n + 1;
            status = make_cut(&all->cuts[all->n++], m, c, dead, group, s, e);
        }
    }
    mem_free(dead);
    if (!status && by_activation(s)) status = score_activations(all, m, c, e);
    for (int i = 0; i < all->n && !status; i++) {
        struct cut *cut = &all->cuts[i];
        status = choose(cut, e);
        all->maps[cut->group] = (struct channel_map){.size = cut->left, .from = cut->from, .share = cut->share};
    }
    return status;
}

/* keep[size]: of every channel the one that takes it over. False: none takes over another. */
static bool choose_keepers(int32_t *keep, const struct cut *cut) {
    int64_t each = cut->size / cut->parts;
    bool any = false;
    for (int64_t j = 0; j < cut->size; j++) keep[j] = -1;
    for (int64_t j = 0; j < cut->left; j++) keep[cut->from[j]] = cut->from[j];
    for (int64_t j = 0; j < cut->size; j++) {
        int32_t like = cut->alike.like[j];
        if (keep[j] >= 0) continue;
        keep[j] = like / each == j / each && keep[like] == like ? like : (int32_t)j;
        any = any || keep[j] != j;
    }
    return any;
}

/* What reads a repeated channel that goes reads the one that stays. */
static int join(struct morphing *m, const struct channels *c, struct cut *cut, struct err *e) {
    int32_t *keep = mem_calloc((size_t)cut->size + 1, sizeof *keep);
    double *share = mem_calloc((size_t)cut->size + 1, sizeof *share);
    int status = keep && share ? 0 : err_memory(e, (size_t)cut->size * sizeof *share);
    bool any = !status && choose_keepers(keep, cut);
    if (any) status = alike_join(share, m->graph, c, cut->group, keep, cut->alike.ratio, e);
    for (int64_t j = 0; j < cut->left && any; j++) cut->share[j] = share[cut->from[j]];
    mem_free(keep);
    mem_free(share);
    return status;
}

static bool is_lossy(const struct cut *cut) {
    return cut->size - cut->left > cut->exact;
}

/* Which channel each of those that a layer makes afterwards was before. */
static int trace(int32_t **out, const struct channels *c, struct channel_list list, const struct cuts *all,
                 struct err *e) {
    int64_t n = channels_count(c, list), at = 0, start = 0;
    *out = mem_calloc((size_t)n + 1, sizeof **out);
    if (!*out) return err_memory(e, (size_t)n * sizeof **out);
    for (int i = 0; i < list.n; i++) {
        const struct channel_segment *s = &c->segments[list.first + i];
        const struct channel_map *map = &all->maps[s->group];
        for (int64_t j = 0; j < (map->size ? map->size : c->groups[s->group].size); j++)
            for (int64_t t = 0; t < s->inner; t++)
                (*out)[at++] = (int32_t)(start + (map->size ? map->from[j] : j) * s->inner + t);
        start += c->groups[s->group].size * s->inner;
    }
    return 0;
}

/* Traces the layers that read a group that loses more than copies: origins[values]. */
static int find_origins(int32_t ***origins, bool *lossy, const struct morphing *m, const struct channels *c,
                        const struct cuts *all, struct err *e) {
    int status = 0;
    const struct channel_axis *axis, *made;
    *origins = mem_calloc((size_t)m->graph->n_values + 1, sizeof **origins);
    if (!*origins) return err_memory(e, (size_t)m->graph->n_values * sizeof **origins);
    for (int k = 0; k < all->n; k++)
        for (int i = 0; !status && is_lossy(&all->cuts[k]) && (axis = channels_along(c, all->cuts[k].group, i)); i++) {
            if (axis->role != CHANNELS_READ) continue;
            *lossy = true;
            made = channels_axis(c, axis->value, CHANNELS_MADE);
            if (made && !(*origins)[axis->value]) status = trace(&(*origins)[axis->value], c, made->list, all, e);
        }
    return status;
}

static void write_groups(struct json_writer *w, const struct channels *c, const struct graph *g,
                         const struct cuts *all) {
    if (!w) return;
    json_open_array(w, "groups");
    for (int i = 0; i < all->n; i++) {
        const struct cut *cut = &all->cuts[i];
        json_open_object(w, NULL);
        json_put_string(w, "layer", edit_maker(g, &c->groups[cut->group]));
        json_put_int(w, "before", cut->size);
        json_put_int(w, "after", cut->left);
        json_put_int(w, "without_loss", cut->exact);
        json_close_object(w);
    }
    json_close_array(w);
}

static int narrow_apply(struct morphing *m, const int *nodes, int n, const struct morph_step *s, struct json_writer *w,
                        struct err *e) {
    const struct channels *c;
    struct cuts all = {0};
    struct graph *parent = NULL, *fresh = NULL;
    int32_t **origins = NULL;
    bool lossy = false, data = m->data && m->data->sample;
    int status = morphing_channels(&c, m, e), n_values = m->graph->n_values;
    if (!status) status = make_cuts(&all, m, c, nodes, n, s, e);
    if (!status) status = find_origins(&origins, &lossy, m, c, &all, e);
    if (!status && lossy && data) status = graph_clone(&parent, m->graph, e);
    if (!status && parent) status = graph_finish(parent, e);
    for (int i = 0; i < all.n && !status; i++) status = join(m, c, &all.cuts[i], e);
    if (!status) status = channels_resize(&fresh, c, m->graph, all.maps, e);
    if (!status) {
        write_groups(w, c, m->graph, &all);
        morphing_replace(m, fresh);
        if (w) json_put_bool(w, "lossless", !lossy);
        if (w && lossy && !data)
            json_put_string(w, "note",
                            "there is no data set to fit the layers to that read these channels: they were "
                            "only selected");
        if (parent) status = narrow_refit(m, parent, origins, w, e);
    }
    graph_free(parent);
    for (int v = 0; v < n_values && origins; v++) mem_free(origins[v]);
    mem_free(origins);
    cuts_fini(&all);
    return status;
}

static const char *const samples[] = {
    "{\"op\":\"narrow\",\"layer\":\"*\",\"factor\":0.5}",
    "{\"op\":\"narrow\",\"layer\":\"*\",\"factor\":0.7,\"mode\":\"l1\"}",
    NULL,
};

const struct morph_kind morph_narrow = {
    .name = "narrow",
    .summary = "fewer channels in a layer and in all that are tied to it; what reads them is fitted on data",
    .takes = "to factor",
    .needs = "to factor",
    .modes = "l2 l1 norm-scale activation",
    .inexact = "*",
    .parametric = true,
    .samples = samples,
    .can = narrow_can,
    .apply = narrow_apply,
};
