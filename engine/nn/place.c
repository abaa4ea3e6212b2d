/* place.c - memory by liveness. See plan.h, stage 6. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "engine/nn/plan.h"

/* ---- liveness, in steps of forward and backward numbered together ---- */

static void touch(struct storage *all, int index, int first, int n) {
    if (index == VALUE_NONE || n == 0) return;
    int root = index;
    while (all[root].root != root) root = all[root].root;
    struct storage *s = &all[root];
    s->used = true;
    if (s->first < 0 || first < s->first) s->first = first;
    if (first + n - 1 > s->last) s->last = first + n - 1;
}

static void touch_all(struct storage *all, const int *list, int count, int first, int n) {
    for (int k = 0; k < count; k++) touch(all, list[k], first, n);
}

/* The caller fills inputs before forward, and turns outputs into their gradients before backward. */
static void touch_ends(struct plan *p) {
    int turn = p->steps[PHASE_FORWARD].n;
    for (int i = 0; i < p->graph->n_inputs; i++) touch(p->values, p->graph->inputs[i], 0, turn > 0);
    for (int i = 0; i < p->graph->n_outputs; i++) {
        int v = p->standing[p->graph->outputs[i]];
        if (turn > 0) touch(p->values, v, turn - 1, 1);
        touch(p->gradients, v, turn, p->steps[PHASE_BACKWARD].n > 0);
    }
}

static void find_liveness(struct plan *p) {
    int backward = p->steps[PHASE_FORWARD].n;
    touch_ends(p);
    for (int i = 0; i < p->n_calls; i++) {
        const struct planned_call *c = &p->planned[i];
        const struct call *call = &p->calls[i];
        int at = c->first_step[PHASE_FORWARD], n = c->n_steps[PHASE_FORWARD];
        touch_all(p->values, c->in, call->n_in, at, n);
        touch_all(p->values, c->out, call->n_out, at, n);
        touch(p->values, c->residual, at, n);
        at = backward + c->first_step[PHASE_BACKWARD], n = c->n_steps[PHASE_BACKWARD];
        if (call->d_residual) touch(p->gradients, c->residual, at, n);
        for (int k = 0; k < call->n_in; k++) {
            if (k >= OP_KEEP_INPUTS || (c->op->keeps & KEEP_INPUT(k))) touch(p->values, c->in[k], at, n);
            if (call->d_in[k]) touch(p->gradients, c->in[k], at, n);
        }
        for (int k = 0; k < call->n_out; k++) {
            bool kept = (c->op->keeps & KEEP_OUTPUT(k)) || call->activation != ACTIVATION_NONE;
            if (kept) touch(p->values, c->out[k], at, n);
            if (call->d_out[k]) touch(p->gradients, c->out[k], at, n);
        }
    }
}

/* Adds what each root takes, in reals, where its life begins, and takes it off behind the end. */
static void add_lives(int64_t *change, const struct storage *all, int n) {
    for (int v = 0; v < n; v++) {
        const struct storage *s = &all[v];
        if (s->fixed || s->root != v || !s->used) continue;
        change[s->first] += (int64_t)(s->tensor.row * s->tensor.samples);
        change[s->last + 1] -= (int64_t)(s->tensor.row * s->tensor.samples);
    }
}

/* The largest sum of tensors alive at one step. */
static int find_live(struct plan *p, struct err *e) {
    int n = p->steps[PHASE_FORWARD].n + p->steps[PHASE_BACKWARD].n;
    int64_t *change = mem_calloc((size_t)n + 1, sizeof *change), now = 0, most = 0;
    if (!change) return err_memory(e, ((size_t)n + 1) * sizeof *change);
    add_lives(change, p->values, p->n_values);
    if (p->options.training) add_lives(change, p->gradients, p->n_values);
    for (int i = 0; i < n; i++) {
        now += change[i];
        if (now > most) most = now;
    }
    mem_free(change);
    p->memory.live = (size_t)most * sizeof(real);
    return 0;
}

/* ---- placing intervals in one block ---- */

struct interval {
    struct tensor *tensor; /* where it goes; NULL: a transient's */
    real **where;
    size_t size; /* reals */
    int first, last;
    int order; /* among equals */
    size_t offset;
};

