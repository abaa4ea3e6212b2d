/* models.c - see models.h. */
#include "store/models.h"

#include "base/memory.h"
#include "store/internal.h"

static int check_texts(const struct store_model_new *m, struct err *e) {
    int r = text_limit(m->operators, STORE_JSON_MAX, "operators", e);
    if (!r) r = text_limit(m->inputs, STORE_JSON_MAX, "inputs", e);
    if (!r) r = text_limit(m->outputs, STORE_JSON_MAX, "outputs", e);
    if (!r) r = text_limit(m->lineage, STORE_JSON_MAX, "lineage", e);
    if (!r) r = text_limit(m->training, STORE_JSON_MAX, "training", e);
    return r ? r : text_limit(m->metrics, STORE_JSON_MAX, "metrics", e);
}

/* Of a version, which may have one already when it existed. */
static int memory_put_within(struct store *s, int64_t version, bool existed, const struct store_model_new *m,
                             struct err *e) {
    struct store_blob blob;
    int64_t name_id;
    if (!m->memory.id) return 0;
    int r = blob_check(&blob, s, m->memory.id, e);
    if (!r)
        r = db_run(s->meta,
                   "INSERT INTO model_memories (version_id, blob, about) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
                   BIND(value_int(version), value_int(blob.id), value_text(m->training)), e);
    if (r || !existed || !db_changes(s->meta)) return r;
    r = name_find_within(&name_id, s, STORE_MODEL, m->name, e);
    return r ? r : name_touch_within(s, name_id, e);
}

int model_put_within(struct store_version *out, bool *existed, struct store *s, const struct store_model_new *m,
                     struct err *e) {
    struct store_blob blob;
    int r = check_texts(m, e);
    if (!r) r = blob_check(&blob, s, m->blob.id, e);
    if (r) return r;
    struct store_version v = {.kind = STORE_MODEL, .digest = blob.digest, .bytes = blob.size, .job = m->job};
    r = store_name_check(m->name, e); /* so it fits */
    if (r) return r;
    memcpy(v.name, m->name, strlen(m->name) + 1);
    r = version_put_within(out, existed, s, &v, e);
    if (r || *existed) return r ? r : memory_put_within(s, out->id, true, m, e);
    r = db_run(
        s->meta,
        "INSERT INTO model_versions (version_id, blob, parameters, macs, operators, inputs, outputs, lineage, metrics)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        BIND(value_int(out->id), value_int(blob.id), value_int(m->parameters), value_int(m->macs),
             value_text(m->operators), value_text(m->inputs), value_text(m->outputs), value_text(m->lineage),
             value_text(m->metrics)),
        e);
    return r ? r : memory_put_within(s, out->id, false, m, e);
}

int store_model_put(struct store_version *out, bool *existed, struct store *s, const struct store_model_new *m,
                    struct err *e) {
    bool was_there = false;
    *out = (struct store_version){0};
    int r = db_begin(s->meta, DB_DURABLE, e);
    if (!r) r = db_end(s->meta, model_put_within(out, &was_there, s, m, e), e);
    if (r) *out = (struct store_version){0};
    if (existed) *existed = !r && was_there;
    return r;
}

static int row_model(struct store_model *out, struct statement *st, struct err *e) {
    char **const texts[] = {&out->operators, &out->inputs, &out->outputs, &out->lineage, &out->metrics};
    row_version(&out->version, st, 0);
    int column = VERSION_COLUMN_COUNT;
    out->blob = column_int(st, column++);
    out->parameters = column_int(st, column++);
    out->macs = column_int(st, column++);
    int r = 0;
    for (size_t i = 0; !r && i < sizeof texts / sizeof *texts; i++) r = column_string(texts[i], st, column++, e);
    out->memory = column_int(st, column++);
    return r ? r : column_string(&out->training, st, column++, e);
}

int store_model_read(struct store_model *out, struct store *s, int64_t version, struct err *e) {
    struct statement *st;
    *out = (struct store_model){0};
    int r = db_query(
        &st, s->meta,
        "SELECT " VERSION_COLUMNS
        ", m.blob, m.parameters, m.macs, m.operators, m.inputs, m.outputs, m.lineage, m.metrics, t.blob, t.about"
        " FROM model_versions m JOIN versions v ON v.id = m.version_id JOIN names n ON n.id = v.name_id"
        " LEFT JOIN model_memories t ON t.version_id = v.id"
        " WHERE v.id = ?1",
        BIND(value_int(version)), e);
    if (!r) r = statement_step(st, e);
    if (r == 0) return err_set(e, E_NOT_FOUND, "model version with id %lld is not there", (long long)version);
    if (r < 0) return r;
    r = row_model(out, st, e);
    statement_reset(st);
    if (r) store_model_fini(out);
    return r;
}

static int get_within(struct store_model *out, struct store *s, const struct store_reference *ref, struct err *e) {
    struct store_version version;
    int r = resolve_within(&version, s, STORE_MODEL, ref, e);
    return r ? r : store_model_read(out, s, version.id, e);
}

int store_model_get(struct store_model *out, struct store *s, const char *reference, struct err *e) {
    struct store_reference ref;
    *out = (struct store_model){0};
    int r = store_reference_parse(&ref, reference, e);
    if (!r) r = db_begin(s->meta, DB_READ, e);
    if (r) return r;
    r = db_end(s->meta, get_within(out, s, &ref, e), e);
    if (r) store_model_fini(out);
    return r;
}

void store_model_fini(struct store_model *m) {
    mem_free(m->operators);
    mem_free(m->inputs);
    mem_free(m->outputs);
    mem_free(m->lineage);
    mem_free(m->metrics);
    mem_free(m->training);
    *m = (struct store_model){0};
}
