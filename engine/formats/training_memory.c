/* training_memory.c - see training_memory.h. */
#include "engine/formats/training_memory.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "engine/formats/safetensors.h"
#include "engine/nn/optimizer.h"
#include "engine/nn/origin.h"

#define FORMAT "retort training 1"
#define COURSE_MAX 4096 /* bytes of its JSON */
#define MOST_STEPS ((uint64_t)1 << 53)

/* What may be kept: of a parameter all but FACTOR, of each factor of a merger that it came from all from ORIGIN on. */
enum { ORIGIN = VALUE_MEMORIES + 2, PLAN = ORIGIN + ORIGIN_PARTS, FACTOR, SLOTS };
static const char *const suffixes[SLOTS] = {"/0",
                                            "/1",
                                            "/share.0",
                                            "/share.1",
                                            "/origin",
                                            "/origin.0",
                                            "/origin.1",
                                            "/origin.share.0",
                                            "/origin.share.1",
                                            "/origin.map.0",
                                            "/origin.map.1",
                                            "/merger",
                                            ""};

/* "/factor.2" and so on stand between the parameter's name and the suffix, once for each merger on the way. */
#define STEP "/factor."
#define STEP_LENGTH (sizeof STEP)
#define NAME_SIZE (GRAPH_MAX_NAME + 16 + MERGER_DEEPEST * STEP_LENGTH)

/* One whose training is kept: a parameter, or a factor. */
struct holder {
    struct value *value;   /* NULL: a factor */
    struct array **factor; /* its numbers */
    struct origin **origin;
};

static struct holder of_value(struct value *v) {
    return (struct holder){v, &v->constant, &v->origin};
}

static struct holder of_factor(struct merger *m, int k) {
    return (struct holder){NULL, &m->factor[k], &m->origin[k]};
}

/* Where a holder has that; NULL when it cannot. An origin or a merger that is not there yet is made when `make` says so. */
static struct array **slot_of(const struct holder *h, int slot, bool make) {
    if (slot == FACTOR) return h->value ? NULL : h->factor;
    if (slot < ORIGIN) {
        if (!h->value) return NULL;
        return slot < VALUE_MEMORIES ? &h->value->memory[slot] : &h->value->share[slot - VALUE_MEMORIES];
    }
    if (!*h->origin && make) *h->origin = mem_calloc(1, sizeof **h->origin);
    struct origin *o = *h->origin;
    if (!o || slot < PLAN) return o ? &o->part[slot - ORIGIN] : NULL;
    if (!o->merger && make) o->merger = mem_calloc(1, sizeof *o->merger);
    return o->merger ? &o->merger->plan : NULL;
}

/* ---- out ---- */

struct listing {
    struct safetensors_tensor *tensors; /* NULL: only counts */
    char (*names)[NAME_SIZE];
    size_t n;
};

static void list_holder(struct listing *l, const char *name, const struct holder *h) {
    for (int s = 0; s < SLOTS; s++) {
        struct array **slot = slot_of(h, s, false);
        if (!slot || !*slot) continue;
        if (l->tensors) {
            text_print(l->names[l->n], NAME_SIZE, "%s%s", name, suffixes[s]);
            l->tensors[l->n] = (struct safetensors_tensor){l->names[l->n], *slot};
        }
        l->n++;
    }
    struct merger *m = *h->origin ? (*h->origin)->merger : NULL;
    for (int k = 0; m && k < MERGER_FACTORS; k++) {
        char longer[NAME_SIZE];
        struct holder factor = of_factor(m, k);
        text_print(longer, sizeof longer, "%s" STEP "%d", name, k);
        list_holder(l, longer, &factor);
    }
}

static void list_graph(struct listing *l, const struct graph *g) {
    l->n = 0;
    for (int i = 0; i < g->n_values; i++) {
        struct holder h = of_value(&g->values[i]);
        list_holder(l, g->values[i].name, &h);
    }
}

static int list_kept(struct listing *l, const struct graph *g, struct err *e) {
    list_graph(l, g);
    size_t room = l->n + 1;
    if (room > SAFETENSORS_MAX_TENSORS)
        return err_set(e, E_TOO_LARGE, "what the optimizer keeps are %zu tensors; a file has at most %d", room - 1,
                       SAFETENSORS_MAX_TENSORS);
    l->tensors = mem_calloc(room, sizeof *l->tensors);
    l->names = mem_calloc(room, sizeof *l->names);
    if (!l->tensors || !l->names) return err_memory(e, room * NAME_SIZE);
    list_graph(l, g);
    return 0;
}

