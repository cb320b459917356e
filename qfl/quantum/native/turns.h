// The second step of a layer: rotations about Y, real numbers, so that real and imaginary parts
// are turned apart. sweeps.h undoes them with the other sign.

#pragma once

#include "angles.h"
#include "worker.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

// One wire, on an array of real or imaginary parts.
template <class vec>
INLINE void turn_one(const vec* from, vec* to, int64_t length, int64_t stride, const vec c,
                     const vec s) {
  for (int64_t high = 0; high < length; high += 2 * stride)
    for (int64_t k = high; k < high + stride; k++) {
      const vec x = from[k], y = from[k + stride];
      to[k] = c * x - s * y;
      to[k + stride] = s * x + c * y;
    }
}

// Two wires at once halves the traffic; strides a > b.
template <class vec>
INLINE void turn_two(const vec* from, vec* to, int64_t length, int64_t a, int64_t b, const vec ca,
                     const vec sa, const vec cb, const vec sb) {
  for (int64_t high = 0; high < length; high += 2 * a)
    for (int64_t middle = high; middle < high + a; middle += 2 * b)
      for (int64_t k = middle; k < middle + b; k++) {
        const vec x0 = from[k], x1 = from[k + b], x2 = from[k + a], x3 = from[k + a + b];
        const vec y0 = cb * x0 - sb * x1, y1 = sb * x0 + cb * x1;
        const vec y2 = cb * x2 - sb * x3, y3 = sb * x2 + cb * x3;
        to[k] = ca * y0 - sa * y2, to[k + a] = sa * y0 + ca * y2;
        to[k + b] = ca * y1 - sa * y3, to[k + a + b] = sa * y1 + ca * y3;
      }
}

// Three wires at once, with tangents: x - t y and t x + y take one multiply-add each, where
// cosine and sine take two. What is left out is the product of the cosines; the last wire may
// bring it in with a cosine and a sine of its own, scaled by it. Strides a > b > d.
template <bool SCALED, class vec>
INLINE void turn_three(const vec* from, vec* to, int64_t length, int64_t a, int64_t b, int64_t d,
                       const vec ta, const vec tb, const vec c, const vec s) {
  for (int64_t i = 0; i < length / 8; i++) {
    int64_t k = (i & (d - 1)) + 2 * (i & -d);  // a zero at the place of each of the three wires
    k += k & -b, k += k & -a;
    const vec *f = from + k, *f1 = f + b, *f2 = f + a, *f3 = f2 + b;
    vec *g = to + k, *g1 = g + b, *g2 = g + a, *g3 = g2 + b;
    const vec x0 = f[0], x1 = f[d], x2 = f1[0], x3 = f1[d];
    const vec x4 = f2[0], x5 = f2[d], x6 = f3[0], x7 = f3[d];
    const vec u0 = x0 - ta * x4, u4 = x4 + ta * x0, u1 = x1 - ta * x5, u5 = x5 + ta * x1;
    const vec u2 = x2 - ta * x6, u6 = x6 + ta * x2, u3 = x3 - ta * x7, u7 = x7 + ta * x3;
    const vec y0 = u0 - tb * u2, y2 = u2 + tb * u0, y1 = u1 - tb * u3, y3 = u3 + tb * u1;
    const vec y4 = u4 - tb * u6, y6 = u6 + tb * u4, y5 = u5 - tb * u7, y7 = u7 + tb * u5;
    if (SCALED) {
      g[0] = c * y0 - s * y1, g[d] = s * y0 + c * y1;
      g1[0] = c * y2 - s * y3, g1[d] = s * y2 + c * y3;
      g2[0] = c * y4 - s * y5, g2[d] = s * y4 + c * y5;
      g3[0] = c * y6 - s * y7, g3[d] = s * y6 + c * y7;
    } else {
      g[0] = y0 - s * y1, g[d] = y1 + s * y0;
      g1[0] = y2 - s * y3, g1[d] = y3 + s * y2;
      g2[0] = y4 - s * y5, g2[d] = y5 + s * y4;
      g3[0] = y6 - s * y7, g3[d] = y7 + s * y6;
    }
  }
}

