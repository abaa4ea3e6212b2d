/* peak.h - what memory this process has, and had at most, by the operating system's account. */
#ifndef TESTS_PEAK_H
#define TESTS_PEAK_H

#include <malloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sanitizers take memory of their own. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define PEAK_TRUE false
#else
#define PEAK_TRUE true
#endif

/* A line of /proc/self/status, in bytes. */
static inline size_t peak_line(const char *name) {
    char line[256];
    size_t kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, name, strlen(name)) == 0) kib = strtoull(line + strlen(name), NULL, 10);
    if (f) fclose(f);
    return kib * 1024;
}

static inline size_t peak_now(void) {
    malloc_trim(0);
    return peak_line("VmRSS:");
}

static inline size_t peak_most(void) {
    return peak_line("VmHWM:");
}

/* Lets the peak begin anew from what is there now. */
static inline bool peak_forget(void) {
    malloc_trim(0);
    FILE *f = fopen("/proc/self/clear_refs", "w");
    if (!f) return false;
    bool good = fputs("5", f) >= 0;
    return fclose(f) == 0 && good;
}

#endif
