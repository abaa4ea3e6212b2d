/* aliases.c - aliases with their history, and tags; see catalog.h. */
#include "base/memory.h"
#include "base/text.h"
#include "store/internal.h"

/* ---- reading ---- */

static void row_alias(struct store_alias *out, struct statement *st) {
    column_word(out->alias, sizeof out->alias, st, 0);
    out->number = column_int(st, 1);
    out->revision = column_int(st, 2);
    out->changed_at = column_int(st, 3);
}

#define ALIAS_SELECT \
    "SELECT a.alias, v.number, a.revision, a.changed_at" \
    " FROM aliases a JOIN versions v ON v.id = a.version_id WHERE a.name_id = ?1 "

/* No such alias: an alias of number 0. */
static int find_alias(struct store_alias *out, struct store *s, int64_t name_id, const char *alias, struct err *e) {
    struct statement *st;
    *out = (struct store_alias){0};
    int r = db_query(&st, s->meta, ALIAS_SELECT "AND a.alias = ?2", BIND(value_int(name_id), value_text(alias)), e);
    if (!r) r = statement_step(st, e);
    if (r < 0) return r;
    if (r == 1) row_alias(out, st);
    statement_reset(st);
    return 0;
}

static int get_within(struct store_alias *out, struct store *s, enum store_kind kind, const char *name,
                      const char *alias, struct err *e) {
    int64_t name_id;
    int r = name_find_within(&name_id, s, kind, name, e);
    if (!r) r = find_alias(out, s, name_id, alias, e);
    if (!r && !out->number) r = err_set(e, E_NOT_FOUND, "\"%.100s\" has no alias \"%.100s\"", name, alias);
    return r;
}

int store_alias_get(struct store_alias *out, struct store *s, enum store_kind kind, const char *name, const char *alias,
                    struct err *e) {
    *out = (struct store_alias){0};
    int r = db_begin(s->meta, DB_READ, e);
    return r ? r : db_end(s->meta, get_within(out, s, kind, name, alias, e), e);
}

static int alias_rows(struct store_alias_page *out, struct store *s, int64_t name_id, struct err *e) {
    struct statement *st;
    int r = db_query(&st, s->meta, ALIAS_SELECT "ORDER BY a.alias LIMIT ?2",
                     BIND(value_int(name_id), value_int(STORE_PAGE_MAX)), e);
    while (!r && (r = statement_step(st, e)) == 1) {
        row_alias(&out->items[out->n++], st);
        r = 0;
    }
    return r;
}

int store_alias_list(struct store_alias_page *out, struct store *s, enum store_kind kind, const char *name,
                     struct err *e) {
    void *rows;
    int64_t name_id;
    *out = (struct store_alias_page){0};
    int r = page_room(&rows, sizeof *out->items, STORE_PAGE_MAX, STORE_PAGE_MAX, e);
    if (r) return r;
    out->items = rows;
    r = name_find_within(&name_id, s, kind, name, e);
    if (!r) r = alias_rows(out, s, name_id, e);
    if (r) store_alias_page_fini(out);
    return r;
}

void store_alias_page_fini(struct store_alias_page *page) {
    mem_free(page->items);
    *page = (struct store_alias_page){0};
}

/* ---- moving ---- */

static int check_expected(const struct store_alias *now, int64_t expected, struct err *e) {
    if (expected == STORE_REVISION_ANY) return 0;
    if (expected == STORE_REVISION_NEW)
        return now->number ? err_set(e, E_PRECONDITION, "the alias exists already and means version %lld",
                                     (long long)now->number)
                           : 0;
    if (now->revision == expected) return 0;
    if (!now->number) return err_set(e, E_PRECONDITION, "the alias does not exist any more");
    return err_set(e, E_PRECONDITION, "somebody moved the alias meanwhile: it means version %lld now",
                   (long long)now->number);
}

