/* arraystream_fuzz.c - any bytes as an array in any wrapping, in pieces whose size the first byte says. */
#include "engine/formats/arraystream.h"

#include "tests/fuzz/fuzz.h"

#define BUDGET (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct arraystream *r = NULL;
    struct fuzz_sink sink = {0};
    struct err e = {0};
    size_t piece = size && bytes[0] ? bytes[0] : 1;
    int rc = arraystream_new(&r, fuzz_array_sink(&sink), BUDGET, &e);
    for (size_t at = 0; !rc && at < size; at += piece)
        rc = arraystream_feed(r, bytes + at, size - at < piece ? size - at : piece, &e);
    if (!rc) rc = arraystream_finish(r, &e);
    must(rc == 0 || *e.text, "%d without a word", rc);
    must(rc || !sink.open, "an array is not ended");
    must(sink.total <= BUDGET, "%zu bytes", sink.total);
    arraystream_free(r);
    return 0;
}
