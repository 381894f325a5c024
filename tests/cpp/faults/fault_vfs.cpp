// The disk itself: its log, its faults, what a power cut leaves; and the VFS that SQLite sees of it.
#include "faults/fault_vfs.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <unordered_map>
#include <utility>

#include "base/random.h"

namespace stepwell::testing {

namespace {

constexpr int64_t kSectorBytes = 512;
constexpr int64_t kPageBytes = 4096;

std::atomic<FaultDisk*> g_disk{nullptr};

void put_bytes(std::string& into, const char* from, size_t count, size_t offset) {
  if (into.size() < offset + count) into.resize(offset + count);
  into.replace(offset, count, from, count);
}

// The number of the content that a real file stands for; 0: none yet.
int number_in(int descriptor) {
  std::array<char, 16> text{};
  return pread(descriptor, text.data(), text.size() - 1, 0) > 0 ? std::atoi(text.data()) : 0;
}

int number_of(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return -1;
  const int number = number_in(descriptor);
  ::close(descriptor);
  return number;
}

bool write_number(int descriptor, int number) {
  const std::string text = std::to_string(number);
  return pwrite(descriptor, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size());
}

}  // namespace

DiskImage::DiskImage(const DiskFiles& files) {
  for (const auto& [number, file] : files) files_[number].synced = file;
}

void DiskImage::apply(const DiskOp& op) {
  if (op.kind == DiskOp::Kind::kCommitted || op.kind == DiskOp::Kind::kAnswered) return;
  File& file = files_[op.file];
  uint64_t unused = 0;
  switch (op.kind) {
    case DiskOp::Kind::kCreate:
      file.synced.name = op.bytes;
      file.is_named = false;
      return;
    case DiskOp::Kind::kWrite:
    case DiskOp::Kind::kTruncate:
      file.pending.push_back(&op);
      return;
    case DiskOp::Kind::kRemove:
      file.is_removed = true;
      return;
    case DiskOp::Kind::kSyncLost:
      unused = static_cast<uint64_t>(op.offset);
      settle(file, false, unused);
      return;
    case DiskOp::Kind::kSync:
      settle(file, true, unused);
      file.is_named = true;
      break;
    default:
      break;
  }
  // A sync writes the file system's journal, and with it every removal so far.
  std::erase_if(files_, [](const auto& entry) { return entry.second.is_removed; });
}

DiskFiles DiskImage::cut(uint64_t& random) const {
  DiskFiles left;
  for (const auto& [number, each] : files_) {
    File file = each;
    settle(file, false, random);
    if (file.is_removed && detail::random_up_to(random, 1) == 0) continue;
    if (!file.is_named && detail::random_up_to(random, 1) == 0) continue;
    left.emplace(number, std::move(file.synced));
  }
  return left;
}

// Writes what is pending: all of it, or for each sector what it held after some number of its writes. Often nearly
// nothing or nearly everything, since a single sector that is missing, or there too early, is what breaks things.
void DiskImage::settle(File& file, bool all, uint64_t& random) {
  std::string& bytes = file.synced.bytes;
  const size_t bytes_before = bytes.size();
  constexpr std::array<int64_t, 7> kKept = {0, 2, 10, 50, 90, 98, 100};
  const int64_t kept_percent = all ? 100 : kKept[static_cast<size_t>(detail::random_up_to(random, kKept.size() - 1))];
  std::unordered_map<int64_t, int64_t> writes_left;  // by sector
  const auto each_sector = [](const DiskOp& op, auto visit) {
    const auto end = op.offset + static_cast<int64_t>(op.bytes.size());
    for (int64_t at = op.offset; at < end;) {
      const int64_t next = std::min(end, (at / kSectorBytes + 1) * kSectorBytes);
      visit(at / kSectorBytes, at, next - at);
      at = next;
    }
  };
  if (!all) {
    for (const DiskOp* op : file.pending)
      each_sector(*op, [&](int64_t sector, int64_t, int64_t) { ++writes_left[sector]; });
  }
  std::unordered_map<int64_t, bool> is_drawn;
  for (const DiskOp* op : file.pending) {
    if (op->kind == DiskOp::Kind::kTruncate) {
      if (all || detail::random_up_to(random, 1) == 0) bytes.resize(static_cast<size_t>(op->offset));
      continue;
    }
    if (all) {
      put_bytes(bytes, op->bytes.data(), op->bytes.size(), static_cast<size_t>(op->offset));
      continue;
    }
    each_sector(*op, [&](int64_t sector, int64_t at, int64_t count) {
      int64_t& left = writes_left[sector];
      if (bool& drawn = is_drawn[sector]; !drawn) {
        drawn = true;
        if (detail::random_up_to(random, 99) >= kept_percent) left = detail::random_up_to(random, left - 1);
      }
      if (left-- <= 0) return;
      put_bytes(bytes, op->bytes.data() + (at - op->offset), static_cast<size_t>(count), static_cast<size_t>(at));
    });
  }
  // Growth is the file system's business and may be lost though the sectors were written.
  const bool is_growth_lost = !all && bytes.size() > bytes_before && detail::random_up_to(random, 3) == 0;
  if (is_growth_lost) bytes.resize(bytes_before);
  file.pending.clear();
}

namespace {

// What SQLite allots for an open file.
struct ShimFile {
  sqlite3_file base;
  FaultDisk* disk;
  int number;
  bool is_database;
};

ShimFile& shim(sqlite3_file* file) { return *reinterpret_cast<ShimFile*>(file); }

int shim_close(sqlite3_file* file) {
  shim(file).disk->close(shim(file).number);
  return SQLITE_OK;
}
int shim_read(sqlite3_file* file, void* into, int count, sqlite3_int64 offset) {
  return shim(file).disk->read(shim(file).number, into, count, offset);
}
int shim_write(sqlite3_file* file, const void* from, int count, sqlite3_int64 offset) {
  return shim(file).disk->write(shim(file).number, from, count, offset);
}
int shim_truncate(sqlite3_file* file, sqlite3_int64 bytes) {
  return shim(file).disk->truncate(shim(file).number, bytes);
}
int shim_sync(sqlite3_file* file, int) { return shim(file).disk->sync(shim(file).number); }
int shim_file_size(sqlite3_file* file, sqlite3_int64* bytes) {
  *bytes = shim(file).disk->bytes_of(shim(file).number);
  return SQLITE_OK;
}
int shim_lock(sqlite3_file*, int) { return SQLITE_OK; }
int shim_check_lock(sqlite3_file*, int* is_locked) {
  *is_locked = 0;
  return SQLITE_OK;
}
int shim_control(sqlite3_file* file, int what, void*) {
  if (what == SQLITE_FCNTL_COMMIT_PHASETWO && shim(file).is_database) {
    shim(file).disk->note(DiskOp::Kind::kCommitted);
  }
  return SQLITE_NOTFOUND;
}
int shim_sector_bytes(sqlite3_file*) { return kPageBytes; }                  // as the unix VFS says
int shim_traits(sqlite3_file*) { return SQLITE_IOCAP_POWERSAFE_OVERWRITE; }  // too

// Version 1: no shared memory and no mapping.
constexpr sqlite3_io_methods kMethods = {
    1,         shim_close,      shim_read,    shim_write,        shim_truncate, shim_sync, shim_file_size, shim_lock,
    shim_lock, shim_check_lock, shim_control, shim_sector_bytes, shim_traits,   nullptr,   nullptr,        nullptr,
    nullptr,   nullptr,         nullptr};

sqlite3_vfs* real_vfs(sqlite3_vfs* vfs) { return static_cast<sqlite3_vfs*>(vfs->pAppData); }

int vfs_open(sqlite3_vfs*, const char* path, sqlite3_file* out, int flags, int* flags_out) {
  ShimFile& file = shim(out);
  file = {};
  file.disk = g_disk.load();
  file.is_database = (flags & SQLITE_OPEN_MAIN_DB) != 0;
  const int outcome = file.disk->open(path, flags, file.number);
  if (outcome == SQLITE_OK) file.base.pMethods = &kMethods;
  if (flags_out != nullptr) *flags_out = flags;
  return outcome;
}
int vfs_delete(sqlite3_vfs*, const char* path, int) { return g_disk.load()->remove(path); }
int vfs_access(sqlite3_vfs*, const char* path, int, int* is_there) {
  *is_there = g_disk.load()->exists(path) ? 1 : 0;
  return SQLITE_OK;
}
int vfs_full_path(sqlite3_vfs* vfs, const char* path, int count, char* out) {
  return real_vfs(vfs)->xFullPathname(real_vfs(vfs), path, count, out);
}
int vfs_random(sqlite3_vfs*, int count, char* out) {
  g_disk.load()->fill_random(out, count);
  return count;
}
int vfs_sleep(sqlite3_vfs*, int microseconds) { return microseconds; }
int vfs_now(sqlite3_vfs* vfs, double* out) { return real_vfs(vfs)->xCurrentTime(real_vfs(vfs), out); }
int vfs_last_error(sqlite3_vfs*, int, char*) { return 0; }

sqlite3_vfs& shim_vfs() {
  static sqlite3_vfs vfs = [] {
    sqlite3_vfs made{};
    made.iVersion = 1;
    made.szOsFile = sizeof(ShimFile);
    made.mxPathname = 1024;
    made.zName = "stepwell-fault-disk";
    made.xOpen = vfs_open;
    made.xDelete = vfs_delete;
    made.xAccess = vfs_access;
    made.xFullPathname = vfs_full_path;
    made.xRandomness = vfs_random;
    made.xSleep = vfs_sleep;
    made.xCurrentTime = vfs_now;
    made.xGetLastError = vfs_last_error;
    return made;
  }();
  return vfs;
}

}  // namespace

FaultDisk::FaultDisk(std::string folder, uint64_t seed) : folder_(std::move(folder)), random_(seed) {
  sqlite3_vfs& vfs = shim_vfs();
  if (vfs.pAppData == nullptr) vfs.pAppData = sqlite3_vfs_find(nullptr);
  g_disk = this;
  sqlite3_vfs_register(&vfs, 1);
  sqlite3_randomness(0, nullptr);  // its generator starts over, from our seed
  restart({});
}

FaultDisk::~FaultDisk() {
  sqlite3_vfs_unregister(&shim_vfs());
  g_disk = nullptr;
}

void FaultDisk::begin_log(DiskFiles files) {
  const std::lock_guard lock(mutex_);
  for (const auto& [number, file] : files) last_file_ = std::max(last_file_, number);
  files_ = files;
  base_ = std::move(files);
  log_.clear();
  fault_ = {};
  op_count_ = 0;
  failed_at_ = -1;
}

void FaultDisk::restart(const DiskFiles& files) {
  for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
    if (entry.path().extension() != ".lock") ::unlink(entry.path().c_str());
  }
  for (const auto& [number, file] : files) {
    const int descriptor = ::open(file.name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (descriptor < 0 || !write_number(descriptor, number)) std::abort();
    ::close(descriptor);
  }
  begin_log(files);
}

void FaultDisk::cut_power(uint64_t& random) {
  DiskImage image(base_);
  for (const DiskOp& op : log_) image.apply(op);
  DiskFiles contents = image.cut(random);
  DiskFiles left;
  for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
    const int number = entry.path().extension() == ".lock" ? 0 : number_of(entry.path().string());
    if (number <= 0) continue;
    const auto found = contents.find(number);
    if (found == contents.end()) {
      ::unlink(entry.path().c_str());
    } else {
      left[number] = {entry.path().string(), std::move(found->second.bytes)};
    }
  }
  begin_log(std::move(left));
}

