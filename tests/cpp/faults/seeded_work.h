// SeededWork: a seeded sequence of calls to a store, and what the store must hold after each of them.
//
// The memory store is the model: the calls are drawn against it and answered by it. Two digests are equal when two
// stores hold the same runs, events, ends and messages; digests of works with different runs add up.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "stepwell/store.h"

namespace stepwell::testing {

struct WorkCall {
  enum class Kind : uint8_t { kCommit, kClaim, kDue };
  Kind kind = Kind::kCommit;
  std::vector<Transition> transitions;
  ClaimRequest claim;
  WallMs now = 0;
  std::string answer;  // what describe makes of the model's answer
};

struct WorkShape {
  int call_count = 30;
  RunId first_run = 1;          // works that meet in one store have different runs, ...
  std::string queue = "first";  // ... queues, and therefore claims, ...
  bool has_due = true;          // ... and only one of them may ask what is due
};

class SeededWork {
 public:
  SeededWork(uint64_t seed, const WorkShape& shape);
  ~SeededWork();
  SeededWork(const SeededWork&) = delete;
  SeededWork& operator=(const SeededWork&) = delete;

  [[nodiscard]] const std::vector<WorkCall>& calls() const { return calls_; }
  // What the store holds after the first calls, all leases ended.
  [[nodiscard]] uint64_t digest(size_t call_count) const { return digests_[call_count]; }
  [[nodiscard]] uint64_t digest() const { return digests_.back(); }
  // Workflow and key of some runs.
  [[nodiscard]] const std::vector<std::string>& keys() const { return keys_; }

 private:
  class Drawing;
  std::vector<WorkCall> calls_;
  std::vector<uint64_t> digests_;
  std::vector<std::string> keys_;
};

std::vector<Transition> copy_of(const std::vector<Transition>& transitions);
std::string describe(const std::vector<CommitAnswer>& answers);
std::string describe(const std::vector<RunHistory>& claimed);
std::string describe(const DueAnswer& answer);
uint64_t digest_of(const std::vector<RunHistory>& all);

}  // namespace stepwell::testing
