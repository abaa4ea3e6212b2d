/* models_test.c - models, versions and aliases, without sockets. */
#include "store/cache.h"
#include "tests/handlers/asking.h"

static bool put(struct asking *a, const char *name, const char *bytes, int status) {
    char target[128];
    text_print(target, sizeof target, "/v1/models/%s/onnx", name);
    int found = ask(a, HTTP_PUT, target, bytes);
    return ok(found == status, "%s: %d: %s", target, found, a->out.body.data);
}

TEST(a_model_goes_in_and_comes_out) {
    struct asking a;
    need(asking_start(&a), "start");
    put(&a, "teacher", "NET 7 first", 201);
    ok(!strcmp(answer_header(&a, "Location"), "/v1/models/teacher@1"), "%s", answer_header(&a, "Location"));
    ok(number_at(&a, "version") == 1 && number_at(&a, "parameters") == 7 && number_at(&a, "bytes") == 11,
       "the version");
    put(&a, "teacher", "NET 7 first", 200);
    ok(number_at(&a, "version") == 1, "the same bytes, the same version");
    put(&a, "teacher", "NET 8 second", 201);
    ok(number_at(&a, "version") == 2, "other bytes, another version");

    ok(ask(&a, HTTP_GET, "/v1/models/teacher/onnx", NULL) == 200 && !strcmp(a.body, "NET 8 second"), "%s", a.body);
    ok(!strcmp(answer_header(&a, "Content-Disposition"), "attachment; filename=\"teacher-v2.onnx\""), "name");
    ok(!strcmp(answer_header(&a, "Content-Location"), "/v1/models/teacher@2/onnx"), "%s",
       answer_header(&a, "Content-Location"));
    ok(!strcmp(answer_header(&a, "Cache-Control"), "no-cache"), "latest moves");
    ok(a.out.source.has_digest, "digest");
    ok(ask(&a, HTTP_GET, "/v1/models/teacher@1/onnx", NULL) == 200 && !strcmp(a.body, "NET 7 first"), "%s", a.body);
    ok(strstr(answer_header(&a, "Cache-Control"), "immutable") != NULL, "a number never moves");
    ok(ask(&a, HTTP_GET, "/v1/models/teacher@1/onnx.sha256", NULL) == 200, "sum");
    char hex[DIGEST_HEX_SIZE], line[128], target[160];
    struct digest d = digest_of("NET 7 first", 11);
    digest_to_hex(hex, &d);
    text_print(line, sizeof line, "%s  teacher-v1.onnx\n", hex);
    ok(!strcmp(a.out.body.data, line), "%s", a.out.body.data);
    text_print(target, sizeof target, "/v1/models/teacher@sha256:%s/onnx", hex);
    ok(ask(&a, HTTP_GET, target, NULL) == 200 && !strcmp(a.body, "NET 7 first"), "by digest");
    ok(ask(&a, HTTP_GET, "/v1/models/teacher/graph", NULL) == 200, "graph");
    asking_stop(&a);
}

static bool put_weights(struct asking *a, const char *name, const char *bytes, int status) {
    char target[128];
    text_print(target, sizeof target, "/v1/models/%s/safetensors", name);
    int found = ask(a, HTTP_PUT, target, bytes);
    return ok(found == status, "%s: %d: %s", target, found, a->out.body.data);
}

