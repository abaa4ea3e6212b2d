/* request_fuzz.c - any lines as the head of a request: first the target, then "Name: value". A target that is taken
 * apart must be the same when it is put together again; headers must get a verdict, ranges must lie inside. */
#include <string.h>

#include "base/memory.h"
#include "server/guard.h"
#include "server/ranges.h"
#include "server/target.h"
#include "tests/fuzz/fuzz.h"

static void put_encoded(struct text *out, const char *decoded) {
    for (; *decoded; decoded++) text_format(out, "%%%02X", (unsigned char)*decoded);
}

static void put_together(struct text *out, const struct request *r) {
    text_init(out, 64 * HTTP_MAX_TARGET);
    if (!r->n_segments) text_add_string(out, "/");
    for (int i = 0; i < r->n_segments; i++) {
        text_add_string(out, "/");
        put_encoded(out, r->segments[i]);
    }
    for (int i = 0; i < r->n_query; i++) {
        text_add_string(out, i ? "&" : "?");
        put_encoded(out, r->query[i].name);
        text_add_string(out, "=");
        put_encoded(out, r->query[i].value);
    }
    must(!out->failed, "%d", out->failed);
}

static void check_target(const char *raw) {
    struct request a = {0}, b = {0};
    struct err e = {0};
    struct text again;
    char *room = mem_alloc(TARGET_ROOM(strlen(raw)));
    must(room, "memory");
    int rc = target_split(&a, room, raw, &e);
    must(rc == 0 || *e.text, "%d without a word", rc);
    if (!rc) {
        put_together(&again, &a);
        char *second = mem_alloc(TARGET_ROOM(again.length));
        rc = target_split(&b, second, again.data, &e);
        must(rc == 0 || (rc == E_TOO_LARGE && again.length > HTTP_MAX_TARGET), "%s: %s", again.data, e.text);
        must(rc || (a.n_segments == b.n_segments && a.n_query == b.n_query), "%s", again.data);
        for (int i = 0; i < a.n_segments && !rc; i++) must(!strcmp(a.segments[i], b.segments[i]), "%s", again.data);
        for (int i = 0; i < a.n_query && !rc; i++)
            must(!strcmp(a.query[i].name, b.query[i].name) && !strcmp(a.query[i].value, b.query[i].value), "%s",
                 again.data);
        mem_free(second);
        text_free(&again);
    }
    mem_free(room);
}

static void check_range(const char *value) {
    static const uint64_t sizes[] = {0, 1, 1000, UINT64_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct span s;
        if (range_read(&s, value, sizes[i]) == RANGE_PART)
            must(s.size > 0 && s.offset < sizes[i] && s.size <= sizes[i] - s.offset, "%s of %llu", value,
                 (unsigned long long)sizes[i]);
    }
    if_range_holds(value, "\"tag\"");
}

static void check_headers(char *lines) {
    struct request r = {0};
    struct err e = {0};
    for (char *line = lines, *next; line && r.n_headers < HTTP_MAX_HEADERS; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = '\0';
        char *value = strstr(line, ": ");
        if (!value) continue;
        *value = '\0';
        r.headers[r.n_headers++] = (struct pair){line, value + 2};
        check_range(value + 2);
    }
    int status = guard_headers(&r, "HTTP/1.1", &e);
    must(status == 0 || (status >= 400 && *e.text), "%d without a word", status);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    char *text = mem_alloc(size + 1);
    must(text, "memory");
    if (size) memcpy(text, bytes, size);
    text[size] = '\0';
    char *rest = strchr(text, '\n');
    if (rest) *rest = '\0';
    check_target(text);
    if (rest) check_headers(rest + 1);
    mem_free(text);
    return 0;
}
