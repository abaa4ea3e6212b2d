/* target.c - splitting and decoding request targets. */
#include "server/target.h"

#include <string.h>
#include <strings.h>

#include "base/text.h"

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* Decodes from[0..length) to `to`, which may overlap from the left, and terminates it. */
static int decode(char *to, const char *from, size_t length, bool plus_is_space, struct err *e) {
    char *start = to;
    for (size_t i = 0; i < length; i++) {
        char c = from[i];
        if (c == '%') {
            int high = i + 1 < length ? hex_digit(from[i + 1]) : -1;
            int low = i + 2 < length ? hex_digit(from[i + 2]) : -1;
            if (high < 0 || low < 0) return err_set(e, E_SYNTAX, "the target has a \"%%\" without two hex digits");
            c = (char)(high * 16 + low);
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        if ((unsigned char)c < ' ' || c == 0x7f)
            return err_set(e, E_SYNTAX, "the target has a control character (code %d)", c);
        *to++ = c;
    }
    *to = '\0';
    if (!text_is_utf8(start, (size_t)(to - start))) return err_set(e, E_SYNTAX, "the target is not UTF-8");
    return 0;
}

static int add_segment(struct request *r, char **room, const char *from, size_t length, struct err *e) {
    if (r->n_segments == HTTP_MAX_SEGMENTS)
        return err_set(e, E_SYNTAX, "the path has more than %d segments", HTTP_MAX_SEGMENTS);
    if (length == 0) return err_set(e, E_SYNTAX, "the path has an empty segment: \"//\" or a \"/\" at its end");
    char *segment = *room;
    int code = decode(segment, from, length, false, e);
    if (code) return code;
    if (!strcmp(segment, ".") || !strcmp(segment, ".."))
        return err_set(e, E_SYNTAX, "the path has a \"%s\" segment", segment);
    r->segments[r->n_segments++] = segment;
    *room += strlen(segment) + 1;
    return 0;
}

static int split_path(struct request *r, char **room, const char *path, struct err *e) {
    r->n_segments = 0;
    if (!strcmp(path, "/")) return 0;
    while (*path) {
        size_t length = strcspn(++path, "/");
        int code = add_segment(r, room, path, length, e);
        if (code) return code;
        path += length;
    }
    return 0;
}

static int add_parameter(struct request *r, char **room, const char *from, size_t length, struct err *e) {
    if (r->n_query == HTTP_MAX_QUERY)
        return err_set(e, E_SYNTAX, "the query has more than %d parameters", HTTP_MAX_QUERY);
    const char *equals = memchr(from, '=', length);
    size_t name_length = equals ? (size_t)(equals - from) : length;
    struct pair *p = &r->query[r->n_query];
    p->name = *room;
    int code = decode(*room, from, name_length, true, e);
    if (code) return code;
    *room += strlen(*room) + 1;
    p->value = *room;
    code = equals ? decode(*room, equals + 1, length - name_length - 1, true, e) : decode(*room, "", 0, true, e);
    if (code) return code;
    *room += strlen(*room) + 1;
    for (int i = 0; i < r->n_query; i++)
        if (!strcmp(r->query[i].name, p->name)) return err_set(e, E_SYNTAX, "the query names \"%s\" twice", p->name);
    r->n_query++;
    return 0;
}

static int split_query(struct request *r, char **room, const char *query, struct err *e) {
    r->n_query = 0;
    while (*query) {
        size_t length = strcspn(query, "&");
        int code = length ? add_parameter(r, room, query, length, e) : 0;
        if (code) return code;
        query += length + (query[length] == '&');
    }
    return 0;
}

/* "http://host/path" (RFC 9112, 3.2.2) is "/path": the host it names is not looked at. */
static const char *without_authority(const char *raw) {
    for (int i = 0; i < 2; i++) {
        const char *scheme = i ? "https://" : "http://";
        if (strncasecmp(raw, scheme, strlen(scheme))) continue;
        const char *path = strchr(raw + strlen(scheme), '/');
        return path ? path : "/";
    }
    return raw;
}

int target_split(struct request *r, char *room, const char *raw, struct err *e) {
    size_t whole = strlen(raw);
    if (whole > HTTP_MAX_TARGET)
        return err_set(e, E_TOO_LARGE, "the target has %zu bytes, at most %d are allowed", whole, HTTP_MAX_TARGET);
    raw = without_authority(raw);
    if (*raw != '/') return err_set(e, E_SYNTAX, "the target does not start with \"/\"");
    if (strchr(raw, '#')) return err_set(e, E_SYNTAX, "the target has a \"#\"");
    size_t length = strcspn(raw, "?");
    memcpy(room, raw, length);
    room[length] = '\0';
    r->path = room;
    room += length + 1;
    int code = split_path(r, &room, r->path, e);
    return code ? code : split_query(r, &room, raw + length + (raw[length] == '?'), e);
}
