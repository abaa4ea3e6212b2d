/* Method morph, from a request in JSON to the outcome, in a world in memory; and training that goes on in its child. */
#define TEST_SECONDS 180
#include <math.h>

#include "base/json.h"
#include "base/text.h"
#include "engine/surgery/channels.h"
#include "engine/surgery/morph.h"
#include "tests/base/starve.h"
#include "tests/engine/memory_host.h"
#include "tests/engine/morph_step.h"
#include "tests/engine/random_graph.h"
#include "tests/engine/small_net.h"
#include "tests/engine/transform.h"
#include "tests/peak.h"

static const char *const requests[] = {
    "{\"model\":\"net\",\"steps\":[{\"op\":\"widen\",\"factor\":1.5}]}",
    "{\"model\":\"net\",\"steps\":[\"widen\"],\"dataset\":\"data\"}",
    "{\"model\":\"net\",\"steps\":[{\"op\":\"widen\",\"factor\":2},{\"op\":\"widen\",\"factor\":1.2,\"mode\":\"uneven\"}],"
    "\"dataset\":\"data\",\"train\":{\"epochs\":1,\"batch\":20}}",
    "{\"model\":\"net\",\"steps\":[{\"op\":\"deepen\",\"mode\":\"netmorph\"},{\"op\":\"module\",\"recipe\":\"3c1\"}]}",
    "{\"model\":\"net\",\"steps\":[{\"op\":\"subnet\"},{\"op\":\"subnet\",\"mode\":\"stacked\"},{\"op\":\"widen\",\"factor\":1.2}]}",
    "{\"model\":\"net\",\"auto\":{\"width\":1.7}}",
    "{\"model\":\"net\",\"auto\":{\"macs\":2}}",
    "{\"model\":\"smooth\",\"steps\":[{\"op\":\"widen\",\"factor\":1.5,\"mode\":\"grad-max\"}],\"dataset\":\"smooth-data\"}",
};

TEST(exact_steps_are_proved) {
    struct world w;
    if (!open_world(&w, 2)) return;
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        struct outcome o;
        struct graph_size foreseen = {0}, made;
        struct err e = {0};
        int status = run(&o, &w, requests[i], &foreseen, &e);
        if (i == 1) {
            ok(status == E_INVALID && strstr(e.text, "'to' or 'factor'"), "%s", e.text);
            continue;
        }
        if (!ok(status == 0, "%s: %s", requests[i], e.text)) continue;
        ok(strcmp(said(&o, "proof", "exact"), "true") == 0, "%s: not exact", requests[i]);
        ok(strcmp(said(&o, "proof", "trainable"), "true") == 0, "%s: not trainable", requests[i]);
        ok(graph_measure(&made, o.student, &e) == 0 && made.parameters == foreseen.parameters &&
               made.macs == foreseen.macs,
           "%s: %lld parameters and %lld multiply-adds, foreseen %lld and %lld", requests[i],
           (long long)made.parameters, (long long)made.macs, (long long)foreseen.parameters, (long long)foreseen.macs);
        outcome_free(&o);
    }
    memory_host_close(&w.memory);
}

/* ---- what the proof is for ---- */

/* "harsh": two equal channels of about 1e8, which its last layer takes from one another. Copies with uneven shares
 * round differently, so that no exact step gets it right to ten digits. */
static bool add_harsh(struct world *w) {
    struct small s = small_new(4, 0, 0);
    int x = small_act(&s, small_gemm(&s, s.x, 4, 6, true), "Tanh");
    x = small_gemm(&s, small_gemm(&s, x, 6, 2, false), 2, 3, true);
    if (!small_finish(&s, x)) return false;
    float *huge = s.g->values[s.g->nodes[2].inputs[1]].constant->data;
    float *last = s.g->values[s.g->nodes[3].inputs[1]].constant->data;
    for (int i = 0; i < 6; i++) huge[6 + i] = huge[i] *= 1e8f;
    for (int i = 0; i < 3; i++) last[2 * i + 1] = -last[2 * i];
    memory_host_add_model(&w->memory, "harsh", s.g);
    return true;
}

#define HARSH "{\"op\":\"widen\",\"layer\":\"gemm3\",\"factor\":2,\"mode\":\"uneven\"}"
#define LOSSY "{\"op\":\"factor\",\"layer\":\"gemm1\",\"rank\":1}"

static const char *const broken[] = {
    "{\"model\":\"harsh\",\"steps\":[" HARSH "]}",
    "{\"model\":\"harsh\",\"steps\":[" HARSH "," LOSSY "]}",
    "{\"model\":\"harsh\",\"steps\":[" HARSH "," LOSSY "," HARSH "]}",
    "{\"model\":\"harsh\",\"steps\":[" LOSSY "," HARSH "]}",
};

