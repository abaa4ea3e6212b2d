/* schema.c - see schema.h. Booleans and enums are integers, times milliseconds, digests 32 bytes,
 * JSON text. Rows of names are never deleted: they remember which numbers were used. */
#include "store/schema.h"

const char schema_meta_pragmas[] = "PRAGMA page_size=8192;"
                                   "PRAGMA cell_size_check=ON;"
                                   "PRAGMA foreign_keys=ON;";

/* Autocheckpoint counts pages: 256 of 64 KiB keep the log near 16 MiB. Deleted bytes are not
 * overwritten with zeros: that would cost more than deleting them. */
const char schema_blobs_pragmas[] = "PRAGMA page_size=65536;"
                                    "PRAGMA auto_vacuum=INCREMENTAL;"
                                    "PRAGMA cell_size_check=ON;"
                                    "PRAGMA secure_delete=OFF;"
                                    "PRAGMA wal_autocheckpoint=256;";

static const char meta_1[] = "CREATE TABLE names ("
                             "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
                             "  kind INTEGER NOT NULL,"
                             "  name TEXT NOT NULL,"
                             "  next_number BIGINT NOT NULL DEFAULT 1,"
                             "  latest BIGINT NOT NULL DEFAULT 0," /* version id; 0 = everything was deleted */
                             "  versions BIGINT NOT NULL DEFAULT 0,"
                             "  revision BIGINT NOT NULL DEFAULT 0,"
                             "  created_at BIGINT NOT NULL,"
                             "  changed_at BIGINT NOT NULL,"
                             "  UNIQUE (kind, name));"
                             "CREATE INDEX names_latest ON names (kind, latest);"

                             "CREATE TABLE versions ("
                             "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
                             "  name_id BIGINT NOT NULL REFERENCES names (id),"
                             "  number BIGINT NOT NULL,"
                             "  digest BLOB NOT NULL,"
                             "  bytes BIGINT NOT NULL,"
                             "  job BIGINT NOT NULL,"
                             "  created_at BIGINT NOT NULL,"
                             "  UNIQUE (name_id, number));"
                             "CREATE INDEX versions_digest ON versions (name_id, digest);"

                             "CREATE TABLE model_versions ("
                             "  version_id BIGINT NOT NULL PRIMARY KEY REFERENCES versions (id),"
                             "  blob BIGINT NOT NULL,"
                             "  parameters BIGINT NOT NULL,"
                             "  macs BIGINT NOT NULL,"
                             "  operators TEXT, inputs TEXT, outputs TEXT, lineage TEXT, metrics TEXT);"
                             "CREATE INDEX model_versions_blob ON model_versions (blob);"

                             "CREATE TABLE dataset_arrays ("
                             "  version_id BIGINT NOT NULL REFERENCES versions (id),"
                             "  name TEXT NOT NULL,"
                             "  dtype TEXT NOT NULL,"
                             "  shape TEXT NOT NULL," /* "60000,28,28" */
                             "  bytes BIGINT NOT NULL,"
                             "  digest BLOB NOT NULL,"
                             "  blob BIGINT NOT NULL,"
                             "  blob_offset BIGINT NOT NULL,"
                             "  PRIMARY KEY (version_id, name));"
                             "CREATE INDEX dataset_arrays_blob ON dataset_arrays (blob);"

                             "CREATE TABLE aliases ("
                             "  name_id BIGINT NOT NULL REFERENCES names (id),"
                             "  alias TEXT NOT NULL,"
                             "  version_id BIGINT NOT NULL REFERENCES versions (id),"
                             "  revision BIGINT NOT NULL," /* id of the move that put it here */
                             "  changed_at BIGINT NOT NULL,"
                             "  PRIMARY KEY (name_id, alias));"
                             "CREATE INDEX aliases_version ON aliases (version_id);"
                             "CREATE TABLE alias_moves ("
                             "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
                             "  name_id BIGINT NOT NULL REFERENCES names (id),"
                             "  alias TEXT NOT NULL,"
                             "  from_number BIGINT NOT NULL,"
                             "  to_number BIGINT NOT NULL,"
                             "  at BIGINT NOT NULL,"
                             "  who TEXT NOT NULL);"
                             "CREATE INDEX alias_moves_alias ON alias_moves (name_id, alias, id);"
                             "CREATE TABLE tags ("
                             "  name_id BIGINT NOT NULL REFERENCES names (id),"
                             "  tag TEXT NOT NULL,"
                             "  PRIMARY KEY (name_id, tag));"

                             "CREATE TABLE jobs ("
                             "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
                             "  method TEXT NOT NULL,"
                             "  state INTEGER NOT NULL," /* enum store_job_state */
                             "  cancel_requested INTEGER NOT NULL DEFAULT 0,"
                             "  step BIGINT NOT NULL DEFAULT 0,"
                             "  steps BIGINT NOT NULL DEFAULT 0,"
                             "  eta_s DOUBLE PRECISION,"
                             "  spec TEXT NOT NULL,"
                             "  metrics TEXT, result TEXT, error TEXT, trace TEXT,"
                             "  output_name TEXT, output_number BIGINT, output_digest BLOB,"
                             "  attempt INTEGER NOT NULL DEFAULT 0,"
                             "  max_attempts INTEGER NOT NULL,"
                             "  created_at BIGINT NOT NULL,"
                             "  started_at BIGINT NOT NULL DEFAULT 0,"
                             "  finished_at BIGINT NOT NULL DEFAULT 0,"
                             "  lease_owner TEXT,"
                             "  lease_expires BIGINT NOT NULL DEFAULT 0,"
                             "  heartbeat_at BIGINT NOT NULL DEFAULT 0,"
                             "  fencing_token BIGINT NOT NULL DEFAULT 0,"
                             "  revision BIGINT NOT NULL DEFAULT 1);"
                             "CREATE INDEX jobs_state ON jobs (state, id);"
                             "CREATE INDEX jobs_method ON jobs (method, id);"
                             "CREATE TABLE job_inputs (" /* no foreign key to versions: an ended job outlives them */
                             "  job_id BIGINT NOT NULL REFERENCES jobs (id),"
                             "  position INTEGER NOT NULL,"
                             "  version_id BIGINT NOT NULL,"
                             "  PRIMARY KEY (job_id, position));"
                             "CREATE INDEX job_inputs_version ON job_inputs (version_id);"
                             "CREATE TABLE checkpoints ("
                             "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
                             "  job_id BIGINT NOT NULL REFERENCES jobs (id),"
                             "  step BIGINT NOT NULL,"
                             "  blob BIGINT NOT NULL,"
                             "  created_at BIGINT NOT NULL);"
                             "CREATE INDEX checkpoints_job ON checkpoints (job_id, id);"
                             "CREATE INDEX checkpoints_blob ON checkpoints (blob);"
                             "CREATE TABLE idempotency ("
                             "  principal TEXT NOT NULL,"
                             "  key TEXT NOT NULL,"
                             "  fingerprint BLOB NOT NULL,"
                             "  job_id BIGINT NOT NULL,"
                             "  expires_at BIGINT NOT NULL,"
                             "  PRIMARY KEY (principal, key));"

                             "CREATE TABLE events ("
                             "  job_id BIGINT NOT NULL,"
                             "  seq BIGINT NOT NULL,"
                             "  at BIGINT NOT NULL,"
                             "  type TEXT NOT NULL,"
                             "  data TEXT NOT NULL,"
                             "  PRIMARY KEY (job_id, seq)) WITHOUT ROWID;"
                             "CREATE TABLE series ("
                             "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
                             "  job_id BIGINT NOT NULL,"
                             "  name TEXT NOT NULL,"
                             "  UNIQUE (job_id, name));"
                             "CREATE TABLE points ("
                             "  series_id BIGINT NOT NULL,"
                             "  step BIGINT NOT NULL,"
                             "  value DOUBLE PRECISION," /* NULL = NaN */
                             "  PRIMARY KEY (series_id, step)) WITHOUT ROWID;"

                             "CREATE TABLE cache ("
                             "  key TEXT NOT NULL PRIMARY KEY,"
                             "  blob BIGINT NOT NULL,"
                             "  bytes BIGINT NOT NULL,"
                             "  used_at BIGINT NOT NULL);"
                             "CREATE INDEX cache_used ON cache (used_at);"
                             "CREATE INDEX cache_blob ON cache (blob);"

                             /* Whatever names a blob is listed here: garbage collection asks nothing else. */
                             "CREATE VIEW blob_references AS"
                             "  SELECT blob FROM model_versions UNION ALL SELECT blob FROM dataset_arrays"
                             "  UNION ALL SELECT blob FROM checkpoints UNION ALL SELECT blob FROM cache;";

