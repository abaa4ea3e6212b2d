/* param_test.c - parameter tables: every type, the short forms, defaults, refusals, and the way back. */
#include "base/param.h"

#include "tests/base/starve.h"

enum method { METHOD_SGD, METHOD_ADAM, METHOD_RMSPROP };

struct schedule {
    int64_t warmup;
    double decay;
    char kind[16];
};

static const struct param schedule_params[] = {
    PARAM_INT(struct schedule, warmup, "0", 0, 1e6, "steps before the peak"),
    PARAM_REAL(struct schedule, decay, NULL, 0, 1, "factor per epoch"),
    PARAM_STRING(struct schedule, kind, "\"constant\"", "shape of the curve"),
    PARAM_END,
};

struct loss {
    char kind[16];
    double weight;
    struct schedule schedule;
    bool has_schedule;
};

static const struct param loss_params[] = {
    {.name = "kind",
     .type = PARAM_TYPE_STRING,
     .required = true,
     PARAM_AT(struct loss, kind),
     .help = "what is compared"},
    PARAM_REAL(struct loss, weight, "1", 0, 100, "factor"),
    PARAM_OPTIONAL(struct loss, schedule, has_schedule, schedule_params, "kind", "over time"),
    PARAM_END,
};
static const struct param loss_element = {.type = PARAM_TYPE_OBJECT,
                                          .size = sizeof(struct loss),
                                          .fields = loss_params,
                                          .bare = "kind",
                                          .present_offset = PARAM_NO_PRESENT};
static const struct param int_element = {
    .type = PARAM_TYPE_INT, .size = sizeof(int64_t), .low = 1, .high = 64, .choices = "same"};
static const struct param real_element = {.type = PARAM_TYPE_REAL, .size = sizeof(double)};
static const struct param string_element = {.type = PARAM_TYPE_STRING, .size = 8};

struct teacher {
    char ref[32];
};

static const struct param teacher_params[] = {PARAM_MODEL(struct teacher, ref, true, "who teaches"), PARAM_END};

struct job {
    bool quick;
    int64_t epochs;
    int64_t width;
    int64_t seed;
    double rate;
    enum method method;
    enum method fallback;
    char name[12];
    struct schedule schedule;
    struct teacher teacher;
    bool has_teacher;
    struct loss losses[3];
    int n_losses;
    int64_t widths[4];
    int n_widths;
    double momenta[2];
    int n_momenta;
    char names[3][8];
    int n_names;
};

static const struct param job_params[] = {
    PARAM_BOOL(struct job, quick, "true", "skip the report"),
    PARAM_INT(struct job, epochs, "10", 1, 1e6, "passes over the data"),
    {.name = "width",
     .type = PARAM_TYPE_INT,
     PARAM_AT(struct job, width),
     .low = 1,
     .high = 4096,
     .choices = "same auto"},
    PARAM_INT(struct job, seed, NULL, 0, 0, "any whole number"),
    PARAM_REAL(struct job, rate, "0.001", 0, 10, "step size"),
    PARAM_CHOICE(struct job, method, "\"adam\"", "sgd adam rmsprop", "update rule"),
    PARAM_CHOICE(struct job, fallback, NULL, "sgd adam rmsprop", "update rule when the first diverges"),
    PARAM_STRING(struct job, name, NULL, "of the student"),
    PARAM_OBJECT(struct job, schedule, schedule_params, NULL, "of the step size"),
    PARAM_OPTIONAL(struct job, teacher, has_teacher, teacher_params, "ref", "left out: learns from labels"),
    PARAM_LIST(struct job, losses, n_losses, &loss_element, "weighted sum"),
    {.name = "widths",
     .type = PARAM_TYPE_LIST,
     .offset = offsetof(struct job, widths),
     .size = sizeof(int64_t),
     .max = 4,
     .count_offset = offsetof(struct job, n_widths),
     .fields = &int_element,
     .standard = "[8,16]",
     .help = "of the layers"},
    PARAM_LIST(struct job, momenta, n_momenta, &real_element, "of the averages"),
    PARAM_LIST(struct job, names, n_names, &string_element, "of the layers"),
    PARAM_END,
};

