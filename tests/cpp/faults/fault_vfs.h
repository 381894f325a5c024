// FaultDisk: a disk in memory under SQLite, whose power can be cut and whose operations can fail.
//
// While it lives it is SQLite's default VFS, so the code under test opens its files on it unchanged. The content of a
// file is in memory; the real file of that name holds only the number of its content, so that code which looks for
// files, creates or renames them past SQLite keeps working. fsync of such a file reaches this disk too.
//
// Every change is written to a log. What a power cut leaves is found by replaying the log up to the cut: each 512-byte
// sector that was written since the file's last sync holds its synced bytes or those after any of the writes since.
// Not modelled: shared memory (exclusive locking only), several connections, and loss of renames.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace stepwell::testing {

// One change of the disk.
struct DiskOp {
  enum class Kind : uint8_t {
    kCreate,     // bytes: the name
    kWrite,      // bytes, at offset
    kTruncate,   // to offset
    kSync,       // everything that was written to the file is kept
    kSyncLost,   // the sync failed: what had not reached the disk never will, though it can still be read
    kRemove,     //
    kOther,      // a sync of something else, a folder for instance
    kCommitted,  // no change: SQLite has just finished a write transaction
    kAnswered,   // no change: the store has just answered the calls of a group
  };
  Kind kind = Kind::kWrite;
  int file = 0;
  int64_t offset = 0;  // kSyncLost: the seed of what had reached the disk
  std::string bytes;
};

struct DiskFile {
  std::string name;
  std::string bytes;
};
using DiskFiles = std::map<int, DiskFile>;  // by the number of the content

// What has certainly reached the disk after some operations, and what may have.
class DiskImage {
 public:
  explicit DiskImage(const DiskFiles& files);
  // `op` must outlive the image.
  void apply(const DiskOp& op);
  // What a power cut leaves now.
  [[nodiscard]] DiskFiles cut(uint64_t& random) const;

 private:
  struct File {
    DiskFile synced;
    std::vector<const DiskOp*> pending;
    bool is_named = true;     // the folder's entry is on the disk
    bool is_removed = false;  // may come back until the next sync of anything
  };
  static void settle(File& file, bool all, uint64_t& random);

  std::map<int, File> files_;
};

// What goes wrong, once, at one operation; or from there on, until the disk is healed.
struct DiskFault {
  enum class Kind : uint8_t {
    kNone,
    kWriteError,  // EIO; a part may have been written
    kShortWrite,  // a part is written, then there is no room
    kFull,        // no room at all
    kSyncError,   // EIO, and what was not on the disk is lost though it can still be read, as on ext4 and XFS
    kPowerOff,    // everything fails from here on
  };
  Kind kind = Kind::kNone;
  int64_t at = 0;  // the first operation of its kind that is not before this one; see op_count
  bool is_lasting = false;
};

class FaultDisk {
 public:
  // `folder` is real and empty. `seed` makes SQLite's own random numbers.
  FaultDisk(std::string folder, uint64_t seed);
  ~FaultDisk();
  FaultDisk(const FaultDisk&) = delete;
  FaultDisk& operator=(const FaultDisk&) = delete;

  // Starts over with these files and an empty log. All connections must be closed, as for `cut_power`.
  void restart(const DiskFiles& files);
  // Power fails now. The names of the files are what they are; their contents are what a cut leaves.
  void cut_power(uint64_t& random);

  void set_fault(const DiskFault& fault);
  void heal() { set_fault({}); }
  [[nodiscard]] bool has_failed() const { return failed_at_ >= 0; }
  // The file whose operation was the first to fail; empty for a folder.
  [[nodiscard]] const std::string& failed_name() const { return failed_name_; }
  // Writes, truncates, removals and syncs since set_fault.
  [[nodiscard]] int64_t op_count() const { return op_count_; }
  [[nodiscard]] int64_t commit_count_since_failure() const;

  // The next change waits until release, so that a test can hand in work that is then done without a pause.
  void hold();
  bool wait_until_blocked();
  void release();

  void note(DiskOp::Kind kind);

  // Only while nobody uses the disk.
  [[nodiscard]] const std::vector<DiskOp>& log() const { return log_; }
  [[nodiscard]] const DiskFiles& base() const { return base_; }

  // SQLite's side, for the VFS alone; outcomes are SQLite's.
  int open(const char* path, int flags, int& file);
  void close(int file);
  int read(int file, void* into, int count, int64_t offset);
  int write(int file, const void* from, int count, int64_t offset);
  int truncate(int file, int64_t bytes);
  int sync(int file);
  int remove(const char* path);
  bool exists(const char* path);
  int64_t bytes_of(int file);
  void fill_random(char* out, int count);
  // fsync was called with a descriptor of a real file.
  int sync_descriptor(int descriptor);

 private:
  enum class Deed : uint8_t { kWrite, kSync, kOther };
  enum class Fate : uint8_t { kDone, kFails, kPowerFails, kIsOff };
  // Called with mutex_ held.
  Fate meet(std::unique_lock<std::mutex>& lock, Deed deed, int file);
  int sync_file(std::unique_lock<std::mutex>& lock, int file);
  void record(DiskOp::Kind kind, int file, int64_t offset = 0, std::string bytes = {});
  void put(int file, std::string bytes, int64_t offset);
  [[nodiscard]] bool is_off() const { return fault_.kind == DiskFault::Kind::kPowerOff && failed_at_ >= 0; }
  [[nodiscard]] bool is_met(Deed deed) const;
  void begin_log(DiskFiles files);

  const std::string folder_;
  uint64_t random_;

  // Protected by mutex_.
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_held_ = false;
  bool is_blocked_ = false;
  int last_file_ = 0;
  DiskFiles files_;  // as they are read
  DiskFiles base_;   // as they were when the log began
  std::vector<DiskOp> log_;
  DiskFault fault_;
  int64_t op_count_ = 0;
  int64_t failed_at_ = -1;  // in the log
  std::string failed_name_;
};

}  // namespace stepwell::testing
