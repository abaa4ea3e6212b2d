/* weights.c - safetensors files held against a graph. */
#include "engine/formats/weights.h"

#include <string.h>

#include "base/memory.h"
#include "base/param.h"
#include "engine/formats/onnx_proto.h"
#include "engine/formats/safetensors.h"

#define NAMES_COMPARED 4096 /* in the search for the nearest one */
#define NAMES_SHOWN 5
#define PIECE 256 /* elements converted at a time */

static bool is_weight(const struct value *v) {
    return v->constant && !v->literal && dtype_is_real(v->constant->type);
}

static size_t count_weights(const struct graph *g) {
    size_t n = 0;
    for (int i = 0; i < g->n_values; i++) n += is_weight(&g->values[i]);
    return n;
}

/* ---- out ---- */

int weights_write(struct byte_sink sink, const struct graph *g, struct err *e) {
    size_t n = 0, room = count_weights(g) + 1;
    struct safetensors_tensor *tensors = mem_calloc(room, sizeof *tensors);
    if (!tensors) return err_memory(e, room * sizeof *tensors);
    for (int i = 0; i < g->n_values; i++)
        if (is_weight(&g->values[i]))
            tensors[n++] = (struct safetensors_tensor){g->values[i].name, g->values[i].constant};
    int rc = safetensors_write(sink, tensors, n, e);
    mem_free(tensors);
    return rc;
}

/* ---- in ---- */

struct weights_reader {
    struct graph *g;
    struct safetensors_reader *file;
    bool *seen; /* [n_values] */
    bool changed;
    /* the tensor that is coming */
    int value;
    enum dtype type; /* in the file */
    size_t filled;   /* bytes of the constant */
    unsigned char part[8];
    size_t n_part; /* bytes of an element that came in pieces */
};

static int list_weights(const struct graph *g, struct err *e) {
    char names[512] = "";
    size_t shown = 0, n = count_weights(g);
    for (int i = 0; i < g->n_values && shown < NAMES_SHOWN; i++) {
        size_t used = strlen(names);
        if (!is_weight(&g->values[i])) continue;
        text_print(names + used, sizeof names - used, "%s'%.80s'", shown ? ", " : "", g->values[i].name);
        shown++;
    }
    if (!n) return err_set(e, E_INVALID, "the network has no weights");
    if (n > shown)
        return err_set(e, E_INVALID, "the network has no weight of this name; its weights are %s and %zu more", names,
                       n - shown);
    return err_set(e, E_INVALID, "the network has no weight of this name; its weights are %s", names);
}

static int suggest_name(const struct graph *g, const char *name, struct err *e) {
    size_t n = 0;
    const char **names = mem_calloc(NAMES_COMPARED, sizeof *names);
    if (!names) return err_memory(e, NAMES_COMPARED * sizeof *names);
    for (int i = 0; i < g->n_values && n < NAMES_COMPARED; i++)
        if (is_weight(&g->values[i])) names[n++] = g->values[i].name;
    const char *nearest = param_nearest(name, names, n);
    int rc = nearest ? err_set(e, E_INVALID, "the network has no weight of this name; did you mean '%s'?", nearest)
                     : list_weights(g, e);
    mem_free(names);
    return rc;
}

static int refuse_name(const struct graph *g, const char *name, struct err *e) {
    int index = graph_find_value(g, name);
    const struct value *v = index == VALUE_NONE ? NULL : &g->values[index];
    if (v && v->constant && v->literal)
        return err_set(e, E_INVALID, "it is a Constant node of the network and no weight; leave it out");
    if (v && v->constant)
        return err_set(e, E_INVALID, "the network has %s there, and weights are floats; leave it out",
                       dtype_name(v->constant->type));
    return suggest_name(g, name, e);
}

static int check_type(enum dtype found, enum dtype wanted, struct err *e) {
    bool wide = wanted == DT_FLOAT32 || wanted == DT_FLOAT64;
    if (found == wanted || (wide && dtype_is_real(found))) return 0;
    return err_set(e, E_INVALID, "its elements are %s; the network has %s there: convert them", dtype_name(found),
                   dtype_name(wanted));
}

static int begin_weight(void *context, const char *name, enum dtype type, const struct shape *shape, struct err *e) {
    struct weights_reader *r = context;
    int index = graph_find_value(r->g, name);
    if (index == VALUE_NONE || !is_weight(&r->g->values[index])) return refuse_name(r->g, name, e);
    struct array *a = r->g->values[index].constant;
    if (!shape_equal(shape, &a->shape)) {
        char found[SHAPE_TEXT], wanted[SHAPE_TEXT];
        shape_print(found, sizeof found, shape);
        shape_print(wanted, sizeof wanted, &a->shape);
        return err_set(e, E_INVALID, "its shape is %s; the network has %s there", found, wanted);
    }
    r->value = index;
    r->type = type;
    r->filled = r->n_part = 0;
    int status = check_type(type, a->type, e);
    return status ? status : array_own(a, e);
}

