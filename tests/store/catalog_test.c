#include "tests/store/folder.h"

TEST(names_obey_the_rule) {
    static const char *const good[] = {"a", "0", "a.b_c-d", "resnet20", "a-b", "a_", "x.gitx", "1.2.3"};
    static const char *const bad[] = {"",   "A",     "-a",  ".a",  "_a",  "a..b",     "a--b", "a-",
                                      "a.", "x.git", "a/b", "a@b", "a b", "\xc3\xa4", "a%"};
    char longest[98] = {0};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) ok(store_name_check(good[i], NULL) == 0, "%s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) ok(store_name_check(bad[i], NULL) == E_INVALID, "%s", bad[i]);
    memset(longest, 'a', 96);
    ok(store_name_check(longest, NULL) == 0, "96 characters");
    longest[96] = 'a';
    ok(store_name_check(longest, NULL) == E_INVALID, "97 characters");
}

TEST(aliases_are_told_from_other_versions) {
    static const char *const bad[] = {
        "1", "007", "latest", "main", "head", "sha256:00", "0123456789abcdef0123456789abcdef01234567", ""};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ok(store_alias_check(bad[i], NULL) == E_INVALID, "%s", bad[i]);
    ok(store_alias_check("champion", NULL) == 0 && store_alias_check("v2", NULL) == 0, "good ones");
}

TEST(references_are_parsed) {
    struct store_reference ref;
    struct err e = {0};
    char text[400];
    ok(store_reference_parse(&ref, "net", &e) == 0 && ref.bare && ref.kind == STORE_REF_LATEST, "bare");
    ok(strcmp(ref.name, "net") == 0, "name %s", ref.name);
    ok(store_reference_parse(&ref, "net@latest", &e) == 0 && !ref.bare && ref.kind == STORE_REF_LATEST, "latest");
    ok(store_reference_parse(&ref, "net@12", &e) == 0 && ref.kind == STORE_REF_NUMBER && ref.number == 12, "number");
    ok(store_reference_parse(&ref, "net@best", &e) == 0 && ref.kind == STORE_REF_ALIAS && !strcmp(ref.alias, "best"),
       "alias");
    struct digest d = digest_of("x", 1);
    char hex[DIGEST_HEX_SIZE];
    digest_to_hex(hex, &d);
    snprintf(text, sizeof text, "net@sha256:%s", hex);
    ok(store_reference_parse(&ref, text, &e) == 0 && ref.kind == STORE_REF_DIGEST && digest_equal(&d, &ref.digest),
       "digest");
    static const char *const bad[] = {
        "",        "@1",  "net@",        "net@0",    "net@-1", "net@99999999999999999999", "net@sha256:12",
        "net@a@b", "Net", "net@sha256:", "net@Best", "net@1.."};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err why = {0};
        ok(store_reference_parse(&ref, bad[i], &why) == E_INVALID && why.text[0], "%s", bad[i]);
    }
    memset(text, 'a', 399);
    text[399] = 0;
    ok(store_reference_parse(&ref, text, NULL) == E_INVALID, "much too long");
}

TEST(versions_are_numbered_and_resolved) {
    struct store *s = folder_open();
    struct store_version a = small_model(s, "net", 1), b = small_model(s, "net", 2), v;
    struct err e = {0};
    ok(a.number == 1 && b.number == 2 && a.id != b.id, "numbers");
    ok(store_resolve(&v, s, STORE_MODEL, "net", &e) == 0 && v.id == b.id, "bare: %s", e.text);
    ok(store_resolve(&v, s, STORE_MODEL, "net@latest", &e) == 0 && v.id == b.id, "latest");
    ok(store_resolve(&v, s, STORE_MODEL, "net@1", &e) == 0 && v.id == a.id && v.bytes == 100 &&
           v.created_at == clock_now,
       "number");
    char text[120], hex[DIGEST_HEX_SIZE];
    digest_to_hex(hex, &a.digest);
    snprintf(text, sizeof text, "net@sha256:%s", hex);
    ok(store_resolve(&v, s, STORE_MODEL, text, &e) == 0 && v.id == a.id, "digest: %s", e.text);
    ok(store_resolve(&v, s, STORE_MODEL, "net@3", &e) == E_NOT_FOUND && strstr(e.text, "no version 3"), "%s", e.text);
    err_clear(&e);
    ok(store_resolve(&v, s, STORE_MODEL, "net@best", &e) == E_NOT_FOUND && strstr(e.text, "no alias"), "%s", e.text);
    err_clear(&e);
    ok(store_resolve(&v, s, STORE_MODEL, "other", &e) == E_NOT_FOUND && v.id == 0, "%s", e.text);
    ok(store_resolve(&v, s, STORE_DATASET, "net", NULL) == E_NOT_FOUND, "data sets have names of their own");
    ok(store_version_get(&v, s, a.id, NULL) == 0 && v.number == 1 && !strcmp(v.name, "net"), "by id");
    store_close(s);
}

