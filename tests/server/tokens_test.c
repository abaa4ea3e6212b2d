/* tokens_test.c - the token file, and who may do what with it. */
#include "server/tokens.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/digest.h"
#include "handlers/reply.h"
#include "tests/test.h"

static char path[] = "/tmp/retort-tokens-XXXXXX";

static int load(const char *content, struct err *e) {
    *e = (struct err){0};
    FILE *f = fopen(path, "w");
    if (!f) return E_IO;
    fputs(content, f);
    fclose(f);
    return tokens_load(path, e);
}

/* A line for the token `text`. */
static const char *line(const char *name, const char *scope, const char *text, const char *day) {
    static char lines[4][256];
    static int next;
    char hex[DIGEST_HEX_SIZE], *out = lines[next++ % 4];
    struct digest d = digest_of(text, strlen(text));
    digest_to_hex(hex, &d);
    text_print(out, sizeof lines[0], "%s %s %s %s\n", name, scope, hex, day);
    return out;
}

static int allowed(const char *header, const char *value, enum scope needed, char *who) {
    struct service service = {0};
    struct request r = {.service = &service, .n_headers = header ? 1 : 0, .headers = {{header, value}}};
    struct response out;
    response_init(&out);
    int status = tokens_allow(&r, needed, &out) ? 200 : out.status;
    if (who) text_copy(who, HTTP_PRINCIPAL_SIZE, r.principal);
    response_fini(&out, NULL);
    return status;
}

TEST(scopes_names_and_ends) {
    struct err e;
    char file[1024], who[HTTP_PRINCIPAL_SIZE];
    close(mkstemp(path));
    text_print(file, sizeof file, "# people\n\n%s%s%s", line("ann", "read", "hf_a", ""),
               line("bob", "admin", "hf_b", "2199-12-31"), line("old", "admin", "hf_c", "2020-01-01"));
    ok(!load(file, &e), "%s", e.text);
    ok(allowed("Authorization", "Bearer hf_a", SCOPE_READ, who) == 200 && !strcmp(who, "ann"), "%s", who);
    ok(allowed("authorization", "bearer  hf_a", SCOPE_READ, NULL) == 200, "case and spaces");
    ok(allowed("Authorization", "Bearer hf_a", SCOPE_WRITE, NULL) == 403, "read is not write");
    ok(allowed("Authorization", "Bearer hf_b", SCOPE_WRITE, who) == 200 && !strcmp(who, "bob"), "admin is write");
    ok(allowed("Authorization", "Bearer hf_c", SCOPE_READ, NULL) == 401, "expired");
    ok(allowed("Authorization", "Bearer hf_x", SCOPE_READ, NULL) == 401, "unknown");
    ok(allowed("Authorization", "Basic aGZfYQ==", SCOPE_READ, NULL) == 401, "another scheme");
    ok(allowed(NULL, NULL, SCOPE_READ, NULL) == 401 && allowed(NULL, NULL, SCOPE_NONE, NULL) == 200, "none");
    ok(allowed("Cookie", "x=1; retort_token=hf_a; y=2", SCOPE_READ, NULL) == 200, "cookie");
    ok(allowed("Cookie", "xretort_token=hf_a", SCOPE_READ, NULL) == 401 &&
           allowed("Cookie", "retort_token=", SCOPE_READ, NULL) == 401,
       "other cookies");
    ok(load(line("eve", "write", "hf_e", ""), &e) == 0 &&
           allowed("Authorization", "Bearer hf_a", SCOPE_READ, NULL) == 401,
       "taken out");
    ok(load("broken", &e) == E_SYNTAX && allowed("Authorization", "Bearer hf_e", SCOPE_WRITE, NULL) == 200,
       "a broken file changes nothing");
    unlink(path);
}

TEST(broken_files) {
    static const char *const bad[] = {
        "a",
        "a read",
        "a read 00",
        "a root 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "a read 9F86D081884C7D659A2FEAA0C55AD015A3BF4F1B2B0B822CD15D6C15B0F00A08",
        "a read 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 soon",
        "a read 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 2030-01-01 more",
    };
    struct err e;
    close(mkstemp(path));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) ok(load(bad[i], &e) == E_SYNTAX, "%s: %s", bad[i], e.text);
    ok(load("# nobody\n", &e) == E_INVALID, "%s", e.text);
    char wide[700];
    memset(wide, 'x', sizeof wide);
    wide[sizeof wide - 1] = '\0';
    ok(load(wide, &e) == E_SYNTAX, "%s", e.text);
    unlink(path);
    ok(tokens_load(path, &e) == E_NOT_FOUND, "no file");
}

TEST_MAIN
