/* json_write.c - JSON text straight into a bounded text. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

struct json_writer json_writer(struct text *out) {
    return (struct json_writer){.out = out};
}

static void put_escaped(struct text *out, unsigned char c) {
    static const char named[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    const char *found = memchr(named, c, sizeof named - 1);
    if (found)
        text_format(out, "\\%c", letters[found - named]);
    else
        text_format(out, "\\u%04x", c);
}

/* Runs of harmless bytes at once. Bytes that are not UTF-8 (a foreign file's names, a cut text) become U+FFFD. */
static void put_quoted(struct text *out, const char *string) {
    size_t left = strlen(string), run = 0;
    text_add(out, "\"", 1);
    while (run < left) {
        unsigned char c = (unsigned char)string[run];
        size_t step = text_utf8_step(string + run, left - run);
        if (step && c >= ' ' && c != '"' && c != '\\') {
            run += step;
            continue;
        }
        text_add(out, string, run);
        if (step)
            put_escaped(out, c);
        else
            text_add_string(out, "\xef\xbf\xbd");
        string += run + 1;
        left -= run + 1;
        run = 0;
    }
    text_add(out, string, run);
    text_add(out, "\"", 1);
}

/* The comma and name before a value. */
static void begin(struct json_writer *w, const char *name) {
    bool *comma = &w->comma[w->depth < JSON_WRITER_DEPTH ? w->depth : JSON_WRITER_DEPTH - 1];
    if (*comma) text_add(w->out, ",", 1);
    *comma = true;
    if (!name) return;
    put_quoted(w->out, name);
    text_add(w->out, ":", 1);
}

static void open_level(struct json_writer *w, const char *name, const char *bracket) {
    begin(w, name);
    text_add_string(w->out, bracket);
    if (++w->depth < JSON_WRITER_DEPTH)
        w->comma[w->depth] = false;
    else
        text_fail(w->out, E_TOO_LARGE);
}

static void close_level(struct json_writer *w, const char *bracket) {
    assert(w->depth > 0);
    w->depth--;
    text_add_string(w->out, bracket);
}

void json_open_object(struct json_writer *w, const char *name) {
    open_level(w, name, "{");
}

void json_close_object(struct json_writer *w) {
    close_level(w, "}");
}

void json_open_array(struct json_writer *w, const char *name) {
    open_level(w, name, "[");
}

void json_close_array(struct json_writer *w) {
    close_level(w, "]");
}

void json_put_string(struct json_writer *w, const char *name, const char *value) {
    if (!value) {
        json_put_null(w, name);
        return;
    }
    begin(w, name);
    put_quoted(w->out, value);
}

void json_put_int(struct json_writer *w, const char *name, int64_t value) {
    begin(w, name);
    bool exact = value >= -JSON_MAX_INT && value <= JSON_MAX_INT;
    text_format(w->out, exact ? "%lld" : "\"%lld\"", (long long)value);
}

void json_put_number(struct json_writer *w, const char *name, double value) {
    char digits[32] = "null";
    bool whole = fabs(value) <= (double)JSON_MAX_INT && value == trunc(value);
    if (whole)
        text_print(digits, sizeof digits, "%.0f", value); /* %g would write 1.2e+15, which is no integer to some */
    for (int precision = 15; !whole && isfinite(value) && precision <= 17; precision++) {
        text_print(digits, sizeof digits, "%.*g", precision, value);
        if (strtod(digits, NULL) == value) break;
    }
    begin(w, name);
    text_add_string(w->out, digits);
}

void json_put_bool(struct json_writer *w, const char *name, bool value) {
    begin(w, name);
    text_add_string(w->out, value ? "true" : "false");
}

void json_put_null(struct json_writer *w, const char *name) {
    json_put_raw(w, name, "null");
}

void json_put_raw(struct json_writer *w, const char *name, const char *json) {
    begin(w, name);
    text_add_string(w->out, json);
}

static void put_children(struct json_writer *w, const struct json *value) {
    for (const struct json *child = json_first(value); child; child = json_next(child))
        json_put_value(w, json_name(child), child);
}

void json_put_value(struct json_writer *w, const char *name, const struct json *value) {
    switch (json_type(value)) {
        case JSON_NULL: json_put_null(w, name); break;
        case JSON_BOOL: json_put_bool(w, name, json_bool(value)); break;
        case JSON_NUMBER: json_put_number(w, name, json_number(value)); break;
        case JSON_STRING: json_put_string(w, name, json_string(value)); break;
        case JSON_ARRAY:
            json_open_array(w, name);
            put_children(w, value);
            json_close_array(w);
            break;
        case JSON_OBJECT:
            json_open_object(w, name);
            put_children(w, value);
            json_close_object(w);
            break;
    }
}
