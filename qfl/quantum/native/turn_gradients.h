// Derivatives by a layer's rotations about Y (turns.h): all of them in one walk over lambda and
// psi. For the backward sweep in sweeps.h.

#pragma once

#include "angles.h"
#include "worker.h"

#include <algorithm>
#include <cstdint>

namespace {

// Adds Im<lambda|Y|psi> of one or two wires: sum of lambda[1] psi[0] - lambda[0] psi[1] over
// real and imaginary parts. Several sums at once hide the latency of additions.
template <class vec>
INLINE void overlap_one(const vec* l, const vec* s, int64_t length, int64_t a, vec& y) {
  vec u0 = vec{}, u1 = vec{};
  for (int64_t high = 0; high < length; high += 2 * a)
    for (int64_t k = high; k < high + a; k++) {
      u0 += l[k + a] * s[k];
      u1 += l[k] * s[k + a];
    }
  y += u0 - u1;
}

template <class vec>
INLINE void overlap_two(const vec* l, const vec* s, int64_t length, int64_t a, int64_t b, vec& ya,
                        vec& yb) {
  vec u0 = vec{}, u1 = vec{}, u2 = vec{}, u3 = vec{};
  vec w0 = vec{}, w1 = vec{}, w2 = vec{}, w3 = vec{};
  for (int64_t high = 0; high < length; high += 2 * a)
    for (int64_t middle = high; middle < high + a; middle += 2 * b)
      for (int64_t k = middle; k < middle + b; k++) {
        const vec l0 = l[k], l1 = l[k + b], l2 = l[k + a], l3 = l[k + a + b];
        const vec s0 = s[k], s1 = s[k + b], s2 = s[k + a], s3 = s[k + a + b];
        u0 += l2 * s0, u1 += l0 * s2, u2 += l3 * s1, u3 += l1 * s3;
        w0 += l1 * s0, w1 += l0 * s1, w2 += l3 * s2, w3 += l2 * s3;
      }
  ya += (u0 - u1) + (u2 - u3);
  yb += (w0 - w1) + (w2 - w3);
}

template <class T, int V>
INLINE void Worker<T, V>::overlap_some(int turn, int count, const vec* l, const vec* s,
                                       int64_t length, vec* y) {
  if (count == 1) overlap_one(l, s, length, stride_of(turn), y[0]);
  else overlap_two(l, s, length, stride_of(turn), stride_of(turn + 1), y[0], y[1]);
}

// Derivatives by a layer's turns, given psi and lambda before (or behind) all of them.
template <class T, int V>
INLINE void Worker<T, V>::credit_turns(int layer, const vec* state) {
  const int begin = p.turn_start[layer], end = p.turn_start[layer + 1];
  const int64_t tile = std::min(size, TILE);
  vec y[MAX_WIRES];
  for (int t = begin; t < end; t++) y[t - begin] = all(0);
  for (int part = 0; part < 2; part++) {
    const vec *l = lam + part * size, *s = state + part * size;
    int t = begin;
    for (; t < end && 2 * stride_of(t) > tile; t += 2)
      overlap_some(t, std::min(2, end - t), l, s, size, y + (t - begin));
    for (int64_t base = 0; base < size; base += tile)
      for (int u = t; u < end; u += 2)
        overlap_some(u, std::min(2, end - u), l + base, s + base, tile, y + (u - begin));
  }
  for (int t = begin; t < end; t++) credit(p.turn_angle[t], y[t - begin]);
}

}  // namespace
