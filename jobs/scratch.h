/* scratch.h - memory for what a job reads again and again: a little of it real, the rest mapped from files
 * without a name in the data folder, so that the system may take pages back when it needs memory and a
 * job can work with more than it may take. The files go with the process, however that ends. */
#ifndef JOBS_SCRATCH_H
#define JOBS_SCRATCH_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct scratch_block {
    void *at;
    size_t size;
    bool mapped;
};

struct scratch {
    const char *folder;
    size_t room; /* bytes of real memory that are left to be given */
    struct scratch_block *blocks;
    size_t n;
};

/* Borrows the folder. With NULL nothing is mapped: what does not fit into `room` is E_TOO_LARGE. */
void scratch_init(struct scratch *s, const char *folder, size_t room);
void scratch_fini(struct scratch *s); /* frees all that was taken */

/* Zeroed memory that stays until the end, aligned for any type. The disk has room for all of it, or the error says
 * that it has not. */
int scratch_take(void **out, struct scratch *s, size_t size, struct err *e);

/* Says that the block will not be written to any more: whoever does so nevertheless, dies. */
void scratch_seal(struct scratch *s, void *block);

#endif
