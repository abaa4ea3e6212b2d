/* Scratch memory: small blocks are real, large ones are mapped from files that nobody sees. */
#include "jobs/scratch.h"

#include <dirent.h>
#include <sys/resource.h>

#include "tests/base/starve.h"
#include "tests/store/folder.h"

static int entries(void) {
    int n = 0;
    DIR *d = opendir(folder);
    while (d && readdir(d)) n++;
    if (d) closedir(d);
    return n - 2;
}

/* Whether writing there kills. */
static bool is_sealed(char *at) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        *(volatile char *)at = 1;
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    return !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

TEST(small_is_real_and_large_is_mapped) {
    struct scratch s;
    struct err e = {0};
    void *block[4];
    static const size_t sizes[] = {600, 500000, 300, 200}; /* the last two: what is left, and one more than that */
    folder_make();
    scratch_init(&s, folder, 1000);
    for (int i = 0; i < 4; i++) {
        need(scratch_take(&block[i], &s, sizes[i], &e) == 0, "%s", e.text);
        ok(s.blocks[i].mapped == (i == 1 || i == 3), "block %d", i);
        for (size_t k = 0; k < sizes[i]; k++)
            if (((char *)block[i])[k]) ok(false, "block %d is not zero at %zu", i, k);
        memset(block[i], i + 1, sizes[i]);
    }
    ok(entries() == 0, "%d files", entries());
    scratch_seal(&s, block[1]);
    ok(is_sealed(block[1]) && !is_sealed(block[3]), "sealed");
    for (int i = 0; i < 4; i++) ok(((char *)block[i])[sizes[i] - 1] == i + 1, "block %d kept", i);
    scratch_fini(&s);
    ok(s.n == 0, "empty");
}

TEST(a_disk_that_is_full_is_an_error) {
    struct scratch s;
    struct err e = {0};
    void *block;
    folder_make();
    signal(SIGXFSZ, SIG_IGN);
    need(setrlimit(RLIMIT_FSIZE, &(struct rlimit){1 << 16, 1 << 16}) == 0, "setrlimit");
    scratch_init(&s, folder, 0);
    ok(scratch_take(&block, &s, 1 << 17, &e) == E_IO, "too large a file");
    ok(strstr(e.text, "131072 bytes") && strstr(e.text, "File too large") && strstr(e.text, "make room"), "%s", e.text);
    ok(scratch_take(&block, &s, 1 << 15, &e) == 0, "one that fits: %s", e.text);
    ok(entries() == 0, "%d files", entries());
    scratch_fini(&s);
}

TEST(a_folder_that_is_gone_is_an_error) {
    struct scratch s;
    struct err e = {0};
    void *block;
    scratch_init(&s, "/nowhere/at/all", 10);
    ok(scratch_take(&block, &s, 20, &e) == E_IO && strstr(e.text, "/nowhere/at/all"), "%s", e.text);
    scratch_fini(&s);
    scratch_init(&s, NULL, 10);
    ok(scratch_take(&block, &s, 20, &e) == E_TOO_LARGE, "no folder");
    scratch_fini(&s);
}

static int take_two(void) {
    struct scratch s;
    void *block;
    scratch_init(&s, folder, 10);
    int status = scratch_take(&block, &s, 10, NULL);
    if (!status) status = scratch_take(&block, &s, 20, NULL);
    scratch_fini(&s);
    return status;
}

TEST(memory_may_run_out) {
    folder_make();
    starve("scratch", take_two);
}

TEST_MAIN
