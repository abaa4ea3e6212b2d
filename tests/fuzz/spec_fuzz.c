/* spec_fuzz.c - any bytes as the body of POST /v1/jobs, as far as tables can check it. What is accepted must come out
 * filled in, and so be accepted again without change. */
#include <string.h>

#include "base/memory.h"
#include "jobs/spec.h"
#include "tests/fuzz/fuzz.h"

/* The specification written out, or an error with words. */
static int complete(struct text *out, const char *bytes, size_t size, struct err *e) {
    struct json *root = NULL;
    const struct method *method;
    void *spec = NULL;
    int rc = json_parse(&root, bytes, size, e);
    if (!rc) rc = spec_method(&method, root, e);
    if (!rc) rc = spec_parse(&spec, method, root, e);
    if (!rc) {
        text_init(out, 4u << 20);
        must(spec_write(out, method, spec, e) == 0, "%s", e->text);
    }
    mem_free(spec);
    json_free(root);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct text first, second;
    struct err e = {0};
    int rc = complete(&first, (const char *)bytes, size, &e);
    must(rc == 0 || *e.text, "%d without a word", rc);
    if (rc) return 0;
    if (first.length <= JSON_MAX_SIZE) {
        must(complete(&second, first.data, first.length, &e) == 0, "%s: %s", e.text, first.data);
        must(strcmp(first.data, second.data) == 0, "%s became %s", first.data, second.data);
        text_free(&second);
    }
    text_free(&first);
    return 0;
}
