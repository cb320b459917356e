// The third step of a layer: fixed two-wire unitaries, if there are any, and their inverses. For
// sweeps.h.

#pragma once

#include "worker.h"

#include <algorithm>
#include <cstdint>

namespace {

template <class T, int V>
INLINE void Worker<T, V>::dense_one(int gate, vec* state, bool undo) {
  const int64_t a = size >> (1 + p.dense_wires[2 * gate]);
  const int64_t b = size >> (1 + p.dense_wires[2 * gate + 1]);
  const int64_t wide = std::max(a, b), narrow = std::min(a, b), offset[4] = {0, b, a, a + b};
  const double* matrix = p.dense_matrix + 32 * gate;
  T mr[4][4], mi[4][4];
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < 4; j++) {
      const int from = undo ? 4 * j + i : 4 * i + j;
      mr[i][j] = T(matrix[from]), mi[i][j] = T(undo ? -matrix[16 + from] : matrix[16 + from]);
    }
  vec *re = state, *im = state + size;
  for (int64_t high = 0; high < size; high += 2 * wide)
    for (int64_t middle = high; middle < high + wide; middle += 2 * narrow)
      for (int64_t k = middle; k < middle + narrow; k++) {
        vec x[4], y[4];
        for (int j = 0; j < 4; j++) x[j] = re[k + offset[j]], y[j] = im[k + offset[j]];
        for (int i = 0; i < 4; i++) {
          vec u = vec{}, v = vec{};
          for (int j = 0; j < 4; j++) {
            u += mr[i][j] * x[j] - mi[i][j] * y[j];
            v += mr[i][j] * y[j] + mi[i][j] * x[j];
          }
          re[k + offset[i]] = u, im[k + offset[i]] = v;
        }
      }
}

template <class T, int V>
INLINE void Worker<T, V>::dense(int layer, vec* state, bool undo) {
  const int begin = p.dense_start[layer], count = p.dense_start[layer + 1] - begin;
  for (int g = 0; g < count; g++) dense_one(undo ? begin + count - 1 - g : begin + g, state, undo);
}

}  // namespace
