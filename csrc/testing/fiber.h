// One execution context: a stack and the place where it stopped. The emulated grid runs every CUDA thread on one.
#pragma once

#include <cstddef>
#include <cstdint>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace recsys_fast::emulated {

// A stack of kBytes with an unmapped page below it. The fiber of an OS thread itself (`own_stack` false) has none.
class Fiber {
 public:
  explicit Fiber(bool own_stack);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Makes the next switch to this fiber call `entry`, which must not return. What ran on it before is abandoned.
  void restart(void (*entry)());

  // Leaves `from`, which is the one that runs, and continues `to` where it left off.
  static void change(Fiber& from, Fiber& to);

  // The first thing that `entry` does, so that the address sanitizer knows where it is.
  static void arrived();

  // A fiber without a stack of its own stands for the calling OS thread from here on.
  void adopt_os_thread();

 private:
#if defined(__x86_64__)
  void* stack_pointer_ = nullptr;
#else
  ucontext_t context_;
#endif
  char* memory_ = nullptr;        // guard page, then the stack
  const void* bottom_ = nullptr;  // of the stack, for the address sanitizer
  size_t stack_bytes_ = 0;
  void* fake_stack_ = nullptr;
};

}  // namespace recsys_fast::emulated
