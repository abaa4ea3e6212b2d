/* tokens.c - the token file, and requests held against it. */
#include "server/tokens.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/memory.h"
#include "handlers/headers.h"
#include "handlers/reply.h"

#define LINE_MAX_ 512

struct token {
    char name[HTTP_PRINCIPAL_SIZE];
    enum scope scope;
    struct digest digest;
    int64_t expires_ms; /* 0 = never */
};

struct table {
    size_t n;
    struct token tokens[TOKENS_MAX];
};

static struct table *current; /* replaced as a whole */
static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;

/* ---- the file ---- */

static bool read_scope(enum scope *out, const char *word) {
    int i = param_word_index("read write admin", word);
    *out = (enum scope)(SCOPE_READ + i);
    return i >= 0;
}

/* "2027-01-31", the end of that day in UTC. */
static bool read_day(int64_t *out, const char *word) {
    struct tm day = {.tm_hour = 23, .tm_min = 59, .tm_sec = 59};
    int end = 0;
    if (sscanf(word, "%4d-%2d-%2d%n", &day.tm_year, &day.tm_mon, &day.tm_mday, &end) != 3 || word[end]) return false;
    day.tm_year -= 1900;
    day.tm_mon -= 1;
    *out = (int64_t)timegm(&day) * 1000;
    return true;
}

/* False when the line is none of ours; blank lines and comments leave *used false. */
static bool read_line(struct token *t, bool *used, const char *line) {
    char name[HTTP_PRINCIPAL_SIZE], scope[16], digest[80], day[32] = "", more[2];
    *used = false;
    int n = sscanf(line, " %63s %15s %79s %31s %1s", name, scope, digest, day, more);
    if (n <= 0 || name[0] == '#') return true;
    *t = (struct token){0};
    text_copy(t->name, sizeof t->name, name);
    *used = true;
    return (n == 3 || n == 4) && read_scope(&t->scope, scope) && digest_from_hex(&t->digest, digest, strlen(digest)) &&
           (n == 3 || read_day(&t->expires_ms, day));
}

static int read_table(struct table *t, FILE *f, const char *path, struct err *e) {
    char line[LINE_MAX_];
    for (int number = 1; fgets(line, sizeof line, f); number++) {
        bool used;
        if (t->n == TOKENS_MAX) return err_set(e, E_TOO_LARGE, "%s has more than %d tokens", path, TOKENS_MAX);
        if (!strchr(line, '\n') && !feof(f)) return err_set(e, E_SYNTAX, "%s:%d: the line is too long", path, number);
        if (!read_line(&t->tokens[t->n], &used, line))
            return err_set(e, E_SYNTAX, "%s:%d: not \"name read|write|admin sha256 [year-month-day]\"", path, number);
        t->n += used;
    }
    return t->n ? 0 : err_set(e, E_INVALID, "%s has no token; `retort token --file %s` makes one", path, path);
}

int tokens_load(const char *path, struct err *e) {
    FILE *f = fopen(path, "re");
    if (!f) return err_set(e, E_NOT_FOUND, "cannot read %s; `retort token --file %s` makes it", path, path);
    struct table *t = mem_calloc(1, sizeof *t);
    int code = t ? read_table(t, f, path, e) : err_memory(e, sizeof *t);
    fclose(f);
    if (code) {
        mem_free(t);
        return code;
    }
    pthread_rwlock_wrlock(&lock);
    struct table *before = current;
    current = t;
    pthread_rwlock_unlock(&lock);
    mem_free(before);
    return 0;
}

/* ---- requests ---- */

/* The token that a request carries, into out; false without. */
static bool presented(char out[128], const struct request *r) {
    const char *authorization = header_get(r, "Authorization"), *cookie = header_get(r, "Cookie");
    if (authorization && !strncasecmp(authorization, "Bearer ", 7)) {
        text_copy(out, 128, authorization + 7 + strspn(authorization + 7, " "));
        return true;
    }
    for (; cookie && *cookie; cookie += strcspn(cookie, ";"), cookie += strspn(cookie, "; ")) {
        if (strncmp(cookie, "retort_token=", 13)) continue;
        text_print(out, 128, "%.*s", (int)strcspn(cookie + 13, "; "), cookie + 13);
        return true;
    }
    return false;
}

/* Looks at every token, so that the time says nothing about which one it was. */
static bool find(struct token *out, const struct digest *d) {
    bool found = false;
    int64_t now = clock_wall_ms();
    for (size_t i = 0; current && i < current->n; i++) {
        const struct token *t = &current->tokens[i];
        unsigned char difference = 0;
        for (size_t k = 0; k < DIGEST_SIZE; k++) difference |= d->bytes[k] ^ t->digest.bytes[k];
        if (difference || (t->expires_ms && now >= t->expires_ms)) continue;
        *out = *t;
        found = true;
    }
    return found;
}

static bool refuse(struct response *out, const struct request *r, int status, const char *slug, const char *text) {
    reply_problem(out, r, &(struct problem){status, slug, text, "", 0});
    if (status == 401) reply_header(out, "WWW-Authenticate", "Bearer realm=\"retort\"");
    return false;
}

bool tokens_allow(struct request *r, enum scope needed, struct response *out) {
    char text[128];
    struct token t;
    if (r->service->open || needed == SCOPE_NONE) return true;
    if (!presented(text, r)) return refuse(out, r, 401, "unauthorized", "send a token: Authorization: Bearer hf_...");
    struct digest d = digest_of(text, strlen(text));
    pthread_rwlock_rdlock(&lock);
    bool known = find(&t, &d);
    pthread_rwlock_unlock(&lock);
    if (!known) return refuse(out, r, 401, "unauthorized", "the token is unknown or has expired");
    text_copy(r->principal, sizeof r->principal, t.name);
    if (t.scope >= needed) return true;
    static const char *const texts[] = {"", "this needs a token with the scope \"read\"",
                                        "this needs a token with the scope \"write\"",
                                        "this needs a token with the scope \"admin\""};
    return refuse(out, r, 403, "forbidden", texts[needed]);
}