TEST(a_child_that_computes_something_else_is_not_published) {
    struct world w;
    if (!open_world(&w, 2) || !add_harsh(&w)) return;
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        struct outcome o;
        struct err e = {0};
        int status = run(&o, &w, broken[i], NULL, &e);
        ok(status == E_INTERNAL && strstr(e.text, "the child does not compute the parent's function: ") &&
               strstr(e.text, "they part at node 'gemm4', equal up to tanh2_out"),
           "%s: %d, %s", broken[i], status, e.text);
        ok(!o.student && !o.report.length, "%s: there is a result all the same", broken[i]);
        outcome_free(&o);
    }
    memory_host_close(&w.memory);
}

#define STEPS(steps) "{\"model\":\"net\",\"steps\":[" steps "]}"
#define WIDEN "{\"op\":\"widen\",\"factor\":1.5}"
#define FACTOR "{\"op\":\"factor\",\"layer\":\"conv3\",\"rank\":1}"

static const struct {
    const char *json,
        *proved; /* which of the steps have a proof of their own, each of those since the last lossy one */
} chains[] = {
    {STEPS(WIDEN "," FACTOR), "1-"},
    {STEPS(WIDEN ",{\"op\":\"deepen\"}," FACTOR "," WIDEN "," FACTOR), "-1-1-"},
    {STEPS(FACTOR "," WIDEN "," WIDEN), "--1"},
    {STEPS(FACTOR), "-"},
    {STEPS(WIDEN "," WIDEN), "--"}, /* "proof" of the child is theirs */
};

/* "1" for each step of the report with an exact proof, "0" with another one, "-" without. */
static const char *proofs_of_steps(const struct outcome *o) {
    static char out[16];
    struct json *root;
    size_t n = 0;
    if (json_parse(&root, o->report.data, o->report.length, NULL)) return "";
    const struct json *steps = json_get(root, "steps");
    for (const struct json *s = json_first(steps); s && n < sizeof out - 1; s = json_next(s)) {
        const struct json *proof = json_get(s, "proof");
        out[n++] = !proof ? '-' : json_bool(json_get(proof, "exact")) ? '1' : '0';
    }
    out[n] = 0;
    json_free(root);
    return out;
}

TEST(exact_steps_beside_lossy_ones_are_proved) {
    struct world w;
    if (!open_world(&w, 2)) return;
    for (size_t i = 0; i < sizeof chains / sizeof *chains; i++) {
        struct outcome o;
        struct err e = {0};
        if (!ok(run(&o, &w, chains[i].json, NULL, &e) == 0, "%s: %s", chains[i].json, e.text)) continue;
        ok(strcmp(proofs_of_steps(&o), chains[i].proved) == 0, "%s: proofs %s, not %s", chains[i].json,
           proofs_of_steps(&o), chains[i].proved);
        ok(strcmp(said(&o, "proof", "exact"), strstr(chains[i].json, "factor\",\"layer") ? "false" : "true") == 0,
           "%s: of all: %s", chains[i].json, said(&o, "proof", "exact"));
        outcome_free(&o);
    }
    memory_host_close(&w.memory);
}

/* A dry run. */
static int foresee(struct graph_size *size, struct world *w, const char *json, struct err *e) {
    void *spec;
    const struct method *method;
    *e = (struct err){0};
    int status = check(&spec, &method, w, json, size, e);
    free(spec);
    return status;
}

/* Networks with dense layers: after images as vectors, after pixels that were flattened, and behind convolutions. */
static const struct random_graph_options sized[] = {
    {.with = RG_VECTORS | RG_HIDDEN | RG_GEMM, .without = RG_CONV, .classes = CLASSES},
    {.with = RG_FLATTEN | RG_HIDDEN | RG_GEMM | RG_CONV, .without = RG_VECTORS, .classes = CLASSES},
    {.with = RG_FLATTEN | RG_MATMUL | RG_NORM | RG_DEPTHWISE, .without = RG_VECTORS, .classes = CLASSES},
    {.with = RG_ADD | RG_NORM | RG_CONV, .without = RG_VECTORS, .classes = CLASSES},
};

static double size_of(const struct graph_size *size, bool macs) {
    return (double)(macs ? size->macs : size->parameters);
}

/* Sizes that widths lead to, dry runs all of them. */
struct reachable {
    struct graph_size sizes[400];
    int n;
};

