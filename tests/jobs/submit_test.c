/* From a request to a checked specification. */
#define TEST_SECONDS 60
#include "tests/base/starve.h"
#include "tests/jobs/factory.h"

static void check_refused(struct store *s, const char *request, int code, const char *pointer, const char *word) {
    struct err e = {0};
    ok(submit(s, request, &e) == 0 && e.code == code, "%s: %d", request, e.code);
    ok(!strncmp(e.pointer, pointer, strlen(pointer)), "%s: at '%s', expected %s", request, e.pointer, pointer);
    ok(strstr(e.text, word) != NULL, "%s: %s", request, e.text);
}

TEST(refusals_point_at_the_field) {
    struct store *s = factory_with_teacher();
    check_refused(s, "[]", E_INVALID, "", "JSON object");
    check_refused(s, "{}", E_INVALID, "/method", "method");
    check_refused(s, "{\"method\":\"distil\"}", E_NOT_FOUND, "/method", "distill");
    check_refused(s, "{\"method\":\"distill\",\"studnet\":{}}", E_INVALID, "/studnet", "student");
    check_refused(s,
                  "{\"method\":\"distill\",\"teacher\":\"nobody\",\"dataset\":\"digits\",\"student\":{\"width\":0.5}}",
                  E_NOT_FOUND, "/teacher", "nobody");
    check_refused(
        s, "{\"method\":\"distill\",\"teacher\":\"teacher@9\",\"dataset\":\"digits\",\"student\":{\"width\":0.5}}",
        E_NOT_FOUND, "/teacher", "teacher@9");
    check_refused(s,
                  "{\"method\":\"distill\",\"teacher\":\"teacher\",\"dataset\":\"none\",\"student\":{\"width\":0.5}}",
                  E_NOT_FOUND, "/dataset", "none");
    check_refused(s,
                  "{\"method\":\"distill\",\"teacher\":\"teacher\",\"dataset\":\"digits\",\"student\":{\"width\":0.5},"
                  "\"output\":\"Not A Name\"}",
                  E_INVALID, "/output", "name");
    int32_t labels[10] = {0, 1, 2, 7};
    uint8_t images[10 * SIDE * SIDE] = {0};
    put_array(s, "wrong", "inputs", "uint8", images, sizeof images, 3, (int64_t[]){10, SIDE, SIDE});
    put_array(s, "wrong", "labels", "int32", labels, sizeof labels, 1, (int64_t[]){10});
    check_refused(s, "{\"method\":\"evaluate\",\"model\":\"teacher\",\"dataset\":\"wrong\"}", E_INVALID, "/dataset",
                  "label 7");
    put_array(s, "flat", "inputs", "uint8", images, 6 * SIDE, 2, (int64_t[]){SIDE, 6});
    check_refused(s,
                  "{\"method\":\"distill\",\"teacher\":\"teacher\",\"dataset\":\"flat\",\"student\":{\"width\":0.5}}",
                  E_INVALID, "/dataset", "[N,1,6,6]");
    put_array(s, "empty", "other", "uint8", images, 10, 1, (int64_t[]){10});
    check_refused(s, "{\"method\":\"evaluate\",\"model\":\"teacher\",\"dataset\":\"empty\"}", E_NOT_FOUND, "/dataset",
                  "\"other\"");
    store_close(s);
}

TEST(the_specification_is_filled_in) {
    struct store *s = factory_with_teacher();
    struct submission sub, again;
    struct err e = {0};
    struct json *root = parse("{\"method\":\"distill\",\"teacher\":[\"teacher@1\",\"teacher\"],\"dataset\":\"digits\","
                              "\"evaluate\":\"digits\",\"student\":{\"width\":0.5}}");
    need(submit_check(&sub, s, root, &(struct submit_options){0}, &e) == 0, "%s", e.text);
    json_free(root);
    ok(strncmp(sub.spec, "{\"method\":\"distill\",", 20) == 0, "%s", sub.spec);
    ok(strstr(sub.spec, "\"output\":\"teacher-student\"") && strstr(sub.spec, "\"optimizer\":\"adam\""), "%s",
       sub.spec);
    ok(sub.student.parameters > 0 && sub.student.macs > 0, "size");
    ok(sub.n_inputs == 3 && sub.inputs[0] == sub.inputs[1] && sub.inputs[2] != sub.inputs[0], "%zu references",
       sub.n_inputs);
    root = parse(sub.spec);
    need(submit_check(&again, s, root, &(struct submit_options){0}, &e) == 0, "%s", e.text);
    json_free(root);
    ok(strcmp(sub.spec, again.spec) == 0, "written again it is the same");
    submission_free(&sub);
    submission_free(&again);
    store_close(s);
}

TEST(every_method_describes_itself) {
    struct text out;
    text_init(&out, 1 << 20);
    struct json_writer w = json_writer(&out);
    json_open_array(&w, NULL);
    size_t methods = 0;
    for (; method_table[methods]; methods++) param_describe(&w, NULL, method_table[methods]->params);
    json_close_array(&w);
    need(!out.failed, "text");
    struct json *root = parse(out.data);
    ok(json_count(root) == methods && methods >= 4, "%zu of %zu methods", json_count(root), methods);
    json_free(root);
    text_free(&out);
}

static struct store *starved;

static int check_once(void) {
    static const char request[] = DISTIL;
    struct submission sub;
    struct json *root = NULL;
    struct err e = {0};
    int status = json_parse(&root, request, strlen(request), &e);
    if (!status) status = submit_check(&sub, starved, root, &(struct submit_options){0}, &e);
    if (!status) submission_free(&sub);
    json_free(root);
    return status;
}

TEST(memory_may_run_out) {
    starved = factory_with_teacher();
    for (uint64_t n = 0; n < 300; n++) { /* what SQLite keeps for good from its first successes and failures */
        mem_fail_at(n, false);
        check_once();
    }
    mem_fail_at(0, false);
    starve("submitting", check_once);
    store_close(starved);
}

TEST_MAIN
