/* shapes.c - the shapes of replies. */
#include "handlers/shapes.h"

#include <string.h>

/* clang-format off */
#define TEXT(n, h)         {.name = n, .type = PARAM_TYPE_STRING, .required = true, .help = h}
#define MAYBE_TEXT(n, h)   {.name = n, .type = PARAM_TYPE_STRING, .help = h}
#define WHOLE(n, h)        {.name = n, .type = PARAM_TYPE_INT, .required = true, .help = h}
#define MAYBE_WHOLE(n, h)  {.name = n, .type = PARAM_TYPE_INT, .help = h}
#define MAYBE_REAL(n, h)   {.name = n, .type = PARAM_TYPE_REAL, .help = h}
#define REAL_(n, h)        {.name = n, .type = PARAM_TYPE_REAL, .required = true, .help = h}
#define TRUTH(n, h)        {.name = n, .type = PARAM_TYPE_BOOL, .required = true, .help = h}
#define OBJECT(n, f, h)    {.name = n, .type = PARAM_TYPE_OBJECT, .required = true, .fields = f, .help = h}
#define MAYBE_OBJECT(n, f, h) {.name = n, .type = PARAM_TYPE_OBJECT, .fields = f, .help = h}
#define LIST(n, f, h)      {.name = n, .type = PARAM_TYPE_LIST, .required = true, .fields = f, .help = h}
#define MAYBE_LIST(n, f, h) {.name = n, .type = PARAM_TYPE_LIST, .fields = f, .help = h}
#define ROWS(id, ...)      static const struct param id[] = {__VA_ARGS__, PARAM_END}
#define ITEM(id, f)        static const struct param id = {.name = "", .type = PARAM_TYPE_OBJECT, .fields = f}
/* clang-format on */

static const struct param a_text = {.name = "", .type = PARAM_TYPE_STRING};
static const struct param a_whole = {.name = "", .type = PARAM_TYPE_INT};

/* ---- problems (RFC 9457) ---- */

ROWS(fault, TEXT("pointer", "JSON pointer of the field"), TEXT("detail", "what is wrong with it"));
ITEM(a_fault, fault);
ROWS(problem, TEXT("type", "kind of problem, a relative URL"), TEXT("title", "the kind in words"),
     WHOLE("status", "HTTP status"), TEXT("detail", "what was found, what was expected, what to do"),
     TEXT("instance", "id of the request"), MAYBE_WHOLE("max_bytes", "the limit that was exceeded"),
     MAYBE_LIST("errors", &a_fault, "fields of the body at fault"));

/* ---- the catalog ---- */

ROWS(removed, WHOLE("removed", "number of versions"));
ROWS(tags, MAYBE_LIST("tags", &a_text, "words to list by"));
ROWS(alias, TEXT("alias", "its name"), WHOLE("version", "number of the version it means"), TEXT("changed_at", "time"));
ROWS(move, MAYBE_WHOLE("from", "version before, null at first"), MAYBE_WHOLE("to", "version after, null when removed"),
     TEXT("at", "time"), MAYBE_TEXT("who", "whose token it was"));
ITEM(a_move, move);
ROWS(alias_history, LIST("items", &a_move, "newest first"), MAYBE_TEXT("next", "cursor for ?after="));

/* ---- models ---- */

ROWS(port, TEXT("name", "name of the value"), TEXT("dtype", "element type"),
     MAYBE_LIST("shape", NULL,
                "numbers, \"N\" for the batch, other free dimensions by name; null where it depends on those"));
ITEM(a_port, port);

/* clang-format off */
#define VERSION_ROWS \
    TEXT("name", "name of the model"), WHOLE("version", "its number"), TEXT("digest", "sha256:<hex> of the bytes"), \
    WHOLE("bytes", "size of the ONNX file"), WHOLE("parameters", "numbers that it learned"), \
    MAYBE_WHOLE("macs", "multiply-adds for one sample, null while dimensions are free"), MAYBE_WHOLE("job", "that made it"), TEXT("created_at", "time")
