/* The methods, from a request in JSON to the outcome, in a world in memory. */
#define TEST_SECONDS 120
#include "engine/nn/evaluate.h"
#include "engine/transfer/init.h"
#include "engine/transfer/student.h"
#include "tests/base/starve.h"
#include "tests/engine/memory_host.h"

#define SAMPLES 600
#define FEATURES 6
#define CLASSES 4

static float inputs[SAMPLES][FEATURES];
static int64_t labels[SAMPLES];

/* A teacher with a hidden layer, and data it answers decisively. */
struct school {
    struct memory_host world;
    struct host host;
};

static struct graph *chain(const char *json, uint64_t seed) {
    struct json *root;
    struct student_spec s;
    struct graph *g = NULL;
    struct err e = {0};
    struct shape input = {.rank = 2, .dim = {DIM_BATCH, FEATURES}};
    int status = json_parse(&root, json, strlen(json), &e);
    if (!status) status = param_parse(&s, student_params, root, "", &e);
    if (!status) status = student_check(&s, &e);
    if (!status) status = student_chain(&g, s.layers, s.n_layers, &input, 1 << 20, &e);
    if (!status) status = init_graph(g, seed, &e);
    ok(status == 0, "%s", e.text);
    json_free(root);
    return g;
}

static void answer(struct graph *g) {
    struct crew *crew;
    struct net *net;
    struct net_options options = {.batch = SAMPLES};
    need(crew_new(&crew, 1, NULL) == 0 && net_new(&net, g, crew, &options, NULL) == 0, "net");
    for (int i = 0; i < SAMPLES; i++)
        for (int k = 0; k < FEATURES; k++) net_input(net, 0)[i * FEATURES + k] = (real)inputs[i][k];
    net_forward(net, SAMPLES, random_seed(0), NULL, NULL);
    for (int i = 0; i < SAMPLES; i++) labels[i] = (int64_t)evaluate_argmax(net_output(net, 0) + i * CLASSES, CLASSES);
    net_free(net);
    crew_free(crew);
}

static void open_school(struct school *s, int threads) {
    memset(s, 0, sizeof *s);
    struct random r = random_seed(11);
    for (int i = 0; i < SAMPLES * FEATURES; i++) inputs[i / FEATURES][i % FEATURES] = (float)random_normal(&r);
    struct graph *linear = chain("{\"layers\":[{\"dense\":4}]}", 2);
    struct graph *deep = chain("{\"layers\":[{\"dense\":32},\"relu\",{\"dense\":4},\"softmax\"]}", 5);
    answer(linear);
    memory_host_add_model(&s->world, "linear", linear);
    memory_host_add_model(&s->world, "deep", deep);
    memory_host_add_array(&s->world, "points", "inputs", DT_FLOAT32, inputs, (int64_t[4]){SAMPLES, FEATURES});
    memory_host_add_array(&s->world, "points", "labels", DT_INT64, labels, (int64_t[4]){SAMPLES});
    memory_host_add_array(&s->world, "bare", "inputs", DT_FLOAT32, inputs, (int64_t[4]){SAMPLES, FEATURES});
    s->host = memory_host_open(&s->world, threads);
}

static struct memory_host world_of_all; /* for tests that have no argument */

static void close_school(struct school *s) {
    memory_host_close(&s->world);
}

/* Parses and checks a request; *spec is to be freed. */
static int check(void **spec, const struct method **method, struct school *s, const char *name, const char *json,
                 struct graph_size *size, struct err *e) {
    struct json *root;
    *method = method_find(name);
    *spec = calloc(1, (*method)->spec_size);
    int status = json_parse(&root, json, strlen(json), e);
    if (status) return status;
    status = param_parse(*spec, (*method)->params, root, "", e);
    json_free(root);
    return status ? status : (*method)->check(*spec, &s->host, size, e);
}

static int run(struct outcome *out, struct school *s, const char *name, const char *json, struct err *e) {
    void *spec;
    const struct method *method;
    memset(out, 0, sizeof *out);
    int status = check(&spec, &method, s, name, json, NULL, e);
    if (!status) status = method->run(out, spec, &s->host, e);
    free(spec);
    return status;
}

static double number_in(const struct text *text, const char *name) {
    struct json *root;
    double value = (double)NAN;
    if (json_parse(&root, text->data, text->length, NULL)) return value;
    const struct json *member = json_get(root, name);
    if (member && json_type(member) == JSON_NUMBER) value = json_number(member);
    json_free(root);
    return value;
}

#define TRAINING "\"train\":{\"epochs\":30,\"batch\":32,\"learning_rate\":0.01,\"schedule\":\"cosine\"}"

