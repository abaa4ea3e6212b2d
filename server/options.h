/* options.h - settings of the processes: one parameter table, filled from the command line, then the
 * environment, then the defaults. "--max-body" is the row "max_body" and the variable RETORT_MAX_BODY. */
#ifndef SERVER_OPTIONS_H
#define SERVER_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/param.h"

struct settings {
    char data[1024], listen[256], hosts[512], tokens[1024];
    int64_t workers, threads, memory;
    int64_t max_body, uploads, streams, connections, per_address;
    int64_t loops, desks, idle, drain, cache;
    int log;
    char name[64];
    bool until_idle;
};

extern const struct param serve_options[], worker_options_table[];

/* Fills *out, the struct of the table. `argv` starts after the command's name. *help: "--help" was asked for, nothing is filled.
 * E_INVALID for unknown options, missing and wrong values. Whole numbers may end in K, M, G or T. */
int options_parse(void *out, bool *help, const struct param *table, int argc, char **argv, struct err *e);

/* Prints the table to standard output, an option a line. */
void options_help(const struct param *table);

#endif