/* What a training left beside the model, to go on from. */
static const char meta_2[] = "CREATE TABLE model_memories ("
                             "  version_id BIGINT NOT NULL PRIMARY KEY REFERENCES versions (id),"
                             "  blob BIGINT NOT NULL,"
                             "  about TEXT);"
                             "CREATE INDEX model_memories_blob ON model_memories (blob);"
                             "DROP VIEW blob_references;"
                             "CREATE VIEW blob_references AS"
                             "  SELECT blob FROM model_versions UNION ALL SELECT blob FROM dataset_arrays"
                             "  UNION ALL SELECT blob FROM checkpoints UNION ALL SELECT blob FROM cache"
                             "  UNION ALL SELECT blob FROM model_memories;";

const char *const schema_meta[] = {meta_1, meta_2};
const int schema_meta_count = sizeof schema_meta / sizeof *schema_meta;

/* Chunk c of blob b is row b * 65536 + c: one tree, no index, and a range is arithmetic. */
static const char blobs_1[] = "CREATE TABLE blobs ("
                              "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
                              "  state INTEGER NOT NULL," /* enum blob_state */
                              "  size BIGINT NOT NULL,"
                              "  digest BLOB,"
                              "  held_until BIGINT NOT NULL,"
                              "  created_at BIGINT NOT NULL);"
                              "CREATE UNIQUE INDEX blobs_digest ON blobs (digest) WHERE state = 1;"
                              "CREATE INDEX blobs_state ON blobs (state) WHERE state <> 1;"
                              "CREATE TABLE chunks (id INTEGER PRIMARY KEY, data BLOB NOT NULL);";

const char *const schema_blobs[] = {blobs_1};
const int schema_blobs_count = sizeof schema_blobs / sizeof *schema_blobs;
