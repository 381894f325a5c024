// SqliteStatement: one prepared statement. What is bound must outlive the step; a statement is used by one thread at a
// time.
#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace stepwell::detail {

class SqliteStatement {
 public:
  SqliteStatement() noexcept = default;
  explicit SqliteStatement(sqlite3_stmt* statement) noexcept : statement_(statement) {}
  SqliteStatement(SqliteStatement&& other) noexcept : statement_(std::exchange(other.statement_, nullptr)) {}
  SqliteStatement& operator=(SqliteStatement&& other) noexcept {
    std::swap(statement_, other.statement_);
    return *this;
  }
  ~SqliteStatement() { sqlite3_finalize(statement_); }

  // Binds the parameters ?1, ?2, ... in order. Their types are the caller's business; only a missing memory could fail
  // here, and then the step fails too.
  template <typename... Values>
  SqliteStatement& bind(const Values&... values) {
    int index = 0;
    (bind_at(++index, values), ...);
    return *this;
  }

  // SQLITE_ROW, SQLITE_DONE or an error. After anything but a row the statement is ready for the next use.
  int step() {
    const int outcome = sqlite3_step(statement_);
    if (outcome != SQLITE_ROW) sqlite3_reset(statement_);
    return outcome;
  }
  void reset() { sqlite3_reset(statement_); }

  [[nodiscard]] int64_t integer(int column) const { return sqlite3_column_int64(statement_, column); }
  [[nodiscard]] int32_t small_integer(int column) const { return sqlite3_column_int(statement_, column); }
  [[nodiscard]] int64_t integer_or(int column, int64_t null) const {
    return sqlite3_column_type(statement_, column) == SQLITE_NULL ? null : integer(column);
  }
  [[nodiscard]] bool is_number(int column) const { return sqlite3_column_type(statement_, column) == SQLITE_INTEGER; }
  // Text or bytes; empty for NULL.
  [[nodiscard]] std::string bytes(int column) const {
    const void* begin = sqlite3_column_blob(statement_, column);
    const int length = sqlite3_column_bytes(statement_, column);
    return begin == nullptr ? std::string() : std::string(static_cast<const char*>(begin), static_cast<size_t>(length));
  }

  // Marks a string as text; others are bound as bytes, and an empty one as NULL-free empty bytes.
  struct Text {
    std::string_view text;
  };
  struct TextOrNull {
    std::string_view text;
  };
  // `null` is bound as NULL.
  struct IntegerOrNull {
    int64_t value;
    int64_t null;
  };
  // A payload: the bytes, or, when it is not 0, the number of its blob (sqlite_blobs.h).
  struct BytesOrNumber {
    const std::string* bytes = nullptr;
    int64_t number = 0;
  };

 private:
  void bind_at(int index, int64_t value) { sqlite3_bind_int64(statement_, index, value); }
  void bind_at(int index, int32_t value) { sqlite3_bind_int(statement_, index, value); }
  void bind_at(int index, bool value) { sqlite3_bind_int(statement_, index, value ? 1 : 0); }
  void bind_at(int index, const std::string& bytes) {
    sqlite3_bind_blob64(statement_, index, bytes.data(), bytes.size(), SQLITE_STATIC);
  }
  void bind_at(int index, BytesOrNumber value) {
    if (value.number != 0) {
      bind_at(index, value.number);
    } else {
      bind_at(index, *value.bytes);
    }
  }
  void bind_at(int index, Text value) {
    sqlite3_bind_text64(statement_, index, value.text.data(), value.text.size(), SQLITE_STATIC, SQLITE_UTF8);
  }
  void bind_at(int index, TextOrNull value) {
    if (value.text.empty()) {
      sqlite3_bind_null(statement_, index);
    } else {
      bind_at(index, Text{value.text});
    }
  }

  void bind_at(int index, IntegerOrNull value) {
    if (value.value == value.null) {
      sqlite3_bind_null(statement_, index);
    } else {
      sqlite3_bind_int64(statement_, index, value.value);
    }
  }

  sqlite3_stmt* statement_ = nullptr;
};

}  // namespace stepwell::detail
