/* schema.c - parameter tables as JSON Schema. */
#include "handlers/schema.h"

#include <string.h>

static void put_members(struct json_writer *w, const struct param *table, const char *constant, const char *value);
static void put_value(struct json_writer *w, const struct param *row);

static void put_words(struct json_writer *w, const char *choices) {
    char word[64];
    json_open_array(w, "enum");
    for (int i = 0; param_word(word, sizeof word, choices, i), word[0]; i++) json_put_string(w, NULL, word);
    json_close_array(w);
}

static void put_number(struct json_writer *w, const struct param *row, const char *type) {
    json_put_string(w, "type", type);
    if (row->low == 0 && row->high == 0) return;
    json_put_number(w, "minimum", row->low);
    json_put_number(w, "maximum", row->high);
}

/* An integer that may also be given as one of some words. */
static void put_integer(struct json_writer *w, const struct param *row) {
    if (!row->choices) {
        put_number(w, row, "integer");
        return;
    }
    json_open_array(w, "anyOf");
    json_open_object(w, NULL);
    put_number(w, row, "integer");
    json_close_object(w);
    json_open_object(w, NULL);
    put_words(w, row->choices);
    json_close_object(w);
    json_close_array(w);
}

static const struct param *row_named(const struct param *table, const char *name) {
    while (table->name && strcmp(table->name, name)) table++;
    return table->name ? table : NULL;
}

/* An object, or the value of its bare field alone. */
static void put_object(struct json_writer *w, const struct param *row) {
    const struct param *bare = row->bare ? row_named(row->fields, row->bare) : NULL;
    if (!row->fields) {
        json_put_string(w, "type", "object");
    } else if (!bare) {
        put_members(w, row->fields, NULL, NULL);
    } else {
        json_open_array(w, "anyOf");
        json_open_object(w, NULL);
        put_members(w, row->fields, NULL, NULL);
        json_close_object(w);
        json_open_object(w, NULL);
        put_value(w, bare);
        json_close_object(w);
        json_close_array(w);
    }
}

static void put_list(struct json_writer *w, const struct param *row) {
    json_put_string(w, "type", "array");
    if (row->max) json_put_int(w, "maxItems", (int64_t)row->max);
    if (!row->fields) return;
    json_open_object(w, "items");
    put_value(w, row->fields);
    json_close_object(w);
}

/* The members of a schema object. */
static void put_value(struct json_writer *w, const struct param *row) {
    switch (row->type) {
        case PARAM_TYPE_BOOL: json_put_string(w, "type", "boolean"); break;
        case PARAM_TYPE_INT: put_integer(w, row); break;
        case PARAM_TYPE_REAL: put_number(w, row, "number"); break;
        case PARAM_TYPE_STRING: json_put_string(w, "type", "string"); break;
        case PARAM_TYPE_CHOICE: put_words(w, row->choices); break;
        case PARAM_TYPE_OBJECT: put_object(w, row); break;
        case PARAM_TYPE_LIST: put_list(w, row); break;
    }
}

void put_value_schema(struct json_writer *w, const char *name, const struct param *row) {
    json_open_object(w, name);
    put_value(w, row);
    if (row->standard) json_put_raw(w, "default", row->standard);
    if (row->help) json_put_string(w, "description", row->help);
    json_close_object(w);
}

static void put_members(struct json_writer *w, const struct param *table, const char *constant, const char *value) {
    json_put_string(w, "type", "object");
    json_open_object(w, "properties");
    if (constant) {
        json_open_object(w, constant);
        json_put_string(w, "const", value);
        json_close_object(w);
    }
    for (const struct param *row = table; row->name; row++) put_value_schema(w, row->name, row);
    json_close_object(w);
    json_open_array(w, "required");
    if (constant) json_put_string(w, NULL, constant);
    for (const struct param *row = table; row->name; row++)
        if (row->required) json_put_string(w, NULL, row->name);
    json_close_array(w);
}

void put_table_schema(struct json_writer *w, const char *name, const struct param *table, const char *constant,
                      const char *value) {
    json_open_object(w, name);
    put_members(w, table, constant, value);
    json_close_object(w);
}
