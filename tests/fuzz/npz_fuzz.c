/* npz_fuzz.c - any bytes as an archive, in pieces whose size the first byte says. */
#include "engine/formats/npz.h"

#include "tests/fuzz/fuzz.h"

#define BUDGET (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct npz_reader *r = NULL;
    struct fuzz_sink sink = {0};
    struct err e = {0};
    size_t piece = size && bytes[0] ? bytes[0] : 1;
    int rc = npz_reader_new(&r, fuzz_array_sink(&sink), BUDGET, &e);
    for (size_t at = 0; !rc && at < size; at += piece)
        rc = npz_reader_feed(r, bytes + at, size - at < piece ? size - at : piece, &e);
    if (!rc) rc = npz_reader_finish(r, &e);
    must(rc == 0 || *e.text, "%d without a word", rc);
    must(rc || !sink.open, "an array is not ended");
    must(sink.total <= BUDGET, "%zu bytes", sink.total);
    npz_reader_free(r);
    return 0;
}
