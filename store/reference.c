/* reference.c - the rules for names, and references; see catalog.h. */
#include <string.h>

#include "base/text.h"
#include "store/catalog.h"

static bool is_name_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

static bool ends_with(const char *text, size_t length, const char *end) {
    size_t n = strlen(end);
    return length >= n && strcmp(text + length - n, end) == 0;
}

/* What is wrong with it, or NULL. */
static const char *name_fault(const char *name) {
    size_t length = strlen(name);
    if (length == 0) return "it is empty";
    if (length >= STORE_NAME_SIZE) return "it is longer than 96 characters";
    for (size_t i = 0; i < length; i++)
        if (!is_name_char(name[i])) return "only a-z, 0-9, '.', '_' and '-' are allowed";
    if (name[0] == '.' || name[0] == '_' || name[0] == '-') return "it must start with a letter or a digit";
    if (strstr(name, "..") || strstr(name, "--")) return "\"..\" and \"--\" are not allowed";
    if (name[length - 1] == '-' || name[length - 1] == '.') return "it must not end in '-' or '.'";
    if (ends_with(name, length, ".git")) return "it must not end in \".git\"";
    return NULL;
}

int store_name_check(const char *name, struct err *e) {
    const char *fault = name_fault(name);
    return fault ? err_set(e, E_INVALID, "\"%.100s\" is not a name: %s", name, fault) : 0;
}

static bool all_in(const char *text, const char *set) {
    return text[strspn(text, set)] == '\0';
}

int store_alias_check(const char *alias, struct err *e) {
    const char *fault = name_fault(alias);
    if (!fault && all_in(alias, "0123456789")) fault = "a number means a version";
    if (!fault && strlen(alias) == 40 && all_in(alias, "0123456789abcdef")) fault = "it looks like a commit";
    if (!fault && (strcmp(alias, "latest") == 0 || strcmp(alias, "main") == 0 || strcmp(alias, "head") == 0))
        fault = "that word always means the newest version";
    return fault ? err_set(e, E_INVALID, "\"%.100s\" is not an alias: %s", alias, fault) : 0;
}

static int parse_version(struct store_reference *out, const char *version, struct err *e) {
    if (strcmp(version, "latest") == 0) {
        out->kind = STORE_REF_LATEST;
        return 0;
    }
    if (strncmp(version, "sha256:", 7) == 0) {
        out->kind = STORE_REF_DIGEST;
        if (digest_from_hex(&out->digest, version + 7, strlen(version + 7))) return 0;
        return err_set(e, E_INVALID, "after \"sha256:\" come 64 lower-case hex digits, not \"%.80s\"", version + 7);
    }
    if (*version && all_in(version, "0123456789")) {
        out->kind = STORE_REF_NUMBER;
        if (text_to_int(&out->number, version, 1, INT64_MAX)) return 0;
        return err_set(e, E_INVALID, "versions are numbered from 1; \"%.30s\" is none", version);
    }
    out->kind = STORE_REF_ALIAS;
    if (store_alias_check(version, NULL) != 0)
        return err_set(e, E_INVALID, "\"%.100s\" is not a version: give a number, \"latest\", an alias or sha256:<hex>",
                       version);
    text_copy(out->alias, sizeof out->alias, version);
    return 0;
}

int store_reference_parse(struct store_reference *out, const char *text, struct err *e) {
    *out = (struct store_reference){0};
    const char *at = strchr(text, '@');
    size_t length = at ? (size_t)(at - text) : strlen(text);
    if (length >= sizeof out->name)
        return err_set(e, E_INVALID, "\"%.100s...\" is not a name: it is longer than 96 characters", text);
    memcpy(out->name, text, length);
    int r = store_name_check(out->name, e);
    out->bare = !at;
    if (!r && at) r = parse_version(out, at + 1, e);
    if (r) *out = (struct store_reference){0};
    return r;
}
