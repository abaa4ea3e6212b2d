/* ranges.c - ranges. */
#include "server/ranges.h"

#include <string.h>
#include <strings.h>

#include "handlers/headers.h"

/* Reads digits into *out, which stays at UINT64_MAX when there are too many; false without digits. */
static bool number(uint64_t *out, const char **text) {
    const char *start = *text;
    uint64_t value = 0;
    for (; **text >= '0' && **text <= '9'; (*text)++) {
        uint64_t digit = (uint64_t)(**text - '0');
        value = value > (UINT64_MAX - digit) / 10 ? UINT64_MAX : value * 10 + digit;
    }
    *out = value;
    return *text > start;
}

enum range_kind range_read(struct span *out, const char *range, uint64_t size) {
    *out = (struct span){0, size};
    if (!range || strncasecmp(range, "bytes=", 6)) return RANGE_WHOLE;
    range += 6;
    range += strspn(range, " \t");
    uint64_t first = 0, last = UINT64_MAX;
    bool has_first = number(&first, &range);
    if (*range++ != '-') return RANGE_WHOLE;
    bool has_last = number(&last, &range);
    range += strspn(range, " \t");
    if (*range || (!has_first && !has_last)) return RANGE_WHOLE;
    if (!has_first) { /* the last bytes */
        if (last == 0) return RANGE_NONE;
        out->size = last < size ? last : size;
        out->offset = size - out->size;
        return size ? RANGE_PART : RANGE_NONE;
    }
    if (has_last && last < first) return RANGE_WHOLE;
    if (first >= size) return RANGE_NONE;
    if (!has_last || last >= size) last = size - 1;
    *out = (struct span){first, last - first + 1};
    return RANGE_PART;
}

bool if_range_holds(const char *if_range, const char *tag) {
    return !if_range || (tag && *if_range == '"' && header_names_tag(if_range, tag, true));
}
