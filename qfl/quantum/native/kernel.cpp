// Simulates a parametrised quantum circuit for a batch of samples, with gradients.
//
// How it works, top down:
//
// * Samples lie innermost: amplitude k of V samples is one SIMD vector, so every gate is the same
//   few vector operations whatever wire it acts on. A batch is cut into blocks of V samples.
// * program.py has rewritten the circuit into layers. The state starts as a product of one-wire
//   states (all leading rotations of a wire in one column of two numbers); then each layer is
//     1. phases:  new[k] = table[k] * old[source[k]], every diagonal and permutation in one pass,
//     2. turns:   rotations about Y, real numbers, so real and imaginary parts are independent,
//     3. dense:   fixed two-wire unitaries, if there are any.
//   A rotation about X is one about Y between two constant phases.
// * Gradient, by the adjoint method (Jones and Gacon 2020, arXiv:2009.02823): for an expectation
//   value L of state psi, with lambda = dL/dpsi*, the derivative by the angle of
//   exp(-i angle/2 sigma) is Im<lambda|sigma|psi>, both taken where the gate stands. Operations
//   are undone one after the other on lambda; psi is kept at some layers within a fixed budget
//   and undone where it was not kept, so memory does not grow with the depth.
// * Z-type derivatives of a layer all come from one array Im(conj(lambda[k]) psi[k]): sums with
//   signs, for all wires at once by halving (or for all words by a Walsh-Hadamard transform).
//   Derivatives of the first columns come from lambda contracted with one half of the product.
//
// No assumption about finite numbers is made (no -ffast-math): NaN in gives NaN out.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <thread>
#include <vector>

#if defined(__x86_64__) && !defined(QFL_KERNEL_PORTABLE)
#define TARGET_AVX2 __attribute__((target("avx2,fma")))
#define TARGET_AVX512 __attribute__((target("avx512f,avx2,fma")))
#if defined(_WIN32)
#include <cpuid.h>
extern "C" __declspec(dllimport) int __stdcall IsProcessorFeaturePresent(unsigned long);
#endif
#endif
// Helpers are inlined into one entry point per instruction set, and so compiled for each.
#define INLINE inline __attribute__((always_inline))

namespace {

constexpr int MAX_WIRES = 32;
constexpr int64_t BUDGET = int64_t(4) << 20;     // bytes of kept states a thread, and of tables
constexpr int64_t KEEP_SCRATCH = int64_t(16) << 20;  // larger scratch is given back after a call
constexpr int64_t MAX_CHUNKS = 64;

enum Measurement { SINGLE_Z = 0, Z_WORDS = 1, PROBABILITIES = 2, PAULI_WORDS = 3, STATE = 4 };

// What program.py hands over; all arrays are owned by Python. `x_start` has one entry more than
// there are x and delimits runs in the arrays that follow it.
struct Program {
  int32_t wires, inputs, weights, outputs, angles, sample_angles, layers, measurement;
  // First of the 2 * size columns of inputs that hold the initial state, or -1 for |0...0>.
  int32_t amplitudes, reserved;
  // Angle = offset + sum of scale * source; source >= 0: that weight, else input -1 - source.
  const int32_t *angle_start, *angle_slot;  // slot: -1 shared by all samples, else its number
  const double* angle_offset;
  const int32_t* term_source;
  const double* term_scale;
  // First column of each wire: rotations (axis 0, 1, 2) in order.
  const int32_t *chain_start, *factor_axis, *factor_angle;
  // Layers. Permutation and constant are numbers of the tables below, or -1.
  const int32_t *layer_permutation, *layer_constant, *layer_table;  // table: any shared phase
  const int32_t *phase_start, *phase_mask, *phase_angle, *phase_before;
  const int32_t *turn_start, *turn_wire, *turn_angle;
  const int32_t *dense_start, *dense_wires;
  const double* dense_matrix;  // 16 real parts, 16 imaginary parts
  const int32_t *permutation_source, *permutation_inverse;
  const double* constant;  // real parts, imaginary parts
  // Read-out of probabilities[k] = |state[read_source[k]]|^2, or of Pauli words.
  const int32_t *read_source, *read_inverse, *outcome;  // null where they do not apply
  const int32_t *word_start, *word_x, *word_z, *word_y;
  const double* word_coefficient;

