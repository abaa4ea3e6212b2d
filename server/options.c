/* options.c - command line and environment through the parameter tables. */
#include "server/options.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/text.h"

#define OPTIONS_MAX (16 << 10)

/* clang-format off */
const struct param serve_options[] = {
    PARAM_STRING(struct settings, data, "\"data\"", "folder of the data; made when it is missing"),
    PARAM_STRING(struct settings, listen, "\"127.0.0.1:8080\"", "HOST:PORT; port 0 is any free one"),
    PARAM_STRING(struct settings, tokens, NULL, "file of access tokens (see retort token --help); without it only loopback"),
    PARAM_STRING(struct settings, hosts, NULL, "further names of this server, separated by spaces, as in a Host header"),
    PARAM_INT(struct settings, workers, "1", 0, 64, "worker processes, each runs one job at a time"),
    PARAM_INT(struct settings, threads, "0", 0, 1024, "threads of a worker; 0 = one per processor"),
    PARAM_INT(struct settings, memory, "0", 0, 9e15, "bytes one job may take, 0 = no limit; the largest network is a quarter of it or of half the machine's, whichever is smaller, and at most 2 GiB"),
    PARAM_INT(struct settings, max_body, "68719476736", 1 << 20, 68719476736, "largest upload in bytes"),
    PARAM_INT(struct settings, cache, "8589934592", 0, 9e15, "bytes of derived data (teachers' outputs) that are kept"),
    PARAM_INT(struct settings, uploads, "16", 1, 1024, "uploads at a time; each takes 1 MiB of memory"),
    PARAM_INT(struct settings, streams, "1000", 1, 100000, "event streams and long polls at a time"),
    PARAM_INT(struct settings, connections, "1200", 16, 100000, "connections at a time"),
    PARAM_INT(struct settings, per_address, "0", 0, 100000, "connections of one address at a time; 0 = no limit"),
    PARAM_INT(struct settings, loops, "2", 1, 64, "threads that serve connections"),
    PARAM_INT(struct settings, desks, "2", 1, 64, "threads that write, and look at what was uploaded"),
    PARAM_INT(struct settings, idle, "75", 1, 86400, "seconds until a connection on which nothing moves is closed"),
    PARAM_INT(struct settings, drain, "5", 0, 3600, "seconds for requests under way when the server is told to stop"),
    PARAM_CHOICE(struct settings, log, "\"info\"", "debug info warn error", "what is written to standard error"),
    PARAM_END,
};

const struct param worker_options_table[] = {
    PARAM_STRING(struct settings, data, "\"data\"", "folder of the data"),
    PARAM_STRING(struct settings, name, NULL, "name of this worker; host:pid without"),
    PARAM_INT(struct settings, threads, "0", 0, 1024, "threads; 0 = one per processor"),
    PARAM_INT(struct settings, memory, "0", 0, 9e15, "bytes one job may take; 0 = no limit"),
    PARAM_BOOL(struct settings, until_idle, "false", "end when there is nothing left to do"),
    PARAM_CHOICE(struct settings, log, "\"info\"", "debug info warn error", "what is written to standard error"),
    PARAM_END,
};
/* clang-format on */

static const struct param *row_named(const struct param *table, const char *name) {
    while (table->name && strcmp(table->name, name)) table++;
    return table->name ? table : NULL;
}

/* "max-body" and "max_body" as a row's name. */
static void row_name(char *out, size_t room, const char *option) {
    text_copy(out, room, option);
    for (char *c = out; *c; c++)
        if (*c == '-') *c = '_';
}

/* "8G" in bytes; other texts stay as they are. */
static void expand_size(char *out, size_t room, const char *value) {
    static const char units[] = "KMGT";
    size_t digits = strspn(value, "0123456789");
    const char *unit = value[digits] ? strchr(units, toupper((unsigned char)value[digits])) : NULL;
    char number[24];
    int64_t n;
    text_copy(out, room, value);
    if (!unit || digits == 0 || digits >= sizeof number || value[digits + 1]) return;
    text_print(number, sizeof number, "%.*s", (int)digits, value);
    int shift = 10 * (int)(unit - units + 1);
    if (text_to_int(&n, number, 0, INT64_MAX >> shift)) text_print(out, room, "%lld", (long long)(n << shift));
}

/* One option as a member of the object that param_parse will judge. What is not UTF-8 is left out and
 * remembered: JSON could not say it. */
