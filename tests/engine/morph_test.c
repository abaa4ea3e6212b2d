/* Morph steps: every kind of the table, in each of its samples, on random networks, one step and chains of them. The same
 * outputs before and after; built with REAL=double to 1e-10, as engine/surgery/morph.h promises. */
#define TEST_SECONDS 300
#include "tests/test.h"

#include "base/memory.h"
#include "base/text.h"
#include "engine/nn/net.h"
#include "engine/surgery/channels.h"
#include "tests/engine/morph_data.h"
#include "tests/engine/morph_step.h"
#include "tests/engine/random_graph.h"

/* Relative to the largest output; chains of six in float lose more than one step. */
#define TOLERANCE (DOUBLE ? 1e-10 : 2e-5)
#define DOUBLE (sizeof(real) == sizeof(double)) /* batches of little variance multiply rounding: training in double */

enum { GRAPHS = 300, CHAIN = 6, BATCH = 3 };

/* ---- outputs ---- */

/* The outputs for inputs drawn from the seed; in training mode the batch's own statistics count. */
static real *outputs(size_t *n, const struct graph *g, uint64_t seed, bool training) {
    struct crew *crew;
    struct net *net;
    struct err e = {0};
    struct random r = random_seed(seed);
    struct net_options options = {.batch = BATCH, .training = training};
    if (!ok(crew_new(&crew, 1, &e) == 0, "%s", e.text)) return NULL;
    if (!ok(net_new(&net, g, crew, &options, &e) == 0, "%s", e.text)) return NULL;
    struct shape in = net_input_shape(net, 0), out = net_output_shape(net, 0);
    size_t count;
    shape_count(&count, &in, NULL);
    shape_count(n, &out, NULL);
    double scale = exp(2 * random_normal(&r)), shift = random_normal(&r);
    for (size_t i = 0; i < count; i++) net_input(net, 0)[i] = (real)(shift + scale * random_normal(&r));
    net_forward(net, BATCH, random_seed(1), NULL, NULL);
    real *y = mem_copy(net_output(net, 0), *n * sizeof(real));
    net_free(net);
    crew_free(crew);
    return y;
}

/* max |f - g| / max |f| */
static double apart(const struct graph *f, const struct graph *g, uint64_t seed, bool training) {
    size_t n = 0, m = 0;
    real *a = outputs(&n, f, seed, training), *b = outputs(&m, g, seed, training);
    double worst = 0, most = 1e-30;
    if (!a || !b || !ok(n == m, "%zu outputs became %zu", n, m)) return 1;
    for (size_t i = 0; i < n; i++) {
        worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
        most = fmax(most, fabs((double)a[i]));
    }
    mem_free(a);
    mem_free(b);
    return worst / most;
}

/* ---- one kind ---- */

struct tally {
    int applied, refused;
    double worst;
};

/* Every other network has something rare. */
static struct graph *draw(uint64_t seed) {
    const uint64_t rare[] = {RG_UNIT_SLOPE, RG_ZERO_SLOPE, RG_EVEN,     RG_AUTO_PAD,   RG_DILATION,
                             RG_TIED,       RG_MAP,        RG_AUTO_PAD, RG_UNIT_SLOPE, RG_ZERO_SLOPE};
    struct random_graph r = {0};
    struct random_graph_options o = {.with = seed % 2 ? 0 : rare[seed / 2 % (sizeof rare / sizeof *rare)]};
    struct err e = {0};
    return ok(random_graph(&r, seed, &o, &e) == 0, "seed %llu: %s", (unsigned long long)seed, e.text) ? r.graph : NULL;
}

/* Whether refusing is all right: a step may find nothing to do in a network. */
static bool may_refuse(int status) {
    return status == E_INVALID || status == E_UNSUPPORTED || status == E_NOT_FOUND;
}

