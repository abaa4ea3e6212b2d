/* safetensors_types.h - what reader and writer of safetensors share: the format's names for element types. */
#ifndef ENGINE_FORMATS_SAFETENSORS_TYPES_H
#define ENGINE_FORMATS_SAFETENSORS_TYPES_H

#include <stdbool.h>

#include "engine/nn/array.h"

#define SAFETENSORS_METADATA "__metadata__" /* the entry that is no tensor */

const char *safetensors_type_name(enum dtype type);
/* false when it is none of ours. */
bool safetensors_type_from_name(enum dtype *out, const char *name);

#endif
