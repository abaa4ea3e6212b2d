/* report.c - numbers as JSON, and the outcome of a run. */
#include "engine/transfer/report.h"

#include <math.h>
#include <string.h>

void report_number(struct json_writer *w, const char *name, double value) {
    if (isfinite(value)) json_put_number(w, name, value);
}

void report_score(struct json_writer *w, const struct score *score) {
    report_number(w, "accuracy", score->accuracy);
    report_number(w, "loss", score->loss);
    report_number(w, "agreement", score->agreement);
    report_number(w, "kl", score->kl);
}

void report_network(struct json_writer *w, const char *name, const char *reference, const struct graph_size *size,
                    uint64_t bytes, const struct score *score) {
    json_open_object(w, name);
    if (reference) json_put_string(w, "model", reference);
    json_put_int(w, "parameters", size->parameters);
    json_put_int(w, "macs", size->macs);
    if (bytes) json_put_int(w, "bytes", (int64_t)bytes);
    report_score(w, score);
    json_close_object(w);
}

void report_training(struct json_writer *w, const struct train_result *result, const struct loss_plan *plan) {
    json_open_object(w, "training");
    json_put_int(w, "steps", result->steps);
    json_put_int(w, "epochs", result->epochs);
    json_put_int(w, "kept_epoch", result->best_epoch);
    json_put_number(w, "loss", result->loss);
    json_open_array(w, "terms");
    for (int i = 0; i < plan->n_terms; i++) {
        const struct loss_term *t = &plan->terms[i];
        json_open_object(w, NULL);
        json_put_string(w, "kind", t->loss->name);
        json_put_string(w, "formula", t->loss->help);
        json_put_number(w, "weight", t->weight);
        if (t->loss->tempered) json_put_number(w, "temperature", t->temperature);
        json_put_number(w, "value", result->terms[i]);
        json_close_object(w);
    }
    json_close_array(w);
    json_close_object(w);
}

void report_metrics(struct text *out, const struct graph_size *size, const struct score *score,
                    const struct train_result *result) {
    text_init(out, REPORT_MAX);
    struct json_writer w = json_writer(out);
    json_open_object(&w, NULL);
    report_score(&w, score);
    if (result) json_put_number(&w, "train_loss", result->loss);
    json_put_int(&w, "parameters", size->parameters);
    json_put_int(&w, "macs", size->macs);
    json_close_object(&w);
}

int report_check(const struct outcome *o, struct err *e) {
    const struct text *texts[] = {&o->metrics, &o->teacher_metrics, &o->report};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (texts[i]->failed) return err_set(e, texts[i]->failed, "the report of the run could not be written");
    return 0;
}

void report_log(const struct host *host, const char *format, ...) {
    struct text line;
    text_init(&line, 4096);
    va_list args;
    va_start(args, format);
    if (text_vformat(&line, format, args) == 0) host->log(host->context, line.data);
    va_end(args);
    text_free(&line);
}

struct train_hooks report_hooks(const struct host *host) {
    return (struct train_hooks){
        .context = host->context,
        .progress = host->progress,
        .metric = host->metric,
        .log = host->log,
        .checkpoint_due = host->checkpoint_due,
        .checkpoint_save = host->checkpoint_save,
        .checkpoint_find = host->checkpoint_find,
    };
}

void report_output(char *output, size_t room, const char *reference, const char *ending) {
    if (output[0]) return;
    size_t n = strcspn(reference, "@"), most = room - strlen(ending) - 1;
    if (n > most) n = most;
    while (n > 0 && strchr("-.", reference[n - 1])) n--; /* names do not end so, nor hold "--" */
    text_print(output, room, "%.*s%s", (int)n, reference, ending);
}
