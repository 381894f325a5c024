// How a file of an older schema becomes one of this schema, and how a new file is made: as the oldest schema, by the
// same steps. So both kinds are the same file.
//
// To change the schema: add a step here and raise kSchemaVersion; kSchema in sql_schema.h stays what released versions
// wrote. A step is one transaction that ends with its version, so a process that dies in it has not begun it.
#pragma once

#include <cstdint>
#include <string>

#include "stepwell/status.h"
#include "store/sqlite_file.h"

namespace stepwell::detail {

// The oldest version that is still understood; kSchema makes it.
inline constexpr int kSchemaVersionFirst = 3;
inline constexpr int kSchemaVersion = 5;

// Makes the schema of a new file, in one transaction.
Status create_schema(SqliteFile& file);
// Takes the steps from `version` to kSchemaVersion.
Status migrate(SqliteFile& file, int64_t version);
// kInvalid with code::kStoreSchema for a version that this library cannot read. Says which Stepwell can.
Status check_version(SqliteFile& file, int64_t version);

}  // namespace stepwell::detail
