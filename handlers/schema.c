/* schema.c - parameter tables as JSON Schema. */
#include "handlers/schema.h"

#include <string.h>

static void put_members(struct json_writer *w, const struct param *table, const char *constant, const char *value);
static void put_value(struct json_writer *w, const struct param *row, bool nullable);

static void put_type(struct json_writer *w, const char *type, bool nullable) {
    if (!nullable) {
        json_put_string(w, "type", type);
        return;
    }
    json_open_array(w, "type");
    json_put_string(w, NULL, type);
    json_put_string(w, NULL, "null");
    json_close_array(w);
}

static void put_null(struct json_writer *w) {
    json_open_object(w, NULL);
    json_put_string(w, "type", "null");
    json_close_object(w);
}

static void put_words(struct json_writer *w, const char *choices, bool nullable) {
    char word[64];
    json_open_array(w, "enum");
    for (int i = 0; param_word(word, sizeof word, choices, i), word[0]; i++) json_put_string(w, NULL, word);
    if (nullable) json_put_null(w, NULL);
    json_close_array(w);
}

static void put_number(struct json_writer *w, const struct param *row, const char *type, bool nullable) {
    put_type(w, type, nullable);
    if (row->low == 0 && row->high == 0) return;
    json_put_number(w, "minimum", row->low);
    json_put_number(w, "maximum", row->high);
}

/* An integer that may also be given as one of some words. */
static void put_integer(struct json_writer *w, const struct param *row, bool nullable) {
    if (!row->choices) {
        put_number(w, row, "integer", nullable);
        return;
    }
    json_open_array(w, "anyOf");
    json_open_object(w, NULL);
    put_number(w, row, "integer", nullable);
    json_close_object(w);
    json_open_object(w, NULL);
    put_words(w, row->choices, false);
    json_close_object(w);
    json_close_array(w);
}

static const struct param *row_named(const struct param *table, const char *name) {
    while (table->name && strcmp(table->name, name)) table++;
    return table->name ? table : NULL;
}

/* An object, or the value of its bare field alone. */
static void put_object(struct json_writer *w, const struct param *row, bool nullable) {
    const struct param *bare = row->bare ? row_named(row->fields, row->bare) : NULL;
    if (!row->fields) {
        put_type(w, "object", nullable);
    } else if (!bare && !nullable) {
        put_members(w, row->fields, NULL, NULL);
    } else {
        json_open_array(w, "anyOf");
        json_open_object(w, NULL);
        put_members(w, row->fields, NULL, NULL);
        json_close_object(w);
        if (bare) {
            json_open_object(w, NULL);
            put_value(w, bare, false);
            json_close_object(w);
        }
        if (nullable) put_null(w);
        json_close_array(w);
    }
}

static void put_list(struct json_writer *w, const struct param *row, bool nullable) {
    put_type(w, "array", nullable);
    if (row->max) json_put_int(w, "maxItems", (int64_t)row->max);
    if (!row->fields) return;
    json_open_object(w, "items");
    put_value(w, row->fields, false);
    json_close_object(w);
}

/* The members of a schema object. */
static void put_value(struct json_writer *w, const struct param *row, bool nullable) {
    switch (row->type) {
        case PARAM_TYPE_BOOL: put_type(w, "boolean", nullable); break;
        case PARAM_TYPE_INT: put_integer(w, row, nullable); break;
        case PARAM_TYPE_REAL: put_number(w, row, "number", nullable); break;
        case PARAM_TYPE_STRING: put_type(w, "string", nullable); break;
        case PARAM_TYPE_CHOICE: put_words(w, row->choices, nullable); break;
        case PARAM_TYPE_OBJECT: put_object(w, row, nullable); break;
        case PARAM_TYPE_LIST: put_list(w, row, nullable); break;
    }
}

static void put_schema(struct json_writer *w, const char *name, const struct param *row, bool nullable) {
    json_open_object(w, name);
    put_value(w, row, nullable);
    if (row->standard) json_put_raw(w, "default", row->standard);
    if (row->help) json_put_string(w, "description", row->help);
    json_close_object(w);
}

void put_value_schema(struct json_writer *w, const char *name, const struct param *row) {
    put_schema(w, name, row, false);
}

static void put_members(struct json_writer *w, const struct param *table, const char *constant, const char *value) {
    json_put_string(w, "type", "object");
    json_open_object(w, "properties");
    if (constant) {
        json_open_object(w, constant);
        json_put_string(w, "const", value);
        json_close_object(w);
    }
    for (const struct param *row = table; row->name; row++) put_schema(w, row->name, row, !row->required);
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
