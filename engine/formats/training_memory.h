/* training_memory.h - what an optimizer keeps of a network's parameters (value.memory, value.share, value.origin,
 * graph.training) as a safetensors file, apart from the network.
 *
 * The tensors of parameter "w" are "w/0" and "w/1", the rule's copies in their order (see optimizer_table), and after
 * surgery "w/share.0" and "w/share.1", and the same behind "w/origin" of the parameter it came from (engine/nn/origin.h).
 * __metadata__ has "format", "rule", "steps", "rate", "peak", and "changed": "no", or the steps before surgery; and for one
 * of several runs "course" and "warmup". A round trip gives the same bits. */
#ifndef ENGINE_FORMATS_TRAINING_MEMORY_H
#define ENGINE_FORMATS_TRAINING_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/formats/sink.h"
#include "engine/nn/graph.h"

/* E_INVALID: the graph keeps nothing (graph.training.rule < 0). E_TOO_LARGE: more than a safetensors file takes. */
int training_memory_write(struct byte_sink sink, const struct graph *g, struct err *e);

/* Push style, into a graph that has the parameters; what it kept before is forgotten. Every tensor must belong to a
 * parameter and have its shape; parameters without one are left without. Numbers that no training can leave behind (NaN,
 * negative squares) are E_INVALID. After an error, and until finish has succeeded, the graph keeps nothing. */
struct training_memory_reader;

int training_memory_reader_new(struct training_memory_reader **out, struct graph *g, struct err *e);
void training_memory_reader_free(struct training_memory_reader *r);
int training_memory_reader_feed(struct training_memory_reader *r, const void *bytes, size_t size, struct err *e);
int training_memory_reader_finish(struct training_memory_reader *r, struct err *e);

#endif
