// Where every number of an update lives: parameters, Adam moments, targets and work space, in one arena.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace robotrl {

constexpr int kMaxHidden = 4;   // hidden layers
constexpr int kMaxCritics = 16;
constexpr int kMaxThreads = 8;
constexpr int kChunk = 128;      // at most so many batch rows go through all layers in one task

inline int padded(int n) { return (n + 15) / 16 * 16; }

// A row stride: whole 64-byte lines, and no power of two, so that rows do not fall on the same cache sets.
inline int stride(int n) {
  int s = padded(n);
  return s % 64 == 0 ? s + 16 : s;
}

// One dense layer, stored (in, out) row by row, element (i, j) at i * ld + j; offsets in floats within its network's block.
// A critic's head has one column only: ld = 1.
struct Layer {
  int in, out, ld;
  size_t weight, bias;
  bool norm;  // normalised before its ReLU
  size_t norm_gain, norm_bias;
};

struct Net {
  int count = 0;  // layers, the last one linear
  Layer layer[kMaxHidden + 1];
  size_t size = 0;

  void add(int in, int out, bool norm) {
    Layer& l = layer[count++];
    l.in = in, l.out = out, l.ld = out == 1 ? 1 : stride(out), l.norm = norm;
    l.weight = size, size += size_t(stride(in)) * l.ld;
    l.bias = size, size += stride(out);
    if (norm) l.norm_gain = size, size += stride(out), l.norm_bias = size, size += stride(out);
  }
};

// What the caller decides; field order is the binding's.
struct Config {
  int32_t observation, action, hidden_count, hidden[kMaxHidden];
  int32_t critics, batch, threads, isa, layer_norm, actor_every, targets, actor_mean, dropout;
  float polyak, actor_lr, critic_lr, temperature_lr, target_entropy;
};

// The replay's columns: address of row 0 and bytes from row to row. discount is what the next observation's value counts
// where the row has not terminated.
struct Columns {
  const char* observation;
  const char* action;
  const char* reward;
  const char* next_observation;
  const char* terminated;
  const char* discount;
  int64_t observation_stride, action_stride, reward_stride, next_observation_stride, terminated_stride, discount_stride;
};

struct Arena {
  float* base = nullptr;
  size_t used = 0, bytes = 0;

  size_t take(size_t floats) {  // in lines of 64 bytes
    size_t at = used;
    used += (floats + 15) / 16 * 16;
    return at;
  }
  void open() {
    constexpr size_t page = size_t(2) << 20;  // a huge page: few address translations
    bytes = (used * sizeof(float) + page - 1) / page * page;
    base = static_cast<float*>(std::aligned_alloc(page, bytes));
    if (!base) throw std::bad_alloc();
#if defined(__linux__)
    madvise(base, bytes, MADV_HUGEPAGE);
#endif
    for (size_t i = 0; i < bytes / sizeof(float); ++i) base[i] = 0;
  }
};

// A (rows, ld) block of activations.
struct Block {
  float* at = nullptr;
  int ld = 0;
  float* row(int r) const { return at + size_t(r) * ld; }
};

// What a normalisation leaves for its gradient: (z - mean) / std of every row, and 1 / std.
struct Normal {
  Block value;
  float* scale = nullptr;
};

}  // namespace robotrl
