/* channels.c - finding the groups: units merged and split, then numbered. */
#include "engine/surgery/channels.h"

#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "engine/nn/op.h"
#include "engine/surgery/channel_finder.h"

/* ---- units ---- */

static int grow(void *list, int *room, int needed, size_t size, struct err *e) {
    if (needed <= *room) return 0;
    int fresh = *room * 2 > needed ? *room * 2 : needed + 64;
    void *old, *moved;
    memcpy(&old, list, sizeof old);
    moved = mem_resize(old, (size_t)fresh, size);
    if (!moved) return err_memory(e, (size_t)fresh * size);
    memcpy(list, &moved, sizeof moved);
    *room = fresh;
    return 0;
}

static int new_unit(int *out, struct finder *f, int64_t size, const struct channel_group *facts, struct err *e) {
    int status = grow(&f->units, &f->units_room, f->n_units + 1, sizeof *f->units, e);
    if (status) return status;
    f->units[f->n_units] = (struct unit){.parent = f->n_units, .left = -1, .right = -1, .size = size, .facts = *facts};
    *out = f->n_units++;
    return 0;
}

static int root_of(struct finder *f, int unit) {
    while (f->units[unit].parent != unit) {
        f->units[unit].parent = f->units[f->units[unit].parent].parent;
        unit = f->units[unit].parent;
    }
    return unit;
}

#define MAX_SEGMENTS (1 << 22) /* concatenating a value with itself again and again doubles them */

static int push_segment(struct finder *f, int unit, int64_t inner, struct err *e) {
    if (f->n_segments == MAX_SEGMENTS)
        return err_set(e, E_TOO_LARGE, "the network's concatenations make more than %d pieces of channel axes",
                       MAX_SEGMENTS);
    int status = grow(&f->segments, &f->segments_room, f->n_segments + 1, sizeof *f->segments, e);
    if (!status) f->segments[f->n_segments++] = (struct channel_segment){unit, inner};
    return status;
}

/* Appends the whole units a unit now consists of. Depth is bounded by the number of splits. */
static int push_parts(struct finder *f, int unit, int64_t inner, struct err *e) {
    int root = root_of(f, unit);
    if (f->units[root].left < 0) return push_segment(f, root, inner, e);
    int status = push_parts(f, f->units[root].left, inner, e);
    return status ? status : push_parts(f, f->units[root].right, inner, e);
}

/* The list with every unit replaced by what it now is. */
static int refresh(struct channel_list *out, struct finder *f, struct channel_list list, struct err *e) {
    int first = f->n_segments, status = 0;
    for (int i = 0; i < list.n && !status; i++) {
        struct channel_segment s = f->segments[list.first + i];
        status = push_parts(f, s.group, s.inner, e);
    }
    *out = (struct channel_list){first, f->n_segments - first};
    return status;
}

/* The parts of a fixed unit are fixed, all of them: nothing is walked through twice. */
static void fix_unit(struct finder *f, int unit, int node) {
    struct unit *u = &f->units[root_of(f, unit)];
    if (u->facts.fixed_by != CHANNELS_FREE) return;
    u->facts.fixed_by = node;
    if (u->left < 0) return;
    int right = u->right;
    fix_unit(f, u->left, node);
    fix_unit(f, right, node);
}

static int64_t common_multiple(int64_t a, int64_t b) {
    int64_t x = a, y = b;
    while (y) {
        int64_t rest = x % y;
        x = y;
        y = rest;
    }
    return a / x * b;
}

static void merge(struct finder *f, int a, int b) {
    a = root_of(f, a);
    b = root_of(f, b);
    if (a == b) return;
    if (b < a) { /* the older one stays, so that numbering follows the graph */
        int swap = a;
        a = b;
        b = swap;
    }
    struct channel_group *to = &f->units[a].facts, *from = &f->units[b].facts;
    f->units[b].parent = a;
    to->multiple = common_multiple(to->multiple, from->multiple);
    if (to->fixed_by == CHANNELS_FREE) to->fixed_by = from->fixed_by;
    if (to->maker < 0) to->maker = from->maker;
}

/* Cuts a whole unit after its first `size` channels. */
static int split(struct finder *f, int unit, int64_t size, int node, struct err *e) {
    struct channel_group facts = f->units[unit].facts;
    if (facts.multiple > 1 && facts.fixed_by == CHANNELS_FREE) facts.fixed_by = node;
    int left, right, status = new_unit(&left, f, size, &facts, e);
    if (!status) status = new_unit(&right, f, f->units[unit].size - size, &facts, e);
    if (status) return status;
    f->units[unit].left = left;
    f->units[unit].right = right;
    return 0;
}

