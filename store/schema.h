/* schema.h - the tables of both files, as numbered migrations. Private to store/. */
#ifndef STORE_SCHEMA_H
#define STORE_SCHEMA_H

/* Forward only: a migration that was released is never changed, a change is a new one at the end. */
extern const char *const schema_meta[];
extern const int schema_meta_count;
extern const char *const schema_blobs[];
extern const int schema_blobs_count;

/* What must be set before the first table, and on every connection. */
extern const char schema_meta_pragmas[];
extern const char schema_blobs_pragmas[];

#endif
