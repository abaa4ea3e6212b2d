/* headers.c - reading headers and query parameters. */
#include "handlers/headers.h"

#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "base/text.h"

const char *header_get(const struct request *r, const char *name) {
    for (int i = 0; i < r->n_headers; i++)
        if (!strcasecmp(r->headers[i].name, name)) return r->headers[i].value;
    return NULL;
}

bool header_names_tag(const char *list, const char *tag, bool strong) {
    size_t length = strlen(tag);
    for (;;) {
        list += strspn(list, " \t,");
        if (*list == '*') return true;
        bool weak = !strncmp(list, "W/", 2);
        if (weak) list += 2;
        if (*list != '"') return false;
        size_t found = strcspn(list + 1, "\"") + 2;
        if (found == length && !strncmp(list, tag, length) && !(weak && strong)) return true;
        list += found - 1;
        if (*list) list++;
    }
}

int header_digest(struct digest *out, bool *has, const char *value, struct err *e) {
    *has = false;
    while (value && *value) {
        value += strspn(value, " \t,");
        size_t length = strcspn(value, ",");
        if (length > 8 && !strncasecmp(value, "sha-256=", 8)) {
            size_t coded = length - 8;
            const char *start = value + 8;
            while (coded && (start[coded - 1] == ' ' || start[coded - 1] == '\t')) coded--;
            if (coded < 2 || start[0] != ':' || start[coded - 1] != ':' ||
                !digest_from_base64(out, start + 1, coded - 2))
                return err_set(e, E_SYNTAX,
                               "the digest header's sha-256 is not \"sha-256=:<44 characters of base64>:\"");
            *has = true;
        }
        value += length;
    }
    return 0;
}

int64_t header_prefer_wait(const struct request *r) {
    const char *value = header_get(r, "Prefer");
    while (value && *value) {
        value += strspn(value, " \t,;");
        size_t length = strcspn(value, ",;");
        char number[24];
        int64_t seconds;
        if (length > 5 && length < 5 + sizeof number && !strncasecmp(value, "wait=", 5)) {
            text_print(number, sizeof number, "%.*s", (int)length - 5, value + 5);
            number[strcspn(number, " \t")] = '\0';
            if (text_to_int(&seconds, number, 0, 1000000)) return seconds;
        }
        value += length;
    }
    return -1;
}

int header_idempotency_key(char out[IDEMPOTENCY_KEY_SIZE], const struct request *r, struct err *e) {
    const char *value = header_get(r, "Idempotency-Key");
    *out = '\0';
    if (!value) return 0;
    size_t length = strlen(value);
    if (length >= 2 && value[0] == '"' && value[length - 1] == '"') value++, length -= 2;
    bool visible = length > 0 && length < IDEMPOTENCY_KEY_SIZE;
    for (size_t i = 0; visible && i < length; i++) visible = value[i] > ' ' && value[i] < 0x7f;
    if (!visible)
        return err_set(e, E_SYNTAX, "the Idempotency-Key must have 1 to %d visible ASCII characters",
                       IDEMPOTENCY_KEY_SIZE - 1);
    text_print(out, IDEMPOTENCY_KEY_SIZE, "%.*s", (int)length, value);
    return 0;
}

/* One parameter as a member of a JSON object, so that param_parse can judge it. */
static void put_parameter(struct json_writer *w, const struct param *table, const struct pair *p) {
    const struct param *row = table;
    while (row->name && strcmp(row->name, p->name)) row++;
    double number;
    bool truth = !*p->value || !strcmp(p->value, "1") || !strcmp(p->value, "true");
    bool falsehood = !strcmp(p->value, "0") || !strcmp(p->value, "false");
    if (row->name && row->type == PARAM_TYPE_BOOL && (truth || falsehood))
        json_put_bool(w, p->name, truth);
    else if (row->name && row->type == PARAM_TYPE_REAL && text_to_real(&number, p->value))
        json_put_number(w, p->name, number);
    else
        json_put_string(w, p->name, p->value); /* integers may be decimal strings */
}

static int parse_object(void *out, const struct param *table, const struct text *object, struct err *e) {
    struct json *root = NULL;
    int code = json_parse(&root, object->data, object->length, e);
    if (!code) code = param_parse(out, table, root, "", e);
    json_free(root);
    return code;
}

int query_parse(void *out, const struct param *table, const struct request *r, struct err *e) {
    static const struct param none[] = {PARAM_END};
    struct err inner = {0};
    struct text object;
    text_init(&object, 8 * HTTP_MAX_TARGET);
    struct json_writer w = json_writer(&object);
    json_open_object(&w, NULL);
    for (int i = 0; i < r->n_query; i++) put_parameter(&w, table ? table : none, &r->query[i]);
    json_close_object(&w);
    int code =
        object.failed ? err_memory(&inner, HTTP_MAX_TARGET) : parse_object(out, table ? table : none, &object, &inner);
    text_free(&object);
    if (code)
        err_set(e, code, "in the query%s%s: %s", *inner.pointer ? ", " : "", inner.pointer + (*inner.pointer == '/'),
                inner.text);
    return code;
}