TEST(weights_go_in_and_come_out) {
    struct asking a;
    need(asking_start(&a), "start");
    put_weights(&a, "m", "W 8", 404);
    ok(strstr(text_at(&a, "detail"), "store one with PUT /v1/models/m/onnx first") != NULL, "%s",
       text_at(&a, "detail"));
    put(&a, "m", "NET 7 first", 201);
    ok(ask(&a, HTTP_GET, "/v1/models/m/safetensors", NULL) == 200 && !strcmp(a.body, "W 7"), "%s", a.body);
    ok(!strcmp(answer_header(&a, "Content-Disposition"), "attachment; filename=\"m-v1.safetensors\""), "name");
    ok(!strcmp(answer_header(&a, "Content-Location"), "/v1/models/m@1/safetensors"), "pinned");
    ok(!strcmp(answer_header(&a, "Cache-Control"), "no-cache"), "latest moves");
    struct digest d = digest_of("W 7", 3);
    ok(a.out.source.has_digest && digest_equal(&d, &a.out.source.digest), "the digest of these bytes");
    ok(ask(&a, HTTP_GET, "/v1/models/m@1/safetensors", NULL) == 200 && !strcmp(a.body, "W 7"), "again: %s", a.body);
    ok(strstr(answer_header(&a, "Cache-Control"), "immutable") != NULL, "a number never moves");

    put_weights(&a, "m", "W 7", 200);
    ok(number_at(&a, "version") == 1, "the same weights, the same version");
    put_weights(&a, "m", "W 8", 201);
    ok(number_at(&a, "version") == 2 && number_at(&a, "parameters") == 8, "%s", a.out.body.data);
    ok(!strcmp(answer_header(&a, "Location"), "/v1/models/m@2"), "%s", answer_header(&a, "Location"));
    ok(ask(&a, HTTP_GET, "/v1/models/m/onnx", NULL) == 200 && !strcmp(a.body, "NET 8"), "stored as a network");
    ok(ask(&a, HTTP_GET, "/v1/models/m/safetensors", NULL) == 200 && !strcmp(a.body, "W 8"), "%s", a.body);

    put_weights(&a, "m", "<html>", 422);
    ok(strstr(text_at(&a, "detail"), "no weights") != NULL, "%s", text_at(&a, "detail"));
    put_weights(&a, "m", "", 422);
    ok(strstr(text_at(&a, "detail"), "safetensors file") != NULL, "%s", text_at(&a, "detail"));
    put_weights(&a, "UPPER", "W 1", 422);
    put_weights(&a, "m@1", "W 1", 422);
    asking_header(&a, "Content-Length", "1048577");
    put_weights(&a, "m", "W 1", 413);
    ok(ask(&a, HTTP_GET, "/v1/models/m", NULL) == 200 && number_at(&a, "version_count") == 2, "nothing more");
    ok(ask(&a, HTTP_GET, "/v1/models/nobody/safetensors", NULL) == 404, "unknown");
    a.service.network_max = 4;
    ok(ask(&a, HTTP_GET, "/v1/models/m@1/safetensors", NULL) == 200, "what was written before needs no memory");
    ok(ask(&a, HTTP_GET, "/v1/models/m/graph", NULL) == 413, "the rest does");
    asking_stop(&a);
}

static bool is_cached(struct asking *a, const char *network) {
    char key[STORE_CACHE_KEY_MAX], hex[DIGEST_HEX_SIZE];
    struct digest d = digest_of(network, strlen(network));
    struct store_blob blob;
    digest_to_hex(hex, &d);
    text_print(key, sizeof key, "safetensors 1 %s", hex);
    return !store_cache_get(&blob, a->store, key, NULL);
}

TEST(weights_go_with_their_network) {
    struct asking a;
    char target[64], bytes[16];
    need(asking_start(&a), "start");
    for (int i = 1; i <= 3; i++) {
        text_print(bytes, sizeof bytes, "NET %d", i);
        text_print(target, sizeof target, "/v1/models/m@%d/safetensors", i);
        put(&a, "m", bytes, 201);
        ok(ask(&a, HTTP_GET, target, NULL) == 200 && is_cached(&a, bytes), "%s is kept", target);
    }
    ok(ask(&a, HTTP_DELETE, "/v1/models/m@2", NULL) == 200, "one version");
    ok(is_cached(&a, "NET 1") && !is_cached(&a, "NET 2") && is_cached(&a, "NET 3"), "its weights only");
    ok(ask(&a, HTTP_DELETE, "/v1/models/m", NULL) == 200 && !is_cached(&a, "NET 1") && !is_cached(&a, "NET 3"), "all");
    asking_stop(&a);
}

/* Asks with the nth allocation failing, of a store that was never asked this before. *met: there was an nth. */
static int64_t starve_weights(bool *met, struct asking *a, bool upload, uint64_t n, int attempt) {
    char bytes[64];
    a->quiet = true;
    text_print(bytes, sizeof bytes, "NET 1 %llu %d", (unsigned long long)n, attempt);
    ask(a, HTTP_PUT, "/v1/models/m/onnx", bytes);
    json_free(a->json);
    a->json = NULL;
    response_fini(&a->out, a->store);
    int64_t live = mem_live();
    uint64_t calls = mem_calls();
    mem_fail_at(n, false);
    int status = ask(a, upload ? HTTP_PUT : HTTP_GET, "/v1/models/m/safetensors", upload ? "W 2" : NULL);
    mem_fail_at(0, false);
    *met = mem_calls() - calls >= n;
    ok(status == 503 || status / 100 == 2 || *met, "%llu: %d", (unsigned long long)n, status);
    json_free(a->json);
    a->json = NULL;
    response_fini(&a->out, a->store);
    return mem_live() - live;
}

