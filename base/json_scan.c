/* json_scan.c - a recursive descent over JSON text that builds nothing. Duplicate members are
 * not seen here: names can be spelled with escapes, so json.c looks for them in the tree. */
#include "base/json_scan.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/text.h"

struct scan {
    const char *start, *at, *end;
    size_t max_keys;
    int depth;
    struct err *e;
};

static int scan_value(struct scan *s);

/* The character at the place of the fault, in words. */
static void describe_found(char *out, size_t room, const struct scan *s) {
    unsigned char c = s->at < s->end ? (unsigned char)*s->at : 0;
    if (s->at >= s->end)
        text_copy(out, room, "the end");
    else if (c > ' ' && c < 0x7f)
        text_print(out, room, "'%c'", c);
    else
        text_print(out, room, "byte 0x%02x", c);
}

/* Lines and columns count from 1, columns in bytes. */
static int fail(const struct scan *s, const char *expected) {
    char found[24];
    int line = 1;
    const char *begin = s->start;
    for (const char *c = s->start; c < s->at; c++) {
        if (*c != '\n') continue;
        line++;
        begin = c + 1;
    }
    describe_found(found, sizeof found, s);
    return err_set(s->e, E_SYNTAX, "line %d, column %d: found %s, expected %s", line, (int)(s->at - begin) + 1, found,
                   expected);
}

static void skip_space(struct scan *s) {
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\t' || *s->at == '\n' || *s->at == '\r')) s->at++;
}

static bool is_next(const struct scan *s, char c) {
    return s->at < s->end && *s->at == c;
}

static bool skip(struct scan *s, char c) {
    if (!is_next(s, c)) return false;
    s->at++;
    return true;
}

static int scan_word(struct scan *s, const char *word) {
    size_t length = strlen(word);
    if ((size_t)(s->end - s->at) < length || memcmp(s->at, word, length) != 0)
        return fail(s, "a value (a string, a number, true, false, null, [ or {)");
    s->at += length;
    return 0;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static size_t skip_digits(struct scan *s) {
    const char *from = s->at;
    while (s->at < s->end && is_digit(*s->at)) s->at++;
    return (size_t)(s->at - from);
}

static bool is_finite(const char *number, size_t length) {
    char copy[JSON_MAX_NUMBER + 1];
    memcpy(copy, number, length);
    copy[length] = '\0';
    return isfinite(strtod(copy, NULL));
}

static int scan_number(struct scan *s) {
    const char *from = s->at;
    bool exponent = false;
    skip(s, '-');
    if (!skip(s, '0') && !skip_digits(s)) return fail(s, "a digit");
    if (skip(s, '.') && !skip_digits(s)) return fail(s, "a digit after the decimal point");
    if (skip(s, 'e') || skip(s, 'E')) {
        exponent = true;
        if (!skip(s, '+')) skip(s, '-');
        if (!skip_digits(s)) return fail(s, "a digit in the exponent");
    }
    size_t length = (size_t)(s->at - from);
    bool sane = length <= JSON_MAX_NUMBER && (!exponent || is_finite(from, length));
    if (sane) return 0;
    s->at = from;
    return fail(s, length > JSON_MAX_NUMBER ? "a number of at most 63 characters" : "a number that fits into a double");
}

/* The four digits of \uXXXX, or -1. */
static int scan_hex4(struct scan *s) {
    int value = 0;
    for (int i = 0; i < 4; i++) {
        static const char digits[] = "0123456789abcdefABCDEF";
        const char *digit = s->at < s->end ? memchr(digits, *s->at, sizeof digits - 1) : NULL;
        if (!digit) return -1;
        int d = (int)(digit - digits);
        value = value * 16 + (d < 16 ? d : d - 6);
        s->at++;
    }
    return value;
}

/* What follows a backslash. */
static int scan_escape(struct scan *s) {
    if (s->at < s->end && *s->at && strchr("\"\\/bfnrt", *s->at)) {
        s->at++;
        return 0;
    }
    if (!skip(s, 'u')) return fail(s, "an escape: one of \" \\ / b f n r t u");
    const char *digits = s->at;
    int unit = scan_hex4(s);
    if (unit < 0) return fail(s, "four hexadecimal digits");
    if (unit == 0) {
        s->at = digits;
        return fail(s, "a character other than \\u0000");
    }
    if (unit >= 0xdc00 && unit <= 0xdfff) {
        s->at = digits;
        return fail(s, "the first half of a surrogate pair before the second");
    }
    if (unit < 0xd800 || unit > 0xdbff) return 0;
    int second = skip(s, '\\') && skip(s, 'u') ? scan_hex4(s) : -1;
    if (second >= 0xdc00 && second <= 0xdfff) return 0;
    return fail(s, "the second half of a surrogate pair");
}

static int scan_string(struct scan *s) {
    if (!skip(s, '"')) return fail(s, "a string");
    while (s->at < s->end) {
        if (skip(s, '"')) return 0;
        if ((unsigned char)*s->at < ' ') return fail(s, "control characters as escapes");
        if (skip(s, '\\')) {
            int code = scan_escape(s);
            if (code) return code;
            continue;
        }
        size_t step = text_utf8_step(s->at, (size_t)(s->end - s->at));
        if (!step) return fail(s, "valid UTF-8");
        s->at += step;
    }
    return fail(s, "'\"' at the end of the string");
}

static int scan_array(struct scan *s) {
    skip_space(s);
    if (skip(s, ']')) return 0;
    for (;;) {
        int code = scan_value(s);
        if (code) return code;
        skip_space(s);
        if (skip(s, ']')) return 0;
        if (!skip(s, ',')) return fail(s, "',' or ']'");
    }
}

static int scan_object(struct scan *s) {
    skip_space(s);
    if (skip(s, '}')) return 0;
    for (size_t keys = 1;; keys++) {
        skip_space(s);
        if (keys > s->max_keys) return fail(s, "fewer members in one object");
        if (!is_next(s, '"')) return fail(s, "the name of a member in '\"'");
        int code = scan_string(s);
        if (code) return code;
        skip_space(s);
        if (!skip(s, ':')) return fail(s, "':' after the name of a member");
        code = scan_value(s);
        if (code) return code;
        skip_space(s);
        if (skip(s, '}')) return 0;
        if (!skip(s, ',')) return fail(s, "',' or '}'");
    }
}

static int scan_nested(struct scan *s) {
    if (s->depth == JSON_MAX_DEPTH) return fail(s, "fewer nested arrays and objects");
    s->depth++;
    bool array = *s->at++ == '[';
    int code = array ? scan_array(s) : scan_object(s);
    s->depth--;
    return code;
}

static int scan_value(struct scan *s) {
    skip_space(s);
    char c = s->at < s->end ? *s->at : '\0';
    if (c == '[' || c == '{') return scan_nested(s);
    if (c == '"') return scan_string(s);
    if (c == '-' || is_digit(c)) return scan_number(s);
    return scan_word(s, c == 't' ? "true" : c == 'f' ? "false" : "null");
}

int json_scan(const char *bytes, size_t length, size_t max_keys, struct err *e) {
    struct scan s = {.start = bytes, .at = bytes, .end = bytes + length, .max_keys = max_keys, .e = e};
    int code = scan_value(&s);
    if (code) return code;
    skip_space(&s);
    return s.at == s.end ? 0 : fail(&s, "nothing after the document");
}
