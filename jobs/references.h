/* references.h - which models and data sets a specification names, found by its parameter table. */
#ifndef JOBS_REFERENCES_H
#define JOBS_REFERENCES_H

#include <stddef.h>

#include "base/error.h"
#include "base/json.h"
#include "base/param.h"
#include "store/catalog.h"
#include "store/jobs.h"

struct reference {
    enum store_kind kind;
    char pointer[JSON_POINTER_SIZE]; /* where it stands first: "/teacher/0/model" */
    char text[STORE_REFERENCE_SIZE]; /* as written: "fashion", "teacher@3" */
    struct store_version version;    /* what it means: filled by references_resolve or references_bind */
};

/* Every distinct reference once, in order of appearance: the same spec gives the same list, which is
 * what ties a job's recorded inputs to the names in its spec. */
struct references {
    struct reference items[STORE_JOB_INPUTS_MAX];
    size_t n;
};

/* Walks a spec. E_TOO_LARGE beyond STORE_JOB_INPUTS_MAX. */
int references_collect(struct references *out, const struct param *table, const void *spec, struct err *e);

/* Looks up what each means now. Errors carry the pointer of the reference at fault. */
int references_resolve(struct references *r, struct store *s, struct err *e);

/* Binds them to the versions recorded when the job was created. */
int references_bind(struct references *r, struct store *s, int64_t job, struct err *e);

/* The one written so, or NULL. */
const struct reference *references_find(const struct references *r, enum store_kind kind, const char *text);

#endif
