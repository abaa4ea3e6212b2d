/* routes_test.c - every row of the route table: what a new one gets without asking for it. */
#define TEST_SECONDS 120
#include "tests/handlers/asking.h"

/* A path for the pattern: names that do not exist. */
static void path_of(char out[256], const char *pattern) {
    size_t n = 0;
    for (const char *c = pattern; *c && n < 200; c++) {
        if (*c != '{') {
            out[n++] = *c;
            continue;
        }
        const char *stand_in = !strncmp(c, "{id}", 4) ? "99" : !strncmp(c, "{alias}", 7) ? "gold" : "nobody";
        n += (size_t)snprintf(out + n, 256 - n, "%s", stand_in);
        c += strcspn(c, "}");
    }
    out[n] = '\0';
}

TEST(records_are_complete) {
    for (const struct route *const *row = route_table; *row; row++) {
        const struct route *r = *row;
        ok(r->pattern && r->pattern[0] == '/' && r->summary && *r->summary && r->reply, "%s", r->pattern);
        ok((r->handle != NULL) != (r->upload != NULL), "%s: one of handle and upload", r->pattern);
        ok((r->upload != NULL) == (r->body == BODY_STREAM), "%s: uploads stream", r->pattern);
        ok(r->body != BODY_JSON || (r->body_max && r->body_max <= JSON_MAX_SIZE), "%s: bounded JSON", r->pattern);
        ok(r->body != BODY_JSON || r->fields || r->body_schema, "%s: described JSON", r->pattern);
        ok(!*r->reply || reply_shape_find(r->reply), "%s: shape \"%s\"", r->pattern, r->reply);
        bool writes = r->method != HTTP_GET;
        ok(!writes || r->scope >= SCOPE_WRITE, "%s: a change needs the scope", r->pattern);
        ok(!writes || r->upload || r->slow, "%s: a change waits for the disk, beside the event loops", r->pattern);
        ok(strncmp(r->pattern, "/v1/", 4) || r->scope >= SCOPE_READ, "%s: data needs a scope", r->pattern);
        for (const struct param *p = r->query; p && p->name; p++)
            ok(p->help != NULL, "%s?%s: help", r->pattern, p->name);
    }
}

TEST(each_route_is_found_and_others_do_not_hide_it) {
    for (const struct route *const *row = route_table; *row; row++) {
        struct request r = {.method = (*row)->method};
        struct response out;
        char path[256], room[512];
        path_of(path, (*row)->pattern);
        asking_target(&r, room, path);
        response_init(&out);
        ok(route_find(&r, route_table, &out) == *row, "%s", path);
        response_fini(&out, NULL);
    }
}

TEST(every_code_of_an_error_is_described) {
    struct asking a;
    char target[64];
    need(asking_start(&a), "start");
#define X(code, slug, status) \
    text_print(target, sizeof target, "/problems/%s", slug); \
    ok(ask(&a, HTTP_GET, target, NULL) == 200 && err_status(code) == status, "%s", target);
    ERROR_CODES(X)
#undef X
    ok(ask(&a, HTTP_GET, "/problems/none", NULL) == 404, "no such problem");
    asking_stop(&a);
}

TEST(wrong_methods_are_told_the_right_ones) {
    struct asking a;
    char path[256];
    need(asking_start(&a), "start");
    for (const struct route *const *row = route_table; *row; row++) {
        path_of(path, (*row)->pattern);
        ok(ask(&a, HTTP_OTHER, path, NULL) == 405, "%s: %d", path, a.out.status);
        ok(strstr(answer_header(&a, "Allow"), http_method_name((*row)->method)) != NULL, "%s: %s", path,
           answer_header(&a, "Allow"));
    }
    asking_stop(&a);
}

TEST(unknown_names_and_parameters_are_refused) {
    struct asking a;
    char path[256], target[300];
    need(asking_start(&a), "start");
    for (const struct route *const *row = route_table; *row; row++) {
        const struct route *r = *row;
        path_of(path, r->pattern);
        int status = ask(&a, r->method, path, r->body == BODY_JSON ? "{}" : NULL);
        bool names = strchr(r->pattern, '{') != NULL && !r->upload;
        if (names) ok(status == 404 || status == 422, "%s %s: %d", http_method_name(r->method), path, status);
        if (r->body == BODY_JSON)
            ok(ask(&a, r->method, path, "{\"a\":") / 100 == 4, "%s: broken JSON: %d", path, a.out.status);
        if (r->any_query) continue;
        text_print(target, sizeof target, "%s?nonsense=1", path);
        status = ask(&a, r->method, target, r->body == BODY_JSON ? "{}" : NULL);
        ok(status == 422 || status == 404, "%s: %d", target, status);
    }
    asking_stop(&a);
}

/* ---- the description ---- */

static void check_references(const struct json *v, const struct json *schemas) {
    const struct json *target = json_type(v) == JSON_OBJECT ? json_get(v, "$ref") : NULL;
    if (target) {
        const char *name = strrchr(json_string(target), '/') + 1;
        ok(json_get(schemas, name) != NULL, "%s", json_string(target));
    }
    if (json_type(v) != JSON_OBJECT && json_type(v) != JSON_ARRAY) return;
    for (const struct json *c = json_first(v); c; c = json_next(c)) check_references(c, schemas);
}