  int64_t size() const { return int64_t(1) << wires; }
};

// One call, shared by its threads. T is the type of all void pointers.
struct Call {
  const Program* program;
  int64_t batch;
  const void *inputs, *weights, *grad_outputs;  // grad_outputs null: forward only
  void *outputs, *grad_inputs, *grad_weights;   // grad_weights: per sample, or unused
  double* partial;                              // per chunk sums of weight gradients, or null
  const void *half_cos, *half_sin;              // of the shared angles
  const void* tables;                           // phases of the first `cached` layers with a table
  int64_t cached, blocks, chunks;
};

INLINE bool odd(int64_t bits) { return __builtin_popcountll(uint64_t(bits)) & 1; }

// ---------------------------------------------------------------- tables shared by all samples

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
    if (p.angle_slot[angle] >= 0 || bool(p.phase_before[t]) != before || (mask & (mask - 1))) continue;
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
    if (p.angle_slot[angle] >= 0 || bool(p.phase_before[t]) != before || !(mask & (mask - 1))) continue;
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
  for (int t = p.phase_start[layer]; t < p.phase_start[layer + 1]; t++) before |= p.phase_before[t] != 0;
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

// ---------------------------------------------------------------- one thread's work

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
    const auto take = [&next](int64_t numbers) { vec* here = next; next += numbers / V; return here; };
    psi = take(layout.state), spare = take(layout.state);
    lam = call.grad_outputs ? take(layout.state) : nullptr;
    real = take(layout.state / 2), kept = take(layout.kept * layout.state);
    halves = take(layout.halves);
    half_cos = take(layout.angles / 2), half_sin = take(layout.angles / 2);
    weight_sums = take(layout.weights);
    own_table = reinterpret_cast<T*>(next), own_spare = own_table + 2 * size;
  }

  // -------------------------------------------------------------- angles

  static INLINE vec all(T x) { return x + vec{}; }

  // cos and sin of half of the per-sample angles of this block; idle lanes hold zeros.
  INLINE void read_angles() {
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

  INLINE void half_angle(int angle, vec& c, vec& s) const {
    const int slot = p.angle_slot[angle];
    if (slot >= 0) {
      c = half_cos[slot], s = half_sin[slot];
    } else {
      c = all(static_cast<const T*>(call.half_cos)[angle]);
      s = all(static_cast<const T*>(call.half_sin)[angle]);
    }
  }

  // Hands the derivative by an angle to the inputs and weights that it is made of.
  INLINE void credit(int angle, const vec& derivative) {
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

  // -------------------------------------------------------------- first layer: product state

  // Columns (a, b) of the wires' leading rotations applied to |0>: real and imaginary parts.
  INLINE void build_columns() {
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
  INLINE void build_product(int from, int to, vec* re, vec* im) {
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

  // The two halves of the wires: first (length high) and last (length low), and room for the
  // contractions of lambda with them.
  struct Halves { int64_t high, low; vec *a, *b, *u, *w; };

  INLINE Halves split() const {
    const int64_t high = int64_t(1) << (p.wires / 2), low = size / high;
    return {high, low, halves, halves + 2 * low, halves + 4 * low, halves + 6 * low};
  }

  INLINE void first_state(vec* out) {
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
  INLINE void credit_first() {
    if (p.amplitudes < 0) {
      credit_columns();
      return;
    }
    T* gx = static_cast<T*>(call.grad_inputs) + first * p.inputs + p.amplitudes;
    for (int64_t k = 0; k < 2 * size; k++)
      for (int i = 0; i < lanes; i++) gx[int64_t(i) * p.inputs + k] += 2 * lam[k][i];
  }

  INLINE void product_state(vec* out) {
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
  INLINE void credit_columns() {
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
  INLINE void credit_half(int from, int to, const vec* left, const vec* right, int64_t length) {
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

  // -------------------------------------------------------------- phases and permutations

  INLINE const T* table(int layer) {
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

  INLINE bool permutes(int layer) const { return p.layer_permutation[layer] >= 0; }

  // Phases by angles of each sample: always after the permutation, one pass for each.
  INLINE void sample_phases(int layer, vec* state, T sign) {
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
  INLINE void phases(int layer, const vec* from, vec* to) {
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
  INLINE void undo_phases(int layer, vec*& state) {
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
  INLINE void credit_phases(int layer, const vec* state) {
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

  INLINE void credit_words(int layer, bool before, bool words) {
    vec z[MAX_WIRES];
    if (words) transform(); else sum_each_bit(z);
    for (int t = p.phase_start[layer]; t < p.phase_start[layer + 1]; t++) {
      if (bool(p.phase_before[t]) != before) continue;
      const int mask = p.phase_mask[t];
      credit(p.phase_angle[t], words ? real[mask] : z[__builtin_ctz(unsigned(mask))]);
    }
  }

  // z[b] = sum over k of real[k] * (-1)**(bit b of k), for all b, by halving; spoils `real`.
  INLINE void sum_each_bit(vec* z) {
    int64_t half = size / 2;
    for (int bit = 0; bit < p.wires; bit++, half /= 2) {
      vec even = all(0), odds = all(0);
      for (int64_t k = 0; k < half; k++) {
        const vec a = real[2 * k], b = real[2 * k + 1];
        even += a, odds += b;
        real[k] = a + b;
      }
      z[bit] = even - odds;
    }
  }

  // The reverse: real[k] = sum over b of z[b] * (-1)**(bit b of k), by doubling.
  INLINE void spread_each_bit(const vec* z) {
    real[0] = all(0);
    for (int bit = 0; bit < p.wires; bit++) {
      const int64_t half = int64_t(1) << bit;
      for (int64_t k = 0; k < half; k++) {
        const vec a = real[k];
        real[k + half] = a - z[bit];
        real[k] = a + z[bit];
      }
    }
  }

  // Walsh-Hadamard: real[m] = sum over k of real[k] * (-1)**popcount(k & m), in place.
  INLINE void transform() {
    for (int64_t stride = 1; stride < size; stride *= 2)
      for (int64_t high = 0; high < size; high += 2 * stride)
        for (int64_t k = high; k < high + stride; k++) {
          const vec a = real[k], b = real[k + stride];
          real[k] = a + b, real[k + stride] = a - b;
        }
  }

  // -------------------------------------------------------------- rotations about Y

  // One wire, on an array of real or imaginary parts.
  static INLINE void turn_one(const vec* from, vec* to, int64_t length, int64_t stride,
                              const vec c, const vec s) {
    for (int64_t high = 0; high < length; high += 2 * stride)
      for (int64_t k = high; k < high + stride; k++) {
        const vec x = from[k], y = from[k + stride];
        to[k] = c * x - s * y;
        to[k + stride] = s * x + c * y;
      }
  }

  // Two wires at once halves the traffic; strides a > b.
  static INLINE void turn_two(const vec* from, vec* to, int64_t length, int64_t a, int64_t b,
                              const vec ca, const vec sa, const vec cb, const vec sb) {
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
  template <bool SCALED>
  static INLINE void turn_three(const vec* from, vec* to, int64_t length, int64_t a, int64_t b,
                                int64_t d, const vec ta, const vec tb, const vec c, const vec s) {
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

  INLINE int64_t stride_of(int turn) const { return size >> (1 + p.turn_wire[turn]); }

  // Wires that are turned in one pass: three by tangents, or one or two with constants of their
  // own. `scale` is what the passes before have left out, where this is the last.
  struct Pass {
    int turn, count;
    bool last;
    T tangent[2], cosine, sine, scale;
  };

  // Tangents of angles that all samples share, and that are not too large.
  INLINE bool has_tangent(int turn) const {
    const int angle = p.turn_angle[turn];
    return p.angle_slot[angle] < 0 && std::abs(static_cast<const T*>(call.half_cos)[angle]) > T(0.1);
  }

  INLINE int plan_passes(int layer, T sign, Pass* passes) const {
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

  INLINE void turn_some(const Pass& pass, const vec* from, vec* to, int64_t length, T sign) {
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
  INLINE void turns(int layer, const vec* state, vec* to_state, T sign) {
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

  // Adds Im<lambda|Y|psi> of one or two wires: sum of lambda[1] psi[0] - lambda[0] psi[1] over
  // real and imaginary parts. Several sums at once hide the latency of additions.
  static INLINE void overlap_one(const vec* l, const vec* s, int64_t length, int64_t a, vec& y) {
    vec u0 = vec{}, u1 = vec{};
    for (int64_t high = 0; high < length; high += 2 * a)
      for (int64_t k = high; k < high + a; k++) {
        u0 += l[k + a] * s[k];
        u1 += l[k] * s[k + a];
      }
    y += u0 - u1;
  }

  static INLINE void overlap_two(const vec* l, const vec* s, int64_t length, int64_t a, int64_t b,
                                 vec& ya, vec& yb) {
    vec u0 = vec{}, u1 = vec{}, u2 = vec{}, u3 = vec{}, w0 = vec{}, w1 = vec{}, w2 = vec{}, w3 = vec{};
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

  INLINE void overlap_some(int turn, int count, const vec* l, const vec* s, int64_t length, vec* y) {
    if (count == 1) overlap_one(l, s, length, stride_of(turn), y[0]);
    else overlap_two(l, s, length, stride_of(turn), stride_of(turn + 1), y[0], y[1]);
  }

  // Derivatives by a layer's turns, given psi and lambda before (or behind) all of them.
  INLINE void credit_turns(int layer, const vec* state) {
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

  // -------------------------------------------------------------- fixed two-wire unitaries

  INLINE void dense_one(int gate, vec* state, bool undo) {
    const int64_t a = size >> (1 + p.dense_wires[2 * gate]), b = size >> (1 + p.dense_wires[2 * gate + 1]);
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

  INLINE void dense(int layer, vec* state, bool undo) {
    const int begin = p.dense_start[layer], count = p.dense_start[layer + 1] - begin;
    for (int g = 0; g < count; g++) dense_one(undo ? begin + count - 1 - g : begin + g, state, undo);
  }

  // -------------------------------------------------------------- measurements

  INLINE void write_output(int output, const vec& value) {
    T* out = static_cast<T*>(call.outputs) + first * p.outputs + output;
    for (int i = 0; i < lanes; i++) out[int64_t(i) * p.outputs] = value[i];
  }

  INLINE vec grad_output(int output) const {
    const T* in = static_cast<const T*>(call.grad_outputs) + first * p.outputs + output;
    vec g = vec{};
    for (int i = 0; i < lanes; i++) g[i] = in[int64_t(i) * p.outputs];
    return g;
  }

  // A Pauli word is i**(number of Y) X**x Z**z: it takes amplitude k ^ x to k with this factor.
  // Returns whether the factor is imaginary; `negative` is its sign apart from Z's at k = 0.
  INLINE bool word_phase(int word, bool& negative) const {
    const int y = p.word_y[word] & 3;
    negative = y >= 2;
    return y & 1;
  }

  INLINE void measure(const vec* state) {
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
  INLINE void start_lambda(const vec* state) {
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

  // -------------------------------------------------------------- the two sweeps

  // Leaves the final state in psi. With a gradient, the states before the turns of the last
  // `layout.kept` layers are kept.
  INLINE void forward() {
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

  INLINE bool is_kept(int layer) const { return layer >= p.layers - layout.kept; }
  INLINE vec* kept_state(int layer) const { return kept + (layer % layout.kept) * 2 * size; }

  INLINE void backward() {
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

  INLINE void run(int64_t chunk) {
    const int64_t begin = call.blocks * chunk / call.chunks, end = call.blocks * (chunk + 1) / call.chunks;
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
};

// ---------------------------------------------------------------- instruction sets

typedef void (*Entry)(const Call&, void* memory, std::atomic<int64_t>& next);

template <class T, int V>
INLINE void work(const Call& call, void* memory, std::atomic<int64_t>& next) {
  Worker<T, V> worker(call, static_cast<T*>(memory));
  for (int64_t chunk; (chunk = next.fetch_add(1)) < call.chunks;) worker.run(chunk);
}

// Code for one instruction set and one number of samples in a block: one vector register each.
// Two registers for a vector leave none for the constants of three turns.
struct Version {
  Entry entry;
  int lanes;
};

#define ENTRY(NAME, ATTRIBUTE, T, LANES)                                      \
  ATTRIBUTE void NAME(const Call& c, void* memory, std::atomic<int64_t>& next) { \
    work<T, LANES>(c, memory, next);                                          \
  }
#define ENTRIES(SUFFIX, ATTRIBUTE)                   \
  ENTRY(float_8_##SUFFIX, ATTRIBUTE, float, 8)       \
  ENTRY(float_4_##SUFFIX, ATTRIBUTE, float, 4)       \
  ENTRY(double_4_##SUFFIX, ATTRIBUTE, double, 4)     \
  ENTRY(double_2_##SUFFIX, ATTRIBUTE, double, 2)

ENTRIES(baseline, )
#ifdef TARGET_AVX2
ENTRIES(avx2, TARGET_AVX2)
ENTRY(float_16_avx512, TARGET_AVX512, float, 16)
ENTRY(double_8_avx512, TARGET_AVX512, double, 8)
#endif

enum Instructions { BASELINE = 0, AVX2 = 1, AVX512 = 2 };

int best_instructions() {
#if defined(TARGET_AVX2) && defined(_WIN32)
  // __builtin_cpu_supports asks a library that clang-cl does not link. 41: AVX-512F, 40: AVX2.
  unsigned a, b, c, d;
  const bool fma = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_FMA);
  if (IsProcessorFeaturePresent(41) && fma) return AVX512;
  if (IsProcessorFeaturePresent(40) && fma) return AVX2;
#elif defined(TARGET_AVX2)
  if (__builtin_cpu_supports("avx512f")) return AVX512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return AVX2;
#endif
  return BASELINE;
}

std::atomic<int> instructions{best_instructions()};

// Small batches take short vectors, so that few of their lanes are idle.
Version choose(bool is_double, int64_t batch) {
#ifdef TARGET_AVX2
  const int level = instructions;
  if (level >= AVX512 && is_double && batch > 4) return {double_8_avx512, 8};
  if (level >= AVX512 && !is_double && batch > 8) return {float_16_avx512, 16};
  if (level >= AVX2 && is_double) return batch > 2 ? Version{double_4_avx2, 4} : Version{double_2_avx2, 2};
  if (level >= AVX2) return batch > 4 ? Version{float_8_avx2, 8} : Version{float_4_avx2, 4};
#endif
  if (is_double) return batch > 2 ? Version{double_4_baseline, 4} : Version{double_2_baseline, 2};
  return batch > 4 ? Version{float_8_baseline, 8} : Version{float_4_baseline, 4};
}

// ---------------------------------------------------------------- memory and threads

// Memory of one thread, kept between calls while it is small.
struct Scratch {
  void* memory = nullptr;
  int64_t bytes = 0;

  void* get(int64_t wanted) {
    if (wanted <= bytes) return memory;
    release();
    const int64_t page = 4096, rounded = (wanted + page - 1) / page * page;
    memory = ::operator new(size_t(rounded), std::align_val_t(64));
    bytes = rounded;
    return memory;
  }
  void release() { ::operator delete(memory, std::align_val_t(64)), memory = nullptr, bytes = 0; }
  ~Scratch() { release(); }
};

template <class T>
void run_typed(Call& call, int threads, T* grad_weights_sum) {
  const Program& p = *call.program;
  const bool is_double = sizeof(T) == 8;
  const Version version = choose(is_double, call.batch);
  const int lanes = version.lanes;
  call.blocks = (call.batch + lanes - 1) / lanes;
  call.chunks = std::min(call.blocks, MAX_CHUNKS);

  // Shared angles and as many tables as the budget allows.
  std::vector<T> half_cos(size_t(p.angles)), half_sin(size_t(p.angles));
  const T* w = static_cast<const T*>(call.weights);
  for (int a = 0; a < p.angles; a++) {
    if (p.angle_slot[a] >= 0) continue;
    double angle = p.angle_offset[a];
    for (int j = p.angle_start[a]; j < p.angle_start[a + 1]; j++)
      angle += p.term_scale[j] * double(w[p.term_source[j]]);
    half_cos[a] = T(std::cos(angle / 2)), half_sin[a] = T(std::sin(angle / 2));
  }
  call.half_cos = half_cos.data(), call.half_sin = half_sin.data();
  int64_t tables = 0;
  for (int l = 0; l < p.layers; l++) tables += p.layer_table[l] >= 0;
  const int64_t table_length = 2 * p.size();
  call.cached = std::min<int64_t>(tables, BUDGET / (table_length * int64_t(sizeof(T))));
  std::vector<T> cache(size_t(call.cached * table_length)), spare(call.cached ? size_t(table_length) : 0);
  for (int l = 0; l < p.layers; l++)
    if (p.layer_table[l] >= 0 && p.layer_table[l] < call.cached)
      build_table(p, l, half_cos.data(), half_sin.data(), cache.data() + p.layer_table[l] * table_length,
                  spare.data());
  call.tables = cache.data();

  std::vector<double> partial;
  if (grad_weights_sum) partial.resize(size_t(call.chunks * p.weights)), call.partial = partial.data();

  const Entry entry = version.entry;
  const int64_t bytes = Layout(p, lanes, sizeof(T), call.grad_outputs != nullptr).total * int64_t(sizeof(T));
  // Starting a thread costs as much as some hundred thousand amplitudes.
  const int64_t effort = call.blocks * p.size() * (p.layers + 1) * p.wires;
  const int64_t workers = effort < (1 << 18) ? 1 : std::min<int64_t>(threads, call.chunks);
  std::atomic<int64_t> next(0);
  std::vector<std::thread> others;
  std::vector<Scratch> memory(size_t(workers - 1));
  for (auto& scratch : memory) scratch.get(bytes);
  static thread_local Scratch own;
  void* own_memory = own.get(bytes);
  try {
    for (auto& scratch : memory)
      others.emplace_back([&call, &next, &scratch, entry] { entry(call, scratch.memory, next); });
  } catch (...) {
    // No more threads to be had: those that run, and this one, share the work.
  }
  entry(call, own_memory, next);
  for (auto& thread : others) thread.join();
  if (own.bytes > KEEP_SCRATCH) own.release();

  // Chunks depend on the batch alone and are added in order: so does the result.
  if (grad_weights_sum)
    for (int i = 0; i < p.weights; i++) {
      double sum = 0;
      for (int64_t c = 0; c < call.chunks; c++) sum += partial[size_t(c * p.weights + i)];
      grad_weights_sum[i] = T(sum);
    }
}

int run(Call& call, bool is_double, int threads, void* grad_weights_sum) {
  try {
    if (is_double) run_typed<double>(call, threads, static_cast<double*>(grad_weights_sum));
    else run_typed<float>(call, threads, static_cast<float*>(grad_weights_sum));
    return 0;
  } catch (const std::bad_alloc&) {
    return 1;
  }
}

}  // namespace

#if defined(_WIN32)
#define EXPORT extern "C" __declspec(dllexport)
#else
#define EXPORT extern "C" __attribute__((visibility("default")))
#endif

// Changes whenever Program or a signature below does; kernel_engine.py checks it.
EXPORT int32_t qfl_kernel_version() { return 2; }

EXPORT int64_t qfl_kernel_program_bytes() {
  return int64_t(sizeof(Program));
}

// Uses at most these instructions from now on (tests do this); returns what is used.
EXPORT int32_t qfl_kernel_instructions(int32_t most) {
  instructions = std::min<int>(most, best_instructions());
  return instructions;
}

// Bytes of scratch memory of each thread.
EXPORT int64_t qfl_kernel_scratch_bytes(const Program* p, int32_t is_double, int64_t batch) {
  const int64_t bytes = is_double ? 8 : 4;
  return Layout(*p, choose(is_double != 0, batch).lanes, bytes, true).total * bytes;
}

enum Failure { NONE = 0, NO_MEMORY = 1, NOT_A_NUMBER = 2 };

template <class T>
bool finite(const void* numbers, int64_t count) {
  // A sum of products with zero is zero unless one of them is infinite or no number.
  const T* x = static_cast<const T*>(numbers);
  T sum[8] = {};
  int64_t i = 0;
  for (; i + 8 <= count; i += 8)
    for (int j = 0; j < 8; j++) sum[j] += x[i + j] * T(0);
  for (; i < count; i++) sum[0] += x[i] * T(0);
  T total = 0;
  for (int j = 0; j < 8; j++) total += sum[j];
  return total == 0;
}

bool finite(const Program* p, int32_t is_double, int64_t batch, int32_t copies, const void* inputs,
            const void* weights) {
  const int64_t x = batch * p->inputs, w = int64_t(copies) * p->weights;
  return is_double ? finite<double>(inputs, x) && finite<double>(weights, w)
                   : finite<float>(inputs, x) && finite<float>(weights, w);
}

// Numbers of either type, counted in numbers.
const void* at(const void* base, int32_t is_double, int64_t number) {
  return static_cast<const char*>(base) + number * (is_double ? 8 : 4);
}
void* at(void* base, int32_t is_double, int64_t number) {
  return static_cast<char*>(base) + number * (is_double ? 8 : 4);
}

// Copies of one program with weights of their own, on the same inputs: inputs (batch, inputs),
// weights (copies, weights), outputs (copies, batch, outputs). Returns a Failure.
EXPORT int32_t qfl_kernel_forward(const Program* p, int32_t is_double, int32_t threads, int64_t batch,
                                  int32_t copies, const void* inputs, const void* weights,
                                  void* outputs) {
  if (!finite(p, is_double, batch, copies, inputs, weights)) return NOT_A_NUMBER;
  for (int32_t copy = 0; copy < copies; copy++) {
    Call call = {};
    call.program = p, call.batch = batch, call.inputs = inputs;
    call.weights = at(weights, is_double, copy * int64_t(p->weights));
    call.outputs = at(outputs, is_double, copy * batch * p->outputs);
    if (const int failed = run(call, is_double != 0, threads, nullptr)) return failed;
  }
  return NONE;
}

// grad_outputs as outputs; grad_inputs (batch, inputs), summed over copies; grad_weights
// (copies, weights), or (copies, batch, weights) where per_sample.
EXPORT int32_t qfl_kernel_backward(const Program* p, int32_t is_double, int32_t threads, int64_t batch,
                                   int32_t copies, const void* inputs, const void* weights,
                                   const void* grad_outputs, int32_t per_sample, void* grad_inputs,
                                   void* grad_weights) {
  const int64_t rows = per_sample ? batch : 1, bytes = is_double ? 8 : 4;
  if (batch && p->inputs) std::memset(grad_inputs, 0, size_t(batch * p->inputs * bytes));
  if (per_sample && batch && p->weights)
    std::memset(grad_weights, 0, size_t(copies * batch * p->weights * bytes));
  for (int32_t copy = 0; copy < copies; copy++) {
    Call call = {};
    call.program = p, call.batch = batch, call.inputs = inputs, call.grad_inputs = grad_inputs;
    call.weights = at(weights, is_double, copy * int64_t(p->weights));
    call.grad_outputs = at(grad_outputs, is_double, copy * batch * p->outputs);
    void* by_weights = at(grad_weights, is_double, copy * rows * p->weights);
    if (per_sample) call.grad_weights = by_weights;
    const int failed = run(call, is_double != 0, threads, per_sample ? nullptr : by_weights);
    if (failed) return failed;
  }
  return NONE;
}

// An empty Python module, so that this is built and shipped as an extension; ctypes loads it.
EXPORT void* PyInit__kernel() { return nullptr; }
