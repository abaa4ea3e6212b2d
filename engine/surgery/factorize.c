/* factorize.c - the step "factor": a layer as a chain of smaller ones, by singular values (lowrank.h).
 *
 *   channel   h by w with `rank` outputs, then 1 by 1
 *   spatial   h by 1, then 1 by w
 *   tucker    1 by 1, h by w between `rank` channels, 1 by 1
 *   dense     Gemm and MatMul: two products
 *   data      as channel and dense, for the outputs on calibration data instead of for the weights
 *
 * Strides, padding and dilation of an axis go with its taps, the bias with the last layer, so borders are as exact as the
 * rest. At full rank the function stays; below, the report has what was dropped and, with data, what the layer's outputs
 * lost. (factor.h splits exactly, into more weights; this is the way back.) */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "engine/kernels/lapack.h"
#include "engine/nn/op.h"
#include "engine/surgery/edit.h"
#include "engine/surgery/factor.h"
#include "engine/surgery/linear.h"
#include "engine/surgery/lossy.h"
#include "engine/surgery/lowrank.h"
#include "engine/surgery/patches.h"

#define BUDGET ((size_t)1 << 28) /* bytes, when nobody says */

static bool is_mode(const struct morph_step *s, const char *mode) {
    return strcmp(s->mode, mode) == 0;
}

/* ---- can ---- */

static int check_shape(const struct linear *l, const struct graph *g, const struct morph_step *s, struct err *e) {
    bool dense = l->kind == LINEAR_DENSE;
    if (l->kind == LINEAR_TRANSPOSED) return err_set(e, E_UNSUPPORTED, "a ConvTranspose is not factored");
    if (l->groups > 1)
        return err_set(e, E_UNSUPPORTED, "it has %lld groups: each of them is small already", (long long)l->groups);
    if (is_mode(s, "dense") && !dense)
        return err_set(e, E_UNSUPPORTED, "a Conv is for channel, spatial, tucker or data");
    if ((is_mode(s, "spatial") || is_mode(s, "tucker")) && dense)
        return err_set(e, E_UNSUPPORTED, "%s %s has no pixels: it is for dense, channel or data",
                       edit_article(g->nodes[l->node].op->name), g->nodes[l->node].op->name);
    if (is_mode(s, "spatial") && (l->kernel[0] == 1 || l->kernel[1] == 1))
        return err_set(e, E_UNSUPPORTED, "its kernel of %lld by %lld goes along one axis already",
                       (long long)l->kernel[0], (long long)l->kernel[1]);
    return 0;
}

/* Rows and columns of the matrix that the form makes of the weights; of Tucker, the channels out and in. */
static void matrix_of(int64_t size[2], const struct linear *l, const struct morph_step *s) {
    int64_t taps = l->kernel[0] * l->kernel[1];
    size[0] = is_mode(s, "spatial") ? l->in * l->kernel[0] : l->out;
    size[1] = is_mode(s, "spatial") ? l->out * l->kernel[1] : is_mode(s, "tucker") ? l->in : l->in * taps;
}

static int check_rank(const struct linear *l, const struct morph_step *s, struct err *e) {
    int64_t size[2], taps = l->kernel[0] * l->kernel[1];
    bool tucker = is_mode(s, "tucker");
    matrix_of(size, l, s);
    if (s->n_rank > 1 && !tucker) return err_set(e, E_INVALID, "two ranks are for mode tucker");
    if (s->n_rank && tucker) {
        int64_t in = s->rank[0], out = s->rank[s->n_rank - 1];
        int64_t most_out = size[0] < l->in * taps ? size[0] : l->in * taps;
        int64_t most_in = size[1] < l->out * taps ? size[1] : l->out * taps;
        if (in > most_in || out > most_out)
            return err_set(e, E_INVALID, "ranks %lld and %lld: its channels have %lld and %lld at most", (long long)in,
                           (long long)out, (long long)most_in, (long long)most_out);
    } else if (s->n_rank) {
        int64_t most = size[0] < size[1] ? size[0] : size[1];
        if (s->rank[0] > most)
            return err_set(e, E_INVALID, "rank %lld: its matrix of %lld by %lld has %lld at most",
                           (long long)s->rank[0], (long long)size[0], (long long)size[1], (long long)most);
    }
    return 0;
}

