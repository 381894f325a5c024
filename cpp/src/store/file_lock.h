// FileLock: one process, and one engine in it, owns a database file.
//
// The lock is an flock on a file beside it, `<file>.lock`, which holds the owner's process id and stays behind,
// unlocked. flock, not fcntl: it also refuses a second engine of the same process. Freed by the destructor and by the
// process's death.
#pragma once

#include <string>
#include <utility>

#include "stepwell/status.h"

namespace stepwell::detail {

class FileLock {
 public:
  // kConflict, code::kStoreLocked, when another engine holds it; kInvalid, code::kStoreOpen, when the place cannot be
  // written.
  static Result<FileLock> take(const std::string& database_path);

  FileLock() noexcept = default;
  FileLock(FileLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)), pid_(other.pid_) {}
  FileLock& operator=(FileLock&& other) noexcept;
  ~FileLock() { free(); }

  void free() noexcept;

 private:
  FileLock(int fd, int pid) noexcept : fd_(fd), pid_(pid) {}
  int fd_ = -1;
  int pid_ = 0;  // who took it: a forked child must not free its parent's lock
};

}  // namespace stepwell::detail
