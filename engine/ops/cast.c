/* cast.c - Cast and CastLike. All computing is in reals: integers are whole reals, truth is 1 or 0. */
#include "engine/ops/common.h"
#include "engine/ops/fold.h"
#include "engine/ops/unary.h"

UNARY_LOOPS(keep, x, 1)
UNARY_LOOPS(whole, x < 0 ? -real_floor(-x) : real_floor(x), 0)
UNARY_LOOPS(truth, x<0 || x> 0 ? 1 : 0, 0)

/* The numbers of TensorProto.DataType; those that are no type of ours stay DTYPE_COUNT. */
static enum dtype type_of(int64_t number) {
    static const enum dtype types[] = {DTYPE_COUNT, DT_FLOAT32, DT_UINT8,    DT_INT8,     DT_UINT16,  DT_INT16,
                                       DT_INT32,    DT_INT64,   DTYPE_COUNT, DT_BOOL,     DT_FLOAT16, DT_FLOAT64,
                                       DT_UINT32,   DT_UINT64,  DTYPE_COUNT, DTYPE_COUNT, DT_BFLOAT16};
    return number >= 0 && number < (int64_t)(sizeof types / sizeof *types) ? types[number] : DTYPE_COUNT;
}

static int cast_infer(struct inference *i, struct err *e) {
    int64_t number = node_int(i->node, "to", 0);
    int status = infer_same(i, e);
    i->out[0].type = type_of(number);
    if (i->out[0].type == DTYPE_COUNT)
        return err_set(e, E_UNSUPPORTED, "makes elements of ONNX's type %lld", (long long)number);
    return status || !folds(i) ? status : fold_copy(i, e);
}

static int like_infer(struct inference *i, struct err *e) {
    int status = infer_same(i, e);
    i->out[0].type = i->in[1]->type;
    return status || !folds(i) ? status : fold_copy(i, e);
}

static int cast_plan(struct call *c, struct plan *p, struct err *e) {
    enum dtype from = c->graph->values[c->node->inputs[0]].type, to = c->graph->values[c->node->outputs[0]].type;
    bool same = dtype_is_real(to) || (!dtype_is_real(from) && to != DT_BOOL);
    *(struct unary_state *)c->state = (struct unary_state){.loops = same            ? &loops_keep
                                                                    : to == DT_BOOL ? &loops_truth
                                                                                    : &loops_whole};
    return unary_plan(c, p, e);
}

static const struct op_sample samples[] = {{"2x3x4", "to=1", "to the same"}, {NULL, NULL, NULL}};
static const struct op_sample like_samples[] = {{"2x3x4 *1", "", "to the same"}, {NULL, NULL, NULL}};

const struct op op_Cast = {
    .name = "Cast",
    .help = "y = x as another type",
    .min_inputs = 1,
    .max_inputs = 1,
    .min_outputs = 1,
    .max_outputs = 1,
    .attributes = "to saturate",
    .layout = WISH_ANY,
    .apart = 1,
    .state_size = sizeof(struct unary_state),
    .infer = cast_infer,
    .plan = cast_plan,
    .samples = samples,
};

const struct op op_CastLike = {
    .name = "CastLike",
    .help = "y = x as the type of another value",
    .min_inputs = 2,
    .max_inputs = 2,
    .min_outputs = 1,
    .max_outputs = 1,
    .attributes = "saturate",
    .layout = WISH_ANY,
    .apart = 1,
    .state_size = sizeof(struct unary_state),
    .infer = like_infer,
    .plan = cast_plan,
    .samples = like_samples,
};
