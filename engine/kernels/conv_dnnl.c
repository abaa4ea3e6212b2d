/* conv_dnnl.c - convolutions by oneDNN's C API (2.6), channels last, one-thread primitives.
 *
 * Primitives may run in several threads at once as long as each brings its own memory objects
 * and scratchpad, so those exist once per thread. The double build has no oneDNN. */
#include "engine/kernels/conv.h"

#include <dnnl.h>
#include <string.h>

#include "base/memory.h"
#include "engine/kernels/blas.h"

enum { FORWARD, BACKWARD_DATA, BACKWARD_WEIGHTS, DIRECTIONS };

/* The memory objects of one thread: their addresses are set before each call. */
struct thread_memory {
    dnnl_memory_t x, y, residual, weights[DIRECTIONS], bias, scratch[DIRECTIONS];
    dnnl_stream_t stream;
};

/* A copy of weights from one order into another, by one thread at a time. */
struct reorder {
    dnnl_primitive_t run;
    dnnl_memory_t from, to;
};

struct conv {
    struct conv_uses uses;
    dnnl_primitive_t run[DIRECTIONS];
    dnnl_memory_desc_t weights[DIRECTIONS], plain; /* packed orders; ONNX order */
    size_t packed[DIRECTIONS], scratch;            /* bytes */
    bool slow[DIRECTIONS];                         /* oneDNN has its reference loops only */
    struct thread_memory *threads;
    struct reorder pack, pack_backward, unpack, unpack_add;
};

/* The one engine of the process; oneDNN's is safe to share. */
static dnnl_engine_t the_engine(void) {
    static dnnl_engine_t engine;
    if (!engine) {
        blas_enter_thread();
        if (dnnl_engine_create(&engine, dnnl_cpu, 0)) return NULL;
    }
    return engine;
}

struct description {
    dnnl_memory_desc_t x, y, weights, bias;
    dnnl_dims_t strides, dilates, pad_begin, pad_end;
};

static int describe(struct description *d, struct conv *c, const struct conv_shape *s) {
    dnnl_dims_t x = {s->n, s->in_channels, s->in_height, s->in_width};
    dnnl_dims_t y = {s->n, s->out_channels, s->out_height, s->out_width};
    dnnl_dims_t w = {s->out_channels, s->in_channels, s->kernel_height, s->kernel_width};
    dnnl_dims_t wg = {s->groups, s->out_channels / s->groups, s->in_channels / s->groups, s->kernel_height,
                      s->kernel_width};
    dnnl_dims_t b = {s->out_channels};
    bool grouped = s->groups > 1;
    memcpy(d->strides, (dnnl_dims_t){s->stride_height, s->stride_width}, sizeof d->strides);
    memcpy(d->dilates, (dnnl_dims_t){s->dilation_height - 1, s->dilation_width - 1}, sizeof d->dilates);
    memcpy(d->pad_begin, (dnnl_dims_t){s->pad_top, s->pad_left}, sizeof d->pad_begin);
    memcpy(d->pad_end, (dnnl_dims_t){s->pad_bottom, s->pad_right}, sizeof d->pad_end);
    return dnnl_memory_desc_init_by_tag(&d->x, 4, x, dnnl_f32, dnnl_nhwc) ||
           dnnl_memory_desc_init_by_tag(&d->y, 4, y, dnnl_f32, dnnl_nhwc) ||
           dnnl_memory_desc_init_by_tag(&d->bias, 1, b, dnnl_f32, dnnl_x) ||
           dnnl_memory_desc_init_by_tag(&d->weights, grouped ? 5 : 4, grouped ? wg : w, dnnl_f32,
                                        dnnl_format_tag_any) ||
           dnnl_memory_desc_init_by_tag(&c->plain, grouped ? 5 : 4, grouped ? wg : w, dnnl_f32,
                                        grouped ? dnnl_goihw : dnnl_oihw);
}

