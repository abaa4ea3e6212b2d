/* onnx_wire.c - protobuf as bytes: checked before protobuf-c sees it, unpacked within a budget. */
#include <string.h>

#include "base/memory.h"
#include "engine/formats/onnx.h"
#include "engine/formats/onnx_proto.h"

/* ---- the check ---- */

/* A message that is being walked through. */
struct frame {
    const unsigned char *end;
    const ProtobufCMessageDescriptor *type;
    uint64_t seen; /* bit i: the single message field i has come */
};

struct walk {
    const unsigned char *start, *at;
    struct frame frames[ONNX_MAX_DEPTH];
    int depth; /* index of the innermost frame */
};

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

static int damaged(const struct walk *w, const char *what, struct err *e) {
    return err_set(e, E_SYNTAX, "%s at byte %zu, in a %s: the file is damaged or no ONNX", what,
                   (size_t)(w->at - w->start), w->frames[w->depth].type->short_name);
}

static bool read_varint(uint64_t *out, struct walk *w) {
    uint64_t value = 0;
    const unsigned char *end = w->frames[w->depth].end;
    for (unsigned shift = 0; shift < 70 && w->at < end; shift += 7) {
        unsigned char byte = *w->at++;
        if (shift < 64) value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) {
            *out = value;
            return true;
        }
    }
    return false;
}

static int enter(struct walk *w, const ProtobufCFieldDescriptor *field, uint64_t length, struct err *e) {
    struct frame *outer = &w->frames[w->depth];
    uint64_t bit = 1ull << ((field - outer->type->fields) & 63);
    /* protobuf would merge the two, at a price in memory and time that no honest file asks for */
    if (field->label != PROTOBUF_C_LABEL_REPEATED && (outer->seen & bit))
        return err_set(e, E_SYNTAX, "the field '%s' of a %s comes twice", field->name, outer->type->short_name);
    outer->seen |= bit;
    if (w->depth + 1 == ONNX_MAX_DEPTH)
        return err_set(e, E_TOO_LARGE, "messages are nested more than %d deep", ONNX_MAX_DEPTH);
    w->frames[++w->depth] = (struct frame){w->at + length, field->descriptor, 0};
    return 0;
}

static int check_bytes(struct walk *w, const ProtobufCFieldDescriptor *field, struct err *e) {
    uint64_t length;
    if (!read_varint(&length, w)) return damaged(w, "an unfinished length", e);
    size_t left = (size_t)(w->frames[w->depth].end - w->at);
    if (length > left)
        return err_set(e, E_SYNTAX,
                       "at byte %zu a field of %llu bytes begins, but its %s has %zu left: the file is cut "
                       "off or damaged",
                       (size_t)(w->at - w->start), (unsigned long long)length, w->frames[w->depth].type->short_name,
                       left);
    if (field && field->type == PROTOBUF_C_TYPE_MESSAGE) return enter(w, field, length, e);
    if (field && field->type == PROTOBUF_C_TYPE_STRING) {
        const char *text = (const char *)w->at;
        if (memchr(text, '\0', length) || !text_is_utf8(text, length))
            return err_set(e, E_SYNTAX, "the %s of a %s is not UTF-8", field->name,
                           w->frames[w->depth].type->short_name);
    }
    w->at += length;
    return 0;
}

static int check_field(struct walk *w, struct err *e) {
    uint64_t tag, value;
    if (!read_varint(&tag, w)) return damaged(w, "an unfinished field", e);
    if (tag >> 3 == 0 || tag > UINT32_MAX) return damaged(w, "a field without a number", e);
    size_t width = 0;
    switch (tag & 7) {
        case WIRE_BYTES:
            return check_bytes(
                w, protobuf_c_message_descriptor_get_field(w->frames[w->depth].type, (unsigned)(tag >> 3)), e);
        case WIRE_VARINT: return read_varint(&value, w) ? 0 : damaged(w, "an unfinished number", e);
        case WIRE_64: width = 8; break;
        case WIRE_32: width = 4; break;
        default: return damaged(w, "a field of an unknown kind", e);
    }
    if ((size_t)(w->frames[w->depth].end - w->at) < width) return damaged(w, "an unfinished number", e);
    w->at += width;
    return 0;
}