/* Parses JSON text by job_params; the error and code are kept for the checks below. */
static struct job job;
static struct err err;

static int parse_at(const char *text, const char *at) {
    struct json *root = NULL;
    err_clear(&err);
    memset(&job, 0x5a, sizeof job);
    int code = json_parse(&root, text, strlen(text), &err);
    if (!code) code = param_parse(&job, job_params, root, at, &err);
    json_free(root);
    return code;
}

static bool parses(const char *text) {
    int code = parse_at(text, "");
    return ok(code == 0 && err.code == 0, "%s: %s", text, err.text);
}

static void refused(const char *text, const char *pointer, const char *words) {
    int code = parse_at(text, "");
    ok(code == E_INVALID && err.code == code, "%s gave %d", text, code);
    ok(strcmp(err.pointer, pointer) == 0, "%s: pointer %s", text, err.pointer);
    ok(strstr(err.text, words), "%s: %s", text, err.text);
}

/* The struct as JSON text, to be freed. */
static char *written(const struct job *in) {
    struct text t;
    text_init(&t, 10000);
    struct json_writer w = json_writer(&t);
    json_open_object(&w, NULL);
    param_write(&w, job_params, in);
    json_close_object(&w);
    return text_take(&t);
}

/* Writing what `text` gives and reading that again gives the same bytes. */
static void comes_back(const char *text, const char *expected) {
    if (!parses(text)) return;
    struct job first = job;
    char *again = written(&first);
    need(again, "written");
    if (expected) ok(strcmp(again, expected) == 0, "%s became %s", text, again);
    if (parses(again)) ok(memcmp(&first, &job, offsetof(struct job, n_names) + sizeof(int)) == 0, "%s changed", again);
    mem_free(again);
}

TEST(defaults_fill_everything) {
    need(parses("{}"), "empty");
    struct job from_empty = job;
    ok(job.quick && job.epochs == 10 && job.rate == 0.001 && job.method == METHOD_ADAM, "with default");
    ok(job.width == PARAM_ABSENT && job.seed == PARAM_ABSENT && (int)job.fallback == -1 && !job.name[0],
       "without default");
    ok(job.schedule.warmup == 0 && isnan(job.schedule.decay) && strcmp(job.schedule.kind, "constant") == 0, "nested");
    ok(!job.has_teacher && !job.teacher.ref[0] && job.n_losses == 0 && job.n_momenta == 0, "absent");
    ok(job.n_widths == 2 && job.widths[0] == 8 && job.widths[1] == 16 && job.widths[2] == 0, "list");
    memset(&job, 0x5a, sizeof job);
    ok(param_parse(&job, job_params, NULL, "", NULL) == 0, "without an object");
    ok(memcmp(&job, &from_empty, offsetof(struct job, n_names) + sizeof(int)) == 0, "the same");
    ok(mem_live() == 0, "%lld alive", (long long)mem_live());
}

TEST(optional_objects_are_defaulted_when_absent) {
    need(parses("{\"losses\":[{\"kind\":\"kl\"}]}"), "loss");
    ok(!job.losses[0].has_schedule && strcmp(job.losses[0].schedule.kind, "constant") == 0, "absent, yet filled");
    need(parses("{\"losses\":[{\"kind\":\"kl\",\"schedule\":{}}]}"), "loss");
    ok(job.losses[0].has_schedule && strcmp(job.losses[0].schedule.kind, "constant") == 0, "given, empty");
}

