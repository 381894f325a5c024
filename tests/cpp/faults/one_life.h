// OneLife: a store is opened on the disk, given a whole work, looked through and closed.
//
// All calls wait in the store's mailbox before the first of them may touch the disk, so the same work gives the same
// operations in the same order, however the threads are scheduled.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "faults/fault_vfs.h"
#include "faults/seeded_work.h"
#include "store/sqlite_store.h"

namespace stepwell::testing {

struct OneLife {
  Status opened;
  bool is_marked = false;        // right after open the mark of a disk error was there
  size_t log_count_at_open = 0;  // the log's length then
  int64_t op_count_at_open = 0;  // operations that opening took
  size_t acked_count = 0;        // calls that were answered as the model answers them; those after them failed
  Status refusal;                // of the first call that failed
  std::optional<uint64_t> seen;  // digest of all that the store held at the end of the work
  Status closed;
  std::string violation;  // what a store must never do; empty: nothing of that
};

OneLife live(FaultDisk& disk, const SqliteOptions& options, const SeededWork& work);

// Calls in so many groups, each a transaction: the first call is one of its own, then they go together.
size_t calls_in(size_t group_count, const SqliteOptions& options, const SeededWork& work);
size_t transactions_in(const SqliteOptions& options, const SeededWork& work);

// What SQLite's own check says of the file, through a connection of its own; "ok" when all is well.
std::string integrity_of(const std::string& path);

}  // namespace stepwell::testing
