/* text.h - bounded strings: growing buffers that state their maximum, and checks on slices. */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* A growing, always NUL-terminated text. After a failed append it is empty, `failed` is set
 * and stays set: check once, at the end. */
struct text {
    char *data;    /* never NULL after text_init; "" when empty */
    size_t length; /* without the NUL */
    size_t room;
    size_t max; /* appends beyond it fail with E_TOO_LARGE */
    int failed; /* 0, E_NOMEM or E_TOO_LARGE */
};

/* Starts an empty text that may grow to `max` bytes. Allocates nothing. */
void text_init(struct text *t, size_t max);
void text_free(struct text *t);
int text_add(struct text *t, const char *bytes, size_t length);
int text_add_string(struct text *t, const char *string);
int text_format(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
int text_vformat(struct text *t, const char *format, va_list args);

/* Moves the bytes out (free with mem_free); the text is empty afterwards. NULL if it failed. */
char *text_take(struct text *t);

/* Puts the text into the failed state (for writers built on it); returns t->failed. */
int text_fail(struct text *t, int code);

/* snprintf that says whether everything fitted. */
bool text_print(char *out, size_t room, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Copies with truncation, not inside a character; always terminates. */
void text_copy(char *out, size_t room, const char *from);

/* Bytes of the UTF-8 character that `bytes` starts with (RFC 3629); 0 when it is not one. */
size_t text_utf8_step(const char *bytes, size_t length);

/* True when the bytes are valid UTF-8 without surrogates and overlong forms (RFC 3629). */
bool text_is_utf8(const char *bytes, size_t length);

/* Reads a whole decimal number, nothing else, in [low, high]. */
bool text_to_int(int64_t *out, const char *text, int64_t low, int64_t high);
/* A finite decimal number, nothing else. */
bool text_to_real(double *out, const char *text);

/* "*" and "?" as in a shell, on the whole name; "?" is one character of UTF-8. */
bool text_matches(const char *pattern, const char *name);

#endif
