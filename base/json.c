/* json.c - documents: the scan of json_scan.c, then cJSON, then the search for duplicates.
 * `struct json` is never defined: it is a cJSON under a name of ours. */
#include "base/json.h"

#include <assert.h>
#include <cjson/cJSON.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_scan.h"
#include "base/memory.h"

static const cJSON *node(const struct json *value) {
    return (const void *)value;
}

static void use_our_memory(void) {
    cJSON_Hooks hooks = {.malloc_fn = mem_alloc, .free_fn = mem_free};
    cJSON_InitHooks(&hooks);
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* E_SYNTAX when two members of this object have one name; `at` is the object's pointer. */
static int refuse_twins(const struct json *object, const char *at, struct err *e) {
    size_t n = json_count(object), i = 0;
    if (n < 2) return 0;
    const char **names = mem_calloc(n, sizeof *names);
    if (!names) return err_memory(e, n * sizeof *names);
    for (const struct json *m = json_first(object); m; m = json_next(m)) names[i++] = json_name(m);
    qsort(names, n, sizeof *names, compare_names);
    int code = 0;
    for (i = 1; i < n && !code; i++) {
        if (strcmp(names[i - 1], names[i]) != 0) continue;
        char pointer[JSON_POINTER_SIZE];
        json_pointer(pointer, at, names[i]);
        code = err_set_at(e, E_SYNTAX, pointer, "found the member \"%.64s\" twice in one object", names[i]);
    }
    mem_free(names);
    return code;
}

static int refuse_twins_within(const struct json *value, const char *at, struct err *e) {
    enum json_type type = json_type(value);
    size_t index = 0;
    int code = type == JSON_OBJECT ? refuse_twins(value, at, e) : 0;
    for (const struct json *child = json_first(value); child && !code; child = json_next(child), index++) {
        enum json_type inner = json_type(child);
        if (inner != JSON_OBJECT && inner != JSON_ARRAY) continue;
        char pointer[JSON_POINTER_SIZE], number[24];
        text_print(number, sizeof number, "%zu", index);
        json_pointer(pointer, at, type == JSON_OBJECT ? json_name(child) : number);
        code = refuse_twins_within(child, pointer, e);
    }
    return code;
}

int json_parse_within(struct json **out, const char *bytes, size_t length, const struct json_limits *limits,
                      struct err *e) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    *out = NULL;
    pthread_once(&once, use_our_memory);
    if (length > limits->size)
        return err_set(e, E_TOO_LARGE, "found %zu bytes of JSON, expected at most %zu", length, limits->size);
    int code = json_scan(bytes, length, limits->keys, e);
    if (code) return code;
    /* What passed the scan is nothing cJSON could refuse, so it can only lack memory. */
    const char *end;
    struct json *root = (void *)cJSON_ParseWithLengthOpts(bytes, length, &end, 0);
    if (!root) return err_set(e, E_NOMEM, "out of memory while reading %zu bytes of JSON", length);
    code = refuse_twins_within(root, "", e);
    if (code)
        json_free(root);
    else
        *out = root;
    return code;
}

int json_parse(struct json **out, const char *bytes, size_t length, struct err *e) {
    return json_parse_within(out, bytes, length, &(struct json_limits){JSON_MAX_SIZE, JSON_MAX_KEYS}, e);
}

void json_free(struct json *root) {
    cJSON_Delete((void *)root);
}

enum json_type json_type(const struct json *value) {
    const cJSON *item = node(value);
    if (cJSON_IsObject(item)) return JSON_OBJECT;
    if (cJSON_IsArray(item)) return JSON_ARRAY;
    if (cJSON_IsString(item)) return JSON_STRING;
    if (cJSON_IsNumber(item)) return JSON_NUMBER;
    return cJSON_IsBool(item) ? JSON_BOOL : JSON_NULL;
}

const char *json_type_name(enum json_type type) {
    static const char *const names[] = {"null", "a boolean", "a number", "a string", "an array", "an object"};
    return names[type];
}

const struct json *json_get(const struct json *object, const char *name) {
    if (!cJSON_IsObject(node(object))) return NULL;
    return (const void *)cJSON_GetObjectItemCaseSensitive(node(object), name);
}

const struct json *json_first(const struct json *value) {
    return (const void *)node(value)->child;
}

const struct json *json_next(const struct json *value) {
    return (const void *)node(value)->next;
}

const char *json_name(const struct json *member) {
    return node(member)->string;
}

size_t json_count(const struct json *value) {
    size_t n = 0;
    for (const struct json *child = json_first(value); child; child = json_next(child)) n++;
    return n;
}

const char *json_string(const struct json *value) {
    assert(cJSON_IsString(node(value)));
    return node(value)->valuestring;
}

double json_number(const struct json *value) {
    assert(cJSON_IsNumber(node(value)));
    return node(value)->valuedouble;
}

bool json_bool(const struct json *value) {
    assert(cJSON_IsBool(node(value)));
    return cJSON_IsTrue(node(value));
}

bool json_int(int64_t *out, const struct json *value) {
    if (cJSON_IsString(node(value))) return text_to_int(out, json_string(value), INT64_MIN, INT64_MAX);
    if (!cJSON_IsNumber(node(value))) return false;
    double number = json_number(value);
    if (!(number >= -JSON_MAX_INT && number <= JSON_MAX_INT)) return false;
    int64_t whole = (int64_t)number;
    if ((double)whole != number) return false;
    *out = whole;
    return true;
}

void json_pointer(char out[JSON_POINTER_SIZE], const char *at, const char *token) {
    size_t used = strnlen(at, JSON_POINTER_SIZE - 1);
    memmove(out, at, used);
    out[used] = '\0';
    size_t from = used;
    out[used++] = '/';
    for (const char *c = token; *c; c++) {
        if (used + 2 >= JSON_POINTER_SIZE) {
            out[from] = '\0'; /* a pointer to what encloses the value is better than one to nothing */
            return;
        }
        if (*c == '~' || *c == '/') {
            out[used++] = '~';
            out[used++] = *c == '~' ? '0' : '1';
        } else {
            out[used++] = *c;
        }
    }
    out[used] = '\0';
}