/* ---- lists ---- */

int finder_new_list(struct channel_list *out, struct finder *f, int64_t size, int fixed_by, int maker, struct err *e) {
    struct channel_group facts = {.multiple = 1, .fixed_by = fixed_by, .maker = maker};
    int unit, status = new_unit(&unit, f, size, &facts, e);
    *out = (struct channel_list){f->n_segments, 1};
    return status ? status : push_segment(f, unit, 1, e);
}

int finder_scale_list(struct channel_list *out, bool *fits, struct finder *f, struct channel_list list, int64_t times,
                      bool divide, struct err *e) {
    int status = refresh(out, f, list, e);
    *fits = true;
    for (int i = 0; i < out->n && !status; i++) {
        struct channel_segment *s = &f->segments[out->first + i];
        if (divide && s->inner % times) *fits = false;
        s->inner = divide ? s->inner / times : s->inner * times;
    }
    return status;
}

int finder_join_lists(struct channel_list *out, struct finder *f, const struct channel_list *lists, int n,
                      struct err *e) {
    int first = f->n_segments, status = 0;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < lists[i].n && !status; k++) {
            struct channel_segment s = f->segments[lists[i].first + k];
            status = push_segment(f, s.group, s.inner, e);
        }
    *out = (struct channel_list){first, f->n_segments - first};
    return status;
}

void finder_fix(struct finder *f, struct channel_list list, int node) {
    for (int i = 0; i < list.n; i++) fix_unit(f, f->segments[list.first + i].group, node);
}

void finder_need_multiple(struct finder *f, struct channel_list list, int64_t n, int node) {
    const struct channel_segment *s = &f->segments[list.first];
    struct unit *u = list.n ? &f->units[root_of(f, s->group)] : NULL;
    if (!u || list.n > 1 || s->inner > 1 || u->left >= 0 || u->size % n)
        finder_fix(f, list, node);
    else
        u->facts.multiple = common_multiple(u->facts.multiple, n);
}

/* Walks both lists, splitting the longer of two segments that meet, and merging equals. */
int finder_tie(struct finder *f, struct channel_list a, struct channel_list b, int node, struct err *e) {
    int i = 0, k = 0, status = refresh(&a, f, a, e);
    if (!status) status = refresh(&b, f, b, e);
    while (!status && i < a.n && k < b.n) {
        struct channel_segment x = f->segments[a.first + i], y = f->segments[b.first + k];
        int one = root_of(f, x.group), other = root_of(f, y.group);
        bool whole = f->units[one].left < 0 && f->units[other].left < 0;
        if (x.inner != y.inner) break;
        if (whole && f->units[one].size == f->units[other].size) {
            merge(f, one, other);
            i++, k++;
            continue;
        }
        if (whole) {
            int64_t size = f->units[one].size < f->units[other].size ? f->units[one].size : f->units[other].size;
            status = split(f, f->units[one].size > size ? one : other, size, node, e);
        }
        struct channel_list rest_a = {a.first + i, a.n - i}, rest_b = {b.first + k, b.n - k};
        if (!status) status = refresh(&a, f, rest_a, e);
        if (!status) status = refresh(&b, f, rest_b, e);
        i = k = 0;
    }
    if (i < a.n) finder_fix(f, (struct channel_list){a.first + i, a.n - i}, node);
    if (k < b.n) finder_fix(f, (struct channel_list){b.first + k, b.n - k}, node);
    return status;
}

int finder_claim(struct finder *f, int value, int dim, enum channel_role role, int64_t parts, struct channel_list list,
                 int node, struct err *e) {
    int *claim = &f->claims[2 * value + dim];
    if (*claim) {
        struct channel_axis *axis = &f->axes[*claim - 1];
        if (axis->role != role || axis->parts != parts) {
            finder_fix(f, list, node);
            finder_fix(f, axis->list, node);
        }
        return finder_tie(f, axis->list, list, node, e);
    }
    int status = grow(&f->axes, &f->axes_room, f->n_axes + 1, sizeof *f->axes, e);
    if (status) return status;
    f->axes[f->n_axes++] = (struct channel_axis){value, dim, node, role, parts, list};
    *claim = f->n_axes;
    return 0;
}

/* ---- finding ---- */

