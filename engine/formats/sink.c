/* sink.c - the sink that is a text. */
#include "engine/formats/sink.h"

static int put_text(void *context, const void *bytes, size_t size, struct err *e) {
    struct text *t = context;
    int rc = text_add(t, bytes, size);
    if (rc == E_NOMEM) return err_memory(e, size);
    return rc ? err_set(e, rc, "more than %zu bytes", t->max) : 0;
}

struct byte_sink byte_sink_text(struct text *t) {
    return (struct byte_sink){put_text, t};
}