static int factor_can(struct morphing *m, int node, const struct morph_step *s, struct err *e) {
    const struct uses *uses;
    if (is_mode(s, "data") && (!m->data || !m->data->sample))
        return err_set(e, E_INVALID, "mode data needs a data set to calibrate with");
    int status = morphing_uses(&uses, m, e);
    if (!status) status = linear_check_own(m->graph, uses, node, e);
    if (status) return status;
    struct linear l;
    linear_describe(&l, m->graph, node);
    if (l.out * linear_fan_in(&l) > 1 << 28) return err_set(e, E_TOO_LARGE, "it has too many weights");
    status = check_shape(&l, m->graph, s, e);
    return status ? status : check_rank(&l, s, e);
}

/* ---- the chain ---- */

/* Second moments of what the layer reads: *moments with mem_free. In a sketch none: *moments is NULL. */
static int measure_moments(double **moments, struct morphing *m, const struct linear *l, struct err *e) {
    enum { CHUNK = 512 };
    size_t n = (size_t)linear_fan_in(l), budget = m->memory ? m->memory / 2 : BUDGET;
    struct patches p = {0};
    double *rows = NULL;
    *moments = NULL;
    if (n * n > LAPACK_MOST || n * n * sizeof **moments > budget)
        return err_set(e, E_TOO_LARGE, "the covariance of its %zu inputs takes more than %zu bytes", n, budget);
    int status = patches_open(&p, l, m, budget / 2, e);
    if (!status && !m->sketch) {
        *moments = mem_calloc(n * n, sizeof **moments);
        rows = mem_alloc(CHUNK * n * sizeof *rows);
        if (!*moments || !rows) status = err_memory(e, n * n * sizeof **moments);
    }
    size_t all = m->sketch ? 0 : lossy_calibrate(p.samples) * p.pixels, wanted = patches_enough(n, all);
    for (size_t at = 0; at < wanted && !status; at += CHUNK) {
        size_t count = wanted - at < CHUNK ? wanted - at : CHUNK;
        for (size_t k = 0; k < count; k++) patches_row(rows + k * n, &p, patches_spread(at + k, wanted, all), 0);
        lapack_product(true, false, n, n, count, rows, n, rows, n, *moments, n, at > 0);
    }
    for (size_t i = 0; i < n * n && !status && wanted; i++) (*moments)[i] /= (double)wanted;
    mem_free(rows);
    patches_close(&p);
    if (status) {
        mem_free(*moments);
        *moments = NULL;
    }
    return status;
}

/* The form with those ranks; 0: full. */
static int decompose(struct lowrank *out, const struct filter *f, const double *moments, const struct morph_step *s,
                     int in, int rank, struct err *e) {
    if (is_mode(s, "spatial")) return lowrank_spatial(out, f, rank, e);
    if (is_mode(s, "tucker")) return lowrank_tucker(out, f, in, rank, e);
    return moments ? lowrank_data(out, f, moments, rank, e) : lowrank_channel(out, f, rank, e);
}

/* Tucker ranks for an energy: of both modes, each with half of what may be dropped. */
static int choose_tucker(int ranks[2], const struct filter *f, double share, struct err *e) {
    struct filter turned;
    struct lowrank one = {0}, two = {0};
    int status = filter_transpose(&turned, f, e);
    if (!status) status = lowrank_channel(&one, f, 0, e);
    if (!status) status = lowrank_channel(&two, &turned, 0, e);
    if (!status) {
        ranks[1] = lowrank_choose(&one, share / sqrt(2));
        ranks[0] = lowrank_choose(&two, share / sqrt(2));
    }
    filter_fini(&turned);
    lowrank_fini(&one);
    lowrank_fini(&two);
    return status;
}

/* The highest rank that saves weights: what an energy may lead to, as far as is known without the numbers. */
static int rank_most(const struct linear *l) {
    int64_t in = linear_fan_in(l), most = (l->out * in - 1) / (l->out + in);
    return most < 1 ? 1 : (int)most;
}

