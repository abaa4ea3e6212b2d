/* spec.h - a method's specification as JSON, with "method" as its first member, and back. */
#ifndef JOBS_SPEC_H
#define JOBS_SPEC_H

#include "base/error.h"
#include "base/json.h"
#include "base/text.h"
#include "engine/transfer/method.h"

#define SPEC_MAX_MEMBERS 64 /* of a method's table */

/* The method that the body's member "method" names; E_NOT_FOUND at /method with the nearest name. */
int spec_method(const struct method **out, const struct json *body, struct err *e);

/* Parses the body by the method's table. *out has method->spec_size bytes and more, free it with mem_free. */
int spec_parse(void **out, const struct method *method, const struct json *body, struct err *e);

/* Writes it, every default filled in; spec_parse of that gives the same. */
int spec_write(struct text *out, const struct method *method, const void *spec, struct err *e);

#endif
