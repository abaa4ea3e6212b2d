/* text.c - growing texts, numbers and names in text, UTF-8. */
#include "base/text.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* What an empty text points at; shared, so never written. */
static char nothing[] = "";

void text_init(struct text *t, size_t max) {
    *t = (struct text){.data = nothing, .max = max < SIZE_MAX / 4 ? max : SIZE_MAX / 4};
}

void text_free(struct text *t) {
    if (t->room) mem_free(t->data);
    t->data = nothing;
    t->length = t->room = 0;
}

int text_fail(struct text *t, int code) {
    text_free(t);
    if (!t->failed) t->failed = code;
    return t->failed;
}

/* Makes room for `more` bytes and the NUL. */
static int reserve(struct text *t, size_t more) {
    if (t->failed) return t->failed;
    if (more > t->max - t->length) return text_fail(t, E_TOO_LARGE);
    size_t needed = t->length + more + 1;
    if (needed <= t->room) return 0;
    size_t room = t->room < 32 ? 64 : t->room + t->room / 2;
    if (room < needed) room = needed;
    if (room > t->max + 1) room = t->max + 1;
    char *data = mem_resize(t->room ? t->data : NULL, room, 1);
    if (!data) return text_fail(t, E_NOMEM);
    t->data = data;
    t->room = room;
    return 0;
}

int text_add(struct text *t, const char *bytes, size_t length) {
    int code = reserve(t, length);
    if (code) return code;
    if (length) memcpy(t->data + t->length, bytes, length);
    t->length += length;
    t->data[t->length] = '\0';
    return 0;
}

int text_add_string(struct text *t, const char *string) {
    return text_add(t, string, strlen(string));
}

int text_vformat(struct text *t, const char *format, va_list args) {
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (length < 0) return text_fail(t, E_TOO_LARGE); /* the only way printf to memory fails: above INT_MAX */
    int code = reserve(t, (size_t)length);
    if (code) return code;
    vsnprintf(t->data + t->length, (size_t)length + 1, format, args);
    t->length += (size_t)length;
    return 0;
}

int text_format(struct text *t, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int code = text_vformat(t, format, args);
    va_end(args);
    return code;
}

char *text_take(struct text *t) {
    if (t->failed) return NULL;
    char *data = t->room ? t->data : mem_string("");
    t->data = nothing;
    t->length = t->room = 0;
    return data;
}

bool text_print(char *out, size_t room, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int length = vsnprintf(out, room, format, args);
    va_end(args);
    return length >= 0 && (size_t)length < room;
}

void text_copy(char *out, size_t room, const char *from) {
    if (!room) return;
    size_t length = strnlen(from, room - 1);
    for (int i = 0; i < 3 && length > 0 && ((unsigned char)from[length] & 0xc0) == 0x80; i++) length--;
    memcpy(out, from, length);
    out[length] = '\0';
}

size_t text_utf8_step(const char *bytes, size_t length) {
    const unsigned char *s = (const unsigned char *)bytes;
    if (length == 0) return 0;
    if (s[0] < 0x80) return 1;
    size_t size = s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;
    if (!size || length < size) return 0;
    for (size_t i = 1; i < size; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    bool overlong = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
    bool surrogate = s[0] == 0xed && s[1] > 0x9f;
    bool beyond = s[0] == 0xf4 && s[1] > 0x8f; /* above U+10FFFF */
    return overlong || surrogate || beyond ? 0 : size;
}

bool text_is_utf8(const char *bytes, size_t length) {
    while (length) {
        size_t step = text_utf8_step(bytes, length);
        if (!step) return false;
        bytes += step;
        length -= step;
    }
    return true;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

bool text_to_int(int64_t *out, const char *text, int64_t low, int64_t high) {
    const char *digits = text + (*text == '-');
    if (!*digits) return false;
    for (const char *c = digits; *c; c++)
        if (!is_digit(*c)) return false;
    errno = 0;
    long long value = strtoll(text, NULL, 10);
    if (errno || value < low || value > high) return false;
    *out = value;
    return true;
}

bool text_to_real(double *out, const char *text) {
    /* strtod also takes blanks, hexadecimal, "inf" and "nan"; these characters rule them out */
    if (!*text || text[strspn(text, "+-.0123456789eE")]) return false;
    char *end;
    double value = strtod(text, &end);
    if (*end || end == text || !isfinite(value)) return false;
    *out = value;
    return true;
}

bool text_matches(const char *pattern, const char *name) {
    const char *star = NULL, *from = NULL; /* the last "*", and where what follows it was last tried */
    while (*name) {
        if (*pattern == '*') {
            star = pattern++;
            from = name;
        } else if (*pattern == '?' || *pattern == *name) {
            bool whole = *pattern++ == '?';
            for (name++; whole && ((unsigned char)*name & 0xc0) == 0x80;) name++; /* the rest of a character */
        } else if (star) {
            pattern = star + 1;
            name = ++from;
        } else {
            return false;
        }
    }
    while (*pattern == '*') pattern++;
    return !*pattern;
}
