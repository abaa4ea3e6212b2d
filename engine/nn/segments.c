/* segments.c - what the crew does between two meetings. See plan.h, stage 5.
 *
 * Where packed parameters or what lanes gather would take much, calls are prepared and finished in
 * groups on the way, so that one group after the other uses the same memory. Small networks have one
 * group of each, and no more meetings than their joins ask for. */
#include "base/memory.h"
#include "engine/nn/plan.h"

/* Reals of each call that a phase makes, as a table over calls. */
static int sum_by_call(size_t **out, const struct plan *p, enum phase maker, size_t *total, struct err *e) {
    size_t *sums = mem_calloc((size_t)p->n_calls + 1, sizeof *sums);
    if (!sums) return err_memory(e, ((size_t)p->n_calls + 1) * sizeof *sums);
    *total = 0;
    for (int i = 0; i < p->n_transients; i++) {
        if (p->transients[i].maker != maker) continue;
        sums[p->transients[i].call] += p->transients[i].count;
        *total += p->transients[i].count;
    }
    *out = sums;
    return 0;
}

/* Groups of calls whose steps of one phase run together. */
struct group {
    enum phase phase;
    size_t *sizes; /* by call */
    size_t size;   /* of the group that is open */
    int next;      /* first step of the phase that no group has yet */
};

/* Whether a group must end before that call. */
static bool is_full(struct group *g, int call, size_t limit) {
    bool full = g->size > 0 && g->sizes[call] > 0 && g->size + g->sizes[call] > limit;
    if (full) g->size = 0;
    g->size += g->sizes[call];
    return full;
}

/* ---- the list ---- */

struct cutting {
    struct plan *p;
    int which;
    bool open; /* the last segment may be continued */
};

static struct segment *append(struct cutting *c, enum phase phase, int first, int n) {
    struct segment *s = &c->p->segments[c->which][c->p->n_segments[c->which]++];
    *s = (struct segment){phase, first, n};
    c->open = false;
    return s;
}

static bool starts_segment(const struct steps *s, int i) {
    return i == 0 || s->list[i].join || s->list[i].n_units || s->list[i - 1].n_units;
}

static void append_step(struct cutting *c, enum phase phase, int step) {
    if (!c->open || starts_segment(&c->p->steps[phase], step)) append(c, phase, step, 0);
    c->p->segments[c->which][c->p->n_segments[c->which] - 1].n++;
    c->open = true;
}

/* Steps up to `end` of a group's phase, if there are any. */
static void append_group(struct cutting *c, struct group *g, int end) {
    if (end > g->next) append(c, g->phase, g->next, end - g->next);
    g->next = end;
}

/* Where the group that begins with the step's call ends: at the next call that would make it too full. */
static int end_of_group(const struct plan *p, const struct group *g, enum phase phase, int step, size_t limit) {
    const struct steps *s = &p->steps[phase];
    struct group probe = *g;
    probe.size = 0;
    for (int last = -1; step < s->n; step++) {
        int call = s->list[step].call;
        if (call != last && is_full(&probe, call, limit)) return p->planned[call].first_step[g->phase];
        last = call;
    }
    return p->steps[g->phase].n;
}

/* `before` makes what the steps read; what REPACK makes is read by the last step of a call only. `after`
 * (may be NULL) uses up what they leave. */
static void cut(struct cutting *c, enum phase phase, struct group *before, struct group *after, size_t limit) {
    const struct plan *p = c->p;
    const struct steps *s = &p->steps[phase];
    bool due = false, begun = false; /* the next group of `before`; one of them */
    for (int i = 0; i < s->n; i++) {
        int call = s->list[i].call;
        const struct planned_call *planned = &p->planned[call];
        bool first = i == planned->first_step[phase],
             last = i == planned->first_step[phase] + planned->n_steps[phase] - 1;
        if (first) {
            if (after && is_full(after, call, limit)) append_group(c, after, planned->first_step[after->phase]);
            bool full = is_full(before, call, limit);
            if (p->packs_late && planned->n_steps[before->phase] && (full || !begun)) due = begun = true;
        }
        if (due && (after ? last : first)) {
            if (after && !first && before->sizes[call]) {
                append_group(c, after, planned->first_step[after->phase] + planned->n_steps[after->phase]);
                after->size = 0;
            }
            append_group(c, before, end_of_group(p, before, phase, planned->first_step[phase], limit));
            due = false;
        }
        append_step(c, phase, i);
    }
    if (after) append_group(c, after, p->steps[after->phase].n);
}

int plan_segments(struct plan *p, size_t limit, struct err *e) {
    struct group prepare = {.phase = PHASE_PREPARE}, repack = {.phase = PHASE_REPACK}, finish = {.phase = PHASE_FINISH};
    size_t packed, repacked, gathered;
    int status = sum_by_call(&prepare.sizes, p, PHASE_PREPARE, &packed, e);
    if (!status) status = sum_by_call(&repack.sizes, p, PHASE_REPACK, &repacked, e);
    if (!status) status = sum_by_call(&finish.sizes, p, PHASE_BACKWARD, &gathered, e);
    if (!status) {
        p->packs_late = p->options.training && packed + repacked > limit;
        p->n_segments[0] = p->n_segments[1] = 0;
        cut(&(struct cutting){.p = p}, PHASE_FORWARD, &prepare, NULL, limit);
        cut(&(struct cutting){.p = p, .which = 1}, PHASE_BACKWARD, &repack, &finish, limit);
    }
    mem_free(prepare.sizes);
    mem_free(repack.sizes);
    mem_free(finish.sizes);
    return status;
}

int plan_segments_room(struct plan *p, struct err *e) {
    const struct steps *s = p->steps;
    size_t forward = 2 * (size_t)s[PHASE_FORWARD].n + 2, backward = 3 * (size_t)s[PHASE_BACKWARD].n + 3;
    int status = plan_block((void **)&p->segments[0], p, forward, sizeof(struct segment), e);
    return status ? status : plan_block((void **)&p->segments[1], p, backward, sizeof(struct segment), e);
}
