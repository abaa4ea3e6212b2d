/* version.c - version, commit and libraries. The Makefile passes the first two. */
#include "server/version.h"

#include "engine/kernels/blas.h"

#ifndef RETORT_VERSION
#define RETORT_VERSION "unknown"
#endif
#ifndef RETORT_COMMIT
#define RETORT_COMMIT "unknown"
#endif

static const char *instruction_set(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f")) return "avx512";
    if (__builtin_cpu_supports("avx2")) return "avx2";
    if (__builtin_cpu_supports("avx")) return "avx";
    return "sse2";
#elif defined(__aarch64__)
    return "neon";
#else
    return "generic";
#endif
}

struct version version_of_this(void) {
    return (struct version){RETORT_VERSION, RETORT_COMMIT, blas_name(), instruction_set()};
}
