/* token_main.c - `retort token`: makes a token. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/digest.h"
#include "server/options.h"
#include "server/tokens.h"

struct token_settings {
    char file[1024], name[64];
    int scope;
    int64_t days;
};

static const struct param token_options[] = {
    PARAM_STRING(struct token_settings, file, "\"tokens\"", "the file that retort serve --tokens reads"),
    PARAM_STRING(struct token_settings, name, "\"admin\"", "whose token it is, for the histories; no spaces"),
    PARAM_CHOICE(struct token_settings, scope, "\"read\"", "read write admin",
                 "what it allows; each includes those before it"),
    PARAM_INT(struct token_settings, days, "0", 0, 36500, "days until it expires; 0 = never"),
    PARAM_END,
};

/* "hf_" and 256 random bits in base62: clients of model hubs take no other beginning. */
static bool make_token(char out[TOKEN_SIZE]) {
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    unsigned char random[256];
    size_t n = 3;
    memcpy(out, "hf_", 3);
    while (n < 3 + 43) {
        if (getrandom(random, sizeof random, 0) != sizeof random) return false;
        for (size_t i = 0; i < sizeof random && n < 3 + 43; i++)
            if (random[i] < 62 * 4) out[n++] = digits[random[i] % 62]; /* without bias */
    }
    out[n] = '\0';
    return true;
}

static int append(const struct token_settings *s, const char *token, struct err *e) {
    char line[256], hex[DIGEST_HEX_SIZE], day[16] = "";
    struct digest d = digest_of(token, strlen(token));
    time_t end = time(NULL) + (time_t)s->days * 86400;
    struct tm utc;
    digest_to_hex(hex, &d);
    if (s->days && gmtime_r(&end, &utc)) strftime(day, sizeof day, " %Y-%m-%d", &utc);
    static const char *const scopes[] = {"read", "write", "admin"};
    if (!text_print(line, sizeof line, "%s %s %s%s\n", s->name, scopes[s->scope], hex, day))
        return err_set(e, E_INVALID, "the name is too long");
    int fd = open(s->file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) return err_set(e, E_IO, "cannot write %s: %s", s->file, strerror(errno));
    bool written = write(fd, line, strlen(line)) == (ssize_t)strlen(line) && !fsync(fd);
    return close(fd) || !written ? err_set(e, E_IO, "cannot write %s", s->file) : 0;
}

int tokens_main(int argc, char **argv) {
    struct token_settings s;
    struct err e = {0};
    char token[TOKEN_SIZE];
    bool help;
    int code = options_parse(&s, &help, token_options, argc, argv, &e);
    if (!code && help) {
        printf("retort token: appends a token to a file and prints it, this once. A running server reads\n"
               "the file again when it gets SIGHUP.\n\n");
        options_help(token_options);
        return 0;
    }
    if (!code && strpbrk(s.name, " \t\n#")) code = err_set(&e, E_INVALID, "the name must not have spaces or \"#\"");
    if (!code && !make_token(token)) code = err_set(&e, E_INTERNAL, "the system gives no random bytes");
    if (!code) code = append(&s, token, &e);
    if (code) {
        fprintf(stderr, "retort token: %s\n", e.text);
        return 1;
    }
    printf("%s\n", token);
    return 0;
}