static void reach(struct reachable *out, struct world *w, const struct graph_size *now) {
    out->n = 0;
    out->sizes[out->n++] = *now;
    for (double width = 0.02; width < 6; width *= 1.015) {
        char json[128];
        struct err e;
        text_print(json, sizeof json, "{\"model\":\"sized\",\"auto\":{\"width\":%.6g}}", width);
        if (foresee(&out->sizes[out->n], w, json, &e) == 0) out->n++;
    }
}

/* The least distance of any of them from a goal. */
static double nearest(const struct reachable *r, bool macs, double goal) {
    double best = INFINITY;
    for (int i = 0; i < r->n; i++) best = fmin(best, fabs(size_of(&r->sizes[i], macs) - goal));
    return best;
}

static void aim_at(struct world *w, const struct reachable *r, bool macs, double times) {
    char json[128];
    struct graph_size size;
    struct err e;
    double now = size_of(&r->sizes[0], macs), goal = macs ? now * times : floor(now * times), least = INFINITY;
    if (macs)
        text_print(json, sizeof json, "{\"model\":\"sized\",\"auto\":{\"macs\":%.17g}}", times);
    else
        text_print(json, sizeof json, "{\"model\":\"sized\",\"auto\":{\"parameters\":%.0f}}", goal);
    int status = foresee(&size, w, json, &e);
    for (int i = 0; i < r->n; i++) least = fmin(least, size_of(&r->sizes[i], macs));
    if (status && strstr(e.text, "cannot be reached")) {
        ok(goal < least, "%s: %s, but %.0f is reached", json, e.text, least);
        return;
    }
    if (status && strstr(e.text, "come nearer")) {
        ok(nearest(r, macs, goal) == fabs(now - goal), "%s: %s, but something does", json, e.text);
        return;
    }
    if (!ok(status == 0, "%s: %s", json, e.text)) return;
    ok(fabs(size_of(&size, macs) - goal) <= nearest(r, macs, goal) + 1e-6,
       "%s: of %.0f, %.0f came, %.0f were to come, and another width is nearer by %.0f", json, now,
       size_of(&size, macs), goal, fabs(size_of(&size, macs) - goal) - nearest(r, macs, goal));
}

TEST(a_size_to_reach_is_reached) {
    static struct reachable r;
    for (size_t k = 0; k < sizeof sized / sizeof *sized; k++) {
        struct world w = {.method = "morph"};
        struct random_graph net = {0};
        struct graph_size now;
        struct err e = {0};
        if (!ok(random_graph(&net, 40 + k, &sized[k], &e) == 0, "%s", e.text)) continue;
        ok(graph_measure(&now, net.graph, &e) == 0, "%s", e.text);
        memory_host_add_model(&w.memory, "sized", net.graph);
        w.host = memory_host_open(&w.memory, 1);
        reach(&r, &w, &now);
        for (double times = 0.25; times < 4.5; times *= 1.19)
            for (int macs = 0; macs < 2; macs++) aim_at(&w, &r, macs, times);
        memory_host_close(&w.memory);
    }
}

#define STEP(step) "{\"model\":\"net\",\"steps\":[" step "]}"
#define LAST(op) STEP("{\"layer\":\"gemm13\",\"op\":" op "}") /* it makes the output */