/* The form of mode data, with any numbers. */
static int sketch_data(struct lowrank *out, const struct filter *f, int rank, struct random r, struct err *e) {
    *out = (struct lowrank){.n_layers = 2, .rank = rank};
    int status = filter_init(&out->layers[0], rank, f->in, f->h, f->w, e);
    if (!status) status = filter_init(&out->layers[1], f->out, rank, 1, 1, e);
    for (int k = 0; k < 2 && !status; k++) factor_sketch(&out->layers[k], &r);
    return status;
}

static int make_chain(struct lowrank *out, struct morphing *m, const struct linear *l, const struct morph_step *s,
                      struct err *e) {
    struct filter f = {(int)l->out, (int)l->in, (int)l->kernel[0], (int)l->kernel[1], l->weights};
    double *moments = NULL, share = isnan(s->energy) ? 0 : sqrt(1 - s->energy);
    bool sketch = m->sketch && is_mode(s, "data");
    int ranks[2] = {0, 0}, status = is_mode(s, "data") ? measure_moments(&moments, m, l, e) : 0;
    if (s->n_rank) {
        ranks[0] = (int)s->rank[0];
        ranks[1] = (int)s->rank[s->n_rank - 1];
    } else if (!status && sketch) {
        ranks[1] = rank_most(l);
    } else if (!status && is_mode(s, "tucker")) {
        status = choose_tucker(ranks, &f, share, e);
    } else if (!status) {
        struct lowrank full = {0};
        status = decompose(&full, &f, moments, s, 0, 0, e);
        if (!status) ranks[1] = lowrank_choose(&full, share);
        lowrank_fini(&full);
    }
    if (!status && ranks[1] < 1) ranks[1] = 1;
    if (!status && ranks[0] < 1) ranks[0] = 1;
    if (!status && sketch) status = sketch_data(out, &f, ranks[1], random_split(&m->random, (uint64_t)l->node), e);
    if (!status && !sketch) status = decompose(out, &f, moments, s, ranks[0], ranks[1], e);
    mem_free(moments);
    return status;
}

/* ---- the edit ---- */

static int add_weights(int *out, struct graph *g, const char *stem, const char *part, const struct filter *f, int axes,
                       struct err *e) {
    struct array *a;
    struct shape shape = {.rank = 2 + axes, .dim = {f->out, f->in}};
    if (axes == 2) shape.dim[2] = f->h;
    if (axes) shape.dim[1 + axes] = f->w;
    int status = array_new(&a, DT_FLOAT64, &shape, e);
    if (status) return status;
    memcpy(a->data, f->data, filter_count(f) * sizeof *f->data);
    return edit_add_constant_take(out, g, stem, part, a, e);
}

/* A layer of the chain as a node of its own. bias may be VALUE_NONE. */
static int add_layer(struct graph *g, const char *stem, const char *part, const struct filter *f,
                     const struct edit_window *w, int axes, int data, int bias, int made, struct err *e) {
    char weights[MORPH_WORD_SIZE + 8];
    int in[3] = {data, VALUE_NONE, bias}, node;
    text_print(weights, sizeof weights, "%s_weight", part);
    int status = add_weights(&in[1], g, stem, weights, f, axes, e);
    if (!status)
        status = edit_add_node(&node, g, axes ? "Conv" : "Gemm", stem, part, in, bias == VALUE_NONE ? 2 : 3, made, e);
    if (status || !axes) return status ? status : graph_set_int(g, node, "transB", 1, e);
    int64_t kernel[2] = {f->h, f->w};
    return edit_set_window(g, node, axes, kernel, w, e);
}

/* The bias leaves the layer: its value, or a new one where the node did more to it than adding; VALUE_NONE. */
static int take_bias(int *out, struct graph *g, const struct linear *l, const char *stem, struct err *e) {
    struct node *n = &g->nodes[l->node];
    struct array *a;
    struct shape shape = {.rank = 1, .dim = {l->out}};
    *out = VALUE_NONE;
    if (!l->has_bias) return 0;
    int old = n->inputs[2];
    n->n_inputs = 2;
    if (node_real(n, "beta", 1) == 1 && g->values[old].constant->count == (size_t)l->out) {
        *out = old;
        return 0;
    }
    int status = array_new(&a, DT_FLOAT64, &shape, e);
    if (status) return status;
    memcpy(a->data, l->bias, (size_t)l->out * sizeof *l->bias);
    return edit_add_constant_take(out, g, stem, "bias", a, e);
}

