/* morph_step.h - steps from JSON, for tests. */
#ifndef TESTS_ENGINE_MORPH_STEP_H
#define TESTS_ENGINE_MORPH_STEP_H

#include <string.h>

#include "engine/surgery/morph.h"
#include "tests/test.h"

/* False, and the test has failed, when it is none. */
static inline bool parse_step(struct morph_step *s, const char *text) {
    struct json *json;
    struct err e = {0};
    if (!ok(json_parse(&json, text, strlen(text), &e) == 0, "%s: %s", text, e.text)) return false;
    int status = param_parse(s, morph_step_params, json, "", &e);
    if (!status) status = morph_check(s, "", &e);
    json_free(json);
    return ok(status == 0, "%s: %s", text, e.text);
}

#endif
