/* catalog.h - names, immutable versions, references and aliases: what models and data sets share.
 *
 * Names of models and of data sets are separate. Versions of a name are numbered from 1, without
 * ever using a number again, not even after everything under the name was deleted. */
#ifndef STORE_CATALOG_H
#define STORE_CATALOG_H

#include "base/digest.h"
#include "store/store.h"

#define STORE_NAME_SIZE 97 /* with the NUL */
#define STORE_REFERENCE_SIZE (STORE_NAME_SIZE + 72)

enum store_kind { STORE_MODEL = 1, STORE_DATASET = 2 };

/* ---- names and references: no database involved ---- */

/* [a-z0-9][a-z0-9._-]{0,95} without ".." or "--", not ending in '-', '.' or ".git"; E_INVALID says what is wrong. */
int store_name_check(const char *name, struct err *e);

/* As a name; besides not all digits, not 40 hex digits, not "latest", "main" or "head". */
int store_alias_check(const char *alias, struct err *e);

enum store_reference_kind { STORE_REF_LATEST, STORE_REF_NUMBER, STORE_REF_ALIAS, STORE_REF_DIGEST };

struct store_reference {
    char name[STORE_NAME_SIZE];
    bool bare; /* no '@': the name alone */
    enum store_reference_kind kind;
    int64_t number;
    char alias[STORE_NAME_SIZE];
    struct digest digest;
};

/* Reads name[@number|@latest|@alias|@sha256:<64 hex>]; E_INVALID. */
int store_reference_parse(struct store_reference *out, const char *text, struct err *e);

/* ---- versions ---- */

struct store_version {
    int64_t id;
    enum store_kind kind;
    char name[STORE_NAME_SIZE];
    int64_t number;
    struct digest digest; /* models: of the bytes. Data sets: of the list of arrays, see datasets.h */
    int64_t bytes;
    int64_t job; /* that made it, 0 = uploaded */
    int64_t created_at;
};

/* The version a reference means now. E_INVALID, E_NOT_FOUND (the text says whether the name or the
 * version is missing). Of several versions with a digest, the newest. */
int store_resolve(struct store_version *out, struct store *s, enum store_kind kind, const char *reference,
                  struct err *e);
int store_version_get(struct store_version *out, struct store *s, int64_t version, struct err *e);

/* ---- lists: newest first; `after` is 0 or the `next` of the page before ---- */

struct store_name {
    char name[STORE_NAME_SIZE];
    struct store_version latest;
    int64_t parameters, macs; /* of the latest model version; 0 for data sets */
    int64_t versions;         /* how many there are */
    int64_t revision;         /* grows with every change under this name, for ETags */
    int64_t created_at, changed_at;
};

struct store_name_page {
    struct store_name *items;
    size_t n;
    int64_t next; /* 0 = this was the last page */
};

struct store_name_query {
    const char *q;   /* part of the name, or NULL */
    const char *tag; /* or NULL */
    int64_t after;
    int limit; /* 1..STORE_PAGE_MAX */
};

/* Names that have a version, the one with the newest version first. */
int store_name_list(struct store_name_page *out, struct store *s, enum store_kind kind,
                    const struct store_name_query *query, struct err *e);
void store_name_page_fini(struct store_name_page *page);

/* E_NOT_FOUND also when it has no version any more. */
int store_name_get(struct store_name *out, struct store *s, enum store_kind kind, const char *name, struct err *e);

struct store_version_page {
    struct store_version *items;
    size_t n;
    int64_t next;
};

int store_version_list(struct store_version_page *out, struct store *s, enum store_kind kind, const char *name,
                       int64_t after, int limit, struct err *e);
void store_version_page_fini(struct store_version_page *page);

/* Removes one version (name@...), or all (the bare name), with the aliases that point there; *removed
 * (may be NULL) counts the versions. E_NOT_FOUND; E_CONFLICT while a queued or running job uses one of them. */
int store_delete(int64_t *removed, struct store *s, enum store_kind kind, const char *reference, struct err *e);

/* ---- aliases: the only thing that moves ---- */

#define STORE_REVISION_ANY 0  /* no condition */
#define STORE_REVISION_NEW -1 /* the alias must not exist */

struct store_alias {
    char alias[STORE_NAME_SIZE];
    int64_t number;   /* of the version it means */
    int64_t revision; /* of the alias, > 0, different after every move; for ETag and If-Match */
    int64_t changed_at;
};

/* Points the alias at a version. `expected` is a revision or one of the two above; E_PRECONDITION
 * when it does not hold. E_NOT_FOUND: no such version; E_INVALID: bad alias. Pointing it where it
 * points already changes nothing. `who` (may be NULL) goes into the history. */
int store_alias_set(struct store_alias *out, struct store *s, enum store_kind kind, const char *name, const char *alias,
                    int64_t number, int64_t expected, const char *who, struct err *e);
int store_alias_delete(struct store *s, enum store_kind kind, const char *name, const char *alias, int64_t expected,
                       const char *who, struct err *e);
int store_alias_get(struct store_alias *out, struct store *s, enum store_kind kind, const char *name, const char *alias,
                    struct err *e);

struct store_alias_page {
    struct store_alias *items;
    size_t n;
};

/* All aliases of a name (at most STORE_PAGE_MAX exist), by name. */
int store_alias_list(struct store_alias_page *out, struct store *s, enum store_kind kind, const char *name,
                     struct err *e);
void store_alias_page_fini(struct store_alias_page *page);

struct store_move {
    int64_t from, to; /* version numbers; 0 = the alias did not exist before / does not after */
    int64_t at;
    char who[64];
};

struct store_move_page {
    struct store_move *items;
    size_t n;
    int64_t next;
};

int store_alias_history(struct store_move_page *out, struct store *s, enum store_kind kind, const char *name,
                        const char *alias, int64_t after, int limit, struct err *e);
void store_move_page_fini(struct store_move_page *page);

/* ---- tags: words on a name, to list by ---- */

#define STORE_TAGS_MAX 32

struct store_tags {
    char tag[STORE_TAGS_MAX][STORE_NAME_SIZE];
    size_t n;
};

/* Replaces the tags of a name; each obeys the rule for names. E_NOT_FOUND, E_INVALID. */
int store_tags_set(struct store *s, enum store_kind kind, const char *name, const struct store_tags *tags,
                   struct err *e);
int store_tags_get(struct store_tags *out, struct store *s, enum store_kind kind, const char *name, struct err *e);

#endif
