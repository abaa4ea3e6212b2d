/* op.h - what an operator is: one constant record in a file of its own under engine/ops/, and one
 * row in engine/ops/ops.def. From the record come import, shape inference, planning, execution,
 * training, export and the tests.
 *
 * An operator is asked twice. `infer` says, from shapes (and constants where values decide
 * shapes), what comes out. `plan` is told the same node with its tensors placed, opens what it
 * needs, and registers steps: functions that the network will call for every part of the work.
 * Steps compute; they do not allocate, log or fail. */
#ifndef ENGINE_NN_OP_H
#define ENGINE_NN_OP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/random.h"
#include "engine/kernels/real.h"
#include "engine/nn/array.h"
#include "engine/nn/graph.h"

/* ---- shape inference ------------------------------------------------------------------------ */

/* What is known of a value while shapes are inferred. */
struct known {
    enum dtype type;
    struct shape shape;           /* rank -1: unknown */
    const struct array *constant; /* its value, when inference can tell it */
    bool trainable;               /* the constant is a parameter: what is made of it must not be folded */
};

/* One node under inference. `in[i]` is NULL for an input that is left out. The operator fills
 * out[i].type and out[i].shape; when it can compute the value from constants it sets folded[i]
 * (which the caller takes). */
struct inference {
    const struct node *node;
    int opset;
    int n_in, n_out;
    const struct known *const *in;
    struct known *out;
    struct array **folded;
    bool mixes; /* to be set when samples meet although the shapes do not tell (Softmax along the batch) */
};

/* ---- planning ------------------------------------------------------------------------------- */

/* Order of elements in memory. Last: channels (dimension 1) vary fastest, batch slowest:
 * [n, spatial..., channels]. For rank 2 and below both are the same. */
enum layout { LAYOUT_PLAIN, LAYOUT_LAST };

/* Which layouts an operator computes in. */
enum layout_wish {
    WISH_ANY,   /* element by element: whatever the first input has */
    WISH_PLAIN, /* ONNX order */
    WISH_LAST   /* channels last for rank >= 3 */
};

/* A value placed in memory. Get its address with tensor_at. */
struct tensor {
    struct shape shape; /* ONNX order, batch filled in */
    enum layout layout;
    bool per_sample; /* dimension 0 is cut into lanes; else it exists once, as a whole */
    size_t row;      /* elements of one sample (per_sample), or of the whole */
    size_t samples;  /* rows: batch, or 1 */
    size_t
        pixels; /* above 1: a row is a flattened image, pixel by pixel, each with its channels; see op.takes_pixels */
    bool local; /* lives in the arena of the running thread, for one lane at a time */
    real *base; /* when not local */
    size_t offset; /* in the arena, when local */
};

/* The part of a step that one call does: lane `index` with samples [first, first + count), or
 * unit `index` of the step's units. */
struct part {
    int index;
    int first, count;
    int thread;
    real *arena;   /* of this thread */
    real *scratch; /* of this thread, as large as any step asked for */
    const struct run_state *run;
};

/* What changes from run to run. */
struct run_state {
    bool training;
    struct random random; /* of this step; split it by call before drawing */
};

static inline real *tensor_at(const struct tensor *t, const struct part *p) {
    if (t->local) return p->arena + t->offset;
    return t->per_sample ? t->base + (size_t)p->first * t->row : t->base;
}

/* Elements of the tensor in this part. */
static inline size_t tensor_count(const struct tensor *t, const struct part *p) {
    return t->per_sample ? (size_t)p->count * t->row : t->row;
}

/* What the planner merged into a node because it alone consumes the node's output. */
enum activation { ACTIVATION_NONE, ACTIVATION_RELU };

/* A BatchNormalization with fixed statistics that the planner merged into the node before it:
 * y = (x - mean) / sqrt(variance + epsilon) * scale + shift, all [channels]. */
struct folded_norm {
    const struct tensor *scale, *shift, *mean, *variance;
    real epsilon;
};

/* One node of an executable network. */
struct call {
    const struct node *node;
    const struct graph *graph;
    int n_in, n_out;
    struct tensor **in; /* NULL where left out */
    struct tensor **out;
    struct tensor **d_in;           /* gradients to be made; NULL where nobody wants one */
    struct tensor **d_out;          /* gradients to be used; NULL where none arrives (take it as 0) */
    bool *add;                      /* d_in[i] has a part already: add to it instead of overwriting */
    const struct array **constants; /* value of in[i] where it is a constant that training leaves alone */
    bool training;                  /* the plan has a backward pass and batch statistics */
    struct tensor *residual;        /* NULL, or added before the activation: another tensor like out[0] */
    struct tensor *d_residual;      /* NULL, or where its gradient goes */
    bool add_residual;              /* as `add`, for d_residual */
    enum activation activation;     /* applied to out[0] by this call */
    const struct folded_norm *norm; /* NULL, or applied before the activation (inference only) */
    uint64_t label;                 /* splits the step's random numbers */
    int lanes;                      /* lanes of the plan */
    int lane_size;                  /* samples per lane, but perhaps the last */
    int batch;
    int threads;
    void *state; /* the operator's own, of op->state_size bytes, zeroed */
};

struct plan; /* a network being planned */

typedef void step_run(const struct call *call, const struct part *part);

/* When a step runs. PREPARE: after parameters changed, before the call's FORWARD. REPACK: the same,
 * before its last BACKWARD step; what a call with REPACK gathers, it has gathered before that one.
 * FINISH: after its BACKWARD, to turn what lanes gathered into gradients. Steps of these three are
 * units, and must not depend on other steps of the same phase. BACKWARD steps run node by node, last
 * node first. */
enum phase { PHASE_PREPARE, PHASE_FORWARD, PHASE_REPACK, PHASE_BACKWARD, PHASE_FINISH, PHASES };

