/* supervise.c - worker processes. */
#include "server/supervise.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

#define NS_PER_MS INT64_C(1000000)
#define STEADY_NS (60000 * NS_PER_MS) /* one that lived so long did not fail at once */
#define FIRST_PAUSE_MS 100
#define LONGEST_PAUSE_MS 30000
#define REST_MS 1000

void supervise_init(struct supervisor *s, int n, char *const *command) {
    *s = (struct supervisor){.command = command, .n = n < SUPERVISE_MAX ? n : SUPERVISE_MAX};
}

/* Between fork and exec: only what is safe while other threads exist. */
static _Noreturn void become_worker(char *const *command, pid_t server) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != server) _exit(1); /* it died before prctl */
    dup2(STDERR_FILENO, STDOUT_FILENO);
    execv(command[0], command);
    _exit(127);
}

static void start(struct supervisor *s, int i) {
    pid_t server = getpid(), pid = fork();
    if (pid == 0) become_worker(s->command, server);
    if (pid < 0) {
        log_error("cannot start a worker: %s", strerror(errno));
        s->worker[i].due_ns = clock_monotonic_ns() + LONGEST_PAUSE_MS * NS_PER_MS;
        return;
    }
    s->worker[i].pid = pid;
    s->worker[i].started_ns = clock_monotonic_ns();
    log_info("worker %d is process %d", i, (int)pid);
}

static void say_how_it_ended(int i, int status) {
    if (WIFSIGNALED(status))
        log_warn("worker %d was ended by signal %d (%s)", i, WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        log_warn("worker %d ended with status %d", i, WEXITSTATUS(status));
}

static void bury(struct supervisor *s, pid_t pid, int status) {
    for (int i = 0; i < s->n; i++) {
        if (s->worker[i].pid != pid) continue;
        say_how_it_ended(i, status);
        int64_t now = clock_monotonic_ns(), pause = FIRST_PAUSE_MS;
        bool steady = now - s->worker[i].started_ns > STEADY_NS;
        s->worker[i].failures = steady ? 0 : s->worker[i].failures + 1;
        for (int k = 1; k < s->worker[i].failures && pause < LONGEST_PAUSE_MS; k++) pause *= 2;
        if (pause > LONGEST_PAUSE_MS) pause = LONGEST_PAUSE_MS;
        s->worker[i].pid = 0;
        s->worker[i].due_ns = now + pause * NS_PER_MS;
    }
}

static void reap(struct supervisor *s) {
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) bury(s, pid, status);
}

int64_t supervise_look(struct supervisor *s) {
    int64_t rest_ns = REST_MS * NS_PER_MS;
    reap(s);
    for (int i = 0; i < s->n; i++) {
        int64_t now = clock_monotonic_ns(), left = s->worker[i].due_ns - now;
        if (s->worker[i].pid) continue;
        if (left <= 0)
            start(s, i);
        else if (left < rest_ns)
            rest_ns = left;
    }
    return rest_ns / NS_PER_MS + 1;
}

void supervise_ask(struct supervisor *s) {
    for (int i = 0; i < s->n; i++)
        if (s->worker[i].pid) kill(s->worker[i].pid, SIGTERM);
}

/* Collects what has ended, without starting anything. True when nothing is left. */
static bool all_gone(struct supervisor *s) {
    bool gone = true;
    for (int i = 0; i < s->n; i++) {
        pid_t pid = s->worker[i].pid;
        if (pid && waitpid(pid, NULL, WNOHANG) != 0) s->worker[i].pid = 0;
        gone = gone && !s->worker[i].pid;
    }
    return gone;
}

void supervise_end(struct supervisor *s, int64_t grace_ms) {
    int64_t until = clock_monotonic_ns() + grace_ms * NS_PER_MS;
    while (!all_gone(s) && clock_monotonic_ns() < until) clock_sleep_ms(5);
    for (int i = 0; i < s->n; i++) {
        if (!s->worker[i].pid) continue;
        log_warn("worker %d did not end by itself", i);
        kill(s->worker[i].pid, SIGKILL);
        waitpid(s->worker[i].pid, NULL, 0);
    }
}
