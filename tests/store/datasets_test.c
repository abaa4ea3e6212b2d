#include "tests/store/folder.h"

static struct store_array array_of(struct store *s, const char *name, uint64_t seed) {
    struct store_blob blob = small_blob(s, seed);
    struct store_array a = {
        .dtype = "uint8", .rank = 3, .shape = {2, 4, 10}, .bytes = 80, .blob = blob.id, .offset = 20};
    char bytes[80];
    text_copy(a.name, sizeof a.name, name);
    pattern_fill(bytes, sizeof bytes, seed, 20);
    a.digest = digest_of(bytes, sizeof bytes);
    return a;
}

TEST(arrays_are_shared_between_versions) {
    struct store *s = folder_open();
    struct store_array inputs = array_of(s, "inputs", 1), labels = array_of(s, "labels", 2);
    struct store_version v;
    struct store_dataset d;
    struct err e = {0};
    bool existed;
    ok(store_dataset_put(&v, &existed, s, "fashion", &inputs, 1, &e) == 0 && v.number == 1 && !existed, "first: %s",
       e.text);
    ok(store_dataset_put(&v, &existed, s, "fashion", &labels, 1, &e) == 0 && v.number == 2 && v.bytes == 160,
       "second: %s", e.text);
    ok(store_dataset_put(&v, &existed, s, "fashion", &labels, 1, &e) == 0 && v.number == 2 && existed,
       "the same again");
    need(store_dataset_get(&d, s, "fashion", &e) == 0, "%s", e.text);
    const struct store_array *a = store_dataset_array(&d, "inputs");
    need(d.n == 2 && a, "both are there");
    ok(a->rank == 3 && a->shape[0] == 2 && a->shape[1] == 4 && a->shape[2] == 10 && !strcmp(a->dtype, "uint8"),
       "shape");
    ok(a->bytes == 80 && a->blob == inputs.blob && a->offset == 20 && digest_equal(&a->digest, &inputs.digest),
       "place");
    ok(!store_dataset_array(&d, "targets"), "no others");
    store_dataset_fini(&d);
    struct store_array other = array_of(s, "inputs", 3);
    ok(store_dataset_put(&v, NULL, s, "fashion", &other, 1, &e) == 0 && v.number == 3, "replaced");
    need(store_dataset_get(&d, s, "fashion@2", &e) == 0, "%s", e.text);
    ok(store_dataset_array(&d, "inputs")->blob == inputs.blob, "the old version has the old one");
    store_dataset_fini(&d);
    need(store_dataset_read(&d, s, v.id, &e) == 0, "%s", e.text);
    ok(store_dataset_array(&d, "inputs")->blob == other.blob && store_dataset_array(&d, "labels")->blob == labels.blob,
       "the new one both");
    store_dataset_fini(&d);
    ok(store_verify(s, &e) == 0, "%s", e.text);
    store_close(s);
}

TEST(digest_depends_on_contents_alone) {
    struct store *s = folder_open();
    struct store_array two[] = {array_of(s, "inputs", 1), array_of(s, "labels", 2)};
    struct store_version a, b, c;
    ok(store_dataset_put(&a, NULL, s, "one", two, 2, NULL) == 0, "one");
    struct store_array turned[] = {two[1], two[0]};
    ok(store_dataset_put(&b, NULL, s, "other", turned, 2, NULL) == 0 && digest_equal(&a.digest, &b.digest),
       "order does not matter");
    char want[400], x[DIGEST_HEX_SIZE], y[DIGEST_HEX_SIZE], hex[DIGEST_HEX_SIZE];
    digest_to_hex(x, &two[0].digest);
    digest_to_hex(y, &two[1].digest);
    snprintf(want, sizeof want, "inputs uint8 2,4,10 %s\nlabels uint8 2,4,10 %s\n", x, y);
    struct digest d = digest_of(want, strlen(want));
    ok(digest_equal(&d, &a.digest), "as the header says");
    digest_to_hex(hex, &d);
    snprintf(want, sizeof want, "other@sha256:%s", hex);
    ok(store_resolve(&c, s, STORE_DATASET, want, NULL) == 0 && c.id == b.id, "and it is a reference");
    store_close(s);
}

TEST(nonsense_is_refused) {
    struct store *s = folder_open();
    struct store_array good = array_of(s, "inputs", 1), bad;
    struct store_version v;
    struct err e = {0};
#define REFUSED(code, change, what) \
    bad = good; \
    change; \
    ok(store_dataset_put(&v, NULL, s, "d", &bad, 1, NULL) == (code) && v.id == 0, what)
    REFUSED(E_INVALID, bad.name[0] = '\0', "no name");
    REFUSED(E_INVALID, bad.name[1] = '/', "bad name");
    REFUSED(E_INVALID, memset(bad.name, 'a', sizeof bad.name), "endless name");
    REFUSED(E_INVALID, bad.dtype[0] = '\0', "no type");
    REFUSED(E_INVALID, bad.rank = 9, "rank 9");
    REFUSED(E_INVALID, bad.rank = -1, "rank -1");
    REFUSED(E_INVALID, bad.shape[0] = -1, "a negative dimension");
    REFUSED(E_INVALID, bad.offset = 21, "beyond the blob");
    REFUSED(E_INVALID, bad.offset = INT64_MAX, "far beyond");
    REFUSED(E_INVALID, bad.bytes = -1, "negative size");
    REFUSED(E_NOT_FOUND, bad.blob = 99, "no blob");
    const struct store_array twice[] = {good, good};
    ok(store_dataset_put(&v, NULL, s, "d", twice, 2, &e) == E_INVALID, "%s", e.text);
    ok(store_dataset_put(&v, NULL, s, "d", &good, 0, NULL) == E_INVALID, "nothing");
    ok(store_dataset_put(&v, NULL, s, "D", &good, 1, NULL) == E_INVALID, "bad name of the set");
    ok(store_resolve(&v, s, STORE_DATASET, "d", NULL) == E_NOT_FOUND, "nothing was made");
    bad = good;
    bad.rank = 0;
    bad.bytes = 0;
    ok(store_dataset_put(&v, NULL, s, "d", &bad, 1, NULL) == 0, "a scalar of nothing is fine");
    struct store_dataset d;
    ok(store_dataset_get(&d, s, "d", &e) == 0 && d.arrays[0].rank == 0, "and comes back: %s", e.text);
    store_dataset_fini(&d);
    ok(store_dataset_read(&d, s, small_model(s, "m", 1).id, NULL) == E_NOT_FOUND, "a model is none");
    store_close(s);
}

TEST(number_of_arrays_is_limited) {
    struct store *s = folder_open();
    struct store_array a = array_of(s, "x", 1);
    struct store_version v;
    struct store_dataset d;
    for (int i = 0; i < STORE_ARRAYS_MAX; i++) {
        snprintf(a.name, sizeof a.name, "x%d", i);
        if (store_dataset_put(&v, NULL, s, "d", &a, 1, NULL) != 0) break;
    }
    ok(v.number == STORE_ARRAYS_MAX, "as many as are allowed");
    snprintf(a.name, sizeof a.name, "more");
    ok(store_dataset_put(&v, NULL, s, "d", &a, 1, NULL) == E_TOO_LARGE, "one more");
    ok(store_dataset_get(&d, s, "d", NULL) == 0 && d.n == STORE_ARRAYS_MAX, "all come back");
    store_dataset_fini(&d);
    store_close(s);
}

TEST_MAIN
