// Tables of the phases that all samples share, one for each layer that has such phases. threads.h
// builds them before the threads start; those beyond the budget each thread builds (phases.h).

#pragma once

#include "program.h"

#include <cstdint>

namespace {

// Product of exp(-i angle/2 Z..Z) over the shared phases of a layer that stand before (or after)
// its permutation, as 2 * size numbers.
template <class T>
void product_table(const Program& p, int layer, bool before, const T* hc, const T* hs, T* out) {
  const int64_t size = p.size();
  T c[MAX_WIRES], s[MAX_WIRES];
  bool turned[MAX_WIRES] = {};
  const int begin = p.phase_start[layer], end = p.phase_start[layer + 1];
  for (int t = begin; t < end; t++) {
    const int mask = p.phase_mask[t], angle = p.phase_angle[t];
    if (p.angle_slot[angle] >= 0 || bool(p.phase_before[t]) != before || (mask & (mask - 1)))
      continue;  // words of several wires: below
    const int bit = __builtin_ctz(unsigned(mask));
    turned[bit] = true, c[bit] = hc[angle], s[bit] = hs[angle];
  }
  T *re = out, *im = out + size;
  re[0] = 1, im[0] = 0;
  for (int bit = 0; bit < p.wires; bit++) {
    const int64_t half = int64_t(1) << bit;
    const T cb = turned[bit] ? c[bit] : T(1), sb = turned[bit] ? s[bit] : T(0);
    for (int64_t k = 0; k < half; k++) {
      const T x = re[k], y = im[k];
      re[k + half] = cb * x - sb * y, im[k + half] = cb * y + sb * x;
      re[k] = cb * x + sb * y, im[k] = cb * y - sb * x;
    }
  }
  for (int t = begin; t < end; t++) {
    const int mask = p.phase_mask[t], angle = p.phase_angle[t];
    if (p.angle_slot[angle] >= 0 || bool(p.phase_before[t]) != before || !(mask & (mask - 1)))
      continue;
    for (int64_t k = 0; k < size; k++) {
      const T cb = hc[angle], sb = odd(k & mask) ? -hs[angle] : hs[angle], x = re[k], y = im[k];
      re[k] = cb * x + sb * y, im[k] = cb * y - sb * x;
    }
  }
}

// The layer's table: constant phases, phases after the permutation, and those before it seen
// through it. `spare` holds 2 * size numbers.
template <class T>
void build_table(const Program& p, int layer, const T* hc, const T* hs, T* out, T* spare) {
  const int64_t size = p.size();
  product_table(p, layer, false, hc, hs, out);
  bool before = false;
  for (int t = p.phase_start[layer]; t < p.phase_start[layer + 1]; t++)
    before |= p.phase_before[t] != 0;
  if (before) {
    const int32_t* source = p.permutation_source + p.layer_permutation[layer] * size;
    product_table(p, layer, true, hc, hs, spare);
    for (int64_t k = 0; k < size; k++) {
      const T x = out[k], y = out[size + k], a = spare[source[k]], b = spare[size + source[k]];
      out[k] = a * x - b * y, out[size + k] = a * y + b * x;
    }
  }
  if (p.layer_constant[layer] >= 0) {
    const double* constant = p.constant + p.layer_constant[layer] * 2 * size;
    for (int64_t k = 0; k < size; k++) {
      const T x = out[k], y = out[size + k], a = T(constant[k]), b = T(constant[size + k]);
      out[k] = a * x - b * y, out[size + k] = a * y + b * x;
    }
  }
}

}  // namespace
