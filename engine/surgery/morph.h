/* morph.h - steps that change a network's shape: exact ones, after which it computes the same function, and the
 * approximate way back to smaller.
 *
 * A kind of step is one constant record in a file of its own and one row in engine/surgery/morphs.def. Parsing, validation,
 * the description, the checks before anything runs and the property tests walk the table. Steps see no data set:
 * what they need of one (values, statistics, gradients) they ask morph_data for, on the graph as it is then. */
#ifndef ENGINE_SURGERY_MORPH_H
#define ENGINE_SURGERY_MORPH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/json.h"
#include "base/param.h"
#include "base/random.h"
#include "engine/nn/evaluate.h"
#include "engine/nn/graph.h"

enum { MORPH_NAME_SIZE = 128, MORPH_WORD_SIZE = 24, MORPH_MAX_EDGES = 32, MORPH_MAX_STEPS = 64 };

/* Nodes that steps may make a network of: every step of a dozen can multiply them, and the checks run in the server, where
 * most kinds then take some tenths of a second. */
#define MORPH_MAX_NODES 8192

/* An edge of a module: a convolution from one blob to another. "s" is the source, "t" the sink. */
struct morph_edge {
    char from[MORPH_WORD_SIZE], to[MORPH_WORD_SIZE];
    int64_t kernel[2];
    int n_kernel;
    int64_t channels; /* of the blob it leads to */
};

/* One element of "steps", as requests write it: the fields of all kinds together. Those that its kind does not list in
 * `takes` must not be given. */
struct morph_step {
    int op;                      /* row of morph_table */
    char layer[MORPH_NAME_SIZE]; /* a node's name, or a pattern with * and ? */
    char from[MORPH_NAME_SIZE];  /* skip: where the new edge begins; it ends at the input of `layer` */
    int64_t to;                  /* channels; PARAM_ABSENT */
    double factor;               /* of channels; NaN */
    char mode[MORPH_WORD_SIZE];  /* one of the kind's modes, filled in by morph_check */
    int64_t size[2];             /* kernel: height, width */
    int n_size;
    int64_t rank[2]; /* factor: of the middle */
    int n_rank;
    double energy; /* factor: share of the squared singular values kept; NaN */
    int64_t parts; /* subnet: layers of the chain, branches; PARAM_ABSENT */
    char recipe[MORPH_WORD_SIZE];
    struct morph_edge edges[MORPH_MAX_EDGES];
    int n_edges;
    double noise; /* relative to a layer's weights, breaks symmetry but does not preserve; 0 */
};
extern const struct param morph_step_params[];

/* Statistics of a value over calibration data, per channel (dimension 1), for kinds that ask for them. */
struct morph_statistics {
    double *mean, *variance; /* biased */
    size_t channels, samples;
};

/* Where data comes from; all NULL without a data set. The functions compute on the graph they are given. */
struct morph_data {
    void *context;
    /* Mean and variance of every channel of a value. Free both arrays with mem_free. */
    int (*statistics)(struct morph_statistics *out, void *context, const struct graph *g, int value, struct err *e);
    /* Rows of a value as float64 [samples, elements of one sample], at most `most` samples; *out with mem_free. */
    int (*sample)(double **out, size_t *samples, void *context, const struct graph *g, int value, size_t most,
                  struct err *e);
    /* The gradient of a loss by a value, in rows for the same samples in the same order as `sample` gives them for the
     * same `most`. NULL: there are no targets. */
    int (*gradient)(double **out, size_t *samples, void *context, const struct graph *g, int value, size_t most,
                    struct err *e);
};

/* A network under the knife. */
struct morphing {
    struct graph *graph; /* owned, finished */
    struct random random;
    const struct morph_data *data; /* NULL: there is none */
    size_t memory;                 /* bytes that the network may take, and solves; 0: no limit */
    struct tick tick;              /* asked now and then; what it returns ends the step */
    bool sketch;                   /* nobody wants the weights: noise stands for what would have to be solved */
    int steps;                     /* that were applied */
    struct channels *channels;     /* of the graph as it is; NULL until somebody asks, see morphing_channels */
    struct uses *uses;             /* likewise, see engine/surgery/edit.h */
    struct constancy *constancy;   /* likewise, see engine/surgery/constancy.h */
    unsigned char *units;          /* likewise, see engine/surgery/fold_units.c */
    int *clips;                    /* likewise, see engine/surgery/activation.c */
    double weights; /* likewise, at least as many as its constants have; 0: not counted, see edit_afford */
    bool *left;     /* while a step is applied, of its nodes: see morph_leave */
};