TEST(the_latest_bytes_again_are_no_new_version) {
    struct store *s = folder_open();
    struct store_version v;
    bool existed;
    struct store_model_new m = {.name = "net", .blob = small_blob(s, 1)};
    ok(store_model_put(&v, &existed, s, &m, NULL) == 0 && !existed && v.number == 1, "first");
    ok(store_model_put(&v, &existed, s, &m, NULL) == 0 && existed && v.number == 1, "the same");
    small_model(s, "net", 2);
    ok(store_model_put(&v, &existed, s, &m, NULL) == 0 && !existed && v.number == 3, "an older one is new again");
    store_close(s);
}

TEST(a_model_comes_back_with_its_summary) {
    struct store *s = folder_open();
    struct store_version v;
    struct store_model got;
    struct err e = {0};
    const struct store_model_new m = {.name = "net",
                                      .blob = small_blob(s, 1),
                                      .parameters = 5,
                                      .macs = INT64_MAX,
                                      .operators = "{\"Conv\":2}",
                                      .inputs = "[]",
                                      .lineage = "{\"teacher\":\"t@1\"}",
                                      .metrics = "",
                                      .job = 9};
    need(store_model_put(&v, NULL, s, &m, &e) == 0, "%s", e.text);
    need(store_model_get(&got, s, "net", &e) == 0, "%s", e.text);
    ok(got.parameters == 5 && got.macs == INT64_MAX && got.blob == m.blob.id && got.version.job == 9, "numbers");
    ok(!strcmp(got.operators, m.operators) && !strcmp(got.inputs, "[]") && !strcmp(got.lineage, m.lineage), "texts");
    ok(got.outputs == NULL && got.metrics && !*got.metrics, "absent is not empty");
    store_model_fini(&got);
    ok(store_model_read(&got, s, v.id, &e) == 0 && got.version.number == 1, "by id");
    store_model_fini(&got);
    ok(store_model_get(&got, s, "net@2", NULL) == E_NOT_FOUND && !got.operators, "none");
    ok(store_model_read(&got, s, 77, NULL) == E_NOT_FOUND, "none by id");
    struct store_model_new bad = m;
    bad.name = "Bad Name";
    ok(store_model_put(&v, NULL, s, &bad, NULL) == E_INVALID, "bad name");
    bad.name = "net2";
    bad.blob.id = 99;
    ok(store_model_put(&v, NULL, s, &bad, NULL) == E_NOT_FOUND, "no such blob");
    struct store_name name;
    ok(store_name_get(&name, s, STORE_MODEL, "net2", NULL) == E_NOT_FOUND, "and no name made for it");
    store_close(s);
}

/* What a training left beside a version, to go on from. */
TEST(a_version_may_have_a_memory) {
    struct store *s = folder_open();
    struct store_version v;
    struct store_model got;
    struct store_name before, after;
    struct err e = {0};
    bool existed;
    small_model(s, "net", 1);
    ok(store_model_get(&got, s, "net@1", &e) == 0 && got.memory == 0 && !got.training, "none: %s", e.text);
    store_model_fini(&got);
    struct store_model_new m = {
        .name = "net", .blob = small_blob(s, 2), .memory = small_blob(s, 3), .training = "{\"steps\":7}"};
    need(store_model_put(&v, &existed, s, &m, &e) == 0 && !existed && v.number == 2, "%s", e.text);
    ok(store_model_get(&got, s, "net", &e) == 0 && got.memory == m.memory.id && !strcmp(got.training, m.training), "%s",
       e.text);
    store_model_fini(&got);
    m.memory = small_blob(s, 4);
    m.training = NULL;
    ok(store_name_get(&before, s, STORE_MODEL, "net", NULL) == 0 && store_model_put(&v, &existed, s, &m, &e) == 0 &&
           existed && store_name_get(&after, s, STORE_MODEL, "net", NULL) == 0 && before.revision == after.revision,
       "again: %s", e.text);
    ok(store_model_get(&got, s, "net", &e) == 0 && got.memory != m.memory.id && got.training, "the first one stays");
    store_model_fini(&got);
    small_model(s, "net", 1);
    m.blob = small_blob(s, 1);
    ok(store_name_get(&before, s, STORE_MODEL, "net", NULL) == 0 && store_model_put(&v, &existed, s, &m, &e) == 0 &&
           existed && v.number == 3 && store_name_get(&after, s, STORE_MODEL, "net", NULL) == 0 &&
           before.revision < after.revision,
       "a version that has none gets it: %s", e.text);
    ok(store_model_get(&got, s, "net", &e) == 0 && got.memory == m.memory.id && !got.training, "it has it");
    store_model_fini(&got);
    m.blob = small_blob(s, 5);
    m.memory.id = 99;
    ok(store_model_put(&v, NULL, s, &m, NULL) == E_NOT_FOUND, "no such blob");
    ok(store_resolve(&v, s, STORE_MODEL, "net", NULL) == 0 && v.number == 3, "and no version");
    int64_t n;
    ok(store_delete(&n, s, STORE_MODEL, "net", &e) == 0 && n == 3, "deleted: %s", e.text);
    store_close(s);
}

