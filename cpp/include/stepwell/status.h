// Status and Result<T>: how every expected failure travels inside the core.
//
// A Status is either ok (one null pointer, free to copy) or a kind, a user-visible code and a message.
// Nothing in the core throws; bindings/errors.cpp alone turns a Status into a Python exception.
// Safe to use on any thread; a Status owns its text.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>

namespace stepwell {

// At most ten kinds. Callers branch on the kind; people read the code and the message.
enum class StatusKind : uint8_t {
  kOk,
  kInvalid,    // the caller's input is wrong; repeating it cannot help
  kNotFound,   // no such run, key or file
  kConflict,   // the key is taken by another payload, the file by another engine
  kBusy,       // a bounded queue is full; try again later
  kTimeout,    // a deadline passed; the work itself may still go on
  kCancelled,  // somebody asked for it
  kFenced,     // this owner lost its lease; its write was refused
  kIo,         // disk or network
  kClosed,     // the engine is closed, or this is a forked child
};

// Codes shown as "SW-E2101". The catalogue with causes and fixes is python/stepwell/_codes; the hundreds group
// them: 10 engine, 11 store, 12 keys and payloads, 13 HTTP, 20 workflows, 21 LLM, 22 triage input.
using ErrorCode = uint16_t;

namespace code {
inline constexpr ErrorCode kInternal = 1000;
inline constexpr ErrorCode kClosed = 1001;
inline constexpr ErrorCode kForked = 1002;
inline constexpr ErrorCode kBusy = 1003;
inline constexpr ErrorCode kWaitTimeout = 1004;
inline constexpr ErrorCode kRunNotFound = 1005;
inline constexpr ErrorCode kRunCancelled = 1006;
inline constexpr ErrorCode kFenced = 1007;
inline constexpr ErrorCode kRunCrashed = 1008;
inline constexpr ErrorCode kRunEnded = 1015;
inline constexpr ErrorCode kInboxFull = 1016;
inline constexpr ErrorCode kRunTimeout = 1017;
inline constexpr ErrorCode kDocumentChanged = 1022;
inline constexpr ErrorCode kStoreLocked = 1101;
inline constexpr ErrorCode kStoreOpen = 1102;
inline constexpr ErrorCode kStoreSchema = 1103;
inline constexpr ErrorCode kStoreIo = 1104;
inline constexpr ErrorCode kStoreFull = 1105;
inline constexpr ErrorCode kStoreCorrupt = 1106;
inline constexpr ErrorCode kStoreTarget = 1107;  // where a copy should go: taken, or too small
inline constexpr ErrorCode kStoreRecord = 1108;  // a record that cannot be imported
inline constexpr ErrorCode kStoreNoFile = 1109;  // a file is needed, and this store is in memory
inline constexpr ErrorCode kKeyConflict = 1201;
inline constexpr ErrorCode kKeyInvalid = 1202;
inline constexpr ErrorCode kPayloadTooLarge = 1203;
inline constexpr ErrorCode kHttpUrl = 1301;
inline constexpr ErrorCode kHttpConnect = 1302;
inline constexpr ErrorCode kHttpTimeout = 1303;
inline constexpr ErrorCode kHttpTooLarge = 1304;
inline constexpr ErrorCode kHttpTls = 1305;
inline constexpr ErrorCode kHttpBroken = 1306;     // the peer reset, or answered something that is not HTTP
inline constexpr ErrorCode kHttpStatus = 1307;     // an answer that the judge calls a failure
inline constexpr ErrorCode kHttpBody = 1308;       // a body that is not what was asked for (HTML, cut JSON)
inline constexpr ErrorCode kStreamCut = 1311;      // a stream that stopped without its end
inline constexpr ErrorCode kStreamError = 1312;    // an error that the peer reported inside a stream
inline constexpr ErrorCode kEgressAddress = 1320;  // a host or address that the egress policy refuses
inline constexpr ErrorCode kEgressScheme = 1321;   // plain http to another machine
inline constexpr ErrorCode kEgressPolicy = 1322;   // a policy that makes no sense
inline constexpr ErrorCode kCircuitOpen = 1332;    // the peer fails, and the call would not wait for it
inline constexpr ErrorCode kCallTooLarge = 1330;   // it reserves more tokens than its bucket ever lets through
inline constexpr ErrorCode kStepFailed = 2001;
inline constexpr ErrorCode kStepTimeout = 2002;
inline constexpr ErrorCode kSignalTimeout = 2006;
inline constexpr ErrorCode kRunTooLong = 2045;
inline constexpr ErrorCode kBudgetReached = 2180;
inline constexpr ErrorCode kBudgetClosed = 2181;
inline constexpr ErrorCode kBudgetTooSmall = 2182;  // for this one call
inline constexpr ErrorCode kBudgetNotFound = 2183;
}  // namespace code

class [[nodiscard]] Status {
 public:
  Status() noexcept = default;
  Status(StatusKind kind, ErrorCode code, std::string message)
      : rep_(std::make_shared<const Rep>(Rep{kind, code, std::move(message)})) {}

  static Status ok() noexcept { return {}; }

  [[nodiscard]] bool is_ok() const noexcept { return rep_ == nullptr; }
  [[nodiscard]] StatusKind kind() const noexcept { return rep_ ? rep_->kind : StatusKind::kOk; }
  [[nodiscard]] ErrorCode code() const noexcept { return rep_ ? rep_->code : ErrorCode{0}; }
  // Lower case; says what was expected, what was seen, and the id. Never holds a secret.
  [[nodiscard]] const std::string& message() const noexcept;
  // "SW-E1104 the text", or "ok".
  [[nodiscard]] std::string to_string() const;

 private:
  struct Rep {
    StatusKind kind;
    ErrorCode code;
    std::string message;
  };
  std::shared_ptr<const Rep> rep_;
};

// A T or the Status that says why there is none. Member names are std::expected's, so that it can take over one day.
// value() on a failed result is a bug and stops the process (see base/check.h).
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}         // NOLINT(google-explicit-constructor)
  Result(Status status) : state_(std::in_place_index<1>, std::move(status)) {}  // NOLINT(google-explicit-constructor)

  [[nodiscard]] bool has_value() const noexcept { return state_.index() == 0; }
  explicit operator bool() const noexcept { return has_value(); }
  [[nodiscard]] T& value() & { return std::get<0>(state_); }
  [[nodiscard]] const T& value() const& { return std::get<0>(state_); }
  [[nodiscard]] T&& value() && { return std::get<0>(std::move(state_)); }
  [[nodiscard]] T& operator*() & { return value(); }
  [[nodiscard]] const T& operator*() const& { return value(); }
  [[nodiscard]] T&& operator*() && { return std::move(*this).value(); }
  [[nodiscard]] T* operator->() { return &value(); }
  [[nodiscard]] const T* operator->() const { return &value(); }
  [[nodiscard]] Status error() const { return has_value() ? Status::ok() : std::get<1>(state_); }

 private:
  std::variant<T, Status> state_;
};

}  // namespace stepwell

// Returns the Status of `expression` from the enclosing function unless it is ok.
#define STEPWELL_TRY(expression)                                                                 \
  do {                                                                                           \
    if (::stepwell::Status try_status_ = (expression); !try_status_.is_ok()) return try_status_; \
  } while (false)