/* clang-format on */

ROWS(short_version, VERSION_ROWS);
ITEM(a_short_version, short_version);
ROWS(training, TEXT("optimizer", "the rule"), WHOLE("steps", "it has taken"), REAL_("learning_rate", "of the last one"),
     WHOLE("bytes", "of its state in the store"));
ROWS(model, VERSION_ROWS, MAYBE_LIST("inputs", &a_port, "what it takes"),
     MAYBE_LIST("outputs", &a_port, "what it gives"), MAYBE_OBJECT("operators", NULL, "how many of each"),
     MAYBE_OBJECT("lineage", NULL, "teacher, data set, job"),
     MAYBE_OBJECT("metrics", NULL, "measured when it was made"),
     MAYBE_OBJECT("training", training, "what training left to go on from, null when nothing"),
     MAYBE_OBJECT("aliases", NULL, "alias: version; of the bare name"), MAYBE_LIST("tags", &a_text, "of the bare name"),
     MAYBE_LIST("versions", &a_short_version, "newest first; of the bare name"),
     MAYBE_WHOLE("version_count", "how many there are"), MAYBE_TEXT("changed_at", "time of the last change"));
ROWS(model_item, VERSION_ROWS, WHOLE("version_count", "how many there are"), OBJECT("aliases", NULL, "alias: version"),
     TEXT("changed_at", "time of the last change"));
ITEM(a_model_item, model_item);
ROWS(model_page, LIST("items", &a_model_item, "newest first"), MAYBE_TEXT("next", "cursor for ?after="));

ROWS(graph_node, TEXT("name", "its name"), TEXT("op", "ONNX operator"),
     LIST("inputs", NULL, "names of values, null where left out"),
     LIST("outputs", NULL, "names of values, null where left out"), LIST("shapes", &a_port, "what the outputs are"),
     OBJECT("attributes", NULL, "as in ONNX"));
ITEM(a_graph_node, graph_node);
ROWS(graph, TEXT("name", "name in the file"), WHOLE("opset", "version of the operators"),
     LIST("inputs", &a_port, "what it takes"), LIST("outputs", &a_port, "what it gives"),
     LIST("nodes", &a_graph_node, "in order"), LIST("constants", &a_port, "weights and other constants"));

/* ---- data sets ---- */

ROWS(array, TEXT("name", "its name"), TEXT("dtype", "element type"), LIST("shape", &a_whole, "first the samples"),
     WHOLE("bytes", "of the elements"), TEXT("digest", "sha256:<hex> of the elements"));
ITEM(an_array, array);
ROWS(set_version, WHOLE("version", "its number"), TEXT("digest", "of the list of arrays"),
     WHOLE("bytes", "of all arrays"), TEXT("created_at", "time"));
ITEM(a_set_version, set_version);
ROWS(dataset, TEXT("name", "name of the data set"), WHOLE("version", "its number"),
     TEXT("digest", "of the list of arrays"), WHOLE("bytes", "of all arrays"), LIST("arrays", &an_array, "by name"),
     TEXT("created_at", "time"), MAYBE_OBJECT("aliases", NULL, "alias: version; of the bare name"),
     MAYBE_LIST("versions", &a_set_version, "newest first; of the bare name"),
     MAYBE_WHOLE("version_count", "how many there are"), MAYBE_TEXT("changed_at", "time of the last change"));
ITEM(a_dataset, dataset);
ROWS(dataset_page, LIST("items", &a_dataset, "newest first"), MAYBE_TEXT("next", "cursor for ?after="));

/* ---- jobs ---- */

ROWS(method_shape, TEXT("name", "its name"), TEXT("help", "one line"),
     LIST("parameters", NULL, "name, type, range, default, help"),
     MAYBE_LIST("steps", NULL, "morph: of every kind of step op, help, takes, needs, modes, exact"));