static const struct {
    const char *json, *pointer, *words;
} refusals[] = {
    {"{\"model\":\"net\"}", "/steps", "either steps or auto"},
    {"{\"model\":\"net\",\"steps\":[{\"op\":\"widen\",\"factor\":2}],\"auto\":{\"width\":2}}", "/steps", "either"},
    {"{\"model\":\"net\",\"auto\":{}}", "/auto", "exactly one"},
    {"{\"model\":\"net\",\"auto\":{\"width\":2,\"macs\":2}}", "/auto", "exactly one"},
    {"{\"model\":\"net\",\"auto\":{\"parameters\":1e12}}", "/auto", "cannot be reached"},
    {"{\"model\":\"net\",\"steps\":[{\"op\":\"widen\",\"layer\":\"conx1\",\"factor\":2}]}", "/steps/0",
     "nearest is 'conv"},
    {"{\"model\":\"net\",\"steps\":[{\"op\":\"widen\",\"layer\":\"zzz*\",\"factor\":2}]}", "/steps/0",
     "matches 'zzz*'"},
    {"{\"model\":\"net\",\"steps\":[{\"op\":\"widen\",\"to\":1}]}", "/steps/0", "narrow"},
    {"{\"model\":\"net\",\"steps\":[{\"op\":\"widen\",\"factor\":2},{\"op\":\"widen\",\"mode\":\"sideways\"}]}",
     "/steps/1/mode", "no mode 'sideways'"},
    {"{\"model\":\"net\",\"steps\":[{\"op\":\"widen\",\"factor\":2,\"size\":3}]}", "/steps/0/size",
     "does not take 'size'"},
    {STEP("{\"op\":\"kernel\",\"layer\":\"conv*\",\"size\":1}"), "/steps/0", ""},
    /* widths below those of now where nothing may be lost */
    {STEP("{\"op\":\"widen\",\"layer\":\"conv3\",\"to\":1}"), "/steps/0", "that is for narrow"},
    {STEP("{\"op\":\"widen\",\"layer\":\"conv3\",\"factor\":0.5}"), "/steps/0", "that is for narrow"},
    {STEP("{\"op\":\"deepen\",\"layer\":\"conv3\",\"mode\":\"netmorph\",\"to\":1}"), "/steps/0", "are needed"},
    {STEP("{\"op\":\"subnet\",\"layer\":\"conv3\",\"to\":1}"), "/steps/0", "are needed"},
    {STEP("{\"op\":\"module\",\"layer\":\"conv3\",\"recipe\":\"1c1\",\"to\":1}"), "/steps/0", "are needed"},
    {STEP("{\"op\":\"narrow\",\"layer\":\"conv3\",\"factor\":2}"), "/steps/0", "that is for widen"},
    {STEP("{\"op\":\"factor\",\"layer\":\"conv3\",\"rank\":99}"), "/steps/0", "at most"},
    /* kernels without a centre, or smaller ones */
    {STEP("{\"op\":\"deepen\",\"layer\":\"conv3\",\"size\":2}"), "/steps/0", "no centre"},
    {STEP("{\"op\":\"deepen\",\"layer\":\"conv3\",\"size\":[3,4]}"), "/steps/0", "no centre"},
    {STEP("{\"op\":\"module\",\"layer\":\"conv3\",\"edges\":[{\"from\":\"s\",\"to\":\"t\",\"kernel\":2}]}"), "/steps/0",
     "only odd numbers"},
    {STEP("{\"op\":\"module\",\"layer\":\"conv3\",\"edges\":[{\"from\":\"s\",\"to\":\"a\",\"channels\":12},"
          "{\"from\":\"s\",\"to\":\"a\",\"channels\":9},{\"from\":\"a\",\"to\":\"t\"}]}"),
     "/steps/0", "'a' cannot have 12 channels and 9 as well"},
    {STEP("{\"op\":\"kernel\",\"layer\":\"conv3\",\"size\":1}"), "/steps/0", "would lose weights"},
    {STEP("{\"op\":\"kernel\",\"layer\":\"conv3\",\"size\":4}"), "/steps/0", "no centre"},
    /* what the network takes and gives out */
    {LAST("\"widen\",\"factor\":2"), "/steps/0", "the network's output needs its 3 channels"},
    {LAST("\"narrow\",\"factor\":0.5"), "/steps/0", "the network's output needs its 3 channels"},
    {LAST("\"activation\""), "/steps/0", "the network's output"},
    {LAST("\"remove\""), "/steps/0", "remove cannot change"},
    {LAST("\"fold\",\"mode\":\"identical\""), "/steps/0", "the network's output"},
    {STEP("{\"op\":\"skip\",\"layer\":\"conv1\",\"from\":\"conv3\"}"), "/steps/0", "backwards"},
    {STEP("{\"op\":\"skip\",\"layer\":\"conv3\",\"from\":\"conx1\"}"), "/steps/0", "nearest is 'conv1'"},
    {STEP("{\"op\":\"skip\",\"layer\":\"conv3\",\"from\":\"zzz*\"}"), "/steps/0", "'zzz*'"},
    {STEP("{\"op\":\"skip\",\"layer\":\"conv3\"}"), "/steps/0/from", "skip needs 'from'"},
    /* what is wrong with the step, whatever the network */
    {STEP("{\"op\":\"widen\"}"), "/steps/0/to", "widen takes either 'to' or 'factor'"},
    {STEP("{\"op\":\"widen\",\"to\":9,\"factor\":2}"), "/steps/0/to", "widen takes either 'to' or 'factor'"},
    {STEP("{\"op\":\"narrow\",\"layer\":\"zzz\"}"), "/steps/0/to", "narrow takes either"},
    {STEP("{\"op\":\"factor\",\"energy\":1}"), "/steps/0", "makes no layer smaller: 'conv1' needs rank"},
    {STEP("{\"op\":\"factor\"}"), "/steps/0/rank", "factor takes either 'rank' or 'energy'"},
    {STEP("{\"op\":\"kernel\"}"), "/steps/0/size", "kernel needs 'size'"},
    {STEP("{\"op\":\"module\"}"), "/steps/0/recipe", "module takes either 'recipe' or 'edges'"},
    {STEP("{\"op\":\"module\",\"edges\":[{}]}"), "/steps/0/edges/0/from", "required"},
    {STEP("{\"op\":\"module\",\"edges\":[{\"from\":\"s\"}]}"), "/steps/0/edges/0/to", "required"},
    {STEP("{\"op\":\"module\",\"recipe\":\"9c9\"}"), "/steps/0/recipe", "no module is called '9c9'"},
    {STEP("{\"op\":\"module\",\"to\":4,\"edges\":[{\"from\":\"s\",\"to\":\"t\"}]}"), "/steps/0/to", "is for recipes"},
    {"{\"model\":\"smooth\",\"steps\":[{\"op\":\"widen\",\"factor\":2,\"mode\":\"grad-max\"}]}", "/steps/0", "data"},
    {"{\"model\":\"net\",\"steps\":[{\"op\":\"widen\",\"factor\":2}],\"dataset\":\"data\","
     "\"train\":{\"steps\":9,\"schedule\":{\"kind\":\"cosine\",\"length\":8}}}",
     "/train/schedule/length", "no room for 9 steps"},
    {"{\"model\":\"other\",\"steps\":[{\"op\":\"widen\",\"factor\":2}]}", "/model", "no model other"},
    {"{\"model\":\"net\",\"steps\":[{\"op\":\"widen\",\"factor\":2}],\"train\":{\"epochs\":1}}", "/dataset", "dataset"},
    {"{\"model\":\"net\",\"steps\":[{\"op\":\"widen\",\"factor\":2}],\"evaluate\":\"data\"}", "/evaluate", "name one"},
};

