/* statement.h - the thin layer over SQLite: connections, cached statements, values, transactions.
 * Private to store/: nobody else sees SQL. */
#ifndef STORE_STATEMENT_H
#define STORE_STATEMENT_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/digest.h"
#include "base/error.h"

struct database;  /* a connection with its statements */
struct statement; /* belongs to its database; prepared once, used again and again */

/* ---- values to bind ---- */

struct value {
    enum { VALUE_END, VALUE_NULL, VALUE_INT, VALUE_REAL, VALUE_TEXT, VALUE_BYTES } type;
    int64_t integer;
    double real;
    const void *bytes; /* borrowed until the statement is reset */
    size_t size;
};

/* The values of ?1, ?2, ... */
#define BIND(...) ((const struct value[]){__VA_ARGS__, {.type = VALUE_END}})
#define BIND_NOTHING ((const struct value[]){{.type = VALUE_END}})

static inline struct value value_int(int64_t i) {
    return (struct value){.type = VALUE_INT, .integer = i};
}

/* NaN, which SQL does not have, is NULL. */
static inline struct value value_real(double r) {
    return isnan(r) ? (struct value){.type = VALUE_NULL} : (struct value){.type = VALUE_REAL, .real = r};
}

static inline struct value value_bytes(const void *bytes, size_t size) {
    return (struct value){.type = VALUE_BYTES, .bytes = bytes, .size = size};
}

/* NULL is NULL. */
static inline struct value value_text(const char *text) {
    if (!text) return (struct value){.type = VALUE_NULL};
    return (struct value){.type = VALUE_TEXT, .bytes = text, .size = strlen(text)};
}

static inline struct value value_digest(const struct digest *d) {
    return value_bytes(d->bytes, DIGEST_SIZE);
}

/* ---- connections ---- */

struct database_setup {
    const char *label;             /* for messages: "retort.db"; kept */
    const char *pragmas;           /* run first */
    const char *const *migrations; /* number i makes version i+1; never change one that was released */
    int n_migrations;
    int64_t now_ms; /* written beside the migrations */
};

/* Opens or creates the file in WAL mode and migrates it. E_UNSUPPORTED when it is of a later version. */
int db_open(struct database **out, const char *path, const struct database_setup *setup, struct err *e);
void db_close(struct database *db); /* NULL is fine */

/* ---- statements ---- */

/* The prepared statement of `sql` (a string literal: its address is the key of the cache) with the
 * values bound. Step it; reset it when you stop before the end. */
int db_query(struct statement **out, struct database *db, const char *sql, const struct value *values, struct err *e);

/* 1: a row; 0: the end, and it is reset; negative: an error, and it is reset. */
int statement_step(struct statement *st, struct err *e);
void statement_reset(struct statement *st); /* NULL is fine */

/* Runs a statement to its end; rows are dropped. */
int db_run(struct database *db, const char *sql, const struct value *values, struct err *e);

/* The first column of the first row as an integer; E_NOT_FOUND, without a text, when there is no row. */
int db_integer(int64_t *out, struct database *db, const char *sql, const struct value *values, struct err *e);

/* Several statements, not cached. */
int db_script(struct database *db, const char *sql, struct err *e);

int64_t db_changes(struct database *db); /* rows of the last INSERT, UPDATE or DELETE */
int64_t db_last_id(struct database *db); /* id of the last INSERT */

/* Columns of the present row, from 0. NULL reads as 0, NaN, "" or all zeros. */
bool column_is_null(struct statement *st, int column);
int64_t column_int(struct statement *st, int column);
double column_real(struct statement *st, int column);
void column_word(char *out, size_t room, struct statement *st, int column); /* truncates */
void column_digest(struct digest *out, struct statement *st, int column);
/* A copy to be freed with mem_free; NULL for NULL. */
int column_string(char **out, struct statement *st, int column, struct err *e);

/* Copies `size` bytes from `offset` of a blob column of one row in a read transaction of its own,
 * without reading the rest of the column. E_NOT_FOUND when the row or the bytes are not there. */
int db_read_slice(void *to, size_t size, struct database *db, const char *table, const char *column, int64_t row,
                  size_t offset, struct err *e);

/* Reads the whole file and checks its structure: E_CORRUPT with the first fault. */
int db_check(struct database *db, struct err *e);

/* ---- transactions ---- */

enum db_mode {
    DB_READ,    /* one state for several statements */
    DB_RELAXED, /* write; may be lost with the power, not with the process */
    DB_DURABLE  /* write; on the disk when db_end returns */
};

int db_begin(struct database *db, enum db_mode mode, struct err *e);

/* Commits when result is 0, rolls back otherwise. Returns result, or the error of the commit. */
int db_end(struct database *db, int result, struct err *e);

/* Pauses for as long as those who wait for a lock need to notice that it is free: between the
 * transactions of one that has many. Locks know no queue. */
void db_give_way(void);

#endif