static int put_filter(struct graph *g, const struct linear *l, const struct filter *f, struct err *e) {
    struct linear with = *l;
    with.out = f->out, with.in = f->in;
    with.kernel[0] = f->h, with.kernel[1] = f->w;
    with.weights = f->data;
    with.has_bias = false;
    with.bias = mem_calloc((size_t)f->out, sizeof *with.bias);
    if (!with.bias) return err_memory(e, (size_t)f->out * sizeof *with.bias);
    int status = linear_write(g, &with, e);
    mem_free(with.bias);
    return status;
}

/* The node becomes the layer of the chain with its taps (spatial: along the height); the others are added around it. */
static int put_chain(struct graph *g, const struct linear *l, const struct lowrank *chain, const struct morph_step *s,
                     struct err *e) {
    static const struct edit_window plain = {.stride = {1, 1}, .dilation = {1, 1}};
    struct edit_window w = plain, last = plain;
    char stem[GRAPH_MAX_NAME + 1];
    int own = is_mode(s, "tucker"), end = chain->n_layers - 1, before, bias, first;
    text_copy(stem, sizeof stem, g->nodes[l->node].name);
    int status = l->axes ? linear_window(&w, g, l->node, l->kernel, e) : 0;
    if (!status && is_mode(s, "spatial")) {
        last = w;
        last.stride[0] = last.dilation[0] = w.stride[1] = w.dilation[1] = 1;
        last.begin[0] = last.end[0] = w.begin[1] = w.end[1] = 0;
    }
    if (!status) status = take_bias(&bias, g, l, stem, e);
    if (!status) status = put_filter(g, l, &chain->layers[own], e);
    int64_t kernel[2] = {chain->layers[own].h, chain->layers[own].w};
    if (!status && l->axes) status = edit_set_window(g, l->node, l->axes, kernel, &w, e);
    if (!status) status = edit_split_value(&before, g, l->made, stem, "inner", e);
    if (!status) status = add_layer(g, stem, "last", &chain->layers[end], &last, l->axes, before, bias, l->made, e);
    if (status || !own) return status;
    status = edit_add_value(&first, g, stem, "outer", e);
    if (!status)
        status = add_layer(g, stem, "first", &chain->layers[0], &plain, l->axes, l->data, VALUE_NONE, first, e);
    if (!status) g->nodes[l->node].inputs[0] = first;
    return status;
}

/* ---- the step ---- */

static void write_chain(struct json_writer *w, const struct lowrank *c, const struct linear *l,
                        const struct morph_step *s, bool done) {
    double before = (double)(l->out * linear_fan_in(l)), norm = c->norm > 0 ? c->norm : 1;
    json_put_bool(w, "factored", done);
    json_open_array(w, "rank");
    if (is_mode(s, "tucker")) json_put_int(w, NULL, c->layers[0].out);
    json_put_int(w, NULL, c->rank);
    json_close_array(w);
    json_put_number(w, "dropped_energy", c->error / norm * (c->error / norm));
    json_put_number(w, "error", c->error / norm);
    json_put_number(w, "bound", c->bound / norm);
    json_put_number(w, "largest_dropped", c->next);
    json_put_string(w, "of", is_mode(s, "data") ? "outputs on calibration data" : "weights");
    json_put_int(w, "parameters_before", (int64_t)before);
    json_put_int(w, "parameters_after", done ? (int64_t)lowrank_weights(c) : (int64_t)before);
}

/* Why a layer stays as it is. */
static void tell_unmade(struct err *why, const char *name, const struct lowrank *c, const struct linear *l) {
    err_set(why, E_INVALID, "'%s' needs rank %d for it, which takes %zu weights, and it has %lld", name, c->rank,
            lowrank_weights(c), (long long)(l->out * linear_fan_in(l)));
}

