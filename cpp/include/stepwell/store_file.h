// StoreFile: a SQLite store that no engine has open, for its upkeep: look, check, copy, compact, export, import.
//
// Blocking functions; one thread at a time, except interrupt. The file's lock is held from open to close, so an engine
// that has it is named and nothing is done (kConflict, code::kStoreLocked), and no engine can begin meanwhile. What may
// take long is asked for in slices, or can be interrupted from another thread; both leave the file as it was.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "stepwell/budget.h"
#include "stepwell/history.h"
#include "stepwell/queue.h"
#include "stepwell/status.h"

namespace stepwell {

// kLook changes nothing. kChange does first what an engine does when it opens: it rescues the file if a disk error was
// marked, and brings it to this version's schema. kCreate also makes a new one.
enum class StoreAccess : uint8_t { kLook, kChange, kCreate };

struct StoreFacts {
  int64_t schema = 0;
  std::string sqlite;  // the library's version: "3.40.1"
  int64_t file_bytes = 0;
  int64_t log_bytes = 0;  // of the write-ahead log beside it
  int64_t page_count = 0;
  int64_t free_page_count = 0;
  int64_t message_count = 0;      // sent and not yet taken
  int64_t payload_count = 0;      // long ones, which are kept once
  int64_t payload_bytes = 0;      // of those, as users see them
  int64_t packed_bytes = 0;       // and as they are kept
  bool is_marked_failed = false;  // a disk error stopped its last engine; the next open rescues it
};

// The runs of one slice that have workflow and status in common. Bytes are those that users see.
struct RunTally {
  std::string workflow;
  RunStatus status = RunStatus::kQueued;
  int64_t run_count = 0;
  int64_t event_count = 0;
  int64_t payload_bytes = 0;            // inputs and results
  int64_t history_bytes = 0;            // payloads of events
  WallMs oldest_at = 0, newest_at = 0;  // created
  RunId largest = 0;
  int64_t largest_bytes = 0;
};

// Where a walk over the runs stands. `after` 0 in an answer: there are no more.
struct RunTallies {
  std::vector<RunTally> tallies;
  RunId after = 0;
  int64_t run_count = 0;
};

struct Finding {
  RunId run = 0;  // 0: not of one run
  std::string what;
};

struct Findings {
  std::vector<Finding> findings;
  RunId after = 0;
  int64_t run_count = 0;
};

// A run with all that belongs to it: a line of an export.
struct RunRecord {
  RunHistory history;                                             // a leased run is recorded as queued
  uint64_t fingerprint = 0;                                       // of its key
  bool is_trimmed = false;                                        // retention has dropped input and history
  std::vector<std::pair<std::string, std::string>> message_keys;  // topic and key
};

struct RunRecords {
  std::vector<RunRecord> records;
  RunId after = 0;
};

// What stands beside the runs.
struct StoreSettings {
  std::vector<Document> documents;                          // schedules, definitions of budgets
  std::vector<std::pair<std::string, QueueLimits>> queues;  // those with limits, by name
  // Accounts that somebody changed: cap, is_closed, run, at and notes. What they have spent comes with the runs.
  std::vector<BudgetRow> accounts;
};

struct ImportCounts {
  int64_t added_count = 0;
  int64_t known_count = 0;  // the very same was there
};

class StoreFile {
 public:
  static Result<std::unique_ptr<StoreFile>> open(const std::string& path, StoreAccess access);
  virtual ~StoreFile() = default;

  virtual Result<StoreFacts> facts() = 0;
  virtual Result<RunTallies> tally(RunId after, int64_t run_count_max) = 0;
  // What SQLite finds wrong with its pages; empty: nothing. `is_quick` leaves out whether indexes fit their tables.
  virtual Result<std::vector<std::string>> check_pages(bool is_quick) = 0;
  // Whether runs keep our rules: each stands in exactly one place, histories have no gap, keys and payloads are there.
  virtual Result<Findings> check_runs(RunId after, int64_t run_count_max) = 0;
  // Rows that belong to no run, and payloads whose count of references is wrong.
  virtual Result<Findings> check_strays() = 0;
  // Runs in the order of their ids, until there are so many or so many bytes; at least one.
  virtual Result<RunRecords> read(RunId after, int64_t run_count_max, int64_t bytes_max) = 0;
  // All of them or none. A run that is there, and is not the very same, is kConflict with code::kStoreRecord.
  virtual Result<ImportCounts> add(const std::vector<RunRecord>& records) = 0;
  virtual Result<StoreSettings> settings() = 0;
  // All of them or none; kConflict as for add. What is there, the very same, stays; so do accounts that are there.
  virtual Status add_settings(const StoreSettings& settings) = 0;
  // Writes a copy without free pages, readable by its owner only. kConflict, code::kStoreTarget: `target` exists.
  virtual Status back_up(const std::string& target) = 0;
  // Replaces the file by such a copy, at once or not at all, and closes. Needs room for it beside the file.
  virtual Status compact() = 0;
  // Makes what another thread waits for end soon, with kCancelled or kIo. Any thread.
  virtual void interrupt() = 0;
  virtual Status close() = 0;
};

}  // namespace stepwell
