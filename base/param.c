/* param.c - structs from JSON by table. The way back is in param_write.c. */
#include "base/param.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

#define SAID_SIZE 512 /* what is said of a value in an error; longer lists of words are cut */
#define MAX_NAMES 128 /* names of one table looked at for a suggestion */

/* Where the fields of a struct come from: an object, a value alone for the bare field, or (all NULL) the defaults. */
struct source {
    const struct json *object;
    const char *bare;
    const struct json *value;
};

static int parse_table(char *out, const struct param *table, struct source from, const char *at, struct err *e);
static int parse_value(void *field, const struct param *row, const struct json *value, const char *at, struct err *e);

static const struct param *row_named(const struct param *table, const char *name) {
    for (; table->name; table++)
        if (strcmp(table->name, name) == 0) return table;
    return NULL;
}

/* ---- words ---- */

/* The next word of a space-separated list: *length bytes from the result; NULL at the end. */
static const char *next_word(const char **rest, size_t *length) {
    const char *word = *rest + strspn(*rest, " ");
    *length = strcspn(word, " ");
    *rest = word + *length;
    return *length ? word : NULL;
}

int param_word_index(const char *choices, const char *word) {
    size_t length;
    for (int i = 0; choices; i++) {
        const char *choice = next_word(&choices, &length);
        if (!choice) break;
        if (strlen(word) == length && memcmp(choice, word, length) == 0) return i;
    }
    return -1;
}

void param_word(char *out, size_t room, const char *choices, int index) {
    size_t length;
    const char *word = NULL;
    out[0] = '\0';
    for (int i = 0; choices && i <= index; i++)
        if (!(word = next_word(&choices, &length))) return;
    if (word) text_print(out, room, "%.*s", (int)length, word);
}

#define NAME_MAX_COMPARED 64

static size_t least(size_t a, size_t b, size_t c) {
    size_t ab = a < b ? a : b;
    return ab < c ? ab : c;
}

