/* npz.h - numpy's .npz archives: a ZIP file with a .npy file per array.
 *
 * Reading is push style in constant memory, straight through the local headers: entries stored or
 * deflated, ZIP64, sizes before or after the data. The shape in each entry's .npy header bounds what
 * may come out of it. Checksums and the directory at the end are verified. */
#ifndef ENGINE_FORMATS_NPZ_H
#define ENGINE_FORMATS_NPZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/formats/sink.h"

#define NPZ_MAX_ARRAYS 1024
#define NPZ_MAX_NAME 255

struct npz_reader;

/* True when the bytes start like a ZIP file (4 are needed). */
bool npz_recognise(const void *bytes, size_t size);

/* The arrays of one archive may have `budget` bytes together; more is E_TOO_LARGE, said before the
 * array that breaks it begins. The sink gets names without ".npy", valid UTF-8, and must itself
 * refuse a name that comes twice. */
int npz_reader_new(struct npz_reader **out, struct array_sink sink, uint64_t budget, struct err *e);
void npz_reader_free(struct npz_reader *r);
/* After an error the reader is good for nothing but freeing. */
int npz_reader_feed(struct npz_reader *r, const void *bytes, size_t size, struct err *e);
/* Says that the input has ended; E_SYNTAX when something is missing. */
int npz_reader_finish(struct npz_reader *r, struct err *e);

/* Writes arrays that are in memory, stored, up to 4 GiB altogether. The same arrays give the same bytes. */
struct npz_writer {
    struct byte_sink sink;
    /* private */
    uint64_t offset;
    struct text directory;
    int count;
};

void npz_writer_init(struct npz_writer *w, struct byte_sink sink);
void npz_writer_fini(struct npz_writer *w);
int npz_writer_add(struct npz_writer *w, const char *name, const struct array *a, struct err *e);
/* Writes the directory. */
int npz_writer_finish(struct npz_writer *w, struct err *e);

#endif
