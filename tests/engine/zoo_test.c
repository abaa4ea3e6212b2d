/* Every step of the table on every architecture of ONNX's `light` set, and chains of exact ones: what zoo_steps.h expects of
 * each holds, and what claims to be exact is proved, in double and single precision, in use and in training. */
#define TEST_SECONDS 300
#include "tests/test.h"

#include <limits.h>

#include "base/text.h"
#include "engine/formats/onnx.h"
#define MD_SAMPLES 8
#define MD_SCALE 60.0 /* the architectures take images of +-128 */
#include "tests/engine/morph_kit.h"
#include "tests/engine/zoo_steps.h"

enum { ROWS = sizeof zoo_rows / sizeof *zoo_rows, CHAINS = 4, CHAIN = 6, DEEP = 50 };

/* ---- the architectures ---- */

static bool read_file(struct graph **g, const char *path, struct err *e) {
    FILE *f = fopen(path, "rb");
    if (!f) return false;
    fseek(f, 0, SEEK_END);
    size_t size = (size_t)ftell(f);
    rewind(f);
    char *bytes = mem_alloc(size + 1);
    bool good = bytes && fread(bytes, 1, size, f) == size && !onnx_read(g, bytes, size, e);
    fclose(f);
    mem_free(bytes);
    return good;
}

static struct graph *load(const struct architecture *a) {
    char path[] = "/tmp/retort-zoo-XXXXXX";
    struct graph *g = NULL;
    struct err e = {0};
    int file = mkstemp(path), status = 0;
    if (!ok(file >= 0, "no temporary file")) return NULL;
    close(file);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        execlp("node", "node", "tests/js/zoo.js", a->name, path, a->height, a->width, a->share, (char *)NULL);
        _exit(127);
    }
    waitpid(pid, &status, 0);
    ok(status == 0 && read_file(&g, path, &e), "zoo.js makes no %s that can be read: %s", a->name, e.text);
    unlink(path);
    return g;
}

/* ---- proofs ---- */

/* A copy whose output is what goes into the final Softmax: that would hide differences. */
static struct graph *logits(const struct graph *from) {
    struct graph *g;
    struct err e = {0};
    if (!ok(!graph_clone(&g, from, &e), "%s", e.text)) return NULL;
    int maker = g->values[g->outputs[0]].producer;
    if (maker >= 0 && strcmp(g->nodes[maker].op->name, "Softmax") == 0) g->outputs[0] = g->nodes[maker].inputs[0];
    ok(!graph_finish(g, &e), "%s", e.text);
    return g;
}

static float *images(const struct graph *g) {
    struct shape shape = g->values[g->inputs[0]].shape;
    size_t n;
    struct random r = random_seed(9);
    shape.dim[0] = MD_SAMPLES;
    shape_count(&n, &shape, NULL);
    float *x = mem_alloc(n * sizeof *x);
    for (size_t i = 0; i < n && x; i++) x[i] = (float)(MD_SCALE * random_normal(&r));
    return x;
}

/* The largest difference in units of the largest output, over all kinds of inputs. */
static double relative(const struct proof *p, enum proof_precision precision) {
    double worst = 0;
    for (int i = 0; i < PROOF_INPUTS; i++) {
        const struct deviation *d = &p->inputs[i][PROOF_INFERENCE][precision];
        if (d->measured && d->max > 0) worst = fmax(worst, d->max / d->largest);
    }
    return worst;
}

static void check_exact(const struct proof *p, const char *what) {
    double twice = relative(p, PROOF_DOUBLE), once = relative(p, PROOF_SINGLE);
    ok(p->exact, "%s: off by %.2g in double, %.2g in single, %.2g in training; at '%s'", what, twice, once,
       p->worst[PROOF_TRAINING][PROOF_DOUBLE].max, p->first.node ? p->first.node : "?");
    ok(twice <= 1e-10, "%s: off by %.2g in double", what, twice);
    ok(once <= (p->layers > DEEP ? 1e-4 : 1e-5), "%s: off by %.2g in single", what, once);
    for (int i = 0; i < p->n_gradients; i++) /* a bias that a normalisation takes out has a gradient of rounding */
        ok(!p->gradients[i].dead || p->gradients[i].norm > 0, "%s: '%s' never gets a gradient", what,
           p->gradients[i].parameter);
}

static void check_lossy(const struct proof *p, const char *what) {
    const struct deviation *d = &p->inputs[PROOF_DATA][PROOF_INFERENCE][PROOF_DOUBLE];
    ok(!p->exact, "%s: lost nothing", what);
    ok(d->measured && isfinite(d->max), "%s: off by %g on the data", what, d->max);
    ok(p->divergence.samples == MD_SAMPLES && p->divergence.mean > 0 && isfinite(p->divergence.largest),
       "%s: a divergence of %g on %d samples", what, p->divergence.mean, p->divergence.samples);
}

static void prove_logits(const struct graph *parent, const struct graph *child, enum promise promise, bool training,
                         const char *what) {
    struct graph *f = logits(parent), *g = logits(child);
    float *data = images(parent);
    const float *rows[] = {data};
    struct proof p;
    struct err e = {0};
    struct proof_options o = {.seed = 3, .samples = 2, .threads = 1, .data = rows, .data_samples = MD_SAMPLES};
    o.logits = true;
    o.training_expected = promise == EXACT && training;
    o.approximate = o.no_gradients = promise != EXACT;
    if (f && g && ok(!proof_run(&p, f, g, &o, &e), "%s: %s", what, e.text)) {
        (promise == EXACT ? check_exact : check_lossy)(&p, what);
        proof_free(&p);
    }
    mem_free(data);
    graph_free(f);
    graph_free(g);
}

/* ---- the table ---- */