TEST(lists_page_newest_first) {
    struct store *s = folder_open();
    struct store_name_page page;
    struct store_name_query q = {.limit = 3};
    struct err e = {0};
    char name[16], last[STORE_NAME_SIZE] = "";
    for (int i = 0; i < 8; i++) {
        snprintf(name, sizeof name, "net%d", i);
        small_model(s, name, (uint64_t)i);
    }
    small_model(s, "net0", 100); /* comes to the front */
    int seen = 0, pages = 0;
    do {
        need(store_name_list(&page, s, STORE_MODEL, &q, &e) == 0, "%s", e.text);
        if (!pages)
            ok(!strcmp(page.items[0].name, "net0") && page.items[0].versions == 2 && page.items[0].latest.number == 2,
               "front");
        for (size_t i = 0; i < page.n; i++) snprintf(last, sizeof last, "%s", page.items[i].name);
        if (!pages) ok(page.items[1].parameters == 7 && page.items[1].latest.bytes == 100, "summary");
        seen += (int)page.n;
        pages++;
        q.after = page.next;
        store_name_page_fini(&page);
    } while (q.after);
    ok(seen == 8 && pages == 3 && !strcmp(last, "net1"), "%d in %d pages, last %s", seen, pages, last);
    struct store_name_query some = {.limit = 1000, .q = "et3"};
    ok(store_name_list(&page, s, STORE_MODEL, &some, &e) == 0 && page.n == 1 && page.next == 0, "q");
    store_name_page_fini(&page);
    some.q = "n_t";
    ok(store_name_list(&page, s, STORE_MODEL, &some, &e) == 0 && page.n == 0, "no wildcards in q");
    store_name_page_fini(&page);
    some.limit = 0;
    ok(store_name_list(&page, s, STORE_MODEL, &some, &e) == E_INVALID && !page.items, "limit 0");
    some.limit = STORE_PAGE_MAX + 1;
    ok(store_name_list(&page, s, STORE_MODEL, &some, NULL) == E_INVALID, "limit beyond");
    store_close(s);
}

TEST(versions_are_listed) {
    struct store *s = folder_open();
    struct store_version_page page;
    for (uint64_t i = 0; i < 5; i++) small_model(s, "net", i);
    need(store_version_list(&page, s, STORE_MODEL, "net", 0, 3, NULL) == 0, "list");
    ok(page.n == 3 && page.items[0].number == 5 && page.next == 3, "first page");
    store_version_page_fini(&page);
    need(store_version_list(&page, s, STORE_MODEL, "net", 3, 3, NULL) == 0, "list");
    ok(page.n == 2 && page.items[1].number == 1 && page.next == 0, "second page");
    store_version_page_fini(&page);
    ok(store_version_list(&page, s, STORE_MODEL, "none", 0, 3, NULL) == E_NOT_FOUND && !page.items, "no such name");
    store_close(s);
}

