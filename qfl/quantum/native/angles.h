// Half of each angle, as cosine and sine, and the way back: a derivative by an angle, credited to
// the inputs and weights that the angle is made of. Used by all headers with rotations or phases.

#pragma once

#include "worker.h"

#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

// cos and sin of half of the per-sample angles of this block; idle lanes hold zeros.
template <class T, int V>
INLINE void Worker<T, V>::read_angles() {
  const T *x = static_cast<const T*>(call.inputs) + first * p.inputs;
  const T *w = static_cast<const T*>(call.weights);
  for (int a = 0; a < p.angles; a++) {
    const int slot = p.angle_slot[a];
    if (slot < 0) continue;
    T t[V], c[V], s[V];
    for (int i = 0; i < V; i++) t[i] = T(p.angle_offset[a]);
    for (int j = p.angle_start[a]; j < p.angle_start[a + 1]; j++) {
      const int source = p.term_source[j];
      const T scale = T(p.term_scale[j]);
      if (source >= 0)
        for (int i = 0; i < V; i++) t[i] += scale * w[source];
      else
        for (int i = 0; i < lanes; i++) t[i] += scale * x[int64_t(i) * p.inputs - 1 - source];
    }
    for (int i = 0; i < V; i++) c[i] = std::cos(t[i] / 2), s[i] = std::sin(t[i] / 2);
    std::memcpy(half_cos + slot, c, sizeof(vec));
    std::memcpy(half_sin + slot, s, sizeof(vec));
  }
}

template <class T, int V>
INLINE void Worker<T, V>::half_angle(int angle, vec& c, vec& s) const {
  const int slot = p.angle_slot[angle];
  if (slot >= 0) {
    c = half_cos[slot], s = half_sin[slot];
  } else {
    c = all(static_cast<const T*>(call.half_cos)[angle]);
    s = all(static_cast<const T*>(call.half_sin)[angle]);
  }
}

// Hands the derivative by an angle to the inputs and weights that it is made of.
template <class T, int V>
INLINE void Worker<T, V>::credit(int angle, const vec& derivative) {
  T *gx = static_cast<T*>(call.grad_inputs) + first * p.inputs;
  T *gw = static_cast<T*>(call.grad_weights);
  for (int j = p.angle_start[angle]; j < p.angle_start[angle + 1]; j++) {
    const int source = p.term_source[j];
    const vec d = T(p.term_scale[j]) * derivative;
    if (source < 0)
      for (int i = 0; i < lanes; i++) gx[int64_t(i) * p.inputs - 1 - source] += d[i];
    else if (call.partial)
      weight_sums[source] += d;
    else
      for (int i = 0; i < lanes; i++) gw[(first + i) * p.weights + source] += d[i];
  }
}

}  // namespace
