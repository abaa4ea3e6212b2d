/* error.c - filling, reading and naming errors. */
#include "base/error.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

static const struct {
    int code;
    const char *slug;
    int status;
} codes[] = {
#define X(code, slug, status) {code, slug, status},
    ERROR_CODES(X)
#undef X
};

__attribute__((format(printf, 4, 0))) static int fill(struct err *e, int code, const char *pointer, const char *format,
                                                      va_list args) {
    if (!e || e->code) return code;
    e->code = code;
    vsnprintf(e->text, sizeof e->text, format, args);
    text_copy(e->pointer, sizeof e->pointer, pointer);
    return code;
}

int err_set(struct err *e, int code, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fill(e, code, "", format, args);
    va_end(args);
    return code;
}

int err_set_at(struct err *e, int code, const char *pointer, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fill(e, code, pointer, format, args);
    va_end(args);
    return code;
}

int err_prefix(struct err *e, const char *format, ...) {
    if (!e || !e->code) return E_INTERNAL;
    char tail[sizeof e->text];
    text_copy(tail, sizeof tail, e->text);
    va_list args;
    va_start(args, format);
    int length = vsnprintf(e->text, sizeof e->text, format, args);
    va_end(args);
    size_t used = length < 0 ? 0 : (size_t)length;
    if (used >= sizeof e->text) return e->code;
    text_print(e->text + used, sizeof e->text - used, ": %s", tail);
    return e->code;
}

int err_memory(struct err *e, unsigned long long bytes) {
    return err_set(e, E_NOMEM, "out of memory: %llu bytes were asked for", bytes);
}

void err_clear(struct err *e) {
    if (e) *e = (struct err){0};
}

const char *err_slug(int code) {
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if (codes[i].code == code) return codes[i].slug;
    return "internal";
}

int err_status(int code) {
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if (codes[i].code == code) return codes[i].status;
    return 500;
}