/* How many nodes the step can change; the report tells what of those it cannot. */
static int applicable(struct morphing *m, const struct morph_step *s, struct text *report) {
    struct json_writer w = json_writer(report);
    struct err e = {0};
    int *nodes = NULL, n = 0;
    json_open_object(&w, NULL);
    if (morph_find(&nodes, &n, m, s, &w, &e)) n = 0;
    json_close_object(&w);
    mem_free(nodes);
    return n;
}

/* Whether the text has one of the phrases, which have | between them. */
static bool has_one(const char *text, const char *phrases) {
    char phrase[128];
    for (const char *from = phrases; *from; from += strcspn(from, "|"), from += *from == '|') {
        text_print(phrase, sizeof phrase, "%.*s", (int)strcspn(from, "|"), from);
        if (strstr(text, phrase)) return true;
    }
    return false;
}

static void try_row(const struct zoo_row *row, int at, const struct graph *parent) {
    struct morph_step s;
    struct morphing m;
    struct graph *copy;
    struct text report;
    struct err e = {0};
    char what[256];
    text_print(what, sizeof what, "%s, %s", zoo[at].name, row->step);
    if (!parse_step(&s, row->step) || !ok(!graph_clone(&copy, parent, &e), "%s: %s", what, e.text)) return;
    text_init(&report, 1 << 24);
    morphing_init(&m, copy, 5, row->promise == LOSSY_WITHOUT_DATA ? NULL : &md_data);
    int n = applicable(&m, &s, &report);
    ok(n == row->nodes[at], "%s: changes %d nodes, not %d", what, n, row->nodes[at]);
    ok(morph_is_exact(&s) == (row->promise == EXACT), "%s: claims otherwise", what);
    if (!n)
        ok(has_one(report.data, row->reason), "%s: no reason has '%s'", what, row->reason);
    else if (ok(!morph_apply(&m, &s, NULL, &e), "%s: %s", what, e.text))
        prove_logits(parent, m.graph, row->promise, !morph_training(&s, morph_count_norms(parent), m.graph), what);
    text_free(&report);
    morphing_fini(&m);
}

/* What the steps that come first make of the network, those that apply. */
static struct graph *prepare(const struct zoo_row *row, const struct graph *from) {
    struct graph *g = NULL;
    struct err e = {0};
    ok(!graph_clone(&g, from, &e) && !graph_finish(g, &e), "%s", e.text);
    for (int i = 0; i < 2 && row->before[i]; i++) {
        struct graph *next = grown(g, row->before[i], &md_data, NULL, &e);
        if (!next) continue;
        graph_free(g);
        g = next;
    }
    return g;
}

static void try_rows(int at, const struct graph *parent) {
    for (int i = 0; i < ROWS; i++) {
        struct graph *g = prepare(&zoo_rows[i], parent);
        if (g) try_row(&zoo_rows[i], at, g);
        graph_free(g);
    }
}

/* ---- chains ---- */

/* The node nearest to the place, a share of the way through, of those that the step can change: steps of a chain are to
 * meet each other. */
static bool aim(struct morph_step *s, struct morphing *m, double place) {
    struct err e = {0};
    int *nodes = NULL, n = 0, best = -1;
    if (morph_find(&nodes, &n, m, s, NULL, &e)) return false;
    double way = place * m->graph->n_nodes;
    for (int i = 0; i < n; i++)
        if (best < 0 || fabs(nodes[i] - way) < fabs(best - way)) best = nodes[i];
    mem_free(nodes);
    text_copy(s->layer, sizeof s->layer, m->graph->nodes[best].name);
    return true;
}

static void try_chain(int at, const struct graph *parent, uint64_t seed) {
    struct random r = random_seed(seed);
    double place = random_unit(&r);
    struct morphing m;
    struct graph *copy;
    struct text what;
    struct err e = {0};
    bool training = true;
    int applied = 0, status = graph_clone(&copy, parent, &e);
    need(!status, "%s", e.text);
    text_init(&what, 1 << 16);
    text_format(&what, "%s, chain %d", zoo[at].name, (int)seed);
    morphing_init(&m, copy, seed, &md_data);
    for (int tries = 0; tries < 10 * CHAIN && applied < CHAIN && !status; tries++) {
        const struct zoo_row *row = &zoo_rows[random_below(&r, ROWS)];
        struct morph_step s;
        if (row->promise != EXACT || !parse_step(&s, row->step) || !aim(&s, &m, place)) continue;
        text_format(&what, ", %s at %s", row->step, s.layer);
        int norms = morph_count_norms(m.graph);
        status = morph_apply(&m, &s, NULL, &e);
        training = training && !morph_training(&s, norms, m.graph);
        applied++;
    }
    if (ok(!status, "%s: %s", what.data, e.text)) {
        ok(applied == CHAIN, "%s: only %d steps", what.data, applied);
        prove_logits(parent, m.graph, EXACT, training, what.data);
    }
    text_free(&what);
    morphing_fini(&m);
}

/* ---- tests ---- */

static void walk(int at) {
    struct graph *parent = load(&zoo[at]);
    need(parent != NULL, "no network");
    try_rows(at, parent);
    for (uint64_t seed = 1; seed <= CHAINS; seed++) try_chain(at, parent, seed);
    graph_free(parent);
}

#define ARCHITECTURE(index, name) \
    TEST(name) { \
        walk(index); \
    }
ARCHITECTURE(0, bvlc_alexnet)
ARCHITECTURE(1, densenet121)
ARCHITECTURE(2, inception_v1)
ARCHITECTURE(3, inception_v2)
ARCHITECTURE(4, resnet50)
ARCHITECTURE(5, shufflenet)
ARCHITECTURE(6, squeezenet)
ARCHITECTURE(7, vgg19)
ARCHITECTURE(8, zfnet512)

TEST_MAIN
