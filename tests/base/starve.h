/* starve.h - runs a piece of code with its nth allocation failing, for every n. */
#ifndef TESTS_STARVE_H
#define TESTS_STARVE_H

#include "base/error.h"
#include "base/memory.h"
#include "tests/test.h"

/* `run` must return 0 or E_NOMEM and leave no block behind, whichever allocation fails, alone or with all
 * that follow. Ends with the first n that it does not reach; then it must return 0. */
static inline void starve(const char *what, int (*run)(void)) {
    for (int for_good = 0; for_good <= 1; for_good++) {
        for (uint64_t n = 1;; n++) {
            int64_t live = mem_live();
            uint64_t calls = mem_calls();
            mem_fail_at(n, for_good);
            int code = run();
            mem_fail_at(0, false);
            bool met = mem_calls() - calls >= n;
            ok(code == 0 || (met && code == E_NOMEM), "%s: failing %llu gave %d", what, (unsigned long long)n, code);
            ok(mem_live() == live, "%s: failing %llu left %lld blocks", what, (unsigned long long)n,
               (long long)(mem_live() - live));
            if (!met) break;
        }
    }
}

#endif
