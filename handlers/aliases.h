/* aliases.h - what the aliases of models and of data sets share with their lists. */
#ifndef HANDLERS_ALIASES_H
#define HANDLERS_ALIASES_H

#include "base/json.h"
#include "store/catalog.h"

/* "aliases": {"champion": 3} */
int put_aliases(struct json_writer *w, struct store *s, enum store_kind kind, const char *name, struct err *e);

#endif
