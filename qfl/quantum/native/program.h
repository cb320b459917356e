// What a call works on: the circuit as Python hands it over, and the arrays of numbers that come
// with it. Every other header reads these two.

#pragma once

#include <cstdint>

namespace {

// Helpers are inlined into one entry point per instruction set, and so compiled for each.
#define INLINE inline __attribute__((always_inline))

constexpr int MAX_WIRES = 32;
constexpr int64_t BUDGET = int64_t(4) << 20;  // bytes of kept states a thread, and of tables

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

// Whether a word of Z, given by the bits of its wires, changes an amplitude's sign.
INLINE bool odd(int64_t bits) { return __builtin_popcountll(uint64_t(bits)) & 1; }

}  // namespace
