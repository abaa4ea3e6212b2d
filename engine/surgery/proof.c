/* proof.c - the passes of a proof, and the verdict. */
#include "engine/surgery/proof.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "base/text.h"
#include "engine/nn/infer.h"
#include "engine/nn/net.h"
#include "engine/nn/op.h"
#include "engine/surgery/proof_parts.h"

/* ---- do the graphs fit together ---- */

static int different_shapes(const char *what, int i, const struct shape *f, const struct shape *g, struct err *e) {
    char one[96], two[96];
    shape_print(one, sizeof one, f);
    shape_print(two, sizeof two, g);
    return err_set(e, E_INVALID, "%s %d has the shape %s before and %s after", what, i, one, two);
}

static int compare_ends(struct trial *t, struct inferred *const known[SIDES], struct err *e) {
    const struct graph *f = t->graphs[PARENT], *g = t->graphs[CHILD];
    if (f->n_inputs != g->n_inputs || f->n_outputs != g->n_outputs)
        return err_set(e, E_INVALID, "%d inputs and %d outputs before, %d and %d after", f->n_inputs, f->n_outputs,
                       g->n_inputs, g->n_outputs);
    for (int i = 0; i < f->n_inputs; i++) {
        const struct shape *a = &known[PARENT]->values[f->inputs[i]].shape;
        const struct shape *b = &known[CHILD]->values[g->inputs[i]].shape;
        if (!shape_equal(a, b)) return different_shapes("input", i, a, b, e);
    }
    for (int i = 0; i < f->n_outputs; i++) {
        const struct shape *a = &known[PARENT]->values[f->outputs[i]].shape;
        const struct shape *b = &known[CHILD]->values[g->outputs[i]].shape;
        if (!shape_equal(a, b)) return different_shapes("output", i, a, b, e);
        t->shapes[i] = *a;
    }
    return 0;
}

/* ---- inputs ---- */

bool proof_tries(const struct trial *t, enum proof_mode mode, enum proof_input input) {
    if (input == PROOF_DATA) return t->options->data && t->options->data_samples > 0;
    return mode == PROOF_INFERENCE || input == PROOF_NORMAL;
}

static double draw(struct random *r, enum proof_input input, bool whole) {
    static const double center[PROOF_INPUTS] = {[PROOF_HIGH] = 10, [PROOF_LOW] = -10};
    if (input == PROOF_ZEROS) return 0;
    if (whole) return (double)random_below(r, 2);
    return (double)(float)(center[input] + random_normal(r));
}

/* Both precisions get numbers that float has. */
static void fill_input(const struct trial *t, enum proof_input input, int i, double *x, size_t n) {
    struct random all = random_seed(t->options->seed), r = random_split(&all, (uint64_t)input * 1000 + (uint64_t)i);
    bool whole = !dtype_is_real(t->graphs[PARENT]->values[t->graphs[PARENT]->inputs[i]].type);
    size_t row = n < (size_t)t->samples ? 1 : n / (size_t)t->samples;
    for (size_t k = 0; k < n; k++)
        if (input == PROOF_DATA)
            x[k] = (double)t->options->data[i][k / row % t->options->data_samples * row + k % row];
        else
            x[k] = draw(&r, input, whole);
}

static int make_inputs(struct trial *t, const struct inferred *known, struct err *e) {
    const struct graph *f = t->graphs[PARENT];
    size_t total = 0, bytes;
    for (int i = 0; i < f->n_inputs; i++)
        if (!mem_add(&total, total, proof_count(&known->values[f->inputs[i]].shape))) return err_memory(e, SIZE_MAX);
    if (!mem_mul(&bytes, total, PROOF_INPUTS * sizeof(double))) return err_memory(e, SIZE_MAX);
    t->own += bytes;
    t->numbers = mem_alloc(bytes);
    t->inputs = mem_calloc((size_t)f->n_inputs * PROOF_INPUTS + 1, sizeof *t->inputs);
    if (!t->numbers || !t->inputs) return err_memory(e, bytes);
    double *at = t->numbers;
    for (int input = 0; input < PROOF_INPUTS; input++)
        for (int i = 0; i < f->n_inputs; i++) {
            size_t n = proof_count(&known->values[f->inputs[i]].shape);
            if (proof_tries(t, PROOF_INFERENCE, (enum proof_input)input))
                fill_input(t, (enum proof_input)input, i, at, n);
            t->inputs[input * f->n_inputs + i] = at;
            at += n;
        }
    return 0;
}