static int record_move(struct store *s, int64_t name_id, const char *alias, int64_t from, int64_t to, const char *who,
                       struct err *e) {
    char short_who[sizeof((struct store_move *)0)->who];
    text_copy(short_who, sizeof short_who, who ? who : "");
    int r = db_run(
        s->meta,
        "INSERT INTO alias_moves (name_id, alias, from_number, to_number, at, who) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        BIND(value_int(name_id), value_text(alias), value_int(from), value_int(to), value_int(store_now(s)),
             value_text(short_who)),
        e);
    return r ? r : name_touch_within(s, name_id, e);
}

static int limit_aliases(struct store *s, int64_t name_id, struct err *e) {
    int64_t n;
    int r = db_integer(&n, s->meta, "SELECT COUNT(*) FROM aliases WHERE name_id = ?1", BIND(value_int(name_id)), e);
    if (!r && n >= STORE_PAGE_MAX) r = err_set(e, E_TOO_LARGE, "a name has at most %d aliases", STORE_PAGE_MAX);
    return r;
}

struct target {
    const char *name, *alias, *who;
    enum store_kind kind;
    int64_t number, expected;
};

static int set_within(struct store_alias *out, struct store *s, const struct target *t, struct err *e) {
    struct store_reference ref = {.kind = STORE_REF_NUMBER, .number = t->number};
    struct store_version version;
    struct store_alias now;
    int64_t name_id;
    text_copy(ref.name, sizeof ref.name, t->name);
    int r = resolve_within(&version, s, t->kind, &ref, e);
    if (!r) r = name_find_within(&name_id, s, t->kind, t->name, e);
    if (!r) r = find_alias(&now, s, name_id, t->alias, e);
    if (!r) r = check_expected(&now, t->expected, e);
    *out = now;
    if (r || now.number == t->number) return r;
    if (!now.number) r = limit_aliases(s, name_id, e);
    if (!r) r = record_move(s, name_id, t->alias, now.number, t->number, t->who, e);
    if (!r)
        r = db_run(s->meta,
                   "INSERT INTO aliases (name_id, alias, version_id, revision, changed_at)"
                   " VALUES (?1, ?2, ?3, (SELECT MAX(id) FROM alias_moves WHERE name_id = ?1 AND alias = ?2), ?4)"
                   " ON CONFLICT (name_id, alias) DO UPDATE SET version_id = excluded.version_id,"
                   " revision = excluded.revision, changed_at = excluded.changed_at",
                   BIND(value_int(name_id), value_text(t->alias), value_int(version.id), value_int(store_now(s))), e);
    return r ? r : find_alias(out, s, name_id, t->alias, e);
}

int store_alias_set(struct store_alias *out, struct store *s, enum store_kind kind, const char *name, const char *alias,
                    int64_t number, int64_t expected, const char *who, struct err *e) {
    const struct target t = {
        .name = name, .alias = alias, .who = who, .kind = kind, .number = number, .expected = expected};
    *out = (struct store_alias){0};
    int r = store_name_check(name, e);
    if (!r) r = store_alias_check(alias, e);
    if (!r) r = db_begin(s->meta, DB_DURABLE, e);
    if (!r) r = db_end(s->meta, set_within(out, s, &t, e), e);
    if (r) *out = (struct store_alias){0};
    return r;
}

static int delete_within(struct store *s, const struct target *t, struct err *e) {
    struct store_alias now;
    int64_t name_id;
    int r = get_within(&now, s, t->kind, t->name, t->alias, e);
    if (!r) r = check_expected(&now, t->expected, e);
    if (!r) r = name_find_within(&name_id, s, t->kind, t->name, e);
    if (!r)
        r = db_run(s->meta, "DELETE FROM aliases WHERE name_id = ?1 AND alias = ?2",
                   BIND(value_int(name_id), value_text(t->alias)), e);
    return r ? r : record_move(s, name_id, t->alias, now.number, 0, t->who, e);
}

int store_alias_delete(struct store *s, enum store_kind kind, const char *name, const char *alias, int64_t expected,
                       const char *who, struct err *e) {
    const struct target t = {.name = name, .alias = alias, .who = who, .kind = kind, .expected = expected};
    int r = db_begin(s->meta, DB_DURABLE, e);
    return r ? r : db_end(s->meta, delete_within(s, &t, e), e);
}

