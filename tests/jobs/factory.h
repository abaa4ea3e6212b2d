/* factory.h - what the tests of jobs share: a data folder with a teacher and some data in it. */
#ifndef TESTS_JOBS_FACTORY_H
#define TESTS_JOBS_FACTORY_H

#include <unistd.h>

#include "base/clock.h"
#include "base/random.h"
#include "engine/formats/onnx.h"
#include "engine/transfer/init.h"
#include "engine/transfer/student.h"
#include "jobs/submit.h"
#include "jobs/worker.h"
#include "tests/store/folder.h"

#define SAMPLES 400
#define SIDE 6
#define CLASSES 3

static inline struct store *factory_open(void) {
    struct store *s;
    struct err e = {0};
    if (!folder[0]) folder_make();
    if (!ok(store_open(&s, &(struct store_options){.folder = folder}, &e) == 0, "store_open: %s", e.text)) exit(1);
    return s;
}

static inline struct json *parse(const char *text) {
    struct json *root = NULL;
    struct err e = {0};
    ok(json_parse(&root, text, strlen(text), &e) == 0, "%s: %s", text, e.text);
    return root;
}

/* Stores a chain of layers on images as a model. */
static inline void put_model(struct store *s, const char *name, const char *layers, uint64_t seed) {
    struct student_spec spec;
    struct graph *g = NULL;
    struct text bytes;
    struct err e = {0};
    struct shape input = {.rank = 4, .dim = {DIM_BATCH, 1, SIDE, SIDE}};
    struct json *root = parse(layers);
    int status = param_parse(&spec, student_params, root, "", &e);
    json_free(root);
    if (!status) status = student_check(&spec, &e);
    if (!status) status = student_chain(&g, spec.layers, spec.n_layers, &input, 1 << 25, &e);
    if (!status) status = init_graph(g, seed, &e);
    text_init(&bytes, 1 << 27);
    if (!status) status = onnx_write(byte_sink_text(&bytes), g, &e);
    struct store_version version;
    struct store_model_new model = {.name = name, .parameters = 1};
    if (!status) status = store_blob_put(&model.blob, s, bytes.data, bytes.length, &e);
    if (!status) status = store_model_put(&version, NULL, s, &model, &e);
    ok(status == 0, "model %s: %s", name, e.text);
    text_free(&bytes);
    graph_free(g);
}

static inline void put_array(struct store *s, const char *dataset, const char *name, const char *dtype,
                             const void *bytes, size_t size, int rank, const int64_t *shape) {
    struct store_blob blob;
    struct err e = {0};
    struct store_array a = {.rank = rank, .bytes = (int64_t)size, .digest = digest_of(bytes, size)};
    snprintf(a.name, sizeof a.name, "%s", name);
    snprintf(a.dtype, sizeof a.dtype, "%s", dtype);
    for (int d = 0; d < rank; d++) a.shape[d] = shape[d];
    int status = store_blob_put(&blob, s, bytes, size, &e);
    a.blob = blob.id;
    struct store_version v;
    if (!status) status = store_dataset_put(&v, NULL, s, dataset, &a, 1, &e);
    ok(status == 0, "array %s/%s: %s", dataset, name, e.text);
}

/* "digits": images of bytes, and labels that depend on where they are bright. */
static inline void put_digits(struct store *s) {
    static uint8_t images[SAMPLES][SIDE][SIDE];
    static int32_t labels[SAMPLES];
    struct random r = random_seed(3);
    for (int i = 0; i < SAMPLES; i++) {
        labels[i] = (int32_t)random_below(&r, CLASSES);
        for (int y = 0; y < SIDE; y++)
            for (int x = 0; x < SIDE; x++)
                images[i][y][x] = (uint8_t)(random_below(&r, 100) + (y / 2 == labels[i] ? 150 : 0));
    }
    put_array(s, "digits", "inputs", "uint8", images, sizeof images, 3, (int64_t[]){SAMPLES, SIDE, SIDE});
    put_array(s, "digits", "labels", "int32", labels, sizeof labels, 1, (int64_t[]){SAMPLES});
}

static inline struct store *factory_with_teacher(void) {
    struct store *s = factory_open();
    put_model(
        s, "teacher",
        "{\"layers\":[{\"conv\":8},\"batchnorm\",\"relu\",{\"maxpool\":2},{\"dense\":16},\"relu\",{\"dense\":3}]}", 1);
    put_digits(s);
    return s;
}

#define DISTIL \
    "{\"method\":\"distill\",\"teacher\":\"teacher\",\"dataset\":{\"ref\":\"digits\",\"scale\":255}," \
    "\"student\":{\"width\":0.5},\"train\":{\"epochs\":4,\"batch\":32},\"output\":\"student\"}"

/* Checks and queues a request; 0 when it is refused. */
static inline int64_t submit(struct store *s, const char *request, struct err *e) {
    struct submission sub;
    int64_t id = 0;
    struct json *root = parse(request);
    int status = submit_check(&sub, s, root, &(struct submit_options){0}, e);
    json_free(root);
    if (status) return 0;
    struct store_job_new job = {
        .method = sub.method->name, .spec = sub.spec, .inputs = sub.inputs, .n_inputs = sub.n_inputs};
    status = store_job_create(&id, NULL, s, &job, e);
    submission_free(&sub);
    return status ? 0 : id;
}

static inline struct worker_options options(void) {
    return (struct worker_options){.folder = folder, .name = "tester", .threads = 1};
}

/* The digest of what a job made; zeros when it did not succeed. */
static inline struct digest made_by(struct store *s, int64_t id, enum store_job_state expected) {
    struct store_job job = {0};
    struct err e = {0};
    ok(store_job_get(&job, s, id, &e) == 0, "%s", e.text);
    ok(job.state == expected, "job is %s: %s", store_job_state_name(job.state), job.error ? job.error : "");
    struct digest d = job.state == STORE_JOB_SUCCEEDED ? job.output_digest : (struct digest){0};
    store_job_fini(&job);
    return d;
}

#endif