TEST(aliases_move_and_remember) {
    struct store *s = folder_open();
    struct store_alias a, b;
    struct store_version v;
    struct err e = {0};
    small_model(s, "net", 1);
    small_model(s, "net", 2);
    ok(store_alias_set(&a, s, STORE_MODEL, "net", "best", 1, STORE_REVISION_NEW, "ann", &e) == 0 && a.number == 1 &&
           a.revision > 0,
       "%s", e.text);
    ok(store_alias_set(&b, s, STORE_MODEL, "net", "best", 2, STORE_REVISION_NEW, "ann", NULL) == E_PRECONDITION,
       "it exists");
    ok(store_alias_set(&b, s, STORE_MODEL, "net", "best", 2, a.revision + 1, "ann", NULL) == E_PRECONDITION,
       "another revision");
    ok(store_alias_set(&b, s, STORE_MODEL, "net", "best", 2, a.revision, "bob", &e) == 0 && b.number == 2 &&
           b.revision != a.revision,
       "%s", e.text);
    ok(store_resolve(&v, s, STORE_MODEL, "net@best", &e) == 0 && v.number == 2, "it moved");
    ok(store_alias_set(&a, s, STORE_MODEL, "net", "best", 2, STORE_REVISION_ANY, NULL, &e) == 0 &&
           a.revision == b.revision,
       "there already");
    ok(store_alias_set(&a, s, STORE_MODEL, "net", "best", 3, STORE_REVISION_ANY, NULL, NULL) == E_NOT_FOUND,
       "no such version");
    ok(store_alias_set(&a, s, STORE_MODEL, "net", "latest", 1, STORE_REVISION_ANY, NULL, NULL) == E_INVALID,
       "not a name for one");
    ok(store_alias_set(&a, s, STORE_MODEL, "none", "best", 1, STORE_REVISION_ANY, NULL, NULL) == E_NOT_FOUND,
       "no such model");
    ok(store_alias_get(&a, s, STORE_MODEL, "net", "best", NULL) == 0 && a.number == 2, "get");
    ok(store_alias_get(&a, s, STORE_MODEL, "net", "worst", NULL) == E_NOT_FOUND, "get of none");
    ok(store_alias_delete(s, STORE_MODEL, "net", "best", b.revision + 7, "bob", NULL) == E_PRECONDITION,
       "delete with another revision");
    ok(store_alias_delete(s, STORE_MODEL, "net", "best", b.revision, "bob", &e) == 0, "delete: %s", e.text);
    ok(store_alias_delete(s, STORE_MODEL, "net", "best", STORE_REVISION_ANY, "bob", NULL) == E_NOT_FOUND, "twice");
    ok(store_alias_set(&a, s, STORE_MODEL, "net", "best", 1, STORE_REVISION_ANY, NULL, &e) == 0 &&
           a.revision != b.revision,
       "again");
    struct store_move_page h;
    need(store_alias_history(&h, s, STORE_MODEL, "net", "best", 0, 3, &e) == 0, "%s", e.text);
    ok(h.n == 3 && h.next > 0, "first page");
    ok(h.items[0].to == 1 && h.items[0].from == 0 && h.items[1].to == 0 && h.items[1].from == 2, "newest first");
    ok(!strcmp(h.items[2].who, "bob") && h.items[2].from == 1 && h.items[2].to == 2 && h.items[2].at == clock_now,
       "who");
    int64_t next = h.next;
    store_move_page_fini(&h);
    need(store_alias_history(&h, s, STORE_MODEL, "net", "best", next, 3, &e) == 0, "%s", e.text);
    ok(h.n == 1 && h.next == 0 && h.items[0].to == 1, "second page");
    store_move_page_fini(&h);
    struct store_alias_page all;
    ok(store_alias_list(&all, s, STORE_MODEL, "net", &e) == 0 && all.n == 1 && !strcmp(all.items[0].alias, "best"),
       "list");
    store_alias_page_fini(&all);
    store_close(s);
}

TEST(every_change_gives_a_new_revision) {
    struct store *s = folder_open();
    struct store_name before, after;
    struct store_alias a;
    struct store_tags tags = {.tag = {"vision", "small", "small"}, .n = 3};
    small_model(s, "net", 1);
    need(store_name_get(&before, s, STORE_MODEL, "net", NULL) == 0, "get");
    clock_now += 5;
#define CHANGED(what) \
    ok(store_name_get(&after, s, STORE_MODEL, "net", NULL) == 0 && after.revision > before.revision, what); \
    before = after
    small_model(s, "net", 2);
    CHANGED("a version");
    ok(before.changed_at == clock_now && before.created_at == clock_now - 5, "times");
    store_alias_set(&a, s, STORE_MODEL, "net", "best", 1, 0, NULL, NULL);
    CHANGED("an alias");
    ok(store_tags_set(s, STORE_MODEL, "net", &tags, NULL) == 0, "tags");
    CHANGED("tags");
    store_delete(NULL, s, STORE_MODEL, "net@1", NULL);
    CHANGED("a deletion");
    store_close(s);
}

