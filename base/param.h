/* param.h - parameter tables: one constant table per struct says what fields it has, and
 * from the table come parsing, validation, filled-in defaults, help and forms.
 *
 * A table is an array of `struct param` ended by a row without name. Specs are plain,
 * bounded structs without pointers: parsing fills one, nothing has to be freed.
 *
 *     struct train { int64_t epochs; double learning_rate; enum optimizer_kind optimizer; };
 *     const struct param train_params[] = {
 *         PARAM_INT(struct train, epochs, "10", 1, 1e6, "passes over the data"),
 *         PARAM_REAL(struct train, learning_rate, "0.001", 0, 10, "step size at the peak"),
 *         PARAM_CHOICE(struct train, optimizer, "\"adam\"", "sgd adam rmsprop", "update rule"),
 *         PARAM_END };
 *
 * Two short forms keep requests pleasant, and the written spec always shows the long one:
 *   - an object whose table names a `bare` field accepts that field's value alone
 *     ("fashion" for {"ref":"fashion"});
 *   - a list accepts one element without brackets.
 * A member that is null counts as not given. A required string or list must not be empty. */
#ifndef BASE_PARAM_H
#define BASE_PARAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/json.h"

enum param_type {
    PARAM_TYPE_BOOL,   /* bool */
    PARAM_TYPE_INT,    /* int64_t; JSON number or decimal string; `choices` may name extra words,
                        * word i standing for the value -1 - i */
    PARAM_TYPE_REAL,   /* double */
    PARAM_TYPE_STRING, /* char[size] */
    PARAM_TYPE_CHOICE, /* int: index into the space-separated `choices` */
    PARAM_TYPE_OBJECT, /* a struct described by `fields` */
    PARAM_TYPE_LIST    /* T[max] at `offset`, int count at `count_offset`; the element is described
                        * by `fields[0]`, a row whose offset is 0 and whose size is the stride */
};

struct param {
    const char *name;
    enum param_type type;
    bool required;         /* must be present in the request */
    size_t offset;         /* of the field in its struct */
    size_t size;           /* of the field, or of one list element */
    size_t count_offset;   /* lists: of the int that counts */
    size_t max;            /* lists: the most elements */
    size_t present_offset; /* of the bool that says it was given (an object's default counts); NO_PRESENT if none */
    double low, high;      /* numbers: inclusive range; both 0: any */
    const char *choices;   /* "sgd adam rmsprop" */
    const char *standard;  /* default as JSON text; NULL = absent: NaN, PARAM_ABSENT, "", choice -1, false, no
                            * elements, not present. An object without default is filled from its own fields. */
    const struct param *fields;
    const char *bare;      /* objects: the field a value alone stands for */
    const char *help;      /* one line */
    const char *refers_to; /* "model", "dataset": the string is a reference to one; else NULL */
};

#define PARAM_NO_PRESENT ((size_t)-1)
#define PARAM_ABSENT INT64_MIN /* an integer without default that was not given */

/* clang-format off */
#define PARAM_AT(s, f) .offset = offsetof(s, f), .size = sizeof(((s *)0)->f), .present_offset = PARAM_NO_PRESENT
#define PARAM_BOOL(s, f, std, hlp) {.name = #f, .type = PARAM_TYPE_BOOL, PARAM_AT(s, f), .standard = std, .help = hlp}
#define PARAM_INT(s, f, std, lo, hi, hlp) \
    {.name = #f, .type = PARAM_TYPE_INT, PARAM_AT(s, f), .standard = std, .low = lo, .high = hi, .help = hlp}
#define PARAM_REAL(s, f, std, lo, hi, hlp) \
    {.name = #f, .type = PARAM_TYPE_REAL, PARAM_AT(s, f), .standard = std, .low = lo, .high = hi, .help = hlp}
#define PARAM_STRING(s, f, std, hlp) {.name = #f, .type = PARAM_TYPE_STRING, PARAM_AT(s, f), .standard = std, .help = hlp}
#define PARAM_CHOICE(s, f, std, words, hlp) \
    {.name = #f, .type = PARAM_TYPE_CHOICE, PARAM_AT(s, f), .standard = std, .choices = words, .help = hlp}
/* With a default, and a bool `has` that says whether the request gave one of its own. */
#define PARAM_REAL_OR(s, f, has, std, lo, hi, hlp) \
    {.name = #f, .type = PARAM_TYPE_REAL, .offset = offsetof(s, f), .size = sizeof(((s *)0)->f), \
     .present_offset = offsetof(s, has), .standard = std, .low = lo, .high = hi, .help = hlp}
#define PARAM_CHOICE_OR(s, f, has, std, words, hlp) \
    {.name = #f, .type = PARAM_TYPE_CHOICE, .offset = offsetof(s, f), .size = sizeof(((s *)0)->f), \
     .present_offset = offsetof(s, has), .standard = std, .choices = words, .help = hlp}
#define PARAM_MODEL(s, f, req, hlp) \
    {.name = #f, .type = PARAM_TYPE_STRING, PARAM_AT(s, f), .required = req, .refers_to = "model", .help = hlp}
#define PARAM_OBJECT(s, f, table, bare_field, hlp) \
    {.name = #f, .type = PARAM_TYPE_OBJECT, PARAM_AT(s, f), .fields = table, .bare = bare_field, .help = hlp}
/* An object that may be left out: the bool `has` says whether it was given. */
#define PARAM_OPTIONAL(s, f, has, table, bare_field, hlp) \
    {.name = #f, .type = PARAM_TYPE_OBJECT, .offset = offsetof(s, f), .size = sizeof(((s *)0)->f), \
     .present_offset = offsetof(s, has), .fields = table, .bare = bare_field, .help = hlp}
#define PARAM_LIST(s, f, n, element, hlp) \
    {.name = #f, .type = PARAM_TYPE_LIST, .offset = offsetof(s, f), .size = sizeof(((s *)0)->f[0]), \
     .count_offset = offsetof(s, n), .max = sizeof(((s *)0)->f) / sizeof(((s *)0)->f[0]), \
     .present_offset = PARAM_NO_PRESENT, .fields = element, .help = hlp}
#define PARAM_END {.name = NULL}
/* clang-format on */

/* Fills *out (zeroed up to its last field in the table) with the defaults of the table, then with
 * the object's members. Unknown members (with the nearest known name), wrong types, values out of
 * range and missing required members are errors with the pointer `at` + "/member". `object` may be
 * NULL: defaults, and what is required stays absent. */
int param_parse(void *out, const struct param *table, const struct json *object, const char *at, struct err *e);

/* The struct as members of the object that is open in w: every default filled in, what is
 * absent left out. param_parse of it gives the same struct; to PARAM_REAL_OR and PARAM_CHOICE_OR all is given then. */
void param_write(struct json_writer *w, const struct param *table, const void *in);

/* The table as a JSON array of {name, type, required, default, minimum, maximum, choices,
 * fields, list, bare, refers_to, help}; type is boolean, integer, number, string, choice or object.
 * `list` is the most elements of a list; type, range, choices, fields, bare are its element's then. */
void param_describe(struct json_writer *w, const char *name, const struct param *table);

/* Index of a word in a space-separated list, -1 if it is not there; and back (out is "" if none). */
int param_word_index(const char *choices, const char *word);
void param_word(char *out, size_t room, const char *choices, int index);

/* The candidate nearest to `name` by edit distance, or NULL when none is near. For messages. */
const char *param_nearest(const char *name, const char *const *candidates, size_t n);

#endif
