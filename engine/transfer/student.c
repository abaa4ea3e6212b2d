/* student.c - choosing and scaling the network that is to learn. */
#include "engine/transfer/student.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "engine/surgery/channels.h"
#include "engine/transfer/init.h"

static const struct param layer_element[] = {
    {.name = "layer",
     .type = PARAM_TYPE_OBJECT,
     .size = sizeof(struct layer_spec),
     .present_offset = PARAM_NO_PRESENT,
     .fields = layer_params,
     .bare = "op",
     .help = "one layer"},
    PARAM_END,
};

const struct param student_params[] = {
    PARAM_REAL(struct student_spec, width, NULL, 0.001, 16,
               "the given network with its channels times this, rounded up"),
    PARAM_LIST(struct student_spec, layers, n_layers, layer_element, "a chain of layers"),
    PARAM_MODEL(struct student_spec, model, false, "a stored network"),
    {.name = "init",
     .type = PARAM_TYPE_CHOICE,
     PARAM_AT(struct student_spec, init),
     .choices = "keep random",
     .help = "weights of a stored network: as they are (the default), or new"},
    PARAM_END,
};

enum { INIT_KEEP, INIT_RANDOM };

int student_check(struct student_spec *spec, struct err *e) {
    int forms = !isnan(spec->width) + (spec->n_layers > 0) + (spec->model[0] != '\0');
    if (forms != 1)
        return err_set_at(e, E_INVALID, "/student",
                          "%s: give one of {\"width\":0.25}, {\"layers\":[...]} and {\"model\":\"name\"}",
                          forms ? "the student is described more than once" : "what the student is like is missing");
    if (spec->init >= 0 && !spec->model[0])
        return err_set_at(e, E_INVALID, "/student/init",
                          "only a student of the form {\"model\":\"name\"} has weights to keep");
    if (spec->model[0] && spec->init < 0) spec->init = INIT_KEEP;
    return student_check_layers(spec->layers, spec->n_layers, e);
}

/* ---- width ---- */

static int64_t scaled(const struct channel_group *group, double width) {
    int64_t size = (int64_t)ceil((double)group->size * width - 1e-9);
    int64_t rest = size % group->multiple;
    if (rest) size += group->multiple - rest;
    return size < 1 ? group->multiple : size;
}

/* Says which groups cannot be changed, when that is all of them. */
static int nothing_smaller(const struct graph *g, const struct channels *c, double width, struct err *e) {
    for (int i = 0; i < c->n_groups; i++) {
        const struct channel_group *group = &c->groups[i];
        if (group->fixed_by < 0) continue;
        char reason[GRAPH_MAX_NAME + 64];
        channels_reason(reason, sizeof reason, g, group);
        return err_set_at(e, E_UNSUPPORTED, "/student/width",
                          "width %g makes nothing smaller: %lld channels must stay as %s needs them", width,
                          (long long)group->size, reason);
    }
    return err_set_at(e, E_INVALID, "/student/width",
                      "width %g makes nothing smaller: the network has no hidden channels "
                      "that are more than one",
                      width);
}

size_t student_room(size_t memory) {
    return memory ? memory / (4 * sizeof(float)) : (size_t)1 << 32;
}

static int check_room(const struct channels *c, const struct graph *g, const struct channel_map *maps, double width,
                      size_t room, struct err *e) {
    double count = channels_elements(c, g, maps);
    if (count <= (double)room) return 0;
    return err_set_at(e, E_TOO_LARGE, "/student/width",
                      "width %g makes %.0f weights, more than fits into the memory of a job", width, count);
}

int student_scale(struct graph **out, const struct graph *g, double width, size_t room, struct err *e) {
    struct channels *c = NULL;
    int status = channels_find(&c, g, e);
    if (status) return status;
    bool smaller = false;
    struct channel_map *maps = mem_calloc((size_t)c->n_groups + 1, sizeof *maps);
    if (!maps) status = err_memory(e, (size_t)c->n_groups * sizeof *maps);
    for (int i = 0; i < c->n_groups && !status; i++) {
        if (c->groups[i].fixed_by != CHANNELS_FREE) continue;
        maps[i].size = scaled(&c->groups[i], width);
        smaller = smaller || maps[i].size < c->groups[i].size;
    }
    if (!status && width < 1 && !smaller) status = nothing_smaller(g, c, width, e);
    if (!status) status = check_room(c, g, maps, width, room, e);
    if (!status) status = channels_resize(out, c, g, maps, e);
    mem_free(maps);
    channels_free(c);
    return status;
}

/* ---- building ---- */

static int build_scaled(struct graph **out, const struct student_spec *spec, const struct student_origin *origin,
                        size_t room, struct err *e) {
    if (!origin->template)
        return err_set_at(e, E_INVALID, "/student/width",
                          "width scales a given network, and none is given: name a \"model\", "
                          "or describe the student by \"layers\"");
    /* The stored output, so that a student of a network that ends with Softmax does, too. */
    const struct network *t = origin->template;
    struct graph *copy = NULL;
    int status = graph_clone(&copy, t->graph, e);
    if (status) return status;
    copy->outputs[0] = t->answer;
    status = student_scale(out, copy, spec->width, room, e);
    graph_free(copy);
    return status;
}

static int check_answer(const struct network *n, const struct student_origin *origin, struct err *e) {
    if (origin->template) return network_agree("the student", n, origin->template, "/student", e);
    if (origin->classes && n->classes != origin->classes)
        return err_set_at(e, E_INVALID, "/student",
                          "the student answers with %lld values per sample ([N,%lld]), [N,%lld] is needed",
                          (long long)n->classes, (long long)n->classes, (long long)origin->classes);
    return 0;
}

int student_build(struct network *out, const struct student_spec *spec, const struct student_origin *origin,
                  const struct host *host, struct err *e) {
    *out = (struct network){0};
    struct graph *g = NULL;
    int status;
    bool fresh = true;
    if (spec->model[0]) {
        fresh = spec->init == INIT_RANDOM;
        status = network_load(out, host, spec->model, "/student/model", e);
    } else {
        size_t room = student_room(host->memory);
        status = spec->n_layers ? student_chain(&g, spec->layers, spec->n_layers, &origin->input, room, e)
                                : build_scaled(&g, spec, origin, room, e);
        if (!status) status = network_take(out, g, e);
    }
    if (!status && fresh && !origin->sizes_only) status = init_graph(out->graph, origin->seed, e);
    if (!status) status = check_answer(out, origin, e);
    if (status) network_fini(out);
    return status;
}
