/* Embedding, composing and merging convolution weights. */
#include "engine/surgery/filter.h"

#include "tests/base/starve.h"
#include "tests/engine/images.h"

TEST(embedding_and_cropping) {
    struct filter f = filter_noise(2, 3, 3, 2, 1), wide, back;
    struct err e = {0};
    need(filter_embed(&wide, &f, 5, 5, &e) == 0, "%s", e.text);
    ok(wide.data[1 * 5 + 1] == f.data[0] && wide.data[1 * 5 + 3] == 0, "in the middle, earlier when there is none");
    int margins[4];
    filter_margins(margins, &wide);
    ok(margins[0] == 1 && margins[1] == 1 && margins[2] == 1 && margins[3] == 2, "%d %d %d %d", margins[0], margins[1],
       margins[2], margins[3]);
    need(filter_crop(&back, &wide, 3, 2, 1, 1, &e) == 0, "%s", e.text);
    ok(filter_error(&back, &f) == 0, "and back");
    filter_fini(&wide), filter_fini(&back);
    need(filter_embed_at(&wide, &f, 4, 4, 1, 2, &e) == 0, "%s", e.text);
    ok(wide.data[1 * 4 + 2] == f.data[0], "at an offset");
    filter_fini(&wide);
    ok(filter_embed(&wide, &f, 2, 2, &e) == E_UNSUPPORTED && strstr(e.text, "3 by 2"), "%s", e.text);
    err_clear(&e);
    ok(filter_embed_at(&wide, &f, 4, 4, 2, 0, NULL) == E_UNSUPPORTED, "beyond the end");
    ok(filter_embed_at(&wide, &f, 4, 4, -1, 0, NULL) == E_UNSUPPORTED, "before the beginning");
    ok(filter_init(&wide, 1 << 20, 1 << 20, 3, 3, NULL) == E_TOO_LARGE, "too large");
    ok(filter_init(&wide, 1, 0, 3, 3, NULL) == E_INVALID, "nothing");
    filter_fini(&f);
}

/* A convolution with a larger kernel: section 8 of Network Morphism. */
TEST(larger_kernels_do_the_same) {
    struct image x = image_noise(2, 9, 8, 2);
    struct filter f = filter_noise(3, 2, 3, 1, 3), wide;
    for (int stride = 1; stride <= 2; stride++)
        for (int dilation = 1; dilation <= 2; dilation++) {
            struct filter_window w = {{stride, stride}, {dilation, dilation}, {0, 1}, {1, 0}}, more = w;
            need(filter_embed(&wide, &f, 5, 5, NULL) == 0, "embeds");
            for (int a = 0; a < 2; a++) more.begin[a] += (a ? 2 : 1) * dilation, more.end[a] += (a ? 2 : 1) * dilation;
            struct image y = image_convolved(&x, &f, &w, NULL), z = image_convolved(&x, &wide, &more, NULL);
            ok(image_error(&y, &z, 0) == 0, "stride %d dilation %d: %g", stride, dilation, image_error(&y, &z, 0));
            mem_free(y.data), mem_free(z.data);
            filter_fini(&wide);
        }
    mem_free(x.data);
    filter_fini(&f);
}

struct chain_case {
    int h1, w1, h2, w2;
    struct filter_window window1, window2;
    bool bias, exact;
};

/* Error over the whole map and over the interior of two convolutions against the merged one. */
static void check_chain(const struct chain_case *c) {
    struct filter first = filter_noise(4, 3, c->h1, c->w1, 5), second = filter_noise(2, 4, c->h2, c->w2, 6);
    double bias1[4] = {1, -2, 3, 0.5}, bias2[2] = {0.25, -1};
    const double *b1 = c->bias ? bias1 : NULL, *b2 = c->bias ? bias2 : NULL;
    struct filter_chain merged;
    struct err e = {0};
    need(filter_chain(&merged, &first, &c->window1, b1, &second, &c->window2, b2, &e) == 0, "%s", e.text);
    for (int size = 17; size <= 20; size++) {
        struct image x = image_noise(3, size, size + 2, 7), l = image_convolved(&x, &first, &c->window1, b1);
        struct image y = image_convolved(&l, &second, &c->window2, b2);
        struct image z = image_convolved(&x, &merged.filter, &merged.window, merged.bias);
        double whole = image_error(&y, &z, 0), inside = image_error(&y, &z, 3);
        ok(EXACT(inside), "%dx%d %dx%d: inside %g", c->h1, c->w1, c->h2, c->w2, inside);
        ok(EXACT(whole) == c->exact && (c->exact || whole > 0.1), "%dx%d %dx%d pads %d %d: whole map %g", c->h1, c->w1,
           c->h2, c->w2, c->window1.begin[0], c->window2.begin[0], whole);
        mem_free(x.data), mem_free(l.data), mem_free(y.data), mem_free(z.data);
    }
    ok(merged.exact == c->exact, "%dx%d %dx%d: exact said %d", c->h1, c->w1, c->h2, c->w2, merged.exact);
    filter_chain_fini(&merged);
    filter_fini(&first), filter_fini(&second);
}

#define WINDOW(stride, dilation, pad) \
    { \
        {stride, stride}, {dilation, dilation}, {pad, pad}, { \
            pad, pad \
        } \
    }

