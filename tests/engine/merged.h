/* merged.h - whether layers that follow two others are what these make. */
#ifndef TESTS_ENGINE_MERGED_H
#define TESTS_ENGINE_MERGED_H

#include "engine/nn/graph.h"
#include "engine/nn/origin.h"
#include "tests/test.h"

/* As long as what is new rests, merged layers are what their factors make. */
static inline void mergers_agree(const struct graph *g) {
    for (int v = 0; v < g->n_values; v++) {
        const struct array *c = g->values[v].constant;
        const real *factor[MERGER_FACTORS] = {0};
        struct joint j;
        struct err e = {0};
        if (!g->values[v].origin || !g->values[v].origin->merger) continue;
        struct merger *m = g->values[v].origin->merger;
        need(!joint_init(&j, m, &c->shape, g->values[v].name, &e), "%s", e.text);
        for (int k = 0; k < MERGER_FACTORS; k++) factor[k] = m->factor[k] ? m->factor[k]->data : NULL;
        if (j.sum && !factor[FACTOR_B]) continue; /* with what is no layer */
        real *made = calloc(c->count + joint_scratch(&j), sizeof *made);
        joint_push(made, NULL, factor, factor, &j, made + c->count);
        double most = 0;
        for (size_t i = 0; i < c->count; i++) {
            double x;
            array_to_double(&x, c, i, 1);
            most = fmax(most, fabs(x - (double)made[i]));
        }
        ok(most < 1e-4, "%s is off by %g", g->values[v].name, most);
        free(made);
    }
}

#endif
