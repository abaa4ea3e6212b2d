/* serve.c - the server process: the store is opened, the front started, the workers supervised, and
 * garbage collected now and then, until a signal says enough. */
#include "server/serve.h"

#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "handlers/dispatch.h"
#include "server/front.h"
#include "server/intake.h"
#include "server/stores.h"
#include "server/supervise.h"
#include "server/tokens.h"
#include "server/version.h"
#include "store/store.h"

#define NS_PER_MS INT64_C(1000000)
#define GC_EVERY_MS 60000
#define GC_SLICE_MS 100 /* of the main thread at a time */
#define GC_AT_START_MS 20
#define WORKER_GRACE_MS 10000 /* to save a checkpoint */
#define SPARE_FILES 128       /* descriptors beside the connections */

extern const struct asset web_assets[]; /* made by tools/embed */

struct server {
    const struct settings *settings;
    struct http_stats stats;
    struct service service;
    struct front *front;
    struct supervisor workers;
    int64_t gc_due_ns;
    int lock; /* descriptor */
    /* the workers' command line */
    char threads[32], memory[32];
    char *command[12];
};

/* ---- the beginning ---- */

/* Connections are descriptors; the soft limit is often 1024. */
static void allow_files(int64_t connections) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit)) return;
    rlim_t wanted = (rlim_t)connections + SPARE_FILES;
    if (limit.rlim_cur >= wanted) return;
    limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < wanted) log_warn("only %llu files may be open", (unsigned long long)limit.rlim_cur);
}

/* The signals that matter are taken with sigtimedwait; every thread is born with them blocked. */
static void block_signals(sigset_t *set) {
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGCHLD);
    sigaddset(set, SIGHUP);
    sigprocmask(SIG_BLOCK, set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* A second server would run the sweep for unfinished uploads while the first one writes them. */
static int lock_folder(struct server *s, struct err *e) {
    char path[1100];
    text_print(path, sizeof path, "%s/server.lock", s->settings->data);
    s->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (s->lock < 0) return err_set(e, E_IO, "cannot open %s", path);
    if (flock(s->lock, LOCK_EX | LOCK_NB))
        return err_set(e, E_CONFLICT, "another server has the folder \"%s\"", s->settings->data);
    return 0;
}

static void collect_garbage(struct server *s, bool at_start) {
    struct store *store = stores_mine();
    struct store_gc_report report = {0};
    struct err e = {0};
    struct store_gc_options options = {
        .unfinished = at_start,
        .cache_max_bytes = s->settings->cache,
        .budget_ms = at_start ? GC_AT_START_MS : GC_SLICE_MS,
    };
    if (store && store_gc(&report, store, &options, &e)) log_warn("garbage: %s", e.text);
    if (report.blobs || report.evicted)
        log_info("garbage: %lld blobs with %lld bytes dropped", (long long)report.blobs, (long long)report.bytes);
    s->gc_due_ns = clock_monotonic_ns() + (report.more ? 1000 : GC_EVERY_MS) * NS_PER_MS;
}

/* Importing a network takes a little more than its size, and one that is made to take much about four times it;
 * half of the memory may go into that, and two may be looked at. Protobuf reads no more than 2 GiB. */
static uint64_t network_max(uint64_t memory) {
    uint64_t machine = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t may_take = memory && memory < machine / 2 ? memory : machine / 2;
    return may_take / 4 < INT32_MAX ? may_take / 4 : INT32_MAX;
}

static void describe_service(struct server *s) {
    const struct settings *o = s->settings;
    struct version v = version_of_this();
    s->service = (struct service){
        .version = v.version,
        .commit = v.commit,
        .blas = v.blas,
        .instruction_set = v.instruction_set,
        .assets = web_assets,
        .intake = &engine_intake,
        .routes = route_table,
        .stats = &s->stats,
        .started_ms = clock_wall_ms(),
        .upload_max = (uint64_t)o->max_body,
        .memory = (uint64_t)o->memory,
        .network_max = network_max((uint64_t)o->memory),
        .workers = (int)o->workers,
        .uploads = (int)o->uploads,
        .connections = (int)o->connections,
        .streams = (int)o->streams,
        .open = !o->tokens[0],
        .hosts = o->hosts,
    };
}

static void describe_workers(struct server *s, const char *program) {
    const struct settings *o = s->settings;
    static const char *const levels[] = {"debug", "info", "warn", "error"};
    text_print(s->threads, sizeof s->threads, "%lld", (long long)o->threads);
    text_print(s->memory, sizeof s->memory, "%lld", (long long)o->memory);
    const char *words[] = {program,    "worker",  "--data", o->data,        "--threads", s->threads,
                           "--memory", s->memory, "--log",  levels[o->log], NULL};
    memcpy(s->command, words, sizeof words);
    supervise_init(&s->workers, (int)o->workers, s->command);
}

static int start(struct server *s, struct err *e) {
    const struct settings *o = s->settings;
    struct front_options options = {
        .listen = o->listen,
        .loops = (int)o->loops,
        .desks = (int)o->desks,
        .connections = (int)o->connections,
        .per_address = (int)o->per_address,
        .idle_s = (int)o->idle,
        .service = &s->service,
    };
    if (o->tokens[0] && tokens_load(o->tokens, e)) return e->code;
    stores_folder(o->data);
    if (!stores_mine()) return err_set(e, E_IO, "the data folder \"%s\" cannot be used", o->data);
    int code = lock_folder(s, e);
    if (code) return code;
    collect_garbage(s, true);
    return front_start(&s->front, &options, e);
}

/* ---- until a signal ---- */

/* Tokens that were added or taken out. Whether there are any at all is decided at the start. */
static void reload(struct server *s) {
    struct err e = {0};
    if (!s->settings->tokens[0]) return;
    if (tokens_load(s->settings->tokens, &e))
        log_warn("the tokens stay as they were: %s", e.text);
    else
        log_info("the tokens were read again");
}

static void watch_over(struct server *s, const sigset_t *signals) {
    for (;;) {
        int64_t rest = supervise_look(&s->workers);
        struct timespec pause = {rest / 1000, rest % 1000 * NS_PER_MS};
        int signal = sigtimedwait(signals, NULL, &pause);
        if (signal == SIGTERM || signal == SIGINT) return;
        if (signal == SIGHUP) reload(s);
        if (clock_monotonic_ns() >= s->gc_due_ns) collect_garbage(s, false);
    }
}

/* What a desk is still at is left as by a kill, which the store survives: its threads cannot be ended otherwise. */
static void stop(struct server *s) {
    log_info("stopping");
    supervise_ask(&s->workers);
    bool ended = front_stop(s->front, s->settings->drain * 1000);
    supervise_end(&s->workers, WORKER_GRACE_MS);
    stores_close_mine();
    if (ended) return;
    log_warn("requests that do not end are left where they are");
    _exit(0);
}

int serve_main(const struct settings *settings, const char *program) {
    static struct server server; /* outlives every thread */
    struct err e = {0};
    sigset_t signals;
    server.settings = settings;
    mallopt(M_ARENA_MAX, 2); /* few threads allocate; arenas would cost memory for nothing */
    block_signals(&signals);
    allow_files(settings->connections);
    describe_service(&server);
    describe_workers(&server, program);
    if (start(&server, &e)) {
        fprintf(stderr, "retort: %s\n", e.text);
        stores_close_mine();
        return 1;
    }
    printf("listening on http://%s\n", front_address(server.front));
    fflush(stdout);
    watch_over(&server, &signals);
    stop(&server);
    return 0;
}
