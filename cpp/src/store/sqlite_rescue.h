// After a disk error the pages in memory may differ from those on disk, and SQLite's own recovery would trust the wrong
// ones. So the engine that met the error leaves a mark, and the next one copies what SQLite can read into a new file
// before anything else. The old file stays beside it as `<file>.broken`.
#pragma once

#include <string>

#include "stepwell/status.h"

namespace stepwell::detail {

// Best effort: a disk that fails may refuse this as well.
void mark_for_rescue(const std::string& path);

// Does nothing when there is no mark. The caller holds the file's lock. Interrupted at any point, the next call goes
// on.
Status rescue_if_marked(const std::string& path);

}  // namespace stepwell::detail
