// The two sweeps over a block of samples: forward through the layers, and backward by the adjoint
// method. instructions.h compiles them for each instruction set.

#pragma once

#include "angles.h"
#include "dense.h"
#include "first_state.h"
#include "measure.h"
#include "phases.h"
#include "turn_gradients.h"
#include "turns.h"
#include "worker.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>

namespace {

// Leaves the final state in psi. With a gradient, the states before the turns of the last
// `layout.kept` layers are kept.
template <class T, int V>
INLINE void Worker<T, V>::forward() {
  first_state(psi);
  for (int l = 0; l < p.layers; l++) {
    if (is_kept(l)) {
      phases(l, psi, kept_state(l));
      turns(l, kept_state(l), psi, T(1));
    } else {
      vec* to = permutes(l) ? spare : psi;
      phases(l, psi, to);
      if (to == spare) std::swap(psi, spare);
      turns(l, psi, psi, T(1));
    }
    dense(l, psi, false);
  }
}

template <class T, int V>
INLINE void Worker<T, V>::backward() {
  start_lambda(psi);
  for (int l = p.layers - 1; l >= 0; l--) {
    dense(l, lam, true);
    turns(l, lam, lam, T(-1));
    const vec* before_turns;
    if (is_kept(l)) {
      before_turns = kept_state(l);
    } else {
      // The first layer that was not kept starts from the oldest one that was.
      if (l + 1 < p.layers) {
        if (is_kept(l + 1)) std::memcpy(psi, kept_state(l + 1), size_t(2 * size) * sizeof(vec));
        undo_phases(l + 1, psi);
      }
      dense(l, psi, true);
      turns(l, psi, psi, T(-1));
      before_turns = psi;
    }
    credit_turns(l, before_turns);
    credit_phases(l, before_turns);
    undo_phases(l, lam);
  }
  credit_first();
}

// One chunk: the threads share a batch by chunks of blocks.
template <class T, int V>
INLINE void Worker<T, V>::run(int64_t chunk) {
  const int64_t begin = call.blocks * chunk / call.chunks;
  const int64_t end = call.blocks * (chunk + 1) / call.chunks;
  if (call.partial) for (int w = 0; w < p.weights; w++) weight_sums[w] = all(0);
  for (int64_t block = begin; block < end; block++) {
    first = block * V;
    lanes = int(std::min<int64_t>(V, call.batch - first));
    read_angles();
    forward();
    if (call.grad_outputs) backward(); else measure(psi);
  }
  if (call.partial)
    for (int w = 0; w < p.weights; w++) {
      double sum = 0;
      for (int i = 0; i < V; i++) sum += double(weight_sums[w][i]);
      call.partial[chunk * p.weights + w] = sum;
    }
}

}  // namespace
