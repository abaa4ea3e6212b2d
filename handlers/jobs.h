/* jobs.h - what the halves of the jobs' resource share. */
#ifndef HANDLERS_JOBS_H
#define HANDLERS_JOBS_H

#include "base/json.h"
#include "server/http.h"
#include "store/jobs.h"

/* The job as a JSON object. In lists `result` is left out: it may be long. */
void put_job(struct json_writer *w, const char *name, const struct store_job *job, bool in_list);

/* The job named in the path; E_NOT_FOUND. Free it with store_job_fini. */
int job_of(struct store_job *out, const struct request *r, struct err *e);

struct wait_query {
    int64_t wait;
};
extern const struct param wait_params[]; /* a table for struct wait_query */

/* Whether a call that may wait has to: true, then the response is a wait. What the client asked for is
 * in ?wait= or Prefer; `state` is the job's. */
bool reply_unless_final(struct response *out, const struct request *r, enum store_job_state state,
                        const struct wait_query *query);

#endif
