/* spec.c - specifications and JSON. The member "method" is put before the method's own table as a row,
 * and its value behind the method's own struct. */
#include "jobs/spec.h"

#include <assert.h>
#include <string.h>

#include "base/memory.h"
#include "base/param.h"

#define NAME_SIZE 64

int spec_method(const struct method **out, const struct json *body, struct err *e) {
    if (json_type(body) != JSON_OBJECT)
        return err_set(e, E_INVALID, "a job is a JSON object, like {\"method\":\"distill\",...}; this is %s",
                       json_type_name(json_type(body)));
    const struct json *member = json_get(body, "method");
    if (!member || json_type(member) != JSON_STRING)
        return err_set_at(e, E_INVALID, "/method", "which method to run is missing: see GET /v1/methods");
    *out = method_find(json_string(member));
    if (*out) return 0;
    const char *names[SPEC_MAX_MEMBERS];
    size_t n = 0;
    for (; method_table[n] && n < SPEC_MAX_MEMBERS; n++) names[n] = method_table[n]->name;
    const char *near = param_nearest(json_string(member), names, n);
    return err_set_at(e, E_NOT_FOUND, "/method", "there is no method \"%.40s\"%s%s%s; GET /v1/methods lists them",
                      json_string(member), near ? ", did you mean \"" : "", near ? near : "", near ? "\"" : "");
}

static size_t name_offset(const struct method *m) {
    return (m->spec_size + 15) / 16 * 16;
}

static void whole_table(struct param out[SPEC_MAX_MEMBERS + 2], const struct method *m) {
    size_t n = 0;
    out[0] = (struct param){.name = "method",
                            .type = PARAM_TYPE_STRING,
                            .offset = name_offset(m),
                            .size = NAME_SIZE,
                            .present_offset = PARAM_NO_PRESENT,
                            .help = "what to do"};
    for (; m->params[n].name; n++) {
        assert(n < SPEC_MAX_MEMBERS);
        out[n + 1] = m->params[n];
    }
    out[n + 1] = (struct param)PARAM_END;
}

int spec_parse(void **out, const struct method *method, const struct json *body, struct err *e) {
    struct param table[SPEC_MAX_MEMBERS + 2];
    size_t size = name_offset(method) + NAME_SIZE;
    void *spec = mem_calloc(1, size);
    if (!spec) return err_memory(e, size);
    whole_table(table, method);
    int status = param_parse(spec, table, body, "", e);
    if (status)
        mem_free(spec);
    else
        *out = spec;
    return status;
}

int spec_write(struct text *out, const struct method *method, const void *spec, struct err *e) {
    struct param table[SPEC_MAX_MEMBERS + 2];
    whole_table(table, method);
    struct json_writer w = json_writer(out);
    json_open_object(&w, NULL);
    param_write(&w, table, spec);
    json_close_object(&w);
    return out->failed ? err_set(e, out->failed, "the specification is too long") : 0;
}
