/* proof_write.c - a proof as JSON, and as a line. */
#include <math.h>
#include <string.h>

#include "base/text.h"
#include "engine/surgery/proof_parts.h"

static const char *const input_names[PROOF_INPUTS] = {"normal", "high", "low", "zeros", "data"};
static const char *const precision_names[PROOF_PRECISIONS] = {"float32", "float64"};

/* ---- deviations ---- */

static double relative(const struct deviation *d) {
    return d->max == 0 ? 0 : d->max / (d->largest > 1e-30 ? d->largest : 1e-30);
}

static void write_part(struct json_writer *w, const char *name, const struct deviation *d, double max, double mean) {
    if (!d->measured || !d->is_map) {
        json_put_null(w, name);
        return;
    }
    json_open_object(w, name);
    json_put_number(w, "max_abs", max);
    json_put_number(w, "mean_abs", mean);
    json_close_object(w);
}

static void write_parts(struct json_writer *w, const struct deviation *d) {
    write_part(w, "border", d, d->border_max, d->border_mean);
    write_part(w, "interior", d, d->interior_max, d->interior_mean);
}

/* The members of a deviation. */
static void write_members(struct json_writer *w, const struct deviation *d) {
    json_put_bool(w, "equal", d->equal);
    json_put_number(w, "max_abs", d->max);
    json_put_number(w, "mean_abs", d->mean);
    json_put_number(w, "relative", relative(d));
    json_put_number(w, "tolerance", d->tolerance);
    json_put_number(w, "largest", d->largest);
    json_put_int(w, "output", d->output);
    if (d->channel >= 0)
        json_put_int(w, "channel", d->channel);
    else
        json_put_null(w, "channel");
    write_parts(w, d);
}

static void write_deviation(struct json_writer *w, const char *name, const struct deviation *d) {
    if (!d->measured) {
        json_put_null(w, name);
        return;
    }
    json_open_object(w, name);
    write_members(w, d);
    json_close_object(w);
}

static void write_precisions(struct json_writer *w, const struct deviation d[PROOF_PRECISIONS]) {
    write_deviation(w, "float64", &d[PROOF_DOUBLE]);
    write_deviation(w, "float32", &d[PROOF_SINGLE]);
}

/* ---- the parts of a proof ---- */

/* What the verdict is about first of all. */
static const struct deviation *headline(const struct proof *p) {
    const struct deviation *d = p->worst[PROOF_INFERENCE];
    return d[PROOF_DOUBLE].measured ? &d[PROOF_DOUBLE] : &d[PROOF_SINGLE];
}

static void write_training(struct json_writer *w, const struct proof *p) {
    json_open_object(w, "training");
    json_put_bool(w, "expected", p->training_expected);
    json_put_string(w, "reason", p->training_reason[0] ? p->training_reason : NULL);
    write_precisions(w, p->worst[PROOF_TRAINING]);
    json_close_object(w);
}

static void write_inputs(struct json_writer *w, const struct proof *p) {
    json_open_array(w, "inputs");
    for (int i = 0; i < PROOF_INPUTS; i++) {
        if (!p->inputs[i][PROOF_INFERENCE][PROOF_SINGLE].measured) continue;
        json_open_object(w, NULL);
        json_put_string(w, "kind", input_names[i]);
        write_precisions(w, p->inputs[i][PROOF_INFERENCE]);
        json_open_object(w, "training");
        write_precisions(w, p->inputs[i][PROOF_TRAINING]);
        json_close_object(w);
        json_close_object(w);
    }
    json_close_array(w);
}

static void write_sizes(struct json_writer *w, const char *name, int64_t before, int64_t after) {
    json_open_object(w, name);
    json_put_int(w, "before", before);
    json_put_int(w, "after", after);
    json_close_object(w);
}

