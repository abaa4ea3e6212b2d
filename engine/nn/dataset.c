/* dataset.c - raw arrays to rows of network inputs. */
#include "engine/nn/dataset.h"

#include <math.h>

static const struct param mean_params[] = {
    {.name = "mean",
     .type = PARAM_TYPE_REAL,
     .size = sizeof(double),
     .present_offset = PARAM_NO_PRESENT,
     .help = "of one channel, after scaling"},
    PARAM_END,
};

static const struct param std_params[] = {
    {.name = "std",
     .type = PARAM_TYPE_REAL,
     .size = sizeof(double),
     .present_offset = PARAM_NO_PRESENT,
     .low = 1e-12,
     .high = 1e12,
     .help = "of one channel, after scaling"},
    PARAM_END,
};

const struct param dataset_params[] = {
    {.name = "ref",
     .type = PARAM_TYPE_STRING,
     PARAM_AT(struct dataset_spec, ref),
     .required = true,
     .refers_to = "dataset",
     .help = "name[@version] of a data set"},
    PARAM_REAL(struct dataset_spec, scale, "1", 1e-12, 1e12, "raw values are divided by it first"),
    PARAM_LIST(struct dataset_spec, mean, n_mean, mean_params, "subtracted, per channel or one for all"),
    PARAM_LIST(struct dataset_spec, std, n_std, std_params, "divided by, per channel or one for all"),
    PARAM_CHOICE(struct dataset_spec, layout, "\"NCHW\"", "NCHW NHWC", "order of the axes of stored samples"),
    PARAM_INT(struct dataset_spec, limit, NULL, 1, 4e9, "only the first so many samples"),
    PARAM_END,
};

#define to_real(out, type, from, n) \
    _Generic((real)0, float : dtype_to_float, double : dtype_to_double)(out, type, from, n)

/* ---- opening ---- */

/* The sample shape that stored samples have when `sample` (as the network takes it) is stored in the layout. */
static struct shape stored_shape(const struct shape *sample, bool channels_last) {
    struct shape s = *sample;
    if (!channels_last || s.rank < 2) return s;
    for (int i = 1; i < s.rank; i++) s.dim[i - 1] = sample->dim[i];
    s.dim[s.rank - 1] = sample->dim[0];
    return s;
}

/* Whether array [N, ...] holds samples of that shape; a channel axis of 1 may be missing. */
static bool holds(const struct shape *array, const struct shape *sample, bool channels_last) {
    struct shape stored = stored_shape(sample, channels_last), have = {.rank = array->rank - 1};
    for (int i = 0; i < have.rank; i++) have.dim[i] = array->dim[i + 1];
    if (shape_equal(&have, &stored)) return true;
    if (sample->rank < 2 || sample->dim[0] != 1) return false;
    struct shape bare = {.rank = sample->rank - 1};
    for (int i = 0; i < bare.rank; i++) bare.dim[i] = sample->dim[i + 1];
    return shape_equal(&have, &bare);
}

void dataset_shape(struct shape *out, const struct dataset_spec *spec, const struct shape *array,
                   const struct shape *input) {
    int rank = array->rank;
    *out = *array;
    if (rank + 1 == input->rank && rank >= 2 && rank < SHAPE_MAX_RANK) { /* [N,H,W]: one channel */
        out->rank = rank + 1;
        out->dim[1] = 1;
        for (int d = 1; d < rank; d++) out->dim[d + 1] = array->dim[d];
    } else if (spec->layout == 1 && rank > 2) {
        out->dim[1] = array->dim[rank - 1];
        for (int d = 1; d < rank - 1; d++) out->dim[d + 1] = array->dim[d];
    }
}

static int mismatch(const struct dataset *d, const struct dataset_spec *spec, const struct shape *input,
                    struct err *e) {
    char have[128], want[128];
    shape_print(have, sizeof have, &d->inputs.shape);
    shape_print(want, sizeof want, input);
    const char *hint = "";
    if (d->inputs.shape.rank > 0 && holds(&d->inputs.shape, &d->sample, !d->channels_last))
        hint = d->channels_last ? "; with \"layout\":\"NCHW\" it would fit" : "; with \"layout\":\"NHWC\" it would fit";
    return err_set(e, E_INVALID, "the inputs of data set %s have shape %s, the network takes %s%s", spec->ref, have,
                   want, hint);
}

static int fit_inputs(struct dataset *d, const struct dataset_spec *spec, const struct shape *input, struct err *e) {
    if (input->rank < 2) {
        char want[128];
        shape_print(want, sizeof want, input);
        return err_set(e, E_INVALID, "the network's input %s has no axis beside the batch", want);
    }
    d->sample.rank = input->rank - 1;
    for (int i = 1; i < input->rank; i++) d->sample.dim[i - 1] = input->dim[i];
    int status = shape_count(&d->row, &d->sample, e);
    if (status) return status;
    d->channels = (size_t)d->sample.dim[0];
    d->plane = d->channels ? d->row / d->channels : 0;
    d->channels_last = spec->layout == 1 && d->sample.rank > 1;
    if (d->inputs.shape.rank < 1 || !holds(&d->inputs.shape, &d->sample, d->channels_last))
        return mismatch(d, spec, input, e);
    if (d->row == 0 || d->inputs.shape.dim[0] == 0)
        return err_set(e, E_INVALID, "data set %s has no samples", spec->ref);
    if (d->inputs.shape.dim[0] > UINT32_MAX)
        return err_set(e, E_TOO_LARGE, "data set %s has more than %u samples", spec->ref, UINT32_MAX);
    d->samples = (size_t)d->inputs.shape.dim[0];
    if (spec->limit != PARAM_ABSENT && (size_t)spec->limit < d->samples) d->samples = (size_t)spec->limit;
    return 0;
}

