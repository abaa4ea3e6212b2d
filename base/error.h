/* error.h - the one error idiom of retort.
 *
 * A function that can fail returns int: 0, or a negative E_* code. The last
 * parameter of calls that cross folders is a `struct err *` (may be NULL); the
 * place that knows what happened fills it, nobody overwrites it. Asserts are
 * for our own bugs, never for input. */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

/* Every code with the HTTP status its problem document carries. */
#define ERROR_CODES(X) \
    X(E_NOMEM, "out-of-memory", 503) \
    X(E_INVALID, "invalid", 422)  /* input is well formed but makes no sense */ \
    X(E_SYNTAX, "malformed", 400) /* input cannot be parsed */ \
    X(E_NOT_FOUND, "not-found", 404) \
    X(E_CONFLICT, "conflict", 409) \
    X(E_PRECONDITION, "precondition-failed", 412) \
    X(E_TOO_LARGE, "too-large", 413) \
    X(E_UNSUPPORTED, "unsupported", 422) /* understood, but retort has no way to do it */ \
    X(E_DIGEST, "digest-mismatch", 400) \
    X(E_BUSY, "busy", 503) \
    X(E_IO, "storage", 500) \
    X(E_CORRUPT, "corrupt", 500) \
    X(E_CANCELLED, "cancelled", 409) \
    X(E_LOST, "lease-lost", 409) /* another worker holds the job now */ \
    X(E_INTERNAL, "internal", 500)

enum error_code {
    E_OK = 0,
    E_FIRST_ = -100,
#define X(code, slug, status) code,
    ERROR_CODES(X)
#undef X
};

struct err {
    int code;
    char text[1024];   /* what was found, what was expected, what to do */
    char pointer[192]; /* JSON pointer of the field at fault, or "" */
};

/* Sets code and text unless an error is already there; returns `code`. e may be NULL. */
int err_set(struct err *e, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* As err_set, for a field of a JSON body: pointer like "/student/width". */
int err_set_at(struct err *e, int code, const char *pointer, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Puts context before the text of an error: err_prefix(e, "node %s", name) makes "node conv1: ...".
 * Returns e->code; E_INTERNAL when there is none, so that no failure turns into 0 (e may be NULL:
 * return the code you have, not this one). */
int err_prefix(struct err *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Out of memory, with how much was asked for; returns E_NOMEM. */
int err_memory(struct err *e, unsigned long long bytes);

/* Forgets the error. */
void err_clear(struct err *e);

/* "too-large" for E_TOO_LARGE; "internal" for what is not a code. */
const char *err_slug(int code);

/* 413 for E_TOO_LARGE; 500 for what is not a code. */
int err_status(int code);

#endif
