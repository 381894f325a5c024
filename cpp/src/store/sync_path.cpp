#include "store/sync_path.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace stepwell::detail {

std::string sync_path(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const bool is_synced = fd >= 0 && fsync(fd) == 0;
  const int error = errno;
  if (fd >= 0) close(fd);
  return is_synced ? std::string() : std::strerror(error);  // NOLINT(concurrency-mt-unsafe): glibc's is thread-local
}

}  // namespace stepwell::detail
