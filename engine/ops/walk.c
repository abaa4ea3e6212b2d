/* walk.c - see walk.h. */
#include "engine/ops/walk.h"

#include <string.h>

/* Dimension of place `place` in memory, outermost first. */
static int dimension_at(int rank, enum layout layout, int place) {
    if (layout == LAYOUT_PLAIN || rank < 3 || place == 0) return place;
    return place == rank - 1 ? 1 : place + 1;
}

void walk_steps(ptrdiff_t *step, const struct shape *s, enum layout layout) {
    ptrdiff_t n = 1;
    for (int place = s->rank - 1; place >= 0; place--) {
        int d = dimension_at(s->rank, layout, place);
        step[d] = n;
        n *= (ptrdiff_t)s->dim[d];
    }
}

void walk_start(struct walk *w, const struct shape *shape, enum layout layout) {
    *w = (struct walk){.rank = shape->rank};
    for (int place = 0; place < shape->rank; place++) {
        w->axis[place] = dimension_at(shape->rank, layout, place);
        w->size[place] = (size_t)shape->dim[w->axis[place]];
    }
}

void walk_add(struct walk *w, const ptrdiff_t *step) {
    int k = w->operands++;
    for (int place = 0; place < w->rank; place++) w->step[place][k] = step[w->axis[place]];
}

void walk_add_tensor(struct walk *w, const struct shape *s, enum layout layout) {
    ptrdiff_t own[SHAPE_MAX_RANK], step[SHAPE_MAX_RANK] = {0};
    walk_steps(own, s, layout);
    for (int d = 0; d < s->rank; d++)
        if (s->dim[d] != 1) step[d + w->rank - s->rank] = own[d];
    walk_add(w, step);
}

static bool continues(const struct walk *w, int outer, int inner) {
    for (int k = 0; k < w->operands; k++)
        if (w->step[outer][k] != w->step[inner][k] * (ptrdiff_t)w->size[inner]) return false;
    return true;
}

void walk_close(struct walk *w) {
    int kept = 0;
    for (int place = 0; place < w->rank; place++) {
        if (w->size[place] == 1) continue;
        if (kept > 0 && continues(w, kept - 1, place)) {
            w->size[place] *= w->size[kept - 1];
            kept--;
        }
        w->size[kept] = w->size[place];
        memmove(w->step[kept], w->step[place], sizeof w->step[kept]);
        kept++;
    }
    w->rank = kept;
    if (kept) return;
    w->rank = 1; /* one element */
    w->size[0] = 1;
    memset(w->step[0], 0, sizeof w->step[0]);
}

void walk_run(const struct walk *w, const struct part *p, int batch, real *const *at, walk_row *row,
              const void *context) {
    size_t size[SHAPE_MAX_RANK], index[SHAPE_MAX_RANK] = {0};
    real *here[WALK_OPERANDS];
    memcpy(size, w->size, sizeof size);
    if (p) size[0] = size[0] * (size_t)p->count / (size_t)batch;
    for (int place = 0; place < w->rank; place++)
        if (size[place] == 0) return;
    memcpy(here, at, (size_t)w->operands * sizeof *here);
    int last = w->rank - 1;
    for (;;) {
        row(here, w->step[last], size[last], context);
        int place = last - 1;
        for (; place >= 0; place--) { /* the odometer's next place */
            bool turned = ++index[place] == size[place];
            ptrdiff_t times = turned ? 1 - (ptrdiff_t)size[place] : 1;
            for (int k = 0; k < w->operands; k++) here[k] += w->step[place][k] * times;
            if (!turned) break;
            index[place] = 0;
        }
        if (place < 0) return;
    }
}