TEST(what_cannot_be_done_is_refused_before_anything_runs) {
    struct world w;
    if (!open_world(&w, 1)) return;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        struct err e = {0};
        void *spec;
        const struct method *method;
        int status = check(&spec, &method, &w, refusals[i].json, NULL, &e);
        ok(status != 0 && strcmp(e.pointer, refusals[i].pointer) == 0 && strstr(e.text, refusals[i].words),
           "%s: %s at '%s'", refusals[i].json, e.text, e.pointer);
        free(spec);
    }
    memory_host_close(&w.memory);
}

TEST(every_kind_names_the_nearest_layer_and_the_pattern_that_matches_none) {
    static const char *const cases[][2] = {{"conx1", "no layer is called 'conx1'; the nearest is 'conv1'"},
                                           {"zzz", "no layer is called 'zzz'; GET .../graph lists them"},
                                           {"zzz*", "no layer's name matches 'zzz*'"},
                                           {"z?n", "no layer's name matches 'z?n'"}};
    struct world w;
    if (!open_world(&w, 1)) return;
    for (int k = 0; morph_table[k]; k++)
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            char json[128];
            struct err e = {0};
            void *spec;
            const struct method *method;
            text_print(json, sizeof json, "{\"model\":\"net\",\"steps\":[{\"op\":\"%s\",\"layer\":\"%s\"%s}]}",
                       morph_table[k]->name, cases[i][0], step_needed(morph_table[k]));
            int status = check(&spec, &method, &w, json, NULL, &e);
            ok(status == E_INVALID && !strcmp(e.pointer, "/steps/0") && strstr(e.text, cases[i][1]), "%s: %s at '%s'",
               json, e.text, e.pointer);
            free(spec);
        }
    memory_host_close(&w.memory);
}

/* Steps that need data, and those that only compare on it, want as many samples in a dry run as in the job. */
TEST(too_few_samples_are_refused_before_anything_runs) {
    static const char *const steps[] = {
        "{\"op\":\"narrow\",\"factor\":0.5}", "{\"op\":\"narrow\",\"factor\":0.5,\"mode\":\"activation\"}",
        "{\"op\":\"deepen\"}", "{\"op\":\"factor\",\"rank\":1}", "{\"op\":\"factor\",\"rank\":1,\"mode\":\"data\"}"};
    struct world w;
    if (!open_world(&w, 1)) return;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        for (int limit = 20; limit <= 40; limit += 20) {
            char json[256];
            struct err e = {0};
            struct graph_size size;
            text_print(json, sizeof json,
                       "{\"model\":\"net\",\"steps\":[%s],\"dataset\":{\"ref\":\"data\",\"limit\":%d},\"holdout\":0}",
                       steps[i], limit);
            int status = foresee(&size, &w, json, &e);
            ok(limit == 40 ? status == 0 : status == E_INVALID && strstr(e.text, "20 samples") && strstr(e.text, "32"),
               "%s: %d, %s", json, status, e.text);
        }
    memory_host_close(&w.memory);
}