static void trial_close(struct trial *t) {
    mem_free(t->shapes);
    mem_free(t->numbers);
    mem_free(t->inputs);
    t->shapes = NULL;
    t->numbers = NULL;
    t->inputs = NULL;
}

static int trial_open(struct trial *t, struct err *e) {
    struct inferred *known[SIDES] = {0};
    t->own = 0;
    t->shapes = mem_calloc((size_t)t->graphs[PARENT]->n_outputs + 1, sizeof *t->shapes);
    int status = t->shapes ? 0 : err_memory(e, sizeof *t->shapes);
    for (int side = 0; side < SIDES && !status; side++)
        status = graph_infer(&known[side], t->graphs[side], t->samples, e);
    if (!status) status = compare_ends(t, known, e);
    if (!status && t->graphs[PARENT]->n_inputs)
        t->row = proof_count(&known[PARENT]->values[t->graphs[PARENT]->inputs[0]].shape) / (size_t)t->samples;
    if (!status) status = make_inputs(t, known[PARENT], e);
    inferred_free(known[PARENT]);
    inferred_free(known[CHILD]);
    return status;
}

/* ---- passes ---- */

static struct answers outputs_of(const struct trial *t, enum proof_mode mode) {
    struct answers a = {.values = {t->graphs[PARENT]->outputs, t->graphs[CHILD]->outputs},
                        .shapes = t->shapes,
                        .n = t->graphs[PARENT]->n_outputs};
    for (int input = 0; input < PROOF_INPUTS; input++)
        if (proof_tries(t, mode, (enum proof_input)input)) a.inputs[a.n_inputs++] = (enum proof_input)input;
    return a;
}

/* What may be left out, by name; without the one that has none nothing can be said. */
static const char *const left_out_as[PROOF_MODES][PROOF_PRECISIONS] = {
    [PROOF_INFERENCE] = {[PROOF_DOUBLE] = "float64"},
    [PROOF_TRAINING] = {[PROOF_DOUBLE] = "float64 training", [PROOF_SINGLE] = "float32 training"},
};

/* What to do about an error of a pass: fewer samples are tried first, then the pass is left out. */
static int forgive(struct proof *out, const struct trial *t, enum proof_mode mode, const char *name, int status,
                   const struct err *why, struct err *e) {
    size_t used = strlen(out->left_out);
    bool smaller = status == E_TOO_LARGE && t->samples > 1 && !t->fixed;
    bool optional = status == E_TOO_LARGE || (status == E_UNSUPPORTED && mode == PROOF_TRAINING);
    if (!name || smaller || !optional) return err_set(e, status, "%s", why->text);
    text_print(out->left_out + used, sizeof out->left_out - used, "%s%s: %.150s", used ? "; " : "", name, why->text);
    return 0;
}

/* `exact` are the answers in double, when there are any. */
static void judge(struct proof *out, const struct trial *t, const struct answers *a, const struct answers *exact,
                  enum proof_mode mode, enum proof_precision precision) {
    struct deviation *worst = &out->worst[mode][precision];
    for (int pass = 0; pass < a->n_inputs; pass++) {
        struct deviation *here = &out->inputs[a->inputs[pass]][mode][precision];
        for (int i = 0; i < a->n; i++) {
            struct deviation d =
                proof_compare(t, &a->shapes[i], proof_answer(a, PARENT, pass, i), proof_answer(a, CHILD, pass, i),
                              exact ? proof_answer(exact, PARENT, pass, i) : NULL, precision);
            d.output = i;
            if (!here->measured || proof_is_worse(&d, here)) *here = d;
        }
        if (here->measured && (!worst->measured || proof_is_worse(here, worst))) *worst = *here;
    }
}

