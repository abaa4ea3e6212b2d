/* stores.h - one open store per thread that asks for one: a struct store must not be shared. */
#ifndef SERVER_STORES_H
#define SERVER_STORES_H

#include "base/error.h"

struct store;

/* Names the data folder, once, before any thread asks; the text is kept, not copied. */
void stores_folder(const char *folder);

/* This thread's store, opened at the first call and closed when the thread ends. NULL when it cannot
 * be opened (the log says why); the next call tries again. */
struct store *stores_mine(void);

/* Closes this thread's store now: for the main thread, and before a test looks at the folder. */
void stores_close_mine(void);

#endif
