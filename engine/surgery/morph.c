/* morph.c - the table of morph steps, and running them. */
#include "engine/surgery/morph.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "engine/nn/op.h"
#include "engine/surgery/channels.h"
#include "engine/surgery/constancy.h"
#include "engine/surgery/edit.h"
#include "engine/surgery/linear.h"

#define MORPH(name) extern const struct morph_kind morph_##name;
#include "engine/surgery/morphs.def"
#undef MORPH

const struct morph_kind *const morph_table[] = {
#define MORPH(name) &morph_##name,
#include "engine/surgery/morphs.def"
#undef MORPH
    NULL,
};

/* ---- the graph under the knife ---- */

void morphing_init(struct morphing *m, struct graph *g, uint64_t seed, const struct morph_data *data) {
    *m = (struct morphing){.graph = g, .random = random_seed(seed), .data = data};
}

static void forget(struct morphing *m) {
    channels_free(m->channels);
    uses_free(m->uses);
    constancy_free(m->constancy);
    mem_free(m->units);
    mem_free(m->clips);
    m->channels = NULL;
    m->uses = NULL;
    m->constancy = NULL;
    m->units = NULL;
    m->clips = NULL;
    m->weights = 0;
}

void morphing_fini(struct morphing *m) {
    forget(m);
    graph_free(m->graph);
    *m = (struct morphing){0};
}

int morphing_tick(const struct morphing *m, struct err *e) {
    return m->tick.call ? m->tick.call(m->tick.context, e) : 0;
}

int morphing_channels(const struct channels **out, struct morphing *m, struct err *e) {
    int status = m->channels ? 0 : channels_find(&m->channels, m->graph, e);
    if (!status) *out = m->channels;
    return status;
}

void morphing_replace(struct morphing *m, struct graph *g) {
    forget(m);
    graph_free(m->graph);
    m->graph = g;
}

int morphing_finish(struct morphing *m, struct err *e) {
    forget(m);
    int status = morphing_tick(m, e);
    return status ? status : graph_finish(m->graph, e);
}

/* ---- what a request says ---- */

static const struct param size_element[] = {
    {.name = "pixels",
     .type = PARAM_TYPE_INT,
     .size = sizeof(int64_t),
     .present_offset = PARAM_NO_PRESENT,
     .low = 1,
     .high = 1024,
     .help = "one axis"},
    PARAM_END,
};

static const struct param rank_element[] = {
    {.name = "channels",
     .type = PARAM_TYPE_INT,
     .size = sizeof(int64_t),
     .present_offset = PARAM_NO_PRESENT,
     .low = 1,
     .high = 1 << 24,
     .help = "one of the channels in between"},
    PARAM_END,
};

static const struct param edge_params[] = {
    {.name = "from",
     .type = PARAM_TYPE_STRING,
     PARAM_AT(struct morph_edge, from),
     .required = true,
     .help = "where it begins: s, the source, or a name"},
    {.name = "to",
     .type = PARAM_TYPE_STRING,
     PARAM_AT(struct morph_edge, to),
     .required = true,
     .help = "where it ends: t, the sink, or a name"},
    PARAM_LIST(struct morph_edge, kernel, n_kernel, size_element, "height and width, or one number for both"),
    PARAM_INT(struct morph_edge, channels, NULL, 1, 1 << 24, "of what it leads to; those of the layer by default"),
    PARAM_END,
};

static const struct param edge_element[] = {
    {.name = "edge",
     .type = PARAM_TYPE_OBJECT,
     .size = sizeof(struct morph_edge),
     .present_offset = PARAM_NO_PRESENT,
     .fields = edge_params,
     .help = "a convolution inside a module"},
    PARAM_END,
};

const struct param morph_step_params[] = {
    {.name = "op",
     .type = PARAM_TYPE_CHOICE,
     PARAM_AT(struct morph_step, op),
     .required = true,
     .choices = MORPH_KINDS,
     .help = "the kind of step"},
    PARAM_STRING(struct morph_step, layer, "\"*\"", "a layer's name, or a pattern: * and ? stand for any"),
    PARAM_STRING(struct morph_step, from, NULL, "skip: the layer whose result is led past"),
    PARAM_INT(struct morph_step, to, NULL, 1, 1 << 24,
              "channels afterwards; deepen, subnet, module: of what is new inside"),
    PARAM_REAL(struct morph_step, factor, NULL, 1e-6, 1e6, "channels afterwards, as a multiple of those before"),
    PARAM_STRING(struct morph_step, mode, NULL, "how; each kind has its own modes"),
    PARAM_LIST(struct morph_step, size, n_size, size_element,
               "kernel, deepen, subnet: height and width, or one number for both"),
    PARAM_LIST(struct morph_step, rank, n_rank, rank_element, "factor: channels in between"),
    PARAM_REAL(
        struct morph_step, energy, NULL, 0, 1,
        "factor: share of the squared singular values to keep; in mode data the rank depends on the data: a dry run takes the "
        "highest that saves weights, and a layer that needs a higher one stays as it is"),
    PARAM_INT(struct morph_step, parts, NULL, 2, 8, "subnet: layers of the chain (3), or branches (2)"),
    PARAM_STRING(struct morph_step, recipe, NULL, "module: 1c1, 3c1, 3c3 or 1c1_2branch, each also with -half"),
    PARAM_LIST(struct morph_step, edges, n_edges, edge_element, "module: its edges, instead of a recipe"),
    PARAM_REAL(struct morph_step, noise, "0", 0, 1,
               "standard deviation of noise on new weights, relative to the layer's; above 0 the function changes"),
    PARAM_END,
};

