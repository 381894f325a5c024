// Makes a file, or the names in a folder, last over a power cut. Any thread; may block.
#pragma once

#include <string>

namespace stepwell::detail {

// Empty, or why it could not be synced.
std::string sync_path(const std::string& path);

}  // namespace stepwell::detail
