#include "store/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace stepwell::detail {

namespace {

// The owner writes its id after it has the lock, so this may be empty for a moment.
std::string owner_of(int fd) {
  std::array<char, 24> text{};
  const ssize_t length = pread(fd, text.data(), text.size() - 1, 0);
  std::string pid;
  for (ssize_t i = 0; i < length && text[static_cast<size_t>(i)] >= '0' && text[static_cast<size_t>(i)] <= '9'; ++i) {
    pid += text[static_cast<size_t>(i)];
  }
  return pid;
}

}  // namespace

Result<FileLock> FileLock::take(const std::string& database_path) {
  const std::string path = database_path + ".lock";
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) {
    const std::string reason = std::strerror(errno);  // NOLINT(concurrency-mt-unsafe): glibc's is thread-local
    return Status(StatusKind::kInvalid, code::kStoreOpen,
                  "cannot open " + database_path + ": its lock file " + path + " cannot be written: " + reason);
  }
  FileLock lock(fd, getpid());
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    const int error = errno;
    const std::string pid = owner_of(fd);
    close(std::exchange(lock.fd_, -1));
    if (error != EWOULDBLOCK) {
      return Status(StatusKind::kInvalid, code::kStoreOpen,
                    "cannot lock " + path + ": " + std::strerror(error));  // NOLINT(concurrency-mt-unsafe)
    }
    const bool is_ours = pid == std::to_string(getpid());
    return Status(StatusKind::kConflict, code::kStoreLocked,
                  database_path + " is open in another engine" +
                      (pid.empty() ? std::string() : " (process " + pid + (is_ours ? ", this one)" : ")")) +
                      "; one engine owns a file at a time");
  }
  const std::string pid = std::to_string(getpid()) + "\n";
  if (ftruncate(fd, 0) != 0 || pwrite(fd, pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
    return Status(StatusKind::kIo, code::kStoreOpen, "cannot write " + path + ": " + std::strerror(errno));  // NOLINT
  }
  return lock;
}

FileLock& FileLock::operator=(FileLock&& other) noexcept {
  if (this != &other) {
    free();
    fd_ = std::exchange(other.fd_, -1);
    pid_ = other.pid_;
  }
  return *this;
}

void FileLock::free() noexcept {
  if (fd_ < 0) return;
  // Closing alone would leave the lock with a forked child that inherited the descriptor.
  if (getpid() == pid_) flock(fd_, LOCK_UN);
  close(fd_);
  fd_ = -1;
}

}  // namespace stepwell::detail
