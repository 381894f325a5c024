#include "store/sqlite_blobs.h"

#include <xxhash.h>
#include <zstd.h>

#include <utility>

#include "store/sql_upkeep.h"

namespace stepwell::detail {

namespace {

// Text of an LLM's kind comes out at a quarter of its length either way; the levels above cost more time than they
// save.
constexpr int kLevel = 1;

std::string hash_of(const std::string& bytes) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes.data(), bytes.size()));
  return {reinterpret_cast<const char*>(canonical.digest), sizeof canonical.digest};
}

}  // namespace

// zstd's working memory, used again for each payload.
struct SqliteBlobs::Contexts {
  Contexts() {
    ZSTD_CCtx_setParameter(packing, ZSTD_c_compressionLevel, kLevel);
    ZSTD_CCtx_setParameter(packing, ZSTD_c_checksumFlag, 1);
  }
  ~Contexts() {
    ZSTD_freeCCtx(packing);
    ZSTD_freeDCtx(unpacking);
  }
  Contexts(const Contexts&) = delete;
  Contexts& operator=(const Contexts&) = delete;

  ZSTD_CCtx* packing = ZSTD_createCCtx();
  ZSTD_DCtx* unpacking = ZSTD_createDCtx();
};

SqliteBlobs::SqliteBlobs(SqliteFile& file) : file_(file), contexts_(std::make_unique<Contexts>()) {}
SqliteBlobs::~SqliteBlobs() = default;

Result<std::unique_ptr<SqliteBlobs>> SqliteBlobs::open(SqliteFile& file) {
  std::unique_ptr<SqliteBlobs> blobs(new SqliteBlobs(file));
  const std::pair<SqliteStatement*, const char*> statements[] = {
      {&blobs->find_, sql::kBlobFind},
      {&blobs->count_up_, sql::kBlobCountUp},
      {&blobs->count_down_, sql::kBlobCountDown},
      {&blobs->insert_, sql::kBlobInsert},
      {&blobs->insert_bytes_, sql::kBlobBytesInsert},
      {&blobs->bytes_, sql::kBlobBytes},
      {&blobs->delete_, sql::kBlobDelete},
      {&blobs->delete_bytes_, sql::kBlobBytesDelete},
  };
  for (const auto& [statement, text] : statements) {
    Result<SqliteStatement> prepared = file.prepare(text);
    if (!prepared) return prepared.error();
    *statement = std::move(prepared).value();
  }
  return blobs;
}

Status SqliteBlobs::damaged(int64_t number, const std::string& what) const {
  return {StatusKind::kIo, code::kStoreCorrupt,
          "payload " + std::to_string(number) + " of " + file_.path() + " is damaged: " + what +
              "; restore a backup, or look what else is wrong with: stepwell store verify"};
}

Status SqliteBlobs::keep(const std::string& bytes, SqliteStatement::BytesOrNumber& kept) {
  kept = {&bytes, 0};
  if (bytes.size() <= kInlineBytesMax) return Status::ok();
  const std::string hash = hash_of(bytes);
  const int outcome = find_.bind(hash).step();
  if (outcome == SQLITE_DONE) return add(hash, bytes, kept.number);
  if (outcome != SQLITE_ROW) return file_.fault("look for a payload in", outcome);
  const int64_t known = find_.integer(0);
  find_.reset();
  std::string there;
  Status damage;
  STEPWELL_TRY(fetch(known, there, damage));
  // Another payload with the same hash, which somebody may have made on purpose, or a damaged one: it stays where it
  // is.
  if (!damage.is_ok() || there != bytes) return Status::ok();
  kept.number = known;
  const int counted = count_up_.bind(known).step();
  return counted == SQLITE_DONE ? Status::ok() : file_.fault("count a payload in", counted);
}

Status SqliteBlobs::add(const std::string& hash, const std::string& bytes, int64_t& number) {
  std::string packed(ZSTD_compressBound(bytes.size()), '\0');
  const size_t length = ZSTD_compress2(contexts_->packing, packed.data(), packed.size(), bytes.data(), bytes.size());
  // As many bytes as there were mean that they are stored as they are.
  const bool is_packed = ZSTD_isError(length) == 0 && length < bytes.size();
  if (is_packed) packed.resize(length);
  int outcome = insert_.bind(hash).step();
  if (outcome != SQLITE_DONE) return file_.fault("record a payload in", outcome);
  number = file_.last_row();
  outcome = insert_bytes_.bind(number, static_cast<int64_t>(bytes.size()), is_packed ? packed : bytes).step();
  return outcome == SQLITE_DONE ? Status::ok() : file_.fault("record a payload in", outcome);
}

Status SqliteBlobs::read(SqliteStatement& from, int column, std::string& bytes, Status& damage) {
  if (!from.is_number(column)) {
    bytes = from.bytes(column);
    return Status::ok();
  }
  Status status = fetch(from.integer(column), bytes, damage);
  if (!status.is_ok()) from.reset();
  return status;
}

Status SqliteBlobs::fetch(int64_t number, std::string& bytes, Status& damage) {
  bytes.clear();
  if (number == kDropped) return Status::ok();
  const int outcome = bytes_.bind(number).step();
  if (outcome == SQLITE_DONE) damage = damaged(number, "it is not there");
  if (outcome == SQLITE_DONE) return Status::ok();
  if (outcome != SQLITE_ROW) return file_.fault("read a payload of", outcome);
  const int64_t count = bytes_.integer(0);
  std::string packed = bytes_.bytes(1);
  bytes_.reset();
  if (count < 0 || static_cast<size_t>(count) > file_.payload_bytes_max()) {
    damage = damaged(number, "its length is wrong");
    return Status::ok();
  }
  if (packed.size() == static_cast<size_t>(count)) {
    bytes = std::move(packed);
    return Status::ok();
  }
  bytes.resize(static_cast<size_t>(count));
  const size_t length =
      ZSTD_decompressDCtx(contexts_->unpacking, bytes.data(), bytes.size(), packed.data(), packed.size());
  if (ZSTD_isError(length) != 0 || length != bytes.size()) {
    damage = damaged(number, ZSTD_isError(length) != 0 ? ZSTD_getErrorName(length) : "it is shorter than it was");
    bytes.clear();
  }
  return Status::ok();
}

Status SqliteBlobs::release(int64_t number) {
  if (number == kDropped) return Status::ok();
  const int outcome = count_down_.bind(number).step();
  if (outcome == SQLITE_DONE) return Status::ok();  // it is not there: whoever read it was told
  if (outcome != SQLITE_ROW) return file_.fault("count a payload in", outcome);
  const int64_t left = count_down_.integer(0);
  count_down_.reset();
  if (left > 0) return Status::ok();
  for (SqliteStatement* statement : {&delete_, &delete_bytes_}) {
    const int deleted = statement->bind(number).step();
    if (deleted != SQLITE_DONE) return file_.fault("delete a payload of", deleted);
  }
  return Status::ok();
}

}  // namespace stepwell::detail
