/* proof_parts.h - the inside of a proof, private to proof*.c. */
#ifndef ENGINE_SURGERY_PROOF_PARTS_H
#define ENGINE_SURGERY_PROOF_PARTS_H

#include "engine/surgery/proof.h"

enum { PARENT, CHILD, SIDES };

/* The two graphs, and the numbers that both get. */
struct trial {
    const struct graph *graphs[SIDES];
    const struct proof_options *options;
    int samples;
    bool fixed;           /* the graphs are for exactly that many */
    double gain_single;   /* tolerance in single, relative */
    struct shape *shapes; /* of the outputs, for that many samples */
    double *numbers;      /* memory behind the inputs */
    double **inputs;      /* [PROOF_INPUTS][inputs of the graph]; those that are not tried have no numbers */
    size_t row;           /* elements of one sample of the first input */
    size_t own;           /* bytes taken by what is not a network */
};

/* Elements of a shape that inference has checked. */
size_t proof_count(const struct shape *s);

/* Whether there is such an input to try in such a mode. */
bool proof_tries(const struct trial *t, enum proof_mode mode, enum proof_input input);

/* Compares f and g, of that shape. `exact`, when not NULL, is f in double. */
struct deviation proof_compare(const struct trial *t, const struct shape *shape, const double *f, const double *g,
                               const double *exact, enum proof_precision precision);

/* Whether a is further beyond its tolerance than b. */
bool proof_is_worse(const struct deviation *a, const struct deviation *b);

/* Values to be compared, and room for what the two graphs say. */
struct answers {
    const int *values[SIDES]; /* [n] */
    const struct shape *shapes;
    int n;
    enum proof_input inputs[PROOF_INPUTS]; /* a pass each */
    int n_inputs;
    double *numbers;
    double **out; /* [SIDES][n_inputs][n] */
};
int proof_answers_init(struct answers *a, struct trial *t, struct err *e);
void proof_answers_fini(struct answers *a, struct trial *t);
static inline double *proof_answer(const struct answers *a, int side, int pass, int i) {
    return a->out[(side * a->n_inputs + pass) * a->n + i];
}

/* Runs both graphs. E_TOO_LARGE when the memory does not do. */
int proof_ask(const struct answers *a, const struct trial *t, enum proof_mode mode, enum proof_precision precision,
              struct err *e);

/* Fills out->first: where the graphs part on that input. */
int proof_search(struct proof *out, struct trial *t, enum proof_mode mode, enum proof_precision precision,
                 enum proof_input input, struct err *e);

/* Fills out->divergence, when there are classes and data. */
int proof_measure_divergence(struct proof *out, const struct trial *t, struct err *e);

/* Fills out->gradients and out->trainable. */
int proof_measure_gradients(struct proof *out, struct trial *t, struct err *e);

#endif
