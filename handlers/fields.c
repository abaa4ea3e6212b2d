/* fields.c - common parts of replies. */
#include "handlers/fields.h"

#include <ctype.h>
#include <string.h>

#include "base/clock.h"
#include "handlers/reply.h"

void put_time(struct json_writer *w, const char *name, int64_t ms) {
    char text[32];
    if (!ms) {
        json_put_null(w, name);
        return;
    }
    clock_format(text, ms);
    json_put_string(w, name, text);
}

void put_digest(struct json_writer *w, const char *name, const struct digest *d) {
    char text[7 + DIGEST_HEX_SIZE] = "sha256:";
    digest_to_hex(text + 7, d);
    json_put_string(w, name, text);
}

void put_json(struct json_writer *w, const char *name, const char *json) {
    if (json)
        json_put_raw(w, name, json);
    else
        json_put_null(w, name);
}

void put_id(struct json_writer *w, const char *name, int64_t id) {
    if (id)
        json_put_int(w, name, id);
    else
        json_put_null(w, name);
}

/* ---- pages ---- */

static void add_encoded(struct text *out, const char *value) {
    for (const char *c = value; *c; c++)
        if (isalnum((unsigned char)*c) || strchr("-._~", *c))
            text_add(out, c, 1);
        else
            text_format(out, "%%%02X", (unsigned char)*c);
}

/* Absolute, in angle brackets, with one space and quotes: some clients parse nothing else. */
static void add_link(struct response *out, const struct request *r, const char *next) {
    struct text link;
    text_init(&link, 4 * HTTP_MAX_TARGET);
    text_format(&link, "<%s%s?", r->base, r->path);
    for (int i = 0; i < r->n_query; i++) {
        if (!strcmp(r->query[i].name, "after")) continue;
        add_encoded(&link, r->query[i].name);
        text_add(&link, "=", 1);
        add_encoded(&link, r->query[i].value);
        text_add(&link, "&", 1);
    }
    text_format(&link, "after=%s>; rel=\"next\"", next);
    if (!link.failed) reply_header(out, "Link", "%s", link.data);
    text_free(&link);
}

void page_close(struct json_writer *w, struct response *out, const struct request *r, int64_t next) {
    char cursor[CURSOR_SIZE];
    json_close_array(w);
    if (next) {
        text_print(cursor, sizeof cursor, "%lld", (long long)next);
        json_put_string(w, "next", cursor);
        add_link(out, r, cursor);
    } else {
        json_put_null(w, "next");
    }
    json_close_object(w);
}

/* ---- paths ---- */

enum store_kind kind_of(const struct request *r) {
    return !strcmp(r->segments[1], "datasets") ? STORE_DATASET : STORE_MODEL;
}

int name_of(const char **out, const struct request *r, int capture, struct err *e) {
    *out = r->captures[capture];
    if (strchr(*out, '@')) return err_set(e, E_INVALID, "\"%s\" names a version; this call takes the name alone", *out);
    return store_name_check(*out, e);
}

int id_of(int64_t *out, const struct request *r, int capture, const char *what, struct err *e) {
    if (text_to_int(out, r->captures[capture], 1, INT64_MAX)) return 0;
    return err_set(e, E_NOT_FOUND, "there is no %s \"%s\"", what, r->captures[capture]);
}

void reply_version_headers(struct response *out, const struct request *r, const struct store_version *v,
                           const char *reference, const char *rest) {
    struct store_reference parsed;
    bool fixed = !store_reference_parse(&parsed, reference, NULL) &&
                 (parsed.kind == STORE_REF_NUMBER || parsed.kind == STORE_REF_DIGEST);
    const char *folder = v->kind == STORE_MODEL ? "models" : "datasets";
    (void)r;
    reply_header(out, "Cache-Control", fixed ? "private, max-age=31536000, immutable" : "no-cache");
    if (!fixed) reply_header(out, "Content-Location", "/v1/%s/%s@%lld%s", folder, v->name, (long long)v->number, rest);
}

/* ---- bodies ---- */

int blame_content(int code, struct err *e) {
    if (code == E_SYNTAX) code = e->code = E_INVALID;
    return code;
}

int body_parse(void *to, const struct param *table, const struct request *r, struct err *e) {
    struct json *root = NULL;
    int code = r->body_size ? json_parse(&root, r->body, r->body_size, e) : json_parse(&root, "{}", 2, e);
    if (!code) code = param_parse(to, table, root, "", e);
    json_free(root);
    return code;
}
