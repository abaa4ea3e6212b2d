/* scratch.c - see scratch.h. */
#include "jobs/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"

void scratch_init(struct scratch *s, const char *folder, size_t room) {
    *s = (struct scratch){.folder = folder, .room = room};
}

void scratch_fini(struct scratch *s) {
    for (size_t i = 0; i < s->n; i++) {
        if (s->blocks[i].mapped)
            munmap(s->blocks[i].at, s->blocks[i].size);
        else
            mem_free(s->blocks[i].at);
    }
    mem_free(s->blocks);
    *s = (struct scratch){0};
}

static int io_error(const struct scratch *s, const char *what, size_t size, int code, struct err *e) {
    return err_set(e, E_IO,
                   "%s a scratch file of %zu bytes in %s: %s; a job keeps there what is larger than its memory, so "
                   "make room, or use less of the data set (\"limit\")",
                   what, size, s->folder, strerror(code));
}

/* A file without a name: it goes with the process, however that ends. */
static int open_file(int *out, const struct scratch *s, size_t size, struct err *e) {
    *out = open(s->folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (*out >= 0) return 0;
    char path[4096];
    if (!text_print(path, sizeof path, "%s/scratch-XXXXXX", s->folder))
        return err_set(e, E_IO, "the name of the folder %.60s... is too long", s->folder);
    *out = mkostemp(path, O_CLOEXEC);
    if (*out < 0) return io_error(s, "making", size, errno, e);
    unlink(path);
    return 0;
}

/* The blocks on the disk are taken now: a full disk would otherwise be a SIGBUS later on. */
static int map_file(void **out, const struct scratch *s, size_t size, struct err *e) {
    int file, status = open_file(&file, s, size, e);
    if (status) return status;
    int code;
    do {
        code = posix_fallocate(file, 0, (off_t)size);
    } while (code == EINTR);
    if (code) status = io_error(s, "reserving", size, code, e);
    void *map = status ? NULL : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (map == MAP_FAILED) status = io_error(s, "mapping", size, errno, e);
    close(file);
    if (!status) *out = map;
    return status;
}

int scratch_take(void **out, struct scratch *s, size_t size, struct err *e) {
    struct scratch_block *moved = mem_resize(s->blocks, s->n + 1, sizeof *moved);
    if (!moved) return err_memory(e, (s->n + 1) * sizeof *moved);
    s->blocks = moved;
    struct scratch_block b = {.size = size, .mapped = size > s->room};
    int status = 0;
    if (!b.mapped)
        b.at = mem_calloc(size, 1);
    else if (s->folder)
        status = map_file(&b.at, s, size, e);
    else
        status = err_set(e, E_TOO_LARGE, "%zu bytes are needed, and %zu are left", size, s->room);
    if (!status && !b.at) status = err_memory(e, size);
    if (status) return status;
    if (!b.mapped) s->room -= size;
    s->blocks[s->n++] = b;
    *out = b.at;
    return 0;
}

void scratch_seal(struct scratch *s, void *block) {
    for (size_t i = 0; i < s->n; i++)
        if (s->blocks[i].at == block && s->blocks[i].mapped) mprotect(block, s->blocks[i].size, PROT_READ);
}
