/* fuzz.h - for the fuzz targets: a check that stops the fuzzer, and a sink that checks its caller.
 *
 * A target is a file with LLVMFuzzerTestOneInput. With clang's -fsanitize=fuzzer it searches; linked with
 * replay.c it runs over files. Its seeds are the fixtures of the tests and tests/fuzz/corpus/<target>. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/formats/sink.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

#define must(condition, ...) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
            fprintf(stderr, __VA_ARGS__); \
            fprintf(stderr, "\n"); \
            abort(); \
        } \
    } while (0)

struct fuzz_sink {
    size_t expected, got, total;
    int open;
};

static inline int fuzz_begin(void *context, const char *name, enum dtype type, const struct shape *shape,
                             struct err *e) {
    struct fuzz_sink *s = context;
    size_t count;
    must(!s->open && name, "begin inside an array");
    must(shape_count(&count, shape, e) == 0, "an unsound shape");
    s->open = 1;
    s->got = 0;
    s->expected = count * dtype_size(type);
    s->total += s->expected;
    return 0;
}

static inline int fuzz_data(void *context, const void *bytes, size_t size, struct err *e) {
    struct fuzz_sink *s = context;
    (void)bytes, (void)e;
    s->got += size;
    must(s->open && s->got <= s->expected, "%zu of %zu bytes", s->got, s->expected);
    return 0;
}

static inline int fuzz_end(void *context, struct err *e) {
    struct fuzz_sink *s = context;
    (void)e;
    must(s->open && s->got == s->expected, "%zu of %zu bytes", s->got, s->expected);
    s->open = 0;
    return 0;
}

static inline struct array_sink fuzz_array_sink(struct fuzz_sink *s) {
    return (struct array_sink){fuzz_begin, fuzz_data, fuzz_end, s};
}

#endif
