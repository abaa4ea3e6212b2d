/* dataset.h - examples for a network: raw arrays, and how a sample becomes an input. */
#ifndef ENGINE_NN_DATASET_H
#define ENGINE_NN_DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/param.h"
#include "engine/kernels/real.h"
#include "engine/nn/array.h"

/* A borrowed array of any type, in memory or mapped: little endian, C order. */
struct data_array {
    enum dtype type;
    struct shape shape; /* [samples, ...] */
    const void *data;
};

#define DATASET_MAX_CHANNELS 64

/* How raw values become inputs: x / scale, then (x - mean[c]) / std[c]. As in requests:
 * "fashion" or {"ref":"fashion","scale":255,"mean":[...],"std":[...],"layout":"NHWC","limit":1000}. */
struct dataset_spec {
    char ref[192];
    double scale;
    double mean[DATASET_MAX_CHANNELS];
    int n_mean;
    double std[DATASET_MAX_CHANNELS];
    int n_std;
    int layout;    /* 0 = NCHW, 1 = NHWC: of the stored samples; networks always take NCHW */
    int64_t limit; /* first so many samples; PARAM_ABSENT = all */
};
extern const struct param dataset_params[]; /* bare: "ref" */

/* Examples ready to be fed: made once per run, read by many threads. */
struct dataset {
    struct data_array inputs;
    struct data_array labels; /* data NULL without labels */
    size_t samples;
    struct shape sample; /* as the network takes it, without batch */
    size_t row;          /* elements of one sample */
    size_t channels;     /* sample.dim[0] */
    size_t plane;        /* elements per channel */
    bool channels_last;  /* stored so; transposed when fed */
    bool uniform;        /* one gain and shift for all channels: those of channel 0 */
    real gain[DATASET_MAX_CHANNELS], shift[DATASET_MAX_CHANNELS]; /* x * gain + shift */
};

/* The shape, batch first, that samples stored as `array` have for a network: channels to the front, and an axis of 1 where
 * `input` has one axis more. */
void dataset_shape(struct shape *out, const struct dataset_spec *spec, const struct shape *array,
                   const struct shape *input);

/* Fits arrays to a network's input (shape with batch first): a missing channel axis of 1 is added,
 * any other mismatch is E_INVALID showing both shapes. labels may be NULL. Labels must be whole
 * numbers in [0, classes) when classes > 0: the first one that is not is named. Arrays without data
 * (only looked at, not to be fed) are checked as far as their shapes go. The arrays' data is borrowed. */
int dataset_open(struct dataset *out, const struct dataset_spec *spec, const struct data_array *inputs,
                 const struct data_array *labels, const struct shape *input, int64_t classes, struct err *e);

/* Writes samples[i] for i in [0, n) as consecutive rows. `samples` NULL: first + i. */
void dataset_fetch(const struct dataset *d, real *out, const uint32_t *samples, size_t first, size_t n);

/* The sample's label; only with labels. */
int64_t dataset_label(const struct dataset *d, size_t sample);

#endif