ITEM(a_method, method_shape);
ROWS(methods, LIST("items", &a_method, "every method"));

ROWS(progress, WHOLE("step", "steps done"), WHOLE("steps", "steps in all, 0 = not known yet"),
     REAL_("fraction", "0 to 1"), MAYBE_REAL("eta_s", "seconds to go"));

/* clang-format off */
#define JOB_ROWS \
    WHOLE("id", "its number"), TEXT("method", "see /v1/methods"), \
    TEXT("state", "queued, running, succeeded, failed or cancelled"), TRUTH("cancel_requested", "it was asked to stop"), \
    MAYBE_OBJECT("spec", NULL, "as posted, every default filled in"), OBJECT("progress", progress, "how far it is"), \
    MAYBE_OBJECT("metrics", NULL, "the latest numbers"), MAYBE_OBJECT("error", NULL, "a problem, when it failed"), \
    WHOLE("attempt", "how often it was started"), WHOLE("max_attempts", "workers that may die of it"), \
    TEXT("created_at", "time"), MAYBE_TEXT("started_at", "time"), MAYBE_TEXT("finished_at", "time")
/* clang-format on */

ROWS(job, JOB_ROWS, MAYBE_OBJECT("result", NULL, "model, digest, metrics, teacher_metrics, report"));
ROWS(dry_network, MAYBE_TEXT("name", "of the teacher"), MAYBE_WHOLE("version", "its number"),
     WHOLE("parameters", "numbers that it learned"),
     MAYBE_WHOLE("macs", "multiply-adds for one sample, null while dimensions are free"));
ROWS(dry_run, TEXT("method", "see /v1/methods"), OBJECT("spec", NULL, "as posted, every default filled in"),
     MAYBE_OBJECT("teacher", dry_network, "what it starts from"),
     MAYBE_OBJECT("student", dry_network, "what it makes"));
ROWS(job_item, JOB_ROWS);
ITEM(a_job_item, job_item);
ROWS(job_page, LIST("items", &a_job_item, "newest first"), MAYBE_TEXT("next", "cursor for ?after="));
ROWS(job_metrics, OBJECT("series", NULL, "name: [[step, value], ...]"));

/* ---- the server ---- */

ROWS(status, TEXT("status", "ok or ready"));
ROWS(limits, WHOLE("json_bytes", "of a JSON body"), WHOLE("json_keys", "of one object"),
     WHOLE("upload_bytes", "of an upload"), WHOLE("network_bytes", "of an ONNX file"), WHOLE("uploads", "at a time"),
     WHOLE("connections", "at a time"), WHOLE("event_streams", "at a time"), WHOLE("page_items", "of a list"),
     WHOLE("name_characters", "of a name"), WHOLE("wait_seconds", "of ?wait="),
     WHOLE("idempotency_seconds", "for which a key is remembered"));
ROWS(version, TEXT("version", "of retort"), TEXT("commit", "it was built from"), TEXT("blas", "library"),
     TEXT("instruction_set", "that the kernels use"), TEXT("started_at", "time"),
     OBJECT("limits", limits, "of this server"));

const struct reply_shape reply_shapes[] = {
    {"alias", alias},       {"alias_history", alias_history},
    {"dataset", dataset},   {"dataset_page", dataset_page},
    {"graph", graph},       {"dry_run", dry_run},
    {"job", job},           {"job_metrics", job_metrics},
    {"job_page", job_page}, {"methods", methods},
    {"model", model},       {"model_page", model_page},
    {"problem", problem},   {"removed", removed},
    {"status", status},     {"tags", tags},
    {"version", version},   {NULL, NULL},
};

const struct reply_shape *reply_shape_find(const char *name) {
    for (const struct reply_shape *s = reply_shapes; s->name; s++)
        if (!strcmp(s->name, name)) return s;
    return NULL;
}