struct step_size {
    double rate;
    int rule;
    bool has_rate, has_rule;
};
static const struct param step_size_params[] = {
    PARAM_REAL_OR(struct step_size, rate, has_rate, "0.5", 0, 1, "step size"),
    PARAM_CHOICE_OR(struct step_size, rule, has_rule, "\"adam\"", "sgd adam", "update rule"),
    PARAM_END,
};

TEST(defaults_that_were_not_asked_for_are_told_apart) {
    struct step_size s;
    struct json *root;
    need(param_parse(&s, step_size_params, NULL, "", NULL) == 0, "defaults");
    ok(s.rate == 0.5 && s.rule == 1 && !s.has_rate && !s.has_rule, "nothing is given");
    need(json_parse(&root, "{\"rate\":0.5,\"rule\":null}", 24, NULL) == 0, "json");
    need(param_parse(&s, step_size_params, root, "", NULL) == 0, "one given");
    ok(s.rate == 0.5 && s.rule == 1 && s.has_rate && !s.has_rule, "the rate is given, as its default");
    json_free(root);
}

TEST(required_is_not_asked_of_defaults) {
    struct loss loss;
    struct err e = {0};
    ok(param_parse(&loss, loss_params, NULL, "", &e) == 0 && loss.weight == 1 && !loss.kind[0], "%s", e.text);
}

TEST(values_of_every_type) {
    need(parses("{\"quick\":false,\"epochs\":3,\"width\":64,\"seed\":\"-9223372036854775807\",\"rate\":1,\"method\":"
                "\"rmsprop\","
                "\"fallback\":\"sgd\",\"name\":\"elevenbytes\",\"schedule\":{\"warmup\":5,\"decay\":0.5,\"kind\":"
                "\"cosine\"},"
                "\"teacher\":{\"ref\":\"big@2\"},\"widths\":[1,\"same\",64,\"2\"],\"momenta\":[0.5,-1],\"names\":["
                "\"a\",\"\"]}"),
         "all");
    ok(!job.quick && job.epochs == 3 && job.width == 64 && job.seed == -INT64_MAX && job.rate == 1, "plain");
    ok(job.method == METHOD_RMSPROP && job.fallback == METHOD_SGD && strcmp(job.name, "elevenbytes") == 0, "words");
    ok(job.schedule.warmup == 5 && job.schedule.decay == 0.5 && strcmp(job.schedule.kind, "cosine") == 0, "object");
    ok(job.has_teacher && strcmp(job.teacher.ref, "big@2") == 0, "optional");
    ok(job.n_widths == 4 && job.widths[1] == -1 && job.widths[3] == 2, "integers");
    ok(job.n_momenta == 2 && job.momenta[1] == -1 && job.n_names == 2 && strcmp(job.names[0], "a") == 0, "lists");
}

TEST(short_forms) {
    need(parses("{\"teacher\":\"big\",\"losses\":[\"kl\",{\"kind\":\"mse\",\"weight\":2,\"schedule\":\"cosine\"}]}"),
         "bare");
    ok(job.has_teacher && strcmp(job.teacher.ref, "big") == 0, "object");
    ok(job.n_losses == 2 && strcmp(job.losses[0].kind, "kl") == 0 && job.losses[0].weight == 1,
       "element, defaults beside it");
    ok(job.losses[1].has_schedule && strcmp(job.losses[1].schedule.kind, "cosine") == 0, "nested");
    need(parses("{\"losses\":\"kl\",\"widths\":\"same\",\"momenta\":0.5,\"names\":\"a\"}"), "single");
    ok(job.n_losses == 1 && strcmp(job.losses[0].kind, "kl") == 0, "one bare element");
    ok(job.n_widths == 1 && job.widths[0] == -1 && job.n_momenta == 1 && job.n_names == 1, "one element");
    need(parses("{\"losses\":{\"kind\":\"kl\"},\"widths\":[]}"), "object");
    ok(job.n_losses == 1 && job.n_widths == 0, "one object, and an empty list instead of the default");
}

