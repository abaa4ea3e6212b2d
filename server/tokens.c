/* tokens.c - without tokens everybody who reaches the loopback interface may do everything. */
#include "server/tokens.h"

bool tokens_allow(struct request *r, enum scope needed, struct response *out) {
    (void)r, (void)needed, (void)out;
    return true;
}