void FaultDisk::set_fault(const DiskFault& fault) {
  const std::lock_guard lock(mutex_);
  fault_ = fault;
  op_count_ = 0;
  failed_at_ = -1;
}

int64_t FaultDisk::commit_count_since_failure() const {
  if (failed_at_ < 0) return 0;
  return std::count_if(log_.begin() + failed_at_, log_.end(),
                       [](const DiskOp& op) { return op.kind == DiskOp::Kind::kCommitted; });
}

void FaultDisk::hold() {
  const std::lock_guard lock(mutex_);
  is_held_ = true;
  is_blocked_ = false;
}

bool FaultDisk::wait_until_blocked() {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::seconds(20), [this] { return is_blocked_; });
}

void FaultDisk::release() {
  {
    const std::lock_guard lock(mutex_);
    is_held_ = false;
  }
  changed_.notify_all();
}

bool FaultDisk::is_met(Deed deed) const {
  const bool is_repeated = failed_at_ >= 0;
  if (is_repeated ? !fault_.is_lasting : op_count_ <= fault_.at) return false;
  switch (fault_.kind) {
    case DiskFault::Kind::kNone:
      return false;
    case DiskFault::Kind::kPowerOff:
      return true;
    case DiskFault::Kind::kSyncError:
      return deed == Deed::kSync || (is_repeated && deed == Deed::kWrite);
    case DiskFault::Kind::kWriteError:
      return deed == Deed::kWrite || (is_repeated && deed == Deed::kSync);
    default:
      return deed == Deed::kWrite;
  }
}