static void try_step(struct tally *t, const char *text, uint64_t seed) {
    struct morph_step s;
    struct morphing m;
    struct graph *parent = draw(seed), *copy;
    struct err e = {0};
    if (!parent || !parse_step(&s, text)) return;
    graph_clone(&copy, parent, &e);
    morphing_init(&m, copy, seed, seed % 3 ? &md_data : NULL);
    int status = morph_apply(&m, &s, NULL, &e);
    ok(!status || may_refuse(status), "%s, seed %llu: %s", text, (unsigned long long)seed, e.text);
    t->refused += status != 0;
    t->applied += status == 0;
    if (!status) {
        double off = fmax(apart(parent, m.graph, seed, false), apart(parent, m.graph, seed + 1, false));
        if (DOUBLE && !morph_training(&s, morph_count_norms(parent), m.graph))
            off = fmax(off, apart(parent, m.graph, seed, true));
        t->worst = fmax(t->worst, off);
        ok(off <= TOLERANCE, "%s, seed %llu: off by %g", text, (unsigned long long)seed, off);
    }
    morphing_fini(&m);
    graph_free(parent);
}

TEST(exact_steps_keep_the_function_of_any_network) {
    for (int k = 0; morph_table[k]; k++)
        for (int i = 0; morph_table[k]->samples[i]; i++) {
            struct morph_step s;
            struct tally t = {0};
            const char *text = morph_table[k]->samples[i];
            if (!parse_step(&s, text) || !morph_is_exact(&s)) continue;
            for (uint64_t seed = 1; seed <= GRAPHS; seed++) try_step(&t, text, seed);
            printf("# %s: %d changed, %d had nothing to change, off by at most %.1e\n", text, t.applied, t.refused,
                   t.worst);
            ok(t.applied > GRAPHS / 20, "%s changed %d of %d networks only", text, t.applied, GRAPHS);
        }
}

/* ---- chains ---- */

static int count_samples(const char **out, int room) {
    int n = 0;
    for (int k = 0; morph_table[k]; k++)
        for (int i = 0; morph_table[k]->samples[i] && n < room; i++) out[n++] = morph_table[k]->samples[i];
    return n;
}

TEST(chains_of_steps_keep_the_function) {
    const char *texts[256];
    int n = count_samples(texts, 256), longest = 0;
    double worst = 0;
    for (uint64_t seed = 1; seed <= (DOUBLE ? GRAPHS : GRAPHS / 3); seed++) {
        struct graph *parent = draw(seed), *copy;
        struct morphing m;
        struct random r = random_seed(seed);
        struct err e = {0};
        need(parent != NULL, "no network");
        graph_clone(&copy, parent, &e);
        morphing_init(&m, copy, seed, seed % 3 ? &md_data : NULL);
        int applied = 0;
        for (int i = 0; i < CHAIN; i++) {
            struct morph_step s;
            struct graph *before;
            if (!parse_step(&s, texts[random_below(&r, (uint64_t)n)]) || !morph_is_exact(&s)) continue;
            graph_clone(&before, m.graph, &e);
            bool small = true; /* widening six times over makes large networks */
            for (int v = 0; v < before->n_values; v++)
                small = small && (!before->values[v].constant || before->values[v].constant->count < 60000);
            int status = small ? morph_apply(&m, &s, NULL, &e) : E_UNSUPPORTED;
            bool fits = status != E_TOO_LARGE; /* MORPH_MAX_NODES */
            ok(!status || !fits || may_refuse(status), "chain %llu: %s", (unsigned long long)seed, e.text);
            if (status)
                morphing_replace(&m, before);
            else
                graph_free(before);
            applied += !status;
            err_clear(&e);
        }
        double off = apart(parent, m.graph, seed, false);
        worst = fmax(worst, off);
        longest = applied > longest ? applied : longest;
        ok(off <= TOLERANCE * CHAIN, "chain %llu: off by %g after %d steps", (unsigned long long)seed, off, applied);
        morphing_fini(&m);
        graph_free(parent);
    }
    ok(longest == CHAIN, "the longest chain has %d steps", longest);
    printf("# chains of up to %d steps, off by at most %.1e\n", longest, worst);
}

TEST_MAIN
