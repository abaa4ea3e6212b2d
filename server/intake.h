/* intake.h - the engine behind struct intake (server/http.h): networks and arrays that come from
 * outside, looked at before they are kept. */
#ifndef SERVER_INTAKE_H
#define SERVER_INTAKE_H

#include "server/http.h"

extern const struct intake engine_intake;

/* The two halves. */
int intake_network(struct network_facts *out, const struct byte_origin *from, struct err *e);
int intake_graph(struct text *out, const struct byte_origin *from, struct err *e);

#endif
