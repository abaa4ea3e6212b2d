/* datasets_test.c - data sets and their arrays, without sockets. */
#include "tests/handlers/asking.h"

TEST(arrays_go_in_and_come_out) {
    struct asking a;
    need(asking_start(&a), "start");
    ok(ask(&a, HTTP_PUT, "/v1/datasets/set/inputs", "ARR - abcdef") == 201 && number_at(&a, "version") == 1, "%s",
       a.out.body.data);
    ok(!strcmp(answer_header(&a, "Location"), "/v1/datasets/set@1"), "%s", answer_header(&a, "Location"));
    ok(ask(&a, HTTP_PUT, "/v1/datasets/set/labels", "ARR - 012") == 201 && number_at(&a, "version") == 2, "second");
    ok(json_count(member(&a, "arrays")) == 2, "the first is still there");
    ok(ask(&a, HTTP_PUT, "/v1/datasets/set/labels", "ARR - 012") == 200 && number_at(&a, "version") == 2,
       "the same again");
    ok(ask(&a, HTTP_GET, "/v1/datasets/set/inputs", NULL) == 200 && !strcmp(a.body, "npy uint8 6\nabcdef"), "%s",
       a.body);
    ok(!strcmp(answer_header(&a, "Content-Disposition"), "attachment; filename=\"set-v2-inputs.npy\""), "name");
    ok(!strcmp(answer_header(&a, "Content-Location"), "/v1/datasets/set@2/inputs"), "pinned");
    char tag[128];
    text_copy(tag, sizeof tag, answer_header(&a, "ETag"));
    ok(ask(&a, HTTP_GET, "/v1/datasets/set@1/inputs", NULL) == 200 && !strcmp(tag, answer_header(&a, "ETag")),
       "the same tag");
    ok(ask(&a, HTTP_GET, "/v1/datasets/set@1/labels", NULL) == 404 && strstr(text_at(&a, "detail"), "inputs"), "%s",
       text_at(&a, "detail"));
    ok(ask(&a, HTTP_PUT, "/v1/datasets/other/npz", "ARR things xyz") == 201, "an archive brings names: %s",
       a.out.body.data);
    ok(ask(&a, HTTP_GET, "/v1/datasets/other/things", NULL) == 200 && !strcmp(a.body, "npy uint8 3\nxyz"), "%s",
       a.body);
    ok(ask(&a, HTTP_PUT, "/v1/datasets/other/safetensors", "ARR more uvw") == 201 && number_at(&a, "version") == 2,
       "and so does a file of tensors: %s", a.out.body.data);
    ok(json_count(member(&a, "arrays")) == 2, "beside those of the archive");
    asking_stop(&a);
}

TEST(lists_and_summaries) {
    struct asking a;
    need(asking_start(&a), "start");
    ask(&a, HTTP_PUT, "/v1/datasets/one/inputs", "ARR - a");
    ask(&a, HTTP_PUT, "/v1/datasets/two/inputs", "ARR - b");
    ok(ask(&a, HTTP_GET, "/v1/datasets", NULL) == 200 && json_count(member(&a, "items")) == 2, "list");
    ok(ask(&a, HTTP_GET, "/v1/datasets?q=tw", NULL) == 200 && json_count(member(&a, "items")) == 1, "part of the name");
    ok(ask(&a, HTTP_PUT, "/v1/datasets/one/aliases/gold", "{\"version\":1}") == 201, "alias");
    ok(ask(&a, HTTP_GET, "/v1/datasets/one", NULL) == 200 && number_at(&a, "aliases.gold") == 1, "summary");
    ok(ask(&a, HTTP_GET, "/v1/datasets/one@gold", NULL) == 200 && !member(&a, "aliases"), "version");
    ok(ask(&a, HTTP_DELETE, "/v1/datasets/one", NULL) == 200 && ask(&a, HTTP_GET, "/v1/datasets/one", NULL) == 404,
       "gone");
    asking_stop(&a);
}

TEST(refused_arrays_leave_nothing) {
    struct asking a;
    need(asking_start(&a), "start");
    ok(ask(&a, HTTP_PUT, "/v1/datasets/set/inputs", "<html>") == 422, "no array: %s", a.out.body.data);
    ok(ask(&a, HTTP_PUT, "/v1/datasets/set/inputs", "") == 422 && strstr(text_at(&a, "detail"), "empty"), "nothing");
    ok(ask(&a, HTTP_PUT, "/v1/datasets/SET/inputs", "ARR - a") == 422, "bad name");
    ok(ask(&a, HTTP_PUT, "/v1/datasets/set/-x", "ARR - a") == 422, "bad array");
    ok(ask(&a, HTTP_PUT, "/v1/datasets/set/npz", "ARR !! a") == 422, "bad array in an archive");
    ok(ask(&a, HTTP_PUT, "/v1/datasets/set/safetensors", "ARR !! a") == 422, "bad array in a file of tensors");
    ok(ask(&a, HTTP_PUT, "/v1/datasets/set@1/inputs", "ARR - a") == 422, "a version");
    ok(ask(&a, HTTP_GET, "/v1/datasets", NULL) == 200 && json_count(member(&a, "items")) == 0, "nothing is there");
    asking_stop(&a);
}

TEST_MAIN
