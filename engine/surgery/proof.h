/* proof.h - whether two graphs compute the same function, and what can be said when they do not.
 *
 * Surgery that claims to keep a network's function ends here. Parent f and child g, which take the same inputs and
 * give as many outputs of the same shapes, are run on the same numbers: random ones, large ones of either sign, zeros,
 * and samples of a data set if there are any; in single and in double precision; as they are used and as they are
 * trained. The largest difference decides, never a mean or a sum. What is allowed:
 *   double   1e-10 max(1, max|f|)
 *   single   1e-5 max|f|, beyond 50 layers 1e-4 max|f|, and never less than four times what rounding alone
 *            does to f on these inputs, which the pass in double tells
 * The verdict is on inference at both precisions and, where equality in training is expected, on training in double:
 * statistics of batches without variance multiply rounding by 1 / sqrt(epsilon). For the same reason training is not
 * tried on zeros and on offsets.
 *
 * When they differ, values that have a name and a shape in common are compared in the child's order, and the first
 * that differs names the node. New parameters must learn: the gradient of each is measured, and again after steps of
 * descent, as one that feeds zeros gets its gradient only when these have moved. */
#ifndef ENGINE_SURGERY_PROOF_H
#define ENGINE_SURGERY_PROOF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/json.h"
#include "engine/nn/evaluate.h"
#include "engine/nn/graph.h"

#define PROOF_STEPS 3     /* of descent, with the gradients that are reported */
#define PROOF_PATIENCE 60 /* and on a few samples, before a parameter that has had none counts as dead */
#define PROOF_BORDER 2    /* width of the border of a map; less where the map is small */
#define PROOF_SAMPLES 64  /* at most in one pass */

/* What the inputs are. Inputs of whole numbers get zeros and ones instead. */
enum proof_input {
    PROOF_NORMAL, /* standard normal */
    PROOF_HIGH,   /* the same around +10 */
    PROOF_LOW,    /* around -10 */
    PROOF_ZEROS,
    PROOF_DATA, /* the caller's samples */
    PROOF_INPUTS
};
enum proof_mode { PROOF_INFERENCE, PROOF_TRAINING, PROOF_MODES };
enum proof_precision { PROOF_SINGLE, PROOF_DOUBLE, PROOF_PRECISIONS };

struct proof_options {
    uint64_t seed;
    int samples;   /* in a batch; 0: 8, or 2 for large networks. Fewer when memory does not do */
    int threads;   /* as crew_new */
    size_t memory; /* bytes; 0 = no limit */

    bool training_expected;      /* the same in training, on the same batch */
    const char *training_reason; /* why not; may be NULL */
    bool approximate;            /* equality is not claimed: differences are measured, no node is looked for */

    const float *const
        *data; /* NULL, or per input of the graph [data_samples, ...], prepared as the network takes them */
    size_t data_samples;
    bool logits; /* the output tells classes apart: on the data, divergences are measured */

    const int *parameters; /* values of the child whose gradients are measured; NULL: those that are new */
    int n_parameters;
    bool no_gradients;

    struct tick tick; /* between passes */
};

/* How far apart two arrays are. */
struct deviation {
    bool measured;    /* all else is 0 when not */
    bool equal;       /* max <= tolerance */
    double max, mean; /* of |f - g|; infinite where one is and the other is not, or is the opposite */
    double largest;   /* max|f| */
    double tolerance;
    bool is_map; /* has a border and an interior; zeros otherwise */
    double border_max, border_mean, interior_max, interior_mean;
    int output;      /* the worst one */
    int64_t channel; /* of dimension 1, with the largest difference; -1 without */
};

struct proof_gradient {
    char *parameter;
    size_t elements;
    double norm;       /* of its gradient, at once */
    double norm_later; /* the largest after the steps; of those on a few samples where there was none before */
    size_t idle;       /* elements that never had a gradient beyond rounding */
    bool dead; /* no element ever had: there is nothing that reads it, or a normalisation takes out what it adds */
};

/* Where the graphs part. */
struct proof_difference {
    char *node, *value; /* of the child; NULL: nothing was looked for */
    char *last_equal;   /* the common value before it, or NULL */
    struct deviation deviation;
    enum proof_input input;
    enum proof_mode mode;
    enum proof_precision precision;
};

/* How far apart the two answer with classes: Kullback-Leibler divergences of what softmax makes of the output (or the last
 * node made, when that is a Softmax), of the child from the parent, in nats, on the data, in single precision. */
struct proof_divergence {
    bool measured;
    double mean, largest; /* over the samples */
    double same_argmax;   /* share of the samples */
    int samples;
};

struct proof {
    bool exact;     /* the verdict, above */
    bool trainable; /* no new parameter is dead, those aside whose gradient cancels: a normalisation stands for them */
    int samples;    /* in a batch */
    int layers;     /* Conv, Gemm, MatMul of the larger graph */
    bool training_expected;
    char training_reason[256];
    struct graph_size before, after;
    struct deviation inputs[PROOF_INPUTS][PROOF_MODES][PROOF_PRECISIONS];
    struct deviation worst[PROOF_MODES][PROOF_PRECISIONS]; /* over the inputs */
    struct proof_divergence divergence;
    struct proof_difference first;
    struct proof_gradient *gradients;
    int n_gradients;
    char left_out[512]; /* what did not fit into the memory, or "" */
};

/* Both graphs are finished and stay as they are. That they differ is no error; E_INVALID when their inputs or outputs
 * do not fit together, E_TOO_LARGE when the memory does not even do for one sample in single precision. */
int proof_run(struct proof *out, const struct graph *parent, const struct graph *child, const struct proof_options *o,
              struct err *e);
void proof_free(struct proof *p);

/* Whether proof_run would find the memory that it cannot do without: one sample in single precision. Plans the passes and
 * runs none. E_TOO_LARGE says what they need. */
int proof_fits(const struct graph *parent, const struct graph *child, const struct proof_options *o, struct err *e);

/* An object of that name (NULL at the root):
 *   exact, trainable, samples, layers
 *   max_abs, mean_abs, relative, border, interior    of inference in double (in single if that was left out)
 *   float64, float32     deviations of inference
 *   training             expected, reason, float64, float32
 *   inputs               kind, float64, float32, training
 *   parameters, macs     before, after
 *   gradients            parameter, elements, norm, norm_later, idle, dead; the dead ones first, at most 500
 *   divergence           mean, largest, same_argmax, samples; or null
 *   first_difference     node, value, last_equal, input, precision, training, and its deviation; or null
 *   left_out             what did not fit into the memory; or null
 * A deviation is an object: equal, max_abs, mean_abs, relative, tolerance, largest, output, channel, border, interior;
 * null when it was not measured. */
void proof_write(struct json_writer *w, const char *name, const struct proof *p);

/* One line: "the same function: outputs differ by at most 3.1e-15 in double, 2e-07 in single precision". */
void proof_describe(char *out, size_t room, const struct proof *p);

#endif
