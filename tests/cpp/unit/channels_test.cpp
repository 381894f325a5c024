// Mailbox and channels: what is put is taken once, in order, and a sleeping event loop is woken for it.
#include "runtime/channels.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <thread>

namespace stepwell::detail {
namespace {

class EventFd {
 public:
  EventFd() : fd(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}
  EventFd(const EventFd&) = delete;
  EventFd& operator=(const EventFd&) = delete;
  ~EventFd() { close(fd); }
  [[nodiscard]] bool is_readable() const {
    pollfd asked{fd, POLLIN, 0};
    return ::poll(&asked, 1, 0) == 1;
  }
  const int fd;
};

std::vector<Item> items_for(std::initializer_list<std::pair<ChannelId, RunId>> wanted) {
  std::vector<Item> items;
  for (const auto& [channel, run] : wanted) {
    Item& item = items.emplace_back();
    item.channel = channel;
    item.run = run;
  }
  return items;
}

std::vector<RunId> taken(Channels& channels, ChannelId channel, size_t count_max = 100) {
  std::vector<Item> items;
  channels.take(channel, items, count_max, 0);
  std::vector<RunId> runs;
  runs.reserve(items.size());
  for (const Item& item : items) runs.push_back(item.run);
  return runs;
}

TEST(Channels, ItemsGoWhereTheyShallInTheirOrder) {
  const EventFd first_fd, second_fd;
  Channels channels(100);
  const ChannelId first = *channels.open(first_fd.fd);
  const ChannelId second = *channels.open(second_fd.fd);
  auto items = items_for({{0, 1}, {first, 2}, {second, 3}, {first, 4}, {0, 5}, {first, 6}});
  channels.put(items);
  EXPECT_TRUE(items.empty());
  EXPECT_EQ(6U, channels.count());
  EXPECT_EQ((std::vector<RunId>{1, 5}), taken(channels, 0));
  EXPECT_EQ((std::vector<RunId>{2, 4, 6}), taken(channels, first));
  EXPECT_EQ((std::vector<RunId>{3}), taken(channels, second));
  EXPECT_EQ(0U, channels.count());
}

// A test engine jumped over a run's time while its items lay in the pump's hands.
TEST(Channels, WhatThePumpHasTakenIsOpenUntilItComesBack) {
  Channels channels(100);
  auto items = items_for({{0, 1}, {0, 2}, {0, 3}});
  channels.put(items);
  EXPECT_EQ(3U, channels.open_count());
  EXPECT_EQ((std::vector<RunId>{1, 2}), taken(channels, 0, 2));
  EXPECT_EQ(1U, channels.count());
  EXPECT_EQ(3U, channels.open_count());
  EXPECT_EQ((std::vector<RunId>{3}), taken(channels, 0, 2));
  EXPECT_EQ(1U, channels.open_count());
  EXPECT_TRUE(taken(channels, 0).empty());
  EXPECT_EQ(0U, channels.open_count());
}

TEST(Channels, TheEventFdIsReadableWhileThereIsSomething) {
  const EventFd event;
  Channels channels(100);
  const ChannelId channel = *channels.open(event.fd);
  EXPECT_FALSE(event.is_readable());
  auto items = items_for({{channel, 1}, {channel, 2}, {channel, 3}});
  channels.put(items);
  EXPECT_TRUE(event.is_readable());
  EXPECT_EQ(2U, taken(channels, channel, 2).size());
  EXPECT_TRUE(event.is_readable()) << "one is left";
  EXPECT_EQ(1U, taken(channels, channel, 2).size());
  EXPECT_FALSE(event.is_readable());
  items = items_for({{channel, 4}});
  channels.put(items);
  EXPECT_TRUE(event.is_readable());
}

TEST(Channels, AClosedChannelDropsWhatComes) {
  const EventFd event;
  Channels channels(100);
  const ChannelId channel = *channels.open(event.fd);
  channels.close(channel);
  auto items = items_for({{channel, 1}, {0, 2}});
  channels.put(items);
  EXPECT_FALSE(event.is_readable());
  EXPECT_EQ((std::vector<RunId>{2}), taken(channels, 0));
  std::vector<Item> none;
  EXPECT_FALSE(channels.take(channel, none, 10, 0));
}

TEST(Channels, NumbersAreBoundedAndUsedAgain) {
  const EventFd event;
  Channels channels(100);
  for (int n = 1; n <= 255; ++n) ASSERT_TRUE(channels.open(event.fd)) << n;
  const auto refused = channels.open(event.fd);
  ASSERT_FALSE(refused);
  EXPECT_EQ(StatusKind::kBusy, refused.error().kind());
  channels.close(7);
  EXPECT_EQ(7, *channels.open(event.fd));
}

TEST(Channels, CloseAllWakesEverybody) {
  const EventFd event;
  Channels channels(100);
  const ChannelId channel = *channels.open(event.fd);
  std::thread pump([&channels] {
    std::vector<Item> items;
    EXPECT_FALSE(channels.take(0, items, 10, -1));
  });
  channels.close_all();
  pump.join();
  EXPECT_TRUE(event.is_readable());
  std::vector<Item> items;
  EXPECT_FALSE(channels.take(channel, items, 10, 0));
  EXPECT_EQ(StatusKind::kClosed, channels.open(event.fd).error().kind());
}

TEST(Channels, NothingIsLostBetweenTwoThreads) {
  constexpr RunId kCount = 20'000;
  const EventFd event;
  Channels channels(100);
  const ChannelId channel = *channels.open(event.fd);
  std::thread core([&channels, channel] {
    for (RunId run = 1; run <= kCount; run += 2) {
      auto items = items_for({{channel, run}, {channel, run + 1}});
      channels.put(items);
    }
  });
  RunId next = 1;
  while (next <= kCount) {
    pollfd asked{event.fd, POLLIN, 0};
    ASSERT_EQ(1, ::poll(&asked, 1, 20'000)) << "woken for " << next;
    for (const RunId run : taken(channels, channel, 64)) ASSERT_EQ(next++, run);
  }
  core.join();
}

TEST(Mailbox, RefusesWhatIsTooMuchAndKeepsTheRest) {
  Mailbox<int> box(3);
  EXPECT_TRUE(box.put(1));
  std::vector<int> two{2, 3};
  EXPECT_TRUE(box.put_all(two));
  EXPECT_FALSE(box.put(4));
  std::vector<int> more{5};
  EXPECT_FALSE(box.put_all(more));
  EXPECT_EQ(1U, more.size());
  EXPECT_TRUE(box.put(6, /*force=*/true));
  std::vector<int> out;
  EXPECT_TRUE(box.take(out, 3, 0));
  EXPECT_EQ((std::vector<int>{1, 2, 3}), out);
  box.close();
  EXPECT_TRUE(box.take(out, 3, 0));
  EXPECT_EQ((std::vector<int>{6}), out);
  EXPECT_FALSE(box.take(out, 3, 0));
  EXPECT_FALSE(box.put(7));
}

}  // namespace
}  // namespace stepwell::detail
