/* submit.h - from the body of POST /v1/jobs to a checked job: what the handler calls before it queues one. */
#ifndef JOBS_SUBMIT_H
#define JOBS_SUBMIT_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/json.h"
#include "engine/transfer/method.h"
#include "jobs/references.h"
#include "store/store.h"

struct submission {
    const struct method *method;
    char *spec;                           /* JSON object with every default filled in, "method" first; owned */
    struct graph_size student;            /* zeros when the method makes none */
    struct references references;         /* resolved */
    int64_t inputs[STORE_JOB_INPUTS_MAX]; /* ids of their versions, for store_job_new */
    size_t n_inputs;
};

struct submit_options {
    size_t memory; /* bytes a job may take; 0 = no limit */
};

/* Checks a request completely and starts nothing: unknown method (E_NOT_FOUND at /method with the
 * nearest name), fields, references, shapes, sizes. Errors carry a JSON pointer. Loads the networks
 * that the method wants to look at, but of data sets only shapes and small arrays. */
int submit_check(struct submission *out, struct store *s, const struct json *body, const struct submit_options *options,
                 struct err *e);
void submission_free(struct submission *out);

#endif
