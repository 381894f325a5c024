// The fixture of every contract test: a store of each kind, opened in a folder of its own.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "contract/store_asks.h"
#include "contract/store_subjects.h"
#include "contract/test_loop.h"

namespace stepwell::testing {

class StoreContractTest : public ::testing::TestWithParam<StoreCase> {
 protected:
  ~StoreContractTest() override {
    store_.reset();
    std::filesystem::remove_all(folder_);
  }

  void reopen() {
    store_.reset();
    store_ = subject_->open(loop_);
    asks_ = std::make_unique<StoreAsks>(loop_, *store_);
  }
  [[nodiscard]] const StoreTraits& traits() const { return GetParam().traits; }
  void expect_ok(const std::vector<CommitAnswer>& answers) {
    for (const CommitAnswer& answer : answers) EXPECT_TRUE(answer.status.is_ok()) << answer.status.to_string();
  }

  const std::string folder_ = new_folder();
  TestLoop loop_;
  std::unique_ptr<StoreSubject> subject_ = GetParam().make(folder_);
  std::unique_ptr<Store> store_ = subject_->open(loop_);
  std::unique_ptr<StoreAsks> asks_ = std::make_unique<StoreAsks>(loop_, *store_);
};

inline std::string store_name(const ::testing::TestParamInfo<StoreCase>& made) { return made.param.name; }

}  // namespace stepwell::testing