static dnnl_status_t describe_direction(dnnl_convolution_desc_t *out, int direction, struct description *d,
                                        const struct conv_uses *uses) {
    const dnnl_memory_desc_t *bias = uses->bias ? &d->bias : NULL;
    const dnnl_memory_desc_t *weights = uses->like ? &uses->like->weights[direction] : &d->weights;
    if (direction == FORWARD)
        return dnnl_dilated_convolution_forward_desc_init(
            out, uses->backward_weights ? dnnl_forward_training : dnnl_forward_inference, dnnl_convolution_direct,
            &d->x, weights, bias, &d->y, d->strides, d->dilates, d->pad_begin, d->pad_end);
    if (direction == BACKWARD_DATA)
        return dnnl_dilated_convolution_backward_data_desc_init(out, dnnl_convolution_direct, &d->x, weights, &d->y,
                                                                d->strides, d->dilates, d->pad_begin, d->pad_end);
    return dnnl_dilated_convolution_backward_weights_desc_init(out, dnnl_convolution_direct, &d->x, weights, bias,
                                                               &d->y, d->strides, d->dilates, d->pad_begin, d->pad_end);
}

static dnnl_status_t choose_attributes(dnnl_primitive_attr_t *out, const dnnl_memory_desc_t *residual, bool relu) {
    dnnl_post_ops_t after = NULL;
    dnnl_status_t status = dnnl_primitive_attr_create(out);
    if (!status) status = dnnl_primitive_attr_set_scratchpad_mode(*out, dnnl_scratchpad_mode_user);
    if (status || !(relu || residual)) return status;
    status = dnnl_post_ops_create(&after);
    if (!status && residual) status = dnnl_post_ops_append_binary(after, dnnl_binary_add, residual);
    if (!status && relu) status = dnnl_post_ops_append_eltwise(after, 1, dnnl_eltwise_relu, 0, 0);
    if (!status) status = dnnl_primitive_attr_set_post_ops(*out, after);
    if (after) dnnl_post_ops_destroy(after);
    return status;
}

static const int weights_query[DIRECTIONS] = {dnnl_query_weights_md, dnnl_query_weights_md, dnnl_query_diff_weights_md};

static dnnl_status_t look_up_speed(bool *slow, dnnl_primitive_desc_t found) {
    const char *name;
    dnnl_status_t status = dnnl_primitive_desc_query(found, dnnl_query_impl_info_str, 0, &name);
    if (!status) *slow = strncmp(name, "ref", 3) == 0;
    return status;
}

/* Makes the primitive of one direction and each thread's memory objects for it. `hint` is the
 * forward description, kept open until the last direction. */
static dnnl_status_t open_direction(struct conv *c, int direction, struct description *d, dnnl_primitive_desc_t *hint) {
    dnnl_convolution_desc_t wanted;
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_primitive_desc_t found = NULL;
    dnnl_status_t status = describe_direction(&wanted, direction, d, &c->uses);
    bool forward = direction == FORWARD;
    if (!status)
        status = choose_attributes(&attributes, forward && c->uses.residual ? &d->y : NULL, forward && c->uses.relu);
    if (!status) status = dnnl_primitive_desc_create(&found, &wanted, attributes, the_engine(), *hint);
    if (!status) status = look_up_speed(&c->slow[direction], found);
    if (!status && c->slow[direction] && c->uses.like && !c->uses.like->slow[direction]) status = dnnl_unimplemented;
    if (!status) status = dnnl_primitive_create(&c->run[direction], found);
    if (attributes) dnnl_primitive_attr_destroy(attributes);
    if (status) {
        if (found) dnnl_primitive_desc_destroy(found);
        return status;
    }
    c->weights[direction] = *dnnl_primitive_desc_query_md(found, weights_query[direction], 0);
    c->packed[direction] = dnnl_memory_desc_get_size(&c->weights[direction]);
    const dnnl_memory_desc_t *scratch = dnnl_primitive_desc_query_md(found, dnnl_query_scratchpad_md, 0);
    size_t bytes = dnnl_memory_desc_get_size(scratch);
    c->scratch = bytes > c->scratch ? bytes : c->scratch;
    for (int t = 0; t < c->uses.threads && !status; t++) {
        struct thread_memory *m = &c->threads[t];
        status = dnnl_memory_create(&m->weights[direction], &c->weights[direction], the_engine(), DNNL_MEMORY_NONE);
        if (!status) status = dnnl_memory_create(&m->scratch[direction], scratch, the_engine(), DNNL_MEMORY_NONE);
    }
    if (direction == FORWARD)
        *hint = found;
    else
        dnnl_primitive_desc_destroy(found);
    return status;
}

