/* json_fuzz.c - any bytes as JSON. What reads must write, and what was written must read as the same. */
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "tests/fuzz/fuzz.h"

/* The text of the document. */
static void write_again(struct text *out, const struct json *root) {
    text_init(out, 64u << 20);
    struct json_writer w = json_writer(out);
    json_put_value(&w, NULL, root);
    must(!out->failed, "%d", out->failed);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct json *a = NULL, *b = NULL;
    struct text first, second;
    struct err e = {0};
    int rc = json_parse(&a, (const char *)bytes, size, &e);
    must(rc == 0 || *e.text, "%d without a word", rc);
    if (rc) return 0;
    write_again(&first, a);
    if (first.length <= JSON_MAX_SIZE) { /* escapes may make it longer than it was */
        must(json_parse(&b, first.data, first.length, &e) == 0, "%s: %s", e.text, first.data);
        write_again(&second, b);
        must(first.length == second.length && memcmp(first.data, second.data, first.length) == 0, "%s became %s",
             first.data, second.data);
        text_free(&second);
        json_free(b);
    }
    text_free(&first);
    json_free(a);
    return 0;
}
