/* place.c - segments of steps, and memory by liveness. See plan.h, stages 5 and 6. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "engine/nn/plan.h"

/* ---- segments ---- */

static bool starts_segment(const struct steps *s, int i) {
    return i == 0 || s->list[i].join || s->list[i].n_units || s->list[i - 1].n_units;
}

static int cut_segments(struct plan *p, int which, enum phase phase, struct err *e) {
    const struct steps *s = &p->steps[phase];
    int status = plan_block((void **)&p->segments[which], p, (size_t)s->n + 1, sizeof(struct segment), e);
    for (int i = 0; i < s->n && !status; i++) {
        if (starts_segment(s, i)) p->segments[which][p->n_segments[which]++] = (struct segment){.first = i};
        p->segments[which][p->n_segments[which] - 1].n++;
    }
    return status;
}

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

static void find_liveness(struct plan *p) {
    int backward = p->steps[PHASE_FORWARD].n;
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

/* ---- placing intervals in one block ---- */

struct interval {
    struct storage *storage;
    size_t size; /* reals */
    int first, last;
    size_t offset;
};

static int by_first(const void *a, const void *b) {
    const struct interval *x = a, *y = b;
    if (x->first != y->first) return x->first < y->first ? -1 : 1;
    return x->storage < y->storage ? -1 : x->storage > y->storage;
}

/* Gives every interval an offset such that no two alive at the same time overlap: the lowest gap
 * that fits, in order of first use. Returns the size of the block. `alive` has room for n. */
static size_t pack_intervals(struct interval *list, int n, struct interval **alive) {
    size_t total = 0;
    int n_alive = 0;
    qsort(list, (size_t)n, sizeof *list, by_first);
    for (int i = 0; i < n; i++) {
        struct interval *new = &list[i];
        int kept = 0;
        for (int k = 0; k < n_alive; k++) /* alive is sorted by offset */
            if (alive[k]->last >= new->first) alive[kept++] = alive[k];
        n_alive = kept;
        size_t offset = 0;
        int at = 0;
        while (at < n_alive && alive[at]->offset < offset + new->size) {
            offset = alive[at]->offset + alive[at]->size;
            at++;
        }
        memmove(&alive[at + 1], &alive[at], (size_t)(n_alive - at) * sizeof *alive);
        alive[at] = new;
        n_alive++;
        new->offset = offset;
        if (offset + new->size > total) total = offset + new->size;
    }
    return total;
}

static size_t rounded(size_t n) {
    return (n + 15) / 16 * 16;
}

/* Which segment, of forward and backward numbered together, a step is in. */
static int *number_segments(struct plan *p, struct err *e) {
    int n = p->steps[PHASE_FORWARD].n + p->steps[PHASE_BACKWARD].n, *of, at = 0, number = 0;
    if (plan_block((void **)&of, p, (size_t)n + 1, sizeof *of, e)) return NULL;
    for (int which = 0; which < 2; which++)
        for (int s = 0; s < p->n_segments[which]; s++, number++)
            for (int i = 0; i < p->segments[which][s].n; i++) of[at++] = number;
    return of;
}

struct placing {
    struct interval *local, *global, **alive;
    int n_local, n_global;
};

static void sort_out(struct plan *p, struct placing *l, struct storage *all, const int *segment_of) {
    int forever = p->n_segments[0] + p->n_segments[1] + 1;
    for (int v = 0; v < p->n_values; v++) {
        struct storage *s = &all[v];
        if (s->fixed || s->root != v || (!s->used && !s->lasting)) continue;
        struct tensor *t = &s->tensor;
        bool within = !s->lasting && t->per_sample && segment_of[s->first] == segment_of[s->last];
        t->local = within;
        if (within) {
            size_t size = rounded(t->row * (size_t)p->lane_size);
            l->local[l->n_local++] = (struct interval){s, size, s->first, s->last, 0};
        } else {
            size_t rows = t->per_sample ? (size_t)p->lanes * (size_t)p->lane_size : 1; /* the last lane may be padded */
            struct interval g = {s, rounded(t->row * rows), 0, forever, 0};
            if (!s->lasting) g.first = segment_of[s->first], g.last = segment_of[s->last];
            l->global[l->n_global++] = g;
        }
    }
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

static int place_global(struct plan *p, struct placing *l, struct err *e) {
    real *block;
    size_t size = pack_intervals(l->global, l->n_global, l->alive);
    p->memory.activations += size * sizeof(real);
    int status = plan_block((void **)&block, p, size, sizeof(real), e);
    for (int i = 0; i < l->n_global && !status; i++) l->global[i].storage->tensor.base = block + l->global[i].offset;
    return status;
}

static int place_local(struct plan *p, struct placing *l, struct err *e) {
    p->arena = pack_intervals(l->local, l->n_local, l->alive);
    for (int i = 0; i < l->n_local; i++) l->local[i].storage->tensor.offset = l->local[i].offset;
    p->memory.activations += p->arena * sizeof(real) * (size_t)p->threads;
    int status = plan_block((void **)&p->thread_arena, p, (size_t)p->threads, sizeof(real *), e);
    if (!status) status = plan_block((void **)&p->thread_scratch, p, (size_t)p->threads, sizeof(real *), e);
    for (int t = 0; t < p->threads && !status; t++) {
        status = plan_block((void **)&p->thread_arena[t], p, p->arena + 16, sizeof(real), e);
        if (!status) status = plan_memory(&p->thread_scratch[t], p, p->scratch + 16, e);
    }
    return status;
}

int plan_place(struct plan *p, struct err *e) {
    struct placing l = {0};
    size_t n = 2 * (size_t)p->n_values + 1;
    int status = cut_segments(p, 0, PHASE_FORWARD, e);
    if (!status) status = cut_segments(p, 1, PHASE_BACKWARD, e);
    if (status) return status;
    find_liveness(p);
    int *segment_of = number_segments(p, e);
    l.local = mem_calloc(n, sizeof *l.local);
    l.global = mem_calloc(n, sizeof *l.global);
    l.alive = mem_calloc(n + 1, sizeof *l.alive);
    if (!segment_of || !l.local || !l.global || !l.alive) {
        status = err_memory(e, n * sizeof *l.local);
        goto out;
    }
    sort_out(p, &l, p->values, segment_of);
    if (p->options.training) sort_out(p, &l, p->gradients, segment_of);
    status = place_global(p, &l, e);
    if (!status) status = place_local(p, &l, e);
    share_roots(p->values, p->n_values);
    share_roots(p->gradients, p->n_values);
out:
    mem_free(l.local);
    mem_free(l.global);
    mem_free(l.alive);
    return status;
}
