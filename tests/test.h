/* test.h - the test harness: TEST bodies, checks that count, one process per test.
 *
 *     TEST(text_refuses_overlong_utf8) { ok(!text_is_utf8("\xc0\x80", 2), "overlong NUL"); }
 *     TEST_MAIN
 *
 * Each test runs in a process of its own with a time limit (TEST_SECONDS, 10 unless the file
 * defines another before the include), so that a crash or a hang is one failed test. Output is
 * TAP; the exit status is 1 when anything failed. `program NAME` runs the tests whose name
 * contains NAME. TEST_SEED in the environment sets test_seed(). */
#ifndef TESTS_TEST_H
#define TESTS_TEST_H

#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef TEST_SECONDS
#define TEST_SECONDS 10
#endif

struct test {
    const char *name;
    void (*run)(void);
    struct test *next;
};

static struct test *test_first, **test_end = &test_first;
static long test_checks, test_failures;

#define TEST(id) \
    static void test_##id(void); \
    static struct test test_entry_##id = {.name = #id, .run = test_##id}; \
    __attribute__((constructor)) static void test_register_##id(void) { \
        *test_end = &test_entry_##id; \
        test_end = &test_entry_##id.next; \
    } \
    static void test_##id(void)

/* Counts a check; prints only when it fails. Yields the condition. */
#define ok(condition, ...) test_check((condition), __FILE__, __LINE__, #condition, __VA_ARGS__)

/* A check without which going on makes no sense. */
#define need(condition, ...) \
    do { \
        if (!ok(condition, __VA_ARGS__)) return; \
    } while (0)

__attribute__((format(printf, 5, 6))) static inline bool test_check(bool good, const char *file, int line,
                                                                    const char *what, const char *format, ...) {
    test_checks++;
    if (good) return true;
    test_failures++;
    va_list args;
    va_start(args, format);
    printf("# %s:%d: %s: ", file, line, what);
    vprintf(format, args);
    printf("\n");
    va_end(args);
    fflush(stdout);
    return false;
}

static inline unsigned long long test_seed(void) {
    const char *seed = getenv("TEST_SEED");
    return seed ? strtoull(seed, NULL, 10) : 1;
}

/* Relative difference, with a floor of 1 under the larger magnitude. */
static inline double test_relative(double a, double b) {
    return fabs(a - b) / fmax(1.0, fmax(fabs(a), fabs(b)));
}

static inline bool test_run(const struct test *t, int number) {
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(TEST_SECONDS);
        t->run();
        if (test_checks == 0) printf("# %s checked nothing\n", t->name);
        fflush(stdout);
        exit(test_failures || !test_checks);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    bool good = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (WIFSIGNALED(status))
        printf("# %s: %s\n", t->name, WTERMSIG(status) == SIGALRM ? "took too long" : strsignal(WTERMSIG(status)));
    printf("%sok %d - %s\n", good ? "" : "not ", number, t->name);
    return good;
}

static inline int test_main(int argc, char **argv) {
    int number = 0, failed = 0;
    for (const struct test *t = test_first; t; t = t->next)
        if (argc < 2 || strstr(t->name, argv[1])) failed += !test_run(t, ++number);
    printf("1..%d\n", number);
    if (failed) printf("# seed %llu\n", test_seed());
    return failed != 0 || number == 0;
}

#define TEST_MAIN \
    int main(int argc, char **argv) { \
        return test_main(argc, argv); \
    }

#endif