TEST(a_linear_teacher_is_learnt) {
    struct school s;
    struct outcome o;
    struct err e = {0};
    open_school(&s, 2);
    need(run(&o, &s, "distill",
             "{\"teacher\":\"linear\",\"dataset\":\"points\",\"student\":{\"layers\":[{\"dense\":64},\"relu\","
             "{\"dense\":4}]}," TRAINING "}",
             &e) == 0,
         "%s", e.text);
    ok(o.student != NULL, "student");
    ok(number_in(&o.metrics, "kl") < 0.01, "KL %g", number_in(&o.metrics, "kl"));
    ok(number_in(&o.metrics, "agreement") > 0.93, "%s", o.metrics.data);
    ok(number_in(&o.teacher_metrics, "accuracy") == 1, "%s", o.teacher_metrics.data);
    ok(strstr(o.report.data, "\"terms\"") != NULL, "%s", o.report.data);
    outcome_free(&o);
    close_school(&s);
}

TEST(every_loss_learns) {
    static const char *const losses[] = {
        "\"mse\"", "\"ce\"", "{\"kind\":\"kl\",\"temperature\":1,\"hard_weight\":0}",
        "[{\"kind\":\"kl\",\"temperature\":2,\"weight\":0.5},{\"kind\":\"mse\",\"weight\":0.1},{\"kind\":\"ce\",\"weight\":0.4}]"};
    for (size_t i = 0; i < sizeof losses / sizeof *losses; i++) {
        struct school s;
        struct outcome o;
        struct err e = {0};
        char json[1024];
        open_school(&s, 1);
        snprintf(json, sizeof json,
                 "{\"teacher\":\"linear\",\"dataset\":\"points\",\"loss\":%s,\"student\":{\"layers\":"
                 "[{\"dense\":64},\"relu\",{\"dense\":4}]}," TRAINING "}",
                 losses[i]);
        ok(run(&o, &s, "distill", json, &e) == 0, "%s", e.text);
        ok(number_in(&o.metrics, "agreement") > 0.85, "%s: agreement %g", losses[i],
           number_in(&o.metrics, "agreement"));
        outcome_free(&o);
        close_school(&s);
    }
}

TEST(two_threads_give_the_same_student) {
    struct school one, two;
    struct outcome a, b;
    struct err e = {0};
    open_school(&one, 1);
    open_school(&two, 2);
    const char *json = "{\"teacher\":[\"deep\",{\"model\":\"linear\",\"weight\":3}],\"dataset\":\"points\","
                       "\"student\":{\"width\":0.25},\"train\":{\"epochs\":3,\"batch\":50}}";
    need(run(&a, &one, "distill", json, &e) == 0, "%s", e.text);
    need(run(&b, &two, "distill", json, &e) == 0, "%s", e.text);
    ok(same_weights(a.student, b.student), "weights");
    ok(!strcmp(a.metrics.data, b.metrics.data) && !strcmp(a.report.data, b.report.data), "reports");
    ok(a.student->values[a.student->outputs[0]].producer == a.student->n_nodes - 1, "softmax is back");
    outcome_free(&a);
    outcome_free(&b);
    close_school(&one);
    close_school(&two);
}

TEST(teachers_are_asked_once) {
    struct school s;
    struct outcome o;
    struct err e = {0};
    open_school(&s, 1);
    const char *json =
        "{\"teacher\":\"deep\",\"dataset\":\"points\",\"student\":{\"width\":0.5},\"train\":{\"epochs\":1}}";
    need(run(&o, &s, "distill", json, &e) == 0, "%s", e.text);
    ok(s.world.cache_hits == 0 && s.world.n_cache == 1, "first run");
    outcome_free(&o);
    need(run(&o, &s, "distill", json, &e) == 0, "%s", e.text);
    ok(s.world.cache_hits == 1 && s.world.n_cache == 1, "second run");
    outcome_free(&o);
    const char *scaled =
        "{\"teacher\":\"deep\",\"dataset\":{\"ref\":\"points\",\"scale\":2},\"student\":{\"width\":0.5},"
        "\"train\":{\"epochs\":1}}";
    need(run(&o, &s, "distill", scaled, &e) == 0, "%s", e.text);
    ok(s.world.cache_hits == 1 && s.world.n_cache == 2, "other preprocessing");
    outcome_free(&o);
    close_school(&s);
}