int training_memory_write(struct byte_sink sink, const struct graph *g, struct err *e) {
    const struct graph_training *t = &g->training;
    if (t->rule < 0) return err_set(e, E_INVALID, "the network keeps nothing of a training");
    char steps[32], rate[32], peak[32], changed[32], warmup[32];
    struct text course;
    text_print(steps, sizeof steps, "%llu", (unsigned long long)t->steps);
    text_print(rate, sizeof rate, "%.17g", t->rate);
    text_print(peak, sizeof peak, "%.17g", t->peak);
    text_print(changed, sizeof changed, t->changed ? "%llu" : "no", (unsigned long long)t->since);
    text_print(warmup, sizeof warmup, "%lld", (long long)t->warmup);
    text_init(&course, COURSE_MAX);
    struct json_writer w = json_writer(&course);
    json_open_object(&w, NULL);
    param_write(&w, schedule_params, &t->course);
    json_close_object(&w);
    const struct safetensors_note notes[] = {{"format", FORMAT}, {"rule", optimizer_table[t->rule].name},
                                             {"steps", steps},   {"rate", rate},
                                             {"peak", peak},     {"changed", changed},
                                             {"warmup", warmup}, {"course", course.data}};
    struct listing l = {0};
    int status = course.failed ? err_memory(e, COURSE_MAX) : 0, n_notes = t->course.length < 1 ? 6 : 8;
    if (!status) status = list_kept(&l, g, e);
    if (!status) status = safetensors_write_notes(sink, notes, (size_t)n_notes, l.tensors, l.n, e);
    text_free(&course);
    mem_free(l.tensors);
    mem_free(l.names);
    return status;
}

/* ---- in ---- */

struct training_memory_reader {
    struct graph *g;
    struct safetensors_reader *file;
    struct graph_training training; /* rule -1: the notes have not been read */
    /* the tensor that is coming */
    struct array *array;
    struct holder holder;
    int slot;
    size_t filled; /* bytes */
};

static int bad_note(const char *key, const char *text, struct err *e) {
    return err_set(e, E_INVALID, "\"%s\" in __metadata__ is %s%.40s%s", key, text ? "\"" : "missing", text ? text : "",
                   text ? "\"" : "");
}

static bool find_rule(int *out, const char *name) {
    for (*out = 0; name && optimizer_table[*out].name; ++*out)
        if (!strcmp(optimizer_table[*out].name, name)) return true;
    return false;
}

static bool read_steps(uint64_t *out, const char *text) {
    char *end = NULL;
    if (!text || *text < '0' || *text > '9') return false;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return !*end && !errno && *out <= MOST_STEPS;
}

static bool read_rate(double *out, const char *text) {
    char *end = NULL;
    if (!text || *text < '0' || *text > '9') return false;
    *out = strtod(text, &end);
    return !*end && isfinite(*out);
}

/* Only those who trained in several runs have one. */
static int read_course(struct training_memory_reader *r, struct err *e) {
    struct graph_training *t = &r->training;
    const char *text = safetensors_reader_note(r->file, "course"), *warmup = safetensors_reader_note(r->file, "warmup");
    struct json *course = NULL;
    struct err why = {0};
    uint64_t steps = 0;
    int status = text ? json_parse(&course, text, strlen(text), &why) : 0;
    if (!status) status = param_parse(&t->course, schedule_params, course, "", &why);
    if (!status) status = schedule_check(&t->course, 0, &why);
    json_free(course);
    if (status == E_NOMEM) return err_set(e, status, "%s", why.text);
    if (status) return bad_note("course", text, e);
    if (text && !read_steps(&steps, warmup)) return bad_note("warmup", warmup, e);
    t->warmup = (int64_t)steps;
    return 0;
}

