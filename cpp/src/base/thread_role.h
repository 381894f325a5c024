// Threads as roles: `void step() STEPWELL_ON(loop_thread);` lets clang's -Wthread-safety reject a caller on another
// thread. g++ ignores the marks.
#pragma once

#if defined(__clang__)
#define STEPWELL_CAPABILITY(name) __attribute__((capability(name)))
#define STEPWELL_ON(role) __attribute__((requires_capability(role)))
#define STEPWELL_ASSUME_ROLE(role) __attribute__((assert_capability(role)))
#else
#define STEPWELL_CAPABILITY(name)
#define STEPWELL_ON(role)
#define STEPWELL_ASSUME_ROLE(role)
#endif

namespace stepwell::detail {

class STEPWELL_CAPABILITY("role") ThreadRole {
 public:
  // Called at the top of a callback that the loop itself makes.
  void assume() const STEPWELL_ASSUME_ROLE(this) {}
};

inline ThreadRole loop_thread;
inline ThreadRole store_thread;

}  // namespace stepwell::detail
