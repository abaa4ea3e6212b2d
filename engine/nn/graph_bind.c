/* graph_bind.c - axes of inputs whose size the file leaves open, until data says how large they are. */
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "engine/nn/graph.h"

int graph_free_axis(struct graph *g, int input, int axis, const char *name, struct err *e) {
    if (strlen(name) > GRAPH_MAX_NAME)
        return err_set(e, E_TOO_LARGE, "the name of dimension %d has %zu bytes; at most %d are taken", axis,
                       strlen(name), GRAPH_MAX_NAME);
    if (g->n_free_axes == GRAPH_MAX_FREE)
        return err_set(e, E_TOO_LARGE, "the inputs have more than %d free dimensions: export with fixed sizes",
                       GRAPH_MAX_FREE);
    struct free_axis *list = mem_resize(g->free_axes, (size_t)g->n_free_axes + 1, sizeof *list);
    if (!list) return err_memory(e, ((size_t)g->n_free_axes + 1) * sizeof *list);
    g->free_axes = list;
    char *copy = mem_string(name);
    if (!copy) return err_memory(e, strlen(name));
    list[g->n_free_axes++] = (struct free_axis){input, axis, copy};
    g->values[g->inputs[input]].shape.dim[axis] = DIM_FREE;
    return 0;
}

/* ---- for messages ---- */

const char *graph_axis_name(const struct graph *g, int value, int axis) {
    for (int i = 0; i < g->n_free_axes; i++) {
        const struct free_axis *f = &g->free_axes[i];
        if (g->inputs[f->input] == value && f->axis == axis && *f->name) return f->name;
    }
    return "?";
}

void graph_print_shape(char *out, size_t room, const struct graph *g, int value) {
    const struct shape *s = &g->values[value].shape;
    size_t used = 0;
    text_copy(out, room, s->rank < 0 ? "[?]" : "[");
    for (int d = 0; d < s->rank; d++) {
        used = strlen(out);
        const char *comma = d ? "," : "";
        if (s->dim[d] == DIM_FREE)
            text_print(out + used, room - used, "%s%.40s", comma, graph_axis_name(g, value, d));
        else if (s->dim[d] == DIM_BATCH)
            text_print(out + used, room - used, "%sN", comma);
        else
            text_print(out + used, room - used, "%s%lld", comma, (long long)s->dim[d]);
    }
    used = strlen(out);
    if (s->rank >= 0) text_copy(out + used, room - used, "]");
}

int graph_check_bound(const struct graph *g, struct err *e) {
    if (!g->n_free_axes) return 0;
    char text[SHAPE_TEXT];
    const struct free_axis *f = &g->free_axes[0];
    graph_print_shape(text, sizeof text, g, g->inputs[f->input]);
    return err_set(e, E_INVALID,
                   "the network leaves open how large dimension %d ('%.40s') of its input '%.200s' %s is, and nothing "
                   "here says it: give data of the size that is meant, or export the network with fixed sizes",
                   f->axis, *f->name ? f->name : "?", g->values[g->inputs[f->input]].name, text);
}

/* ---- binding ---- */

static bool fits(const struct shape *wanted, const struct shape *given) {
    if (wanted->rank != given->rank) return false;
    for (int d = 0; d < wanted->rank; d++)
        if (wanted->dim[d] >= 0 && d > 0 && wanted->dim[d] != given->dim[d]) return false;
    return true;
}

static int refuse_shape(const struct graph *g, int input, const struct shape *given, const char *source,
                        struct err *e) {
    char want[SHAPE_TEXT], have[SHAPE_TEXT];
    graph_print_shape(want, sizeof want, g, g->inputs[input]);
    shape_print(have, sizeof have, given);
    return err_set(e, E_INVALID, "the network's input '%.200s' has shape %s, which %s of shape %s does not fit",
                   g->values[g->inputs[input]].name, want, source, have);
}

/* Axes of one name must have one size. */
static int check_namesakes(const struct graph *g, const struct free_axis *f, const struct shape *given,
                           const char *source, struct err *e) {
    for (int i = 0; i < g->n_free_axes; i++) {
        const struct free_axis *other = &g->free_axes[i];
        if (other->input != f->input || !*f->name || strcmp(other->name, f->name) != 0) continue;
        if (given->dim[other->axis] == given->dim[f->axis]) continue;
        char want[SHAPE_TEXT], have[SHAPE_TEXT];
        graph_print_shape(want, sizeof want, g, g->inputs[f->input]);
        shape_print(have, sizeof have, given);
        return err_set(
            e, E_INVALID,
            "the network's input '%.200s' has shape %s: dimensions %d and %d are both called '%.40s' and must "
            "be equal, but %s of shape %s has %lld and %lld there",
            g->values[g->inputs[f->input]].name, want, f->axis, other->axis, f->name, source, have,
            (long long)given->dim[f->axis], (long long)given->dim[other->axis]);
    }
    return given->dim[f->axis] > 0 ? 0
                                   : err_set(e, E_INVALID, "dimension %d of %s is %lld; at least 1 is needed", f->axis,
                                             source, (long long)given->dim[f->axis]);
}

/* The axis and those of its name, in all inputs. */
static void bind_axis(struct graph *g, int index, int64_t size) {
    struct free_axis which = g->free_axes[index];
    int kept = 0;
    for (int i = 0; i < g->n_free_axes; i++) {
        struct free_axis f = g->free_axes[i];
        if (i != index && (!*which.name || strcmp(f.name, which.name) != 0)) {
            g->free_axes[kept++] = f;
            continue;
        }
        g->values[g->inputs[f.input]].shape.dim[f.axis] = size;
        if (i != index) mem_free(f.name);
    }
    g->n_free_axes = kept;
    mem_free(which.name);
}

static int first_of(const struct graph *g, int input) {
    for (int i = 0; i < g->n_free_axes; i++)
        if (g->free_axes[i].input == input) return i;
    return -1;
}

int graph_bind_input(struct graph *g, int input, const struct shape *given, const char *source, struct err *e) {
    int status = 0, at;
    if (!g->n_free_axes) return 0;
    if (!fits(&g->values[g->inputs[input]].shape, given)) return refuse_shape(g, input, given, source, e);
    for (int i = 0; i < g->n_free_axes && !status; i++)
        if (g->free_axes[i].input == input) status = check_namesakes(g, &g->free_axes[i], given, source, e);
    while (!status && (at = first_of(g, input)) >= 0) bind_axis(g, at, given->dim[g->free_axes[at].axis]);
    if (status || g->n_free_axes) return status;
    status = graph_finish(g, e);
    if (status) {
        char text[SHAPE_TEXT];
        shape_print(text, sizeof text, given);
        err_prefix(e, "with %s of shape %s", source, text);
    }
    return status;
}