/* Takes a finished graph. Free with morphing_fini. */
void morphing_init(struct morphing *m, struct graph *g, uint64_t seed, const struct morph_data *data);
void morphing_fini(struct morphing *m);

/* For whatever may be repeated for every node: an error when the step is to end. */
int morphing_tick(const struct morphing *m, struct err *e);

/* Which channels belong together in the graph as it is; borrowed until the next change. */
int morphing_channels(const struct channels **out, struct morphing *m, struct err *e);

/* Puts another finished graph, which is taken, in the place of the old one. */
void morphing_replace(struct morphing *m, struct graph *g);

/* After changes of m->graph in place: finishes it again. */
int morphing_finish(struct morphing *m, struct err *e);

/* For a kind's apply: the i-th of its nodes stays as it is after all, and is not told among "layers". */
void morph_leave(struct morphing *m, int i);

/* ---- the record ---- */

struct morph_kind {
    const char *name;
    const char *summary;        /* one line */
    const char *takes;          /* fields of morph_step beside op and layer */
    const char *needs;          /* of those, the one that must be given, or two of which one must; NULL: none */
    const char *modes;          /* words, the first is the default; NULL: none */
    const char *inexact;        /* modes that change the function, "*": every one; NULL: none */
    const char *training;       /* why the child differs in training mode all the same, where normalisations come or go;
                                 * NULL: it does not */
    bool parametric;            /* it changes parameters: that a pattern does not mean nodes without any is not told */
    const char *const *samples; /* for tests: steps as JSON with "layer":"*", ended by NULL */

    /* What more is wrong with the step itself, whatever the network: pointers are below `at`. NULL: nothing. */
    int (*check)(const struct morph_step *s, const char *at, struct err *e);

    /* Whether a checked step can change that node: 0, or E_UNSUPPORTED / E_INVALID with the reason. Changes nothing. */
    int (*can)(struct morphing *m, int node, const struct morph_step *s, struct err *e);

    /* Changes the nodes, all of which `can`, in one go; the graph is finished again. Adds members to the open object
     * of the step's report (w may be NULL). On failure the graph may be changed half: the caller has a copy. */
    int (*apply)(struct morphing *m, const int *nodes, int n, const struct morph_step *s, struct json_writer *w,
                 struct err *e);
};

/* The table (engine/surgery/morphs.def), ended by NULL. */
extern const struct morph_kind *const morph_table[];
#define MORPH_KINDS "widen deepen activation kernel skip subnet module fold narrow factor remove"

/* Member "steps": of every kind its name (op), help, the fields it takes, those that it needs (one of them), and its modes,
 * each exact or not; a kind without modes says "exact" itself. */
void morph_describe(struct json_writer *w);

/* ---- running steps ---- */

/* Fills in what is left open and refuses fields and modes that the kind does not have; pointers are below `at`. */
int morph_check(struct morph_step *s, const char *at, struct err *e);

/* Whether the kind in that mode keeps the function. */
bool morph_is_exact(const struct morph_step *s);

/* Normalisations, which in training go by the batch's own statistics. */
int morph_count_norms(const struct graph *g);

/* Why a network with so many of them differs in training from what the step made of it: its kind's `training` where some
 * have come or gone; else NULL. */
const char *morph_training(const struct morph_step *s, int norms, const struct graph *child);

/* The nodes that a checked step can change, in graph order: *nodes with mem_free. With a pattern, those it cannot are
 * left out (and written to w, when not NULL, as "refused": [{"layer","reason"}], without the nodes that a parametric kind
 * finds nothing to change in); a single name that it cannot is an error, as is a pattern that leaves nothing. Names that
 * nothing has get the nearest ones. */
int morph_find(int **nodes, int *n, struct morphing *m, const struct morph_step *s, struct json_writer *w,
               struct err *e);

/* Finds and applies; what is new keeps to the graph's opset. The report's members: op, mode, exact, refused, the kind's own,
 * and layers: those that have changed. */
int morph_apply(struct morphing *m, const struct morph_step *s, struct json_writer *w, struct err *e);

/* Surgery computes in double; what is stored and trained is float, but for what the parent has in double, and for what
 * is new when its inputs are. The graph is finished again. */
int morph_round(struct graph *g, const struct graph *parent, struct err *e);

#endif
