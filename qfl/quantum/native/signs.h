// Sums of a block's real array with the signs that words of Z give amplitudes: a word of one wire
// the sign of a bit of the amplitude's number, a longer one that of a parity. For phases.h and
// measure.h.

#pragma once

#include "worker.h"

#include <cstdint>

namespace {

// z[b] = sum over k of real[k] * (-1)**(bit b of k), for all b, by halving; spoils `real`.
template <class T, int V>
INLINE void Worker<T, V>::sum_each_bit(vec* z) {
  int64_t half = size / 2;
  for (int bit = 0; bit < p.wires; bit++, half /= 2) {
    vec even = all(0), odds = all(0);
    for (int64_t k = 0; k < half; k++) {
      const vec a = real[2 * k], b = real[2 * k + 1];
      even += a, odds += b;
      real[k] = a + b;
    }
    z[bit] = even - odds;
  }
}

// The reverse: real[k] = sum over b of z[b] * (-1)**(bit b of k), by doubling.
template <class T, int V>
INLINE void Worker<T, V>::spread_each_bit(const vec* z) {
  real[0] = all(0);
  for (int bit = 0; bit < p.wires; bit++) {
    const int64_t half = int64_t(1) << bit;
    for (int64_t k = 0; k < half; k++) {
      const vec a = real[k];
      real[k + half] = a - z[bit];
      real[k] = a + z[bit];
    }
  }
}

// Walsh-Hadamard: real[m] = sum over k of real[k] * (-1)**popcount(k & m), in place.
template <class T, int V>
INLINE void Worker<T, V>::transform() {
  for (int64_t stride = 1; stride < size; stride *= 2)
    for (int64_t high = 0; high < size; high += 2 * stride)
      for (int64_t k = high; k < high + stride; k++) {
        const vec a = real[k], b = real[k + stride];
        real[k] = a + b, real[k + stride] = a - b;
      }
}

}  // namespace
