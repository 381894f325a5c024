// What the stores of the contract suite may differ in. Everything else is the same for all of them.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "stepwell/loop.h"
#include "stepwell/store.h"

namespace stepwell::testing {

struct StoreTraits {
  // A dead owner's run is claimed again: when its lease has ended, ...
  bool expires_leases = false;
  // ... or when the store is opened again, since only one engine can have it open.
  bool requeues_at_open = false;
  // Several stores may hold the same rows at once.
  bool is_shared = false;
};

// One store under test. `open` may be called again for the same rows, once the store before is closed or destroyed (or
// at once, if is_shared).
struct StoreSubject {
  virtual ~StoreSubject() = default;
  virtual std::unique_ptr<Store> open(Loop& loop) = 0;
};

struct StoreCase {
  std::string name;
  StoreTraits traits;
  std::function<std::unique_ptr<StoreSubject>(const std::string& folder)> make;
};

inline void PrintTo(const StoreCase& store_case, std::ostream* out) {  // NOLINT: GoogleTest looks for this name
  *out << store_case.name;
}  // NOLINT: gtest's name

}  // namespace stepwell::testing