static int by_first(const void *a, const void *b) {
    const struct interval *x = a, *y = b;
    if (x->first != y->first) return x->first < y->first ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

static int by_size(const void *a, const void *b) {
    const struct interval *x = a, *y = b;
    if (x->size != y->size) return x->size > y->size ? -1 : 1;
    return by_first(a, b);
}

static bool meet(const struct interval *a, const struct interval *b) {
    return a->last >= b->first && a->first <= b->last;
}

/* Puts an interval into the lowest gap between those that are alive with it, and itself among them. They are sorted by
 * offset. */
static void settle(struct interval *new, struct interval **others, int *n, size_t *total) {
    size_t offset = 0;
    int at = 0;
    for (; at < *n && others[at]->offset < offset + new->size; at++) {
        size_t end = others[at]->offset + others[at]->size;
        if (end > offset && meet(others[at], new)) offset = end;
    }
    while (at > 0 && others[at - 1]->offset > offset) at--;
    memmove(&others[at + 1], &others[at], (size_t)(*n - at) * sizeof *others);
    others[at] = new;
    (*n)++;
    new->offset = offset;
    if (offset + new->size > *total) *total = offset + new->size;
}

/* How many of them are alive at that time, if all are; else something less. */
static int alive_still(struct interval *const *alive, int n, int time) {
    int k = 0;
    while (k < n && alive[k]->last >= time) k++;
    return k;
}

enum { ALIVE_MOST = 8192 }; /* at once, among which a gap is looked for: the search takes time by their number */

/* In order of first use; `alive` has room for n. */
static size_t pack_by_time(struct interval *list, int n, struct interval **alive) {
    size_t total = 0;
    int n_alive = 0;
    qsort(list, (size_t)n, sizeof *list, by_first);
    for (int i = 0; i < n; i++) {
        int kept = 0;
        if (n_alive == ALIVE_MOST && alive_still(alive, n_alive, list[i].first) == ALIVE_MOST) {
            list[i].offset = total; /* for good */
            total += list[i].size;
            continue;
        }
        for (int k = 0; k < n_alive; k++)
            if (alive[k]->last >= list[i].first) alive[kept++] = alive[k];
        n_alive = kept;
        settle(&list[i], alive, &n_alive, &total);
    }
    return total;
}

/* The largest first; takes time by the square of n. */
static size_t pack_by_size(struct interval *list, int n, struct interval **placed) {
    size_t total = 0;
    int n_placed = 0;
    qsort(list, (size_t)n, sizeof *list, by_size);
    for (int i = 0; i < n; i++) settle(&list[i], placed, &n_placed, &total);
    return total;
}

enum { SIZES_MOST = 2000 }; /* intervals that are packed by size */

/* Gives every interval an offset such that no two alive at the same time overlap. Returns the size of
 * the block. */
static size_t pack_intervals(struct interval *list, int n, struct interval **alive) {
    if (n > SIZES_MOST) return pack_by_time(list, n, alive);
    size_t sized = pack_by_size(list, n, alive), timed = pack_by_time(list, n, alive);
    return timed <= sized ? timed : pack_by_size(list, n, alive);
}

static size_t rounded(size_t n) {
    return (n + 15) / 16 * 16;
}

/* ---- times: segments of forward and backward numbered together ---- */

/* Per phase: the segment that each step is in; 0 for steps that no segment has. */
struct times {
    int *of[PHASES];
    int forever;
};

static int take_times(struct times *t, struct plan *p, struct err *e) {
    int status = 0;
    for (int phase = 0; phase < PHASES && !status; phase++)
        status = plan_block((void **)&t->of[phase], p, (size_t)p->steps[phase].n + 1, sizeof(int), e);
    return status;
}

static void number_segments(struct times *t, const struct plan *p) {
    int number = 0;
    for (int which = 0; which < 2; which++)
        for (int i = 0; i < p->n_segments[which]; i++, number++) {
            const struct segment *s = &p->segments[which][i];
            for (int k = 0; k < s->n; k++) t->of[s->phase][s->first + k] = number;
        }
    t->forever = number + 1;
}

/* Of a step of forward and backward numbered together. */
static int time_of(const struct plan *p, const struct times *t, int step) {
    int turn = p->steps[PHASE_FORWARD].n;
    return step < turn ? t->of[PHASE_FORWARD][step] : t->of[PHASE_BACKWARD][step - turn];
}

/* ---- the plan's tensors and transients ---- */

struct placing {
    struct times times;
    struct interval *local, *global, **alive;
    int n_local, n_global;
    size_t arena, block, packed; /* reals: of a thread, of the rest, and what of that is always packed */
};

static void sort_out(struct plan *p, struct placing *l, struct storage *all) {
    for (int v = 0; v < p->n_values; v++) {
        struct storage *s = &all[v];
        if (s->fixed || s->root != v || (!s->used && !s->lasting)) continue;
        struct tensor *t = &s->tensor;
        t->local = !s->lasting && t->per_sample && time_of(p, &l->times, s->first) == time_of(p, &l->times, s->last);
        if (t->local) {
            size_t size = rounded(t->row * (size_t)p->lane_size);
            l->local[l->n_local] = (struct interval){t, NULL, size, s->first, s->last, l->n_local, 0};
            l->n_local++;
        } else {
            size_t rows = t->per_sample ? (size_t)p->lanes * (size_t)p->lane_size : 1; /* the last lane may be padded */
            struct interval g = {t, &t->base, rounded(t->row * rows), 0, l->times.forever, l->n_global, 0};
            if (!s->lasting) g.first = time_of(p, &l->times, s->first), g.last = time_of(p, &l->times, s->last);
            l->global[l->n_global++] = g;
        }
    }
}

static void sort_transients(struct plan *p, struct placing *l) {
    for (int i = 0; i < p->n_transients; i++) {
        const struct transient *t = &p->transients[i];
        const struct planned_call *c = &p->planned[t->call];
        bool goes = p->packs_late || t->maker == PHASE_BACKWARD;
        struct interval g = {NULL, t->where, rounded(t->count), 0, l->times.forever, l->n_global, 0};
        if (goes && c->n_steps[t->maker] && c->n_steps[t->reader]) {
            g.first = l->times.of[t->maker][c->first_step[t->maker]];
            g.last = l->times.of[t->reader][c->first_step[t->reader] + c->n_steps[t->reader] - 1];
        } else {
            l->packed += g.size;
        }
        l->global[l->n_global++] = g;
    }
}

/* Works out where everything would be with groups of up to `limit` reals, and gives the reals it takes. */
static int try(size_t *out, struct plan *p, struct placing *l, size_t limit, struct err *e) {
    int status = plan_segments(p, limit, e);
    if (status) return status;
    number_segments(&l->times, p);
    l->n_local = l->n_global = 0;
    l->packed = 0;
    sort_out(p, l, p->values);
    if (p->options.training) sort_out(p, l, p->gradients);
    sort_transients(p, l);
    l->arena = pack_intervals(l->local, l->n_local, l->alive);
    l->block = pack_intervals(l->global, l->n_global, l->alive);
    *out = l->block + l->arena * (size_t)p->threads;
    return 0;
}

/* Groups of a 16th or 32nd of what the network needs anyway, if they save at least as much: more meetings
 * cost time, and what lives across one is no longer in an arena. */
static int place_all(struct plan *p, struct placing *l, struct err *e) {
    size_t needed = (p->memory.parameters + p->memory.live) / sizeof(real), limit = SIZE_MAX, least, now;
    int status = try(&least, p, l, limit, e);
    for (size_t share = 16; share <= 32 && p->options.training && !status; share *= 2) {
        status = try(&now, p, l, needed / share, e);
        if (status || now + needed / 32 > least) continue;
        least = now;
        limit = needed / share;
    }
    return status ? status : try(&now, p, l, limit, e);
}

static void share_roots(struct storage *all, int n) {
    for (int v = 0; v < n; v++) {
        int root = v;
        while (all[root].root != root) root = all[root].root;
        if (root == v) continue;
        all[v].tensor.local = all[root].tensor.local;
        all[v].tensor.base = all[root].tensor.base;
        all[v].tensor.offset = all[root].tensor.offset;
    }
}

/* Memory of the host that serves the guest too, until it is used up. */
struct lent {
    real *at;
    size_t left;
};

/* Zeroed or lent: nothing is expected of it. */
static int take(real **out, struct plan *p, struct lent *l, size_t count, size_t *total, struct err *e) {
    count = rounded(count + 1);
    if (count <= l->left) {
        *out = l->at;
        l->at += count;
        l->left -= count;
        return 0;
    }
    *total += count * sizeof(real);
    return plan_block((void **)out, p, count, sizeof(real), e);
}

static int take_memory(struct plan *p, const struct placing *l, struct err *e) {
    struct lent lent = {p->host ? p->host->block : NULL, p->host ? p->host->block_size : 0};
    int status = take(&p->block, p, &lent, l->block, &p->memory.activations, e);
    if (status) return status;
    p->block_size = l->block;
    p->arena = l->arena;
    if (!p->host) {
        p->memory.activations -= l->packed * sizeof(real);
        p->memory.workspace += l->packed * sizeof(real);
    }
    for (int i = 0; i < l->n_global; i++) *l->global[i].where = p->block + l->global[i].offset;
    for (int i = 0; i < l->n_local; i++) l->local[i].tensor->offset = l->local[i].offset;
    status = plan_block((void **)&p->thread_arena, p, (size_t)p->threads, sizeof(real *), e);
    if (!status) status = plan_block((void **)&p->thread_scratch, p, (size_t)p->threads, sizeof(real *), e);
    for (int t = 0; t < p->threads && !status; t++) {
        status = take(&p->thread_arena[t], p, &lent, p->arena, &p->memory.activations, e);
        if (!status) status = take(&p->thread_scratch[t], p, &lent, p->scratch, &p->memory.workspace, e);
    }
    return status;
}

int plan_place(struct plan *p, struct err *e) {
    struct placing l = {0};
    size_t n = 2 * (size_t)p->n_values + (size_t)p->n_transients + 1;
    find_liveness(p);
    l.local = mem_calloc(n, sizeof *l.local);
    l.global = mem_calloc(n, sizeof *l.global);
    l.alive = mem_calloc(n + 1, sizeof *l.alive);
    int status = l.local && l.global && l.alive ? 0 : err_memory(e, n * sizeof *l.local);
    if (!status) status = find_live(p, e);
    if (!status) status = take_times(&l.times, p, e);
    if (!status) status = plan_segments_room(p, e);
    if (!status) status = place_all(p, &l, e);
    if (!status) status = take_memory(p, &l, e);
    share_roots(p->values, p->n_values);
    share_roots(p->gradients, p->n_values);
    mem_free(l.local);
    mem_free(l.global);
    mem_free(l.alive);
    return status;
}
