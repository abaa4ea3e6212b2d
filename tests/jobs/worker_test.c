/* Jobs from the queue to their end, over a real store. */
#define TEST_SECONDS 60
#include <pthread.h>
#include <sys/resource.h>

#include "engine/formats/training_memory.h"
#include "engine/nn/optimizer.h"
#include "jobs/loader.h"
#include "tests/jobs/factory.h"
#include "tests/peak.h"

static bool work_once(struct store *s, struct worker_options o) {
    struct err e = {0};
    bool found;
    ok(worker_run_one(&found, s, &o, &e) == 0, "%s", e.text);
    return found;
}

TEST(a_job_is_run_and_published) {
    struct store *s = factory_with_teacher();
    struct err e = {0};
    int64_t id = submit(s, DISTIL, &e);
    need(id > 0, "%s: %s", e.pointer, e.text);
    ok(work_once(s, options()) && !work_once(s, options()), "one job");
    made_by(s, id, STORE_JOB_SUCCEEDED);
    struct store_model m = {0};
    need(store_model_get(&m, s, "student", &e) == 0, "%s", e.text);
    ok(m.version.job == id && m.parameters > 0 && strstr(m.lineage, "\"teacher@1\"") &&
           strstr(m.lineage, "\"digits@2\""),
       "%s", m.lineage);
    ok(strstr(m.operators, "\"Conv\":1") && strstr(m.inputs, "[\"N\",1,6,6]"), "%s %s", m.operators, m.inputs);
    char *bytes = malloc((size_t)m.version.bytes);
    struct graph *g = NULL;
    ok(store_blob_read(bytes, (size_t)m.version.bytes, s, m.blob, 0, &e) == 0, "%s", e.text);
    ok(onnx_read(&g, bytes, (size_t)m.version.bytes, &e) == 0, "%s", e.text);
    graph_free(g);
    free(bytes);
    struct store_job job = {0};
    need(store_job_get(&job, s, id, &e) == 0, "%s", e.text);
    struct json *result = parse(job.result), *metrics = parse(job.metrics);
    ok(json_get(result, "digest") && json_get(result, "metrics") && json_get(result, "teacher_metrics") &&
           json_get(result, "report"),
       "%s", job.result);
    ok(json_get(metrics, "train_loss") && json_get(metrics, "eval_accuracy"), "%s", job.metrics);
    ok(job.progress.step == job.progress.steps && job.progress.steps == 4 * (360 / 32), "progress");
    struct store_event_page page;
    need(store_event_read(&page, s, id, 0, 1000, &e) == 0, "%s", e.text);
    bool seen[2] = {0};
    for (size_t i = 0; i < page.n; i++) {
        seen[0] |= !strcmp(page.items[i].type, "metric");
        seen[1] |= !strcmp(page.items[i].type, "progress");
    }
    ok(seen[0] && seen[1], "%zu events", page.n);
    store_event_page_fini(&page);
    json_free(result);
    json_free(metrics);
    store_job_fini(&job);
    store_model_fini(&m);
    store_close(s);
}

/* As a method would load a network and what its training left. */
static int load_both(struct graph **g, struct store *s, const char *reference, struct err *e) {
    struct references refs = {.n = 1, .items = {{.kind = STORE_MODEL}}};
    struct loader loader;
    snprintf(refs.items[0].text, sizeof refs.items[0].text, "%s", reference);
    int status = references_resolve(&refs, s, e);
    if (status) return status;
    loader_init(&loader, s, &refs, &(struct loader_options){0});
    status = loader_graph(g, NULL, &loader, reference, e);
    if (!status) status = loader_memory(*g, &loader, reference, e);
    loader_fini(&loader);
    return status;
}

