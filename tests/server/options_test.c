/* options_test.c - settings from the command line, the environment and the table. */
#include "server/options.h"

#include "tests/test.h"

static struct settings s;
static struct err e;
static bool help;

static int parse(int argc, const char *const *argv) {
    e = (struct err){0};
    return options_parse(&s, &help, serve_options, argc, (char **)(uintptr_t)argv, &e);
}
#define PARSE(...) parse(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *), (const char *[]){__VA_ARGS__})

TEST(command_line) {
    ok(!parse(0, NULL) && !strcmp(s.listen, "127.0.0.1:8080") && s.workers == 1 && s.log == 1, "defaults: %s", e.text);
    ok(!PARSE("--data", "x y", "--listen=[::1]:0", "--workers", "3"), "%s", e.text);
    ok(!strcmp(s.data, "x y") && !strcmp(s.listen, "[::1]:0") && s.workers == 3, "values");
    ok(!PARSE("--memory", "8G", "--max-body", "64m", "--cache", "0"), "%s", e.text);
    ok(s.memory == INT64_C(8) << 30 && s.max_body == 64 << 20 && s.cache == 0, "sizes");
    ok(!PARSE("--max_body", "1048576", "--log", "error") && s.log == 3, "either spelling: %s", e.text);
    ok(!PARSE("--help") && help, "help");
}

TEST(mistakes) {
    ok(PARSE("--worker", "3") == E_INVALID && strstr(e.text, "workers"), "the nearest name: %s", e.text);
    ok(PARSE("--workers") == E_INVALID && strstr(e.text, "needs a value"), "%s", e.text);
    ok(PARSE("--workers", "-1") == E_INVALID && PARSE("--workers", "x") == E_INVALID, "%s", e.text);
    ok(PARSE("--memory", "8Q") == E_INVALID && PARSE("--memory", "99999999T") == E_INVALID, "%s", e.text);
    ok(PARSE("--log", "loud") == E_INVALID && PARSE("serve") == E_INVALID && PARSE("-w", "3") == E_INVALID, "%s",
       e.text);
    ok(PARSE("--workers", "1", "--workers", "2") != 0, "twice: %s", e.text);
    ok(PARSE("--listen", "\xff") != 0, "no UTF-8: %s", e.text);
}

TEST(environment) {
    setenv("RETORT_MAX_BODY", "32M", 1);
    setenv("RETORT_WORKERS", "5", 1);
    ok(!parse(0, NULL) && s.max_body == 32 << 20 && s.workers == 5, "%s", e.text);
    ok(!PARSE("--workers", "2") && s.workers == 2 && s.max_body == 32 << 20, "the command line wins");
    setenv("RETORT_WORKERS", "many", 1);
    ok(PARSE("--data", "d") == E_INVALID && strstr(e.text, "workers"), "%s", e.text);
}

TEST_MAIN