/* Double first: it tells what rounding does in single. */
static int try_mode(struct proof *out, struct trial *t, enum proof_mode mode, struct err *e) {
    static const enum proof_precision order[PROOF_PRECISIONS] = {PROOF_DOUBLE, PROOF_SINGLE};
    struct answers a[PROOF_PRECISIONS] = {outputs_of(t, mode), outputs_of(t, mode)};
    int status = 0;
    for (int k = 0; k < PROOF_PRECISIONS && !status; k++) {
        enum proof_precision precision = order[k];
        struct err why = {0};
        status = proof_answers_init(&a[precision], t, &why);
        if (!status) status = proof_ask(&a[precision], t, mode, precision, &why);
        if (status) {
            status = forgive(out, t, mode, left_out_as[mode][precision], status, &why, e);
            continue;
        }
        bool told = precision == PROOF_SINGLE && out->worst[mode][PROOF_DOUBLE].measured;
        judge(out, t, &a[precision], told ? &a[PROOF_DOUBLE] : NULL, mode, precision);
    }
    for (int k = 0; k < PROOF_PRECISIONS; k++) proof_answers_fini(&a[k], t);
    return status;
}

/* ---- the verdict ---- */

static bool is_equal(const struct deviation *d) {
    return !d->measured || d->equal;
}

/* The input on which the worst deviation of that kind was met. */
static enum proof_input worst_input(const struct proof *p, enum proof_mode mode, enum proof_precision precision) {
    int worst = PROOF_NORMAL;
    for (int i = 0; i < PROOF_INPUTS; i++) {
        const struct deviation *d = &p->inputs[i][mode][precision], *w = &p->inputs[worst][mode][precision];
        if (d->measured && (!w->measured || proof_is_worse(d, w))) worst = i;
    }
    return (enum proof_input)worst;
}

static int decide(struct proof *out, struct trial *t, struct err *e) {
    static const struct {
        enum proof_mode mode;
        enum proof_precision precision;
    } counts[] = {{PROOF_INFERENCE, PROOF_DOUBLE}, {PROOF_TRAINING, PROOF_DOUBLE}, {PROOF_INFERENCE, PROOF_SINGLE}};
    out->exact = true;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        enum proof_mode mode = counts[i].mode;
        enum proof_precision precision = counts[i].precision;
        if (mode == PROOF_TRAINING && !out->training_expected) continue;
        if (is_equal(&out->worst[mode][precision])) continue;
        out->exact = false;
        if (t->options->approximate) return 0;
        return proof_search(out, t, mode, precision, worst_input(out, mode, precision), e);
    }
    return 0;
}

/* ---- the whole ---- */

static int count_nodes(const struct graph *g, const char *const *names) {
    int n = 0;
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; names[k]; k++) n += strcmp(g->nodes[i].op->name, names[k]) == 0;
    return n;
}

static int larger(int a, int b) {
    return a > b ? a : b;
}

static void expect_training(struct proof *out, const struct trial *t) {
    static const char *const random[] = {"Dropout", NULL};
    bool drops = count_nodes(t->graphs[PARENT], random) || count_nodes(t->graphs[CHILD], random);
    out->training_expected = t->options->training_expected && !drops;
    if (!out->training_expected)
        text_copy(out->training_reason, sizeof out->training_reason,
                  t->options->training_expected ? "Dropout drops at random"
                  : t->options->training_reason ? t->options->training_reason
                                                : "");
}

static int choose_samples(const struct trial *t, const struct proof *p) {
    enum { FEW = 2, MANY = 8 };
    const int64_t large = 500000000; /* multiply-adds of one sample */
    int wished = t->options->samples;
    if (wished <= 0) wished = p->after.macs > large || p->before.macs > large ? FEW : MANY;
    return wished > PROOF_SAMPLES ? PROOF_SAMPLES : wished;
}

static void find_batch(struct trial *t) {
    for (int side = 0; side < SIDES; side++)
        for (int i = 0; i < t->graphs[side]->n_inputs; i++) {
            const struct shape *s = &t->graphs[side]->values[t->graphs[side]->inputs[i]].shape;
            if (s->rank < 1 || s->dim[0] == DIM_BATCH || t->fixed) continue;
            t->fixed = true;
            t->samples = s->dim[0] > 0 && s->dim[0] < INT32_MAX ? (int)s->dim[0] : 1;
        }
}

