/* npz_write.c - a stored archive; dates are those of nothing, so that the same arrays give the same bytes. */
#include <string.h>

#define ZLIB_CONST
#include <zlib.h>

#include "engine/formats/npy.h"
#include "engine/formats/npz.h"
#include "engine/formats/zip.h"

#define DATE_1980_01_01 0x21
#define VERSION_NEEDED 20
#define DIRECTORY_MAX (NPZ_MAX_ARRAYS * (ZIP_CENTRAL_SIZE + NPZ_MAX_NAME + 8))

/* A small record being put together. */
struct record {
    char bytes[64];
    size_t size;
};

static void put(struct record *r, size_t width, uint64_t value) {
    for (size_t i = 0; i < width; i++, value >>= 8) r->bytes[r->size++] = (char)(value & 255);
}

void npz_writer_init(struct npz_writer *w, struct byte_sink sink) {
    *w = (struct npz_writer){.sink = sink};
    text_init(&w->directory, DIRECTORY_MAX);
}

void npz_writer_fini(struct npz_writer *w) {
    text_free(&w->directory);
}

static int write_bytes(struct npz_writer *w, const void *bytes, size_t size, struct err *e) {
    if (size > UINT32_MAX - w->offset) return err_set(e, E_TOO_LARGE, "the archive would grow beyond 4 GiB");
    w->offset += size;
    return size ? w->sink.put(w->sink.context, bytes, size, e) : 0;
}

static uint32_t checksum(const void *header, size_t header_size, const void *data, size_t size) {
    uLong crc = crc32(crc32(0, NULL, 0), header, (uInt)header_size);
    return (uint32_t)crc32(crc, data, (uInt)size); /* sizes beyond 4 GiB are refused before */
}

/* What local header and directory have in common. */
static void put_common(struct record *r, uint32_t crc, size_t size, size_t name) {
    put(r, 2, VERSION_NEEDED);
    put(r, 2, ZIP_FLAG_UTF8);
    put(r, 2, ZIP_STORED);
    put(r, 2, 0);
    put(r, 2, DATE_1980_01_01);
    put(r, 4, crc);
    put(r, 4, size);
    put(r, 4, size);
    put(r, 2, name + 4);
    put(r, 2, 0);
}

static int list(struct npz_writer *w, const char *name, uint32_t crc, size_t size, uint64_t offset, struct err *e) {
    struct record r = {.size = 0};
    put(&r, 4, ZIP_CENTRAL);
    put(&r, 2, VERSION_NEEDED);
    put_common(&r, crc, size, strlen(name));
    put(&r, 2 + 2 + 2, 0);
    put(&r, 4, 0);
    put(&r, 4, offset);
    text_add(&w->directory, r.bytes, r.size);
    int rc = text_format(&w->directory, "%s.npy", name);
    if (rc) return rc == E_NOMEM ? err_memory(e, w->directory.room) : err_set(e, rc, "the archive has too many names");
    w->count++;
    return 0;
}

int npz_writer_add(struct npz_writer *w, const char *name, const struct array *a, struct err *e) {
    char header[NPY_HEADER_ROOM];
    size_t header_size, data_size = a->count * dtype_size(a->type);
    if (w->count == NPZ_MAX_ARRAYS || strlen(name) > NPZ_MAX_NAME || !*name)
        return err_set(e, E_TOO_LARGE, "an archive has at most %d arrays with names of 1 to %d bytes", NPZ_MAX_ARRAYS,
                       NPZ_MAX_NAME);
    int rc = npy_header_write(header, &header_size, a->type, &a->shape, e);
    if (rc) return rc;
    if (data_size > UINT32_MAX - 2 * NPY_HEADER_ROOM)
        return err_set(e, E_TOO_LARGE, "the archive would grow beyond 4 GiB");
    uint32_t crc = checksum(header, header_size, a->data, data_size);
    uint64_t start = w->offset;
    struct record r = {.size = 0};
    put(&r, 4, ZIP_LOCAL);
    put_common(&r, crc, header_size + data_size, strlen(name));
    rc = write_bytes(w, r.bytes, r.size, e);
    if (!rc) rc = write_bytes(w, name, strlen(name), e);
    if (!rc) rc = write_bytes(w, ".npy", 4, e);
    if (!rc) rc = write_bytes(w, header, header_size, e);
    if (!rc) rc = write_bytes(w, a->data, data_size, e);
    return rc ? rc : list(w, name, crc, header_size + data_size, start, e);
}

int npz_writer_finish(struct npz_writer *w, struct err *e) {
    uint64_t start = w->offset;
    struct record r = {.size = 0};
    put(&r, 4, ZIP_END);
    put(&r, 2 + 2, 0);
    put(&r, 2, (uint64_t)w->count);
    put(&r, 2, (uint64_t)w->count);
    put(&r, 4, w->directory.length);
    put(&r, 4, start);
    put(&r, 2, 0);
    int rc = write_bytes(w, w->directory.data, w->directory.length, e);
    return rc ? rc : write_bytes(w, r.bytes, r.size, e);
}
