/* worker.c - the loop of the worker process. */
#include "jobs/worker.h"

#include <malloc.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "engine/kernels/crew.h"
#include "jobs/pulse.h"
#include "jobs/run.h"
#include "store/jobs.h"

#define NAME_SIZE 64
#define FIRST_POLL_MS 10
#define REQUEUE_MS 1000 /* how often an idle worker looks for jobs whose worker died */

static atomic_bool stop; /* lock-free: signal handlers may set it, in whatever thread they run */
_Static_assert(ATOMIC_BOOL_LOCK_FREE == 2, "a signal handler sets an atomic_bool");

void worker_stop(void) {
    atomic_store(&stop, true);
}

static void on_signal(int signal_number) {
    (void)signal_number;
    atomic_store(&stop, true);
}

static void take_signals(void) {
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    signal(SIGXFSZ, SIG_IGN); /* a file too large is an error to be told */
}

static int64_t or_standard(int64_t value, int64_t standard) {
    return value ? value : standard;
}

static void choose_name(char out[NAME_SIZE], const struct worker_options *options) {
    char host[48] = "host";
    gethostname(host, sizeof host - 1);
    if (options->name)
        text_copy(out, NAME_SIZE, options->name);
    else
        text_print(out, NAME_SIZE, "%s:%d", host, (int)getpid());
}

static int run_claimed(struct store *s, const struct store_lease *lease, const struct worker_options *options,
                       struct err *e) {
    struct pulse *pulse = NULL;
    int status = pulse_start(&pulse, options->folder, lease, or_standard(options->lease_ms, WORKER_LEASE_MS), e);
    if (status) {
        store_lease_release(s, lease, NULL);
        return status;
    }
    struct job_host_options world = {
        .folder = options->folder,
        .threads = options->threads < CREW_MAX_THREADS ? options->threads : CREW_MAX_THREADS,
        .memory = options->memory,
        .checkpoint_ms = or_standard(options->checkpoint_ms, WORKER_CHECKPOINT_MS),
        .pulse = pulse,
        .stop = &stop,
    };
    status = run_job(s, lease, &world, e);
    pulse_stop(pulse);
    return status;
}

int worker_run_one(bool *found, struct store *s, const struct worker_options *options, struct err *e) {
    struct store_lease lease;
    char name[NAME_SIZE];
    choose_name(name, options);
    *found = false;
    int status = store_lease_claim(&lease, found, s, name, or_standard(options->lease_ms, WORKER_LEASE_MS), e);
    if (status || !*found) return status;
    log_info("job %lld: attempt %d", (long long)lease.job, lease.attempt);
    status = run_claimed(s, &lease, options, e);
    log_info("job %lld: done", (long long)lease.job);
    malloc_trim(0); /* the next one may be long in coming */
    return status;
}

/* Sleeps before the next look at an empty queue: short at first, then longer. */
static void rest(int64_t *pause_ms, int64_t longest_ms) {
    clock_sleep_ms(*pause_ms);
    *pause_ms = *pause_ms * 2 < longest_ms ? *pause_ms * 2 : longest_ms;
}

static void requeue_now_and_then(struct store *s, int64_t *last_ms) {
    int64_t now = clock_monotonic_ns() / 1000000, n = 0;
    if (now - *last_ms < REQUEUE_MS) return;
    *last_ms = now;
    struct err e = {0};
    if (store_job_requeue(&n, s, &e)) log_warn("looking for abandoned jobs: %s", e.text);
    if (n) log_warn("%lld jobs were left by their workers", (long long)n);
}

static void work(struct store *s, const struct worker_options *options) {
    int64_t pause_ms = FIRST_POLL_MS, longest_ms = or_standard(options->poll_ms, WORKER_POLL_MS), requeued_ms = 0;
    while (!atomic_load(&stop)) {
        bool found = false;
        struct err e = {0};
        requeue_now_and_then(s, &requeued_ms);
        int status = worker_run_one(&found, s, options, &e);
        if (status) log_error("%s", e.text);
        if (found && !status) {
            pause_ms = FIRST_POLL_MS;
            continue;
        }
        if (options->until_idle && !found && !status) return;
        rest(&pause_ms, longest_ms);
    }
}

int worker_main(const struct worker_options *options) {
    struct store *s = NULL;
    struct err e = {0};
    take_signals();
    mem_return_large();
    if (store_open(&s, &(struct store_options){.folder = options->folder}, &e)) {
        log_error("%s", e.text);
        return 1;
    }
    work(s, options);
    store_close(s);
    return 0;
}
