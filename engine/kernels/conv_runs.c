/* conv_runs.c - convolutions from a few channels to one vector of them, forward: first layers of small networks. Of
 * channels-last data the taps of one kernel row lie side by side: a run of kernel width x channels numbers for every
 * result, which is multiplied by that many rows of weights. A library's blocks of 16 channels would be mostly empty. */
#include <string.h>

#include "base/memory.h"
#include "engine/kernels/conv.h"
#include "engine/kernels/vector.h"

enum { CHANNELS_MOST = 4, RUN_MOST = 16, PIXELS = 8 };

struct conv {
    struct conv_shape s;
    bool relu;
    size_t run;          /* numbers that one kernel row takes from a row of data */
    size_t row, padding; /* numbers of a padded row; before it begins */
};

static int runs_open(struct conv **out, const struct conv_shape *shape, const struct conv_uses *uses, struct err *e) {
    if (!vector_is_wide() || shape->in_channels > CHANNELS_MOST ||
        shape->in_channels * shape->kernel_width > RUN_MOST || shape->out_channels > LANES || shape->groups != 1 ||
        shape->dilation_width != 1 || uses->backward_weights || uses->backward_data)
        return err_set(e, E_UNSUPPORTED, "runs are for inference from up to %d channels to up to %d, by AVX-512",
                       CHANNELS_MOST, LANES);
    struct conv *c = mem_calloc(1, sizeof *c);
    if (!c) return err_memory(e, sizeof *c);
    *c = (struct conv){.s = *shape,
                       .relu = uses->relu,
                       .run = (size_t)(shape->kernel_width * shape->in_channels),
                       .row = (size_t)((shape->pad_left + shape->in_width + shape->pad_right) * shape->in_channels),
                       .padding = (size_t)(shape->pad_left * shape->in_channels)};
    *out = c;
    return 0;
}

static void runs_close(struct conv *c) {
    mem_free(c);
}

static struct conv_sizes runs_sizes(const struct conv *c) {
    return (struct conv_sizes){
        .packed = (size_t)c->s.kernel_height * c->run * LANES,
        .scratch = (size_t)(c->s.pad_top + c->s.in_height + c->s.pad_bottom) * c->row,
        .rows = 1,
    };
}

/* [out][in][height][width] to [height][width][in][out], filled up with zeros. */
static void runs_pack(struct conv *c, const real *weights, real *packed) {
    int taps = c->s.kernel_height * c->s.kernel_width, in = c->s.in_channels;
    memset(packed, 0, runs_sizes(c).packed * sizeof(real));
    for (int o = 0; o < c->s.out_channels; o++)
        for (int i = 0; i < in; i++)
            for (int t = 0; t < taps; t++) packed[(t * in + i) * LANES + o] = weights[(o * in + i) * taps + t];
}

/* The image with its padding, so that no run leaves it. */
static const real *padded(const struct conv *c, const real *x, real *scratch) {
    size_t filled = (size_t)(c->s.in_width * c->s.in_channels);
    if (filled == c->row && c->s.pad_top == 0 && c->s.pad_bottom == 0) return x;
    memset(scratch, 0, runs_sizes(c).scratch * sizeof(real));
    for (int r = 0; r < c->s.in_height; r++, x += filled)
        memcpy(scratch + (size_t)(c->s.pad_top + r) * c->row + c->padding, x, filled * sizeof(real));
    return scratch;
}

/* One row of results, of n channels. */
struct line {
    const real *x;    /* where the first result's window begins */
    size_t step;      /* from window to window */
    size_t run, down; /* length of a run; from one to the next below */
    int height;       /* runs of a window */
    const real *weights;
    vec bias;
    const real *residual; /* NULL: none */
    real *y;
    bool relu;
};

/* Results [first, first + pixels) of the line. */
INLINE void results(const struct line *l, int first, int pixels, int n) {
    vec sums[PIXELS], weights;
    const real *x = l->x + (size_t)first * l->step, *w = l->weights;
    for (int p = 0; p < pixels; p++) sums[p] = l->bias;
    for (int h = 0; h < l->height; h++, x += l->down)
        for (size_t i = 0; i < l->run; i++, w += LANES) {
            load(&weights, w);
            for (int p = 0; p < pixels; p++) sums[p] += x[(size_t)p * l->step + i] * weights;
        }
    for (int p = 0; p < pixels; p++) {
        size_t at = (size_t)(first + p) * (size_t)n;
        vec more = {0};
        if (l->residual) load_some(&more, l->residual + at, n);
        sums[p] += more;
        if (l->relu) sums[p] = POSITIVE(sums[p]);
        store_some(l->y + at, &sums[p], n);
    }
}

INLINE void all_results(const struct line *l, int width, int n) {
    int k = 0;
    for (; k + PIXELS <= width; k += PIXELS) results(l, k, PIXELS, n);
    for (; k < width; k++) results(l, k, 1, n);
}

VECTORISED static void run_line(const struct line *l, int width, int n) {
    if (n == LANES)
        all_results(l, width, LANES);
    else
        all_results(l, width, n);
}

static void runs_forward(struct conv *c, int thread, const real *x, const real *packed, const real *bias,
                         const real *residual, real *y, real *scratch) {
    (void)thread;
    const struct conv_shape *s = &c->s;
    size_t image = (size_t)(s->in_height * s->in_width * s->in_channels);
    size_t line = (size_t)(s->out_width * s->out_channels);
    struct line l = {.step = (size_t)(s->stride_width * s->in_channels),
                     .run = c->run,
                     .down = (size_t)s->dilation_height * c->row,
                     .height = s->kernel_height,
                     .weights = packed,
                     .residual = residual,
                     .y = y,
                     .relu = c->relu};
    if (bias) load_some(&l.bias, bias, s->out_channels);
    for (int n = 0; n < s->n; n++, x += image) {
        const real *data = padded(c, x, scratch);
        for (int r = 0; r < s->out_height; r++, l.y += line) {
            l.x = data + (size_t)(r * s->stride_height) * c->row;
            run_line(&l, s->out_width, s->out_channels);
            if (residual) l.residual += line;
        }
    }
}

const struct conv_backend conv_runs = {
    .name = "runs",
    .open = runs_open,
    .close = runs_close,
    .sizes = runs_sizes,
    .pack = runs_pack,
    .forward = runs_forward,
};
