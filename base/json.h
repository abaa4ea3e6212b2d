/* json.h - strict JSON (RFC 8259, I-JSON RFC 7493) over cJSON.
 *
 * Reading refuses what cJSON lets through: text after the document, duplicate keys,
 * invalid UTF-8, control characters, \u0000, leading zeros, numbers that are not finite,
 * depth and key counts beyond the limits below. Nobody outside base sees cJSON.
 *
 * Reading borrows: every pointer into a document lives as long as the document.
 * Writing goes through json_writer: straight into a bounded text, no tree. */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"

#define JSON_MAX_DEPTH 32
#define JSON_MAX_KEYS 256
#define JSON_MAX_SIZE (1u << 20)
#define JSON_MAX_INT INT64_C(9007199254740991) /* 2^53 - 1: beyond it doubles skip whole numbers (RFC 7493) */
#define JSON_WRITER_DEPTH (2 * JSON_MAX_DEPTH) /* a parsed document may be written inside another */
#define JSON_POINTER_SIZE 192                  /* as err.pointer */

struct json; /* a value inside a document */

/* Parses the whole of bytes[0..length). *out is the root; free it with json_free. E_SYNTAX says line
 * and column (a duplicate member: its JSON pointer), E_TOO_LARGE that it is above JSON_MAX_SIZE. */
int json_parse(struct json **out, const char *bytes, size_t length, struct err *e);

/* As json_parse with limits of its own instead of JSON_MAX_SIZE and JSON_MAX_KEYS: for tensors as
 * JSON and the headers of safetensors files. */
struct json_limits {
    size_t size; /* bytes */
    size_t keys; /* members of one object */
};
int json_parse_within(struct json **out, const char *bytes, size_t length, const struct json_limits *limits,
                      struct err *e);
void json_free(struct json *root);

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };
enum json_type json_type(const struct json *value);
const char *json_type_name(enum json_type type); /* "an array" */

/* Member by exact name, or NULL. */
const struct json *json_get(const struct json *object, const char *name);
/* First child of an array or object, and the next one; NULL at the end. */
const struct json *json_first(const struct json *value);
const struct json *json_next(const struct json *value);
/* Name of a member. */
const char *json_name(const struct json *member);
size_t json_count(const struct json *value);

/* The value itself; the type must be right (assert). */
const char *json_string(const struct json *value);
double json_number(const struct json *value);
bool json_bool(const struct json *value);
/* Whole number within +-JSON_MAX_INT, or a decimal string of a 64-bit integer. */
bool json_int(int64_t *out, const struct json *value);

/* The pointer `at` with one more token, escaped (RFC 6901); just `at` when it gets too long. out may be at. */
void json_pointer(char out[JSON_POINTER_SIZE], const char *at, const char *token);

/* ---- writing ---- */

/* Appends to a text. Commas, quotes and escapes are put by the writer; bytes that are not UTF-8
 * become U+FFFD. Errors stick in the text, deeper nesting than JSON_WRITER_DEPTH as
 * E_TOO_LARGE. `name` is NULL inside arrays and at the root. */
struct json_writer {
    struct text *out;
    int depth;
    bool comma[JSON_WRITER_DEPTH];
};

struct json_writer json_writer(struct text *out);
void json_open_object(struct json_writer *w, const char *name);
void json_close_object(struct json_writer *w);
void json_open_array(struct json_writer *w, const char *name);
void json_close_array(struct json_writer *w);
void json_put_string(struct json_writer *w, const char *name, const char *value); /* NULL = null */
/* Beyond +-JSON_MAX_INT as a string, which json_int reads again. */
void json_put_int(struct json_writer *w, const char *name, int64_t value);
/* A decimal that reads back the same, without digits it does not need; null when not finite. */
void json_put_number(struct json_writer *w, const char *name, double value);
void json_put_bool(struct json_writer *w, const char *name, bool value);
void json_put_null(struct json_writer *w, const char *name);
/* A value that is JSON text already (trusted). */
void json_put_raw(struct json_writer *w, const char *name, const char *json);
/* A parsed value, written again. */
void json_put_value(struct json_writer *w, const char *name, const struct json *value);

#endif
