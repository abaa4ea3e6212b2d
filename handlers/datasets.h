/* datasets.h - what the two halves of the data sets' resource share. */
#ifndef HANDLERS_DATASETS_H
#define HANDLERS_DATASETS_H

#include "base/json.h"
#include "store/datasets.h"

/* The members of one version, into the object that is open in w. */
void put_dataset_version(struct json_writer *w, const struct store_dataset *d);

#endif
