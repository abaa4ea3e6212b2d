/* digest.c - SHA-256 through nettle. */
#include "base/digest.h"

#include <nettle/base64.h>
#include <nettle/memops.h>
#include <nettle/sha2.h>
#include <string.h>

_Static_assert(sizeof(struct sha256_ctx) <= sizeof(struct hasher), "nettle's context fits");
_Static_assert(_Alignof(struct sha256_ctx) <= _Alignof(struct hasher), "nettle's context is aligned");
_Static_assert(SHA256_DIGEST_SIZE == DIGEST_SIZE, "digest size");
_Static_assert(BASE64_ENCODE_RAW_LENGTH(DIGEST_SIZE) + 1 == DIGEST_BASE64_SIZE, "base64 size");

static struct sha256_ctx *context(struct hasher *h) {
    return (void *)h->opaque;
}

void hasher_init(struct hasher *h) {
    *h = (struct hasher){0};
    sha256_init(context(h));
}

void hasher_add(struct hasher *h, const void *bytes, size_t size) {
    if (size) sha256_update(context(h), size, bytes);
}

struct digest hasher_finish(struct hasher *h) {
    struct digest d;
    sha256_digest(context(h), DIGEST_SIZE, d.bytes);
    return d;
}

struct digest digest_of(const void *bytes, size_t size) {
    struct hasher h;
    hasher_init(&h);
    hasher_add(&h, bytes, size);
    return hasher_finish(&h);
}

static const char hex_digits[] = "0123456789abcdef";

void digest_to_hex(char out[DIGEST_HEX_SIZE], const struct digest *d) {
    for (size_t i = 0; i < DIGEST_SIZE; i++) {
        out[2 * i] = hex_digits[d->bytes[i] >> 4];
        out[2 * i + 1] = hex_digits[d->bytes[i] & 15];
    }
    out[2 * DIGEST_SIZE] = '\0';
}

bool digest_from_hex(struct digest *d, const char *hex, size_t length) {
    struct digest read = {0};
    if (length != 2 * DIGEST_SIZE) return false;
    for (size_t i = 0; i < length; i++) {
        const char *digit = memchr(hex_digits, hex[i], 16);
        if (!digit) return false;
        read.bytes[i / 2] = (uint8_t)(read.bytes[i / 2] << 4 | (digit - hex_digits));
    }
    *d = read;
    return true;
}

void digest_to_base64(char out[DIGEST_BASE64_SIZE], const struct digest *d) {
    base64_encode_raw(out, DIGEST_SIZE, d->bytes);
    out[DIGEST_BASE64_SIZE - 1] = '\0';
}

bool digest_from_base64(struct digest *d, const char *text, size_t length) {
    struct base64_decode_ctx decoder;
    uint8_t bytes[BASE64_DECODE_LENGTH(DIGEST_BASE64_SIZE - 1)];
    char again[DIGEST_BASE64_SIZE];
    struct digest read;
    size_t size = 0;
    if (length != DIGEST_BASE64_SIZE - 1) return false;
    base64_decode_init(&decoder);
    if (!base64_decode_update(&decoder, &size, bytes, length, text) || size != DIGEST_SIZE) return false;
    memcpy(read.bytes, bytes, DIGEST_SIZE);
    /* nettle skips white space and is easy on the last bits: only the one right spelling comes back the same */
    digest_to_base64(again, &read);
    if (memcmp(again, text, length) != 0) return false;
    *d = read;
    return true;
}

bool digest_equal(const struct digest *a, const struct digest *b) {
    return memeql_sec(a->bytes, b->bytes, DIGEST_SIZE); /* constant time: digests of tokens are compared, too */
}
