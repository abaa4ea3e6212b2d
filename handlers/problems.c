/* problems.c - GET /problems/{slug}: what the "type" of a problem document points at. */
#include <string.h>

#include "handlers/reply.h"

static const char *const problems[][2] = {
    {"busy", "The server has as much to do as it allows itself. Try again after the seconds of Retry-After."},
    {"cancelled", "What was asked for was stopped before it was done."},
    {"conflict", "It does not go with the present state: the detail says what is in the way."},
    {"corrupt", "Stored bytes are not what they were. Nothing was changed; look at the disk, and at your backups."},
    {"digest-mismatch",
     "The bytes that came are not those whose digest was announced. Nothing was kept; send them again."},
    {"forbidden", "The token is good, but its scope does not allow this."},
    {"foreign-origin", "A web page from another origin asked for a change. Only the server's own pages may."},
    {"internal", "A fault of the server. Its log has a line with the id in \"instance\"."},
    {"invalid", "The request can be read, but what it says makes no sense; \"errors\" points at the field."},
    {"job-cancelled", "The job was cancelled before it made anything."},
    {"job-failed", "The job failed; the detail has its own words, the job's \"error\" all of them."},
    {"lease-lost", "Another worker has the job now."},
    {"malformed", "The request cannot be read: its syntax is wrong."},
    {"method-not-allowed", "The path exists, but not with this method; Allow lists those it has."},
    {"not-found", "There is nothing under this path, or the name or version it has in it."},
    {"not-ready", "The server runs but cannot store anything; the detail says why."},
    {"out-of-memory", "There was not enough memory. Nothing was changed; try again, or give the server more."},
    {"precondition-failed", "It has changed since: the condition in If-Match or If-None-Match does not hold."},
    {"precondition-required",
     "This call wants a condition: If-Match with the ETag you have seen, or If-None-Match: *."},
    {"range-not-satisfiable", "The range begins behind the end; Content-Range has the size."},
    {"storage", "The disk did not do what it should: it is full, or it failed. Nothing was changed."},
    {"target-too-long", "The path and query are longer than the server reads."},
    {"too-large", "More bytes, or a larger number of things, than is allowed; \"max_bytes\" has the limit of a body."},
    {"too-many-headers", "There are more headers than the server reads."},
    {"unauthorized", "A token is needed: Authorization: Bearer hf_..."},
    {"unknown-host", "The Host header has a name that this server does not go by (retort serve --hosts)."},
    {"unsupported", "Understood, but there is no way to do it; the detail says what is possible."},
    {"unsupported-encoding", "The body is encoded; send the bytes as they are."},
    {"unsupported-type", "The body is a form; send the bytes of the file, or the JSON, themselves."},
    {"unsupported-version", "The server speaks HTTP/1.1."},
};

static int get_problem(const struct request *r, struct response *out, struct err *e) {
    for (size_t i = 0; i < sizeof problems / sizeof problems[0]; i++) {
        if (strcmp(problems[i][0], r->captures[0])) continue;
        text_format(reply_text(out, 200, "text/plain; charset=utf-8"), "%s\n", problems[i][1]);
        return 0;
    }
    return err_set(e, E_NOT_FOUND, "there is no problem \"%s\"", r->captures[0]);
}

extern const struct route problem_get;
const struct route problem_get = {
    .method = HTTP_GET,
    .pattern = "/problems/{slug}",
    .summary = "what a kind of problem means",
    .handle = get_problem,
    .reply = "",
    .media = "text/plain",
};
