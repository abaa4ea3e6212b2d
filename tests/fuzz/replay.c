/* replay.c - runs a fuzz target over files and folders: the corpus as a plain test. Without any, over the fixtures and
 * tests/fuzz/corpus/<target>, where inputs that once broke something are kept as well. */
#include <dirent.h>
#include <string.h>

#include "base/memory.h"
#include "tests/fuzz/fuzz.h"

static int run_file(const char *path) {
    FILE *in = fopen(path, "rb");
    if (!in) return -1;
    uint8_t *bytes = NULL;
    size_t size = 0, got = 1;
    for (size_t room = 65536; got; room *= 2) {
        bytes = realloc(bytes, room);
        if (!bytes) abort();
        size += got = fread(bytes + size, 1, room - size, in);
    }
    fclose(in);
    LLVMFuzzerTestOneInput(bytes, size);
    free(bytes);
    must(mem_live() == 0, "%s leaves %lld blocks", path, (long long)mem_live());
    return 1;
}

/* Files run, or -1 when the path is neither file nor folder. */
static int run(const char *path) {
    DIR *folder = opendir(path);
    if (!folder) return run_file(path);
    int files = 0;
    for (struct dirent *entry; (entry = readdir(folder));) {
        char inside[1024];
        if (entry->d_name[0] == '.') continue;
        if (text_print(inside, sizeof inside, "%s/%s", path, entry->d_name)) files += run_file(inside) > 0;
    }
    closedir(folder);
    return files;
}

int main(int argc, char **argv) {
    char corpus[256];
    const char *name = strrchr(argv[0], '/');
    name = name ? name + 1 : argv[0];
    text_print(corpus, sizeof corpus, "tests/fuzz/corpus/%.*s", (int)strcspn(name, "_"), name);
    const char *const standard[] = {"tests/fixtures/formats", "tests/fixtures/onnx", corpus};
    int files = 0, n = argc > 1 ? argc - 1 : 3;
    for (int i = 0; i < n; i++) {
        const char *path = argc > 1 ? argv[i + 1] : standard[i];
        int found = run(path);
        must(found >= 0, "%s cannot be read", path);
        files += found;
    }
    printf("1..1\n%sok 1 - %d inputs\n", files ? "" : "not ", files);
    return files == 0;
}