TEST(null_is_not_given) {
    need(parses("{\"epochs\":null,\"teacher\":null,\"width\":null,\"losses\":null}"), "null");
    ok(job.epochs == 10 && !job.has_teacher && job.width == PARAM_ABSENT && job.n_losses == 0, "defaults");
    refused("{\"teacher\":{\"ref\":null}}", "/teacher/ref", "it is required");
    refused("{\"momenta\":[null]}", "/momenta/0", "found null, expected a number");
}

TEST(extra_words_of_integers) {
    need(parses("{\"width\":\"auto\"}"), "auto");
    ok(job.width == -2, "%lld", (long long)job.width);
    need(parses("{\"width\":\"12\"}"), "text");
    ok(job.width == 12, "%lld", (long long)job.width);
    refused("{\"width\":-1}", "/width", "found -1, expected a whole number from 1 to 4096 or one of same, auto");
    refused("{\"width\":\"other\"}", "/width",
            "found \"other\", expected a whole number from 1 to 4096 or one of same, auto");
    refused("{\"width\":\"\"}", "/width", "found \"\"");
}

TEST(wrong_types_are_refused) {
    refused("{\"quick\":1}", "/quick", "/quick: found 1, expected true or false");
    refused("{\"epochs\":true}", "/epochs", "found true, expected a whole number from 1 to 1000000");
    refused("{\"epochs\":[1]}", "/epochs", "found an array of 1");
    refused("{\"rate\":\"1\"}", "/rate", "found \"1\", expected a number from 0 to 10");
    refused("{\"name\":1}", "/name", "found 1, expected a string of 0 to 11 bytes");
    refused("{\"method\":1}", "/method", "found 1, expected one of sgd, adam, rmsprop");
    refused("{\"schedule\":\"cosine\"}", "/schedule", "found \"cosine\", expected an object");
    refused("{\"schedule\":[]}", "/schedule", "found an array of 0, expected an object");
    refused("{\"teacher\":1}", "/teacher",
            "found 1, expected an object or its \"ref\" alone: a string of 1 to 31 bytes");
    refused("{\"losses\":1}", "/losses", "expected a list of 0 to 3 elements, each an object or its \"kind\" alone");
    refused("{\"losses\":[[\"kl\"]]}", "/losses/0", "found an array of 1, expected an object");
    refused("{\"widths\":{}}", "/widths", "found an object, expected a list of 0 to 4 elements, each a whole number");
    refused("[]", "", "found an array, expected an object");
}

TEST(values_out_of_bounds_are_refused) {
    refused("{\"epochs\":0}", "/epochs", "found 0, expected a whole number from 1 to 1000000");
    refused("{\"epochs\":1000001}", "/epochs", "found 1000001");
    refused("{\"epochs\":1.5}", "/epochs", "found 1.5");
    refused("{\"epochs\":\"1e3\"}", "/epochs", "found \"1e3\"");
    refused("{\"seed\":9007199254740993}", "/seed", "expected a whole number");
    refused("{\"seed\":\"-9223372036854775808\"}", "/seed", "expected a whole number");
    refused("{\"rate\":-0.1}", "/rate", "found -0.1, expected a number from 0 to 10");
    refused("{\"rate\":10.5}", "/rate", "found 10.5");
    refused("{\"method\":\"adamw\"}", "/method", "found \"adamw\", expected one of sgd, adam, rmsprop");
    refused("{\"method\":\"sgd adam\"}", "/method", "found \"sgd adam\"");
    refused("{\"method\":\"\"}", "/method", "found \"\"");
    refused("{\"name\":\"twelve bytes\"}", "/name", "found \"twelve bytes\", expected a string of 0 to 11 bytes");
    refused("{\"teacher\":\"\"}", "/teacher", "found \"\"");
    refused("{\"teacher\":{\"ref\":\"\"}}", "/teacher/ref", "expected a string of 1 to 31 bytes");
    refused("{\"widths\":[1,2,3,4,5]}", "/widths", "found an array of 5, expected a list of 0 to 4 elements");
    refused("{\"widths\":[1,65]}", "/widths/1", "found 65, expected a whole number from 1 to 64 or one of same");
    refused("{\"widths\":65}", "/widths", "found 65");
    refused("{\"losses\":[\"kl\",{\"kind\":\"mse\",\"weight\":101}]}", "/losses/1/weight",
            "/losses/1/weight: found 101");
    refused("{\"losses\":{\"kind\":\"mse\",\"weight\":101}}", "/losses/weight", "found 101");
}