static dnnl_status_t open_threads(struct conv *c, const struct description *d) {
    dnnl_status_t status = dnnl_success;
    for (int t = 0; t < c->uses.threads && !status; t++) {
        struct thread_memory *m = &c->threads[t];
        status = dnnl_stream_create(&m->stream, the_engine(), dnnl_stream_default_flags);
        if (!status) status = dnnl_memory_create(&m->x, &d->x, the_engine(), DNNL_MEMORY_NONE);
        if (!status) status = dnnl_memory_create(&m->y, &d->y, the_engine(), DNNL_MEMORY_NONE);
        if (!status) status = dnnl_memory_create(&m->residual, &d->y, the_engine(), DNNL_MEMORY_NONE);
        if (!status) status = dnnl_memory_create(&m->bias, &d->bias, the_engine(), DNNL_MEMORY_NONE);
    }
    return status;
}

static dnnl_status_t reorder_attributes(dnnl_primitive_attr_t *out, bool add) {
    dnnl_post_ops_t after = NULL;
    dnnl_status_t status = dnnl_primitive_attr_create(out);
    if (status || !add) return status;
    status = dnnl_post_ops_create(&after);
    if (!status) status = dnnl_post_ops_append_sum(after, 1);
    if (!status) status = dnnl_primitive_attr_set_post_ops(*out, after);
    if (after) dnnl_post_ops_destroy(after);
    return status;
}

static dnnl_status_t open_reorder(struct reorder *r, const dnnl_memory_desc_t *from, const dnnl_memory_desc_t *to,
                                  bool add) {
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_primitive_desc_t found = NULL;
    dnnl_status_t status = reorder_attributes(&attributes, add);
    if (!status) status = dnnl_reorder_primitive_desc_create(&found, from, the_engine(), to, the_engine(), attributes);
    if (!status) status = dnnl_primitive_create(&r->run, found);
    if (!status) status = dnnl_memory_create(&r->from, from, the_engine(), DNNL_MEMORY_NONE);
    if (!status) status = dnnl_memory_create(&r->to, to, the_engine(), DNNL_MEMORY_NONE);
    if (found) dnnl_primitive_desc_destroy(found);
    if (attributes) dnnl_primitive_attr_destroy(attributes);
    return status;
}

static void close_reorder(struct reorder *r) {
    if (r->from) dnnl_memory_destroy(r->from);
    if (r->to) dnnl_memory_destroy(r->to);
    if (r->run) dnnl_primitive_destroy(r->run);
}

static dnnl_status_t open_reorders(struct conv *c) {
    const dnnl_memory_desc_t *gradient = &c->weights[BACKWARD_WEIGHTS];
    dnnl_status_t status = open_reorder(&c->pack, &c->plain, &c->weights[FORWARD], false);
    if (!status && c->uses.backward_data)
        status = open_reorder(&c->pack_backward, &c->plain, &c->weights[BACKWARD_DATA], false);
    if (!status && c->uses.backward_weights) status = open_reorder(&c->unpack, gradient, &c->plain, false);
    if (!status && c->uses.backward_weights) status = open_reorder(&c->unpack_add, gradient, &c->plain, true);
    return status;
}