/* Which optional fields were given. */
#define GIVEN(field, condition) \
    static bool given_##field(const struct morph_step *s) { \
        return condition; \
    }
GIVEN(from, s->from[0])
GIVEN(to, s->to != PARAM_ABSENT)
GIVEN(factor, !isnan(s->factor))
GIVEN(size, s->n_size > 0)
GIVEN(rank, s->n_rank > 0)
GIVEN(energy, !isnan(s->energy))
GIVEN(parts, s->parts != PARAM_ABSENT)
GIVEN(recipe, s->recipe[0])
GIVEN(edges, s->n_edges > 0)
GIVEN(noise, s->noise > 0)

static const struct field {
    const char *name;
    bool (*given)(const struct morph_step *s);
} fields[] = {
    {"from", given_from},   {"to", given_to},         {"factor", given_factor}, {"size", given_size},
    {"rank", given_rank},   {"energy", given_energy}, {"parts", given_parts},   {"recipe", given_recipe},
    {"edges", given_edges}, {"noise", given_noise},
};

static int refuse_field(const struct morph_kind *k, const char *at, const char *field, struct err *e) {
    char pointer[JSON_POINTER_SIZE];
    text_print(pointer, sizeof pointer, "%s/%s", at, field);
    return err_set_at(e, E_INVALID, pointer, "%s does not take '%s'; it takes layer%s%s%s", k->name, field,
                      k->modes ? " mode" : "", k->takes[0] ? " " : "", k->takes);
}

static int check_mode(struct morph_step *s, const struct morph_kind *k, const char *at, struct err *e) {
    if (!k->modes) return s->mode[0] ? refuse_field(k, at, "mode", e) : 0;
    if (!s->mode[0]) param_word(s->mode, sizeof s->mode, k->modes, 0);
    if (param_word_index(k->modes, s->mode) >= 0) return 0;
    char pointer[JSON_POINTER_SIZE];
    text_print(pointer, sizeof pointer, "%s/mode", at);
    return err_set_at(e, E_INVALID, pointer, "%s has no mode '%s'; there are %s", k->name, s->mode, k->modes);
}

/* Exactly one of the fields that the kind needs. */
static int check_needs(const struct morph_step *s, const struct morph_kind *k, const char *at, struct err *e) {
    char words[2][MORPH_WORD_SIZE] = {{0}}, pointer[JSON_POINTER_SIZE];
    int given = 0;
    if (!k->needs) return 0;
    for (int i = 0; i < 2; i++) param_word(words[i], sizeof words[i], k->needs, i);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        given += param_word_index(k->needs, fields[i].name) >= 0 && fields[i].given(s);
    if (given == 1) return 0;
    text_print(pointer, sizeof pointer, "%s/%s", at, words[0]);
    if (!words[1][0]) return err_set_at(e, E_INVALID, pointer, "%s needs '%s'", k->name, words[0]);
    return err_set_at(e, E_INVALID, pointer, "%s takes either '%s' or '%s'", k->name, words[0], words[1]);
}

int morph_check(struct morph_step *s, const char *at, struct err *e) {
    const struct morph_kind *k = morph_table[s->op];
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (fields[i].given(s) && param_word_index(k->takes, fields[i].name) < 0)
            return refuse_field(k, at, fields[i].name, e);
    if (s->n_size == 1) s->size[1] = s->size[0], s->n_size = 2;
    for (int i = 0; i < s->n_edges; i++)
        if (s->edges[i].n_kernel == 1) s->edges[i].kernel[1] = s->edges[i].kernel[0], s->edges[i].n_kernel = 2;
    int status = check_mode(s, k, at, e);
    if (!status) status = check_needs(s, k, at, e);
    return status || !k->check ? status : k->check(s, at, e);
}

bool morph_is_exact(const struct morph_step *s) {
    const struct morph_kind *k = morph_table[s->op];
    if (s->noise > 0) return false;
    if (!k->inexact) return true;
    return strcmp(k->inexact, "*") != 0 && param_word_index(k->inexact, s->mode) < 0;
}