static void put_option(struct json_writer *w, const struct param *row, const char *name, const char *value) {
    char number[1024];
    if (!text_is_utf8(value, strlen(value)) || !text_is_utf8(name, strlen(name))) {
        text_fail(w->out, E_INVALID);
        return;
    }
    if (row && row->type == PARAM_TYPE_INT) {
        expand_size(number, sizeof number, value);
        json_put_string(w, name, number);
    } else if (row && row->type == PARAM_TYPE_BOOL) {
        json_put_bool(w, name, strcmp(value, "0") != 0 && strcmp(value, "false") != 0);
    } else {
        json_put_string(w, name, value);
    }
}

/* "--name value", "--name=value", and "--name" alone for a bool. *used: how many words. */
static int put_argument(struct json_writer *w, int *used, const struct param *table, int argc, char **argv,
                        struct err *e) {
    char name[64], option[64];
    const char *word = argv[0], *equals = strchr(word, '=');
    *used = 1;
    if (strncmp(word, "--", 2)) return err_set(e, E_INVALID, "\"%s\" is not an option", word);
    text_print(option, sizeof option, "%.*s", equals ? (int)(equals - word) - 2 : 64, word + 2);
    row_name(name, sizeof name, option);
    const struct param *row = row_named(table, name);
    if (equals) {
        put_option(w, row, name, equals + 1);
    } else if (row && row->type == PARAM_TYPE_BOOL) {
        put_option(w, row, name, "1");
    } else if (row && argc < 2) {
        return err_set(e, E_INVALID, "--%s needs a value: %s", option, row->help);
    } else {
        put_option(w, row, name, argc > 1 ? argv[1] : "");
        *used = 2;
    }
    return 0;
}

static const char *from_environment(const struct param *row) {
    char name[64] = "RETORT_";
    size_t n = strlen(name);
    for (const char *c = row->name; *c && n < sizeof name - 1; c++) name[n++] = (char)toupper((unsigned char)*c);
    name[n] = '\0';
    return getenv(name);
}

static bool is_given(const struct param *row, int argc, char **argv) {
    char name[64];
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "--", 2)) continue;
        row_name(name, sizeof name, argv[i] + 2);
        name[strcspn(name, "=")] = '\0';
        if (!strcmp(name, row->name)) return true;
    }
    return false;
}

static int put_all(struct json_writer *w, const struct param *table, int argc, char **argv, struct err *e) {
    int used, code = 0;
    json_open_object(w, NULL);
    for (int i = 0; i < argc && !code; i += used) code = put_argument(w, &used, table, argc - i, argv + i, e);
    for (const struct param *row = table; row->name; row++) {
        const char *value = is_given(row, argc, argv) ? NULL : from_environment(row);
        if (value) put_option(w, row, row->name, value);
    }
    json_close_object(w);
    return code;
}

int options_parse(void *out, bool *help, const struct param *table, int argc, char **argv, struct err *e) {
    struct text text;
    struct json *root = NULL;
    *help = false;
    for (int i = 0; i < argc; i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) *help = true;
    if (*help) return 0;
    text_init(&text, OPTIONS_MAX);
    struct json_writer w = json_writer(&text);
    int code = put_all(&w, table, argc, argv, e);
    if (!code && text.failed)
        code = err_set(e, E_INVALID, text.failed == E_INVALID ? "an option is not UTF-8" : "the options are too long");
    if (!code) code = json_parse(&root, text.data, text.length, e);
    if (!code) code = param_parse(out, table, root, "", e);
    json_free(root);
    text_free(&text);
    return code;
}

static const char *kind_of_value(const struct param *row) {
    switch (row->type) {
        case PARAM_TYPE_BOOL: return "";
        case PARAM_TYPE_INT: return " N";
        case PARAM_TYPE_CHOICE: return " WORD";
        case PARAM_TYPE_REAL:
        case PARAM_TYPE_STRING:
        case PARAM_TYPE_OBJECT:
        case PARAM_TYPE_LIST: break;
    }
    return " TEXT";
}

void options_help(const struct param *table) {
    char option[64], variable[64];
    for (const struct param *row = table; row->name; row++) {
        text_print(option, sizeof option, "--%s%s", row->name, kind_of_value(row));
        text_print(variable, sizeof variable, "RETORT_%s", row->name);
        for (char *c = option; *c; c++)
            if (*c == '_') *c = '-';
        for (char *c = variable; *c; c++) *c = (char)toupper((unsigned char)*c);
        printf("  %-20s %s", option, row->help);
        if (row->choices) printf(" (%s)", row->choices);
        if (row->standard) printf("; default %s", row->standard);
        printf("\n%23s%s\n", "", variable);
    }
}
