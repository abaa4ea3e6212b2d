/* window.c - attributes of sliding windows, ONNX Conv-11, MaxPool-12, AveragePool-11. */
#include "engine/ops/window.h"

#include <string.h>

/* Spatial axis `axis` (0 = height) of a list attribute for `axes` axes; `standard` without it. */
static int64_t listed(const struct attribute *a, int axes, int axis, int offset, int64_t standard) {
    int at = axis - (2 - axes) + offset;
    return a && at >= 0 && (size_t)at < a->count ? a->integers[at] : standard;
}

static int check_list(const struct node *n, const char *name, size_t wanted, struct err *e) {
    const struct attribute *a = node_attribute(n, name);
    if (!a) return 0;
    if (a->type != ATTRIBUTE_INTS || a->count != wanted)
        return err_set(e, E_INVALID, "%s has %zu numbers; %zu are right for this rank", name, a->count, wanted);
    return 0;
}

/* ONNX: SAME_* makes out = ceil(in / stride), the odd pixel going to the end or the beginning. */
static void pad_same(struct window *w, int axis, bool upper) {
    int out = (w->in[axis] + w->stride[axis] - 1) / w->stride[axis];
    int span = (w->kernel[axis] - 1) * w->dilation[axis] + 1;
    int total = (out - 1) * w->stride[axis] + span - w->in[axis];
    if (total < 0) total = 0;
    w->pad_begin[axis] = upper ? total / 2 : total - total / 2;
    w->pad_end[axis] = total - w->pad_begin[axis];
}

static int size_out(struct window *w, int axis, bool ceiling, struct err *e) {
    int span = (w->kernel[axis] - 1) * w->dilation[axis] + 1;
    int room = w->in[axis] + w->pad_begin[axis] + w->pad_end[axis] - span;
    if (room < 0)
        return err_set(e, E_INVALID, "a kernel that spans %d does not fit into %d + padding %d", span, w->in[axis],
                       w->pad_begin[axis] + w->pad_end[axis]);
    w->out[axis] = (room + (ceiling ? w->stride[axis] - 1 : 0)) / w->stride[axis] + 1;
    /* A window must start inside the data or the padding before it. */
    if (ceiling && (w->out[axis] - 1) * w->stride[axis] >= w->in[axis] + w->pad_begin[axis]) w->out[axis]--;
    return 0;
}

enum { LARGEST = 1 << 20 };

static int read_axis(struct window *w, const struct node *n, int axes, int axis, const int64_t *kernel, struct err *e) {
    const struct attribute *shape = node_attribute(n, "kernel_shape"), *pads = node_attribute(n, "pads");
    int present = axis - (2 - axes) >= 0;
    int64_t value[5] = {
        present ? listed(shape, axes, axis, 0, kernel ? kernel[axis - (2 - axes)] : 0) : 1,
        present ? listed(node_attribute(n, "strides"), axes, axis, 0, 1) : 1,
        present ? listed(node_attribute(n, "dilations"), axes, axis, 0, 1) : 1,
        present ? listed(pads, axes, axis, 0, 0) : 0,
        present ? listed(pads, axes, axis, axes, 0) : 0,
    };
    static const char *const names[] = {"kernel_shape", "strides", "dilations", "pads", "pads"};
    for (int i = 0; i < 5; i++)
        if (value[i] < (i < 3 ? 1 : 0) || value[i] > LARGEST)
            return err_set(e, E_INVALID, "%s has the value %lld", names[i], (long long)value[i]);
    w->kernel[axis] = (int)value[0];
    w->stride[axis] = (int)value[1];
    w->dilation[axis] = (int)value[2];
    w->pad_begin[axis] = (int)value[3];
    w->pad_end[axis] = (int)value[4];
    return 0;
}

int window_read(struct window *w, const struct node *n, const struct shape *data, const int64_t *kernel,
                struct err *e) {
    int axes = data->rank - 2;
    if (axes < 1) return err_set(e, E_INVALID, "data of rank %d has no spatial axis", data->rank);
    if (axes > 2) return err_set(e, E_UNSUPPORTED, "data of rank %d; retort slides over one or two axes", data->rank);
    *w = (struct window){.in = {1, 1}};
    const char *automatic = node_string(n, "auto_pad", "NOTSET");
    bool upper = strcmp(automatic, "SAME_UPPER") == 0, lower = strcmp(automatic, "SAME_LOWER") == 0;
    size_t wanted = (size_t)axes;
    int status = check_list(n, "kernel_shape", wanted, e);
    if (!status) status = check_list(n, "strides", wanted, e);
    if (!status) status = check_list(n, "dilations", wanted, e);
    if (!status) status = check_list(n, "pads", 2 * wanted, e);
    for (int axis = 0; axis < 2 && !status; axis++) {
        if (axis >= 2 - axes) {
            int64_t size = data->dim[2 + axis - (2 - axes)];
            if (size > LARGEST) return err_set(e, E_TOO_LARGE, "a spatial axis of %lld", (long long)size);
            w->in[axis] = (int)size;
        }
        status = read_axis(w, n, axes, axis, kernel, e);
        if (status) break;
        if (upper || lower)
            pad_same(w, axis, upper);
        else if (strcmp(automatic, "VALID") == 0)
            w->pad_begin[axis] = w->pad_end[axis] = 0;
        status = size_out(w, axis, node_int(n, "ceil_mode", 0) != 0, e);
    }
    return status;
}

struct shape window_shape(const struct window *w, const struct shape *data, int64_t channels) {
    struct shape s = {.rank = data->rank, .dim = {data->dim[0], channels}};
    for (int axis = 0; axis < data->rank - 2; axis++) s.dim[2 + axis] = w->out[axis + 4 - data->rank];
    return s;
}
