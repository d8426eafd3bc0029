// Arrays in shared memory as kernels see them on the emulated grid: every load and store passes SharedMemory::touch.
#pragma once

#include <cstring>
#include <type_traits>
#include <utility>

#include "testing/grid.h"
#include "testing/worker.h"

namespace recsys_fast {

// &array[i]: for the atomic functions only.
template <class T>
struct SharedAddress {
  const emulated::Region* region;
  int64_t offset;

  template <class Update>
  T update(Update&& change) const {
    emulated::SharedMemory& memory = emulated::here.worker->shared;
    memory.touch(*region, offset, sizeof(T), sizeof(T), emulated::Access::kAtomic);
    T* place = reinterpret_cast<T*>(memory.at(*region) + offset);
    const T old = *place;
    *place = change(old);
    return old;
  }
};

// One element, between operator[] and its use. `float x = a[i]` reads; `auto x = a[i]` does not compile further on.
template <class T>
class SharedRef {
 public:
  SharedRef(const emulated::Region* region, int64_t offset) : region_(region), offset_(offset) {}
  SharedRef(const SharedRef&) = delete;

  operator T() const&& { return get(); }
  const SharedRef& operator=(const T& value) const&& { return set(value); }
  const SharedRef& operator=(SharedRef&& other) const&& { return set(other.get()); }
  template <class U>
  const SharedRef& operator=(SharedRef<U>&& other) const&& {
    return set(static_cast<T>(static_cast<U>(std::move(other))));
  }
  const SharedRef& operator+=(const T& value) const&& { return set(static_cast<T>(get() + value)); }
  const SharedRef& operator-=(const T& value) const&& { return set(static_cast<T>(get() - value)); }
  const SharedRef& operator*=(const T& value) const&& { return set(static_cast<T>(get() * value)); }
  const SharedRef& operator/=(const T& value) const&& { return set(static_cast<T>(get() / value)); }
  SharedAddress<T> operator&() const&& { return {region_, offset_}; }

 private:
  T get() const {
    emulated::SharedMemory& memory = emulated::here.worker->shared;
    memory.touch(*region_, offset_, sizeof(T), sizeof(T), emulated::Access::kLoad);
    T value;
    std::memcpy(&value, memory.at(*region_) + offset_, sizeof(T));
    return value;
  }
  const SharedRef& set(const T& value) const {
    emulated::SharedMemory& memory = emulated::here.worker->shared;
    memory.touch(*region_, offset_, sizeof(T), sizeof(T), emulated::Access::kStore);
    std::memcpy(memory.at(*region_) + offset_, &value, sizeof(T));
    return *this;
  }

  const emulated::Region* region_;
  int64_t offset_;
};

// As in cuda/hardware.h: a pointer into shared memory.
template <class T>
class Shared {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  Shared(const emulated::Region* region, int64_t offset) : region_(region), offset_(offset) {}
  SharedRef<T> operator[](int64_t i) const { return {region_, offset_ + i * static_cast<int64_t>(sizeof(T))}; }
  Shared operator+(int64_t n) const { return {region_, offset_ + n * static_cast<int64_t>(sizeof(T))}; }
  template <class U>
  Shared<U> as() const {
    return {region_, offset_};
  }
  T* data() const { return reinterpret_cast<T*>(emulated::here.worker->shared.at(*region_) + offset_); }

 private:
  const emulated::Region* region_;
  int64_t offset_;
};

namespace emulated {

template <class T>
Shared<T> shared_array(const void* key, const char* name, size_t count) {
  return {here.worker->shared.array(key, name, count * sizeof(T)), 0};
}

}  // namespace emulated
}  // namespace recsys_fast

#define RF_SHARED(T, name, ...)     \
  static const char name##_key = 0; \
  const ::recsys_fast::Shared<T> name = ::recsys_fast::emulated::shared_array<T>(&name##_key, #name, (__VA_ARGS__))
#define RF_DYNAMIC_SHARED(T, name) \
  const ::recsys_fast::Shared<T> name{::recsys_fast::emulated::here.worker->shared.dynamic(), 0}
