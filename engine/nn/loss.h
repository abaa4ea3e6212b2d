/* loss.h - losses on a classifier's logits: a table of terms, and weighted sums of them.
 *
 * Notation: z = logits [rows, classes] of the student, z_T = those of a teacher, T = temperature,
 * p^T = softmax(z / T). Every value is the mean over the batch, never over the classes, but for
 * mse, which is the mean over all elements. Rows are independent of each other: a batch may be
 * cut into blocks, and blocks may be worked on by different threads.
 *
 * Several teachers with shares s_m (sum 1) are one teacher, as in ensemble distillation: kl takes
 * the mixture p_T = sum_m s_m softmax(z_m / T), mse the mean logits sum_m s_m z_m. */
#ifndef ENGINE_NN_LOSS_H
#define ENGINE_NN_LOSS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/param.h"
#include "engine/kernels/real.h"

enum loss_kind { LOSS_KL, LOSS_CE, LOSS_MSE }; /* rows of loss_table */

/* As in requests: {"kind":"kl","temperature":4,"hard_weight":0.1}. */
struct loss_spec {
    int kind; /* enum loss_kind */
    double weight;
    double temperature;
    double hard_weight; /* share of the cross entropy with labels in this term; NaN: see loss_plan */
};
extern const struct param loss_params[]; /* fields of one loss_spec; "bare" is kind */

#define LOSS_MAX_TERMS 8 /* in a request */
#define LOSS_MAX_TEACHERS 16

/* Rows of a batch as a term sees them. */
struct loss_rows {
    const real *logits;         /* [n, classes] */
    const real *const *targets; /* [teachers][n, classes]: logits of the teachers; NULL without */
    const double *shares;       /* [teachers], sum 1 */
    int teachers;
    const int32_t *labels; /* [n]; NULL without */
    size_t n, classes;
    double *scratch; /* loss_scratch(classes) elements of the calling thread */
};

struct loss_term {
    const struct loss *loss;
    double weight;
    double temperature;
};

/* A row of the table. */
struct loss {
    const char *name;
    const char *help; /* formula, one line */
    bool needs_labels, needs_targets;
    bool tempered; /* the temperature matters */
    /* Returns the unweighted sum over the rows (not yet divided by the batch) and adds
     * scale * d(sum)/d(logits) to d_logits. Finite logits give finite results. */
    double (*add)(const struct loss_rows *rows, double temperature, double scale, real *d_logits);
};
extern const struct loss loss_table[]; /* in the order of loss_params' choices; ended by name NULL */

/* What is minimised: a weighted sum of terms, each kind at most once per temperature. */
struct loss_plan {
    struct loss_term terms[2 * LOSS_MAX_TERMS];
    int n_terms;
};

/* Expands specs: a term of weight w with hard_weight h becomes w (1 - h) of itself and w h of cross
 * entropy (equation 1 of supervised-distillation: L = h CE + (1 - h) T^2 KL). An absent hard_weight
 * is 0.1 when the term is a lone kl and there are labels, else 0; it is written back. Terms that
 * need what is not there are E_INVALID, but hard_weight without labels, which counts as 0. */
int loss_plan(struct loss_plan *out, struct loss_spec *specs, int n_specs, bool labels, bool targets, struct err *e);

size_t loss_scratch(size_t classes);

/* Overwrites d_logits [n, classes] with the gradient of the whole loss for a batch of `batch` rows, of
 * which these are some, and sums[i] with term i's unweighted sum over these rows: divide by the batch
 * for its mean. */
void loss_run(const struct loss_plan *plan, const struct loss_rows *rows, size_t batch, real *d_logits, double *sums);

/* The weighted sum of term means. */
double loss_total(const struct loss_plan *plan, const double *sums, size_t batch);

/* log(sum_k exp(z[k] / T)), shifted by the maximum. */
double loss_log_sum_exp(const real *z, size_t classes, double temperature);

#endif
