/* How differently two networks classify: the divergence in a proof, against sums by hand. */
#include "base/memory.h"
#include "engine/surgery/proof.h"
#include "tests/base/starve.h"
#include "tests/engine/proof_graphs.h"

enum { SAMPLES = 10, PIXELS = 3, CLASSES = 4, BATCH = 4 };

static float pictures[SAMPLES * PIXELS];

/* One dense layer, perhaps with a Softmax behind it. */
static struct graph *classifier(bool softmax) {
    int x = start(SHAPE(DIM_BATCH, PIXELS));
    int y = NODE("Gemm", "head", x, constant("w", SHAPE(PIXELS, CLASSES), 0, 1), constant("b", SHAPE(CLASSES), 0, 1));
    for (int i = 0; i < SAMPLES * PIXELS; i++) pictures[i] = (float)(2 * random_normal(&r));
    return finish(softmax ? NODE("Softmax", "p", y) : y);
}

static void answer(double *p, const struct graph *from, const float *x) {
    const float *w = from->values[graph_find_value(from, "w")].constant->data;
    const float *b = from->values[graph_find_value(from, "b")].constant->data;
    double sum = 0;
    for (int c = 0; c < CLASSES; c++) {
        p[c] = (double)b[c];
        for (int i = 0; i < PIXELS; i++) p[c] += (double)x[i] * (double)w[i * CLASSES + c];
    }
    for (int c = 0; c < CLASSES; c++) sum += p[c] = exp(p[c]);
    for (int c = 0; c < CLASSES; c++) p[c] /= sum;
}

static int best(const double *p) {
    int at = 0;
    for (int c = 1; c < CLASSES; c++) at = p[c] > p[at] ? c : at;
    return at;
}

static struct proof_divergence by_hand(const struct graph *f, const struct graph *to) {
    struct proof_divergence d = {.samples = SAMPLES};
    for (int s = 0; s < SAMPLES; s++) {
        double p[CLASSES], q[CLASSES], sum = 0;
        answer(p, f, pictures + s * PIXELS);
        answer(q, to, pictures + s * PIXELS);
        for (int c = 0; c < CLASSES; c++) sum += p[c] * log(p[c] / q[c]);
        d.mean += sum / SAMPLES;
        d.largest = fmax(d.largest, sum);
        d.same_argmax += best(p) == best(q) ? 1.0 / SAMPLES : 0;
    }
    return d;
}

static bool run(struct proof *p, const struct graph *f, const struct graph *to, bool logits) {
    const float *data[] = {pictures};
    struct err e = {0};
    struct proof_options o = {
        .samples = BATCH, .threads = 1, .approximate = true, .data = data, .data_samples = SAMPLES, .logits = logits};
    return ok(!proof_run(p, f, to, &o, &e), "%s", e.text);
}

/* The child has other weights, so that it answers otherwise now and then. */
static struct graph *other(const struct graph *f) {
    struct graph *to = clone(f);
    float *w = to->values[graph_find_value(to, "w")].constant->data;
    for (int i = 0; i < PIXELS * CLASSES; i++) w[i] += (float)(0.5 * random_normal(&r));
    return to;
}

TEST(divergences_are_those_of_softmax) {
    for (int softmax = 0; softmax < 2; softmax++) {
        struct graph *f = classifier(softmax), *to = other(f);
        struct proof_divergence right = by_hand(f, to);
        struct proof p;
        if (!run(&p, f, to, true)) return;
        const struct proof_divergence *d = &p.divergence;
        ok(d->measured && d->samples == SAMPLES, "%d samples", d->samples);
        ok(fabs(d->mean - right.mean) < 1e-5 && right.mean > 0.01, "a mean of %g is %g", right.mean, d->mean);
        ok(fabs(d->largest - right.largest) < 1e-5, "at most %g is %g", right.largest, d->largest);
        ok(fabs(d->same_argmax - right.same_argmax) < 1e-9, "share %g is %g", right.same_argmax, d->same_argmax);
        proof_free(&p);
        graph_free(f), graph_free(to);
    }
}

