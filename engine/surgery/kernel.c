/* kernel.c - larger kernels: the old one amid zeros, and padding to match (Network Morphism, Wei et al. 2016, section
 * on kernel size).
 *
 * With dilation d, growing from K to L taps takes d (L - K) / 2 more padding on either side; where K is even, L is odd and
 * the one tap more is at the end. An even L is refused: it has no centre, and its uneven padding is more than other tools
 * can have. Automatic padding becomes explicit first, since it would put the old taps elsewhere when there
 * is a stride. Exact for every stride, padding and group count. What an optimizer keeps of the weights is embedded
 * likewise, and so is what they came from; the shares of channels stay what they are. */
#include <string.h>

#include "base/memory.h"
#include "engine/nn/op.h"
#include "engine/nn/origin.h"
#include "engine/surgery/edit.h"

/* The size to come, by the layer's axes: a convolution of one axis has a height of 1. */
static int wished(int64_t size[2], const struct edit_layer *l, const struct morph_step *s, struct err *e) {
    size[0] = l->axes == 1 ? 1 : s->size[0];
    size[1] = s->size[1];
    if (l->axes == 1 && s->size[0] != 1 && s->size[0] != s->size[1])
        return err_set(e, E_INVALID, "it has one axis, and 'size' gives %lld by %lld", (long long)s->size[0],
                       (long long)s->size[1]);
    return 0;
}

static int read_step(struct edit_layer *l, struct edit_window *w, int64_t size[2], struct morphing *m, int node,
                     const struct morph_step *s, struct err *e) {
    const struct uses *u;
    int status = morphing_uses(&u, m, e);
    if (!status) status = edit_own_layer(l, m->graph, u, node, e);
    if (!status && l->axes == 0) status = err_set(e, E_UNSUPPORTED, "a dense layer has no kernel");
    if (!status) status = wished(size, l, s, e);
    return status ? status : edit_window(w, m->graph, l, e);
}

static int kernel_can(struct morphing *m, int node, const struct morph_step *s, struct err *e) {
    struct edit_layer l;
    struct edit_window w;
    int64_t size[2];
    int status = read_step(&l, &w, size, m, node, s, e);
    if (status) return status;
    if (size[0] < l.kernel[0] || size[1] < l.kernel[1])
        return err_set(e, E_INVALID, "its kernel is %lldx%lld, and %lldx%lld is smaller: that would lose weights",
                       (long long)l.kernel[0], (long long)l.kernel[1], (long long)size[0], (long long)size[1]);
    if (size[0] == l.kernel[0] && size[1] == l.kernel[1])
        return err_set(e, E_INVALID, "its kernel is %lldx%lld already", (long long)size[0], (long long)size[1]);
    for (int d = 0; d < 2; d++)
        if (size[d] % 2 == 0 && size[d] != l.kernel[d])
            return err_set(e, E_INVALID, "a kernel of %lldx%lld has no centre: sizes to grow to are odd",
                           (long long)size[0], (long long)size[1]);
    return 0;
}

/* One array of the weights amid zeros. */
static int embed(struct array **out, const struct array *a, const struct edit_layer *l, const int64_t size[2],
                 struct err *e) {
    struct shape shape = a->shape;
    int last = shape.rank - 1;
    size_t bytes = dtype_size(a->type), row = (size_t)l->kernel[1] * bytes, filters = 1;
    for (int d = 0; d < 2; d++) filters *= (size_t)shape.dim[d];
    shape.dim[last] = size[1];
    if (l->axes > 1) shape.dim[last - 1] = size[0];
    int status = array_new(out, a->type, &shape, e);
    if (status) return status;
    size_t top = (size_t)(size[0] - l->kernel[0]) / 2, left = (size_t)(size[1] - l->kernel[1]) / 2;
    for (size_t f = 0; f < filters; f++)
        for (size_t y = 0; y < (size_t)l->kernel[0]; y++)
            memcpy((char *)(*out)->data + ((f * (size_t)size[0] + top + y) * (size_t)size[1] + left) * bytes,
                   (const char *)a->data + (f * (size_t)l->kernel[0] + y) * row, row);
    return 0;
}

static int embed_in_place(struct array **a, const struct edit_layer *l, const int64_t size[2], struct err *e) {
    struct array *fresh;
    int status = *a ? embed(&fresh, *a, l, size, e) : 0;
    if (!*a || status) return status;
    array_free(*a);
    *a = fresh;
    return 0;
}

