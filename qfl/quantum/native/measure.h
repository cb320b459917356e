// What is read from the final state: expectations, probabilities or the state itself; and lambda,
// which the gradients of these outputs make of it. sweeps.h ends forward and starts backward here.

#pragma once

#include "signs.h"
#include "worker.h"

#include <cstdint>

namespace {

template <class T, int V>
INLINE void Worker<T, V>::write_output(int output, const vec& value) {
  T* out = static_cast<T*>(call.outputs) + first * p.outputs + output;
  for (int i = 0; i < lanes; i++) out[int64_t(i) * p.outputs] = value[i];
}

template <class T, int V>
INLINE auto Worker<T, V>::grad_output(int output) const -> vec {
  const T* in = static_cast<const T*>(call.grad_outputs) + first * p.outputs + output;
  vec g = vec{};
  for (int i = 0; i < lanes; i++) g[i] = in[int64_t(i) * p.outputs];
  return g;
}

// A Pauli word is i**(number of Y) X**x Z**z: it takes amplitude k ^ x to k with this factor.
// Returns whether the factor is imaginary; `negative` is its sign apart from Z's at k = 0.
template <class T, int V>
INLINE bool Worker<T, V>::word_phase(int word, bool& negative) const {
  const int y = p.word_y[word] & 3;
  negative = y >= 2;
  return y & 1;
}

template <class T, int V>
INLINE void Worker<T, V>::measure(const vec* state) {
  const vec *re = state, *im = state + size;
  if (p.measurement == STATE) {
    for (int64_t k = 0; k < 2 * size; k++) write_output(int(k), state[k]);
  } else if (p.measurement == PROBABILITIES) {
    for (int o = 0; o < p.outputs; o++) real[o] = all(0);
    for (int64_t k = 0; k < size; k++) real[p.outcome[k]] += re[k] * re[k] + im[k] * im[k];
    for (int o = 0; o < p.outputs; o++) write_output(o, real[o]);
  } else if (p.measurement == PAULI_WORDS) {
    for (int o = 0; o < p.outputs; o++) {
      vec total = all(0);
      for (int t = p.word_start[o]; t < p.word_start[o + 1]; t++) {
        const int64_t x = p.word_x[t], z = p.word_z[t];
        bool negative;
        const bool imaginary = word_phase(t, negative);
        vec plus = all(0), minus = all(0);
        for (int64_t k = 0; k < size; k++) {
          const int64_t j = k ^ x;
          // real part of conj(state[k]) * (1 or i) * state[j]
          const vec e = imaginary ? im[k] * re[j] - re[k] * im[j] : re[k] * re[j] + im[k] * im[j];
          if (odd(j & z)) minus += e; else plus += e;
        }
        const T coefficient = T(p.word_coefficient[t]);
        total += (negative ? -coefficient : coefficient) * (plus - minus);
      }
      write_output(o, total);
    }
  } else {
    for (int64_t k = 0; k < size; k++) {
      const int64_t j = p.read_source ? p.read_source[k] : k;
      real[k] = re[j] * re[j] + im[j] * im[j];
    }
    vec z[MAX_WIRES];
    const bool words = p.measurement == Z_WORDS;
    if (words) transform(); else sum_each_bit(z);
    for (int o = 0; o < p.outputs; o++) {
      vec total = all(0);
      for (int t = p.word_start[o]; t < p.word_start[o + 1]; t++)
        total += T(p.word_coefficient[t]) *
                 (words ? real[p.word_z[t]] : z[__builtin_ctz(unsigned(p.word_z[t]))]);
      write_output(o, total);
    }
  }
}

// lambda = sum over outputs of (gradient of output) * (its observable) applied to psi.
template <class T, int V>
INLINE void Worker<T, V>::start_lambda(const vec* state) {
  const vec *re = state, *im = state + size;
  vec *lr = lam, *li = lam + size;
  if (p.measurement == STATE) {
    for (int64_t k = 0; k < 2 * size; k++) lam[k] = T(0.5) * grad_output(int(k));
    return;
  }
  if (p.measurement == PAULI_WORDS) {
    for (int64_t k = 0; k < 2 * size; k++) lam[k] = all(0);
    for (int o = 0; o < p.outputs; o++) {
      const vec g = grad_output(o);
      for (int t = p.word_start[o]; t < p.word_start[o + 1]; t++) {
        const int64_t x = p.word_x[t], z = p.word_z[t];
        bool negative;
        const bool imaginary = word_phase(t, negative);
        const vec e = T(negative ? -p.word_coefficient[t] : p.word_coefficient[t]) * g;
        const vec signed_e[2] = {e, -e};
        for (int64_t k = 0; k < size; k++) {
          const int64_t j = k ^ x;
          const vec f = signed_e[odd(j & z)];
          if (imaginary) lr[k] -= f * im[j], li[k] += f * re[j];
          else lr[k] += f * re[j], li[k] += f * im[j];
        }
      }
    }
    return;
  }
  if (p.measurement == PROBABILITIES) {
    for (int o = 0; o < p.outputs; o++) real[o] = grad_output(o);
  } else if (p.measurement == Z_WORDS) {
    for (int64_t k = 0; k < size; k++) real[k] = all(0);
    for (int o = 0; o < p.outputs; o++)
      for (int t = p.word_start[o]; t < p.word_start[o + 1]; t++)
        real[p.word_z[t]] += T(p.word_coefficient[t]) * grad_output(o);
    transform();
  } else {
    vec z[MAX_WIRES];
    for (int q = 0; q < p.wires; q++) z[q] = all(0);
    for (int o = 0; o < p.outputs; o++)
      z[__builtin_ctz(unsigned(p.word_z[o]))] += T(p.word_coefficient[o]) * grad_output(o);
    spread_each_bit(z);
  }
  const int32_t* at = p.measurement == PROBABILITIES ? p.outcome : p.read_inverse;
  for (int64_t k = 0; k < size; k++) {
    const vec g = real[at ? at[k] : k];
    lr[k] = g * re[k], li[k] = g * im[k];
  }
}

}  // namespace
