// SqliteBlobs: long payloads, compressed and kept once however many runs have them. Store thread only.
//
// A payload column holds user bytes as a BLOB, and never as anything else; so an INTEGER there is ours: the number of a
// row in `blobs`, or 0 for an input that retention has dropped. Short payloads pay for this with one comparison.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "stepwell/status.h"
#include "store/sqlite_file.h"
#include "store/sqlite_statement.h"

namespace stepwell::detail {

class SqliteBlobs {
 public:
  // Longer payloads are compressed. A page holds four kilobytes: below that there is little to win.
  static constexpr size_t kInlineBytesMax = 4096;
  // What stands in the place of an input that was dropped.
  static constexpr int64_t kDropped = 0;

  static Result<std::unique_ptr<SqliteBlobs>> open(SqliteFile& file);
  ~SqliteBlobs();
  SqliteBlobs(const SqliteBlobs&) = delete;
  SqliteBlobs& operator=(const SqliteBlobs&) = delete;

  // What to bind for `bytes`, which must outlive it: a blob's number, with one reference more, or the bytes themselves.
  Status keep(const std::string& bytes, SqliteStatement::BytesOrNumber& kept);
  // The payload in a column of a row that was just answered; `from` is reset when the file cannot be read. A blob that
  // is missing or damaged is no failure of the file: `bytes` is empty then, and `damage` kIo with code::kStoreCorrupt.
  Status read(SqliteStatement& from, int column, std::string& bytes, Status& damage);
  // One reference less; with the last one the bytes go. kDropped and user bytes have none.
  Status release(int64_t number);

 private:
  struct Contexts;
  explicit SqliteBlobs(SqliteFile& file);
  Status fetch(int64_t number, std::string& bytes, Status& damage);
  Status add(const std::string& hash, const std::string& bytes, int64_t& number);
  [[nodiscard]] Status damaged(int64_t number, const std::string& what) const;

  SqliteFile& file_;
  std::unique_ptr<Contexts> contexts_;
  SqliteStatement find_, count_up_, count_down_, insert_, insert_bytes_, bytes_, delete_, delete_bytes_;
};

}  // namespace stepwell::detail
