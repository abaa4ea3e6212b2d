/* loss.c - the table of losses and their weighted sums. Sums are double, whatever `real` is. */
#include "engine/nn/loss.h"

#include <math.h>
#include <string.h>

#define HARD_WEIGHT 0.1 /* of a lone kl when there are labels */

const struct param loss_params[] = {
    {.name = "kind",
     .type = PARAM_TYPE_CHOICE,
     PARAM_AT(struct loss_spec, kind),
     .standard = "\"kl\"",
     .choices = "kl ce mse",
     .help = "kl: divergence from the teacher; ce: cross entropy with labels; mse: squared error of logits"},
    PARAM_REAL(struct loss_spec, weight, "1", 0, 1e6, "factor of this term"),
    PARAM_REAL(struct loss_spec, temperature, "4", 0.01, 1000, "softens both sides of kl"),
    PARAM_REAL(struct loss_spec, hard_weight, NULL, 0, 1,
               "share of the cross entropy with labels in this term; 0.1 when it is the only one and of kind kl"),
    PARAM_END,
};

double loss_log_sum_exp(const real *z, size_t classes, double temperature) {
    double top = (double)z[0];
    for (size_t k = 1; k < classes; k++) top = fmax(top, (double)z[k]);
    double sum = 0;
    for (size_t k = 0; k < classes; k++) sum += exp(((double)z[k] - top) / temperature);
    return top / temperature + log(sum);
}

/* p[classes] = sum over teachers of share * softmax(z / T), for row i. */
static void mix_targets(double *p, const struct loss_rows *r, size_t i, double temperature) {
    memset(p, 0, r->classes * sizeof *p);
    for (int m = 0; m < r->teachers; m++) {
        const real *z = r->targets[m] + i * r->classes;
        double lse = loss_log_sum_exp(z, r->classes, temperature);
        for (size_t k = 0; k < r->classes; k++) p[k] += r->shares[m] * exp((double)z[k] / temperature - lse);
    }
}

/* sum T^2 KL(p_T || softmax(z / T)); gradient T (p_S - p_T). */
static double add_kl(const struct loss_rows *r, double temperature, double scale, real *d_logits) {
    double *p = r->scratch, sum = 0;
    for (size_t i = 0; i < r->n; i++) {
        const real *z = r->logits + i * r->classes;
        real *d = d_logits + i * r->classes;
        mix_targets(p, r, i, temperature);
        double lse = loss_log_sum_exp(z, r->classes, temperature);
        for (size_t k = 0; k < r->classes; k++) {
            double log_q = (double)z[k] / temperature - lse;
            if (p[k] > 0) sum += p[k] * (log(p[k]) - log_q);
            d[k] += (real)(scale * temperature * (exp(log_q) - p[k]));
        }
    }
    return sum * temperature * temperature;
}

/* sum -log softmax(z)[label]; gradient p - onehot. */
static double add_ce(const struct loss_rows *r, double temperature, double scale, real *d_logits) {
    (void)temperature; /* labels are compared with the untempered student */
    double sum = 0;
    for (size_t i = 0; i < r->n; i++) {
        const real *z = r->logits + i * r->classes;
        real *d = d_logits + i * r->classes;
        size_t label = (size_t)r->labels[i];
        double lse = loss_log_sum_exp(z, r->classes, 1);
        sum += lse - (double)z[label];
        for (size_t k = 0; k < r->classes; k++) d[k] += (real)(scale * exp((double)z[k] - lse));
        d[label] -= (real)scale;
    }
    return sum;
}

/* sum over rows of mean_k (z - z_T)^2; gradient 2 (z - z_T) / classes. */
static double add_mse(const struct loss_rows *r, double temperature, double scale, real *d_logits) {
    (void)temperature;
    double sum = 0, classes = (double)r->classes;
    for (size_t i = 0; i < r->n * r->classes; i++) {
        double target = 0;
        for (int m = 0; m < r->teachers; m++) target += r->shares[m] * (double)r->targets[m][i];
        double difference = (double)r->logits[i] - target;
        sum += difference * difference;
        d_logits[i] += (real)(scale * 2 * difference / classes);
    }
    return sum / classes;
}

const struct loss loss_table[] = {
    [LOSS_KL] = {.name = "kl",
                 .help = "T^2 KL(softmax(z_T/T) || softmax(z/T))",
                 .needs_targets = true,
                 .tempered = true,
                 .add = add_kl},
    [LOSS_CE] = {.name = "ce", .help = "-log softmax(z)[label]", .needs_labels = true, .add = add_ce},
    [LOSS_MSE] = {.name = "mse", .help = "mean over classes of (z - z_T)^2", .needs_targets = true, .add = add_mse},
    {.name = NULL},
};

/* Adds a term, or its weight to the equal one that is there. */
static void add_term(struct loss_plan *plan, const struct loss *loss, double weight, double temperature) {
    if (weight == 0) return;
    for (int i = 0; i < plan->n_terms; i++) {
        struct loss_term *t = &plan->terms[i];
        if (t->loss == loss && (t->temperature == temperature || !loss->tempered)) {
            t->weight += weight;
            return;
        }
    }
    plan->terms[plan->n_terms++] = (struct loss_term){.loss = loss, .weight = weight, .temperature = temperature};
}

static int check_needs(const struct loss *loss, bool labels, bool targets, int i, struct err *e) {
    char at[64];
    text_print(at, sizeof at, "/loss/%d/kind", i);
    if (loss->needs_labels && !labels)
        return err_set_at(e, E_INVALID, at, "loss %s needs labels, and the data set has none", loss->name);
    if (loss->needs_targets && !targets) return err_set_at(e, E_INVALID, at, "loss %s needs a teacher", loss->name);
    return 0;
}

int loss_plan(struct loss_plan *out, struct loss_spec *specs, int n_specs, bool labels, bool targets, struct err *e) {
    *out = (struct loss_plan){0};
    for (int i = 0; i < n_specs; i++) {
        struct loss_spec *s = &specs[i];
        const struct loss *loss = &loss_table[s->kind];
        int status = check_needs(loss, labels, targets, i, e);
        if (status) return status;
        bool lone_kl = n_specs == 1 && s->kind == LOSS_KL;
        if (isnan(s->hard_weight)) s->hard_weight = lone_kl && labels ? HARD_WEIGHT : 0;
        double hard = labels ? s->hard_weight : 0;
        add_term(out, loss, s->weight * (1 - hard), s->temperature);
        add_term(out, &loss_table[LOSS_CE], s->weight * hard, 1);
    }
    if (out->n_terms == 0)
        return err_set_at(e, E_INVALID, "/loss", "every term of the loss has weight 0: there is nothing to learn");
    return 0;
}

size_t loss_scratch(size_t classes) {
    return classes;
}

void loss_run(const struct loss_plan *plan, const struct loss_rows *rows, size_t batch, real *d_logits, double *sums) {
    memset(d_logits, 0, rows->n * rows->classes * sizeof *d_logits);
    for (int i = 0; i < plan->n_terms; i++) {
        const struct loss_term *t = &plan->terms[i];
        sums[i] = t->loss->add(rows, t->temperature, t->weight / (double)batch, d_logits);
    }
}

double loss_total(const struct loss_plan *plan, const double *sums, size_t batch) {
    double total = 0;
    for (int i = 0; i < plan->n_terms; i++) total += plan->terms[i].weight * sums[i] / (double)batch;
    return total;
}
