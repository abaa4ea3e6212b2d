/* table.c - the list of methods, from methods.def. */
#include <string.h>

#include "engine/nn/graph.h"
#include "engine/transfer/method.h"

#define METHOD(name) extern const struct method method_##name;
#include "engine/transfer/methods.def"
#undef METHOD

const struct method *const method_table[] = {
#define METHOD(name) &method_##name,
#include "engine/transfer/methods.def"
#undef METHOD
    NULL,
};

const struct method *method_find(const char *name) {
    for (int i = 0; method_table[i]; i++)
        if (strcmp(method_table[i]->name, name) == 0) return method_table[i];
    return NULL;
}

void outcome_free(struct outcome *o) {
    graph_free(o->student);
    text_free(&o->metrics);
    text_free(&o->teacher_metrics);
    text_free(&o->report);
    *o = (struct outcome){0};
}
