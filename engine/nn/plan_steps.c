/* plan_steps.c - what operators ask of a plan while they open: memory and steps. */
#include "engine/nn/plan.h"

#include <string.h>

#include "base/memory.h"
#include "base/text.h"

/* ---- memory of the plan ---- */

static int remember_block(struct plan *p, void *block, struct err *e) {
    if (p->n_blocks == p->blocks_room) {
        int room = p->blocks_room ? p->blocks_room * 2 : 64;
        void **moved = mem_resize(p->blocks, (size_t)room, sizeof *moved);
        if (!moved) return err_memory(e, (size_t)room * sizeof *moved);
        p->blocks = moved;
        p->blocks_room = room;
    }
    p->blocks[p->n_blocks++] = block;
    return 0;
}

int plan_block(void **out, struct plan *p, size_t n, size_t size, struct err *e) {
    size_t bytes, total;
    if (!mem_mul(&bytes, n, size) || !mem_add(&total, p->taken, bytes))
        return err_set(e, E_TOO_LARGE, "the network needs more memory than there are addresses");
    if (p->options.memory && total > p->options.memory) {
        char smaller[48] = "";
        if (p->options.batch > 1) text_print(smaller, sizeof smaller, "a smaller batch (now %d) or ", p->options.batch);
        return err_set(e, E_TOO_LARGE,
                       "the network needs more than %zu bytes, and %zu are allowed; %sa larger --memory helps", total,
                       p->options.memory, smaller);
    }
    void *block = mem_alloc_aligned(bytes);
    if (!block) return err_memory(e, bytes);
    int status = remember_block(p, block, e);
    if (status) {
        mem_free_aligned(block);
        return status;
    }
    p->taken = total;
    *out = block;
    return 0;
}

int plan_memory(real **out, struct plan *p, size_t count, struct err *e) {
    p->memory.workspace += count * sizeof(real);
    return plan_block((void **)out, p, count, sizeof(real), e);
}

void plan_scratch(struct plan *p, size_t count) {
    if (count > p->scratch) p->scratch = count;
}

static int add_transient(struct plan *p, struct transient t, struct err *e) {
    if (p->n_transients == p->transients_room) {
        int room = p->transients_room ? p->transients_room * 2 : 64;
        struct transient *moved = mem_resize(p->transients, (size_t)room, sizeof *moved);
        if (!moved) return err_memory(e, (size_t)room * sizeof *moved);
        p->transients = moved;
        p->transients_room = room;
    }
    t.call = p->opening;
    p->transients[p->n_transients++] = t;
    return 0;
}

int plan_packed(real **out, struct plan *p, size_t count, enum phase reader, struct err *e) {
    enum phase maker = reader == PHASE_FORWARD ? PHASE_PREPARE : PHASE_REPACK;
    return add_transient(p, (struct transient){.where = out, .count = count, .maker = maker, .reader = reader}, e);
}

int plan_slots(struct gathering *out, struct plan *p, size_t size, struct err *e) {
    out->size = (size + 15) / 16 * 16;
    return plan_memory(&out->slots, p, out->size * (size_t)p->lanes, e);
}

int plan_shares(const struct plan *p, size_t n) {
    size_t most = n ? p->gather_room / n : SIZE_MAX;
    int shares = most > (size_t)p->lanes ? p->lanes : most < 1 ? 1 : (int)most;
    if (shares >= p->lanes) return p->lanes;
    while (p->options.batch % shares) shares--;
    return shares;
}

int plan_gathering(struct gathering *out, struct plan *p, size_t size, struct err *e) {
    return plan_gathering_of(out, p, size, p->lanes, e);
}

int plan_gathering_of(struct gathering *out, struct plan *p, size_t size, int shares, struct err *e) {
    out->size = (size + 15) / 16 * 16;
    return add_transient(
        p,
        (struct transient){
            .where = &out->slots, .count = out->size * (size_t)shares, .maker = PHASE_BACKWARD, .reader = PHASE_FINISH},
        e);
}

VECTORISED void gathering_sum(const struct gathering *g, int lanes, size_t from, size_t n, real *out, bool add) {
    if (!add) memset(out, 0, n * sizeof(real));
    for (int l = 0; l < lanes; l++) {
        const real *slot = g->slots + (size_t)l * g->size + from;
        for (size_t i = 0; i < n; i++) out[i] += slot[i];
    }
}

VECTORISED const real *gathering_total(const struct gathering *g, int lanes) {
    real *restrict sum = g->slots;
    for (int l = 1; l < lanes; l++) {
        const real *restrict slot = g->slots + (size_t)l * g->size;
        for (size_t i = 0; i < g->size; i++) sum[i] += slot[i];
    }
    return sum;
}

void plan_fini(struct plan *p) {
    for (int i = 0; i < p->n_calls; i++)
        if (p->planned[i].op->close && p->calls[i].state) p->planned[i].op->close(p->calls[i].state);
    for (int i = 0; i < p->n_blocks; i++) mem_free_aligned(p->blocks[i]);
    for (int i = 0; i < PHASES; i++) mem_free(p->steps[i].list);
    mem_free(p->blocks);
    mem_free(p->transients);
    mem_free(p->calls);
    mem_free(p->planned);
    mem_free(p->values);
    mem_free(p->gradients);
    inferred_free(p->known);
}

/* ---- steps ---- */

static int add_step(struct plan *p, enum phase phase, struct step step, struct err *e) {
    struct steps *s = &p->steps[phase];
    if (s->n == s->room) {
        int room = s->room ? s->room * 2 : 64;
        struct step *moved = mem_resize(s->list, (size_t)room, sizeof *moved);
        if (!moved) return err_memory(e, (size_t)room * sizeof *moved);
        s->list = moved;
        s->room = room;
    }
    step.call = p->opening;
    s->list[s->n++] = step;
    p->planned[p->opening].n_steps[phase]++;
    return 0;
}

int plan_lanes(struct plan *p, enum phase phase, step_run *run, bool join, struct err *e) {
    return add_step(p, phase, (struct step){.run = run, .join = join}, e);
}

int plan_units(struct plan *p, enum phase phase, step_run *run, int n_units, struct err *e) {
    return add_step(p, phase, (struct step){.run = run, .n_units = n_units}, e);
}
