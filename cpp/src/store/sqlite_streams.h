// SqliteStreams: the text of streams whose steps are not recorded yet, in the SQLite store. Store thread only.
#pragma once

#include <memory>
#include <unordered_set>
#include <vector>

#include "stepwell/store.h"
#include "store/sqlite_file.h"
#include "store/sqlite_statement.h"

namespace stepwell::detail {

class SqliteStreams {
 public:
  static Result<std::unique_ptr<SqliteStreams>> open(SqliteFile& file);

  // What a transition says about streams: more text, and steps whose success lets go of theirs. The text of a run that
  // ends before its step is recorded stays for readers, until retention drops it.
  Status apply(const Transition& transition);
  Status read(RunId run, std::vector<KeptStream>& streams);
  // Of a run that is imported.
  Status take_in(RunId run, bool is_live, const std::vector<KeptStream>& streams);
  // The same for a run that is taken up; nearly always there is nothing, and nobody looks.
  Status read_live(RunId run, std::vector<KeptStream>& streams);

 private:
  explicit SqliteStreams(SqliteFile& file) : file_(file) {}
  Status finish(SqliteStatement& statement, const char* doing);

  SqliteFile& file_;
  std::unordered_set<RunId> live_;  // runs that have not ended and may have text
  SqliteStatement insert_, delete_, list_;
};

}  // namespace stepwell::detail