TEST(chains_merge) {
    static const struct chain_case cases[] = {
        {3, 3, 3, 3, WINDOW(2, 1, 1), WINDOW(1, 1, 0), true, true}, /* (K1,K2,s1,s2) of the tables */
        {3, 3, 2, 2, WINDOW(2, 1, 1), WINDOW(1, 1, 0), true, true},
        {3, 3, 3, 3, WINDOW(1, 1, 1), WINDOW(2, 1, 0), true, true},
        {1, 1, 3, 3, WINDOW(2, 1, 0), WINDOW(1, 1, 0), true, true},
        {3, 3, 3, 3, WINDOW(2, 1, 1), WINDOW(2, 1, 0), true, true},
        {3, 3, 3, 3, WINDOW(1, 2, 1), WINDOW(1, 2, 0), true, true}, /* dilations */
        {3, 3, 3, 3, WINDOW(1, 1, 1), WINDOW(1, 2, 0), true, true},
        {3, 3, 3, 3, WINDOW(2, 2, 1), WINDOW(1, 1, 0), true, true},
        {3, 3, 3, 3, WINDOW(2, 3, 1), WINDOW(2, 1, 0), true, true},
        {3, 1, 1, 3, WINDOW(1, 1, 0), WINDOW(1, 1, 0), true, true},
        {1, 1, 3, 3, WINDOW(1, 1, 0), WINDOW(1, 1, 1), false, true}, /* padding in between */
        {1, 1, 3, 3, WINDOW(2, 1, 0), WINDOW(1, 1, 1), false, true},
        {1, 1, 3, 3, WINDOW(1, 1, 0), WINDOW(1, 1, 1), true, false},
        {3, 3, 3, 3, WINDOW(1, 1, 1), WINDOW(1, 1, 1), false, false},
        {3, 3, 3, 3, WINDOW(1, 1, 2), WINDOW(1, 1, 0), true, true},
        {3, 3, 3, 3, WINDOW(1, 1, 2), WINDOW(1, 1, 2), false, true}, /* the first has given all it has */
        {3, 3, 3, 3, WINDOW(2, 1, 2), WINDOW(1, 1, 1), false, true},
        {3, 3, 1, 1, WINDOW(1, 1, 1), WINDOW(1, 1, 0), true, true}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) check_chain(&cases[k]);
}

TEST(chains_say_when_padding_is_not_read) {
    struct filter first = filter_noise(4, 3, 3, 3, 5), small = filter_noise(2, 4, 1, 1, 6), second;
    struct filter_window w = window_padded(1);
    struct filter_chain merged;
    need(filter_embed(&second, &small, 3, 3, NULL) == 0, "embeds");
    need(filter_chain(&merged, &first, &w, NULL, &second, &w, NULL, NULL) == 0, "merges");
    ok(merged.exact, "the second reads its centre only");
    ok(merged.window.begin[0] == 2 && merged.filter.h == 5, "5x5 with a padding of 2");
    filter_chain_fini(&merged);
    w.stride[0] = 1 << 20;
    ok(filter_chain(&merged, &first, &w, NULL, &second, &w, NULL, NULL) == E_INVALID, "an absurd stride");
    ok(filter_compose(&small, &second, &first, NULL) == E_INVALID, "2 channels into 3");
    filter_fini(&first), filter_fini(&second);
}

/* Branches that meet in a sum: section 5 of shrinking. */
TEST(branches_add) {
    struct filter large = filter_noise(3, 3, 3, 3, 8), small = filter_noise(3, 3, 1, 1, 9), sum;
    struct image x = image_noise(3, 6, 7, 10);
    struct filter_window pad = window_padded(1), none = window_padded(0);
    struct image a = image_convolved(&x, &large, &pad, NULL), b = image_convolved(&x, &small, &none, NULL);
    need(filter_copy(&sum, &large, NULL) == 0 && filter_add(&sum, 2, &small, NULL) == 0, "adds");
    struct image c = image_convolved(&x, &sum, &pad, NULL);
    for (int i = 0; i < a.c * a.h * a.w; i++) a.data[i] += 2 * b.data[i];
    ok(EXACT(image_error(&a, &c, 0)), "%g", image_error(&a, &c, 0));
    ok(filter_add(&small, 1, &large, NULL) == E_UNSUPPORTED, "3x3 into 1x1");
    mem_free(x.data), mem_free(a.data), mem_free(b.data), mem_free(c.data);
    filter_fini(&large), filter_fini(&small), filter_fini(&sum);
}

static struct filter first, second;

static int merge(void) {
    double bias[4] = {1, 1, 1, 1};
    struct filter_window w = window_padded(1);
    struct filter_chain merged;
    struct filter wide;
    int status = filter_chain(&merged, &first, &w, bias, &second, &w, NULL, NULL);
    if (status) return status;
    status = filter_embed(&wide, &merged.filter, 7, 7, NULL);
    filter_chain_fini(&merged);
    filter_fini(&wide);
    return status;
}

TEST(starving) {
    first = filter_noise(4, 3, 3, 3, 5), second = filter_noise(2, 4, 3, 3, 6);
    starve("merging", merge);
    filter_fini(&first), filter_fini(&second);
}

TEST_MAIN