/* Levenshtein's distance of two names shorter than NAME_MAX_COMPARED. */
static size_t edit_distance(const char *a, const char *b) {
    size_t above[NAME_MAX_COMPARED], n = strlen(b);
    for (size_t j = 0; j <= n; j++) above[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = above[0];
        above[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t here = least(above[j] + 1, above[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above[j];
            above[j] = here;
        }
    }
    return above[n];
}

const char *param_nearest(const char *name, const char *const *candidates, size_t n) {
    const char *nearest = NULL;
    size_t length = strlen(name), best = SIZE_MAX;
    for (size_t i = 0; i < n; i++) {
        size_t other = strlen(candidates[i]), longer = other > length ? other : length;
        if (longer >= NAME_MAX_COMPARED) continue;
        size_t distance = edit_distance(name, candidates[i]);
        if (distance > (longer + 1) / 3 || distance >= best) continue; /* a third of it may be wrong */
        nearest = candidates[i];
        best = distance;
    }
    return nearest;
}

/* ---- what errors say ---- */

/* Appends to a string in SAID_SIZE bytes. */
__attribute__((format(printf, 2, 3))) static void say(char *said, const char *format, ...) {
    size_t used = strlen(said);
    va_list args;
    va_start(args, format);
    vsnprintf(said + used, SAID_SIZE - used, format, args);
    va_end(args);
}

static void say_words(char *said, const char *choices) {
    size_t length;
    const char *word, *comma = "";
    say(said, "one of ");
    while ((word = next_word(&choices, &length))) {
        say(said, "%s%.*s", comma, (int)length, word);
        comma = ", ";
    }
}

static bool has_range(const struct param *row) {
    return row->low != 0 || row->high != 0;
}

static void say_number(char *said, const struct param *row) {
    say(said, row->type == PARAM_TYPE_INT ? "a whole number" : "a number");
    if (has_range(row)) say(said, " from %.15g to %.15g", row->low, row->high);
    if (!row->choices) return;
    say(said, " or ");
    say_words(said, row->choices);
}

static void say_expected(char *said, const struct param *row) {
    int at_least = row->required ? 1 : 0;
    switch (row->type) {
        case PARAM_TYPE_BOOL: say(said, "true or false"); break;
        case PARAM_TYPE_INT:
        case PARAM_TYPE_REAL: say_number(said, row); break;
        case PARAM_TYPE_STRING: say(said, "a string of %d to %zu bytes", at_least, row->size - 1); break;
        case PARAM_TYPE_CHOICE: say_words(said, row->choices); break;
        case PARAM_TYPE_OBJECT:
            say(said, "an object");
            if (!row->bare) break;
            say(said, " or its \"%s\" alone: ", row->bare);
            say_expected(said, row_named(row->fields, row->bare));
            break;
        case PARAM_TYPE_LIST:
            say(said, "a list of %d to %zu elements, each ", at_least, row->max);
            say_expected(said, row->fields);
            break;
    }
}

static void say_found(char *said, const struct json *value) {
    enum json_type type = json_type(value);
    switch (type) {
        case JSON_BOOL: say(said, "%s", json_bool(value) ? "true" : "false"); break;
        case JSON_NUMBER: say(said, "%.15g", json_number(value)); break;
        case JSON_STRING:
            say(said, strlen(json_string(value)) > 60 ? "\"%.60s...\"" : "\"%s\"", json_string(value));
            break;
        case JSON_ARRAY: say(said, "an array of %zu", json_count(value)); break;
        case JSON_NULL:
        case JSON_OBJECT: say(said, "%s", json_type_name(type)); break;
    }
}

/* The one way to refuse a value: every bound of a row is part of what is said to be expected. */
static int refuse(const struct param *row, const struct json *value, const char *at, struct err *e) {
    char found[SAID_SIZE] = "", expected[SAID_SIZE] = "";
    say_found(found, value);
    say_expected(expected, row);
    return err_set_at(e, E_INVALID, at, "%s: found %s, expected %s", at, found, expected);
}

static int refuse_unknown(const struct param *table, const char *name, const char *at, struct err *e) {
    const char *names[MAX_NAMES];
    char known[SAID_SIZE] = "", pointer[JSON_POINTER_SIZE];
    size_t n = 0;
    for (; table->name && n < MAX_NAMES; table++) {
        say(known, n ? ", %s" : "%s", table->name);
        names[n++] = table->name;
    }
    const char *nearest = param_nearest(name, names, n);
    json_pointer(pointer, at, name);
    if (nearest)
        return err_set_at(e, E_INVALID, pointer, "%s: found an unknown member, did you mean \"%s\"?", pointer, nearest);
    return err_set_at(e, E_INVALID, pointer, "%s: found an unknown member, expected one of %s", pointer, known);
}

/* ---- values ---- */

/* Whether a value's type suits a row; the value itself may still be refused. */
static bool suits(const struct param *row, enum json_type type) {
    switch (row->type) {
        case PARAM_TYPE_BOOL: return type == JSON_BOOL;
        case PARAM_TYPE_INT: return type == JSON_NUMBER || type == JSON_STRING;
        case PARAM_TYPE_REAL: return type == JSON_NUMBER;
        case PARAM_TYPE_STRING:
        case PARAM_TYPE_CHOICE: return type == JSON_STRING;
        case PARAM_TYPE_OBJECT:
            return type == JSON_OBJECT || (row->bare && suits(row_named(row->fields, row->bare), type));
        case PARAM_TYPE_LIST: return type == JSON_ARRAY || suits(row->fields, type);
    }
    return false;
}

static bool in_range(const struct param *row, double number) {
    return !has_range(row) || (number >= row->low && number <= row->high);
}

static bool parse_int(int64_t *field, const struct param *row, const struct json *value) {
    int word = json_type(value) == JSON_STRING ? param_word_index(row->choices, json_string(value)) : -1;
    if (word >= 0) {
        *field = -1 - word;
        return true;
    }
    return json_int(field, value) && *field != PARAM_ABSENT && in_range(row, (double)*field);
}

static bool parse_string(char *field, const struct param *row, const char *string) {
    size_t length = strlen(string);
    if (length >= row->size || (row->required && !length)) return false;
    memcpy(field, string, length);
    memset(field + length, 0, row->size - length);
    return true;
}

static int parse_object(void *field, const struct param *row, const struct json *value, const char *at, struct err *e) {
    bool whole = json_type(value) == JSON_OBJECT;
    struct source from = whole ? (struct source){.object = value} : (struct source){.bare = row->bare, .value = value};
    return parse_table(field, row->fields, from, at, e);
}

static int parse_list(char *out, const struct param *row, const struct json *value, const char *at, struct err *e) {
    bool many = json_type(value) == JSON_ARRAY;
    size_t n = many ? json_count(value) : 1, i = 0;
    char *elements = out + row->offset;
    if (n > row->max || (row->required && n == 0)) return refuse(row, value, at, e);
    int code = many ? 0 : parse_value(elements, row->fields, value, at, e);
    for (const struct json *v = many ? json_first(value) : NULL; v && !code; v = json_next(v), i++) {
        char pointer[JSON_POINTER_SIZE], index[24];
        text_print(index, sizeof index, "%zu", i);
        json_pointer(pointer, at, index);
        code = parse_value(elements + i * row->size, row->fields, v, pointer, e);
    }
    *(int *)(void *)(out + row->count_offset) = (int)n;
    return code;
}

/* A value of any type but a list into its field. */
static int parse_value(void *field, const struct param *row, const struct json *value, const char *at, struct err *e) {
    bool good = suits(row, json_type(value));
    if (!good) return refuse(row, value, at, e);
    switch (row->type) {
        case PARAM_TYPE_BOOL: *(bool *)field = json_bool(value); break;
        case PARAM_TYPE_INT: good = parse_int(field, row, value); break;
        case PARAM_TYPE_REAL:
            *(double *)field = json_number(value);
            good = in_range(row, json_number(value));
            break;
        case PARAM_TYPE_STRING: good = parse_string(field, row, json_string(value)); break;
        case PARAM_TYPE_CHOICE:
            *(int *)field = param_word_index(row->choices, json_string(value));
            good = *(int *)field >= 0;
            break;
        case PARAM_TYPE_OBJECT: return parse_object(field, row, value, at, e);
        case PARAM_TYPE_LIST: break; /* lists of lists do not exist */
    }
    return good ? 0 : refuse(row, value, at, e);
}

/* ---- tables ---- */

static int parse_given(char *out, const struct param *row, const struct json *value, const char *at, struct err *e) {
    if (row->type != PARAM_TYPE_LIST) return parse_value(out + row->offset, row, value, at, e);
    return suits(row, json_type(value)) ? parse_list(out, row, value, at, e) : refuse(row, value, at, e);
}

static int parse_standard(char *out, const struct param *row, const char *at, struct err *e) {
    struct json *standard;
    struct err inner = {0};
    int code = json_parse(&standard, row->standard, strlen(row->standard), &inner);
    if (!code) code = parse_given(out, row, standard, at, &inner);
    json_free(standard);
    if (!code || code == E_NOMEM) return code ? err_set(e, code, "%s", inner.text) : 0;
    return err_set_at(e, E_INTERNAL, at, "the default of %s does not fit its table: %s", at, inner.text);
}

/* What a field holds that was not given and has no default; the struct is zeroed already. */
static int set_absent(char *out, const struct param *row, const char *at, struct err *e) {
    void *field = out + row->offset;
    switch (row->type) {
        case PARAM_TYPE_INT: *(int64_t *)field = PARAM_ABSENT; break;
        case PARAM_TYPE_REAL: *(double *)field = NAN; break;
        case PARAM_TYPE_CHOICE: *(int *)field = -1; break;
        case PARAM_TYPE_OBJECT: return parse_table(field, row->fields, (struct source){0}, at, e);
        case PARAM_TYPE_BOOL:
        case PARAM_TYPE_STRING:
        case PARAM_TYPE_LIST: break;
    }
    return 0;
}

static int parse_row(char *out, const struct param *row, const struct source *from, const char *at, struct err *e) {
    char pointer[JSON_POINTER_SIZE];
    bool bare = from->bare && strcmp(from->bare, row->name) == 0;
    const struct json *value = bare ? from->value : from->object ? json_get(from->object, row->name) : NULL;
    if (value && json_type(value) == JSON_NULL) value = NULL;
    text_copy(pointer, sizeof pointer, at);
    if (!bare) json_pointer(pointer, at, row->name);
    if (row->type != PARAM_TYPE_LIST && row->present_offset != PARAM_NO_PRESENT)
        *(bool *)(out + row->present_offset) = value || (row->type == PARAM_TYPE_OBJECT && row->standard);
    if (value) return parse_given(out, row, value, pointer, e);
    if (row->required && (from->object || from->bare))
        return err_set_at(e, E_INVALID, pointer, "%s: found nothing, but it is required: %s", pointer,
                          row->help ? row->help : row->name);
    return row->standard ? parse_standard(out, row, pointer, e) : set_absent(out, row, pointer, e);
}

static int parse_table(char *out, const struct param *table, struct source from, const char *at, struct err *e) {
    for (const struct json *m = from.object ? json_first(from.object) : NULL; m; m = json_next(m))
        if (!row_named(table, json_name(m))) return refuse_unknown(table, json_name(m), at, e);
    for (const struct param *row = table; row->name; row++) {
        int code = parse_row(out, row, &from, at, e);
        if (code) return code;
    }
    return 0;
}

/* Bytes from the start of a struct to the end of its last field in the table. */
static size_t extent(const struct param *table) {
    size_t end = 0;
    for (; table->name; table++) {
        bool list = table->type == PARAM_TYPE_LIST;
        size_t field = table->offset + table->size * (list ? table->max : 1);
        size_t extra = list ? table->count_offset + sizeof(int) : 0;
        if (!list && table->present_offset != PARAM_NO_PRESENT) extra = table->present_offset + sizeof(bool);
        if (field > end) end = field;
        if (extra > end) end = extra;
    }
    return end;
}

int param_parse(void *out, const struct param *table, const struct json *object, const char *at, struct err *e) {
    memset(out, 0, extent(table));
    if (object && json_type(object) != JSON_OBJECT)
        return err_set_at(e, E_INVALID, at, "%s: found %s, expected an object", at, json_type_name(json_type(object)));
    return parse_table(out, table, (struct source){.object = object}, at, e);
}