TEST(equal_networks_do_not_diverge) {
    struct graph *f = classifier(false), *to = clone(f);
    struct proof p;
    if (!run(&p, f, to, true)) return;
    ok(p.divergence.measured && p.divergence.mean == 0 && p.divergence.same_argmax == 1, "%g", p.divergence.mean);
    proof_free(&p);
    graph_free(f), graph_free(to);
}

/* A class that is as good as excluded keeps the sum finite. */
TEST(large_logits_stay_finite) {
    struct graph *f = classifier(true), *to = clone(f);
    ((float *)to->values[graph_find_value(to, "b")].constant->data)[1] = -1e4f;
    struct proof p;
    if (!run(&p, f, to, true)) return;
    ok(isfinite(p.divergence.mean) && p.divergence.mean > 0, "%g", p.divergence.mean);
    proof_free(&p);
    graph_free(f), graph_free(to);
}

/* Single precision on one sample does with less memory. */
TEST(a_divergence_that_does_not_fit_is_named) {
    enum { WIDE = 400 };
    static float wide[SAMPLES * WIDE];
    int x = start(SHAPE(DIM_BATCH, WIDE));
    struct graph *f = finish(NODE("Gemm", "head", x, constant("w", SHAPE(WIDE, CLASSES), 0, 1)));
    const float *data[] = {wide};
    int unmeasured = 0, measured = 0;
    for (size_t memory = 500; memory < 100000; memory += memory / 50) {
        struct proof_options o = {.threads = 1,
                                  .approximate = true,
                                  .data = data,
                                  .data_samples = SAMPLES,
                                  .logits = true,
                                  .no_gradients = true,
                                  .memory = memory};
        struct proof p;
        struct err e = {0};
        if (proof_run(&p, f, f, &o, &e)) continue;
        bool named = strstr(p.left_out, "divergence: ") != NULL;
        ok(named == !p.divergence.measured, "%zu bytes: '%s'", memory, p.left_out);
        unmeasured += !p.divergence.measured;
        measured += p.divergence.measured;
        proof_free(&p);
    }
    ok(unmeasured && measured, "%d without and %d with a divergence", unmeasured, measured);
    graph_free(f);
}

static char *report(const struct proof *p) {
    struct text t;
    text_init(&t, 1 << 20);
    struct json_writer w = json_writer(&t);
    proof_write(&w, NULL, p);
    return text_take(&t);
}

TEST(only_classes_are_told_apart) {
    struct graph *f = classifier(false), *to = other(f);
    struct proof p;
    char line[512];
    if (!run(&p, f, to, false)) return;
    char *text = report(&p);
    ok(!p.divergence.measured && strstr(text, "\"divergence\":null"), "nobody said that these are classes: %s", text);
    mem_free(text);
    proof_free(&p);
    if (!run(&p, f, to, true)) return;
    text = report(&p);
    ok(strstr(text, "\"divergence\":{\"mean\":") && strstr(text, "\"same_argmax\":"), "%s", text);
    proof_describe(line, sizeof line, &p);
    ok(strstr(line, "KL divergence"), "%s", line);
    mem_free(text);
    proof_free(&p);
    graph_free(f), graph_free(to);
    /* a map is no row of classes */
    f = finish(conv("c", start(SHAPE(DIM_BATCH, 1, 1, PIXELS)), 1, 2, 1, 1));
    to = clone(f);
    ((float *)to->values[graph_find_value(to, "c_w")].constant->data)[0] += 1;
    if (run(&p, f, to, true)) ok(!p.divergence.measured, "a map");
    proof_free(&p);
    graph_free(f), graph_free(to);
}

static struct graph *hungry_f, *hungry_g;

static int run_hungry(void) {
    const float *data[] = {pictures};
    struct proof p;
    struct proof_options o = {
        .samples = BATCH, .threads = 1, .approximate = true, .data = data, .data_samples = SAMPLES, .logits = true};
    int status = proof_run(&p, hungry_f, hungry_g, &o, NULL);
    if (!status) proof_free(&p);
    return status;
}

TEST(starved_divergences_leave_nothing) {
    hungry_f = classifier(false), hungry_g = other(hungry_f);
    starve("divergence", run_hungry);
    graph_free(hungry_f), graph_free(hungry_g);
}

TEST_MAIN