/* Bytes as the constant has them, in the place where the last ones ended. */
static void put_bytes(struct weights_reader *r, const void *bytes, size_t size) {
    unsigned char *to = (unsigned char *)r->g->values[r->value].constant->data + r->filled;
    r->changed = r->changed || memcmp(to, bytes, size) != 0;
    memcpy(to, bytes, size);
    r->filled += size;
}

static void convert(struct weights_reader *r, const unsigned char *bytes, size_t n) {
    bool narrow = r->g->values[r->value].constant->type == DT_FLOAT32;
    float floats[PIECE];
    double doubles[PIECE];
    for (size_t done = 0, some; done < n; done += some) {
        some = n - done < PIECE ? n - done : PIECE;
        const unsigned char *at = bytes + done * dtype_size(r->type);
        if (narrow) {
            dtype_to_float(floats, r->type, at, some);
            put_bytes(r, floats, some * sizeof *floats);
        } else {
            dtype_to_double(doubles, r->type, at, some);
            put_bytes(r, doubles, some * sizeof *doubles);
        }
    }
}

/* Pieces end anywhere, in the middle of an element too. */
static int take_weight(void *context, const void *bytes, size_t size, struct err *e) {
    struct weights_reader *r = context;
    const unsigned char *at = bytes;
    size_t width = dtype_size(r->type);
    (void)e;
    if (r->type == r->g->values[r->value].constant->type) {
        put_bytes(r, bytes, size);
        return 0;
    }
    while (size) {
        bool whole = !r->n_part && size >= width;
        size_t left = width - r->n_part, n = whole ? size / width * width : left < size ? left : size;
        if (whole) {
            convert(r, at, n / width);
        } else {
            memcpy(r->part + r->n_part, at, n);
            r->n_part += n;
        }
        if (r->n_part == width) {
            convert(r, r->part, 1);
            r->n_part = 0;
        }
        at += n;
        size -= n;
    }
    return 0;
}

static int end_weight(void *context, struct err *e) {
    struct weights_reader *r = context;
    const struct array *a = r->g->values[r->value].constant;
    size_t odd = array_find_odd(a, true);
    if (odd < a->count) return onnx_refuse_odd(a, odd, e);
    r->seen[r->value] = true;
    return 0;
}

int weights_reader_new(struct weights_reader **out, struct graph *g, struct err *e) {
    struct weights_reader *r = mem_calloc(1, sizeof *r);
    if (!r) return err_memory(e, sizeof *r);
    const struct array_sink sink = {begin_weight, take_weight, end_weight, r};
    r->g = g;
    size_t values = (size_t)g->n_values + 1;
    r->seen = mem_calloc(values, sizeof *r->seen);
    int rc = r->seen ? safetensors_reader_new(&r->file, sink, UINT64_MAX, e) : err_memory(e, values);
    if (rc)
        weights_reader_free(r);
    else
        *out = r;
    return rc;
}

void weights_reader_free(struct weights_reader *r) {
    if (!r) return;
    safetensors_reader_free(r->file);
    mem_free(r->seen);
    mem_free(r);
}

int weights_reader_feed(struct weights_reader *r, const void *bytes, size_t size, struct err *e) {
    return safetensors_reader_feed(r->file, bytes, size, e);
}

static int check_complete(const struct weights_reader *r, struct err *e) {
    const struct value *first = NULL;
    size_t missing = 0;
    for (int i = 0; i < r->g->n_values; i++) {
        if (!is_weight(&r->g->values[i]) || r->seen[i]) continue;
        if (!missing++) first = &r->g->values[i];
    }
    if (!first) return 0;
    char shape[SHAPE_TEXT];
    shape_print(shape, sizeof shape, &first->constant->shape);
    return err_set(e, E_INVALID, "%zu of the network's %zu weights are missing, the first of them '%.200s', %s %s",
                   missing, count_weights(r->g), first->name, dtype_name(first->constant->type), shape);
}

int weights_reader_finish(bool *changed, struct weights_reader *r, struct err *e) {
    int rc = safetensors_reader_finish(r->file, e);
    if (!rc) rc = check_complete(r, e);
    if (!rc) *changed = r->changed;
    return rc;
}
