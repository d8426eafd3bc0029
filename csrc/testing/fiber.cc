#include "testing/fiber.h"

#include <pthread.h>
#include <sys/mman.h>

#include <new>
#include <utility>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace recsys_fast::emulated {
namespace {

constexpr size_t kGuardBytes = 4096;
#ifdef __SANITIZE_ADDRESS__
constexpr size_t kStackBytes = 512 << 10;  // red zones around every local array
#else
constexpr size_t kStackBytes = 128 << 10;
#endif

}  // namespace

#if defined(__x86_64__)
// Saves the registers that a called function must keep on the stack that runs, and takes the other stack.
asm(R"(
.text
.hidden recsys_fast_change_stack
.globl recsys_fast_change_stack
.type recsys_fast_change_stack, @function
recsys_fast_change_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size recsys_fast_change_stack, .-recsys_fast_change_stack
)");
extern "C" void recsys_fast_change_stack(void** save, void* load);
#endif

Fiber::Fiber(bool own_stack) {
  if (!own_stack) return;
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* memory = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  mprotect(memory, kGuardBytes, PROT_NONE);
  memory_ = static_cast<char*>(memory);
  bottom_ = memory_ + kGuardBytes;
  stack_bytes_ = kStackBytes;
}

Fiber::~Fiber() {
  if (memory_ == nullptr) return;
#ifdef __SANITIZE_ADDRESS__
  ASAN_UNPOISON_MEMORY_REGION(bottom_, stack_bytes_);
#endif
  munmap(memory_, kGuardBytes + kStackBytes);
}

void Fiber::restart(void (*entry)()) {
#ifdef __SANITIZE_ADDRESS__
  ASAN_UNPOISON_MEMORY_REGION(bottom_, stack_bytes_);  // frames of what was abandoned
  fake_stack_ = nullptr;
#endif
#if defined(__x86_64__)
  void** top = reinterpret_cast<void**>(memory_ + kGuardBytes + kStackBytes);
  top -= 2;  // 16-byte aligned before the "call", as the ABI asks
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  stack_pointer_ = top;
#else
  getcontext(&context_);
  context_.uc_stack.ss_sp = memory_ + kGuardBytes;
  context_.uc_stack.ss_size = kStackBytes;
  context_.uc_link = nullptr;
  makecontext(&context_, entry, 0);
#endif
}

void Fiber::change(Fiber& from, Fiber& to) {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(&from.fake_stack_, to.bottom_, to.stack_bytes_);
#endif
#if defined(__x86_64__)
  recsys_fast_change_stack(&from.stack_pointer_, to.stack_pointer_);
#else
  swapcontext(&from.context_, &to.context_);
#endif
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(from.fake_stack_, nullptr, nullptr);
#endif
}

void Fiber::arrived() {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

void Fiber::adopt_os_thread() {
#ifdef __SANITIZE_ADDRESS__
  static thread_local const std::pair<void*, size_t> bounds = [] {
    std::pair<void*, size_t> found;
    pthread_attr_t attributes;
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstack(&attributes, &found.first, &found.second);
    pthread_attr_destroy(&attributes);
    return found;
  }();
  bottom_ = bounds.first;
  stack_bytes_ = bounds.second;
#endif
}

}  // namespace recsys_fast::emulated
