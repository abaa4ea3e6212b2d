/* digest_test.c - SHA-256 against the examples of FIPS 180-4 and its spellings. */
#include "base/digest.h"

#include "tests/test.h"

static const struct {
    const char *text, *hex, *base64;
} vectors[] = {
    {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
     "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="},
    {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
     "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
     "JI1qYdIGOLjlwCaTDD5gOaM85Flk/yFn9uzt1BnbBsE="},
    {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
     "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1",
     "z1sWp3ivg4ADbOWeewSSNwskmxHo8HpRr6xFA3r+6dE="},
};

TEST(known_digests) {
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        struct digest d = digest_of(vectors[i].text, strlen(vectors[i].text)), hex, base64;
        char text[DIGEST_HEX_SIZE];
        digest_to_hex(text, &d);
        ok(strcmp(text, vectors[i].hex) == 0, "%s", text);
        char spelt[DIGEST_BASE64_SIZE];
        digest_to_base64(spelt, &d);
        ok(strcmp(spelt, vectors[i].base64) == 0, "%s", spelt);
        ok(digest_from_hex(&hex, text, strlen(text)) && digest_equal(&hex, &d), "hex back");
        ok(digest_from_base64(&base64, spelt, strlen(spelt)) && digest_equal(&base64, &d), "base64 back");
    }
}

TEST(a_million_times_a) {
    struct hasher h;
    char block[1000], text[DIGEST_HEX_SIZE];
    memset(block, 'a', sizeof block);
    hasher_init(&h);
    for (int i = 0; i < 1000; i++) hasher_add(&h, block, sizeof block);
    struct digest d = hasher_finish(&h);
    digest_to_hex(text, &d);
    ok(strcmp(text, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0") == 0, "%s", text);
}

TEST(pieces_and_forks) {
    struct hasher h;
    hasher_init(&h);
    hasher_add(&h, "a", 1);
    hasher_add(&h, NULL, 0);
    struct hasher fork = h;
    hasher_add(&h, "bc", 2);
    hasher_add(&fork, "xy", 2);
    struct digest abc = hasher_finish(&h), axy = hasher_finish(&fork);
    struct digest abc_whole = digest_of("abc", 3), axy_whole = digest_of("axy", 3);
    ok(digest_equal(&abc, &abc_whole), "pieces");
    ok(digest_equal(&axy, &axy_whole) && !digest_equal(&abc, &axy), "fork");
}

TEST(spellings_are_strict) {
    struct digest d = {{1}}, kept = d;
    char hex[DIGEST_HEX_SIZE + 1], base64[DIGEST_BASE64_SIZE + 1];
    ok(!digest_from_hex(&d, vectors[1].hex, 63), "short");
    snprintf(hex, sizeof hex, "%s0", vectors[1].hex);
    ok(!digest_from_hex(&d, hex, 65), "long");
    snprintf(hex, sizeof hex, "%s", vectors[1].hex);
    hex[0] = 'B';
    ok(!digest_from_hex(&d, hex, 64), "capital");
    hex[0] = 'g';
    ok(!digest_from_hex(&d, hex, 64), "not a digit");
    snprintf(base64, sizeof base64, "%s", vectors[1].base64);
    ok(!digest_from_base64(&d, base64, 43), "without padding");
    base64[42] = '1';
    ok(!digest_from_base64(&d, base64, 44), "loose bits at the end");
    snprintf(base64, sizeof base64, "%s", vectors[1].base64);
    base64[3] = ' ';
    ok(!digest_from_base64(&d, base64, 44), "blank");
    snprintf(base64, sizeof base64, "%s", vectors[1].base64);
    base64[43] = '\n';
    ok(!digest_from_base64(&d, base64, 44), "a line's end for padding");
    memset(base64, 'A', 44);
    ok(!digest_from_base64(&d, base64, 44), "33 bytes");
    ok(digest_equal(&d, &kept), "a refused spelling leaves the digest alone");
}

TEST_MAIN
