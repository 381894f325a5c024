// PinnedName: the addresses of one host, resolved outside curl. A resolver inside curl blocks the loop when its request
// is cancelled (curl#8515), and only addresses that are known before the connection can be judged and then pinned. Loop
// thread only.
#pragma once

#include <curl/curl.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "http/egress.h"
#include "http/target.h"
#include "stepwell/function.h"
#include "stepwell/loop.h"
#include "stepwell/status.h"

namespace stepwell::detail {

struct SlistDelete {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

// What curl is told with CURLOPT_RESOLVE. A new one is made only when the addresses change.
struct AddressPin {
  uint64_t generation = 0;  // from 1
  std::unique_ptr<curl_slist, SlistDelete> list;
};

class PinnedName {
 public:
  // The host may be an address, which needs no look-up and no pin.
  PinnedName(Loop& loop, Poller& poller, const EgressGuard& guard, Destination destination, const Target& target);

  // Whether requests may go there now. If not, `wait`. Starts a new look-up when the last is a minute old; until that
  // ends, and for ten minutes if it fails, the old addresses are good enough.
  bool is_ready();
  // Requires !is_ready(). Calls back once, later; not at all when this object ends first. One address that the guard
  // refuses makes the name unusable: a name with a public and a private address is how a rebinding attack looks.
  void wait(MoveFunction<void(Status)> done) { waiting_.push_back(std::move(done)); }
  // Null for an address, and before the first look-up has ended.
  [[nodiscard]] const std::shared_ptr<const AddressPin>& pin() const { return pin_; }

 private:
  void resolve();
  void note(Result<std::vector<std::string>> addresses);
  [[nodiscard]] Status judge(const std::vector<std::string>& addresses) const;

  Loop& loop_;
  Poller& poller_;
  const EgressGuard& guard_;
  const Destination destination_;
  const std::string host_;
  const std::string port_;
  const bool is_numeric_;

  std::shared_ptr<const AddressPin> pin_;
  int64_t resolved_at_ms_ = 0;
  bool is_resolving_ = false;
  std::vector<MoveFunction<void(Status)>> waiting_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // the resolver's answers may come after our end
};

}  // namespace stepwell::detail