FaultDisk::Fate FaultDisk::meet(std::unique_lock<std::mutex>& lock, Deed deed, int file) {
  if (is_held_) {
    is_blocked_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return !is_held_; });
  }
  if (is_off()) return Fate::kIsOff;
  ++op_count_;
  if (!is_met(deed)) return Fate::kDone;
  if (failed_at_ < 0) {
    failed_at_ = static_cast<int64_t>(log_.size());
    failed_name_ = file == 0 ? std::string() : files_[file].name;
  }
  return is_off() ? Fate::kPowerFails : Fate::kFails;
}

void FaultDisk::record(DiskOp::Kind kind, int file, int64_t offset, std::string bytes) {
  log_.push_back({kind, file, offset, std::move(bytes)});
}

void FaultDisk::put(int file, std::string bytes, int64_t offset) {
  if (bytes.empty()) return;
  put_bytes(files_[file].bytes, bytes.data(), bytes.size(), static_cast<size_t>(offset));
  record(DiskOp::Kind::kWrite, file, offset, std::move(bytes));
}

int FaultDisk::open(const char* path, int flags, int& file) {
  std::unique_lock lock(mutex_);
  if (is_off()) return SQLITE_CANTOPEN;
  if (path == nullptr) {
    files_[file = ++last_file_];  // a temporary one: it has no name, and nothing of it is logged
    return SQLITE_OK;
  }
  const int create = (flags & SQLITE_OPEN_CREATE) != 0 ? O_CREAT : 0;
  const int descriptor = ::open(path, O_RDWR | O_CLOEXEC | create, 0600);
  if (descriptor < 0) return SQLITE_CANTOPEN;
  file = number_in(descriptor);
  bool is_numbered = true;
  if (!files_.contains(file)) {
    file = ++last_file_;
    is_numbered = write_number(descriptor, file);
    files_[file].name = path;
    record(DiskOp::Kind::kCreate, file, 0, path);
  }
  ::close(descriptor);
  return is_numbered ? SQLITE_OK : SQLITE_CANTOPEN;
}