/* Layers without biases, whose fit wants some. */
TEST(the_size_foreseen_does_not_hang_on_the_data) {
    static const char *const steps[] = {
        "{\"op\":\"narrow\",\"factor\":0.5}", "{\"op\":\"narrow\",\"factor\":0.5,\"mode\":\"activation\"}",
        "{\"op\":\"factor\",\"energy\":0.6,\"mode\":\"data\"}", "{\"op\":\"factor\",\"energy\":0.9,\"mode\":\"data\"}",
        "{\"op\":\"factor\",\"energy\":0.8,\"mode\":\"data\"}"};
    static const uint64_t lacking[] = {RG_BIAS, RG_GEMM, RG_MATMUL};
    for (size_t k = 0; k < 3; k++)
        for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
            struct random_graph_options o = {
                .with = RG_CONV | RG_FLATTEN, .without = RG_VECTORS | lacking[k], .classes = CLASSES};
            struct world w = {.method = "morph"};
            struct graph_size size = {0}, made = {0}, parent = {0};
            struct outcome out;
            struct err e = {0};
            char json[256];
            if (!add_network(&w, 70 + k, &o, "bare", "bare-data")) return;
            w.host = memory_host_open(&w.memory, 1);
            ok(graph_measure(&parent, w.memory.models[0].graph, &e) == 0, "%s", e.text);
            text_print(json, sizeof json, "{\"model\":\"bare\",\"steps\":[%s],\"dataset\":\"bare-data\"}", steps[i]);
            bool bound = strstr(steps[i], "energy") != NULL;
            int status = run(&out, &w, json, &size, &e);
            if (!ok(!status || (bound && strstr(e.text, "makes no layer smaller")), "%s: %s", json, e.text)) break;
            if (!status) {
                ok(graph_measure(&made, out.student, &e) == 0, "%s", e.text);
                ok(bound ? made.parameters <= size.parameters || made.parameters < parent.parameters
                         : made.parameters == size.parameters,
                   "%s: %lld parameters, foreseen %lld", json, (long long)made.parameters, (long long)size.parameters);
                outcome_free(&out);
            }
            memory_host_close(&w.memory);
        }
}

/* Every kind that makes a network larger; some slightly too large, others absurd. */
static const char *const too_large[] = {
    "{\"op\":\"widen\",\"factor\":20}",
    "{\"op\":\"widen\",\"factor\":1e6}",
    "{\"op\":\"widen\",\"layer\":\"conv3\",\"to\":16777216,\"mode\":\"random-fanin\"}",
    "{\"op\":\"deepen\",\"layer\":\"*\",\"size\":1023}",
    "{\"op\":\"deepen\",\"layer\":\"conv3\",\"mode\":\"netmorph\",\"to\":16777216}",
    "{\"op\":\"deepen\",\"layer\":\"conv3\",\"mode\":\"netmorph\",\"size\":1023}",
    "{\"op\":\"kernel\",\"layer\":\"conv3\",\"size\":1023}",
    "{\"op\":\"subnet\",\"layer\":\"conv3\",\"to\":1000000}",
    "{\"op\":\"subnet\",\"layer\":\"conv3\",\"mode\":\"stacked\",\"parts\":8,\"to\":16777216}",
    "{\"op\":\"module\",\"layer\":\"conv3\",\"recipe\":\"1c1\",\"to\":16777216}",
    "{\"op\":\"module\",\"layer\":\"conv3\",\"edges\":[{\"from\":\"s\",\"to\":\"a\",\"channels\":16777216},{\"from\":\"a\",\"to\":\"t\"}]}",
};

/* Before it is made: nobody's memory is taken for it. */
TEST(a_child_beyond_the_memory_is_refused) {
    enum { MEMORY = 1 << 18, AT_MOST = 1 << 25 };
    struct world w;
    if (!open_world(&w, 1)) return;
    w.host.memory = MEMORY;
    for (size_t i = 0; i < sizeof too_large / sizeof *too_large; i++) {
        char json[256];
        struct err e = {0};
        void *spec;
        const struct method *method;
        text_print(json, sizeof json, "{\"model\":\"net\",\"steps\":[%s]}", too_large[i]);
        bool measured = peak_forget() && PEAK_TRUE;
        size_t before = peak_now();
        int status = check(&spec, &method, &w, json, NULL, &e);
        ok(status == E_TOO_LARGE && strstr(e.text, "bytes, and a job may take") && strcmp(e.pointer, "/steps/0") == 0,
           "%s: %d, %s at '%s'", too_large[i], status, e.text, e.pointer);
        ok(!measured || peak_most() < before + AT_MOST, "%s took %zu bytes", too_large[i], peak_most() - before);
        free(spec);
    }
    memory_host_close(&w.memory);
}

