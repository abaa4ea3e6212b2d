/* onnx_wire.c - protobuf as bytes: checked before protobuf-c sees it, unpacked within a budget, weights read
 * once. */
#include <string.h>

#include "base/memory.h"
#include "engine/formats/onnx.h"
#include "engine/formats/onnx_proto.h"

/* ---- bytes, through a window ---- */

#define WINDOW 65536 /* bytes read at a time */

struct window {
    const struct byte_origin *origin;
    uint64_t at;    /* the next byte */
    uint64_t start; /* of what is in the window */
    size_t have;
    unsigned char bytes[WINDOW];
};

/* Copies n bytes from `at` on: few through the window, many at once. */
static int copy_bytes(struct window *w, void *to, size_t n, struct err *e) {
    unsigned char *out = to;
    while (n > 0) {
        size_t in = w->at >= w->start && w->at - w->start < w->have ? w->have - (size_t)(w->at - w->start) : 0;
        if (in > n) in = n;
        if (in) {
            memcpy(out, w->bytes + (w->at - w->start), in);
            out += in, w->at += in, n -= in;
            continue;
        }
        int rc;
        if (n >= WINDOW) {
            rc = w->origin->read(out, n, w->at, w->origin->context, e);
            w->at += n;
            return rc;
        }
        uint64_t left = w->origin->size - w->at;
        w->have = 0;
        rc = w->origin->read(w->bytes, left < WINDOW ? (size_t)left : WINDOW, w->at, w->origin->context, e);
        if (rc) return rc;
        w->start = w->at;
        w->have = left < WINDOW ? (size_t)left : WINDOW;
    }
    return 0;
}

/* ---- the check ----
 * The file is walked through once. What the walk leaves is a message of the same meaning in memory, in which
 * the raw data of every tensor is replaced by the place where they lie in the file. So protobuf-c never sees
 * the weights, and they are read once, to where they stay. */

/* What stands for raw data. */
struct place {
    uint64_t offset, size;
};

enum { LENGTH_ROOM = 5 }; /* bytes of a length that is not known yet: a number may be longer than it needs be */

/* A message that is being walked through. */
struct frame {
    uint64_t end;
    const ProtobufCMessageDescriptor *type;
    uint64_t seen; /* bit i: the single message field i has come */
    size_t body;   /* in `out`, behind its length */
};

struct walk {
    struct window *window;
    struct frame frames[ONNX_MAX_DEPTH];
    int depth;          /* index of the innermost frame */
    uint64_t elsewhere; /* bytes of raw data */
    unsigned char *out;
    size_t used, room;
};

#define OUTPUT_LEAST (1u << 20)

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

static unsigned long long position(const struct walk *w) {
    return (unsigned long long)w->window->at;
}

static int damaged(const struct walk *w, const char *what, struct err *e) {
    return err_set(e, E_SYNTAX, "%s at byte %llu, in a %s: the file is damaged or no ONNX", what, position(w),
                   w->frames[w->depth].type->short_name);
}

static uint64_t left_in_frame(const struct walk *w) {
    return w->frames[w->depth].end - w->window->at;
}

/* Room for n more bytes of output. Messages grow by their lengths: no honest file doubles. */
static int reserve(struct walk *w, uint64_t n, struct err *e) {
    uint64_t most = 2 * (w->window->origin->size - w->elsewhere) + OUTPUT_LEAST;
    if (w->used + n > most)
        return err_set(e, E_TOO_LARGE, "unpacking %llu bytes would take more than %llu bytes of memory",
                       (unsigned long long)w->window->origin->size, (unsigned long long)most);
    if (n <= w->room - w->used) return 0;
    size_t room = w->room + w->room / 2 + (size_t)n + 4096;
    unsigned char *moved = mem_resize(w->out, room, 1);
    if (!moved) return err_memory(e, room);
    w->out = moved;
    w->room = room;
    return 0;
}

static int put_bytes(struct walk *w, const void *bytes, size_t n, struct err *e) {
    int rc = reserve(w, n, e);
    if (rc) return rc;
    memcpy(w->out + w->used, bytes, n);
    w->used += n;
    return 0;
}

static int put_varint(struct walk *w, uint64_t value, struct err *e) {
    unsigned char bytes[10];
    size_t n = 0;
    for (; value > 127; value >>= 7) bytes[n++] = (unsigned char)(value | 128);
    bytes[n++] = (unsigned char)value;
    return put_bytes(w, bytes, n, e);
}

static int read_varint(uint64_t *out, struct walk *w, const char *what, struct err *e) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 70 && left_in_frame(w) > 0; shift += 7) {
        unsigned char byte;
        int rc = copy_bytes(w->window, &byte, 1, e);
        if (rc) return rc;
        if (shift < 64) value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) {
            *out = value;
            return 0;
        }
    }
    return damaged(w, what, e);
}