static int read_notes(struct training_memory_reader *r, struct err *e) {
    struct graph_training t = {.rule = -1};
    const char *keys[] = {"format", "rule", "steps", "rate", "peak", "changed"}, *texts[6];
    for (int i = 0; i < 6; i++) texts[i] = safetensors_reader_note(r->file, keys[i]);
    if (!texts[0] || strcmp(texts[0], FORMAT) != 0) return bad_note(keys[0], texts[0], e);
    if (!find_rule(&t.rule, texts[1])) return bad_note(keys[1], texts[1], e);
    if (!read_steps(&t.steps, texts[2])) return bad_note(keys[2], texts[2], e);
    if (!read_rate(&t.rate, texts[3])) return bad_note(keys[3], texts[3], e);
    if (!read_rate(&t.peak, texts[4])) return bad_note(keys[4], texts[4], e);
    t.changed = !texts[5] || strcmp(texts[5], "no") != 0;
    if (t.changed && (!read_steps(&t.since, texts[5]) || t.since > t.steps)) return bad_note(keys[5], texts[5], e);
    r->training = t;
    return read_course(r, e);
}

static int find_slot(const char *suffix) {
    for (int s = 0; s < SLOTS; s++)
        if (strcmp(suffix, suffixes[s]) == 0) return s;
    return -1;
}

static bool is_step(const char *text) {
    int k = strncmp(text, STEP, STEP_LENGTH - 1) == 0 ? text[STEP_LENGTH - 1] - '0' : -1;
    return k >= 0 && k < MERGER_FACTORS;
}

/* Where a value has what `rest` of a tensor's name says, steps and a suffix; *out is NULL when it says nothing. Mergers
 * on the way are made. */
static int find_in(struct array ***out, struct training_memory_reader *r, struct value *v, const char *rest,
                   struct err *e) {
    r->holder = of_value(v);
    for (int depth = 0; depth < MERGER_DEEPEST && is_step(rest); depth++, rest += STEP_LENGTH) {
        if (!slot_of(&r->holder, PLAN, true)) return err_memory(e, sizeof(struct merger));
        r->holder = of_factor((*r->holder.origin)->merger, rest[STEP_LENGTH - 1] - '0');
    }
    r->slot = find_slot(rest);
    bool here = r->slot >= 0 && (r->holder.value ? r->slot != FACTOR : r->slot >= ORIGIN);
    *out = here ? slot_of(&r->holder, r->slot, true) : NULL;
    return here && !*out ? err_memory(e, sizeof(struct origin)) : 0;
}

/* Of a tensor's name the parameter's: what is left of it without a suffix, and without steps where there is no parameter
 * of such a name. */
static int find_place(struct array ***out, struct training_memory_reader *r, const char *name, struct err *e) {
    char value[NAME_SIZE];
    size_t length = strlen(name), longest = 0;
    for (int s = 0; s < SLOTS; s++) {
        size_t tail = strlen(suffixes[s]);
        if (length > tail && strcmp(name + length - tail, suffixes[s]) == 0 && tail > longest) longest = tail;
    }
    *out = NULL;
    if (length >= NAME_SIZE) return 0;
    for (length -= longest;; length -= STEP_LENGTH) {
        text_print(value, sizeof value, "%.*s", (int)length, name);
        int index = graph_find_value(r->g, value), status = 0;
        struct value *v = index == VALUE_NONE ? NULL : &r->g->values[index];
        if (v && v->constant && !v->literal && dtype_is_real(v->constant->type))
            status = find_in(out, r, v, name + length, e);
        if (status || *out || length <= STEP_LENGTH || !is_step(name + length - STEP_LENGTH)) return status;
    }
}

/* Which copy a slot is for, negative when it is for something else. */
static int copy_of(int slot) {
    int copy = slot < ORIGIN ? slot : slot - ORIGIN - ORIGIN_MEMORY;
    return copy < VALUE_MEMORIES ? copy : -1;
}

static bool is_share(int slot) {
    int d = slot < ORIGIN ? slot - VALUE_MEMORIES : slot - ORIGIN - ORIGIN_SHARE;
    return d == 0 || d == 1;
}

/* Whether the parts of an origin fit together is seen when all are there; what takes memory before must be bounded. */
static int check_size(const struct training_memory_reader *r, const struct shape *found, struct err *e) {
    bool like_value = r->holder.value && r->slot < ORIGIN + ORIGIN_MAP;
    size_t most = like_value ? r->holder.value->constant->count : ORIGIN_MAP_MOST;
    double n = found->rank < 1 || found->rank > 4 ? NAN : 1;
    for (int d = 0; d < found->rank; d++) n *= (double)found->dim[d];
    return n >= 1 && n <= (double)most ? 0 : err_set(e, E_INVALID, "it has not from 1 to %zu elements", most);
}

