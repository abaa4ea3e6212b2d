/* clock_test.c - clocks, and the log, whose lines carry the time. */
#include "base/clock.h"

#include "base/log.h"
#include "tests/test.h"

TEST(formats_utc) {
    static const struct {
        int64_t ms;
        const char *text;
    } cases[] = {{0, "1970-01-01T00:00:00.000Z"},
                 {951827696789, "2000-02-29T12:34:56.789Z"},
                 {1795410840123, "2026-11-23T05:14:00.123Z"},
                 {-1, "1969-12-31T23:59:59.999Z"},
                 {253402300799999, "9999-12-31T23:59:59.999Z"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[32];
        clock_format(out, cases[i].ms);
        ok(strcmp(out, cases[i].text) == 0, "%s", out);
    }
    char out[32];
    clock_format(out, INT64_MAX);
    ok(strlen(out) < sizeof out, "%s", out);
    clock_format(out, INT64_MIN);
    ok(strlen(out) < sizeof out, "%s", out);
}

TEST(time_passes) {
    int64_t wall = clock_wall_ms(), before = clock_monotonic_ns();
    clock_sleep_ms(20);
    int64_t ns = clock_monotonic_ns() - before;
    ok(ns >= 20000000, "slept %lld ns", (long long)ns);
    ok(clock_wall_ms() >= wall + 15 && wall > 1577836800000, "wall %lld", (long long)wall);
    clock_sleep_ms(0);
    clock_sleep_ms(-5);
}

/* What log_write sends to standard error. */
static void logged(char *out, size_t room, enum log_level level, const char *message) {
    int ends[2];
    if (pipe(ends) != 0) return;
    int before = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    log_write(level, "%s", message);
    dup2(before, STDERR_FILENO);
    close(before);
    close(ends[1]);
    ssize_t n = read(ends[0], out, room - 1);
    out[n > 0 ? n : 0] = '\0';
    close(ends[0]);
}

TEST(logs_one_line) {
    char line[8192], message[4000];
    log_start(LOG_INFO, "worker 2");
    logged(line, sizeof line, LOG_WARN, "disk\nfull\x1b[31m");
    ok(strlen(line) > 24 && strcmp(line + 24, " warn  worker 2: disk full [31m\n") == 0 && line[23] == 'Z', "%s", line);
    logged(line, sizeof line, LOG_DEBUG, "too quiet");
    ok(!line[0], "below the level: %s", line);
    log_start(LOG_DEBUG, "worker 2");
    logged(line, sizeof line, LOG_DEBUG, "loud enough");
    ok(strstr(line, " debug worker 2: loud enough\n"), "%s", line);
    memset(message, 'x', sizeof message - 1);
    message[sizeof message - 1] = '\0';
    logged(line, sizeof line, LOG_ERROR, message);
    ok(strlen(line) < 2048 && line[strlen(line) - 1] == '\n', "%zu bytes", strlen(line));
}

TEST_MAIN
