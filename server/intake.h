/* intake.h - the engine behind struct intake (server/http.h): networks and arrays that come from
 * outside, looked at before they are kept. */
#ifndef SERVER_INTAKE_H
#define SERVER_INTAKE_H

#include "server/http.h"

extern const struct intake engine_intake;

/* Its parts: what a network is (intake_network.c), and its weights (intake_weights.c). */
int intake_network(struct network_facts *out, const struct byte_origin *from, struct err *e);
int intake_graph(struct text *out, const struct byte_origin *from, struct err *e);
int intake_weights(const struct byte_taker *to, const struct byte_origin *from, struct err *e);
int intake_weights_open(struct weights_taker **out, const struct byte_origin *from, struct err *e);
int intake_weights_feed(struct weights_taker *w, const void *bytes, size_t size, struct err *e);
int intake_weights_finish(bool *changed, struct weights_taker *w, const struct byte_taker *to, struct err *e);
void intake_weights_close(struct weights_taker *w);

#endif
