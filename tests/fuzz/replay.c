/* replay.c - runs a fuzz target over files and folders (without any, the fixtures): the corpus as a plain test. */
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
    static const char *const fixtures[] = {"tests/fixtures/formats", "tests/fixtures/onnx"};
    int files = 0, n = argc > 1 ? argc - 1 : 2;
    for (int i = 0; i < n; i++) {
        const char *path = argc > 1 ? argv[i + 1] : fixtures[i];
        int found = run(path);
        must(found >= 0, "%s cannot be read", path);
        files += found;
    }
    printf("1..1\n%sok 1 - %d inputs\n", files ? "" : "not ", files);
    return files == 0;
}
