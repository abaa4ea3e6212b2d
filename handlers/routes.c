/* routes.c - the route table. */
#include "handlers/dispatch.h"

#define ROUTE(name) extern const struct route name;
#include "handlers/routes.def"
#undef ROUTE

const struct route *const route_table[] = {
#define ROUTE(name) &name,
#include "handlers/routes.def"
#undef ROUTE
    NULL,
};