TEST(required_members_must_be_there) {
    refused("{\"teacher\":{}}", "/teacher/ref", "/teacher/ref: found nothing, but it is required: who teaches");
    refused("{\"losses\":[{}]}", "/losses/0/kind", "it is required: what is compared");
}

struct pair {
    struct both {
        char first[8];
        int64_t second[2];
        int n_second;
    } both;
};

static const struct param both_params[] = {
    PARAM_MODEL(struct both, first, true, "one"),
    {.name = "second",
     .type = PARAM_TYPE_LIST,
     .required = true,
     .offset = offsetof(struct both, second),
     .size = sizeof(int64_t),
     .max = 2,
     .count_offset = offsetof(struct both, n_second),
     .fields = &int_element,
     .help = "two"},
    PARAM_END,
};
static const struct param pair_params[] = {PARAM_OBJECT(struct pair, both, both_params, "first", "both"), PARAM_END};

static int parse_pair(const char *text) {
    struct pair pair;
    struct json *root = NULL;
    err_clear(&err);
    int code = json_parse(&root, text, strlen(text), &err);
    if (!code) code = param_parse(&pair, pair_params, root, "", &err);
    json_free(root);
    return code;
}

TEST(required_members_beside_a_bare_one) {
    ok(parse_pair("{\"both\":\"a\"}") == E_INVALID && strcmp(err.pointer, "/both/second") == 0, "%s", err.text);
    ok(parse_pair("{\"both\":{\"second\":1}}") == E_INVALID && strcmp(err.pointer, "/both/first") == 0, "%s", err.text);
    ok(parse_pair("{\"both\":{\"first\":\"a\",\"second\":[]}}") == E_INVALID, "an empty list");
    ok(strstr(err.text, "/both/second: found an array of 0, expected a list of 1 to 2 elements"), "%s", err.text);
    ok(parse_pair("{\"both\":{\"first\":\"a\",\"second\":1}}") == 0, "%s", err.text);
    ok(parse_pair("{}") == 0, "an object that is not required may be left out: %s", err.text);
}

TEST(unknown_members_are_refused) {
    refused("{\"epoch\":1}", "/epoch", "/epoch: found an unknown member, did you mean \"epochs\"?");
    refused("{\"schedule\":{\"warm_up\":1}}", "/schedule/warm_up", "did you mean \"warmup\"?");
    refused("{\"losses\":[{\"kind\":\"kl\",\"x/y~\":1}]}", "/losses/0/x~1y~0",
            "expected one of kind, weight, schedule");
    refused("{\"Epochs\":1}", "/Epochs", "did you mean \"epochs\"?");
}

TEST(pointers_start_where_the_caller_says) {
    ok(parse_at("{\"epochs\":0}", "/train") == E_INVALID && strcmp(err.pointer, "/train/epochs") == 0, "%s",
       err.pointer);
    ok(parse_at("[]", "/train") == E_INVALID && strcmp(err.pointer, "/train") == 0, "%s", err.pointer);
}

