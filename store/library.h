/* library.h - SQLite's settings for the whole process. Private to store/. */
#ifndef STORE_LIBRARY_H
#define STORE_LIBRARY_H

#include "base/error.h"

/* Starts the library once per process, with its memory coming from base/memory.h. */
int library_start(struct err *e);

#endif
