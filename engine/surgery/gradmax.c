/* gradmax.c - new channels that the loss wants most; see gradmax.h. */
#include "engine/surgery/gradmax.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "engine/kernels/lapack.h"
#include "engine/nn/op.h"

enum { SAMPLES = 64, LARGEST = 1 << 24 }; /* samples looked at; elements of the matrix */

/* The layer that gets channels and the one that reads them. */
struct pair {
    struct edit_layer first, second;
    struct edit_window window1, window2;
    int64_t rows, columns; /* of the matrix */
};

/* ---- what is possible ---- */

/* Whether the attributes of an activation that climbs at 0 leave it a slope there. */
static bool has_slope(const struct node *n) {
    double alpha = node_real(n, "alpha", 1), gamma = node_real(n, "gamma", 1);
    return (alpha > 0 || alpha < 0) && (gamma > 0 || gamma < 0);
}

static int check_activation(const struct graph *g, int node, struct err *e) {
    if (node < 0) return 0;
    const struct node *n = &g->nodes[node];
    const struct edit_activation *a = edit_activation(g, n);
    if (!a->origin)
        return err_set(e, E_UNSUPPORTED, "its activation '%s' (%s) need not be 0 at 0, where the new channels begin",
                       n->name, n->op->name);
    if (!a->climbs || !has_slope(n))
        return err_set(
            e, E_UNSUPPORTED,
            "its activation '%s' (%s) has no slope at 0, where the new channels begin: they would never learn", n->name,
            n->op->name);
    return 0;
}

/* The channels must be made by this layer alone and read by one other alone. */
static int check_channels(struct morphing *m, const struct pair *p, struct err *e) {
    const struct channels *c;
    int made = 0, read = 0, status = morphing_channels(&c, m, e);
    if (status) return status;
    struct channel_list list = c->values[m->graph->nodes[p->first.node].outputs[0]];
    const struct channel_axis *axis;
    for (int i = 0; list.n == 1 && (axis = channels_along(c, c->segments[list.first].group, i)); i++)
        for (int k = 0; k < axis->list.n; k++) {
            if (c->segments[axis->list.first + k].group != c->segments[list.first].group) continue;
            made += axis->role == CHANNELS_MADE;
            read += axis->role == CHANNELS_READ;
        }
    if (made != 1 || read != 1)
        return err_set(e, E_UNSUPPORTED, "its channels belong to %d layers and are read by %d; one of each is needed",
                       made, read);
    return 0;
}

static int find_pair(struct pair *p, struct morphing *m, int node, struct err *e) {
    const struct graph *g = m->graph;
    const struct uses *u;
    struct edit_tail tail;
    int status = morphing_uses(&u, m, e);
    if (!status) status = edit_own_layer(&p->first, g, u, node, e);
    if (status) return status;
    edit_tail(&tail, g, u, node);
    if (tail.norm >= 0)
        return err_set(e, E_UNSUPPORTED, "channels of zeros have no variance for its normalisation '%s'",
                       g->nodes[tail.norm].name);
    status = check_activation(g, tail.activation, e);
    if (status) return status;
    int reader = uses_only_reader(u, tail.end);
    if (reader < 0) return err_set(e, E_UNSUPPORTED, "not just one layer reads its result");
    struct err other = {0};
    if (edit_own_layer(&p->second, g, u, reader, &other))
        return err_set(e, E_UNSUPPORTED, "what reads its result, '%s', is no layer with weights of its own",
                       g->nodes[reader].name);
    if (p->first.group != 1 || p->second.group != 1 || p->first.axes != p->second.axes ||
        g->values[tail.end].shape.rank != 2 + p->first.axes)
        return err_set(e, E_UNSUPPORTED, "it or what reads it, '%s', is grouped, or of another kind",
                       g->nodes[reader].name);
    if (p->first.axes) status = edit_window(&p->window1, g, &p->first, e);
    if (!status && p->first.axes) status = edit_window(&p->window2, g, &p->second, e);
    p->rows = p->second.out * p->second.kernel[0] * p->second.kernel[1];
    p->columns = p->first.in * p->first.kernel[0] * p->first.kernel[1];
    return status ? status : check_channels(m, p, e);
}

int gradmax_can(struct morphing *m, int node, int64_t fresh, struct err *e) {
    struct pair p;
    int status = find_pair(&p, m, node, e);
    if (status) return status;
    if (!m->data || !m->data->sample || !m->data->gradient)
        return err_set(e, E_UNSUPPORTED, "mode grad-max looks at gradients, for which it needs data with targets");
    int64_t most = p.rows < p.columns ? p.rows : p.columns;
    if (fresh > most)
        return err_set(e, E_INVALID, "at most %lld channels can be added so, not %lld", (long long)most,
                       (long long)fresh);
    if (p.rows > LARGEST / p.columns)
        return err_set(e, E_TOO_LARGE, "a matrix of %lld by %lld is too large to look for directions in",
                       (long long)p.rows, (long long)p.columns);
    return 0;
}