TEST(interrupted_jobs_end_in_the_same_student) {
    struct school whole, parts;
    struct outcome a, b;
    struct err e = {0};
    open_school(&whole, 1);
    open_school(&parts, 2);
    const char *json =
        "{\"teacher\":\"linear\",\"dataset\":\"points\",\"student\":{\"layers\":[{\"dense\":16},\"relu\","
        "{\"dropout\":0.2},{\"dense\":4}]},\"train\":{\"epochs\":4,\"batch\":64,\"optimizer\":\"sgd\"}}";
    need(run(&a, &whole, "distill", json, &e) == 0, "%s", e.text);
    parts.world.checkpoint_every = 3;
    parts.world.stop_at = 17;
    ok(run(&b, &parts, "distill", json, &e) == E_CANCELLED, "%s", e.text);
    err_clear(&e);
    parts.world.stop_at = 0;
    need(run(&b, &parts, "distill", json, &e) == 0, "%s", e.text);
    ok(same_weights(a.student, b.student) && !strcmp(a.metrics.data, b.metrics.data), "student");
    outcome_free(&a);
    outcome_free(&b);
    close_school(&whole);
    close_school(&parts);
}

TEST(a_guessing_teacher_is_reported) {
    struct school s;
    struct outcome o;
    struct err e = {0};
    open_school(&s, 1);
    for (int i = 0; i < SAMPLES; i++) labels[i] = i % CLASSES;
    need(run(&o, &s, "distill",
             "{\"teacher\":\"deep\",\"dataset\":\"points\",\"student\":{\"width\":0.5},"
             "\"train\":{\"epochs\":1}}",
             &e) == 0,
         "%s", e.text);
    ok(strstr(o.report.data, "no better than chance") != NULL, "%s", o.report.data);
    outcome_free(&o);
    close_school(&s);
}

TEST(without_labels_the_teacher_suffices) {
    struct school s;
    struct outcome o;
    struct err e = {0};
    open_school(&s, 1);
    need(run(&o, &s, "distill",
             "{\"teacher\":\"linear\",\"dataset\":\"bare\",\"student\":{\"layers\":[{\"dense\":4}]}," TRAINING "}",
             &e) == 0,
         "%s", e.text);
    ok(isnan(number_in(&o.metrics, "accuracy")) && number_in(&o.metrics, "agreement") > 0.9, "%s", o.metrics.data);
    outcome_free(&o);
    close_school(&s);
}

TEST(training_on_labels) {
    struct school s;
    struct outcome o;
    struct err e = {0};
    open_school(&s, 1);
    need(run(&o, &s, "train", "{\"student\":{\"layers\":[{\"dense\":4}]},\"dataset\":\"points\"," TRAINING "}", &e) ==
             0,
         "%s", e.text);
    ok(number_in(&o.metrics, "accuracy") > 0.85, "%s", o.metrics.data);
    outcome_free(&o);
    need(run(&o, &s, "train",
             "{\"model\":\"deep\",\"freeze\":[\"dense1*\"],\"new_head\":{\"classes\":4},"
             "\"dataset\":\"points\",\"train\":{\"epochs\":2}}",
             &e) == 0,
         "%s", e.text);
    int w = graph_find_value(o.student, "dense1.weight");
    const struct graph *deep = s.world.models[1].graph;
    ok(!memcmp(o.student->values[w].constant->data, deep->values[w].constant->data, 32 * FEATURES * 4), "frozen");
    outcome_free(&o);
    close_school(&s);
}

TEST(evaluating) {
    struct school s;
    struct outcome o;
    struct err e = {0};
    open_school(&s, 2);
    need(run(&o, &s, "evaluate", "{\"model\":\"linear\",\"dataset\":\"points\"}", &e) == 0, "%s", e.text);
    ok(number_in(&o.metrics, "accuracy") == 1 && !o.student, "%s", o.metrics.data);
    outcome_free(&o);
    close_school(&s);
}