TEST(what_the_optimizer_keeps_is_stored_beside_the_student) {
    struct store *s = factory_with_teacher();
    struct err e = {0};
    struct graph *g = NULL;
    struct store_model m = {0};
    int64_t id = submit(s, DISTIL, &e);
    need(id > 0 && work_once(s, options()), "%s", e.text);
    need(load_both(&g, s, "student", &e) == 0, "%s", e.text);
    ok(g->training.rule == 1 && g->training.steps == 4 * (360 / 32) && g->training.rate == 0.001 &&
           !g->training.changed,
       "rule %d, %d steps", g->training.rule, (int)g->training.steps);
    int trained = 0;
    for (int v = 0; v < g->n_values; v++) {
        ok(!g->values[v].memory[0] == !g->values[v].memory[1], "%s", g->values[v].name);
        if (g->values[v].memory[0]) ok(g->values[v].constant && g->values[v].trainable, "%s", g->values[v].name);
        trained += g->values[v].memory[0] != NULL;
    }
    ok(trained == 7, "%d parameters", trained); /* of a convolution, a norm, and two dense layers with biases */
    graph_free(g);
    need(store_model_get(&m, s, "student", &e) == 0 && m.training, "%s", e.text);
    struct store_blob blob;
    struct json *about = parse(m.training);
    int64_t bytes = 0;
    ok(store_blob_get(&blob, s, m.memory, &e) == 0 && json_int(&bytes, json_get(about, "bytes")) && bytes == blob.size,
       "%s", m.training);
    ok(!strcmp(json_string(json_get(about, "optimizer")), "adam"), "%s", m.training);
    json_free(about);
    store_model_fini(&m);
    ok(load_both(&g, s, "teacher", &e) == E_NOT_FOUND && strstr(e.text, "keep_optimizer"), "%s", e.text);
    ok(g->training.rule == -1, "the network is loaded all the same");
    graph_free(g);
    store_close(s);
}

#define TRAIN(keep) \
    "{\"method\":\"train\",\"model\":\"teacher\",\"dataset\":{\"ref\":\"digits\",\"scale\":255}," \
    "\"train\":{\"steps\":3,\"batch\":32,\"keep_optimizer\":" keep "},\"output\":\"student\"}"

TEST(or_not_when_nobody_wants_it) {
    struct store *s = factory_with_teacher();
    struct err e = {0};
    struct store_model m = {0};
    need(submit(s, TRAIN("false"), &e) > 0 && work_once(s, options()), "%s", e.text);
    need(store_model_get(&m, s, "student@1", &e) == 0, "%s", e.text);
    ok(!m.memory && !m.training, "%s", m.training);
    store_model_fini(&m);
    need(submit(s, TRAIN("true"), &e) > 0 && work_once(s, options()), "%s", e.text);
    need(store_model_get(&m, s, "student", &e) == 0, "%s", e.text);
    ok(m.version.number == 1 && m.memory && m.training, "the same student, and now it has one");
    store_model_fini(&m);
    store_close(s);
}

TEST(again_and_with_more_threads_the_same_bytes) {
    struct store *s = factory_with_teacher();
    struct digest made[3];
    for (int i = 0; i < 3; i++) {
        struct worker_options o = options();
        int64_t id = submit(s, DISTIL, NULL);
        o.threads = i == 2 ? 2 : 1;
        o.checkpoint_ms = i == 1 ? -1 : 0;
        work_once(s, o);
        made[i] = made_by(s, id, STORE_JOB_SUCCEEDED);
    }
    ok(digest_equal(&made[0], &made[1]) && digest_equal(&made[0], &made[2]), "digests");
    store_close(s);
}

/* Does something to the store once a job has reached a step. */
struct meddler {
    int64_t job, step;
    void (*act)(struct store *s, int64_t job);
};

static void *meddle(void *context) {
    struct meddler *m = context;
    struct store *s = factory_open();
    for (;;) {
        struct store_job job = {0};
        if (store_job_get(&job, s, m->job, NULL)) break;
        bool there = job.progress.step >= m->step;
        store_job_fini(&job);
        if (there) break;
        clock_sleep_ms(5);
    }
    m->act(s, m->job);
    store_close(s);
    return NULL;
}

static void act_cancel(struct store *s, int64_t job) {
    ok(store_job_cancel(NULL, s, job, NULL) == 0, "cancel");
}

static void act_stop(struct store *s, int64_t job) {
    (void)s, (void)job;
    worker_stop();
}

#define LONG \
    "{\"method\":\"distill\",\"teacher\":\"teacher\",\"dataset\":{\"ref\":\"digits\",\"scale\":255}," \
    "\"student\":{\"width\":0.5},\"train\":{\"epochs\":%d,\"batch\":32},\"output\":\"student\"}"

static int64_t run_meddled(struct store *s, int epochs, int64_t step, void (*act)(struct store *, int64_t)) {
    char request[1024];
    pthread_t thread;
    struct worker_options o = options();
    snprintf(request, sizeof request, LONG, epochs);
    struct meddler m = {submit(s, request, NULL), step, act};
    o.lease_ms = 1000;
    pthread_create(&thread, NULL, meddle, &m);
    work_once(s, o);
    pthread_join(thread, NULL);
    return m.job;
}