TEST(tags_filter_lists) {
    struct store *s = folder_open();
    struct store_tags tags = {.tag = {"vision", "small", "small"}, .n = 3}, got;
    small_model(s, "a", 1);
    small_model(s, "b", 2);
    ok(store_tags_set(s, STORE_MODEL, "a", &tags, NULL) == 0, "set");
    ok(store_tags_get(&got, s, STORE_MODEL, "a", NULL) == 0 && got.n == 2 && !strcmp(got.tag[0], "small"), "get");
    struct store_name_page page;
    const struct store_name_query q = {.tag = "vision", .limit = 10};
    ok(store_name_list(&page, s, STORE_MODEL, &q, NULL) == 0 && page.n == 1 && !strcmp(page.items[0].name, "a"),
       "filter");
    store_name_page_fini(&page);
    tags.n = 1;
    ok(store_tags_set(s, STORE_MODEL, "a", &tags, NULL) == 0 && store_tags_get(&got, s, STORE_MODEL, "a", NULL) == 0 &&
           got.n == 1,
       "replaced");
    snprintf(tags.tag[0], sizeof tags.tag[0], "No");
    ok(store_tags_set(s, STORE_MODEL, "a", &tags, NULL) == E_INVALID, "a bad one");
    ok(store_tags_set(s, STORE_MODEL, "none", &got, NULL) == E_NOT_FOUND, "no such model");
    store_close(s);
}

TEST(deleting_versions) {
    struct store *s = folder_open();
    struct store_alias a;
    struct store_version v;
    struct store_name name;
    struct err e = {0};
    int64_t n;
    for (uint64_t i = 1; i <= 3; i++) small_model(s, "net", i);
    store_alias_set(&a, s, STORE_MODEL, "net", "best", 3, 0, NULL, NULL);
    ok(store_delete(&n, s, STORE_MODEL, "net@best", &e) == 0 && n == 1, "one: %s", e.text);
    ok(store_resolve(&v, s, STORE_MODEL, "net", &e) == 0 && v.number == 2, "the latest is the one before");
    ok(store_alias_get(&a, s, STORE_MODEL, "net", "best", NULL) == E_NOT_FOUND, "its alias went too");
    struct store_move_page h;
    ok(store_alias_history(&h, s, STORE_MODEL, "net", "best", 0, 10, &e) == 0 && h.n == 2 && h.items[0].to == 0,
       "and that is in the history");
    store_move_page_fini(&h);
    ok(small_model(s, "net", 4).number == 4, "numbers are not used again");
    ok(store_delete(&n, s, STORE_MODEL, "net", &e) == 0 && n == 3, "all: %s", e.text);
    ok(store_name_get(&name, s, STORE_MODEL, "net", NULL) == E_NOT_FOUND, "gone");
    ok(store_delete(&n, s, STORE_MODEL, "net", NULL) == E_NOT_FOUND && n == 0, "twice");
    ok(small_model(s, "net", 5).number == 5, "not even then");
    ok(store_name_get(&name, s, STORE_MODEL, "net", NULL) == 0 && name.versions == 1, "one again");
    store_close(s);
}

TEST(what_a_job_uses_stays) {
    struct store *s = folder_open();
    struct err e = {0};
    int64_t input = small_model(s, "net", 1).id, job;
    small_model(s, "net", 2);
    const struct store_job_new new_job = {.method = "distill", .spec = "{}", .inputs = &input, .n_inputs = 1};
    need(store_job_create(&job, NULL, s, &new_job, &e) == 0, "%s", e.text);
    ok(store_delete(NULL, s, STORE_MODEL, "net@1", &e) == E_CONFLICT && strstr(e.text, "job 1"), "%s", e.text);
    ok(store_delete(NULL, s, STORE_MODEL, "net", NULL) == E_CONFLICT, "with all");
    ok(store_delete(NULL, s, STORE_MODEL, "net@2", NULL) == 0, "the other may go");
    struct store_lease lease = claim(s, "w");
    ok(store_delete(NULL, s, STORE_MODEL, "net@1", NULL) == E_CONFLICT, "while it runs");
    ok(store_lease_fail(s, &lease, "{}", NULL) == 0, "it ends");
    ok(store_delete(NULL, s, STORE_MODEL, "net@1", NULL) == 0, "now it may go");
    ok(store_job_retry(s, job, &e) == E_CONFLICT, "and then the job cannot be tried again: %s", e.text);
    ok(store_job_create(&job, NULL, s, &new_job, NULL) == E_NOT_FOUND && job == 0, "nor a new one be made");
    store_close(s);
}

TEST_MAIN