static int start_inputs(struct finder *f, struct err *e) {
    int status = 0;
    for (int i = 0; i < f->graph->n_inputs && !status; i++) {
        int v = f->graph->inputs[i];
        const struct shape *s = &f->graph->values[v].shape;
        if (s->rank > 1) status = finder_new_list(&f->values[v], f, s->dim[1], CHANNELS_INPUT, -1, e);
    }
    return status;
}

static int find_all(struct finder *f, struct err *e) {
    int status = start_inputs(f, e);
    for (int i = 0; i < f->graph->n_nodes && !status; i++) status = channel_rule(f, i, e);
    for (int i = 0; i < f->graph->n_outputs; i++) finder_fix(f, f->values[f->graph->outputs[i]], CHANNELS_OUTPUT);
    return status;
}

/* Lists of final units, numbered in order of first appearance. */
static int number_list(struct channel_list *list, struct finder *f, struct channels *c, int *number, struct err *e) {
    int status = refresh(list, f, *list, e);
    for (int i = 0; i < list->n && !status; i++) {
        struct channel_segment *s = &f->segments[list->first + i];
        if (number[s->group] < 0) {
            c->groups[c->n_groups] = f->units[s->group].facts;
            c->groups[c->n_groups].size = f->units[s->group].size;
            number[s->group] = c->n_groups++;
        }
        s->group = number[s->group];
    }
    return status;
}

static int number_groups(struct channels *c, struct finder *f, struct err *e) {
    c->groups = mem_calloc((size_t)f->n_units + 1, sizeof *c->groups);
    int *number = mem_alloc(((size_t)f->n_units + 1) * sizeof *number), status = 0;
    if (!c->groups || !number) status = err_memory(e, (size_t)f->n_units * sizeof *c->groups);
    for (int i = 0; i < f->n_units && !status; i++) number[i] = -1;
    for (int v = 0; v < f->graph->n_values && !status; v++) status = number_list(&f->values[v], f, c, number, e);
    for (int i = 0; i < f->n_axes && !status; i++) status = number_list(&f->axes[i].list, f, c, number, e);
    mem_free(number);
    return status;
}

static const struct channel_list *list_at(const struct channels *c, bool axes, int i) {
    return axes ? &c->axes[i].list : &c->values[i];
}

/* Which lists every group is in. What comes twice in one list is counted twice, for the room, but listed once. */
static int index_lists(struct channel_index *out, const struct channels *c, bool axes, struct err *e) {
    int n = axes ? c->n_axes : c->n_values;
    out->first = mem_calloc((size_t)c->n_groups + 1, sizeof *out->first);
    out->n = mem_calloc((size_t)c->n_groups + 1, sizeof *out->n);
    if (!out->first || !out->n) return err_memory(e, (size_t)c->n_groups * sizeof *out->n);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < list_at(c, axes, i)->n; k++)
            out->first[c->segments[list_at(c, axes, i)->first + k].group + 1]++;
    for (int group = 0; group < c->n_groups; group++) out->first[group + 1] += out->first[group];
    out->items = mem_calloc((size_t)out->first[c->n_groups] + 1, sizeof *out->items);
    if (!out->items) return err_memory(e, (size_t)out->first[c->n_groups] * sizeof *out->items);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < list_at(c, axes, i)->n; k++) {
            int group = c->segments[list_at(c, axes, i)->first + k].group, *items = out->items + out->first[group];
            if (!out->n[group] || items[out->n[group] - 1] != i) items[out->n[group]++] = i;
        }
    return 0;
}

static int index_groups(struct channels *c, struct err *e) {
    for (int i = 1; i < c->n_groups; i++) c->groups[i].first = c->groups[i - 1].first + c->groups[i - 1].size;
    int status = index_lists(&c->axes_of, c, true, e);
    return status ? status : index_lists(&c->values_of, c, false, e);
}

int channels_find(struct channels **out, const struct graph *g, struct err *e) {
    struct finder f = {.graph = g};
    struct channels *c = mem_calloc(1, sizeof *c);
    f.values = mem_calloc((size_t)g->n_values + 1, sizeof *f.values);
    f.claims = mem_calloc((size_t)g->n_values + 1, 2 * sizeof *f.claims);
    int status = c && f.values && f.claims ? 0 : err_memory(e, (size_t)g->n_values * sizeof *f.values);
    if (!status) status = find_all(&f, e);
    if (!status) status = number_groups(c, &f, e);
    mem_free(f.units);
    if (!c) {
        mem_free(f.values);
        mem_free(f.claims);
        return status;
    }
    c->segments = f.segments;
    c->values = f.values;
    c->axes = f.axes;
    c->n_axes = f.n_axes;
    c->claims = f.claims;
    c->n_values = g->n_values;
    if (!status) status = index_groups(c, e);
    if (status)
        channels_free(c);
    else
        *out = c;
    return status;
}