TEST(cancelling_ends_a_running_job) {
    struct store *s = factory_with_teacher();
    int64_t began = clock_monotonic_ns();
    int64_t id = run_meddled(s, 1000000, 50, act_cancel);
    made_by(s, id, STORE_JOB_CANCELLED);
    ok(clock_monotonic_ns() - began < 10000000000, "soon");
    struct store_model m = {0};
    ok(store_model_get(&m, s, "student", NULL) == E_NOT_FOUND, "nothing is published");
    store_close(s);
}

/* As kill -9 does it, in a process of its own: no farewell, the lease runs out. */
static void act_die(struct store *s, int64_t job) {
    struct store_checkpoint c;
    while (store_checkpoint_get(&c, s, job, 0, NULL)) clock_sleep_ms(5);
    _exit(3);
}

/* A teacher whose answers take 6.4 MB, far more than its data. */
#define TALKATIVE \
    "{\"method\":\"distill\",\"teacher\":\"talkative\",\"dataset\":{\"ref\":\"digits\",\"scale\":255}," \
    "\"student\":{\"width\":0.5},\"train\":{\"epochs\":1,\"batch\":32},\"output\":\"student\"}"

static struct store *factory_with_talk(void) {
    struct store *s = factory_with_teacher();
    put_model(s, "talkative", "{\"layers\":[{\"dense\":16},\"relu\",{\"dense\":4000}]}", 1);
    return s;
}

/* A 16th of the memory is for arrays: it is too little for the images of the first request, which have 36
 * bytes each, and for the answers in the second. */
TEST(data_larger_than_the_memory_make_the_same_student) {
    static const struct {
        const char *request;
        size_t memory;
    } requests[] = {{DISTIL, 16 * SAMPLES * SIDE * SIDE - 16}, {TALKATIVE, (size_t)64 << 20}};
    struct store *s = factory_with_talk();
    for (int i = 0; i < 2; i++) {
        struct digest made[2];
        for (int limited = 0; limited < 2; limited++) {
            struct worker_options o = options();
            o.memory = limited ? requests[i].memory : 0;
            int64_t id = submit(s, requests[i].request, NULL);
            need(work_once(s, o), "a job");
            made[limited] = made_by(s, id, STORE_JOB_SUCCEEDED);
        }
        ok(digest_equal(&made[0], &made[1]), "request %d: the same bytes", i);
    }
    store_close(s);
}

TEST(a_network_from_the_store_is_in_memory_once) {
    enum { WIDE = 4000 };
    const size_t size = (size_t)WIDE * WIDE * sizeof(float);
    struct store *s = factory_with_teacher();
    put_model(s, "wide", "{\"layers\":[{\"dense\":4000},\"relu\",{\"dense\":4000},\"relu\",{\"dense\":3}]}", 1);
    int64_t id = submit(s, "{\"method\":\"evaluate\",\"model\":\"wide\",\"dataset\":\"digits\"}", NULL);
    need(peak_forget(), "/proc/self/clear_refs");
    size_t before = peak_now();
    need(work_once(s, options()), "a job");
    made_by(s, id, STORE_JOB_SUCCEEDED);
    ok(!PEAK_TRUE || peak_most() - before <= size + size / 4, "%zu bytes of weights took %zu", size,
       peak_most() - before);
    store_close(s);
}

TEST(data_that_the_disk_cannot_take_are_an_error) {
    struct store *s = factory_with_talk();
    struct worker_options o = options();
    int64_t id = submit(s, TALKATIVE, NULL);
    o.memory = (size_t)64 << 20;
    signal(SIGXFSZ, SIG_IGN);
    need(setrlimit(RLIMIT_FSIZE, &(struct rlimit){6 << 20, 6 << 20}) == 0, "setrlimit");
    need(work_once(s, o), "a job");
    made_by(s, id, STORE_JOB_FAILED);
    struct store_job job = {0};
    need(store_job_get(&job, s, id, NULL) == 0, "get");
    ok(job.error && strstr(job.error, "reserving a scratch file of 6400000 bytes in "), "%s", job.error);
    ok(job.error && strstr(job.error, "File too large; a job keeps there what is larger"), "%s", job.error);
    store_job_fini(&job);
    store_close(s);
}