static int enter(struct walk *w, const ProtobufCFieldDescriptor *field, uint64_t length, struct err *e) {
    static const unsigned char unknown[LENGTH_ROOM];
    struct frame *outer = &w->frames[w->depth];
    uint64_t bit = 1ull << ((field - outer->type->fields) & 63);
    /* protobuf would merge the two, at a price in memory and time that no honest file asks for */
    if (field->label != PROTOBUF_C_LABEL_REPEATED && (outer->seen & bit))
        return err_set(e, E_SYNTAX, "the field '%s' of a %s comes twice", field->name, outer->type->short_name);
    outer->seen |= bit;
    if (w->depth + 1 == ONNX_MAX_DEPTH)
        return err_set(e, E_TOO_LARGE, "messages are nested more than %d deep", ONNX_MAX_DEPTH);
    int rc = put_bytes(w, unknown, sizeof unknown, e);
    w->frames[++w->depth] = (struct frame){w->window->at + length, field->descriptor, 0, w->used};
    return rc;
}

/* The length of the innermost message is known now. */
static int leave(struct walk *w, struct err *e) {
    const struct frame *f = &w->frames[w->depth];
    if (w->depth == 0) return w->depth--, 0;
    size_t length = w->used - f->body;
    if (length > INT32_MAX)
        return err_set(e, E_TOO_LARGE, "a %s of %zu bytes beside its weights", f->type->short_name, length);
    for (int i = 0; i < LENGTH_ROOM; i++)
        w->out[f->body - LENGTH_ROOM + (size_t)i] =
            (unsigned char)((length >> 7 * i & 127) | (i + 1 < LENGTH_ROOM ? 128 : 0));
    w->depth--;
    return 0;
}

/* Bytes as they are. */
static int keep(struct walk *w, uint64_t length, struct err *e) {
    int rc = reserve(w, length, e);
    if (!rc) rc = copy_bytes(w->window, w->out + w->used, (size_t)length, e);
    if (!rc) w->used += (size_t)length;
    return rc;
}

static bool is_raw(const struct walk *w, const ProtobufCFieldDescriptor *field) {
    return w->frames[w->depth].type == &onnx__tensor_proto__descriptor && strcmp(field->name, "raw_data") == 0;
}

static int check_text(struct walk *w, const ProtobufCFieldDescriptor *field, size_t length, struct err *e) {
    const char *text = (const char *)w->out + w->used - length;
    if (!memchr(text, '\0', length) && text_is_utf8(text, length)) return 0;
    return err_set(e, E_SYNTAX, "the %s of a %s is not UTF-8", field->name, w->frames[w->depth].type->short_name);
}

static int check_bytes(struct walk *w, uint64_t tag, struct err *e) {
    uint64_t length;
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field(w->frames[w->depth].type, (unsigned)(tag >> 3));
    int rc = read_varint(&length, w, "an unfinished length", e);
    if (rc) return rc;
    if (length > left_in_frame(w))
        return err_set(e, E_SYNTAX,
                       "at byte %llu a field of %llu bytes begins, but its %s has %llu left: the file is cut "
                       "off or damaged",
                       position(w), (unsigned long long)length, w->frames[w->depth].type->short_name,
                       (unsigned long long)left_in_frame(w));
    if (!field) {
        w->window->at += length;
        return 0;
    }
    rc = put_varint(w, tag, e);
    if (rc) return rc;
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) return enter(w, field, length, e);
    if (is_raw(w, field)) {
        struct place place = {w->window->at, length};
        rc = put_varint(w, sizeof place, e);
        w->window->at += length;
        w->elsewhere += length;
        return rc ? rc : put_bytes(w, &place, sizeof place, e);
    }
    rc = put_varint(w, length, e);
    if (!rc) rc = keep(w, length, e);
    return rc || field->type != PROTOBUF_C_TYPE_STRING ? rc : check_text(w, field, (size_t)length, e);
}

static int check_field(struct walk *w, struct err *e) {
    uint64_t tag, value, width = 0;
    int rc = read_varint(&tag, w, "an unfinished field", e);
    if (rc) return rc;
    if (tag >> 3 == 0 || tag > UINT32_MAX) return damaged(w, "a field without a number", e);
    switch (tag & 7) {
        case WIRE_BYTES: return check_bytes(w, tag, e);
        case WIRE_VARINT:
            rc = read_varint(&value, w, "an unfinished number", e);
            if (!rc) rc = put_varint(w, tag, e);
            return rc ? rc : put_varint(w, value, e);
        case WIRE_64: width = 8; break;
        case WIRE_32: width = 4; break;
        default: return damaged(w, "a field of an unknown kind", e);
    }
    if (left_in_frame(w) < width) return damaged(w, "an unfinished number", e);
    rc = put_varint(w, tag, e);
    return rc ? rc : keep(w, width, e);
}

