/* clock.c - the system's clocks. */
#include "base/clock.h"

#include <stdio.h>
#include <time.h>

int64_t clock_wall_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t clock_monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void clock_format(char out[32], int64_t wall_ms) {
    int64_t ms = wall_ms % 1000;
    time_t seconds = (time_t)(wall_ms / 1000 - (ms < 0)); /* times before 1970 round down, too */
    if (ms < 0) ms += 1000;
    struct tm utc = {0};
    char until_seconds[24];
    gmtime_r(&seconds, &utc);
    if (strftime(until_seconds, sizeof until_seconds, "%Y-%m-%dT%H:%M:%S", &utc) == 0) until_seconds[0] = '\0';
    snprintf(out, 32, "%s.%03dZ", until_seconds, (int)ms);
}

void clock_sleep_ms(int64_t ms) {
    if (ms <= 0) return;
    struct timespec span = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&span, NULL);
}
