/* npz.c - reads an archive from front to back: local header, data, perhaps a descriptor, and so on;
 * then the directory, which only has to agree. */
#include "engine/formats/npz.h"

#include <string.h>

#include "base/memory.h"
#include "engine/formats/arraybody.h"
#include "engine/formats/inflate.h"
#include "engine/formats/zip.h"

#define RECORD_ROOM 4096

/* What the bytes gathered in `record` are, once `need` of them are there. */
enum state {
    AT_SIGNATURE,
    AT_LOCAL,      /* fixed part of a local header */
    AT_LOCAL_REST, /* with name and extra field */
    AT_DATA,       /* not gathered but passed on */
    AT_DESCRIPTOR,
    AT_CENTRAL,
    AT_ZIP64_END,
    AT_ZIP64_LOCATOR,
    AT_END,
    AT_NOTHING, /* the archive is over */
};

struct entry {
    char name[NPZ_MAX_NAME + 8];
    bool open;
    bool deflated, described, zip64;
    uint32_t crc;              /* as announced */
    uint64_t packed, unpacked; /* likewise */
    uLong crc_seen;
    uint64_t packed_seen, unpacked_seen;
};

struct npz_reader {
    struct array_sink sink;
    uint64_t budget; /* left */
    enum state state;
    unsigned char record[RECORD_ROOM];
    size_t have, need;
    uint64_t skip; /* bytes to pass over before the next record */
    struct entry entry;
    unsigned entries, listed; /* local headers, directory rows */
    bool inflating;           /* the inflater is open */
    struct inflater inflater;
    struct arraybody body;
};

bool npz_recognise(const void *bytes, size_t size) {
    return size >= 4 && (zip_u32(bytes) == ZIP_LOCAL || zip_u32(bytes) == ZIP_END);
}

static void expect(struct npz_reader *r, enum state state, size_t need) {
    r->state = state;
    r->need = need;
}

static void expect_record(struct npz_reader *r, uint64_t skip) {
    expect(r, AT_SIGNATURE, 4);
    r->have = 0;
    r->skip = skip;
}

int npz_reader_new(struct npz_reader **out, struct array_sink sink, uint64_t budget, struct err *e) {
    struct npz_reader *r = mem_calloc(1, sizeof *r);
    if (!r) return err_memory(e, sizeof *r);
    r->sink = sink;
    r->budget = budget;
    expect_record(r, 0);
    *out = r;
    return 0;
}

void npz_reader_free(struct npz_reader *r) {
    if (!r) return;
    if (r->inflating) inflater_close(&r->inflater);
    mem_free(r);
}

/* ---- records ---- */

static int at_signature(struct npz_reader *r, struct err *e) {
    static const struct {
        uint32_t signature;
        enum state state;
        size_t size;
    } records[] = {
        {ZIP_LOCAL, AT_LOCAL, ZIP_LOCAL_SIZE},     {ZIP_CENTRAL, AT_CENTRAL, ZIP_CENTRAL_SIZE},
        {ZIP64_END, AT_ZIP64_END, ZIP64_END_SIZE}, {ZIP64_LOCATOR, AT_ZIP64_LOCATOR, ZIP64_LOCATOR_SIZE},
        {ZIP_END, AT_END, ZIP_END_SIZE},
    };
    uint32_t signature = zip_u32(r->record);
    for (size_t i = 0; i < sizeof records / sizeof records[0]; i++)
        if (records[i].signature == signature) {
            expect(r, records[i].state, records[i].size);
            return 0;
        }
    return err_set(e, E_SYNTAX, "not a ZIP record: %08x after %u entries", signature, r->entries);
}

static int at_local(struct npz_reader *r, struct err *e) {
    size_t name = zip_u16(r->record + 26), extra = zip_u16(r->record + 28);
    if (r->listed) return err_set(e, E_SYNTAX, "the archive has an entry after its directory");
    if (r->entries == NPZ_MAX_ARRAYS)
        return err_set(e, E_TOO_LARGE, "the archive has more than %d arrays", NPZ_MAX_ARRAYS);
    if (ZIP_LOCAL_SIZE + name + extra > RECORD_ROOM)
        return err_set(e, E_TOO_LARGE, "entry %u has a header of more than %d bytes", r->entries + 1, RECORD_ROOM);
    expect(r, AT_LOCAL_REST, ZIP_LOCAL_SIZE + name + extra);
    return 0;
}

/* The array's name: the entry's without ".npy". */
static int read_name(struct entry *n, const unsigned char *bytes, size_t size, struct err *e) {
    const size_t suffix = 4;
    if (size <= suffix || memcmp(bytes + size - suffix, ".npy", suffix) != 0)
        return err_set(e, E_INVALID, "the archive has an entry that is not called NAME.npy");
    size -= suffix;
    if (size > NPZ_MAX_NAME)
        return err_set(e, E_TOO_LARGE, "an array's name has %zu bytes; %d are possible", size, NPZ_MAX_NAME);
    if (memchr(bytes, '\0', size) || !text_is_utf8((const char *)bytes, size))
        return err_set(e, E_SYNTAX, "an array's name is not UTF-8");
    memcpy(n->name, bytes, size);
    n->name[size] = '\0';
    return 0;
}