/* One layer by name. With an energy, a chain that is no smaller is not made: *made counts the others, *why is of the
 * first. */
static int factor_one(struct morphing *m, const char *name, const struct morph_step *s, int *made, struct err *why,
                      struct json_writer *w, struct err *e) {
    struct linear l = {0};
    struct lowrank chain = {0};
    struct graph *before = NULL;
    bool measures = m->data && m->data->sample, computes = m->data != NULL;
    int node = graph_find_node(m->graph, name);
    int status = linear_read(&l, m->graph, node, e);
    if (!status) status = make_chain(&chain, m, &l, s, e);
    bool done = !status && (s->n_rank || lowrank_weights(&chain) < (size_t)(l.out * linear_fan_in(&l)));
    *made += done;
    if (!status && !done && !why->text[0]) tell_unmade(why, name, &chain, &l);
    if (done && measures && w) status = graph_clone(&before, m->graph, e);
    if (done && !status) status = put_chain(m->graph, &l, &chain, s, e);
    if (done && !status && computes) status = morphing_finish(m, e); /* else once for all layers */
    if (done && !status) graph_forget_training(m->graph);            /* it was of weights that there are no more */
    bool told = !status && w;
    if (told) {
        json_open_object(w, NULL);
        json_put_string(w, "layer", name);
        write_chain(w, &chain, &l, s, done);
    }
    if (!status && done && measures) status = lossy_write(w, "output", m, w ? before : m->graph, l.made, e);
    if (told) json_close_object(w);
    graph_free(before);
    lowrank_fini(&chain);
    linear_fini(&l);
    return status;
}

static int factor_apply(struct morphing *m, const int *nodes, int n, const struct morph_step *s, struct json_writer *w,
                        struct err *e) {
    char **names = mem_calloc((size_t)n + 1, sizeof *names); /* as indices change with every layer */
    struct graph *before = NULL;
    struct err why = {0};
    int made = 0, status = names ? 0 : err_memory(e, (size_t)n * sizeof *names);
    for (int i = 0; i < n && !status; i++) {
        names[i] = mem_string(m->graph->nodes[nodes[i]].name);
        if (!names[i]) status = err_memory(e, GRAPH_MAX_NAME);
    }
    bool measures = m->data && m->data->sample;
    if (!status && measures && w) status = graph_clone(&before, m->graph, e);
    if (w) json_open_array(w, "factors");
    for (int i = 0; i < n && !status; i++) {
        int others = made;
        status = factor_one(m, names[i], s, &made, &why, w, e);
        if (made == others) morph_leave(m, i);
    }
    if (w) json_close_array(w);
    if (!status) status = morphing_finish(m, e);
    /* of what earlier steps would solve, a sketch does not know the singular values */
    if (!status && !made && !(m->sketch && m->steps))
        status = err_set(e, E_INVALID, "an energy of %g makes no layer smaller: %s", s->energy, why.text);
    if (!status && measures) status = lossy_write(w, "output", m, w ? before : m->graph, m->graph->outputs[0], e);
    for (int i = 0; i < n && names; i++) mem_free(names[i]);
    mem_free(names);
    graph_free(before);
    return status;
}

static const char *const samples[] = {
    "{\"op\":\"factor\",\"layer\":\"*\",\"rank\":2}",
    "{\"op\":\"factor\",\"layer\":\"*\",\"energy\":0.9,\"mode\":\"spatial\"}",
    "{\"op\":\"factor\",\"layer\":\"*\",\"rank\":[2,3],\"mode\":\"tucker\"}",
    "{\"op\":\"factor\",\"layer\":\"*\",\"energy\":0.9,\"mode\":\"dense\"}",
    NULL,
};

const struct morph_kind morph_factor = {
    .name = "factor",
    .summary = "a layer as a chain of layers with fewer weights, by singular values",
    .takes = "rank energy",
    .needs = "rank energy",
    .modes = "channel spatial tucker dense data",
    .inexact = "*",
    .parametric = true,
    .samples = samples,
    .can = factor_can,
    .apply = factor_apply,
};