void FaultDisk::close(int file) {
  const std::lock_guard lock(mutex_);
  const auto found = files_.find(file);
  if (found != files_.end() && found->second.name.empty()) files_.erase(found);
}

int FaultDisk::read(int file, void* into, int count, int64_t offset) {
  const std::lock_guard lock(mutex_);
  if (is_off()) return SQLITE_IOERR_READ;
  const std::string& bytes = files_[file].bytes;
  const auto begin = std::min(static_cast<size_t>(offset), bytes.size());
  const size_t there = std::min(static_cast<size_t>(count), bytes.size() - begin);
  std::memcpy(into, bytes.data() + begin, there);
  if (there == static_cast<size_t>(count)) return SQLITE_OK;
  std::memset(static_cast<char*>(into) + there, 0, static_cast<size_t>(count) - there);
  return SQLITE_IOERR_SHORT_READ;
}

int FaultDisk::write(int file, const void* from, int count, int64_t offset) {
  std::unique_lock lock(mutex_);
  std::string bytes(static_cast<const char*>(from), static_cast<size_t>(count));
  if (files_[file].name.empty()) {
    put_bytes(files_[file].bytes, bytes.data(), bytes.size(), static_cast<size_t>(offset));
    return SQLITE_OK;
  }
  switch (meet(lock, Deed::kWrite, file)) {
    case Fate::kDone:
      put(file, std::move(bytes), offset);
      return SQLITE_OK;
    case Fate::kPowerFails:  // in flight: some of its sectors may be there
      put(file, std::move(bytes), offset);
      return SQLITE_IOERR_WRITE;
    case Fate::kIsOff:
      return SQLITE_IOERR_WRITE;
    case Fate::kFails:
      break;
  }
  if (fault_.kind != DiskFault::Kind::kFull) {
    bytes.resize(static_cast<size_t>(detail::random_up_to(random_, count - 1)));
    put(file, std::move(bytes), offset);
  }
  const bool is_full = fault_.kind == DiskFault::Kind::kFull || fault_.kind == DiskFault::Kind::kShortWrite;
  return is_full ? SQLITE_FULL : SQLITE_IOERR_WRITE;
}

