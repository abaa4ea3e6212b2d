/* ranges.h - which part of a representation a request wants (RFC 9110, 14). */
#ifndef SERVER_RANGES_H
#define SERVER_RANGES_H

#include <stdbool.h>
#include <stdint.h>

struct span {
    uint64_t offset, size;
};

enum range_kind {
    RANGE_WHOLE, /* 200 */
    RANGE_PART,  /* 206 */
    RANGE_NONE   /* 416: nothing of it exists */
};

/* Reads a Range header; NULL, several ranges, other units and what is malformed mean the whole. */
enum range_kind range_read(struct span *out, const char *range, uint64_t size);

/* Whether an If-Range header (may be NULL) lets the range be used; dates never do, as nothing here has one. */
bool if_range_holds(const char *if_range, const char *tag);

#endif
