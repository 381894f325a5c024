// The stores that the contract is asked of, each with how it may differ.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "contract/store_traits.h"
#include "store/faulty_store.h"
#include "store/memory_store.h"
#include "store/sqlite_store.h"

namespace stepwell::testing {

struct MemorySubject final : StoreSubject {
  std::unique_ptr<Store> open(Loop& loop) override { return open_memory_store(loop, table); }
  std::shared_ptr<MemoryTable> table = std::make_shared<MemoryTable>();
};

struct SqliteSubject final : StoreSubject {
  explicit SqliteSubject(const std::string& folder) { options.path = folder + "/runs.db"; }
  std::unique_ptr<Store> open(Loop& loop) override {
    auto opened = open_sqlite_store(loop, options);
    EXPECT_TRUE(opened) << opened.error().to_string();
    return std::move(opened).value();
  }
  SqliteOptions options;
};

// What users' tests run on: slow now and then, and otherwise a store like any other.
struct FaultySubject final : StoreSubject {
  std::unique_ptr<Store> open(Loop& loop) override {
    TestWorld world;
    world.seed = 7;
    world.slow_percent = 2;
    return std::make_unique<FaultyStore>(loop, open_memory_store(loop, table), world);
  }
  std::shared_ptr<MemoryTable> table = std::make_shared<MemoryTable>();
};

inline std::vector<StoreCase> store_cases() {
  return {
      {"memory",
       {.expires_leases = true, .requeues_at_open = false, .is_shared = true},
       [](const std::string&) { return std::make_unique<MemorySubject>(); }},
      {"sqlite",
       {.expires_leases = false, .requeues_at_open = true, .is_shared = false},
       [](const std::string& folder) { return std::make_unique<SqliteSubject>(folder); }},
      {"faulty",
       {.expires_leases = true, .requeues_at_open = false, .is_shared = true},
       [](const std::string&) { return std::make_unique<FaultySubject>(); }},
  };
}

inline std::string new_folder() {
  std::string name = (std::filesystem::temp_directory_path() / "stepwell_store_XXXXXX").string();
  return mkdtemp(name.data()) == nullptr ? std::string() : name;
}

}  // namespace stepwell::testing