/* With little memory and with much: what a dry run lets through goes through. */
TEST(a_job_has_the_memory_that_the_dry_run_promised) {
    static const char *const jobs[] = {
        "{\"model\":\"net\",\"steps\":[{\"op\":\"widen\",\"factor\":3}]}",
        "{\"model\":\"net\",\"steps\":[{\"op\":\"widen\",\"factor\":1.5}],\"dataset\":\"data\"}",
        "{\"model\":\"smooth\",\"auto\":{\"width\":4}}"};
    struct world w;
    int refused = 0, made = 0;
    if (!open_world(&w, 1)) return;
    for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++)
        for (double memory = 1 << 12; memory < 1 << 22; memory *= 1.3) {
            struct graph_size size;
            struct outcome o;
            struct err e = {0};
            w.host.memory = (size_t)memory;
            if (foresee(&size, &w, jobs[i], &e)) {
                ok(strstr(e.text, "bytes") && !strstr(e.text, "batch"), "%s", e.text);
                refused++;
                continue;
            }
            int status = run(&o, &w, jobs[i], NULL, &e);
            ok(status == 0, "%s with %zu bytes: %s", jobs[i], w.host.memory, e.text);
            if (!status) outcome_free(&o);
            made++;
        }
    ok(refused > 10 && made > 10, "%d refused, %d made", refused, made);
    memory_host_close(&w.memory);
}

TEST(the_same_job_gives_the_same_child) {
    struct digest first = {{0}};
    for (int threads = 1; threads <= 2; threads++) {
        struct world w;
        struct outcome o;
        struct err e = {0};
        struct hasher h;
        if (!open_world(&w, threads)) return;
        need(run(&o, &w, requests[2], NULL, &e) == 0, "%s", e.text);
        hasher_init(&h);
        for (int v = 0; v < o.student->n_values; v++) {
            const struct array *a = o.student->values[v].constant;
            if (a) hasher_add(&h, a->data, a->count * dtype_size(a->type));
        }
        struct digest d = hasher_finish(&h);
        ok(threads == 1 || memcmp(&d, &first, sizeof d) == 0, "two threads give another child");
        first = d;
        outcome_free(&o);
        memory_host_close(&w.memory);
    }
}

/* Trained with sgd, then trained on by each request. */
static const struct {
    const char *method, *json, *optimizer, *rate;
} continuations[] = {
    {"train", "{\"model\":\"trained\",\"dataset\":\"data\",\"train\":{\"steps\":5}}", "\"continued\"", "0.005"},
    {"train", "{\"model\":\"trained\",\"dataset\":\"data\",\"train\":{\"steps\":5,\"learning_rate\":0.25}}",
     "\"continued\"", "0.25"},
    {"train", "{\"model\":\"trained\",\"dataset\":\"data\",\"train\":{\"steps\":5,\"optimizer\":\"adam\"}}",
     "\"fresh\"", "0.001"},
    {"train", "{\"model\":\"trained\",\"dataset\":\"data\",\"train\":{\"steps\":5},\"restart\":\"fresh\"}", "\"fresh\"",
     "0.001"},
    {"train", "{\"model\":\"net\",\"dataset\":\"data\",\"train\":{\"steps\":5}}", "\"fresh\"", "0.001"},
    {"morph",
     "{\"model\":\"trained\",\"dataset\":\"data\",\"steps\":[{\"op\":\"factor\",\"rank\":1}],\"train\":{\"steps\":5}}",
     "\"fresh\"", "0.005"},
    {"morph",
     "{\"model\":\"trained\",\"dataset\":\"data\",\"steps\":[{\"op\":\"widen\",\"factor\":2}],\"train\":{\"steps\":5}}",
     "\"mapped\"", "0.005"},
    {"morph",
     "{\"model\":\"trained\",\"dataset\":\"data\",\"steps\":[{\"op\":\"widen\",\"factor\":2}],\"train\":{\"steps\":5},\"restart\":\"fresh\"}",
     "\"fresh\"", "0.001"},
};