TEST(checks_point_at_the_field) {
    static const struct {
        const char *method, *json, *pointer;
    } cases[] = {
        {"distill", "{\"teacher\":\"nobody\",\"dataset\":\"points\",\"student\":{\"width\":0.5}}", "/teacher/0/model"},
        {"distill", "{\"teacher\":\"deep\",\"dataset\":\"none\",\"student\":{\"width\":0.5}}", "/dataset"},
        {"distill", "{\"teacher\":\"deep\",\"dataset\":\"points\",\"evaluate\":\"none\",\"student\":{\"width\":0.5}}",
         "/evaluate"},
        {"distill", "{\"teacher\":\"deep\",\"dataset\":\"points\",\"student\":{\"width\":0.99}}", "/student/width"},
        {"distill", "{\"teacher\":\"deep\",\"dataset\":\"points\",\"student\":{}}", "/student"},
        {"distill", "{\"teacher\":\"deep\",\"dataset\":\"points\"}", "/student"},
        {"distill", "{\"teacher\":\"deep\",\"dataset\":\"points\",\"student\":{\"layers\":[{\"dense\":5}]}}",
         "/student"},
        {"distill", "{\"teacher\":\"deep\",\"dataset\":\"bare\",\"student\":{\"width\":0.5},\"loss\":\"ce\"}",
         "/loss/0/kind"},
        {"distill",
         "{\"teacher\":\"deep\",\"dataset\":\"bare\",\"student\":{\"width\":0.5},\"train\":{\"early_stop\":{}}}",
         "/train/early_stop/metric"},
        {"distill",
         "{\"teacher\":\"deep\",\"dataset\":\"points\",\"holdout\":0,\"student\":{\"width\":0.5},"
         "\"train\":{\"early_stop\":{}}}",
         "/train/early_stop"},
        {"distill", "{\"teacher\":\"deep\",\"dataset\":\"points\",\"student\":{\"width\":0.5},\"train\":{\"epoch\":3}}",
         "/train/epoch"},
        {"train", "{\"dataset\":\"points\"}", "/model"},
        {"train", "{\"model\":\"deep\",\"dataset\":\"bare\"}", "/dataset"},
        {"train", "{\"model\":\"deep\",\"dataset\":\"points\",\"freeze\":\"conv*\"}", "/freeze/0"},
        {"train", "{\"model\":\"deep\",\"dataset\":\"points\",\"freeze\":\"*\"}", "/freeze"},
        {"train", "{\"model\":\"deep\",\"dataset\":\"points\",\"new_head\":{\"classes\":2}}", "/dataset"},
        {"evaluate", "{\"model\":\"deep\",\"dataset\":\"bare\"}", "/dataset"},
        {"evaluate", "{\"model\":\"none\",\"dataset\":\"points\"}", "/model"},
    };
    struct school s;
    open_school(&s, 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = {0};
        void *spec;
        const struct method *method;
        int status = check(&spec, &method, &s, cases[i].method, cases[i].json, NULL, &e);
        ok(status != 0 && !strcmp(e.pointer, cases[i].pointer), "%s: at '%s', %s", cases[i].json, e.pointer, e.text);
        free(spec);
    }
    close_school(&s);
}

TEST(checks_complete_the_specification) {
    struct school s;
    struct err e = {0};
    void *spec;
    const struct method *method;
    struct graph_size size;
    struct text out;
    open_school(&s, 1);
    need(check(&spec, &method, &s, "distill",
               "{\"teacher\":\"deep@latest\",\"dataset\":\"points\",\"student\":{\"width\":0.25}}", &size,
               &e) == E_NOT_FOUND,
         "unknown to this world");
    free(spec);
    err_clear(&e);
    need(check(&spec, &method, &s, "distill",
               "{\"teacher\":\"deep\",\"dataset\":\"points\",\"student\":{\"width\":0.25}}", &size, &e) == 0,
         "%s", e.text);
    ok(size.parameters == 6 * 8 + 8 + 8 * 4 + 4, "%lld parameters", (long long)size.parameters);
    text_init(&out, 1 << 16);
    struct json_writer w = json_writer(&out);
    json_open_object(&w, NULL);
    param_write(&w, method->params, spec);
    json_close_object(&w);
    ok(strstr(out.data, "\"epochs\":10") && strstr(out.data, "\"hard_weight\":0.1") &&
           strstr(out.data, "\"momentum\":0.9") && strstr(out.data, "\"output\":\"deep-student\""),
       "%s", out.data);
    void *again;
    ok(check(&again, &method, &s, "distill", out.data, &size, &e) == 0, "the written specification is one: %s", e.text);
    ok(!memcmp(spec, again, method->spec_size), "and the same one");
    text_free(&out);
    free(spec);
    free(again);
    close_school(&s);
}

/* ---- out of memory ---- */

static int distil_once(void) {
    struct school s;
    struct outcome o = {0};
    struct err e = {0};
    void *spec = NULL;
    const struct method *method;
    memset(&s, 0, sizeof s);
    s.world = world_of_all;
    s.world.n_cache = s.world.n_scratch = 0;
    s.host = memory_host_open(&s.world, 1);
    int status = check(&spec, &method, &s, "distill",
                       "{\"teacher\":\"deep\",\"dataset\":{\"ref\":\"points\",\"limit\":40},"
                       "\"student\":{\"width\":0.25},\"train\":{\"steps\":1,\"batch\":16,\"early_stop\":{}}}",
                       NULL, &e);
    if (!status) status = method->run(&o, spec, &s.host, &e);
    free(spec);
    outcome_free(&o);
    for (int i = 0; i < s.world.n_cache; i++) mem_free(s.world.cache[i].bytes);
    for (int i = 0; i < s.world.n_scratch; i++) mem_free(s.world.scratch[i]);
    return status;
}

TEST(memory_may_run_out) {
    struct school s;
    open_school(&s, 1);
    world_of_all = s.world;
    starve("distill", distil_once);
    close_school(&s);
}

TEST_MAIN
