// UvLoop: the door for other threads, timers, sockets, names. Everything is real; nothing waits for time alone.
#include "loop/uv_loop.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "loop/timer_heap.h"

namespace stepwell {
namespace {

constexpr int64_t kPatienceMs = 20'000;

std::unique_ptr<UvLoop> open_loop() {
  auto loop = UvLoop::open();
  EXPECT_TRUE(loop) << loop.error().to_string();
  return std::move(*loop);
}

// Runs until somebody stops the loop; a test that hangs fails instead.
void run_patiently(UvLoop& loop) {
  loop.after(kPatienceMs, [&loop] {
    ADD_FAILURE() << "the loop was not stopped in time";
    loop.stop();
  });
  loop.run();
}

struct SocketPair {
  SocketPair() { EXPECT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends.data())); }
  ~SocketPair() {
    for (const int fd : ends) {
      if (fd >= 0) close(fd);
    }
  }
  void write(const std::string& bytes) const {
    EXPECT_EQ(static_cast<ssize_t>(bytes.size()), ::send(ends[1], bytes.data(), bytes.size(), MSG_NOSIGNAL));
  }
  [[nodiscard]] std::string read(size_t bytes_max) const {
    std::string text(bytes_max, '\0');
    const ssize_t count = recv(ends[0], text.data(), text.size(), 0);
    text.resize(count > 0 ? static_cast<size_t>(count) : 0);
    return text;
  }
  std::array<int, 2> ends{-1, -1};
};

TEST(UvLoopPost, KeepsTheOrderOfEachThreadAndLosesNothing) {
  constexpr size_t kThreads = 4;
  constexpr size_t kPosts = 20'000;
  auto loop = open_loop();
  std::array<size_t, kThreads> next{};
  size_t left = kThreads * kPosts;
  std::vector<std::thread> threads;
  for (size_t thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (size_t number = 0; number < kPosts; ++number) {
        loop->post([&, thread, number] {
          ASSERT_EQ(number, next[thread]++);
          if (--left == 0) loop->stop();
        });
      }
    });
  }
  run_patiently(*loop);
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(0U, left);
}