int morph_count_norms(const struct graph *g) {
    int n = 0;
    for (int i = 0; i < g->n_nodes; i++) n += strcmp(g->nodes[i].op->name, "BatchNormalization") == 0;
    return n;
}

const char *morph_training(const struct morph_step *s, int norms, const struct graph *child) {
    return morph_count_norms(child) == norms ? NULL : morph_table[s->op]->training;
}

/* ---- what there is ---- */

static void write_words(struct json_writer *w, const char *name, const char *words) {
    char word[MORPH_WORD_SIZE];
    json_open_array(w, name);
    for (int i = 0; param_word(word, sizeof word, words, i), word[0]; i++) json_put_string(w, NULL, word);
    json_close_array(w);
}

static void write_modes(struct json_writer *w, struct morph_step *s, const char *modes) {
    json_open_array(w, "modes");
    for (int i = 0; param_word(s->mode, sizeof s->mode, modes, i), s->mode[0]; i++) {
        json_open_object(w, NULL);
        json_put_string(w, "name", s->mode);
        json_put_bool(w, "exact", morph_is_exact(s));
        json_close_object(w);
    }
    json_close_array(w);
}

void morph_describe(struct json_writer *w) {
    json_open_array(w, "steps");
    for (int k = 0; morph_table[k]; k++) {
        const struct morph_kind *kind = morph_table[k];
        struct morph_step s = {.op = k};
        json_open_object(w, NULL);
        json_put_string(w, "op", kind->name);
        json_put_string(w, "help", kind->summary);
        write_words(w, "takes", kind->takes);
        if (kind->needs) write_words(w, "needs", kind->needs);
        if (kind->modes)
            write_modes(w, &s, kind->modes);
        else
            json_put_bool(w, "exact", morph_is_exact(&s));
        json_close_object(w);
    }
    json_close_array(w);
}

/* ---- which nodes ---- */

static bool has_parameters(const struct graph *g, const struct node *n) {
    for (int k = 0; k < n->n_inputs; k++)
        if (n->inputs[k] != VALUE_NONE && g->values[n->inputs[k]].trainable) return true;
    return false;
}

static bool is_pattern(const struct morph_step *s) {
    return strpbrk(s->layer, "*?") != NULL;
}

static void write_refused(struct json_writer *w, const struct node *n, const struct err *why) {
    if (!w) return;
    json_open_object(w, NULL);
    json_put_string(w, "layer", n->name);
    json_put_string(w, "reason", why->text);
    json_close_object(w);
}

/* Asks the kind about every node that matches. The first refusal is kept in *why, of a node that the kind could mean if
 * there is one; *refused_one: 0 there was none, 1, 2 of such a node. */
static int ask(int *nodes, int *n, int *refused_one, struct morphing *m, const struct morph_step *s,
               struct json_writer *w, struct err *why) {
    const struct graph *g = m->graph;
    for (int i = 0; i < g->n_nodes; i++) {
        if (!text_matches(s->layer, g->nodes[i].name)) continue;
        struct err refused = {0};
        int ended = morphing_tick(m, &refused), status = ended ? ended : morph_table[s->op]->can(m, i, s, &refused);
        if (!status) nodes[(*n)++] = i;
        if (ended || status == E_NOMEM) {
            *why = refused;
            return status;
        }
        if (!status) continue;
        int meant = 1 + (!morph_table[s->op]->parametric || has_parameters(g, &g->nodes[i]));
        if (meant == 2) write_refused(w, &g->nodes[i], &refused);
        if (*refused_one >= meant) continue;
        *why = refused;
        *refused_one = meant;
        if (is_pattern(s)) err_prefix(why, "'%s'", g->nodes[i].name);
    }
    return 0;
}

int morph_find(int **nodes, int *n, struct morphing *m, const struct morph_step *s, struct json_writer *w,
               struct err *e) {
    const struct graph *g = m->graph;
    bool pattern = is_pattern(s);
    struct err why = {0};
    int refused = 0;
    *n = 0;
    if (!pattern && graph_find_node(g, s->layer) < 0) return edit_no_layer(g, s->layer, e);
    *nodes = mem_calloc((size_t)g->n_nodes + 1, sizeof **nodes);
    if (!*nodes) return err_memory(e, (size_t)g->n_nodes * sizeof **nodes);
    if (w) json_open_array(w, "refused");
    int status = ask(*nodes, n, &refused, m, s, pattern ? w : NULL, &why);
    if (w) json_close_array(w);
    const char *kind = morph_table[s->op]->name;
    if (status)
        err_set(e, status, "%s", why.text);
    else if (*n == 0 && !refused)
        status = err_set(e, E_INVALID, "no layer's name matches '%s'", s->layer);
    else if (*n == 0 && pattern)
        status =
            err_set(e, E_INVALID, "%s can change none of the layers that match '%s'; %s", kind, s->layer, why.text);
    else if (*n == 0)
        status = err_set(e, E_INVALID, "%s cannot change '%s': %s", kind, s->layer, why.text);
    if (status) {
        mem_free(*nodes);
        *nodes = NULL;
    }
    return status;
}

