// One call from beginning to end: what all samples share is worked out, memory is found, the
// blocks are handed to threads, and their sums of gradients are added. kernel.cpp calls it.

#pragma once

#include "instructions.h"
#include "program.h"
#include "tables.h"
#include "worker.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <new>
#include <thread>
#include <vector>

namespace {

constexpr int64_t KEEP_SCRATCH = int64_t(16) << 20;  // larger scratch is given back after a call
constexpr int64_t MAX_CHUNKS = 64;

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
  std::vector<T> cache(size_t(call.cached * table_length));
  std::vector<T> spare(call.cached ? size_t(table_length) : 0);
  for (int l = 0; l < p.layers; l++)
    if (p.layer_table[l] >= 0 && p.layer_table[l] < call.cached)
      build_table(p, l, half_cos.data(), half_sin.data(),
                  cache.data() + p.layer_table[l] * table_length, spare.data());
  call.tables = cache.data();

  std::vector<double> partial;
  if (grad_weights_sum) {
    partial.resize(size_t(call.chunks * p.weights));
    call.partial = partial.data();
  }

  const Entry entry = version.entry;
  const Layout layout(p, lanes, sizeof(T), call.grad_outputs != nullptr);
  const int64_t bytes = layout.total * int64_t(sizeof(T));
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
