/* guard.c - the request guard. */
#include "server/guard.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#include "base/param.h"
#include "base/text.h"
#include "handlers/headers.h"

static int refuse(struct err *e, int status, const char *text) {
    err_set(e, E_SYNTAX, "%s", text);
    return status;
}

/* RFC 9110, 5.6.2: what a field name is made of. */
static bool is_token(const char *text) {
    static const char marks[] = "!#$%&'*+-.^_`|~";
    for (const char *c = text; *c; c++) {
        bool letter = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9');
        if (!letter && !strchr(marks, *c)) return false;
    }
    return *text != '\0';
}

static bool is_decimal(const char *text) {
    return *text && !text[strspn(text, "0123456789")];
}

static bool is_host(const char *text) {
    for (const char *c = text; *c; c++)
        if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.:-_[]", *c)) return false;
    return *text != '\0';
}

/* Control characters in a value; a tab is allowed. */
static bool is_clean(const char *value) {
    for (const char *c = value; *c; c++)
        if (((unsigned char)*c < ' ' && *c != '\t') || *c == 0x7f) return false;
    return true;
}

int guard_headers(const struct request *r, const char *version, struct err *e) {
    int hosts = 0, lengths = 0, codings = 0;
    for (int i = 0; i < r->n_headers; i++) {
        const char *name = r->headers[i].name, *value = r->headers[i].value;
        if (!is_token(name)) return refuse(e, 400, "a header's name has a character that names must not have");
        if (!is_clean(value)) return refuse(e, 400, "a header's value has a control character");
        if (!strcasecmp(name, "Host")) {
            hosts++;
            if (!is_host(value)) return refuse(e, 400, "the Host header is not a host");
        } else if (!strcasecmp(name, "Content-Length")) {
            lengths++;
            if (!is_decimal(value)) return refuse(e, 400, "the Content-Length is not a number");
        } else if (!strcasecmp(name, "Transfer-Encoding")) {
            codings++;
            if (strcasecmp(value, "chunked")) return refuse(e, 400, "the Transfer-Encoding is not \"chunked\"");
        }
    }
    if (strncmp(version, "HTTP/1.", 7)) return refuse(e, 505, "this server speaks HTTP/1.1");
    bool old = !strcmp(version, "HTTP/1.0");
    if (hosts > 1) return refuse(e, 400, "there is more than one Host header");
    if (hosts == 0 && !old) return refuse(e, 400, "there is no Host header");
    if (lengths > 1) return refuse(e, 400, "there is more than one Content-Length");
    if (codings > 1) return refuse(e, 400, "there is more than one Transfer-Encoding");
    if (codings && lengths) return refuse(e, 400, "there is a Content-Length beside a Transfer-Encoding");
    if (codings && old) return refuse(e, 400, "HTTP/1.0 has no Transfer-Encoding");
    return 0;
}

/* "[::1]:80" gives "::1", "host:80" gives "host". */
static void without_port(char *out, size_t room, const char *host) {
    bool bracket = *host == '[';
    size_t length = bracket ? strcspn(++host, "]") : strcspn(host, ":");
    text_print(out, room, "%.*s", (int)length, host);
}

static bool is_local_name(const char *host, const char *hosts) {
    char name[256];
    unsigned char address[16];
    without_port(name, sizeof name, host);
    size_t length = strlen(name);
    if (inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1) return true;
    if (!strcasecmp(name, "localhost")) return true;
    if (length > 10 && !strcasecmp(name + length - 10, ".localhost")) return true;
    return param_word_index(hosts, name) >= 0;
}

int guard_origin(const struct request *r, const char *hosts, struct err *e) {
    const char *host = header_get(r, "Host");
    if (host && r->service->open && !is_local_name(host, hosts)) {
        err_set(e, E_SYNTAX, "the host \"%s\" is not one of this server's names; start it with --hosts to add it",
                host);
        return 421;
    }
    const char *origin = header_get(r, "Origin");
    if (!origin || r->method == HTTP_GET) return 0;
    const char *authority = strstr(origin, "://");
    if (host && authority && !strcasecmp(authority + 3, host)) return 0;
    err_set(e, E_SYNTAX, "a page from \"%s\" may not change anything here", origin);
    return 403;
}
