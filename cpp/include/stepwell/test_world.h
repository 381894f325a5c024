// For the tests of people who use the engine: a clock that can be moved, and a store that fails on demand.
//
// A Runtime opened with a TestWorld runs the same code as any other. Its dispatcher reads a clock that is ahead of the
// machine's, and its store is wrapped. HTTP keeps the machine's time: a peer knows no other.
#pragma once

#include <cstdint>

#include "stepwell/types.h"

namespace stepwell {

struct TestWorld {
  int64_t ahead_ms = 0;  // the engine's time minus the machine's, when it opens
  // The transition (1: the first one committed) at which the engine is cut off from its store, as a crash would: from
  // then on nothing is written and nothing answered, and close returns at once. 0: never.
  int64_t cut_at = 0;
  bool keeps_cut = false;  // the cut transition is kept and its answer lost; not: both are lost
  // Faults, drawn from the seed; percent of the operations.
  uint64_t seed = 1;
  int32_t slow_percent = 0;  // the store rests for some milliseconds, and what follows waits behind it
  int32_t busy_percent = 0;  // a start or a message from outside is answered kBusy, and was not taken
};

// What stands still and what does not, at one moment on the loop thread.
struct TestView {
  int64_t activity = 0;      // grows whenever anything enters or leaves the engine
  bool is_idle = false;      // nothing is on its way to or from the store, a peer or the host
  bool is_cut = false;       // see TestWorld::cut_at
  bool is_awaited = false;   // somebody waits for the end of a run
  int64_t active_count = 0;  // runs whose activation the host has
  int64_t asking_count = 0;  // threads of the host that wait in Runtime::record
  int64_t commit_count = 0;  // transitions committed, the lost one included
  WallMs wall_ms = 0;        // the engine's time
  int64_t next_in_ms = -1;   // until the next timer: a waiting run, a retry; -1: none
};

}  // namespace stepwell
