/* references.c - walking a specification by its parameter table. */
#include "jobs/references.h"

#include <string.h>

#include "base/text.h"

static int add(struct references *out, enum store_kind kind, const char *pointer, const char *text, struct err *e) {
    if (!*text || references_find(out, kind, text)) return 0;
    if (out->n == STORE_JOB_INPUTS_MAX)
        return err_set_at(e, E_TOO_LARGE, pointer, "the request names more than %d models and data sets",
                          STORE_JOB_INPUTS_MAX);
    struct reference *r = &out->items[out->n++];
    *r = (struct reference){.kind = kind};
    text_copy(r->pointer, sizeof r->pointer, pointer);
    if (!text_print(r->text, sizeof r->text, "%s", text))
        return err_set_at(e, E_INVALID, pointer, "'%.40s...' is too long for a reference", text);
    return 0;
}

static int walk_table(struct references *out, const struct param *table, const char *base, const char *at,
                      struct err *e);

/* One value of a row: a string or an object; others name nothing. */
static int walk_value(struct references *out, const struct param *row, const char *value, const char *at,
                      struct err *e) {
    if (row->type == PARAM_TYPE_OBJECT) return walk_table(out, row->fields, value, at, e);
    if (row->type != PARAM_TYPE_STRING || !row->refers_to) return 0;
    return add(out, strcmp(row->refers_to, "dataset") == 0 ? STORE_DATASET : STORE_MODEL, at, value, e);
}

static int walk_list(struct references *out, const struct param *row, const char *base, const char *at, struct err *e) {
    int count, status = 0;
    memcpy(&count, base + row->count_offset, sizeof count);
    for (int i = 0; i < count && !status; i++) {
        char number[16], pointer[JSON_POINTER_SIZE];
        text_print(number, sizeof number, "%d", i);
        json_pointer(pointer, at, number);
        status = walk_value(out, &row->fields[0], base + row->offset + (size_t)i * row->size, pointer, e);
    }
    return status;
}

static bool is_given(const struct param *row, const char *base) {
    bool given = true;
    if (row->type == PARAM_TYPE_OBJECT && row->present_offset != PARAM_NO_PRESENT)
        memcpy(&given, base + row->present_offset, sizeof given);
    return given;
}

static int walk_table(struct references *out, const struct param *table, const char *base, const char *at,
                      struct err *e) {
    int status = 0;
    for (const struct param *row = table; row->name && !status; row++) {
        char pointer[JSON_POINTER_SIZE];
        json_pointer(pointer, at, row->name);
        if (row->type == PARAM_TYPE_LIST)
            status = walk_list(out, row, base, pointer, e);
        else if (is_given(row, base))
            status = walk_value(out, row, base + row->offset, pointer, e);
    }
    return status;
}

int references_collect(struct references *out, const struct param *table, const void *spec, struct err *e) {
    out->n = 0;
    return walk_table(out, table, spec, "", e);
}

int references_resolve(struct references *r, struct store *s, struct err *e) {
    for (size_t i = 0; i < r->n; i++) {
        struct reference *one = &r->items[i];
        int status = store_resolve(&one->version, s, one->kind, one->text, e);
        if (status) {
            if (status == E_NOT_FOUND) err_prefix(e, "%s", one->text);
            if (e && !e->pointer[0]) text_copy(e->pointer, sizeof e->pointer, one->pointer);
            return status;
        }
    }
    return 0;
}

int references_bind(struct references *r, struct store *s, int64_t job, struct err *e) {
    int64_t inputs[STORE_JOB_INPUTS_MAX];
    size_t n;
    int status = store_job_inputs(inputs, &n, s, job, e);
    if (!status && n != r->n)
        status = err_set(e, E_CORRUPT, "job %lld names %zu models and data sets, but %zu are recorded with it",
                         (long long)job, r->n, n);
    for (size_t i = 0; i < r->n && !status; i++) status = store_version_get(&r->items[i].version, s, inputs[i], e);
    return status;
}

const struct reference *references_find(const struct references *r, enum store_kind kind, const char *text) {
    for (size_t i = 0; i < r->n; i++)
        if (r->items[i].kind == kind && strcmp(r->items[i].text, text) == 0) return &r->items[i];
    return NULL;
}