/* Registers a step that runs once per lane. With `join`, every lane has finished all steps before. */
int plan_lanes(struct plan *p, enum phase phase, step_run *run, bool join, struct err *e);

/* Registers a step of n units that see the whole batch (part.first = 0, part.count = batch). */
int plan_units(struct plan *p, enum phase phase, step_run *run, int n_units, struct err *e);

/* Memory that lives as long as the network: `count` reals, zeroed. */
int plan_memory(real **out, struct plan *p, size_t count, struct err *e);

/* The same for what is made of the parameters by PREPARE and read by FORWARD, or made by REPACK and read
 * by BACKWARD (`reader`). Others may use the memory at other times; *out is known after planning. */
int plan_packed(real **out, struct plan *p, size_t count, enum phase reader, struct err *e);

/* Asks for that many reals of part.scratch during any step. */
void plan_scratch(struct plan *p, size_t count);

/* A buffer of n reals per lane in which lanes gather their share of a gradient; gathering_sum in a
 * FINISH step sums lanes in order. plan_slots: memory that lives as long as the network.
 * plan_gathering: from the call's first BACKWARD step to its FINISH only; the slots are known after
 * planning, and *out must stay where it is. */
struct gathering {
    real *slots; /* [lanes][size] */
    size_t size;
};
int plan_slots(struct gathering *out, struct plan *p, size_t size, struct err *e);
int plan_gathering(struct gathering *out, struct plan *p, size_t size, struct err *e);

/* Large gradients are better gathered by few units of equal parts of the batch than by every lane: how
 * many there should be, at least 1, for one of n reals; as many as lanes when it is small. And a
 * gathering for that many instead of lanes. */
int plan_shares(const struct plan *p, size_t n);
int plan_gathering_of(struct gathering *out, struct plan *p, size_t size, int shares, struct err *e);
/* Sum over lanes of elements [from, from + n) into out (added to it when `add`). */
void gathering_sum(const struct gathering *g, int lanes, size_t from, size_t n, real *out, bool add);
/* Sum over lanes of all elements, where those of the first lane were. */
const real *gathering_total(const struct gathering *g, int lanes);

/* ---- the record ------------------------------------------------------------------------------ */

/* Bits of `keeps`: what the backward pass reads besides the gradients of the outputs. */
#define KEEP_INPUT(i) (1u << (i))
#define KEEP_OUTPUT(i) (1u << (8 + (i)))

enum op_trait {
    OP_VIEW = 1,            /* out[0] is in[0] with another shape: no step, no memory of its own */
    OP_ACTIVATES = 2,       /* honours call->activation */
    OP_SHAPES_ONLY = 4,     /* never computed at run time: always folded (Shape, Constant) */
    OP_FOLDS_NORM = 8,      /* honours call->norm */
    OP_ADDS = 64,           /* honours call->residual when not training */
    OP_ADDS_TRAINING = 128, /* and when training */
    OP_IDLE = 16,           /* a view unless training or asked for more than one output (Dropout) */
    OP_FLAT = 32,           /* has no gradient anywhere: comparisons, rounding */
};

/* A sample call for the tests: shapes of the inputs ("2x3x5x5 4x3x3x3 4") and attributes
 * ("pads=1,1,1,1 group=1"; "opset=11 outputs=2" speak of the call itself). Inputs are random numbers; the
 * operator's parameters are constants. Before a shape: "*" makes it a constant, "!" computed, "+" positive,
 * "^" above 1, "%" between -1 and 1, "#5:" whole numbers below 5. Instead of a shape, constants: "=1,-1"
 * are integers, "~1,0.5" reals, ":0.5" is one number without axes; "_" is an input left out. */
struct op_sample {
    const char *inputs;
    const char *attributes;
    const char *note;
};

struct op {
    const char *name; /* ONNX operator */
    const char *help; /* formula, one line */
    int min_inputs, max_inputs;
    int min_outputs, max_outputs;
    int first_opset, last_opset; /* of the meaning implemented; 0 = any */
    const char *attributes;      /* names it understands, space-separated; others are refused */
    const char *drops;           /* names it takes out of the graph: retort decides those things itself */
    enum layout_wish layout;
    unsigned traits;
    unsigned keeps;
    unsigned parameters; /* bits: inputs that are parameters when constant floats; ~0u = all */
    unsigned statistics; /* bits: inputs that training updates without a gradient */
    unsigned apart;      /* bits: real inputs whose element type need not be that of the others and of the outputs */
    size_t state_size;

    int (*infer)(struct inference *i, struct err *e);
    int (*plan)(struct call *c, struct plan *p, struct err *e); /* NULL with OP_VIEW, OP_SHAPES_ONLY */
    void (*close)(void *state); /* frees what plan opened, other than plan_memory; may be NULL */
    /* Whether the call of such a node can take in[0] as `pixels` when nothing is trained; NULL: never. */
    bool (*takes_pixels)(const struct graph *g, const struct node *n);
    /* Multiply-adds for one sample; NULL = none worth counting. */
    int64_t (*macs)(const struct node *n, const struct shape *const *in, const struct shape *const *out);
    const struct op_sample *samples; /* ends with a row whose inputs are NULL */
};

/* Whether input k is among the bits of `parameters` or `statistics`. */
static inline bool op_takes(int k, unsigned mask) {
    return mask & (1u << (k < 31 ? k : 31));
}

/* The table (engine/ops/ops.def), ended by NULL. */
extern const struct op *const op_table[];

/* The operator of that ONNX name, or NULL. */
const struct op *op_find(const char *name);

/* Most inputs whose layout etc. are looked at in `keeps`. */
#define OP_KEEP_INPUTS 8

#endif