/* Extra fields: (id, size, bytes) each. In a local header ZIP64 has both sizes. */
static int read_extra(struct entry *n, const unsigned char *at, const unsigned char *end, struct err *e) {
    while (end - at >= 4) {
        uint16_t id = zip_u16(at), size = zip_u16(at + 2);
        at += 4;
        if (end - at < size) break;
        if (id == ZIP_EXTRA_ZIP64) {
            n->zip64 = true;
            if (size >= 16 && n->unpacked == ZIP_IN_ZIP64) n->unpacked = zip_u64(at);
            if (size >= 16 && n->packed == ZIP_IN_ZIP64) n->packed = zip_u64(at + 8);
        }
        at += size;
    }
    return at == end ? 0 : err_set(e, E_SYNTAX, "the extra field of the entry is damaged");
}

static int open_inflater(struct npz_reader *r, struct err *e) {
    if (r->inflating) {
        inflater_reset(&r->inflater);
        return 0;
    }
    int rc = inflater_open(&r->inflater, INFLATE_RAW, e);
    r->inflating = !rc;
    return rc;
}

static int at_local_rest(struct npz_reader *r, struct err *e) {
    const unsigned char *p = r->record, *name = p + ZIP_LOCAL_SIZE, *extra = name + zip_u16(p + 26);
    unsigned flags = zip_u16(p + 6), method = zip_u16(p + 8);
    struct entry *n = &r->entry;
    *n = (struct entry){.deflated = method == ZIP_DEFLATED,
                        .described = flags & ZIP_FLAG_DESCRIPTOR,
                        .crc = zip_u32(p + 14),
                        .packed = zip_u32(p + 18),
                        .unpacked = zip_u32(p + 22),
                        .crc_seen = crc32(0, NULL, 0)};
    r->entries++;
    int rc = read_name(n, name, (size_t)(extra - name), e);
    if (rc) return rc;
    n->open = true;
    if (flags & ZIP_FLAG_ENCRYPTED) return err_set(e, E_UNSUPPORTED, "the entry is encrypted");
    if (method != ZIP_STORED && method != ZIP_DEFLATED)
        return err_set(e, E_UNSUPPORTED, "the entry is compressed by method %u; retort reads stored and deflated",
                       method);
    rc = read_extra(n, extra, p + r->need, e);
    if (!rc && n->deflated) rc = open_inflater(r, e);
    if (rc) return rc;
    arraybody_start(&r->body, r->sink, n->name, r->budget);
    expect(r, AT_DATA, 0);
    return 0;
}

/* ---- data ---- */

/* Unpacked bytes of the entry. */
static int put_unpacked(void *context, const void *bytes, size_t size, struct err *e) {
    struct npz_reader *r = context;
    for (size_t done = 0; done < size;) {
        uInt n = size - done < 1u << 30 ? (uInt)(size - done) : 1u << 30; /* zlib counts in unsigned int */
        r->entry.crc_seen = crc32(r->entry.crc_seen, (const Bytef *)bytes + done, n);
        done += n;
    }
    r->entry.unpacked_seen += size;
    return arraybody_feed(&r->body, bytes, size, e);
}

/* The data agreed with what was said about it: the array is whole. */
static int close_entry(struct npz_reader *r, struct err *e) {
    struct entry *n = &r->entry;
    if (n->packed != n->packed_seen || n->unpacked != n->unpacked_seen)
        return err_set(e, E_SYNTAX, "the entry has %llu bytes, %llu unpacked; announced were %llu and %llu",
                       (unsigned long long)n->packed_seen, (unsigned long long)n->unpacked_seen,
                       (unsigned long long)n->packed, (unsigned long long)n->unpacked);
    if (n->crc != n->crc_seen)
        return err_set(e, E_SYNTAX, "the checksum of the entry is %08lx; announced was %08x", n->crc_seen, n->crc);
    int rc = arraybody_finish(&r->body, e);
    r->budget -= rc ? 0 : r->body.size;
    n->open = false;
    expect_record(r, 0);
    return rc;
}

static int data_ended(struct npz_reader *r, struct err *e) {
    r->have = 0;
    if (!r->entry.described) return close_entry(r, e);
    expect(r, AT_DESCRIPTOR, 4);
    return 0;
}

static int feed_deflated(struct npz_reader *r, const unsigned char **bytes, size_t *size, struct err *e) {
    size_t used;
    bool ended;
    int rc = inflater_feed(&r->inflater, (struct byte_sink){put_unpacked, r}, *bytes, *size, &used, &ended, e);
    if (rc) return rc;
    *bytes += used;
    *size -= used;
    r->entry.packed_seen += used;
    return ended ? data_ended(r, e) : 0;
}

