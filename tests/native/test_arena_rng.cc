// The arena hands out aligned, disjoint memory and refuses more than was asked for; the generator's published vectors.
#include <new>
#include <thread>

#include "check.h"
#include "core/arena.h"

namespace recsys_fast {
namespace {

RF_CASE(arena_memory_is_aligned_and_disjoint) {
  Arena arena;
  for (const size_t n : {1, 3, 16, 17, 1000}) {
    arena.reset(Arena::padded<float>(n) + Arena::padded<int64_t>(n) + Arena::padded<char>(n));
    float* a = arena.take<float>(n);
    int64_t* b = arena.take<int64_t>(n);
    char* c = arena.take<char>(n);
    for (const void* p : {static_cast<void*>(a), static_cast<void*>(b), static_cast<void*>(c)}) {
      CHECK_AT(reinterpret_cast<uintptr_t>(p) % Arena::kAlign == 0, n);
    }
    for (size_t i = 0; i < n; ++i) {
      a[i] = 1.0f;
      b[i] = 2;
      c[i] = 3;
    }
    for (size_t i = 0; i < n; ++i) CHECK_AT(a[i] == 1.0f && b[i] == 2 && c[i] == 3, n);
  }
}

RF_CASE(arena_refuses_more_than_was_reserved) {
  Arena arena;
  CHECK_THROWS(arena.take<float>(1), std::bad_alloc);
  arena.reset(Arena::padded<float>(100));
  arena.take<float>(100);
  CHECK_THROWS(arena.take<char>(1), std::bad_alloc);
}

RF_CASE(arena_keeps_its_block) {
  Arena arena;
  arena.reset(4096);
  const float* first = arena.take<float>(10);
  arena.reset(2048);
  CHECK(arena.take<float>(10) == first);
}

RF_CASE(arena_gives_a_huge_block_back) {
  Arena arena;
  arena.reset(size_t{64} << 20);
  arena.take<char>(1);
  arena.reset(64);
  arena.take<char>(64);
  CHECK_THROWS(arena.take<char>(1), std::bad_alloc);  // the large block would have had room
}

RF_CASE(arena_is_one_per_thread) {
  const Arena* other = nullptr;
  std::thread([&] { other = &thread_arena(); }).join();
  CHECK(other != &thread_arena());
}

RF_CASE(rng_gives_the_published_vectors) {
  // Known answers of Philox4x32-10 as distributed with the authors' library.
  CHECK((philox4x32({0, 0, 0, 0}, 0, 0) == Philox{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u}));
  constexpr uint32_t kOnes = 0xffffffffu;
  CHECK((philox4x32({kOnes, kOnes, kOnes, kOnes}, kOnes, kOnes) ==
         Philox{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu}));
  CHECK((philox4x32({0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}, 0xa4093822u, 0x299f31d0u) ==
         Philox{0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u}));
}

RF_CASE(rng_draw_lays_out_its_counter) {
  const uint64_t seed = 0x299f31d0a4093822u, sample = 0x85a308d3243f6a88u;
  const Philox block = {0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u};
  for (uint32_t word = 0; word < 4; ++word) {
    // block number 0x03707344 holds the draws k = 4 * block + word, modulo 2^32
    CHECK_AT(draw4(seed, 0x13198a2eu, sample, 0x03707344u)[word] == block[word], word);
    CHECK_AT(draw(seed, 0x13198a2eu, sample, 0x03707344u * 4u + word) == block[word], word);
  }
}

RF_CASE(rng_ranges_hold) {
  for (const int32_t n : {1, 2, 3, 1000, 2147483647}) {
    for (const uint32_t bits : {0u, 1u, 0x7fffffffu, 0x80000000u, 0xffffffffu}) {
      const int32_t at = to_range(bits, n);
      CHECK_AT(at >= 0 && at < n, n);
    }
    CHECK_AT(to_range(0xffffffffu, n) == n - 1, n);
  }
  CHECK(to_unit(0) == 0.0 && to_unit(0xffffffffu) < 1.0);
}

}  // namespace
}  // namespace recsys_fast
