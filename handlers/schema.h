/* schema.h - parameter tables as JSON Schema (2020-12), for /openapi.json. A member that is not required may be null too,
 * in requests as in replies. */
#ifndef HANDLERS_SCHEMA_H
#define HANDLERS_SCHEMA_H

#include "base/json.h"
#include "base/param.h"

/* An object schema of the table under `name`. With `constant` (may be NULL) it has one more, required
 * property of that name, which must be `value`: {"method": "distill"}. */
void put_table_schema(struct json_writer *w, const char *name, const struct param *table, const char *constant,
                      const char *value);

/* The schema of one row's value; for query parameters. */
void put_value_schema(struct json_writer *w, const char *name, const struct param *row);

#endif
