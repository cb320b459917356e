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
// The headers hold one step each, in the order in which they build on each other:
//
//   program.h, tables.h       the circuit and the arrays of a call; phases that samples share
//   worker.h                  what a thread holds, and its steps:
//     angles.h, signs.h
//     first_state.h, phases.h, turns.h, turn_gradients.h, dense.h, measure.h
//     sweeps.h
//   instructions.h            the sweeps for each instruction set
//   threads.h                 a call, cut up for threads
//
// They are compiled as one unit, this file. It holds the functions that kernel_engine.py calls.
//
// No assumption about finite numbers is made (no -ffast-math): NaN in gives NaN out.

#include "instructions.h"
#include "program.h"
#include "threads.h"
#include "worker.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

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
EXPORT int32_t qfl_kernel_forward(const Program* p, int32_t is_double, int32_t threads,
                                  int64_t batch, int32_t copies, const void* inputs,
                                  const void* weights, void* outputs) {
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
EXPORT int32_t qfl_kernel_backward(const Program* p, int32_t is_double, int32_t threads,
                                   int64_t batch, int32_t copies, const void* inputs,
                                   const void* weights, const void* grad_outputs,
                                   int32_t per_sample, void* grad_inputs, void* grad_weights) {
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
