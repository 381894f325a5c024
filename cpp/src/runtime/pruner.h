// Pruner: lets the store go of old runs, a slice at a time, so that nobody who commits waits long. Loop thread only.
#pragma once

#include <memory>

#include "stepwell/loop.h"
#include "stepwell/runtime.h"
#include "stepwell/store.h"

namespace stepwell::detail {

class Pruner {
 public:
  // Begins its first pass soon. The three must outlive it or the loop.
  Pruner(Loop& loop, Store& store, std::shared_ptr<const RetentionPolicy> policy);
  ~Pruner();
  Pruner(const Pruner&) = delete;
  Pruner& operator=(const Pruner&) = delete;

  void add_to(Counters& counters) const;

 private:
  void wait(int64_t delay_ms);
  void prune();

  Loop& loop_;
  Store& store_;
  const std::shared_ptr<const RetentionPolicy> policy_;
  const int64_t pass_ms_;  // from the end of a pass to the next
  RunId after_ = 0;
  int64_t trimmed_count_ = 0;
  int64_t deleted_count_ = 0;
  TimerId timer_ = 0;
  const std::shared_ptr<bool> is_alive_ = std::make_shared<bool>(true);
};

}  // namespace stepwell::detail