/* One attempt, with so many samples. */
static int attempt(struct proof *out, struct trial *t, struct err *e) {
    memset(out->inputs, 0, sizeof out->inputs);
    memset(out->worst, 0, sizeof out->worst);
    out->divergence = (struct proof_divergence){0};
    out->left_out[0] = '\0';
    out->samples = t->samples;
    int status = trial_open(t, e);
    for (int mode = 0; mode < PROOF_MODES && !status; mode++) status = try_mode(out, t, (enum proof_mode)mode, e);
    if (!status) {
        struct err why = {0};
        status = proof_measure_divergence(out, t, &why);
        if (status) status = forgive(out, t, PROOF_INFERENCE, "divergence", status, &why, e);
    }
    if (!status && !t->options->no_gradients) {
        struct err why = {0};
        status = proof_measure_gradients(out, t, &why);
        if (status)
            status = forgive(out, t, PROOF_TRAINING, left_out_as[PROOF_TRAINING][PROOF_DOUBLE], status, &why, e);
    }
    if (!status) status = decide(out, t, e);
    trial_close(t);
    return status;
}

int proof_run(struct proof *out, const struct graph *parent, const struct graph *child, const struct proof_options *o,
              struct err *e) {
    static const char *const layers[] = {"Conv", "Gemm", "MatMul", NULL};
    struct trial t = {.graphs = {parent, child}, .options = o};
    struct err why = {0};
    *out = (struct proof){.layers = larger(count_nodes(parent, layers), count_nodes(child, layers)), .trainable = true};
    expect_training(out, &t);
    t.gain_single = out->layers > 50 ? 1e-4 : 1e-5;
    int status = graph_measure(&out->before, parent, e);
    if (!status) status = graph_measure(&out->after, child, e);
    if (status) return status;
    t.samples = choose_samples(&t, out);
    find_batch(&t);
    for (;; t.samples /= 2) {
        why = (struct err){0};
        status = attempt(out, &t, &why);
        if (status != E_TOO_LARGE || t.samples == 1 || t.fixed) break;
    }
    if (!status) return 0;
    proof_free(out);
    return err_set(e, status, "%s", why.text);
}

/* The network of one pass as outputs_single opens it. */
static int plan_pass(const struct trial *t, int side, struct crew *crew, struct err *e) {
    struct net *net = NULL;
    size_t memory = t->options->memory;
    struct net_options options = {.batch = t->samples, .memory = memory > t->own ? memory - t->own : 1};
    int status = net_new(&net, t->graphs[side], crew, &options, e);
    net_free(net);
    return status;
}

int proof_fits(const struct graph *parent, const struct graph *child, const struct proof_options *o, struct err *e) {
    struct trial t = {.graphs = {parent, child}, .options = o, .samples = 1};
    struct answers a[PROOF_PRECISIONS] = {0};
    struct crew *crew = NULL;
    if (!o->memory) return 0;
    find_batch(&t);
    int status = trial_open(&t, e);
    for (int k = 0; k < PROOF_PRECISIONS && !status; k++) {
        a[k] = outputs_of(&t, PROOF_INFERENCE);
        status = proof_answers_init(&a[k], &t, e);
    }
    if (!status) status = crew_new(&crew, o->threads, e);
    for (int side = 0; side < SIDES && !status; side++) status = plan_pass(&t, side, crew, e);
    crew_free(crew);
    for (int k = 0; k < PROOF_PRECISIONS; k++) proof_answers_fini(&a[k], &t);
    trial_close(&t);
    return status;
}

void proof_free(struct proof *p) {
    if (!p) return;
    for (int i = 0; i < p->n_gradients; i++) mem_free(p->gradients[i].parameter);
    mem_free(p->gradients);
    mem_free(p->first.node);
    mem_free(p->first.value);
    mem_free(p->first.last_equal);
    *p = (struct proof){0};
}
