// The state before the first layer, and the derivatives by what it is made of: amplitudes among
// the inputs, or the product of one column of two numbers for each wire, into which the wire's
// leading rotations have melted. sweeps.h starts forward and ends backward here.

#pragma once

#include "angles.h"
#include "worker.h"

#include <cstdint>

namespace {

// Columns (a, b) of the wires' leading rotations applied to |0>: real and imaginary parts.
template <class T, int V>
INLINE void Worker<T, V>::build_columns() {
  for (int q = 0; q < p.wires; q++) {
    vec ar = all(1), ai = all(0), br = all(0), bi = all(0);
    for (int j = p.chain_start[q]; j < p.chain_start[q + 1]; j++) {
      vec c, s;
      half_angle(p.factor_angle[j], c, s);
      const vec a = ar, b = ai, d = br, e = bi;
      if (p.factor_axis[j] == 0)
        ar = c * a + s * e, ai = c * b - s * d, br = c * d + s * b, bi = c * e - s * a;
      else if (p.factor_axis[j] == 1)
        ar = c * a - s * d, ai = c * b - s * e, br = c * d + s * a, bi = c * e + s * b;
      else
        ar = c * a + s * b, ai = c * b - s * a, br = c * d - s * e, bi = c * e + s * d;
    }
    columns[q][0] = ar, columns[q][1] = ai, columns[q][2] = br, columns[q][3] = bi;
  }
}

// Product of the columns of wires from..to-1 into re, im of length 2**(to - from).
template <class T, int V>
INLINE void Worker<T, V>::build_product(int from, int to, vec* re, vec* im) {
  re[0] = all(1), im[0] = all(0);
  int64_t half = 1;
  for (int q = to - 1; q >= from; q--, half *= 2) {
    const vec ar = columns[q][0], ai = columns[q][1], br = columns[q][2], bi = columns[q][3];
    for (int64_t k = 0; k < half; k++) {
      const vec x = re[k], y = im[k];
      re[k + half] = br * x - bi * y, im[k + half] = br * y + bi * x;
      re[k] = ar * x - ai * y, im[k] = ar * y + ai * x;
    }
  }
}

template <class T, int V>
INLINE auto Worker<T, V>::split() const -> Halves {
  const int64_t high = int64_t(1) << (p.wires / 2), low = size / high;
  return {high, low, halves, halves + 2 * low, halves + 4 * low, halves + 6 * low};
}

template <class T, int V>
INLINE void Worker<T, V>::first_state(vec* out) {
  if (p.amplitudes < 0) {
    product_state(out);
    return;
  }
  const T* x = static_cast<const T*>(call.inputs) + first * p.inputs + p.amplitudes;
  for (int64_t k = 0; k < 2 * size; k++) {
    vec a = vec{};
    for (int i = 0; i < lanes; i++) a[i] = x[int64_t(i) * p.inputs + k];
    out[k] = a;
  }
}

// Derivatives by what the first state is made of, given lambda there.
template <class T, int V>
INLINE void Worker<T, V>::credit_first() {
  if (p.amplitudes < 0) {
    credit_columns();
    return;
  }
  T* gx = static_cast<T*>(call.grad_inputs) + first * p.inputs + p.amplitudes;
  for (int64_t k = 0; k < 2 * size; k++)
    for (int i = 0; i < lanes; i++) gx[int64_t(i) * p.inputs + k] += 2 * lam[k][i];
}

template <class T, int V>
INLINE void Worker<T, V>::product_state(vec* out) {
  build_columns();
  const Halves h = split();
  build_product(0, p.wires / 2, h.a, h.a + h.high);
  build_product(p.wires / 2, p.wires, h.b, h.b + h.low);
  for (int64_t i = 0; i < h.high; i++) {
    const vec x = h.a[i], y = h.a[h.high + i];
    vec *re = out + i * h.low, *im = re + size;
    const vec *br = h.b, *bi = h.b + h.low;
    for (int64_t j = 0; j < h.low; j++) {
      re[j] = x * br[j] - y * bi[j];
      im[j] = x * bi[j] + y * br[j];
    }
  }
}

// Derivatives by the angles of the leading rotations, given lambda there.
template <class T, int V>
INLINE void Worker<T, V>::credit_columns() {
  const Halves h = split();
  vec *ur = h.u, *ui = h.u + h.high, *wr = h.w, *wi = h.w + h.low;
  const vec *br = h.b, *bi = h.b + h.low;
  for (int64_t j = 0; j < h.low; j++) wr[j] = all(0), wi[j] = all(0);
  for (int64_t i = 0; i < h.high; i++) {
    vec xr = all(0), xi = all(0);
    const vec ar = h.a[i], ai = h.a[h.high + i];
    const vec *re = lam + i * h.low, *im = re + size;
    for (int64_t j = 0; j < h.low; j++) {
      const vec lr = re[j], li = im[j];
      xr += lr * br[j] + li * bi[j];
      xi += lr * bi[j] - li * br[j];
      wr[j] += lr * ar + li * ai;
      wi[j] += lr * ai - li * ar;
    }
    ur[i] = xr, ui[i] = xi;
  }
  credit_half(0, p.wires / 2, h.u, h.a, h.high);
  credit_half(p.wires / 2, p.wires, h.w, h.b, h.low);
}

// The vector t = Im(sum_k left[k] (sigma right)[k]) of each wire behind its last rotation. Going
// back through a rotation turns t about its axis, so one t gives the whole chain's derivatives.
template <class T, int V>
INLINE void Worker<T, V>::credit_half(int from, int to, const vec* left, const vec* right,
                                      int64_t length) {
  const vec *lr = left, *li = left + length, *rr = right, *ri = right + length;
  for (int q = from; q < to; q++) {
    if (p.chain_start[q] == p.chain_start[q + 1]) continue;
    const int64_t stride = int64_t(1) << (to - 1 - q);
    vec t[3] = {all(0), all(0), all(0)};
    for (int64_t high = 0; high < length; high += 2 * stride)
      for (int64_t k = high, m = high + stride; k < high + stride; k++, m++) {
        t[0] += lr[k] * ri[m] + li[k] * rr[m] + lr[m] * ri[k] + li[m] * rr[k];
        t[1] += lr[m] * rr[k] - li[m] * ri[k] - lr[k] * rr[m] + li[k] * ri[m];
        t[2] += lr[k] * ri[k] + li[k] * rr[k] - lr[m] * ri[m] - li[m] * rr[m];
      }
    for (int j = p.chain_start[q + 1] - 1; j >= p.chain_start[q]; j--) {
      const int axis = p.factor_axis[j], next = (axis + 1) % 3, last = (axis + 2) % 3;
      credit(p.factor_angle[j], t[axis]);
      vec hc, hs;
      half_angle(p.factor_angle[j], hc, hs);
      const vec c = hc * hc - hs * hs, s = T(2) * hc * hs, u = t[next], w = t[last];
      t[next] = c * u + s * w, t[last] = c * w - s * u;
    }
  }
}

}  // namespace