TEST(a_killed_worker_is_replaced) {
    struct store *s = factory_with_teacher();
    char request[1024];
    snprintf(request, sizeof request, LONG, 150);
    int64_t undisturbed = submit(s, request, NULL);
    work_once(s, options());
    struct digest expected = made_by(s, undisturbed, STORE_JOB_SUCCEEDED);
    int64_t id = submit(s, request, NULL);
    store_close(s); /* nobody's connection goes across a fork */
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        struct store *mine = factory_open();
        struct meddler m = {id, 20, act_die};
        pthread_t thread;
        pthread_create(&thread, NULL, meddle, &m);
        struct worker_options o = options();
        o.lease_ms = 500;
        o.checkpoint_ms = 20;
        work_once(mine, o);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    ok(WIFEXITED(status) && WEXITSTATUS(status) == 3, "the worker died in the middle");
    s = factory_open();
    struct worker_options o = options();
    int64_t n = 0;
    for (int i = 0; i < 200 && !n; i++) {
        clock_sleep_ms(20);
        store_job_requeue(&n, s, NULL);
    }
    ok(n == 1 && work_once(s, o), "taken over");
    struct digest made = made_by(s, id, STORE_JOB_SUCCEEDED);
    ok(digest_equal(&expected, &made), "the same student");
    struct store_event_page page;
    bool resumed = false;
    store_event_read(&page, s, id, 0, 1000, NULL);
    for (size_t i = 0; i < page.n; i++) resumed |= strstr(page.items[i].data, "resuming from the checkpoint") != NULL;
    ok(resumed, "from the checkpoint");
    store_event_page_fini(&page);
    store_close(s);
}

TEST(stopping_gives_the_job_back) {
    struct store *s = factory_with_teacher();
    int64_t id = run_meddled(s, 1000000, 50, act_stop);
    struct store_job job = {0};
    need(store_job_get(&job, s, id, NULL) == 0, "get");
    ok(job.state == STORE_JOB_QUEUED && job.attempt == 0, "%s, attempt %d", store_job_state_name(job.state),
       job.attempt);
    struct store_checkpoint c;
    ok(store_checkpoint_get(&c, s, id, 0, NULL) == 0 && c.step >= 50, "checkpoint of step %d", (int)c.step);
    store_job_fini(&job);
    store_close(s);
}

TEST(failures_are_problems) {
    struct store *s = factory_with_teacher();
    struct err e = {0};
    int64_t id =
        submit(s,
               "{\"method\":\"train\",\"model\":\"teacher\",\"dataset\":\"digits\",\"train\":{\"optimizer\":\"sgd\","
               "\"learning_rate\":1000,\"weight_decay\":100,\"epochs\":30}}",
               &e);
    need(id > 0, "%s", e.text);
    work_once(s, options());
    struct store_job job = {0};
    need(store_job_get(&job, s, id, &e) == 0, "%s", e.text);
    if (job.state == STORE_JOB_FAILED) {
        struct json *problem = parse(job.error);
        ok(json_get(problem, "detail") && strstr(job.error, "learning_rate"), "%s", job.error);
        json_free(problem);
    } else {
        ok(false, "the job is %s", store_job_state_name(job.state));
    }
    store_job_fini(&job);
    store_close(s);
}

TEST(a_lost_lease_leaves_no_trace) {
    struct store *s = factory_with_teacher();
    int64_t id = submit(s, DISTIL, NULL);
    struct store_lease stale, fresh;
    bool found;
    struct err e = {0};
    need(store_lease_claim(&stale, &found, s, "slow", 1, &e) == 0 && found, "%s", e.text);
    int64_t n = 0;
    clock_sleep_ms(20);
    store_job_requeue(&n, s, NULL);
    need(store_lease_claim(&fresh, &found, s, "other", 60000, &e) == 0 && found, "%s", e.text);
    ok(store_lease_succeed(NULL, s, &stale, NULL, "{}", &e) == E_LOST, "fenced");
    struct store_job job = {0};
    need(store_job_get(&job, s, id, NULL) == 0, "get");
    ok(job.state == STORE_JOB_RUNNING, "%s", store_job_state_name(job.state));
    store_job_fini(&job);
    store_close(s);
}

TEST(the_other_methods_run) {
    struct store *s = factory_with_teacher();
    struct err e = {0};
    int64_t one =
        submit(s,
               "{\"method\":\"train\",\"model\":\"teacher\",\"student\":{\"width\":0.5},\"dataset\":\"digits\","
               "\"train\":{\"epochs\":2},\"output\":\"plain\"}",
               &e);
    int64_t two = submit(s, "{\"method\":\"evaluate\",\"model\":\"teacher\",\"dataset\":\"digits\"}", &e);
    need(one && two, "%s at %s", e.text, e.pointer);
    struct worker_options o = options();
    o.until_idle = true;
    ok(worker_main(&o) == 0, "worker");
    made_by(s, one, STORE_JOB_SUCCEEDED);
    made_by(s, two, STORE_JOB_SUCCEEDED);
    store_close(s);
}

TEST_MAIN
