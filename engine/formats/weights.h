/* weights.h - the weights of a network apart from it: a safetensors file with a tensor for each initializer.
 *
 * Weights are the initializers in a float type: what training changes, the statistics of BatchNormalization, and
 * settings that the file keeps beside them (the bounds of a Clip). Constant nodes of several numbers count as
 * initializers, as everywhere here. Integers (shapes, indices, quantised weights) and single constants that are nodes
 * belong to the architecture. Names are those of the ONNX file when the graph was read with onnx_read_plain. */
#ifndef ENGINE_FORMATS_WEIGHTS_H
#define ENGINE_FORMATS_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/formats/sink.h"
#include "engine/nn/graph.h"

/* Writes the weights in their own types, in the order of the graph (see safetensors_write). */
int weights_write(struct byte_sink sink, const struct graph *g, struct err *e);

/* Takes weights out of a safetensors file, push style, and puts them into the graph, which is borrowed and changes as
 * they come: after an error its weights are a mixture.
 *
 * Every weight must be there with exactly its shape, and nothing else may be. Elements become the type that the graph
 * has: floats of any width become float32 and float64; float16 and bfloat16 must be in the file as such. NaN and
 * infinite ones are E_INVALID. */
struct weights_reader;

int weights_reader_new(struct weights_reader **out, struct graph *g, struct err *e);
void weights_reader_free(struct weights_reader *r);
int weights_reader_feed(struct weights_reader *r, const void *bytes, size_t size, struct err *e);
/* *changed: a weight has another value than before. */
int weights_reader_finish(bool *changed, struct weights_reader *r, struct err *e);

#endif
