// How long runs are kept after their end. Without a policy nothing is ever deleted.
//
// A run that has ended goes in up to two steps. When its time is over, what it took in, did and was told is dropped:
// its input, history and message keys. Its row, key and result stay until the key is old enough too, so that a start
// with the key still gives the same run and its answer; then they go as well, and the key starts a new run. Runs
// without a key go in one step. Plain values; any thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "stepwell/types.h"

namespace stepwell {

// Milliseconds after the end; -1: kept for ever.
struct RetentionTimes {
  int64_t finished_ms = -1;  // succeeded, cancelled and compensated runs
  int64_t failed_ms = -1;
  int64_t dead_ms = -1;
};

struct RetentionPolicy {
  RetentionTimes times;
  std::map<std::string, RetentionTimes> by_workflow;  // instead of `times`
  int64_t key_ms = int64_t{30} * 24 * 3'600'000;      // a key answers at least this long from its run's start
};

// One slice of a pass over the store. Run ids are ordered by time, so a pass ends at the first run that is too young to
// have been over long enough.
struct PruneRequest {
  std::shared_ptr<const RetentionPolicy> policy;
  WallMs now = 0;
  RunId after = 0;          // where the slice before it ended; 0: a new pass
  int64_t rows_max = 1000;  // looked at, and deleted, each
};

struct PruneAnswer {
  RunId after = 0;       // for the next slice
  bool is_over = false;  // there is none: the pass has come to its end
  int64_t trimmed_count = 0;
  int64_t deleted_count = 0;
};

}  // namespace stepwell