static void write_gradient(struct json_writer *w, const struct proof_gradient *g) {
    json_open_object(w, NULL);
    json_put_string(w, "parameter", g->parameter);
    json_put_int(w, "elements", (int64_t)g->elements);
    json_put_number(w, "norm", g->norm);
    json_put_number(w, "norm_later", g->norm_later);
    json_put_int(w, "idle", (int64_t)g->idle);
    json_put_bool(w, "dead", g->dead);
    json_close_object(w);
}

static void write_gradients(struct json_writer *w, const struct proof *p) {
    enum { MOST = 500 };
    int written = 0;
    json_open_array(w, "gradients");
    for (int dead = 1; dead >= 0; dead--)
        for (int i = 0; i < p->n_gradients && written < MOST; i++) {
            if (p->gradients[i].dead != dead) continue;
            write_gradient(w, &p->gradients[i]);
            written++;
        }
    json_close_array(w);
}

static void write_divergence(struct json_writer *w, const struct proof_divergence *d) {
    if (!d->measured) {
        json_put_null(w, "divergence");
        return;
    }
    json_open_object(w, "divergence");
    json_put_number(w, "mean", d->mean);
    json_put_number(w, "largest", d->largest);
    json_put_number(w, "same_argmax", d->same_argmax);
    json_put_int(w, "samples", d->samples);
    json_close_object(w);
}

static void write_first(struct json_writer *w, const struct proof *p) {
    const struct proof_difference *d = &p->first;
    if (!d->node) {
        json_put_null(w, "first_difference");
        return;
    }
    json_open_object(w, "first_difference");
    json_put_string(w, "node", d->node);
    json_put_string(w, "value", d->value);
    json_put_string(w, "last_equal", d->last_equal);
    json_put_string(w, "input", input_names[d->input]);
    json_put_string(w, "precision", precision_names[d->precision]);
    json_put_bool(w, "training", d->mode == PROOF_TRAINING);
    write_members(w, &d->deviation);
    json_close_object(w);
}

void proof_write(struct json_writer *w, const char *name, const struct proof *p) {
    const struct deviation *d = headline(p);
    json_open_object(w, name);
    json_put_bool(w, "exact", p->exact);
    json_put_bool(w, "trainable", p->trainable);
    json_put_number(w, "max_abs", d->max);
    json_put_number(w, "mean_abs", d->mean);
    json_put_number(w, "relative", relative(d));
    write_parts(w, d);
    json_put_int(w, "samples", p->samples);
    json_put_int(w, "layers", p->layers);
    write_precisions(w, p->worst[PROOF_INFERENCE]);
    write_training(w, p);
    write_inputs(w, p);
    write_sizes(w, "parameters", p->before.parameters, p->after.parameters);
    write_sizes(w, "macs", p->before.macs, p->after.macs);
    write_gradients(w, p);
    write_divergence(w, &p->divergence);
    write_first(w, p);
    json_put_string(w, "left_out", p->left_out[0] ? p->left_out : NULL);
    json_close_object(w);
}

void proof_describe(char *out, size_t room, const struct proof *p) {
    const struct deviation *d = p->worst[PROOF_INFERENCE];
    char figures[96] = "";
    if (d[PROOF_DOUBLE].measured)
        text_print(figures, sizeof figures, "%.2g in double, %.2g in single precision", d[PROOF_DOUBLE].max,
                   d[PROOF_SINGLE].max);
    else
        text_print(figures, sizeof figures, "%.2g in single precision", d[PROOF_SINGLE].max);
    if (p->exact)
        text_print(out, room, "the same function: outputs differ by at most %s", figures);
    else if (!p->first.node && p->divergence.measured)
        text_print(out, room, "not the same function: outputs differ by up to %s; KL divergence of the classes %.2g",
                   figures, p->divergence.mean);
    else if (!p->first.node)
        text_print(out, room, "not the same function: outputs differ by up to %s", figures);
    else
        text_print(out, room, "not the same function: outputs differ by up to %s, first at node '%.200s'%s", figures,
                   p->first.node, p->first.mode == PROOF_TRAINING ? " in training" : "");
}