/* The world with what a training makes in it as well, and method train. */
static bool open_trained(struct world *w, const char *name, const char *json) {
    struct outcome o;
    struct err e = {0};
    if (!open_world(w, 2)) return false;
    w->method = "train";
    if (!ok(run(&o, w, json, NULL, &e) == 0, "%s", e.text)) return false;
    memory_host_add_model(&w->memory, name, o.student);
    o.student = NULL;
    outcome_free(&o);
    return true;
}

/* A run of a course of several is followed by the next without a word, as far as there is room. */
static const struct {
    const char *json, *rate;
    int length;
} courses[] = {
    {"{\"model\":\"part\",\"dataset\":\"data\",\"train\":{\"steps\":30}}", "0.05", 40},
    {"{\"model\":\"part\",\"dataset\":\"data\",\"train\":{\"steps\":31}}", "0.03", 0},
    {"{\"model\":\"part\",\"dataset\":\"data\",\"train\":{\"steps\":9,\"schedule\":\"constant\"}}", "0.03", 0},
    {"{\"model\":\"part\",\"dataset\":\"data\",\"train\":{\"steps\":9,\"optimizer\":\"adam\"}}", "0.001", 0},
};

TEST(a_course_of_several_runs_goes_on) {
    struct world w;
    struct outcome o;
    struct err e = {0};
    if (!open_trained(
            &w, "part",
            "{\"model\":\"net\",\"dataset\":\"data\",\"train\":{\"steps\":10,\"optimizer\":\"sgd\",\"learning_rate\":0.05,"
            "\"warmup_steps\":2,\"schedule\":{\"kind\":\"step\",\"step\":[1],\"gamma\":0.6,\"length\":40}}}"))
        return;
    for (size_t i = 0; i < sizeof courses / sizeof *courses; i++) {
        if (!ok(run(&o, &w, courses[i].json, NULL, &e) == 0, "%s: %s", courses[i].json, e.text)) continue;
        const struct graph_training *t = &o.student->training;
        ok(strcmp(said(&o, "restart", "learning_rate"), courses[i].rate) == 0, "%s: the rate is %s, not %s",
           courses[i].json, said(&o, "restart", "learning_rate"), courses[i].rate);
        ok(courses[i].length ? t->course.length == courses[i].length && t->warmup == 2 : t->course.length < 1,
           "%s: a course of %lld steps", courses[i].json, (long long)t->course.length);
        outcome_free(&o);
    }
    memory_host_close(&w.memory);
}

TEST(training_goes_on_where_that_of_the_parent_stopped) {
    struct world w;
    struct outcome o;
    struct err e = {0};
    if (!open_trained(
            &w, "trained",
            "{\"model\":\"net\",\"dataset\":\"data\",\"train\":{\"steps\":30,\"batch\":40,\"optimizer\":\"sgd\",\"learning_rate\":0.05,\"schedule\":\"cosine\"}}"))
        return;
    for (size_t i = 0; i < sizeof continuations / sizeof *continuations; i++) {
        w.method = continuations[i].method;
        int status = run(&o, &w, continuations[i].json, NULL, &e);
        if (!ok(status == 0, "%s: %s", continuations[i].json, e.text)) continue;
        ok(strcmp(said(&o, "restart", "optimizer"), continuations[i].optimizer) == 0, "%s: optimizer is %s, not %s",
           continuations[i].json, said(&o, "restart", "optimizer"), continuations[i].optimizer);
        ok(strcmp(said(&o, "restart", "learning_rate"), continuations[i].rate) == 0, "%s: the rate is %s, not %s",
           continuations[i].json, said(&o, "restart", "learning_rate"), continuations[i].rate);
        const char *resting = strcmp(continuations[i].optimizer, "\"mapped\"") ? "" : "5"; /* all of them */
        ok(strcmp(said(&o, "restart", "resting_steps"), resting) == 0, "%s: %s steps rest", continuations[i].json,
           said(&o, "restart", "resting_steps"));
        ok(o.student->training.rule >= 0 && o.student->training.steps >= 5, "the result keeps the training");
        outcome_free(&o);
    }
    memory_host_close(&w.memory);
}

static struct world starved;

/* Shapes and steps only: the proof has tests of its own. */
static int check_starved(void) {
    struct err e = {0};
    void *spec;
    const struct method *method;
    int status = check(&spec, &method, &starved, requests[0], NULL, &e);
    free(spec);
    return status;
}

TEST(memory_may_run_out) {
    if (!open_world(&starved, 1)) return;
    starve("morph", check_starved);
    memory_host_close(&starved.memory);
}

TEST_MAIN