/* What a map [parts][from][channels and taps] gives, amid zeros. */
static int embed_map(struct array **slot, const struct edit_layer *l, const int64_t size[2], struct err *e) {
    struct array *map = *slot, *fresh;
    struct shape old = map->shape;
    int64_t taps = l->kernel[0] * l->kernel[1], channels = old.dim[2] / taps;
    map->shape = (struct shape){.rank = 4, .dim = {old.dim[0] * old.dim[1], channels, l->kernel[0], l->kernel[1]}};
    struct edit_layer by_two_axes = *l;
    by_two_axes.axes = 2;
    int status = embed(&fresh, map, &by_two_axes, size, e);
    map->shape = old;
    if (status) return status;
    fresh->shape = (struct shape){.rank = 3, .dim = {old.dim[0], old.dim[1], channels * size[0] * size[1]}};
    array_free(map);
    *slot = fresh;
    return 0;
}

/* Of a merger, whose layers stay as they are, the first tap moves; else the last map that changes kernels gives the new
 * one, or without any, what is kept itself grows. */
static int embed_origin(struct origin *o, const struct shape *carrier, const struct edit_layer *l,
                        const int64_t size[2], struct err *e) {
    struct merger *m = o->merger;
    if (m) {
        int status = origin_reals(&m->plan, e);
        if (!status) status = array_own(m->plan, e);
        for (int k = 0; k < 4 && !status; k++)
            if (k < 2 || ((real *)m->plan->data)[MERGER_IS_SUM] != 0)
                ((real *)m->plan->data)[MERGER_START + k] += (real)((size[k % 2] - l->kernel[k % 2]) / 2);
        return status;
    }
    for (int d = 0; d < 2; d++) {
        struct array *map = o->part[ORIGIN_MAP + d];
        int64_t parts = map && d == 0 ? map->shape.dim[0] : 1;
        const struct shape *old = &o->part[ORIGIN_WEIGHTS]->shape;
        if (map && !map_keeps_taps(map, old->dim[d] / parts, carrier->dim[d] / parts))
            return embed_map(&o->part[ORIGIN_MAP + d], l, size, e);
    }
    int status = 0;
    for (int k = 0; k < ORIGIN_SHARE && !status; k++) status = embed_in_place(&o->part[k], l, size, e);
    return status;
}

static int grow(struct morphing *m, int node, const struct morph_step *s, struct err *e) {
    struct array *weights = NULL, *memory[VALUE_MEMORIES] = {0}, *share[2] = {0};
    struct origin *origin = NULL;
    struct edit_layer l;
    struct edit_window w;
    int64_t size[2];
    int status = read_step(&l, &w, size, m, node, s, e);
    if (!status) status = edit_afford(m, (double)(l.out * l.in / l.group) * (double)(size[0] * size[1]), e);
    if (status) return status;
    struct value *v = &m->graph->values[l.weights];
    status = embed(&weights, v->constant, &l, size, e);
    for (int k = 0; k < VALUE_MEMORIES && !status; k++)
        if (v->memory[k]) status = embed(&memory[k], v->memory[k], &l, size, e);
    if (!status && v->origin) status = origin_clone(&origin, v->origin, e);
    if (!status && origin) status = embed_origin(origin, &v->constant->shape, &l, size, e);
    for (int d = 0; d < 2; d++) {
        int64_t more = size[d] - l.kernel[d];
        w.begin[d] += w.dilation[d] * (more / 2);
        w.end[d] += w.dilation[d] * (more - more / 2);
    }
    if (!status) status = edit_set_window(m->graph, node, l.axes, size, &w, e);
    if (status) {
        array_free(weights);
        origin_free(origin);
        for (int k = 0; k < VALUE_MEMORIES; k++) array_free(memory[k]);
        return status;
    }
    memcpy(share, v->share, sizeof share);
    memset(v->share, 0, sizeof v->share);
    graph_replace_constant_take(m->graph, l.weights, weights);
    memcpy(v->memory, memory, sizeof memory);
    memcpy(v->share, share, sizeof share);
    return origin ? origin_end(m->graph, l.weights, origin, 0, NULL, e) : 0;
}

static int kernel_apply(struct morphing *m, const int *nodes, int n, const struct morph_step *s, struct json_writer *w,
                        struct err *e) {
    (void)w;
    int status = 0;
    for (int i = 0; i < n && !status; i++) status = grow(m, nodes[i], s, e);
    return status ? status : morphing_finish(m, e);
}

static const char *const samples[] = {
    "{\"op\":\"kernel\",\"layer\":\"*\",\"size\":5}",
    "{\"op\":\"kernel\",\"layer\":\"*\",\"size\":[3,7]}",
    "{\"op\":\"kernel\",\"layer\":\"*\",\"size\":[7,5]}",
    NULL,
};

const struct morph_kind morph_kernel = {
    .name = "kernel",
    .summary = "a larger kernel: the old one in the middle of zeros, padded to match",
    .takes = "size",
    .needs = "size",
    .parametric = true,
    .samples = samples,
    .can = kernel_can,
    .apply = kernel_apply,
};
