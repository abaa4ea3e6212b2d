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

/* A member that the kind does not do without. */
static inline const char *step_needed(const struct morph_kind *k) {
    static const char *const members[][2] = {{"to factor", ",\"factor\":2"},
                                             {"size", ",\"size\":3"},
                                             {"from", ",\"from\":\"conv1\""},
                                             {"rank energy", ",\"rank\":1"},
                                             {"recipe edges", ",\"recipe\":\"1c1\""}};
    for (size_t i = 0; k->needs && i < sizeof members / sizeof *members; i++)
        if (strcmp(members[i][0], k->needs) == 0) return members[i][1];
    return "";
}

#endif
