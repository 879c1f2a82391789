// The fused SAC update: C interface, and the choice of instruction set at run time. Nothing here needs more than C++17
// and GCC's or clang's vector extensions; the wider sets are compiled in by function and only called where they exist.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "engine.h"

namespace robotrl {

namespace portable {
constexpr int kLanes = 4;
#include "kernels.h"
#include "elementary.h"
#include "lanes.h"
#include "compress.h"
#include "sparse.h"
#include "norm.h"
#include "drop.h"
#include "gather.h"
#include "step.h"
}  // namespace portable

#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,popcnt"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,popcnt")
#endif
namespace avx2 {
constexpr int kLanes = 8;
#include "kernels.h"
#include "elementary.h"
#include "lanes256.h"
#include "compress.h"
#include "sparse.h"
#include "norm.h"
#include "drop.h"
#include "gather.h"
#include "step.h"
}  // namespace avx2
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma,popcnt"))), \
                             apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma,popcnt")
#endif
namespace avx512 {
constexpr int kLanes = 16;
#include "kernels.h"
#include "elementary.h"
#include "lanes512.h"
#include "compress.h"
#include "sparse.h"
#include "norm.h"
#include "drop.h"
#include "gather.h"
#include "step.h"
}  // namespace avx512
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

}  // namespace robotrl

using namespace robotrl;

extern "C" {

// Widest instruction set of this processor: 0 portable, 1 AVX2, 2 AVX-512.
int robotrl_widest() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("fma"))
    return 2;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("popcnt")) return 1;
#endif
  return 0;
}

Engine* robotrl_open(const Config* config) {
  try {
    return new Engine(*config);
  } catch (...) {  // an exception must not cross into the caller's language
    return nullptr;
  }
}

void robotrl_close(Engine* e) { delete e; }

int64_t* robotrl_steps(Engine* e) { return &e->steps; }

double* robotrl_spent(Engine* e) { return e->spent; }

float* robotrl_log_alpha(Engine* e) { return e->log_alpha; }

// Address of a layer's weight (part = 0), bias (1), norm_gain (2) or norm_bias (3). net: -1 actor, i critic. kind: 0 value, 1 m, 2 v, 3 target.
// ld: elements from one input's row to the next; the weight is (in, out).
float* robotrl_parameter(Engine* e, int net, int kind, int layer, int part, int* ld) {
  const Layer& l = (net < 0 ? e->actor : e->critic).layer[layer];
  Weights& w = net < 0 ? e->pi : e->q[net];
  float* const base[] = {w.p, w.m, w.v, w.target};
  *ld = l.ld;
  const size_t at[] = {l.weight, l.bias, l.norm_gain, l.norm_bias};
  return base[kind] + at[part];
}

// From now on index i < 0 is row -i - 1 seen in this mirror: permutations and signs of observation and action.
void robotrl_mirror(Engine* e, const int32_t* observation, const float* observation_sign, const int32_t* action,
                    const float* action_sign) {
  int n = e->c.observation, k = e->c.action;
  e->observation_mirror = {{observation, observation + n}, {observation_sign, observation_sign + n}};
  e->action_mirror = {{action, action + k}, {action_sign, action_sign + k}};
}

void robotrl_refresh(Engine* e) {
#if defined(__x86_64__)
  if (e->c.isa == 2) return avx512::refresh(*e);
  if (e->c.isa == 1) return avx2::refresh(*e);
#endif
  portable::refresh(*e);
}

void robotrl_update(Engine* e, const Columns* columns, const int64_t* indices, const float* noise, const int32_t* targets,
                    uint32_t key, float* metrics) {
  FlushDenormals flush;
  e->call = {columns, indices, noise, targets, key};
#if defined(__x86_64__)
  if (e->c.isa == 2) return avx512::update(*e, metrics);
  if (e->c.isa == 1) return avx2::update(*e, metrics);
#endif
  portable::update(*e, metrics);
}

}  // extern "C"
