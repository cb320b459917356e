// The sweeps compiled for each instruction set, and which of these versions a batch gets: chosen
// when it runs, by what the processor has. threads.h calls it.

#pragma once

#include "program.h"
#include "sweeps.h"
#include "worker.h"

#include <atomic>
#include <cstdint>

#if defined(__x86_64__) && !defined(QFL_KERNEL_PORTABLE)
#define TARGET_AVX2 __attribute__((target("avx2,fma")))
#define TARGET_AVX512 __attribute__((target("avx512f,avx2,fma")))
#if defined(_WIN32)
#include <cpuid.h>
extern "C" __declspec(dllimport) int __stdcall IsProcessorFeaturePresent(unsigned long);
#endif
#endif

namespace {

typedef void (*Entry)(const Call&, void* memory, std::atomic<int64_t>& next);

template <class T, int V>
INLINE void work(const Call& call, void* memory, std::atomic<int64_t>& next) {
  Worker<T, V> worker(call, static_cast<T*>(memory));
  for (int64_t chunk; (chunk = next.fetch_add(1)) < call.chunks;) worker.run(chunk);
}

// Code for one instruction set and one number of samples in a block: one vector register each.
// Two registers for a vector leave none for the constants of three turns.
struct Version {
  Entry entry;
  int lanes;
};

#define ENTRY(NAME, ATTRIBUTE, T, LANES)                                      \
  ATTRIBUTE void NAME(const Call& c, void* memory, std::atomic<int64_t>& next) { \
    work<T, LANES>(c, memory, next);                                          \
  }
#define ENTRIES(SUFFIX, ATTRIBUTE)                   \
  ENTRY(float_8_##SUFFIX, ATTRIBUTE, float, 8)       \
  ENTRY(float_4_##SUFFIX, ATTRIBUTE, float, 4)       \
  ENTRY(double_4_##SUFFIX, ATTRIBUTE, double, 4)     \
  ENTRY(double_2_##SUFFIX, ATTRIBUTE, double, 2)

ENTRIES(baseline, )
#ifdef TARGET_AVX2
ENTRIES(avx2, TARGET_AVX2)
ENTRY(float_16_avx512, TARGET_AVX512, float, 16)
ENTRY(double_8_avx512, TARGET_AVX512, double, 8)
#endif

enum Instructions { BASELINE = 0, AVX2 = 1, AVX512 = 2 };

int best_instructions() {
#if defined(TARGET_AVX2) && defined(_WIN32)
  // __builtin_cpu_supports asks a library that clang-cl does not link. 41: AVX-512F, 40: AVX2.
  unsigned a, b, c, d;
  const bool fma = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_FMA);
  if (IsProcessorFeaturePresent(41) && fma) return AVX512;
  if (IsProcessorFeaturePresent(40) && fma) return AVX2;
#elif defined(TARGET_AVX2)
  if (__builtin_cpu_supports("avx512f")) return AVX512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return AVX2;
#endif
  return BASELINE;
}

std::atomic<int> instructions{best_instructions()};

// Small batches take short vectors, so that few of their lanes are idle.
Version choose(bool is_double, int64_t batch) {
#ifdef TARGET_AVX2
  const int level = instructions;
  if (level >= AVX512 && is_double && batch > 4) return {double_8_avx512, 8};
  if (level >= AVX512 && !is_double && batch > 8) return {float_16_avx512, 16};
  if (level >= AVX2 && is_double)
    return batch > 2 ? Version{double_4_avx2, 4} : Version{double_2_avx2, 2};
  if (level >= AVX2) return batch > 4 ? Version{float_8_avx2, 8} : Version{float_4_avx2, 4};
#endif
  if (is_double) return batch > 2 ? Version{double_4_baseline, 4} : Version{double_2_baseline, 2};
  return batch > 4 ? Version{float_8_baseline, 8} : Version{float_4_baseline, 4};
}

}  // namespace