TEST(structs_come_back) {
    comes_back("{}", "{\"quick\":true,\"epochs\":10,\"rate\":0.001,\"method\":\"adam\","
                     "\"schedule\":{\"warmup\":0,\"kind\":\"constant\"},\"widths\":[8,16]}");
    comes_back(
        "{\"quick\":false,\"width\":\"auto\",\"widths\":[],\"seed\":\"9223372036854775807\",\"fallback\":\"sgd\"}",
        "{\"quick\":false,\"epochs\":10,\"width\":\"auto\",\"seed\":\"9223372036854775807\",\"rate\":0.001,"
        "\"method\":\"adam\",\"fallback\":\"sgd\",\"schedule\":{\"warmup\":0,\"kind\":\"constant\"},\"widths\":[]}");
    comes_back(
        "{\"teacher\":\"big\",\"losses\":[\"kl\",{\"kind\":\"mse\",\"schedule\":\"cosine\"}],\"schedule\":{\"kind\":"
        "\"\"},"
        "\"widths\":\"same\",\"momenta\":[0.1,1e-9],\"names\":[\"\",\"b\"],\"name\":\"n\",\"rate\":0.3}",
        "{\"quick\":true,\"epochs\":10,\"rate\":0.3,\"method\":\"adam\",\"name\":\"n\","
        "\"schedule\":{\"warmup\":0,\"kind\":\"\"},\"teacher\":{\"ref\":\"big\"},"
        "\"losses\":[{\"kind\":\"kl\",\"weight\":1},{\"kind\":\"mse\",\"weight\":1,\"schedule\":"
        "{\"warmup\":0,\"kind\":\"cosine\"}}],\"widths\":[\"same\"],\"momenta\":[0.1,1e-09],\"names\":[\"\",\"b\"]}");
    ok(mem_live() == 0, "%lld alive", (long long)mem_live());
}

TEST(tables_describe_themselves) {
    struct text t;
    text_init(&t, 100000);
    struct json_writer w = json_writer(&t);
    param_describe(&w, NULL, job_params);
    struct json *root;
    struct err e = {0};
    need(json_parse(&root, t.data, t.length, &e) == 0, "%s", e.text);
    const struct json *rows[14];
    need(json_count(root) == 14, "%zu rows", json_count(root));
    size_t n = 0;
    for (const struct json *row = json_first(root); row; row = json_next(row)) rows[n++] = row;
    static const struct {
        int row;
        const char *json;
    } expected[] = {
        {0,
         "{\"name\":\"quick\",\"required\":false,\"default\":true,\"help\":\"skip the report\",\"type\":\"boolean\"}"},
        {1,
         "{\"name\":\"epochs\",\"required\":false,\"default\":10,\"help\":\"passes over the data\",\"type\":\"integer\","
         "\"minimum\":1,\"maximum\":1000000}"},
        {2, "{\"name\":\"width\",\"required\":false,\"type\":\"integer\",\"minimum\":1,\"maximum\":4096,"
            "\"choices\":[\"same\",\"auto\"]}"},
        {5, "{\"name\":\"method\",\"required\":false,\"default\":\"adam\",\"help\":\"update rule\",\"type\":\"choice\","
            "\"choices\":[\"sgd\",\"adam\",\"rmsprop\"]}"},
        {9,
         "{\"name\":\"teacher\",\"required\":false,\"help\":\"left out: learns from labels\",\"type\":\"object\","
         "\"bare\":\"ref\",\"fields\":[{\"name\":\"ref\",\"required\":true,\"help\":\"who teaches\",\"type\":\"string\","
         "\"refers_to\":\"model\"}]}"},
        {11, "{\"name\":\"widths\",\"required\":false,\"default\":[8,16],\"help\":\"of the layers\",\"list\":4,"
             "\"type\":\"integer\",\"minimum\":1,\"maximum\":64,\"choices\":[\"same\"]}"},
        {12, "{\"name\":\"momenta\",\"required\":false,\"help\":\"of the averages\",\"list\":2,\"type\":\"number\"}"},
    };
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        struct text row;
        text_init(&row, 10000);
        w = json_writer(&row);
        json_put_value(&w, NULL, rows[expected[i].row]);
        ok(strcmp(row.data, expected[i].json) == 0, "%s", row.data);
        text_free(&row);
    }
    const struct json *fields = json_get(rows[10], "fields");
    ok(fields && json_count(fields) == 3 && strcmp(json_string(json_get(rows[10], "type")), "object") == 0,
       "list of objects");
    json_free(root);
    text_free(&t);
}

