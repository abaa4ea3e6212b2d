/* digest.h - SHA-256 (FIPS 180-4, from nettle) and its spellings. */
#ifndef BASE_DIGEST_H
#define BASE_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DIGEST_SIZE 32
#define DIGEST_HEX_SIZE 65 /* with the NUL */
#define DIGEST_BASE64_SIZE 45

struct digest {
    uint8_t bytes[DIGEST_SIZE];
};

/* A running hash. Plain memory: copy it to fork the hash. */
struct hasher {
    uint64_t opaque[16]; /* room for nettle's context; checked at build time */
};

void hasher_init(struct hasher *h);
void hasher_add(struct hasher *h, const void *bytes, size_t size);
struct digest hasher_finish(struct hasher *h);
struct digest digest_of(const void *bytes, size_t size);

void digest_to_hex(char out[DIGEST_HEX_SIZE], const struct digest *d);
/* Exactly 64 lower-case hex digits. */
bool digest_from_hex(struct digest *d, const char *hex, size_t length);
/* RFC 4648 base64, for Repr-Digest (RFC 9530). */
void digest_to_base64(char out[DIGEST_BASE64_SIZE], const struct digest *d);
bool digest_from_base64(struct digest *d, const char *text, size_t length);
bool digest_equal(const struct digest *a, const struct digest *b);

#endif
