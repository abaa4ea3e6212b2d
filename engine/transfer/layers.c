/* layers.c - see layers.h. */
#include "engine/transfer/layers.h"

#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "engine/nn/op.h"
#include "engine/surgery/channels.h"
#include "engine/transfer/init.h"

/* ---- freezing ---- */

bool layers_match(const struct graph *g, const struct node *n, const char *pattern) {
    if (text_matches(pattern, n->name)) return true;
    for (int k = 0; k < n->n_inputs; k++)
        if (n->inputs[k] != VALUE_NONE && g->values[n->inputs[k]].trainable &&
            text_matches(pattern, g->values[n->inputs[k]].name))
            return true;
    return false;
}

static bool has_parameters(const struct graph *g, const struct node *n) {
    for (int k = 0; k < n->n_inputs; k++)
        if (n->inputs[k] != VALUE_NONE && g->values[n->inputs[k]].trainable) return true;
    return false;
}

/* A few names of layers, for messages. */
static void name_some(char *out, size_t room, const struct graph *g) {
    size_t used = 0;
    int named = 0;
    text_copy(out, room, "none");
    for (int i = 0; i < g->n_nodes && named < 5; i++) {
        if (!has_parameters(g, &g->nodes[i])) continue;
        if (!text_print(out + used, room - used, "%s'%s'", named++ ? ", " : "", g->nodes[i].name)) return;
        used = strlen(out);
    }
}

int layers_freeze(struct graph *g, const char *pattern, const char *pointer, struct err *e) {
    bool matched = false;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct node *n = &g->nodes[i];
        if (!layers_match(g, n, pattern)) continue;
        matched = true;
        for (int k = 0; k < n->n_inputs; k++)
            if (n->inputs[k] != VALUE_NONE) g->values[n->inputs[k]].trainable = false;
    }
    if (matched) return 0;
    char names[512];
    name_some(names, sizeof names, g);
    return err_set_at(e, E_INVALID, pointer, "no layer matches '%s'; layers are, among others, %s", pattern, names);
}

int layers_check_trainable(const struct graph *g, struct err *e) {
    for (int v = 0; v < g->n_values; v++)
        if (g->values[v].constant && g->values[v].trainable) return 0;
    return err_set_at(e, E_INVALID, "/freeze", "every layer is frozen: nothing is left to train");
}

/* ---- a new head ---- */

static int no_head(struct err *e) {
    return err_set_at(
        e, E_UNSUPPORTED, "/new_head",
        "the network's outputs do not come straight from one convolution or dense layer that could be replaced");
}

/* The group behind the outputs, when it is all that they are; -1 otherwise. */
static int head_group(const struct channels *c, const struct graph *g) {
    struct channel_list list = c->values[g->outputs[0]];
    if (list.n != 1 || c->segments[list.first].inner != 1) return -1;
    int group = c->segments[list.first].group;
    return c->groups[group].maker < 0 ? -1 : group;
}

int layers_new_head(struct network *n, int64_t classes, uint64_t seed, struct err *e) {
    struct channels *c = NULL;
    struct channel_map *maps = NULL;
    struct graph *fresh = NULL;
    struct network changed = {0};
    int status = channels_find(&c, n->graph, e), group = -1, maker = -1;
    if (!status && (group = head_group(c, n->graph)) < 0) status = no_head(e);
    if (!status && !(maps = mem_calloc((size_t)c->n_groups, sizeof *maps))) status = err_memory(e, 0);
    if (status) goto out;
    /* Outputs are fixed for everybody else; here they are what is to change. */
    maker = c->groups[group].maker;
    c->groups[group].fixed_by = CHANNELS_FREE;
    maps[group].size = classes;
    status = channels_resize(&fresh, c, n->graph, maps, e);
    if (!status) status = init_node(fresh, maker, seed, e);
    if (status) {
        graph_free(fresh);
        goto out;
    }
    /* The outputs' own value: a final Softmax stays where it was. */
    fresh->outputs[0] = n->answer;
    status = network_take(&changed, fresh, e);
    if (status) goto out;
    changed.source = n->source;
    network_fini(n);
    *n = changed;
out:
    mem_free(maps);
    channels_free(c);
    return status;
}