TEST(openapi_describes_every_route) {
    struct asking a;
    need(asking_start(&a), "start");
    ok(ask(&a, HTTP_GET, "/openapi.json", NULL) == 200, "%d", a.out.status);
    struct json *root = NULL;
    struct json_limits wide = {HTTP_MAX_BODY_TEXT, 10000};
    need(!json_parse_within(&root, a.out.body.data, a.out.body.length, &wide, NULL), "JSON");
    printf("# %zu bytes\n", a.out.body.length);
    const struct json *paths = json_get(root, "paths");
    for (const struct route *const *row = route_table; *row; row++) {
        static const char *const verbs[] = {"get", "put", "post", "delete", ""};
        const struct json *path = json_get(paths, (*row)->pattern);
        ok(path && json_get(path, verbs[(*row)->method]), "%s", (*row)->pattern);
    }
    check_references(root, json_get(json_get(root, "components"), "schemas"));
    json_free(root);
    asking_stop(&a);
}

/* name{labels} value */
static bool is_sample(const char *line) {
    size_t name = strspn(line, "abcdefghijklmnopqrstuvwxyz_");
    const char *value = line + name;
    double number;
    if (*value == '{') value += strcspn(value, "}\n") + 1;
    return name > 0 && *value == ' ' && sscanf(value, " %lf\n", &number) == 1;
}

TEST(prometheus_lines) {
    struct asking a;
    int n = 0;
    need(asking_start(&a), "start");
    ok(ask(&a, HTTP_GET, "/metrics", NULL) == 200, "%s", a.out.body.data);
    for (const char *line = a.out.body.data; *line; line += strcspn(line, "\n") + 1, n++) {
        bool comment = !strncmp(line, "# HELP ", 7) || !strncmp(line, "# TYPE ", 7);
        ok(comment || is_sample(line), "%.*s", (int)strcspn(line, "\n"), line);
    }
    ok(n > 40 && strstr(a.out.body.data, "\nretort_jobs{state=\"queued\"} 0\n"), "%d lines", n);
    asking_stop(&a);
}

/* ---- out of memory ---- */

struct question {
    enum http_method method;
    const char *target, *body;
};

static const struct question questions[] = {
    {HTTP_PUT, "/v1/models/m/onnx", "NET 1"},
    {HTTP_GET, "/v1/models", NULL},
    {HTTP_GET, "/v1/models/m", NULL},
    {HTTP_GET, "/v1/models/m@1/onnx", NULL},
    {HTTP_GET, "/v1/models/m/graph", NULL},
    {HTTP_GET, "/v1/models/m/safetensors", NULL},
    {HTTP_PUT, "/v1/models/m/safetensors", "W 1"},
    {HTTP_PUT, "/v1/models/m/safetensors", "W 2"},
    {HTTP_PUT, "/v1/models/m/aliases/a", "{\"version\":1}"},
    {HTTP_GET, "/v1/models/m/aliases/a/history", NULL},
    {HTTP_DELETE, "/v1/models/m/aliases/a", NULL},
    {HTTP_PUT, "/v1/datasets/d/inputs", "ARR - abc"},
    {HTTP_PUT, "/v1/datasets/d/safetensors", "ARR more abc"},
    {HTTP_GET, "/v1/datasets", NULL},
    {HTTP_GET, "/v1/datasets/d/inputs", NULL},
    {HTTP_POST, "/v1/jobs", "{\"method\":\"distill\",\"teacher\":\"m\"}"},
    {HTTP_GET, "/v1/jobs", NULL},
    {HTTP_GET, "/v1/jobs/1/events", NULL},
    {HTTP_GET, "/v1/jobs/1/metrics", NULL},
    {HTTP_POST, "/v1/jobs/1/cancel", "{}"},
    {HTTP_GET, "/v1/methods", NULL},
    {HTTP_GET, "/metrics", NULL},
    {HTTP_GET, "/version", NULL},
    {HTTP_DELETE, "/v1/datasets/d", NULL},
};

static void forget(struct asking *a) {
    json_free(a->json);
    a->json = NULL;
    response_fini(&a->out, a->store);
}

/* Asks with the nth allocation failing. *failed: there was an nth. Gives the blocks that stay alive. */
static int64_t starve_at(bool *failed, struct asking *a, const struct question *q, uint64_t n, bool for_good) {
    forget(a);
    int64_t before = mem_live();
    uint64_t calls = mem_calls();
    mem_fail_at(n, for_good);
    int status = ask(a, q->method, q->target, q->body);
    mem_fail_at(0, false);
    *failed = mem_calls() - calls >= n;
    ok(status >= 200 && status < 600, "%s at %llu: status %d", q->target, (unsigned long long)n, status);
    forget(a);
    return mem_live() - before;
}

/* Runs the question with the 1st, 2nd, 3rd... allocation failing, until none fails. What the store
 * caches grows once, a leak grows each time. */
static int starve(struct asking *a, const struct question *q, bool for_good) {
    int points = 0;
    bool failed = true;
    for (uint64_t n = 1; n < 5000 && failed; n++, points++) {
        int64_t more = starve_at(&failed, a, q, n, for_good);
        for (int again = 0; more > 0 && again < 5; again++) more = starve_at(&failed, a, q, n, for_good);
        ok(more <= 0, "%s at %llu: %lld blocks more, each time", q->target, (unsigned long long)n, (long long)more);
    }
    return points;
}

TEST(starving_leaks_nothing_and_breaks_nothing) {
    struct asking a;
    int points = 0;
    struct store_job_new job = {.method = "distill", .spec = "{}"};
    int64_t id;
    need(asking_start(&a), "start");
    need(!store_job_create(&id, NULL, a.store, &job, NULL), "a job");
    a.quiet = true;
    for (size_t i = 0; i < sizeof questions / sizeof questions[0]; i++) {
        const struct question *q = &questions[i];
        ask(&a, q->method, q->target, q->body); /* statements are prepared once and kept */
        points += starve(&a, q, false) + starve(&a, q, true);
    }
    printf("# %d points of failure\n", points);
    ok(!store_verify(a.store, NULL), "the store is whole");
    asking_stop(&a);
}

TEST_MAIN
