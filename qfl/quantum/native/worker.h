// One thread's work: its memory, the block of samples that it is at, and the steps that it takes,
// each with the header that defines it. instructions.h makes a Worker for each instruction set.

#pragma once

#include "program.h"

#include <algorithm>
#include <cstdint>

namespace {

// How a thread's scratch memory is laid out, in numbers of type T.
struct Layout {
  int64_t state, kept, halves, tables, angles, weights, total;

  Layout(const Program& p, int64_t lanes, int64_t bytes, bool gradient) {
    state = 2 * p.size() * lanes;
    kept = gradient ? std::min<int64_t>(p.layers, BUDGET / (state * bytes)) : 0;
    halves = 8 * lanes * (int64_t(1) << (p.wires - p.wires / 2));
    tables = 4 * p.size();
    angles = 2 * lanes * p.sample_angles;
    weights = gradient ? lanes * p.weights : 0;
    // psi, its copy under a permutation, lambda; a real array of the state's length
    const int64_t states = (gradient ? 3 : 2) * state + state / 2;
    total = states + kept * state + halves + tables + angles + weights;
  }
};

// A block is V samples; every vector holds one number of each. States are `size` real parts, then
// `size` imaginary parts.
template <class T, int V>
struct Worker {
  typedef T vec __attribute__((vector_size(sizeof(T) * V)));
  // Wires whose passes fit in this many amplitudes are done tile by tile, in the first cache.
  static constexpr int64_t TILE = 16384 / int64_t(sizeof(vec));

  const Program& p;
  const Call& call;
  const int64_t size;
  const Layout layout;
  vec *psi, *spare, *lam, *real, *kept, *halves, *half_cos, *half_sin, *weight_sums;
  T *own_table, *own_spare;
  int own_layer = -1;
  int64_t first = 0;  // first sample of the block
  int lanes = 0;      // samples in the block, at most V
  vec columns[MAX_WIRES][4];

  INLINE Worker(const Call& c, T* memory)
      : p(*c.program), call(c), size(c.program->size()),
        layout(*c.program, V, sizeof(T), c.grad_outputs != nullptr) {
    vec* next = reinterpret_cast<vec*>(memory);
    const auto take = [&next](int64_t numbers) {
      vec* here = next;
      next += numbers / V;
      return here;
    };
    psi = take(layout.state), spare = take(layout.state);
    lam = call.grad_outputs ? take(layout.state) : nullptr;
    real = take(layout.state / 2), kept = take(layout.kept * layout.state);
    halves = take(layout.halves);
    half_cos = take(layout.angles / 2), half_sin = take(layout.angles / 2);
    weight_sums = take(layout.weights);
    own_table = reinterpret_cast<T*>(next), own_spare = own_table + 2 * size;
  }

  static INLINE vec all(T x) { return x + vec{}; }

  // Half angles, and derivatives by them (angles.h).
  void read_angles();
  void half_angle(int angle, vec& c, vec& s) const;
  void credit(int angle, const vec& derivative);

  // The state before the first layer (first_state.h). Halves are those of the wires: first (length
  // high) and last (length low), and room for the contractions of lambda with them.
  struct Halves { int64_t high, low; vec *a, *b, *u, *w; };
  void build_columns();
  void build_product(int from, int to, vec* re, vec* im);
  Halves split() const;
  void first_state(vec* out);
  void credit_first();
  void product_state(vec* out);
  void credit_columns();
  void credit_half(int from, int to, const vec* left, const vec* right, int64_t length);

  // A layer's phases and permutation (phases.h).
  INLINE bool permutes(int layer) const { return p.layer_permutation[layer] >= 0; }
  const T* table(int layer);
  void sample_phases(int layer, vec* state, T sign);
  void phases(int layer, const vec* from, vec* to);
  void undo_phases(int layer, vec*& state);
  void credit_phases(int layer, const vec* state);
  void credit_words(int layer, bool before, bool words);

  // Sums with signs over `real` (signs.h).
  void sum_each_bit(vec* z);
  void spread_each_bit(const vec* z);
  void transform();

  // A layer's rotations about Y (turns.h). A pass turns some wires at once: three by tangents, or
  // one or two with constants of their own. `scale` is what the passes before have left out, where
  // this is the last.
  struct Pass {
    int turn, count;
    bool last;
    T tangent[2], cosine, sine, scale;
  };
  INLINE int64_t stride_of(int turn) const { return size >> (1 + p.turn_wire[turn]); }
  bool has_tangent(int turn) const;
  int plan_passes(int layer, T sign, Pass* passes) const;
  void turn_some(const Pass& pass, const vec* from, vec* to, int64_t length, T sign);
  void turns(int layer, const vec* state, vec* to_state, T sign);

  // Derivatives by them (turn_gradients.h).
  void overlap_some(int turn, int count, const vec* l, const vec* s, int64_t length, vec* y);
  void credit_turns(int layer, const vec* state);

  // A layer's fixed two-wire unitaries (dense.h).
  void dense_one(int gate, vec* state, bool undo);
  void dense(int layer, vec* state, bool undo);

  // Outputs, and lambda from their gradients (measure.h).
  void write_output(int output, const vec& value);
  vec grad_output(int output) const;
  bool word_phase(int word, bool& negative) const;
  void measure(const vec* state);
  void start_lambda(const vec* state);

  // The two sweeps, and all blocks of a chunk (sweeps.h).
  INLINE bool is_kept(int layer) const { return layer >= p.layers - layout.kept; }
  INLINE vec* kept_state(int layer) const { return kept + (layer % layout.kept) * 2 * size; }
  void forward();
  void backward();
  void run(int64_t chunk);
};

}  // namespace
