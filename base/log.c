/* log.c - whole lines to standard error, each with one write, so that processes do not mix theirs. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"

#define LINE_SIZE 2048 /* longer messages are cut */

static enum log_level lowest = LOG_INFO;
static const char *speaker = "retort";

void log_start(enum log_level level, const char *who) {
    lowest = level;
    speaker = who;
}

void log_write(enum log_level level, const char *format, ...) {
    static const char *const names[] = {"debug", "info", "warn", "error"};
    if (level < lowest) return;
    char time[32], message[LINE_SIZE - 128], line[LINE_SIZE];
    clock_format(time, clock_wall_ms());
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    for (char *c = message; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f) *c = ' '; /* a message cannot forge a line */
    int length = snprintf(line, sizeof line, "%s %-5s %.64s: %s\n", time, names[level], speaker, message);
    if (length < 0) return;
    if (write(STDERR_FILENO, line, (size_t)length) < 0) return; /* nowhere left to complain */
}
