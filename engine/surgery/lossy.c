/* lossy.c - differences on data, for reports. */
#include "engine/surgery/lossy.h"

#include <math.h>

#include "base/memory.h"
#include "engine/surgery/patches.h"

enum { SAMPLES = 256 };

size_t lossy_calibrate(size_t n) {
    return n < 4 ? n - (n > 1) : n - n / 4;
}

static size_t largest(const double *x, size_t n) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

struct pair {
    const double *before, *after;
    size_t each;
    bool rows;
};

static void write_part(struct json_writer *w, const char *name, const struct pair *p, size_t from, size_t to) {
    const double *a = p->before, *b = p->after;
    double left = 0, whole = 0, most = 0, agree = 0;
    for (size_t i = from * p->each; i < to * p->each; i++) {
        left += (a[i] - b[i]) * (a[i] - b[i]), whole += a[i] * a[i];
        most = fmax(most, fabs(a[i] - b[i]));
    }
    for (size_t s = from; s < to; s++) agree += largest(a + s * p->each, p->each) == largest(b + s * p->each, p->each);
    json_open_object(w, name);
    json_put_number(w, "relative_error", whole > 0 ? sqrt(left / whole) : 0);
    json_put_number(w, "largest_difference", most);
    if (p->rows) json_put_number(w, "same_argmax", to > from ? agree / (double)(to - from) : 0);
    json_put_int(w, "samples", (int64_t)(to - from));
    json_close_object(w);
}

/* As many samples as an eighth of the memory has room for, of both networks. */
static size_t affordable(const struct morphing *m, size_t each) {
    size_t most = m->memory ? m->memory / 8 / (2 * sizeof(double) * each + 1) : SAMPLES;
    return most < 1 ? 1 : most < SAMPLES ? most : SAMPLES;
}

int lossy_write(struct json_writer *w, const char *name, const struct morphing *m, const struct graph *before,
                int value, struct err *e) {
    double *a = NULL, *b = NULL;
    size_t n = 0, other = 0;
    struct pair p = {.each = patches_elements(before, value), .rows = before->values[value].shape.rank == 2};
    size_t most = affordable(m, p.each);
    int status = patches_sample(&a, &n, m->data, before, value, most, e);
    if (!status && w) status = patches_sample(&b, &other, m->data, m->graph, value, most, e);
    if (!status && n == other) {
        p.before = a, p.after = b;
        json_open_object(w, name);
        write_part(w, "calibration", &p, 0, lossy_calibrate(n));
        write_part(w, "held_out", &p, lossy_calibrate(n), n);
        json_close_object(w);
    }
    mem_free(a);
    mem_free(b);
    return status;
}
