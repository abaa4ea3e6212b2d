/* report.h - what a run leaves besides the student: numbers as JSON. */
#ifndef ENGINE_TRANSFER_REPORT_H
#define ENGINE_TRANSFER_REPORT_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/json.h"
#include "engine/nn/train.h"
#include "engine/transfer/method.h"
#include "engine/transfer/network.h"

#define REPORT_MAX (1 << 20)

/* A member that is left out when the value is not known (NaN). */
void report_number(struct json_writer *w, const char *name, double value);

/* Members accuracy, loss, agreement, kl as far as they are known. */
void report_score(struct json_writer *w, const struct score *score);

/* An object: model (reference, may be NULL), parameters, macs, bytes (0 = not known yet), and the score. */
void report_network(struct json_writer *w, const char *name, const char *reference, const struct graph_size *size,
                    uint64_t bytes, const struct score *score);

/* An object "training": steps, epochs, the loss and its terms, each with its mean over the last epoch. */
void report_training(struct json_writer *w, const struct train_result *result, const struct loss_plan *plan);

/* {"accuracy":...,"parameters":...,"macs":...} for outcome.metrics; result may be NULL. */
void report_metrics(struct text *out, const struct graph_size *size, const struct score *score,
                    const struct train_result *result);

/* E_NOMEM or E_TOO_LARGE when one of the outcome's texts could not be written. */
int report_check(const struct outcome *o, struct err *e);

/* The hooks of a training run, all from the host. */
struct train_hooks report_hooks(const struct host *host);

/* A line for the reader of the job. */
void report_log(const struct host *host, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Writes a name for the result into `output` (room bytes) when it is empty: the name of the reference,
 * without its version, and an ending like "-student". */
void report_output(char *output, size_t room, const char *reference, const char *ending);

#endif
