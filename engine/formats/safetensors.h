/* safetensors.h - files of named arrays: the length of a header (8 bytes), the header (JSON with type, shape and place
 * of each tensor), and the elements one after the other.
 *
 * Reading is push style; only the header is kept. All that the format promises is checked before the first tensor
 * reaches the sink: the tensors lie side by side, without hole or overlap, and each has the bytes that its shape takes.
 * Types that array.h does not have (F8, F4, complex) are refused by name. */
#ifndef ENGINE_FORMATS_SAFETENSORS_H
#define ENGINE_FORMATS_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "engine/formats/sink.h"

/* The format allows 100 MB. A header becomes a tree of up to 40 times its size, so that we stop earlier: this is enough
 * for some ten thousand tensors. */
#define SAFETENSORS_MAX_HEADER (1u << 20)
#define SAFETENSORS_MAX_TENSORS 16384

struct safetensors_reader;

/* The tensors may have `budget` bytes together; more is E_TOO_LARGE. The sink gets them in the order of their bytes, by
 * names that are all different. */
int safetensors_reader_new(struct safetensors_reader **out, struct array_sink sink, uint64_t budget, struct err *e);
void safetensors_reader_free(struct safetensors_reader *r);
/* After an error the reader is good for nothing but freeing. */
int safetensors_reader_feed(struct safetensors_reader *r, const void *bytes, size_t size, struct err *e);
/* What the header's __metadata__ says under a key, once the first tensor or the end is there; NULL: nothing. */
const char *safetensors_reader_note(const struct safetensors_reader *r, const char *key);
/* Says that the input has ended; E_SYNTAX when something is missing. */
int safetensors_reader_finish(struct safetensors_reader *r, struct err *e);

/* What is written: names all different, both borrowed. */
struct safetensors_tensor {
    const char *name;
    const struct array *array;
};

/* Writes the tensors in the given order, but those with wider elements first, so that each is aligned in the file. The
 * same tensors give the same bytes. E_TOO_LARGE: more tensors or names than a reader takes. */
int safetensors_write(struct byte_sink sink, const struct safetensors_tensor *tensors, size_t n, struct err *e);

/* The same with a __metadata__ in front: keys all different, both borrowed. */
struct safetensors_note {
    const char *key, *text;
};
int safetensors_write_notes(struct byte_sink sink, const struct safetensors_note *notes, size_t n_notes,
                            const struct safetensors_tensor *tensors, size_t n, struct err *e);

#endif
