// Scratch memory of one thread: a bump allocator that keeps its block between calls, so that hot loops never allocate.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace recsys_fast {

class Arena {
 public:
  static constexpr size_t kAlign = 64;

  Arena() = default;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena() { std::free(block_); }

  // Makes room for `bytes` in all and forgets what was handed out before. Shrinks a block far larger than needed.
  void reset(size_t bytes) {
    used_ = 0;
    if (bytes <= size_ && size_ <= 4 * bytes + kKeep) return;
    std::free(block_);
    size_ = (bytes + kAlign - 1) / kAlign * kAlign;
    block_ = static_cast<std::byte*>(std::aligned_alloc(kAlign, size_));
    if (block_ == nullptr) {
      size_ = 0;
      throw std::bad_alloc();
    }
  }

  // n elements of T, aligned to a cache line, not initialised. The sum of all takes must fit what reset made room for.
  template <class T>
  T* take(size_t n) {
    const size_t bytes = padded<T>(n);
    if (used_ + bytes > size_) throw std::bad_alloc();
    T* out = reinterpret_cast<T*>(block_ + used_);
    used_ += bytes;
    return out;
  }

  size_t size() const { return size_; }

  // A place to come back to, so that a step inside a loop can take the same memory again.
  size_t mark() const { return used_; }
  void rewind(size_t mark) { used_ = mark; }

  // What take<T>(n) will use.
  template <class T>
  static size_t padded(size_t n) {
    return (n * sizeof(T) + kAlign - 1) / kAlign * kAlign;
  }

 private:
  static constexpr size_t kKeep = size_t{1} << 20;
  std::byte* block_ = nullptr;
  size_t size_ = 0, used_ = 0;
};

// The arena of the calling thread. One user at a time: a function that takes from it must not call another that does.
inline Arena& thread_arena() {
  thread_local Arena arena;
  return arena;
}

}  // namespace recsys_fast
