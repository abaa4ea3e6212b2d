/* supervise.h - the worker processes of a server: started, watched, started again, stopped. */
#ifndef SERVER_SUPERVISE_H
#define SERVER_SUPERVISE_H

#include <stdint.h>

#define SUPERVISE_MAX 64

struct supervisor {
    char *const *command; /* of a worker, ended by NULL; command[0] is the path */
    int n;
    struct {
        int pid; /* 0 = not running */
        int64_t started_ns;
        int64_t due_ns; /* when to start it (again) */
        int failures;   /* in a row */
    } worker[SUPERVISE_MAX];
};

/* Remembers what to start; nothing runs yet. */
void supervise_init(struct supervisor *s, int n, char *const *command);

/* Collects workers that ended and starts those that are due: to be called after SIGCHLD and after the
 * time it returns, in milliseconds. Always from the same thread: workers die with it (PR_SET_PDEATHSIG). */
int64_t supervise_look(struct supervisor *s);

/* Asks all to end, and kills those that have not after `grace_ms`. */
void supervise_ask(struct supervisor *s);
void supervise_end(struct supervisor *s, int64_t grace_ms);

#endif