static int check_channels(const struct dataset *d, const char *name, int n, struct err *e) {
    if (n <= 1 || (size_t)n == d->channels) return 0;
    return err_set(e, E_INVALID,
                   "\"%s\" has %d values, but the samples have %zu channels: give one per channel, or one", name, n,
                   d->channels);
}

/* (x / scale - mean) / std as x * gain + shift. */
static int fit_scaling(struct dataset *d, const struct dataset_spec *spec, struct err *e) {
    int status = check_channels(d, "mean", spec->n_mean, e);
    if (!status) status = check_channels(d, "std", spec->n_std, e);
    if (status) return status;
    d->uniform = spec->n_mean <= 1 && spec->n_std <= 1;
    for (size_t c = 0; c < (d->uniform ? 1 : d->channels); c++) {
        double mean = spec->n_mean ? spec->mean[spec->n_mean > 1 ? c : 0] : 0;
        double std = spec->n_std ? spec->std[spec->n_std > 1 ? c : 0] : 1;
        d->gain[c] = (real)(1 / (spec->scale * std));
        d->shift[c] = (real)(-mean / std);
    }
    return 0;
}

static int fit_labels(struct dataset *d, const struct dataset_spec *spec, const struct data_array *labels,
                      struct err *e) {
    const struct shape *s = &labels->shape;
    bool column = s->rank == 2 && s->dim[1] == 1;
    if ((s->rank != 1 && !column) || s->dim[0] != d->inputs.shape.dim[0]) {
        char have[128], inputs[128];
        shape_print(have, sizeof have, s);
        shape_print(inputs, sizeof inputs, &d->inputs.shape);
        return err_set(e, E_INVALID,
                       "the labels of data set %s have shape %s, its inputs %s: one label per sample is "
                       "expected, shape [%lld]",
                       spec->ref, have, inputs, (long long)d->inputs.shape.dim[0]);
    }
    d->labels = *labels;
    return 0;
}

static double label_value(const struct dataset *d, size_t sample) {
    double value;
    dtype_to_double(&value, d->labels.type, (const char *)d->labels.data + sample * dtype_size(d->labels.type), 1);
    return value;
}

static int check_labels(const struct dataset *d, const struct dataset_spec *spec, int64_t classes, struct err *e) {
    for (size_t i = 0; i < d->samples; i++) {
        double label = label_value(d, i);
        if (!(label >= 0 && label < (double)classes) || label != floor(label))
            return err_set(e, E_INVALID,
                           "label %g of sample %zu of data set %s is not a whole number from 0 to %lld: the "
                           "network has %lld outputs",
                           label, i, spec->ref, (long long)classes - 1, (long long)classes);
    }
    return 0;
}

int dataset_open(struct dataset *out, const struct dataset_spec *spec, const struct data_array *inputs,
                 const struct data_array *labels, const struct shape *input, int64_t classes, struct err *e) {
    *out = (struct dataset){.inputs = *inputs};
    int status = fit_inputs(out, spec, input, e);
    if (!status) status = fit_scaling(out, spec, e);
    if (!status && labels) status = fit_labels(out, spec, labels, e);
    if (!status && out->labels.data && classes > 0) status = check_labels(out, spec, classes, e);
    return status;
}

/* ---- feeding ---- */

VECTORISED static void scale_row(real *restrict x, size_t n, real gain, real shift) {
    for (size_t i = 0; i < n; i++) x[i] = x[i] * gain + shift;
}

/* The most frequent case, images of bytes, in one pass. */
VECTORISED static void scale_bytes(real *restrict x, const uint8_t *restrict from, size_t n, real gain, real shift) {
    for (size_t i = 0; i < n; i++) x[i] = (real)from[i] * gain + shift;
}

#define PIECE 1024 /* elements converted at a time while transposing */

/* [plane, channels] as stored to [channels, plane]. */
static void convert_transposed(const struct dataset *d, real *out, const char *from) {
    real piece[PIECE];
    size_t channel = 0, pixel = 0;
    for (size_t done = 0; done < d->row; done += PIECE) {
        size_t n = d->row - done < PIECE ? d->row - done : PIECE;
        to_real(piece, d->inputs.type, from + done * dtype_size(d->inputs.type), n);
        for (size_t i = 0; i < n; i++) {
            out[channel * d->plane + pixel] = piece[i];
            if (++channel == d->channels) channel = 0, pixel++;
        }
    }
}

static void fetch_row(const struct dataset *d, real *out, size_t sample) {
    const char *from = (const char *)d->inputs.data + sample * d->row * dtype_size(d->inputs.type);
    if (d->inputs.type == DT_UINT8 && d->uniform && !d->channels_last) {
        scale_bytes(out, (const uint8_t *)from, d->row, d->gain[0], d->shift[0]);
        return;
    }
    if (d->channels_last)
        convert_transposed(d, out, from);
    else
        to_real(out, d->inputs.type, from, d->row);
    if (d->uniform) {
        scale_row(out, d->row, d->gain[0], d->shift[0]);
        return;
    }
    for (size_t c = 0; c < d->channels; c++) scale_row(out + c * d->plane, d->plane, d->gain[c], d->shift[c]);
}

void dataset_fetch(const struct dataset *d, real *out, const uint32_t *samples, size_t first, size_t n) {
    for (size_t i = 0; i < n; i++) fetch_row(d, out + i * d->row, samples ? samples[i] : first + i);
}

int64_t dataset_label(const struct dataset *d, size_t sample) {
    return (int64_t)label_value(d, sample);
}