TEST(UvLoopPost, WakesALoopThatSleeps) {
  auto loop = open_loop();
  int turns = 0;
  std::thread other([&] {
    // Each post waits for the one before, so the loop sleeps in between.
    for (int i = 0; i < 2'000; ++i) {
      int answer = 0;
      std::array<int, 2> pipe_ends{};
      ASSERT_EQ(0, pipe(pipe_ends.data()));
      loop->post([&turns, fd = pipe_ends[1]] {
        ++turns;
        EXPECT_EQ(1, write(fd, "x", 1));
      });
      EXPECT_EQ(1, read(pipe_ends[0], &answer, 1));
      close(pipe_ends[0]);
      close(pipe_ends[1]);
    }
    loop->stop();
  });
  run_patiently(*loop);
  other.join();
  EXPECT_EQ(2'000, turns);
}

TEST(UvLoopPost, RunsAfterTheCallAndLetsSocketsHaveTheirTurn) {
  auto loop = open_loop();
  const SocketPair pair;
  bool is_inside = false;
  int64_t posts = 0;
  MoveFunction<void()> again;
  again = [&] {
    EXPECT_FALSE(is_inside);
    ++posts;
    is_inside = true;
    loop->post([&] { again(); });  // for ever
    is_inside = false;
  };
  EXPECT_TRUE(loop->watch(pair.ends[0], kPollRead, [&](unsigned) { loop->stop(); }).is_ok());
  loop->after(5, [&] { pair.write("x"); });
  loop->post([&] { again(); });
  run_patiently(*loop);
  EXPECT_GT(posts, 1);
}

TEST(UvLoopPost, ComesThroughWhetherTheLoopLooksForItOrHasGivenUp) {
  const auto loop = open_loop();
  constexpr int kCount = 300;
  std::vector<std::thread> posters;
  int left = kCount;
  // Each task expects the next one, which comes from another thread before, about when, or after patience ends.
  MoveFunction<void()> next = [&] {
    if (--left == 0) {
      loop->stop();
      return;
    }
    loop->expect_post(50);
    posters.emplace_back([&, delay = std::chrono::microseconds(left % 3 * 50)] {
      const auto until = std::chrono::steady_clock::now() + delay;
      while (std::chrono::steady_clock::now() < until) std::this_thread::yield();
      loop->post([&next] { next(); });
    });
  };
  const SocketPair pair;  // a socket has its turn meanwhile
  EXPECT_TRUE(loop->watch(pair.ends[0], kPollRead, [&pair](unsigned) { (void)pair.read(1); }).is_ok());
  pair.write("x");
  loop->post([&next] { next(); });
  run_patiently(*loop);
  EXPECT_EQ(0, left);
  EXPECT_EQ("", pair.read(1));
  loop->unwatch(pair.ends[0]);
  for (std::thread& poster : posters) poster.join();
}

TEST(UvLoopPost, RunsWhatWasPostedBeforeStopAndDropsTheRest) {
  auto loop = open_loop();
  const auto owned = std::make_shared<int>(0);
  int runs = 0;
  loop->post([&] { ++runs; });
  loop->post([&] {
    loop->stop();
    loop->post([&runs, owned] { runs += 100; });
  });
  loop->post([&] { ++runs; });
  run_patiently(*loop);
  EXPECT_EQ(2, runs);
  loop->post([&runs, owned] { runs += 100; });
  EXPECT_EQ(1, owned.use_count()) << "a dropped task is destroyed at once";
  loop.reset();
  EXPECT_EQ(2, runs);
}

TEST(UvLoopPost, StopFromAnotherThreadEndsRun) {
  auto loop = open_loop();
  std::thread other([&] { loop->stop(); });
  run_patiently(*loop);
  other.join();
  loop->stop();
  loop->run();  // stays stopped
}

TEST(UvLoopPost, DestroysWhatNeverRan) {
  const auto owned = std::make_shared<int>(0);
  const SocketPair pair;
  {
    auto loop = open_loop();
    loop->post([owned] { FAIL(); });
    loop->after(0, [owned] { FAIL(); });
    EXPECT_TRUE(loop->watch(pair.ends[0], kPollRead, [owned](unsigned) { FAIL(); }).is_ok());
    loop->resolve("127.0.0.1", [owned](const auto&) { FAIL(); });
    EXPECT_EQ(5, owned.use_count());
  }
  EXPECT_EQ(1, owned.use_count());
}

TEST(UvLoopTimer, FireInOrderAndNeverEarly) {
  auto loop = open_loop();
  std::vector<int> order;
  const int64_t begin_ms = loop->now_ms();
  loop->after(30, [&] {
    order.push_back(4);
    EXPECT_GE(loop->now_ms() - begin_ms, 30);
    loop->stop();
  });
  loop->after(10, [&] { order.push_back(2); });
  loop->after(10, [&] { order.push_back(3); });
  loop->after(0, [&] { order.push_back(1); });
  EXPECT_TRUE(order.empty());
  run_patiently(*loop);
  EXPECT_EQ((std::vector<int>{1, 2, 3, 4}), order);
}

TEST(UvLoopTimer, CountFromNowNotFromTheIterationsBegin) {
  auto loop = open_loop();
  using Clock = std::chrono::steady_clock;
  loop->post([&] {
    const auto begin = Clock::now();
    while (Clock::now() - begin < std::chrono::milliseconds(40)) {
    }
    const auto armed = Clock::now();
    loop->after(25, [&loop, armed] {
      EXPECT_GE(Clock::now() - armed, std::chrono::milliseconds(24));  // times are whole milliseconds
      loop->stop();
    });
  });
  run_patiently(*loop);
}

TEST(UvLoopTimer, CancelInACallbackHoldsForOneDueAtTheSameTime) {
  auto loop = open_loop();
  TimerId second = 0;
  const TimerId first = loop->after(1, [&] {
    loop->cancel(second);
    loop->after(5, [&] { loop->stop(); });
  });
  second = loop->after(1, [] { FAIL() << "it was cancelled"; });
  EXPECT_NE(0U, first);
  EXPECT_NE(first, second);
  loop->cancel(0);
  loop->cancel(12'345);
  run_patiently(*loop);
  loop->cancel(first);  // fired long ago
}

TEST(UvLoopTimer, OneThatRenewsItselfAtOnceDoesNotHoldTheLoop) {
  auto loop = open_loop();
  int fired = 0;
  MoveFunction<void()> again;
  again = [&] {
    ++fired;
    loop->after(0, [&] { again(); });
  };
  loop->after(0, [&] { again(); });
  std::thread other([&] { loop->post([&] { loop->stop(); }); });
  run_patiently(*loop);
  other.join();
}

TEST(UvLoopTimer, AHundredThousandAreCheap) {
  auto loop = open_loop();
  int fired = 0;
  std::vector<TimerId> timers;
  loop->post([&] {
    for (int i = 0; i < 100'000; ++i) timers.push_back(loop->after(60'000 + i % 977, [] { FAIL(); }));
    for (int i = 0; i < 1'000; ++i) loop->after(i % 7, [&] { ++fired; });
    for (const TimerId timer : timers) loop->cancel(timer);
    loop->after(8, [&] { loop->stop(); });
  });
  const auto begin = std::chrono::steady_clock::now();
  run_patiently(*loop);
  EXPECT_EQ(1'000, fired);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
}

// The heap against the plainest model there is.
TEST(TimerHeap, FiresWhatASortedListWould) {
  detail::TimerHeap heap;
  struct Expected {
    int64_t due_ms;
    TimerId timer;
  };
  std::vector<Expected> model;  // in the order of adding
  std::vector<TimerId> fired;
  uint64_t random = 1;
  const auto draw = [&random](uint64_t bound) {
    random = random * 6364136223846793005ULL + 1442695040888963407ULL;
    return (random >> 33U) % bound;
  };
  for (int64_t now_ms = 0; now_ms < 3'000; ++now_ms) {
    for (uint64_t i = draw(4); i > 0; --i) {
      const int64_t due_ms = now_ms + static_cast<int64_t>(draw(50));
      const auto slot = std::make_shared<TimerId>(0);
      *slot = heap.add(due_ms, [&fired, slot] { fired.push_back(*slot); });
      model.push_back({due_ms, *slot});
    }
    if (!model.empty() && draw(3) == 0) {
      const auto victim = model.begin() + static_cast<std::ptrdiff_t>(draw(model.size()));
      EXPECT_TRUE(heap.remove(victim->timer));
      EXPECT_FALSE(heap.remove(victim->timer));
      model.erase(victim);
    }
    std::vector<TimerId> expected;
    std::stable_sort(model.begin(), model.end(), [](const auto& a, const auto& b) { return a.due_ms < b.due_ms; });
    while (!model.empty() && model.front().due_ms <= now_ms) {
      expected.push_back(model.front().timer);
      model.erase(model.begin());
    }
    fired.clear();
    while (auto task = heap.take_due(now_ms, heap.next_order())) task();
    ASSERT_EQ(expected, fired) << "at " << now_ms;
  }
}

TEST(UvLoopWatch, IsLevelTriggeredAndMayEndItselfInside) {
  auto loop = open_loop();
  const SocketPair pair;
  std::string seen;
  pair.write("abc");
  EXPECT_TRUE(loop->watch(pair.ends[0], kPollRead,
                          [&](unsigned events) {
                            EXPECT_EQ(unsigned{kPollRead}, events);
                            seen += pair.read(1);
                            if (seen.size() < 3) return;
                            loop->unwatch(pair.ends[0]);
                            loop->unwatch(pair.ends[0]);  // again: ignored
                            pair.write("never read");
                            loop->after(5, [&] { loop->stop(); });
                          })
                  .is_ok());
  run_patiently(*loop);
  EXPECT_EQ("abc", seen);
}

TEST(UvLoopWatch, MayBeReplacedInside) {
  auto loop = open_loop();
  const SocketPair pair;
  std::vector<std::string> seen;
  pair.write("x");
  const auto second = [&](unsigned events) {
    EXPECT_EQ(unsigned{kPollWrite}, events);
    seen.emplace_back("second");
    loop->unwatch(pair.ends[0]);
    EXPECT_TRUE(loop->watch(pair.ends[0], kPollRead | kPollWrite,
                            [&](unsigned both) {
                              EXPECT_EQ(unsigned{kPollRead | kPollWrite}, both);
                              seen.emplace_back("third");
                              loop->unwatch(pair.ends[0]);
                              loop->stop();
                            })
                    .is_ok());
  };
  EXPECT_TRUE(loop->watch(pair.ends[0], kPollRead,
                          [&](unsigned) {
                            seen.emplace_back("first");
                            EXPECT_TRUE(loop->watch(pair.ends[0], kPollWrite, second).is_ok());
                          })
                  .is_ok());
  run_patiently(*loop);
  EXPECT_EQ((std::vector<std::string>{"first", "second", "third"}), seen);
}

TEST(UvLoopWatch, AClosedDescriptorsNumberMayComeBack) {
  auto loop = open_loop();
  int rounds = 0;
  std::unique_ptr<SocketPair> pair;
  MoveFunction<void()> next;
  next = [&] {
    const int old = pair ? pair->ends[0] : -1;
    if (pair) loop->unwatch(old);
    pair.reset();
    pair = std::make_unique<SocketPair>();
    EXPECT_TRUE(old < 0 || old == pair->ends[0]);
    pair->write("x");
    EXPECT_TRUE(loop->watch(pair->ends[0], kPollRead,
                            [&](unsigned) {
                              loop->unwatch(pair->ends[0]);  // its callback is this one
                              if (++rounds == 100) return loop->stop();
                              loop->post([&] { next(); });
                            })
                    .is_ok());
  };
  loop->post([&] { next(); });
  run_patiently(*loop);
  EXPECT_EQ(100, rounds);
}

TEST(UvLoopWatch, ReportsAHangUpAndRefusesWhatIsNoSocket) {
  auto loop = open_loop();
  SocketPair pair;
  close(std::exchange(pair.ends[1], -1));
  EXPECT_TRUE(loop->watch(pair.ends[0], kPollRead,
                          [&](unsigned events) {
                            EXPECT_NE(0U, events & kPollRead);
                            EXPECT_EQ("", pair.read(1));
                            loop->unwatch(pair.ends[0]);
                            loop->stop();
                          })
                  .is_ok());
  EXPECT_FALSE(loop->watch(-1, kPollRead, [](unsigned) {}).is_ok());
  EXPECT_FALSE(loop->watch(99'999, kPollRead, [](unsigned) {}).is_ok());
  loop->unwatch(99'999);
  run_patiently(*loop);
}

TEST(UvLoopResolve, AnswersLaterWithNumericAddresses) {
  auto loop = open_loop();
  int left = 5;
  bool is_inside = true;
  const auto one_done = [&] {
    EXPECT_FALSE(is_inside);
    if (--left == 0) loop->stop();
  };
  for (const char* local : {"localhost", "LocalHost.", "api.localhost"}) {  // with or without a hosts file
    loop->resolve(local, [&](const Result<std::vector<std::string>>& found) {
      ASSERT_TRUE(found) << found.error().to_string();
      EXPECT_EQ((std::vector<std::string>{"127.0.0.1", "::1"}), *found);
      one_done();
    });
  }
  loop->resolve("127.0.0.1", [&](const Result<std::vector<std::string>>& found) {
    ASSERT_TRUE(found);
    EXPECT_EQ(std::vector<std::string>{"127.0.0.1"}, *found);
    one_done();
  });
  loop->resolve(std::string(5'000, 'x'), [&](const Result<std::vector<std::string>>& found) {
    ASSERT_FALSE(found);
    EXPECT_EQ(code::kHttpConnect, found.error().code());
    one_done();
  });
  is_inside = false;
  run_patiently(*loop);
  EXPECT_EQ(0, left);
}

TEST(UvLoop, BlocksSigpipeOnItsThreadOnly) {
  auto loop = open_loop();
  std::thread other([&] {
    loop->post([&] {
      sigset_t blocked;
      pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
      EXPECT_EQ(1, sigismember(&blocked, SIGPIPE));
      loop->stop();
    });
    loop->run();
  });
  other.join();
  sigset_t blocked;
  pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
}

TEST(UvLoop, TellsTheTimeOfDay) {
  const auto loop = open_loop();
  const auto now =
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch());
  EXPECT_NEAR(static_cast<double>(now.count()), static_cast<double>(loop->wall_ms()), 1'000);
}

TEST(UvLoop, OpensAndClosesWithoutLeakingDescriptors) {
  const int before = dup(STDIN_FILENO);
  close(before);
  for (int i = 0; i < 100; ++i) {
    auto loop = open_loop();
    loop->post([&] { loop->stop(); });
    loop->run();
  }
  const int after = dup(STDIN_FILENO);
  close(after);
  EXPECT_EQ(before, after);
}

}  // namespace
}  // namespace stepwell