int FaultDisk::truncate(int file, int64_t bytes) {
  std::unique_lock lock(mutex_);
  if (files_[file].name.empty()) return SQLITE_OK;
  if (meet(lock, Deed::kOther, file) != Fate::kDone) return SQLITE_IOERR_TRUNCATE;
  files_[file].bytes.resize(static_cast<size_t>(bytes));
  record(DiskOp::Kind::kTruncate, file, bytes);
  return SQLITE_OK;
}

int FaultDisk::sync_file(std::unique_lock<std::mutex>& lock, int file) {
  const Fate fate = meet(lock, Deed::kSync, file);
  if (fate == Fate::kDone) record(file == 0 ? DiskOp::Kind::kOther : DiskOp::Kind::kSync, file);
  if (fate == Fate::kFails && file != 0) {
    record(DiskOp::Kind::kSyncLost, file, static_cast<int64_t>(detail::next_random(random_)));
  }
  return fate == Fate::kDone ? SQLITE_OK : SQLITE_IOERR_FSYNC;
}

int FaultDisk::sync(int file) {
  std::unique_lock lock(mutex_);
  return files_[file].name.empty() ? SQLITE_OK : sync_file(lock, file);
}

int FaultDisk::sync_descriptor(int descriptor) {
  std::unique_lock lock(mutex_);
  struct stat status{};
  const bool is_file = fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
  const int number = is_file ? number_in(descriptor) : 0;
  return sync_file(lock, files_.contains(number) ? number : 0);
}

int FaultDisk::remove(const char* path) {
  std::unique_lock lock(mutex_);
  const int number = number_of(path);
  if (number < 0) return SQLITE_IOERR_DELETE_NOENT;
  if (meet(lock, Deed::kOther, number) != Fate::kDone) return SQLITE_IOERR_DELETE;
  ::unlink(path);
  if (files_.erase(number) > 0) record(DiskOp::Kind::kRemove, number);
  return SQLITE_OK;
}

bool FaultDisk::exists(const char* path) {
  const std::lock_guard lock(mutex_);
  const auto found = files_.find(number_of(path));
  return found != files_.end() && !found->second.bytes.empty();
}

int64_t FaultDisk::bytes_of(int file) {
  const std::lock_guard lock(mutex_);
  return static_cast<int64_t>(files_[file].bytes.size());
}

void FaultDisk::note(DiskOp::Kind kind) {
  const std::lock_guard lock(mutex_);
  record(kind, 0);
}

void FaultDisk::fill_random(char* out, int count) {
  const std::lock_guard lock(mutex_);
  std::generate_n(out, count, [this] { return static_cast<char>(detail::next_random(random_) & 0xFF); });
}

}  // namespace stepwell::testing

// The store's own calls of fsync, which do not pass through SQLite, end here: the program's definition comes before the
// library's.
extern "C" int fsync(int descriptor) {
  if (auto* disk = stepwell::testing::g_disk.load(); disk != nullptr) {
    if (disk->sync_descriptor(descriptor) == SQLITE_OK) return 0;
    errno = EIO;
    return -1;
  }
  return static_cast<int>(syscall(SYS_fsync, descriptor));
}