static void dnnl_conv_close(struct conv *c) {
    if (!c) return;
    close_reorder(&c->pack);
    close_reorder(&c->pack_backward);
    close_reorder(&c->unpack);
    close_reorder(&c->unpack_add);
    for (int t = 0; c->threads && t < c->uses.threads; t++) {
        struct thread_memory *m = &c->threads[t];
        dnnl_memory_t all[] = {m->x,          m->y,          m->residual,   m->bias,       m->weights[0],
                               m->weights[1], m->weights[2], m->scratch[0], m->scratch[1], m->scratch[2]};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            if (all[i]) dnnl_memory_destroy(all[i]);
        if (m->stream) dnnl_stream_destroy(m->stream);
    }
    for (int d = 0; d < DIRECTIONS; d++)
        if (c->run[d]) dnnl_primitive_destroy(c->run[d]);
    mem_free(c->threads);
    mem_free(c);
}

/* Whether padding goes farther than a kernel spans, or a kernel spans more than there is: oneDNN 2.6 forgets to add the
 * residual to windows that lie wholly in the padding, and to some that reach into it on both sides. */
static bool reaches_beyond(int in, int kernel, int dilation, int before, int after) {
    int span = (kernel - 1) * dilation;
    return before > span || after > span || (kernel > 1 && span >= in);
}

static bool forgets_residual(const struct conv_shape *s) {
    return reaches_beyond(s->in_height, s->kernel_height, s->dilation_height, s->pad_top, s->pad_bottom) ||
           reaches_beyond(s->in_width, s->kernel_width, s->dilation_width, s->pad_left, s->pad_right);
}

static int dnnl_conv_open(struct conv **out, const struct conv_shape *shape, const struct conv_uses *uses,
                          struct err *e) {
    if (sizeof(real) != sizeof(float) || !the_engine())
        return err_set(e, E_UNSUPPORTED, "oneDNN computes in float only");
    if (uses->residual && forgets_residual(shape))
        return err_set(e, E_UNSUPPORTED, "oneDNN does not add the residual everywhere");
    struct conv *c = mem_calloc(1, sizeof *c);
    if (!c) return err_memory(e, sizeof *c);
    c->uses = *uses;
    c->threads = mem_calloc((size_t)uses->threads, sizeof *c->threads);
    if (!c->threads) {
        mem_free(c);
        return err_memory(e, (size_t)uses->threads * sizeof *c->threads);
    }
    struct description d;
    dnnl_primitive_desc_t hint = NULL;
    bool failed = describe(&d, c, shape) || open_threads(c, &d) || open_direction(c, FORWARD, &d, &hint);
    if (!failed && uses->backward_data) failed = open_direction(c, BACKWARD_DATA, &d, &hint) != dnnl_success;
    if (!failed && uses->backward_weights) failed = open_direction(c, BACKWARD_WEIGHTS, &d, &hint) != dnnl_success;
    if (hint) dnnl_primitive_desc_destroy(hint);
    failed = failed || open_reorders(c);
    if (failed) {
        dnnl_conv_close(c);
        return err_set(e, E_UNSUPPORTED, "oneDNN refuses this convolution");
    }
    *out = c;
    return 0;
}

static size_t reals(size_t bytes) {
    return (bytes + sizeof(real) - 1) / sizeof(real);
}

static struct conv_sizes dnnl_conv_sizes(const struct conv *c) {
    return (struct conv_sizes){
        .packed = reals(c->packed[FORWARD]),
        .packed_backward = reals(c->packed[BACKWARD_DATA]),
        .gradient = reals(c->packed[BACKWARD_WEIGHTS]),
        .scratch = reals(c->scratch),
        .rows = 1,
    };
}

static void point(dnnl_memory_t memory, const real *data) {
    dnnl_memory_set_data_handle(memory, (void *)(size_t)data);
}

static void reorder(struct conv *c, struct reorder *r, const real *from, real *to) {
    point(r->from, from);
    point(r->to, to);
    dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, r->from}, {DNNL_ARG_TO, r->to}};
    dnnl_primitive_execute(r->run, c->threads[0].stream, 2, arguments);
}

static void dnnl_conv_pack(struct conv *c, const real *weights, real *packed) {
    reorder(c, &c->pack, weights, packed);
}

