/* origin.c - the origin that is memory. */
#include "base/origin.h"

#include <string.h>

static int read_memory(void *to, size_t size, uint64_t offset, void *context, struct err *e) {
    (void)e;
    if (size) memcpy(to, (const char *)context + offset, size);
    return 0;
}

struct byte_origin byte_origin_memory(const void *bytes, size_t size) {
    return (struct byte_origin){size, read_memory, (void *)(uintptr_t)bytes};
}
