/* param_write.c - structs to JSON by table, and tables themselves as JSON. */
#include <math.h>

#include "base/param.h"

/* ---- structs ---- */

/* Whether a field of the struct holds nothing that reading would not fill in again. */
static bool is_absent(const struct param *row, const char *in) {
    const void *field = in + row->offset;
    switch (row->type) {
        case PARAM_TYPE_BOOL: return false;
        case PARAM_TYPE_INT: return *(const int64_t *)field == PARAM_ABSENT;
        case PARAM_TYPE_REAL: return isnan(*(const double *)field);
        case PARAM_TYPE_STRING: return *(const char *)field == '\0' && !row->standard;
        case PARAM_TYPE_CHOICE: return *(const int *)field < 0;
        case PARAM_TYPE_OBJECT:
            return row->present_offset != PARAM_NO_PRESENT && !*(const bool *)(in + row->present_offset);
        case PARAM_TYPE_LIST: return *(const int *)(const void *)(in + row->count_offset) == 0 && !row->standard;
    }
    return false;
}

static void write_word(struct json_writer *w, const char *name, const char *choices, int index) {
    char word[64];
    param_word(word, sizeof word, choices, index);
    json_put_string(w, name, word);
}

static void write_int(struct json_writer *w, const char *name, const struct param *row, int64_t value) {
    char word[64] = "";
    if (row->choices && value < 0 && value > -64) param_word(word, sizeof word, row->choices, (int)(-1 - value));
    if (word[0])
        json_put_string(w, name, word);
    else
        json_put_int(w, name, value);
}

static void write_value(struct json_writer *w, const char *name, const struct param *row, const void *field) {
    switch (row->type) {
        case PARAM_TYPE_BOOL: json_put_bool(w, name, *(const bool *)field); break;
        case PARAM_TYPE_INT: write_int(w, name, row, *(const int64_t *)field); break;
        case PARAM_TYPE_REAL: json_put_number(w, name, *(const double *)field); break;
        case PARAM_TYPE_STRING: json_put_string(w, name, field); break;
        case PARAM_TYPE_CHOICE: write_word(w, name, row->choices, *(const int *)field); break;
        case PARAM_TYPE_OBJECT:
            json_open_object(w, name);
            param_write(w, row->fields, field);
            json_close_object(w);
            break;
        case PARAM_TYPE_LIST: break; /* lists of lists do not exist */
    }
}

static void write_list(struct json_writer *w, const struct param *row, const char *in) {
    int n = *(const int *)(const void *)(in + row->count_offset);
    json_open_array(w, row->name);
    for (int i = 0; i < n; i++) write_value(w, NULL, row->fields, in + row->offset + (size_t)i * row->size);
    json_close_array(w);
}

void param_write(struct json_writer *w, const struct param *table, const void *in) {
    const char *bytes = in;
    for (const struct param *row = table; row->name; row++) {
        if (is_absent(row, bytes)) continue;
        if (row->type == PARAM_TYPE_LIST)
            write_list(w, row, bytes);
        else
            write_value(w, row->name, row, bytes + row->offset);
    }
}

/* ---- tables ---- */

static void describe_choices(struct json_writer *w, const char *choices) {
    char word[64];
    json_open_array(w, "choices");
    for (int i = 0; param_word(word, sizeof word, choices, i), word[0]; i++) json_put_string(w, NULL, word);
    json_close_array(w);
}

/* What a list and its element say alike. */
static void describe_value(struct json_writer *w, const struct param *row) {
    static const char *const types[] = {"boolean", "integer", "number", "string", "choice", "object", "list"};
    bool number = row->type == PARAM_TYPE_INT || row->type == PARAM_TYPE_REAL;
    json_put_string(w, "type", types[row->type]);
    if (number && (row->low != 0 || row->high != 0)) {
        json_put_number(w, "minimum", row->low);
        json_put_number(w, "maximum", row->high);
    }
    if (row->choices) describe_choices(w, row->choices);
    if (row->bare) json_put_string(w, "bare", row->bare);
    if (row->refers_to) json_put_string(w, "refers_to", row->refers_to);
    if (row->fields) param_describe(w, "fields", row->fields);
}

static void describe_row(struct json_writer *w, const struct param *row) {
    json_open_object(w, NULL);
    json_put_string(w, "name", row->name);
    json_put_bool(w, "required", row->required);
    if (row->standard) json_put_raw(w, "default", row->standard);
    if (row->help) json_put_string(w, "help", row->help);
    if (row->type == PARAM_TYPE_LIST) json_put_int(w, "list", (int64_t)row->max);
    describe_value(w, row->type == PARAM_TYPE_LIST ? row->fields : row);
    json_close_object(w);
}

void param_describe(struct json_writer *w, const char *name, const struct param *table) {
    json_open_array(w, name);
    for (const struct param *row = table; row->name; row++) describe_row(w, row);
    json_close_array(w);
}