TEST(faulty_defaults_are_our_own_fault) {
    static const struct param broken[] = {PARAM_INT(struct schedule, warmup, "7", 1, 5, "out of its range"), PARAM_END};
    static const struct param torn[] = {PARAM_INT(struct schedule, warmup, "[", 1, 5, "no JSON"), PARAM_END};
    struct schedule s;
    struct err e = {0};
    ok(param_parse(&s, broken, NULL, "", &e) == E_INTERNAL && strstr(e.text, "found 7"), "%s", e.text);
    err_clear(&e);
    ok(param_parse(&s, torn, NULL, "", &e) == E_INTERNAL && strstr(e.text, "line 1"), "%s", e.text);
    ok(mem_live() == 0, "%lld alive", (long long)mem_live());
}

TEST(words) {
    ok(param_word_index("sgd adam", "sgd") == 0 && param_word_index("sgd adam", "adam") == 1, "found");
    ok(param_word_index("sgd adam", "ada") == -1 && param_word_index("sgd adam", "adamw") == -1, "parts");
    ok(param_word_index("sgd adam", "") == -1 && param_word_index("", "x") == -1 && param_word_index(NULL, "x") == -1,
       "none");
    char out[8];
    param_word(out, sizeof out, "sgd adam", 1);
    ok(strcmp(out, "adam") == 0, "%s", out);
    param_word(out, sizeof out, "sgd adam", 2);
    ok(!out[0], "%s", out);
    param_word(out, sizeof out, "sgd adam", -1);
    ok(!out[0], "%s", out);
    param_word(out, sizeof out, NULL, 0);
    ok(!out[0], "%s", out);
}

TEST(nearest) {
    static const char *const names[] = {"epochs", "learning_rate", "temperature", "lr"};
    static const struct {
        const char *name, *nearest;
    } cases[] = {{"epoch", "epochs"},
                 {"epcohs", "epochs"},
                 {"temprature", "temperature"},
                 {"learningrate", "learning_rate"},
                 {"l", "lr"},
                 {"ls", "lr"},
                 {"zebra", NULL},
                 {"epoxyz", NULL},
                 {"", NULL},
                 {"temperature", "temperature"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *nearest = param_nearest(cases[i].name, names, 4);
        bool same = nearest && cases[i].nearest ? strcmp(nearest, cases[i].nearest) == 0 : nearest == cases[i].nearest;
        ok(same, "%s: %s", cases[i].name, nearest ? nearest : "none");
    }
    static const char *const close[] = {"lrs", "lr", "lrt"};
    const char *closest = param_nearest("lr", close, 3);
    ok(closest == close[1], "the nearest of several: %s", closest);
    char long_name[300];
    memset(long_name, 'a', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    const char *same = long_name;
    ok(!param_nearest(long_name, &same, 1), "too long to compare");
    ok(!param_nearest(long_name, names, 4) && !param_nearest("a", names, 0), "too long, or none to choose from");
}

static int parse_and_write(void) {
    int code = parse_at("{\"teacher\":\"big\",\"losses\":[\"kl\",{\"kind\":\"mse\"}],\"widths\":[1,2]}", "");
    ok(code == err.code && (!code || err.text[0]), "%d and %d", code, err.code);
    if (code) return code;
    char *text = written(&job);
    mem_free(text);
    return text ? 0 : E_NOMEM;
}

TEST(survives_lack_of_memory) {
    starve("parse and write", parse_and_write);
}

TEST_MAIN