/* What the store keeps for later grows once, a leak grows each time. */
TEST(weights_without_memory) {
    struct asking a;
    need(asking_start(&a), "start");
    for (int upload = 0; upload < 2; upload++) {
        bool met = true;
        uint64_t n = 1;
        for (; met && n < 5000; n++) {
            int64_t more = starve_weights(&met, &a, upload, n, 0);
            for (int again = 1; more > 0 && again < 5; again++) more = starve_weights(&met, &a, upload, n, again);
            ok(more <= 0, "%llu: %lld blocks more, each time", (unsigned long long)n, (long long)more);
        }
        ok(n > 20 && !met, "%llu points of failure", (unsigned long long)n);
    }
    int64_t live = 0;
    for (int i = 0; i < 5; i++) {
        if (i == 3) live = mem_live();
        ok(ask(&a, HTTP_PUT, "/v1/models/m/safetensors", "<html>") == 422, "no weights");
    }
    ok(mem_live() <= live, "%lld blocks more, each time", (long long)(mem_live() - live));
    ok(!store_verify(a.store, NULL), "the store is whole");
    asking_stop(&a);
}

TEST(summaries_and_versions) {
    struct asking a;
    need(asking_start(&a), "start");
    put(&a, "m", "NET 1", 201);
    put(&a, "m", "NET 2", 201);
    ok(ask(&a, HTTP_GET, "/v1/models/m", NULL) == 200 && json_count(member(&a, "versions")) == 2, "summary");
    ok(number_at(&a, "version") == 2 && number_at(&a, "version_count") == 2, "latest");
    ok(!strncmp(answer_header(&a, "ETag"), "\"r", 2), "%s", answer_header(&a, "ETag"));
    ok(ask(&a, HTTP_GET, "/v1/models/m@1", NULL) == 200 && number_at(&a, "version") == 1 && !member(&a, "versions"),
       "version");
    ok(!strncmp(text_at(&a, "digest"), "sha256:", 7) && strlen(text_at(&a, "digest")) == 71, "digest");
    ok(ask(&a, HTTP_GET, "/v1/models/m@9", NULL) == 404 && strstr(text_at(&a, "detail"), "9"), "%s",
       text_at(&a, "detail"));
    ok(ask(&a, HTTP_GET, "/v1/models/nobody", NULL) == 404 && strstr(text_at(&a, "detail"), "nobody"), "unknown");
    ok(ask(&a, HTTP_GET, "/v1/models/UPPER", NULL) == 422, "bad name");
    asking_stop(&a);
}

TEST(refused_uploads_leave_nothing) {
    struct asking a;
    need(asking_start(&a), "start");
    put(&a, "m", "<html>", 422);
    ok(strstr(text_at(&a, "detail"), "no network"), "%s", text_at(&a, "detail"));
    put(&a, "m", "", 422);
    put(&a, "UPPER", "NET 1", 422);
    put(&a, "m@2", "NET 1", 422);
    put(&a, "a--b", "NET 1", 422);
    asking_header(&a, "Content-Length", "1048577");
    put(&a, "m", "NET 1", 413);
    ok(ask(&a, HTTP_GET, "/v1/models", NULL) == 200 && json_count(member(&a, "items")) == 0, "nothing is there");
    asking_stop(&a);
}

TEST(pages) {
    struct asking a;
    char name[16], next[64];
    need(asking_start(&a), "start");
    for (int i = 0; i < 5; i++) text_print(name, sizeof name, "model%d", i), put(&a, name, "NET 1", 201);
    ok(ask(&a, HTTP_GET, "/v1/models?limit=2&q=model", NULL) == 200 && json_count(member(&a, "items")) == 2, "first");
    text_print(next, sizeof next, "rel=\"next\"");
    const char *link = answer_header(&a, "Link");
    ok(!strncmp(link, "<http://box:1/v1/models", 23) && strstr(link, "q=model") && strstr(link, ">; rel=\"next\""),
       "%s", link);
    char target[128];
    int seen = 2;
    for (int i = 0; i < 5 && *text_at(&a, "next"); i++) {
        text_print(target, sizeof target, "/v1/models?limit=2&after=%s", text_at(&a, "next"));
        ok(ask(&a, HTTP_GET, target, NULL) == 200, "next");
        seen += (int)json_count(member(&a, "items"));
    }
    ok(seen == 5, "%d", seen);
    ok(ask(&a, HTTP_GET, "/v1/models?limit=0", NULL) == 422 && ask(&a, HTTP_GET, "/v1/models?limit=1001", NULL) == 422,
       "limits");
    ok(ask(&a, HTTP_GET, "/v1/models?after=x", NULL) == 422, "a broken cursor");
    asking_stop(&a);
}

