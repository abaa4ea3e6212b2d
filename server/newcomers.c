/* newcomers.c - a Content-Length that is no number is refused by libmicrohttpd itself, before any handler
 * is called. 0.9.75 then writes the head of that answer twice, which to a client looks like two answers.
 * The only thing it does first is to write a line to its log. So the logger comes here, and the answer is
 * on the wire and the connection closed for writing before libmicrohttpd gets to it.
 *
 * The log does not say which connection it is about. It need not: each one that has such a header
 * deserves the same answer. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "handlers/headers.h"
#include "server/exchange.h"

static _Thread_local struct exchange *first;

void newcomers_add(struct exchange *x) {
    x->next_new = first;
    first = x;
}

void newcomers_remove(struct exchange *x) {
    for (struct exchange **at = &first; *at; at = &(*at)->next_new)
        if (*at == x) {
            *at = x->next_new;
            return;
        }
}

static bool is_bad_length(const char *value) {
    size_t digits = strspn(value, "0123456789");
    errno = 0;
    strtoull(value, NULL, 10);
    return digits == 0 || value[digits] || errno == ERANGE;
}

static void refuse(struct exchange *x, const char *length) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct err e = {0};
    err_set(&e, E_SYNTAX, "the Content-Length \"%.40s\" is not a number of bytes", length);
    exchange_refuse(x, 400, "malformed", &e, 0);
    exchange_send_early(x);
    if (info) shutdown(info->connect_fd, SHUT_WR);
    atomic_fetch_add(&x->front->stats->refused, 1);
    x->answered = true;
}

void newcomers_refuse_bad_lengths(void) {
    for (struct exchange *x = first; x; x = x->next_new) {
        if (x->answered) continue;
        exchange_read_headers(x);
        const char *length = header_get(&x->request, "Content-Length");
        if (length && is_bad_length(length)) refuse(x, length);
    }
}