static int check_shape(const struct training_memory_reader *r, const struct shape *found, struct err *e) {
    if (r->slot >= ORIGIN) return check_size(r, found, e);
    struct shape wanted = r->holder.value->constant->shape;
    if (r->slot >= VALUE_MEMORIES) {
        int d = r->slot - VALUE_MEMORIES;
        wanted = (struct shape){.rank = 1, .dim = {wanted.rank > d ? wanted.dim[d] : 1}};
    }
    if (shape_equal(found, &wanted)) return 0;
    char texts[2][SHAPE_TEXT];
    shape_print(texts[0], sizeof texts[0], found);
    shape_print(texts[1], sizeof texts[1], &wanted);
    return err_set(e, E_INVALID, "its shape is %s; of this parameter it must be %s", texts[0], texts[1]);
}

static int begin_array(void *context, const char *name, enum dtype type, const struct shape *shape, struct err *e) {
    struct training_memory_reader *r = context;
    struct array **place = NULL;
    int status = r->training.rule < 0 ? read_notes(r, e) : 0;
    if (!status) status = find_place(&place, r, name, e);
    if (status) return status;
    if (!place) return err_set(e, E_INVALID, "the network has no such parameter");
    if (*place) return err_set(e, E_INVALID, "it is there twice");
    const struct optimizer_rule *rule = &optimizer_table[r->training.rule];
    if (copy_of(r->slot) >= rule->copies)
        return err_set(e, E_INVALID, "%s keeps %d of each parameter", rule->name, rule->copies);
    if (type != DT_FLOAT32 && (type != DT_FLOAT64 || is_share(r->slot)))
        return err_set(e, E_INVALID, "its elements are %s", dtype_name(type));
    status = check_shape(r, shape, e);
    r->filled = 0;
    return status ? status : array_new(&r->array, type, shape, e);
}

static int take_bytes(void *context, const void *bytes, size_t size, struct err *e) {
    struct training_memory_reader *r = context;
    (void)e;
    memcpy((char *)r->array->data + r->filled, bytes, size);
    r->filled += size;
    return 0;
}

static int end_array(void *context, struct err *e) {
    struct training_memory_reader *r = context;
    const struct array *a = r->array;
    bool share = is_share(r->slot);
    int copy = copy_of(r->slot);
    bool squares = copy >= 0 && optimizer_table[r->training.rule].powers[copy] == 2;
    for (size_t i = 0; i < a->count; i++) {
        double x;
        array_to_double(&x, a, i, 1);
        if (!isfinite(x) || (share && x == 0) || (squares && x < 0))
            return err_set(e, E_INVALID, "element %zu is %g, which no training leaves behind", i, x);
    }
    *slot_of(&r->holder, r->slot, true) = r->array;
    r->array = NULL;
    return 0;
}

int training_memory_reader_new(struct training_memory_reader **out, struct graph *g, struct err *e) {
    struct training_memory_reader *r = mem_calloc(1, sizeof *r);
    if (!r) return err_memory(e, sizeof *r);
    const struct array_sink sink = {begin_array, take_bytes, end_array, r};
    r->g = g;
    r->training.rule = -1;
    graph_forget_training(g);
    int status = safetensors_reader_new(&r->file, sink, UINT64_MAX, e);
    if (status)
        training_memory_reader_free(r);
    else
        *out = r;
    return status;
}

void training_memory_reader_free(struct training_memory_reader *r) {
    if (!r) return;
    if (r->g->training.rule < 0) graph_forget_training(r->g);
    array_free(r->array);
    safetensors_reader_free(r->file);
    mem_free(r);
}

int training_memory_reader_feed(struct training_memory_reader *r, const void *bytes, size_t size, struct err *e) {
    return safetensors_reader_feed(r->file, bytes, size, e);
}

int training_memory_reader_finish(struct training_memory_reader *r, struct err *e) {
    int status = safetensors_reader_finish(r->file, e);
    if (!status && r->training.rule < 0) status = read_notes(r, e);
    for (int v = 0; v < r->g->n_values && !status; v++) {
        struct value *value = &r->g->values[v];
        if (value->origin) status = origin_check(value->origin, &value->constant->shape, value->name, e);
    }
    if (!status) r->g->training = r->training;
    return status;
}
