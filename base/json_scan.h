/* json_scan.h - the strict reading of JSON text that goes before cJSON. Private to base. */
#ifndef BASE_JSON_SCAN_H
#define BASE_JSON_SCAN_H

#include <stddef.h>

#include "base/error.h"

/* Digits and signs of one number; cJSON would read the first 63 and stumble over the rest. */
#define JSON_MAX_NUMBER 63

/* 0 when bytes[0..length) is one document by RFC 8259: syntax, UTF-8, no \u0000, paired
 * surrogates, finite numbers of at most JSON_MAX_NUMBER characters, depth within JSON_MAX_DEPTH,
 * members per object within max_keys. Else E_SYNTAX with line and column. Allocates nothing. */
int json_scan(const char *bytes, size_t length, size_t max_keys, struct err *e);

#endif
