// The first step of a layer: every diagonal and permutation in one pass; how a state goes back
// through it, and the derivatives by its angles. For sweeps.h.

#pragma once

#include "angles.h"
#include "signs.h"
#include "tables.h"
#include "worker.h"

#include <cstdint>
#include <cstring>
#include <utility>

namespace {

template <class T, int V>
INLINE const T* Worker<T, V>::table(int layer) {
  const int number = p.layer_table[layer];
  if (number < 0) return nullptr;
  if (number < call.cached) return static_cast<const T*>(call.tables) + number * 2 * size;
  if (own_layer != layer) {
    build_table(p, layer, static_cast<const T*>(call.half_cos),
                static_cast<const T*>(call.half_sin), own_table, own_spare);
    own_layer = layer;
  }
  return own_table;
}

// Phases by angles of each sample: always after the permutation, one pass for each.
template <class T, int V>
INLINE void Worker<T, V>::sample_phases(int layer, vec* state, T sign) {
  for (int t = p.phase_start[layer]; t < p.phase_start[layer + 1]; t++) {
    if (p.angle_slot[p.phase_angle[t]] < 0) continue;
    const int64_t mask = p.phase_mask[t];
    vec c, s;
    half_angle(p.phase_angle[t], c, s);
    const vec signed_sin[2] = {sign * s, -sign * s};
    vec *re = state, *im = state + size;
    for (int64_t k = 0; k < size; k++) {
      const vec x = re[k], y = im[k], e = signed_sin[odd(k & mask)];
      re[k] = c * x + e * y;
      im[k] = c * y - e * x;
    }
  }
}

// `to` may be `from` where the layer does not permute.
template <class T, int V>
INLINE void Worker<T, V>::phases(int layer, const vec* from, vec* to) {
  const T *f = table(layer), *g = f ? f + size : nullptr;
  const vec *re = from, *im = from + size;
  vec *out = to, *out_im = to + size;
  if (permutes(layer)) {
    const int32_t* source = p.permutation_source + p.layer_permutation[layer] * size;
    if (f)
      for (int64_t k = 0; k < size; k++) {
        const vec x = re[source[k]], y = im[source[k]];
        out[k] = f[k] * x - g[k] * y;
        out_im[k] = f[k] * y + g[k] * x;
      }
    else
      for (int64_t k = 0; k < size; k++) out[k] = re[source[k]], out_im[k] = im[source[k]];
  } else if (f) {
    for (int64_t k = 0; k < size; k++) {
      const vec x = re[k], y = im[k];
      out[k] = f[k] * x - g[k] * y;
      out_im[k] = f[k] * y + g[k] * x;
    }
  } else if (from != to) {
    std::memcpy(to, from, size_t(2 * size) * sizeof(vec));
  }
  sample_phases(layer, to, T(1));
}

// Undoes `phases` on a state; exchanges it with `spare` where the layer permutes.
template <class T, int V>
INLINE void Worker<T, V>::undo_phases(int layer, vec*& state) {
  sample_phases(layer, state, T(-1));
  const T *f = table(layer), *g = f ? f + size : nullptr;
  const vec *re = state, *im = state + size;
  if (permutes(layer)) {
    vec *out = spare, *out_im = spare + size;
    const int32_t* inverse = p.permutation_inverse + p.layer_permutation[layer] * size;
    if (f)
      for (int64_t k = 0; k < size; k++) {
        const int64_t j = inverse[k];
        const vec x = re[j], y = im[j];
        out[k] = f[j] * x + g[j] * y;
        out_im[k] = f[j] * y - g[j] * x;
      }
    else
      for (int64_t k = 0; k < size; k++) out[k] = re[inverse[k]], out_im[k] = im[inverse[k]];
    std::swap(state, spare);
  } else if (f) {
    vec *out = state, *out_im = state + size;
    for (int64_t k = 0; k < size; k++) {
      const vec x = re[k], y = im[k];
      out[k] = f[k] * x + g[k] * y;
      out_im[k] = f[k] * y - g[k] * x;
    }
  }
}

// Derivatives by a layer's phases, given psi and lambda behind them.
template <class T, int V>
INLINE void Worker<T, V>::credit_phases(int layer, const vec* state) {
  const int begin = p.phase_start[layer], end = p.phase_start[layer + 1];
  bool before = false, after = false, word[2] = {false, false};
  for (int t = begin; t < end; t++) {
    if (p.angle_start[p.phase_angle[t]] == p.angle_start[p.phase_angle[t] + 1]) continue;
    (p.phase_before[t] ? before : after) = true;
    word[p.phase_before[t] != 0] |= (p.phase_mask[t] & (p.phase_mask[t] - 1)) != 0;
  }
  const vec *pr = state, *pi = state + size, *lr = lam, *li = lam + size;
  if (after) {
    for (int64_t k = 0; k < size; k++) real[k] = lr[k] * pi[k] - li[k] * pr[k];
    credit_words(layer, false, word[0]);
  }
  if (before) {  // the same numbers, seen from before the permutation
    const int32_t* inverse = p.permutation_inverse + p.layer_permutation[layer] * size;
    for (int64_t k = 0; k < size; k++) {
      const int64_t j = inverse[k];
      real[k] = lr[j] * pi[j] - li[j] * pr[j];
    }
    credit_words(layer, true, word[1]);
  }
}

template <class T, int V>
INLINE void Worker<T, V>::credit_words(int layer, bool before, bool words) {
  vec z[MAX_WIRES];
  if (words) transform(); else sum_each_bit(z);
  for (int t = p.phase_start[layer]; t < p.phase_start[layer + 1]; t++) {
    if (bool(p.phase_before[t]) != before) continue;
    const int mask = p.phase_mask[t];
    credit(p.phase_angle[t], words ? real[mask] : z[__builtin_ctz(unsigned(mask))]);
  }
}

}  // namespace
