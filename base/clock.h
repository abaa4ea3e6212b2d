/* clock.h - wall time for records, monotonic time for durations. The engine reads neither. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

/* Milliseconds since 1970 UTC. */
int64_t clock_wall_ms(void);

/* Nanoseconds of a clock that never goes back. */
int64_t clock_monotonic_ns(void);

/* RFC 3339 in UTC with milliseconds, "2026-11-23T05:14:00.123Z"; out has at least 25 bytes. */
void clock_format(char out[32], int64_t wall_ms);

/* A signal ends it early. */
void clock_sleep_ms(int64_t ms);

#endif
