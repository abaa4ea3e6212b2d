/* formats.h - for the tests of engine/formats: fixture files, and sinks that remember. */
#ifndef TESTS_ENGINE_FORMATS_H
#define TESTS_ENGINE_FORMATS_H

#include "base/memory.h"
#include "engine/formats/sink.h"
#include "tests/test.h"

#define FIXTURES "tests/fixtures/formats/"

struct file {
    unsigned char *bytes;
    size_t size;
};

/* The whole file; the test ends when it cannot be read. */
static inline struct file file_read(const char *path) {
    struct file f = {NULL, 0};
    FILE *in = fopen(path, "rb");
    if (!in) {
        printf("# %s cannot be read; tests run in the project's folder\n", path);
        exit(1);
    }
    for (size_t room = 65536, got = 1; got; room *= 2) {
        f.bytes = realloc(f.bytes, room);
        if (!f.bytes) exit(1);
        f.size += got = fread(f.bytes + f.size, 1, room - f.size, in);
    }
    fclose(in);
    return f;
}

static inline struct file fixture(const char *name) {
    char path[512];
    text_print(path, sizeof path, FIXTURES "%s", name);
    return file_read(path);
}

/* What an array sink saw: arrays as "name float32 [2,3]; " in `log`, all elements in `data`. */
struct seen {
    char log[1024];
    unsigned char data[1 << 16];
    size_t size;
    int open, ended;
    size_t expected; /* bytes announced */
    int fail_at;     /* the nth call returns E_IO; 0 = none */
    int calls;
};

static inline int seen_refuses(struct seen *s, struct err *e) {
    return ++s->calls == s->fail_at ? err_set(e, E_IO, "the sink refuses") : 0;
}

static inline int seen_begin(void *context, const char *name, enum dtype type, const struct shape *shape,
                             struct err *e) {
    struct seen *s = context;
    char text[256];
    size_t used = strlen(s->log), count;
    shape_print(text, sizeof text, shape);
    text_print(s->log + used, sizeof s->log - used, "%s%s%s %s; ", name, *name ? " " : "", dtype_name(type), text);
    s->open++;
    ok(shape_count(&count, shape, e) == 0, "a sink gets sound shapes");
    s->expected += count * dtype_size(type);
    return seen_refuses(s, e);
}

static inline int seen_data(void *context, const void *bytes, size_t size, struct err *e) {
    struct seen *s = context;
    ok(s->open == s->ended + 1, "data comes between begin and end");
    ok(size > 0 && s->size + size <= s->expected, "never more than announced: %zu", s->size + size);
    if (s->size + size <= sizeof s->data) memcpy(s->data + s->size, bytes, size);
    s->size += size;
    return seen_refuses(s, e);
}

static inline int seen_end(void *context, struct err *e) {
    struct seen *s = context;
    s->ended++;
    ok(s->size == s->expected, "all of the array: %zu of %zu", s->size, s->expected);
    return seen_refuses(s, e);
}

static inline struct array_sink seen_sink(struct seen *s) {
    return (struct array_sink){seen_begin, seen_data, seen_end, s};
}

/* Runs `attempt` with its 1st, 2nd, ... allocation failing, once and for good, until it meets no
 * failure any more. Only success or E_NOMEM may come out, and nothing may stay alive. */
static inline void starve(int (*attempt)(void *context), void *context) {
    for (int for_good = 0; for_good < 2; for_good++)
        for (uint64_t n = 1;; n++) {
            int64_t live = mem_live();
            uint64_t calls = mem_calls();
            mem_fail_at(n, for_good);
            int rc = attempt(context);
            mem_fail_at(0, false);
            ok(mem_live() == live, "%lld blocks left after failure %llu", (long long)(mem_live() - live),
               (unsigned long long)n);
            ok(rc == 0 || rc == E_NOMEM, "failure %llu gives %d", (unsigned long long)n, rc);
            if (mem_calls() - calls < n) {
                ok(rc == 0, "without failures it works: %d", rc);
                break;
            }
        }
}

#endif