// Tangents of angles that all samples share, and that are not too large.
template <class T, int V>
INLINE bool Worker<T, V>::has_tangent(int turn) const {
  const int angle = p.turn_angle[turn];
  return p.angle_slot[angle] < 0 && std::abs(static_cast<const T*>(call.half_cos)[angle]) > T(0.1);
}

template <class T, int V>
INLINE int Worker<T, V>::plan_passes(int layer, T sign, Pass* passes) const {
  const T *hc = static_cast<const T*>(call.half_cos), *hs = static_cast<const T*>(call.half_sin);
  const int end = p.turn_start[layer + 1];
  int count = 0;
  T scale = 1;
  for (int t = p.turn_start[layer]; t < end;) {
    Pass& pass = passes[count++];
    pass.turn = t;
    pass.scale = 1;
    if (t + 3 <= end && has_tangent(t) && has_tangent(t + 1) && has_tangent(t + 2)) {
      pass.count = 3;
      for (int j = 0; j < 2; j++) {
        const int angle = p.turn_angle[t + j];
        pass.tangent[j] = sign * hs[angle] / hc[angle];
        scale *= hc[angle];
      }
      const int angle = p.turn_angle[t + 2];
      pass.cosine = hc[angle], pass.sine = sign * hs[angle];
      if (t + 3 < end) scale *= pass.cosine, pass.sine /= pass.cosine;
    } else {
      pass.count = std::min(2, end - t);
    }
    t += pass.count;
    pass.last = t == end;
  }
  if (count) passes[count - 1].scale = scale;
  return count;
}

template <class T, int V>
INLINE void Worker<T, V>::turn_some(const Pass& pass, const vec* from, vec* to, int64_t length,
                                    T sign) {
  const int t = pass.turn;
  if (pass.count == 3) {
    const vec ta = all(pass.tangent[0]), tb = all(pass.tangent[1]);
    const int64_t a = stride_of(t), b = stride_of(t + 1), d = stride_of(t + 2);
    const vec c = all(pass.scale * pass.cosine), s = all(pass.scale * pass.sine);
    if (pass.last) turn_three<true>(from, to, length, a, b, d, ta, tb, c, s);
    else turn_three<false>(from, to, length, a, b, d, ta, tb, c, s);
    return;
  }
  vec ca, sa, cb, sb;
  half_angle(p.turn_angle[t], ca, sa);
  ca *= pass.scale, sa *= sign * pass.scale;
  if (pass.count == 1) {
    turn_one(from, to, length, stride_of(t), ca, sa);
  } else {
    half_angle(p.turn_angle[t + 1], cb, sb);
    turn_two(from, to, length, stride_of(t), stride_of(t + 1), ca, sa, cb, sign * sb);
  }
}

// Turns are sorted by wire, widest strides first: those go over the whole array, the others
// tile by tile. sign -1 undoes.
template <class T, int V>
INLINE void Worker<T, V>::turns(int layer, const vec* state, vec* to_state, T sign) {
  Pass passes[MAX_WIRES];
  const int count = plan_passes(layer, sign, passes);
  if (!count && state != to_state)
    std::memcpy(to_state, state, size_t(2 * size) * sizeof(vec));
  const int64_t tile = std::min(size, TILE);
  for (int part = 0; part < 2; part++) {
    const vec* from = state + part * size;
    vec* to = to_state + part * size;
    int i = 0;
    for (; i < count && 2 * stride_of(passes[i].turn) > tile; i++, from = to)
      turn_some(passes[i], from, to, size, sign);
    for (int64_t base = 0; base < size; base += tile) {
      const vec* here = from + base;
      for (int j = i; j < count; j++, here = to + base)
        turn_some(passes[j], here, to + base, tile, sign);
    }
  }
}

}  // namespace