/* ---- the matrix ---- */

/* Sizes of the maps: what the first reads, what it makes, what the second makes. */
struct maps {
    int64_t in[2], middle[2], out[2];
};

static void size_of(int64_t size[2], const struct graph *g, int value) {
    const struct shape *s = &g->values[value].shape;
    size[0] = s->rank == 4 ? s->dim[2] : 1;
    size[1] = s->rank > 2 ? s->dim[s->rank - 1] : 1;
}

/* Where tap u of the first layer looks when tap v of the second looks at output q; -1: at padding. */
static int64_t place(const struct pair *p, const struct maps *s, int axis, int64_t q, int64_t v, int64_t u) {
    if (!p->first.axes) return 0;
    const struct edit_window *a = &p->window1, *b = &p->window2;
    int64_t middle = q * b->stride[axis] + v * b->dilation[axis] - b->begin[axis];
    if (middle < 0 || middle >= s->middle[axis]) return -1;
    int64_t at = middle * a->stride[axis] + u * a->dilation[axis] - a->begin[axis];
    return at < 0 || at >= s->in[axis] ? -1 : at;
}

/* seen[i][q]: channel i of one sample as the taps see it at every output. */
static void look(double *seen, const double *x, const struct pair *p, const struct maps *s, const int64_t v[2],
                 const int64_t u[2]) {
    int64_t pixels = s->out[0] * s->out[1], plane = s->in[0] * s->in[1];
    for (int64_t qy = 0; qy < s->out[0]; qy++)
        for (int64_t qx = 0; qx < s->out[1]; qx++) {
            int64_t y = place(p, s, 0, qy, v[0], u[0]), x_at = place(p, s, 1, qx, v[1], u[1]);
            bool padding = y < 0 || x_at < 0;
            for (int64_t i = 0; i < p->first.in; i++)
                seen[i * pixels + qy * s->out[1] + qx] = padding ? 0 : x[i * plane + y * s->in[1] + x_at];
        }
}

/* Adds one sample to a[(j,v)][(i,u)]; block: [out][in], seen: [in][pixels of the output]. */
static void add_sample(double *a, const double *gradient, const double *x, const struct pair *p, const struct maps *s,
                       double *block, double *seen) {
    size_t out = (size_t)p->second.out, in = (size_t)p->first.in, pixels = (size_t)(s->out[0] * s->out[1]);
    int64_t taps1 = p->first.kernel[0] * p->first.kernel[1], taps2 = p->second.kernel[0] * p->second.kernel[1];
    for (int64_t v = 0; v < taps2; v++)
        for (int64_t u = 0; u < taps1; u++) {
            const int64_t tv[2] = {v / p->second.kernel[1], v % p->second.kernel[1]};
            const int64_t tu[2] = {u / p->first.kernel[1], u % p->first.kernel[1]};
            look(seen, x, p, s, tv, tu);
            lapack_product(false, true, out, in, pixels, gradient, pixels, seen, pixels, block, in, false);
            for (size_t j = 0; j < out; j++)
                for (size_t i = 0; i < in; i++)
                    a[(j * (size_t)taps2 + (size_t)v) * (size_t)p->columns + i * (size_t)taps1 + (size_t)u] +=
                        block[j * in + i];
        }
}

static int fill_matrix(double *a, const struct pair *p, struct morphing *m, struct err *e) {
    const struct graph *g = m->graph;
    struct maps s;
    double *x = NULL, *gradient = NULL, *block = NULL, *seen = NULL;
    size_t n = 0, also = 0, out = (size_t)p->second.out, in = (size_t)p->first.in;
    int read = g->nodes[p->first.node].inputs[0], made = g->nodes[p->second.node].outputs[0];
    size_of(s.in, g, read);
    size_of(s.middle, g, g->nodes[p->first.node].outputs[0]);
    size_of(s.out, g, made);
    if (s.in[0] < 1 || s.in[1] < 1 || s.middle[0] < 1 || s.middle[1] < 1 || s.out[0] < 1 || s.out[1] < 1)
        return err_set(e, E_UNSUPPORTED, "the sizes of its maps are not known");
    size_t pixels = (size_t)(s.out[0] * s.out[1]), plane = (size_t)(s.in[0] * s.in[1]);
    int status = m->data->sample(&x, &n, m->data->context, g, read, SAMPLES, e);
    if (!status) status = m->data->gradient(&gradient, &also, m->data->context, g, made, SAMPLES, e);
    if (!status && n != also) status = err_set(e, E_INTERNAL, "%zu samples and gradients of %zu", n, also);
    if (!status) block = mem_calloc(out * in + 1, sizeof *block);
    if (!status) seen = mem_calloc(in * pixels + 1, sizeof *seen);
    if (!status && (!block || !seen)) status = err_memory(e, (out + pixels) * in * sizeof *seen);
    for (size_t i = 0; i < n && !status; i++)
        add_sample(a, gradient + i * out * pixels, x + i * in * plane, p, &s, block, seen);
    mem_free(x);
    mem_free(gradient);
    mem_free(block);
    mem_free(seen);
    return status;
}