static void dnnl_conv_pack_backward(struct conv *c, const real *weights, real *packed) {
    reorder(c, &c->pack_backward, weights, packed);
}

static void dnnl_conv_unpack(struct conv *c, const real *gradient, real *dw, bool add) {
    reorder(c, add ? &c->unpack_add : &c->unpack, gradient, dw);
}

static void dnnl_conv_forward(struct conv *c, int thread, const real *x, const real *packed, const real *bias,
                              const real *residual, real *y, real *scratch) {
    struct thread_memory *m = &c->threads[thread];
    point(m->x, x), point(m->y, y), point(m->weights[FORWARD], packed), point(m->scratch[FORWARD], scratch);
    dnnl_exec_arg_t arguments[6] = {{DNNL_ARG_SRC, m->x},
                                    {DNNL_ARG_WEIGHTS, m->weights[FORWARD]},
                                    {DNNL_ARG_DST, m->y},
                                    {DNNL_ARG_SCRATCHPAD, m->scratch[FORWARD]}};
    int n = 4;
    if (bias) {
        point(m->bias, bias);
        arguments[n++] = (dnnl_exec_arg_t){DNNL_ARG_BIAS, m->bias};
    }
    if (residual) {
        point(m->residual, residual);
        arguments[n++] = (dnnl_exec_arg_t){DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1, m->residual};
    }
    dnnl_primitive_execute(c->run[FORWARD], m->stream, n, arguments);
}

static void dnnl_conv_backward_data(struct conv *c, int thread, const real *dy, const real *packed, real *dx,
                                    real *scratch) {
    struct thread_memory *m = &c->threads[thread];
    point(m->x, dx), point(m->y, dy), point(m->weights[BACKWARD_DATA], packed);
    point(m->scratch[BACKWARD_DATA], scratch);
    dnnl_exec_arg_t arguments[] = {{DNNL_ARG_DIFF_SRC, m->x},
                                   {DNNL_ARG_WEIGHTS, m->weights[BACKWARD_DATA]},
                                   {DNNL_ARG_DIFF_DST, m->y},
                                   {DNNL_ARG_SCRATCHPAD, m->scratch[BACKWARD_DATA]}};
    dnnl_primitive_execute(c->run[BACKWARD_DATA], m->stream, 4, arguments);
}

static void dnnl_conv_backward_weights(struct conv *c, int thread, const real *x, const real *dy, real *gradient,
                                       real *d_bias, real *scratch) {
    struct thread_memory *m = &c->threads[thread];
    point(m->x, x), point(m->y, dy), point(m->weights[BACKWARD_WEIGHTS], gradient);
    point(m->scratch[BACKWARD_WEIGHTS], scratch);
    if (d_bias) point(m->bias, d_bias);
    dnnl_exec_arg_t arguments[] = {{DNNL_ARG_SRC, m->x},
                                   {DNNL_ARG_DIFF_WEIGHTS, m->weights[BACKWARD_WEIGHTS]},
                                   {DNNL_ARG_DIFF_DST, m->y},
                                   {DNNL_ARG_SCRATCHPAD, m->scratch[BACKWARD_WEIGHTS]},
                                   {DNNL_ARG_DIFF_BIAS, m->bias}};
    dnnl_primitive_execute(c->run[BACKWARD_WEIGHTS], m->stream, d_bias ? 5 : 4, arguments);
}

extern const struct conv_backend conv_dnnl;
const struct conv_backend conv_dnnl = {
    .name = "dnnl",
    .open = dnnl_conv_open,
    .close = dnnl_conv_close,
    .sizes = dnnl_conv_sizes,
    .pack = dnnl_conv_pack,
    .pack_backward = dnnl_conv_pack_backward,
    .forward = dnnl_conv_forward,
    .backward_data = dnnl_conv_backward_data,
    .backward_weights = dnnl_conv_backward_weights,
    .unpack = dnnl_conv_unpack,
};