/* ---- history ---- */

static int move_rows(struct store_move_page *out, struct store *s, int64_t name_id, const char *alias, int64_t after,
                     size_t limit, struct err *e) {
    struct statement *st;
    int64_t last = 0;
    int r = db_query(&st, s->meta,
                     "SELECT from_number, to_number, at, who, id FROM alias_moves"
                     " WHERE name_id = ?1 AND alias = ?2 AND id < ?3 ORDER BY id DESC LIMIT ?4",
                     BIND(value_int(name_id), value_text(alias), value_int(after > 0 ? after : INT64_MAX),
                          value_int((int64_t)limit + 1)),
                     e);
    while (!r && (r = statement_step(st, e)) == 1) {
        r = 0;
        if (out->n == limit) {
            out->next = last;
            break;
        }
        struct store_move *move = &out->items[out->n++];
        move->from = column_int(st, 0);
        move->to = column_int(st, 1);
        move->at = column_int(st, 2);
        column_word(move->who, sizeof move->who, st, 3);
        last = column_int(st, 4);
    }
    statement_reset(st);
    return r;
}

int store_alias_history(struct store_move_page *out, struct store *s, enum store_kind kind, const char *name,
                        const char *alias, int64_t after, int limit, struct err *e) {
    void *rows;
    int64_t name_id;
    *out = (struct store_move_page){0};
    int r = page_room(&rows, sizeof *out->items, limit, STORE_PAGE_MAX, e);
    if (r) return r;
    out->items = rows;
    r = name_find_within(&name_id, s, kind, name, e);
    if (!r) r = move_rows(out, s, name_id, alias, after, (size_t)limit, e);
    if (r) store_move_page_fini(out);
    return r;
}

void store_move_page_fini(struct store_move_page *page) {
    mem_free(page->items);
    *page = (struct store_move_page){0};
}

/* ---- tags ---- */

static int tags_within(struct store *s, enum store_kind kind, const char *name, const struct store_tags *tags,
                       struct err *e) {
    int64_t name_id;
    int r = name_find_within(&name_id, s, kind, name, e);
    if (!r) r = db_run(s->meta, "DELETE FROM tags WHERE name_id = ?1", BIND(value_int(name_id)), e);
    for (size_t i = 0; !r && i < tags->n; i++)
        r = db_run(s->meta, "INSERT INTO tags (name_id, tag) VALUES (?1, ?2) ON CONFLICT (name_id, tag) DO NOTHING",
                   BIND(value_int(name_id), value_text(tags->tag[i])), e);
    return r ? r : name_touch_within(s, name_id, e);
}

int store_tags_set(struct store *s, enum store_kind kind, const char *name, const struct store_tags *tags,
                   struct err *e) {
    int r = tags->n > STORE_TAGS_MAX ? err_set(e, E_INVALID, "a name has at most %d tags", STORE_TAGS_MAX) : 0;
    for (size_t i = 0; !r && i < tags->n; i++) r = store_name_check(tags->tag[i], e);
    if (!r) r = db_begin(s->meta, DB_DURABLE, e);
    return r ? r : db_end(s->meta, tags_within(s, kind, name, tags, e), e);
}

int store_tags_get(struct store_tags *out, struct store *s, enum store_kind kind, const char *name, struct err *e) {
    struct statement *st;
    int64_t name_id;
    *out = (struct store_tags){0};
    int r = name_find_within(&name_id, s, kind, name, e);
    if (r) return r;
    r = db_query(&st, s->meta, "SELECT tag FROM tags WHERE name_id = ?1 ORDER BY tag LIMIT ?2",
                 BIND(value_int(name_id), value_int(STORE_TAGS_MAX)), e);
    while (!r && (r = statement_step(st, e)) == 1) {
        column_word(out->tag[out->n++], sizeof out->tag[0], st, 0);
        r = 0;
    }
    return r;
}