static int check(struct walk *w, const ProtobufCMessageDescriptor *type, struct err *e) {
    w->frames[0] = (struct frame){.end = w->window->origin->size, .type = type};
    int rc = reserve(w, 1, e);
    while (w->depth >= 0 && !rc) rc = left_in_frame(w) == 0 ? leave(w, e) : check_field(w, e);
    return rc;
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

/* What unpacking may take, raw data left out: elements nearly as they are in the file, messages many times as
 * much. The 1,072 models of ONNX's test data take up to 14 times their size; a file of nothing but empty
 * nodes would take 100 times. */
static size_t budget(size_t size) {
    const size_t base = 1u << 20, large = 16u << 20;
    size_t small = size < large ? size : large;
    return size > SIZE_MAX / 4 ? SIZE_MAX : base + 2 * size + 32 * small;
}

static int unpack(ProtobufCMessage **out, struct proto_memory *m, const ProtobufCMessageDescriptor *type,
                  const struct walk *w, struct err *e) {
    size_t size = (size_t)(w->window->origin->size - w->elsewhere), most = budget(size);
    *m = (struct proto_memory){.allocator = {give, take_back, m}, .left = most};
    *out = protobuf_c_message_unpack(type, &m->allocator, w->used, w->out);
    if (*out) return 0;
    if (m->refused) return err_memory(e, size);
    if (m->spent)
        return err_set(e, E_TOO_LARGE, "unpacking %zu bytes would take more than %zu bytes of memory", size, most);
    return err_set(e, E_SYNTAX, "not a %s: a field does not have the type it should have", type->short_name);
}

/* ---- raw data ---- */

static int fetch_raw(Onnx__TensorProto *t, struct window *w, struct err *e) {
    struct place place;
    if (!t->has_raw_data || t->raw_data.len != sizeof place) return 0; /* a default, which is empty */
    memcpy(&place, t->raw_data.data, sizeof place);
    void *bytes = mem_alloc_vectors((size_t)place.size);
    if (!bytes) return err_memory(e, (unsigned long long)place.size);
    w->at = place.offset;
    int rc = copy_bytes(w, bytes, (size_t)place.size, e);
    mem_free(t->raw_data.data);
    t->raw_data = (ProtobufCBinaryData){(size_t)place.size, bytes};
    return rc;
}

/* Every tensor of a message, as deep as the check allows. */
static int fetch_all(ProtobufCMessage *m, struct window *w, struct err *e) {
    if (m->descriptor == &onnx__tensor_proto__descriptor) return fetch_raw((Onnx__TensorProto *)m, w, e);
    int rc = 0;
    for (unsigned i = 0; i < m->descriptor->n_fields && !rc; i++) {
        const ProtobufCFieldDescriptor *field = &m->descriptor->fields[i];
        const char *at = (const char *)m + field->offset, *quantifier = (const char *)m + field->quantifier_offset;
        if (field->type != PROTOBUF_C_TYPE_MESSAGE) continue;
        ProtobufCMessage **list, *single;
        uint32_t chosen;
        size_t n;
        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            memcpy(&n, quantifier, sizeof n);
            memcpy(&list, at, sizeof list);
            for (size_t k = 0; k < n && !rc; k++) rc = fetch_all(list[k], w, e);
            continue;
        }
        if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
            memcpy(&chosen, quantifier, sizeof chosen);
            if (chosen != field->id) continue;
        }
        memcpy(&single, at, sizeof single);
        if (single) rc = fetch_all(single, w, e);
    }
    return rc;
}

int proto_unpack(ProtobufCMessage **out, struct proto_memory *m, const ProtobufCMessageDescriptor *type,
                 const struct byte_origin *origin, struct err *e) {
    struct window *window = mem_calloc(1, sizeof *window);
    struct walk *w = mem_calloc(1, sizeof *w);
    int rc = window && w ? 0 : err_memory(e, sizeof *window + sizeof *w);
    if (!rc) {
        window->origin = origin;
        w->window = window;
        rc = check(w, type, e);
    }
    if (!rc) rc = unpack(out, m, type, w, e);
    if (w) mem_free(w->out);
    mem_free(w);
    if (!rc) {
        rc = fetch_all(*out, window, e);
        if (rc) proto_free(*out, m);
    }
    mem_free(window);
    return rc;
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