/* Before opset 11 a Gemm must have a bias. Kinds of steps make dense layers without one; zeros keep the function. */
static int complete_dense(struct morphing *m, struct err *e) {
    enum { BIAS = 2 };
    struct graph *g = m->graph;
    bool changed = false;
    int status = 0;
    for (int i = 0; i < g->n_nodes && g->opset < 11 && !status; i++) {
        const struct node *n = &g->nodes[i];
        int zeros;
        if (strcmp(n->op->name, "Gemm") != 0 || (n->n_inputs > BIAS && n->inputs[BIAS] != VALUE_NONE)) continue;
        struct shape shape = {.rank = 1, .dim = {g->values[n->outputs[0]].shape.dim[1]}};
        if (shape.dim[0] < 0) continue; /* computed by computed: no layer of ours */
        status = edit_add_filled(&zeros, g, n->name, "bias", &shape, 0, e);
        if (!status) status = linear_set_input(g, i, BIAS, zeros, e);
        changed = true;
    }
    return status || !changed ? status : morphing_finish(m, e);
}

void morph_leave(struct morphing *m, int i) {
    if (m->left) m->left[i] = true;
}

static void free_names(char **names, int n) {
    for (int i = 0; i < n && names; i++) mem_free(names[i]);
    mem_free(names);
}

/* Applies, and tells which layers have changed: by the names that they had before. */
static int apply_to(struct morphing *m, const int *nodes, int n, const struct morph_step *s, struct json_writer *w,
                    struct err *e) {
    char **names = mem_calloc((size_t)n + 1, sizeof *names);
    bool *left = m->left = mem_calloc((size_t)n + 1, sizeof *left);
    int status = names && left ? 0 : err_memory(e, (size_t)n * sizeof *names);
    for (int i = 0; i < n && w && !status; i++) {
        names[i] = mem_string(m->graph->nodes[nodes[i]].name);
        if (!names[i]) status = err_memory(e, GRAPH_MAX_NAME);
    }
    if (!status) status = morph_table[s->op]->apply(m, nodes, n, s, w, e);
    m->left = NULL;
    if (w && !status) {
        json_open_array(w, "layers");
        for (int i = 0; i < n; i++)
            if (!left[i]) json_put_string(w, NULL, names[i]);
        json_close_array(w);
    }
    free_names(names, n);
    mem_free(left);
    return status;
}

/* What a step that wanted too much was about. */
static void tell_extent(const struct morph_step *s, int n, int before, struct err *e) {
    if (n == 1) return;
    err_prefix(e, "%s of the %d layers that match '%s', in a network of %d nodes", morph_table[s->op]->name, n,
               s->layer, before);
}

int morph_apply(struct morphing *m, const struct morph_step *s, struct json_writer *w, struct err *e) {
    int *nodes = NULL, n, before = m->graph->n_nodes;
    if (w) json_put_string(w, "op", morph_table[s->op]->name);
    if (w && s->mode[0]) json_put_string(w, "mode", s->mode);
    if (w) json_put_bool(w, "exact", morph_is_exact(s));
    int status = morph_find(&nodes, &n, m, s, w, e);
    if (status) return status;
    status = apply_to(m, nodes, n, s, w, e);
    if (status == E_TOO_LARGE) tell_extent(s, n, before, e);
    if (!status) status = complete_dense(m, e);
    m->steps += !status;
    if (!status) graph_change_training(m->graph);
    mem_free(nodes);
    return status;
}

static bool is_wide(const struct graph *parent, const char *name) {
    int before = graph_find_value(parent, name);
    if (before >= 0 && parent->values[before].constant) return parent->values[before].type == DT_FLOAT64;
    for (int i = 0; i < parent->n_inputs; i++)
        if (parent->values[parent->inputs[i]].type == DT_FLOAT64) return true;
    return false;
}

int morph_round(struct graph *g, const struct graph *parent, struct err *e) {
    int status = 0;
    for (int v = 0; v < g->n_values && !status; v++) {
        const struct array *a = g->values[v].constant;
        if (!a || a->type != DT_FLOAT64 || is_wide(parent, g->values[v].name)) continue;
        struct array *rounded;
        status = array_new(&rounded, DT_FLOAT32, &a->shape, e);
        if (status) break;
        array_to_float(rounded->data, a, 0, a->count);
        array_free(g->values[v].constant);
        g->values[v].constant = rounded; /* what an optimizer keeps of it stays */
        g->values[v].type = rounded->type;
    }
    return status ? status : graph_finish(g, e);
}