static void index_fini(struct channel_index *x) {
    mem_free(x->first);
    mem_free(x->n);
    mem_free(x->items);
}

void channels_free(struct channels *c) {
    if (!c) return;
    mem_free(c->groups);
    mem_free(c->segments);
    mem_free(c->values);
    mem_free(c->axes);
    mem_free(c->claims);
    index_fini(&c->axes_of);
    index_fini(&c->values_of);
    mem_free(c);
}

const struct channel_axis *channels_axis_at(const struct channels *c, int value, int dim) {
    int claim = value >= 0 && value < c->n_values ? c->claims[2 * value + dim] : 0;
    return claim ? &c->axes[claim - 1] : NULL;
}

const struct channel_axis *channels_axis(const struct channels *c, int value, enum channel_role role) {
    const struct channel_axis *a = channels_axis_at(c, value, 0), *b = channels_axis_at(c, value, 1);
    if (a && a->role != role) a = NULL;
    if (b && b->role != role) b = NULL;
    return a && b ? (a < b ? a : b) : a ? a : b;
}

const struct channel_axis *channels_read_by(const struct channels *c, const struct graph *g, int node) {
    const struct node *n = &g->nodes[node];
    return n->n_inputs > 1 ? channels_axis(c, n->inputs[1], CHANNELS_READ) : NULL;
}

const struct channel_axis *channels_along(const struct channels *c, int group, int i) {
    return i < c->axes_of.n[group] ? &c->axes[c->axes_of.items[c->axes_of.first[group] + i]] : NULL;
}

struct channel_list channels_made_by(const struct channels *c, const struct graph *g, int node) {
    const struct node *n = &g->nodes[node];
    const struct channel_axis *axis = n->n_inputs > 1 ? channels_axis(c, n->inputs[1], CHANNELS_MADE) : NULL;
    return axis ? axis->list : (struct channel_list){0};
}

int64_t channels_count(const struct channels *c, struct channel_list list) {
    int64_t n = 0;
    for (int i = 0; i < list.n; i++) {
        const struct channel_segment *s = &c->segments[list.first + i];
        n += c->groups[s->group].size * s->inner;
    }
    return n;
}

bool channels_has(const struct channels *c, struct channel_list list, int group) {
    for (int i = 0; i < list.n; i++)
        if (c->segments[list.first + i].group == group) return true;
    return false;
}

/* Position p of the axis belongs to channel (p - start) / inner of the group's segment. */
void channels_visit(const struct channels *c, const struct graph *g, const struct channel_axis *axis, int group,
                    channels_visitor *visit, void *context) {
    const struct shape *s = &g->values[axis->value].constant->shape;
    size_t outer = 1, inner = 1, length = (size_t)s->dim[axis->dim], start = 0;
    for (int d = 0; d < axis->dim; d++) outer *= (size_t)s->dim[d];
    for (int d = axis->dim + 1; d < s->rank; d++) inner *= (size_t)s->dim[d];
    for (int i = 0; i < axis->list.n; i++) {
        const struct channel_segment *seg = &c->segments[axis->list.first + i];
        size_t each = (size_t)seg->inner, n = (size_t)c->groups[seg->group].size * each;
        for (size_t p = 0; p < n && start + p < length && seg->group == group; p++)
            for (size_t o = 0; o < outer; o++)
                for (size_t k = 0; k < inner; k++)
                    visit(context, (o * length + start + p) * inner + k, (int64_t)(p / each));
        start += n;
    }
}

void channels_reason(char *out, size_t room, const struct graph *g, const struct channel_group *group) {
    if (group->fixed_by == CHANNELS_INPUT)
        text_print(out, room, "the network's input");
    else if (group->fixed_by == CHANNELS_OUTPUT)
        text_print(out, room, "the network's output");
    else if (group->fixed_by >= 0)
        text_print(out, room, "node '%s' (%s)", g->nodes[group->fixed_by].name, g->nodes[group->fixed_by].op->name);
    else
        text_print(out, room, "nothing");
}
