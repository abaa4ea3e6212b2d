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

int lossy_check(const struct morph_data *data, const struct graph *g, int value, struct err *e) {
    double *x = NULL;
    size_t n;
    int status = patches_sample(&x, &n, data, g, value, 1, e);
    mem_free(x);
    return status;
}

int lossy_write(struct json_writer *w, const char *name, const struct morph_data *data, const struct graph *before,
                const struct graph *after, int value, struct err *e) {
    double *a = NULL, *b = NULL;
    size_t n = 0, other = 0;
    struct pair p = {.each = 1, .rows = before->values[value].shape.rank == 2};
    if (!w) return lossy_check(data, before, value, e);
    p.each = patches_elements(before, value);
    int status = patches_sample(&a, &n, data, before, value, SAMPLES, e);
    if (!status) status = patches_sample(&b, &other, data, after, value, SAMPLES, e);
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