/* Stored data has no end of its own: its announced size tells, or else its .npy header. */
static int feed_stored(struct npz_reader *r, const unsigned char **bytes, size_t *size, struct err *e) {
    struct entry *n = &r->entry;
    uint64_t left = n->described ? arraybody_missing(&r->body) : n->packed - n->packed_seen;
    size_t take = left < *size ? (size_t)left : *size;
    int rc = take ? put_unpacked(r, *bytes, take, e) : 0;
    if (rc) return rc;
    *bytes += take;
    *size -= take;
    n->packed_seen += take;
    bool ended = n->described ? arraybody_complete(&r->body) : n->packed_seen == n->packed;
    return ended ? data_ended(r, e) : 0;
}

/* [signature] crc packed unpacked; the signature may be left out, sizes have 8 bytes with ZIP64. */
static int at_descriptor(struct npz_reader *r, struct err *e) {
    struct entry *n = &r->entry;
    size_t lead = zip_u32(r->record) == ZIP_DESCRIPTOR ? 4 : 0;
    size_t width = n->zip64 || n->unpacked_seen > UINT32_MAX || n->packed_seen > UINT32_MAX ? 8 : 4;
    if (r->have < lead + 4 + 2 * width) {
        r->need = lead + 4 + 2 * width;
        return 0;
    }
    const unsigned char *p = r->record + lead;
    n->crc = zip_u32(p);
    n->packed = width == 8 ? zip_u64(p + 4) : zip_u32(p + 4);
    n->unpacked = width == 8 ? zip_u64(p + 12) : zip_u32(p + 8);
    return close_entry(r, e);
}

/* ---- the directory ---- */

static int at_central(struct npz_reader *r, struct err *e) {
    (void)e;
    const unsigned char *p = r->record;
    r->listed++;
    expect_record(r, (uint64_t)zip_u16(p + 28) + zip_u16(p + 30) + zip_u16(p + 32));
    return 0;
}

static int at_zip64_end(struct npz_reader *r, struct err *e) {
    uint64_t rest = zip_u64(r->record + 4);
    if (rest > RECORD_ROOM) return err_set(e, E_SYNTAX, "the archive's ZIP64 directory end is damaged");
    expect_record(r, rest);
    return 0;
}

static int at_zip64_locator(struct npz_reader *r, struct err *e) {
    (void)e;
    expect_record(r, 0);
    return 0;
}

static int at_end(struct npz_reader *r, struct err *e) {
    unsigned said = zip_u16(r->record + 10);
    if (r->listed != r->entries || (said != r->entries && said != UINT16_MAX))
        return err_set(e, E_SYNTAX, "the archive has %u entries; its directory has %u and says %u", r->entries,
                       r->listed, said);
    uint64_t comment = zip_u16(r->record + 20);
    expect_record(r, comment);
    expect(r, AT_NOTHING, 1);
    return 0;
}

static int at_nothing(struct npz_reader *r, struct err *e) {
    return err_set(e, E_SYNTAX, "there are bytes after the end of the archive of %u arrays", r->entries);
}

static int at_record(struct npz_reader *r, struct err *e) {
    switch (r->state) {
        case AT_SIGNATURE: return at_signature(r, e);
        case AT_LOCAL: return at_local(r, e);
        case AT_LOCAL_REST: return at_local_rest(r, e);
        case AT_DESCRIPTOR: return at_descriptor(r, e);
        case AT_CENTRAL: return at_central(r, e);
        case AT_ZIP64_END: return at_zip64_end(r, e);
        case AT_ZIP64_LOCATOR: return at_zip64_locator(r, e);
        case AT_END: return at_end(r, e);
        case AT_DATA:
        case AT_NOTHING: break;
    }
    return at_nothing(r, e);
}

/* ---- the stream ---- */

static size_t smaller(uint64_t a, size_t b) {
    return a < b ? (size_t)a : b;
}

/* Takes bytes for one record, or some of it. */
static int feed_record(struct npz_reader *r, const unsigned char **bytes, size_t *size, struct err *e) {
    size_t n = smaller(r->skip, *size);
    *bytes += n;
    *size -= n;
    r->skip -= n;
    if (!*size) return 0;
    n = smaller(r->need - r->have, *size);
    memcpy(r->record + r->have, *bytes, n);
    r->have += n;
    *bytes += n;
    *size -= n;
    int rc = 0;
    while (!rc && r->have == r->need && r->have) rc = at_record(r, e);
    return rc;
}

int npz_reader_feed(struct npz_reader *r, const void *bytes, size_t size, struct err *e) {
    const unsigned char *at = bytes;
    int rc = 0;
    while (!rc && size) {
        if (r->state != AT_DATA)
            rc = feed_record(r, &at, &size, e);
        else if (r->entry.deflated)
            rc = feed_deflated(r, &at, &size, e);
        else
            rc = feed_stored(r, &at, &size, e);
    }
    if (rc && r->entry.open) err_prefix(e, "array '%s'", r->entry.name);
    return rc;
}

int npz_reader_finish(struct npz_reader *r, struct err *e) {
    if (r->state == AT_NOTHING && r->skip == 0) return 0;
    return err_set(e, E_SYNTAX, "the archive is cut off after %u entries%s%s", r->entries,
                   r->entry.open ? ", in array " : "", r->entry.open ? r->entry.name : "");
}
