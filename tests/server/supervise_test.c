/* supervise_test.c - workers that end are started again, and none outlives its server. */
#include "server/supervise.h"

#include <fcntl.h>

#include "base/clock.h"
#include "base/log.h"
#include "tests/test.h"

/* The type that execv wants. */
#define COMMAND(...) ((char *const *)(uintptr_t)(const char *const[]){__VA_ARGS__, NULL})

static bool alive(int pid) {
    char path[64], state = 'X';
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "r");
    if (f && fscanf(f, "%*d (%*[^)]) %c", &state) != 1) state = 'X';
    if (f) fclose(f);
    return f && state != 'Z' && state != 'X';
}

TEST(a_worker_that_is_killed_comes_back) {
    struct supervisor s;
    log_start(LOG_ERROR, "test");
    supervise_init(&s, 2, COMMAND("/bin/sleep", "60"));
    supervise_look(&s);
    int first = s.worker[0].pid, second = s.worker[1].pid;
    need(first > 0 && second > 0, "two run");
    kill(first, SIGKILL);
    int64_t until = clock_monotonic_ns() + INT64_C(3000000000);
    while ((s.worker[0].pid == first || !s.worker[0].pid) && clock_monotonic_ns() < until) {
        supervise_look(&s);
        clock_sleep_ms(10);
    }
    ok(s.worker[0].pid > 0 && s.worker[0].pid != first && s.worker[1].pid == second, "another in its place");
    int again = s.worker[0].pid;
    supervise_ask(&s);
    supervise_end(&s, 2000);
    ok(!alive(again) && !alive(second), "all ended when asked");
}

TEST(one_that_fails_at_once_is_not_started_all_the_time) {
    struct supervisor s;
    log_start(LOG_ERROR + 1, "test");
    supervise_init(&s, 1, COMMAND("/bin/false"));
    int starts = 0, last = 0;
    int64_t until = clock_monotonic_ns() + INT64_C(1500000000);
    while (clock_monotonic_ns() < until) {
        supervise_look(&s);
        if (s.worker[0].pid && s.worker[0].pid != last) starts++, last = s.worker[0].pid;
        clock_sleep_ms(2);
    }
    printf("# %d starts in 1.5 s\n", starts);
    ok(starts >= 2 && starts <= 6, "%d", starts);
    supervise_end(&s, 100);
}

TEST(one_that_will_not_end_is_killed) {
    struct supervisor s;
    log_start(LOG_ERROR, "test");
    supervise_init(&s, 1, COMMAND("/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done"));
    supervise_look(&s);
    clock_sleep_ms(200);
    int pid = s.worker[0].pid;
    supervise_ask(&s);
    supervise_end(&s, 200);
    ok(!alive(pid), "it is gone");
}

TEST(workers_die_with_a_killed_server) {
    int pipes[2], pid = 0;
    need(pipe(pipes) == 0, "pipe");
    pid_t server = fork();
    if (server == 0) {
        struct supervisor s;
        log_start(LOG_ERROR, "test");
        supervise_init(&s, 1, COMMAND("/bin/sleep", "60"));
        supervise_look(&s);
        if (write(pipes[1], &s.worker[0].pid, sizeof(int)) != sizeof(int)) _exit(1);
        pause();
    }
    need(read(pipes[0], &pid, sizeof pid) == sizeof pid && alive(pid), "it runs");
    clock_sleep_ms(100); /* until it is the worker */
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    for (int i = 0; i < 100 && alive(pid); i++) clock_sleep_ms(10);
    ok(!alive(pid), "the worker lives on");
}

TEST_MAIN