/* ---- directions ---- */

/* Element of the reading layer's weights: output j, input l, tap v. */
static size_t element(const struct edit_layer *l, int64_t inputs, int64_t j, int64_t i, int64_t v) {
    if (!l->axes && !l->transposed) return (size_t)(i * l->out + j);
    return (size_t)((j * inputs + i) * l->kernel[0] * l->kernel[1] + v);
}

/* Mean norm of what is read of one channel. */
static double mean_norm(const struct graph *g, const struct edit_layer *l) {
    double sum = 0;
    for (int64_t i = 0; i < l->in; i++) {
        double squares = 0;
        for (int64_t j = 0; j < l->out; j++)
            for (int64_t v = 0; v < l->kernel[0] * l->kernel[1]; v++) {
                double w;
                array_to_double(&w, g->values[l->weights].constant, element(l, l->in, j, i, v), 1);
                squares += w * w;
            }
        sum += sqrt(squares);
    }
    return sum / (double)l->in;
}

int gradmax_solve(struct gradmax *out, struct morphing *m, int node, int64_t fresh, struct err *e) {
    struct pair p;
    double *a = NULL, *u = NULL, *s = NULL, *vt = NULL;
    *out = (struct gradmax){.fresh = fresh};
    int status = find_pair(&p, m, node, e);
    if (status) return status;
    size_t rows = (size_t)p.rows, columns = (size_t)p.columns, least = rows < columns ? rows : columns;
    a = mem_calloc(rows * columns, sizeof *a);
    u = mem_calloc(rows * least, sizeof *u);
    s = mem_calloc(least, sizeof *s);
    vt = mem_calloc(least * columns, sizeof *vt);
    out->rows = mem_calloc((size_t)fresh * rows, sizeof *out->rows);
    if (!a || !u || !s || !vt || !out->rows) status = err_memory(e, (rows + least) * columns * sizeof *a);
    if (!status) status = fill_matrix(a, &p, m, e);
    if (!status) status = lapack_svd(u, s, vt, rows, columns, a, e);
    if (!status && (size_t)fresh > least) status = err_set(e, E_INVALID, "only %zu channels can be added so", least);
    if (!status && !(s[fresh - 1] > 1e-12 * s[0]))
        status = err_set(e, E_UNSUPPORTED, "the data's gradients have fewer than %lld directions", (long long)fresh);
    double norm = status ? 0 : GRADMAX_SCALE * mean_norm(m->graph, &p.second);
    for (size_t k = 0; k < (size_t)fresh && !status; k++)
        for (size_t i = 0; i < rows; i++) out->rows[k * rows + i] = norm * u[i * least + k];
    if (!status) {
        out->reader = p.second.node;
        out->out = p.second.out;
        out->taps = p.second.kernel[0] * p.second.kernel[1];
        out->largest = s[0];
        out->least = s[fresh - 1];
    } else {
        gradmax_fini(out);
    }
    mem_free(a);
    mem_free(u);
    mem_free(s);
    mem_free(vt);
    return status;
}

void gradmax_fini(struct gradmax *x) {
    mem_free(x->rows);
    x->rows = NULL;
}

void gradmax_write(struct graph *wider, const struct graph *g, const struct gradmax *x, int64_t old) {
    struct edit_layer l;
    int node = graph_find_node(wider, g->nodes[x->reader].name);
    if (node < 0 || edit_layer(&l, wider, node, NULL)) return; /* it was one before */
    struct array *w = wider->values[l.weights].constant;
    for (int64_t k = 0; k < x->fresh; k++)
        for (int64_t j = 0; j < x->out; j++)
            for (int64_t v = 0; v < x->taps; v++) {
                size_t at = element(&l, l.in, j, old + k, v);
                double weight = x->rows[(k * x->out + j) * x->taps + v];
                if (w->type == DT_FLOAT64)
                    ((double *)w->data)[at] = weight;
                else
                    ((float *)w->data)[at] = (float)weight;
            }
}