int proto_check(const ProtobufCMessageDescriptor *type, const void *bytes, size_t size, struct err *e) {
    struct walk w = {.start = bytes, .at = bytes};
    w.frames[0] = (struct frame){w.start + size, type, 0};
    while (w.depth >= 0) {
        if (w.at == w.frames[w.depth].end) {
            w.depth--;
            continue;
        }
        int rc = check_field(&w, e);
        if (rc) return rc;
    }
    return 0;
}

/* ---- unpacking ---- */

static void *give(void *context, size_t size) {
    struct proto_memory *m = context;
    if (size > m->left) {
        m->spent = true;
        return NULL;
    }
    m->left -= size;
    void *p = mem_alloc(size);
    m->refused |= !p;
    return p;
}

static void take_back(void *context, void *p) {
    (void)context;
    mem_free(p);
}

/* What unpacking may take: elements nearly as they are in the file, messages many times as much. The
 * 1,072 models of ONNX's test data take up to 14 times their size; a file of nothing but empty nodes
 * would take 100 times. */
static size_t budget(size_t size) {
    const size_t base = 1u << 20, large = 16u << 20;
    size_t small = size < large ? size : large;
    return size > SIZE_MAX / 4 ? SIZE_MAX : base + 2 * size + 32 * small;
}

int proto_unpack(ProtobufCMessage **out, struct proto_memory *m, const ProtobufCMessageDescriptor *type,
                 const void *bytes, size_t size, struct err *e) {
    int rc = proto_check(type, bytes, size, e);
    if (rc) return rc;
    size_t most = budget(size);
    *m = (struct proto_memory){.allocator = {give, take_back, m}, .left = most};
    *out = protobuf_c_message_unpack(type, &m->allocator, size, bytes);
    if (*out) return 0;
    if (m->refused) return err_memory(e, size);
    if (m->spent)
        return err_set(e, E_TOO_LARGE, "unpacking the %zu bytes would take more than %zu bytes of memory", size, most);
    return err_set(e, E_SYNTAX, "not a %s: a field does not have the type it should have", type->short_name);
}

void proto_free(ProtobufCMessage *message, struct proto_memory *m) {
    if (message) protobuf_c_message_free_unpacked(message, &m->allocator);
}

/* ---- writing ---- */

/* Small fields are gathered; the elements of a tensor pass through. */
struct output {
    ProtobufCBuffer buffer; /* first: protobuf-c hands it back */
    struct byte_sink sink;
    struct err *e;
    int rc;
    size_t used;
    unsigned char piece[65536];
};

static void flush(struct output *o) {
    if (!o->rc && o->used) o->rc = o->sink.put(o->sink.context, o->piece, o->used, o->e);
    o->used = 0;
}

static void append(ProtobufCBuffer *buffer, size_t size, const uint8_t *bytes) {
    struct output *o = (struct output *)buffer;
    if (size > sizeof o->piece - o->used) flush(o);
    if (size > sizeof o->piece) {
        if (!o->rc) o->rc = o->sink.put(o->sink.context, bytes, size, o->e);
    } else if (size) {
        memcpy(o->piece + o->used, bytes, size);
        o->used += size;
    }
}

int proto_write(struct byte_sink sink, const ProtobufCMessage *message, struct err *e) {
    size_t size = protobuf_c_message_get_packed_size(message);
    if (size > INT32_MAX)
        return err_set(e, E_TOO_LARGE, "the file would have %zu bytes; ONNX files end at 2 GiB", size);
    struct output *o = mem_alloc(sizeof *o);
    if (!o) return err_memory(e, sizeof *o);
    o->buffer.append = append;
    o->sink = sink;
    o->e = e;
    o->rc = 0;
    o->used = 0;
    protobuf_c_message_pack_to_buffer(message, &o->buffer);
    flush(o);
    int rc = o->rc;
    mem_free(o);
    return rc;
}