TEST(aliases_move_under_conditions) {
    struct asking a;
    char tag[64];
    need(asking_start(&a), "start");
    put(&a, "m", "NET 1", 201);
    put(&a, "m", "NET 2", 201);
    const char *alias = "/v1/models/m/aliases/champion";
    ok(ask(&a, HTTP_GET, alias, NULL) == 404, "not yet");
    asking_header(&a, "If-None-Match", "*");
    ok(ask(&a, HTTP_PUT, alias, "{\"version\":1}") == 201 && number_at(&a, "version") == 1, "made: %s",
       a.out.body.data);
    text_copy(tag, sizeof tag, answer_header(&a, "ETag"));
    asking_header(&a, "If-None-Match", "*");
    ok(ask(&a, HTTP_PUT, alias, "{\"version\":2}") == 412, "it exists now");
    asking_header(&a, "If-Match", "\"r999999\"");
    ok(ask(&a, HTTP_PUT, alias, "{\"version\":2}") == 412, "another tag");
    asking_header(&a, "If-Match", tag);
    ok(ask(&a, HTTP_PUT, alias, "{\"version\":2}") == 200 && number_at(&a, "version") == 2, "moved");
    ok(strcmp(tag, answer_header(&a, "ETag")) != 0, "the tag moved too");
    ok(ask(&a, HTTP_PUT, "/v1/models/m/aliases/champion?strict=1", "{\"version\":1}") == 428, "strict");
    ok(ask(&a, HTTP_PUT, alias, "{\"version\":9}") == 404, "no such version");
    ok(ask(&a, HTTP_PUT, alias, "{}") == 422 && strstr(a.out.body.data, "/version"), "no version");
    ok(ask(&a, HTTP_PUT, alias, "{\"version\":1,\"x\":2}") == 422, "unknown member");
    ok(ask(&a, HTTP_PUT, alias, "{") == 400, "broken JSON");
    ok(ask(&a, HTTP_PUT, "/v1/models/m/aliases/latest", "{\"version\":1}") == 422, "a reserved word");
    ok(ask(&a, HTTP_GET, "/v1/models/m@champion/onnx", NULL) == 200 && !strcmp(a.body, "NET 2"),
       "the alias is a version");
    ok(!strcmp(answer_header(&a, "Content-Location"), "/v1/models/m@2/onnx"), "pinned");
    ok(ask(&a, HTTP_GET, "/v1/models/m", NULL) == 200 && number_at(&a, "aliases.champion") == 2, "in the summary");
    ok(ask(&a, HTTP_GET, "/v1/models/m/aliases/champion/history", NULL) == 200 && json_count(member(&a, "items")) == 2,
       "history");
    ok(ask(&a, HTTP_DELETE, alias, NULL) == 204 && ask(&a, HTTP_DELETE, alias, NULL) == 404, "gone");
    asking_stop(&a);
}

TEST(tags) {
    struct asking a;
    need(asking_start(&a), "start");
    put(&a, "m", "NET 1", 201);
    put(&a, "n", "NET 1", 201);
    ok(ask(&a, HTTP_PUT, "/v1/models/m/tags", "{\"tags\":[\"vision\",\"small\"]}") == 200, "%s", a.out.body.data);
    ok(ask(&a, HTTP_GET, "/v1/models?tag=vision", NULL) == 200 && json_count(member(&a, "items")) == 1, "by tag");
    ok(ask(&a, HTTP_GET, "/v1/models/m", NULL) == 200 && json_count(member(&a, "tags")) == 2, "in the summary");
    ok(ask(&a, HTTP_PUT, "/v1/models/m/tags", "{\"tags\":[\"No Good\"]}") == 422, "bad tag");
    ok(ask(&a, HTTP_PUT, "/v1/models/x/tags", "{\"tags\":[\"a\"]}") == 404, "no such model");
    ok(ask(&a, HTTP_PUT, "/v1/models/m/tags", "{}") == 200, "none");
    ok(ask(&a, HTTP_GET, "/v1/models?tag=vision", NULL) == 200 && json_count(member(&a, "items")) == 0,
       "they are gone");
    asking_stop(&a);
}

TEST(deleting) {
    struct asking a;
    int64_t job, version;
    struct store_version v;
    need(asking_start(&a), "start");
    put(&a, "m", "NET 1", 201);
    put(&a, "m", "NET 2", 201);
    ok(ask(&a, HTTP_DELETE, "/v1/models/m@1", NULL) == 200 && number_at(&a, "removed") == 1, "one version");
    ok(ask(&a, HTTP_GET, "/v1/models/m@1/onnx", NULL) == 404, "it is gone");
    need(!store_resolve(&v, a.store, STORE_MODEL, "m", NULL), "resolve");
    version = v.id;
    struct store_job_new new = {.method = "x", .spec = "{}", .inputs = &version, .n_inputs = 1};
    need(!store_job_create(&job, NULL, a.store, &new, NULL), "job");
    ok(ask(&a, HTTP_DELETE, "/v1/models/m", NULL) == 409, "a job uses it");
    need(!store_job_cancel(NULL, a.store, job, NULL), "cancel");
    ok(ask(&a, HTTP_DELETE, "/v1/models/m", NULL) == 200 && ask(&a, HTTP_DELETE, "/v1/models/m", NULL) == 404, "all");
    asking_stop(&a);
}

TEST_MAIN
