// Vector kernels for one instruction set. Included once per set, inside a namespace that defines kLanes.
// No include guard: each inclusion is a different compilation.

typedef float vf __attribute__((vector_size(kLanes * 4), may_alias));
typedef int32_t vi __attribute__((vector_size(kLanes * 4), may_alias));
constexpr int kPanel = 2 * kLanes;                    // columns of a register tile
constexpr int kTile = kLanes == 16 ? 12 : kLanes == 8 ? 6 : 4;  // rows: accumulators fill the register file

static inline vf load(const float* p) { return *reinterpret_cast<const vf*>(p); }
static inline void store(float* p, vf x) { *reinterpret_cast<vf*>(p) = x; }
static inline vf splat(float x) { return x - vf{}; }
static inline vf root(vf x) {  // one instruction where there is one
  float lane[kLanes];
  __builtin_memcpy(lane, &x, sizeof x);
  for (int i = 0; i < kLanes; ++i) lane[i] = __builtin_sqrtf(lane[i]);
  __builtin_memcpy(&x, lane, sizeof x);
  return x;
}
static inline float sum(vf x) {  // by halves, always in the same order
  float lane[kLanes];
  __builtin_memcpy(lane, &x, sizeof x);
  for (int n = kLanes / 2; n; n /= 2)
    for (int i = 0; i < n; ++i) lane[i] += lane[i + n];
  return lane[0];
}

// An operand read element by element: value(i, k) = at[i * row + k * step].
struct Operand {
  const float* at;
  long row, step;
};

template <int M, int N>
static inline void tile(int depth, Operand a, const float* b, long ldb, vf (&acc)[M][N]) {
  for (int i = 0; i < M; ++i)
    for (int j = 0; j < N; ++j) acc[i][j] = vf{};
  for (int k = 0; k < depth; ++k) {
    vf right[N];
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) right[j] = load(b + k * ldb + j * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i) {
      vf left = splat(a.at[i * a.row + k * a.step]);
#pragma GCC unroll 4
      for (int j = 0; j < N; ++j) acc[i][j] += left * right[j];
    }
  }
}

template <int M, int N, class Epilogue>
static void tile_out(int depth, Operand a, const float* b, long ldb, int row, int column, const Epilogue out) {
  vf acc[M][N];
  tile<M, N>(depth, a, b, ldb, acc);
  for (int i = 0; i < M; ++i) out(row + i, column, acc[i]);
}

template <int M, int N, class Epilogue>
static void tile_tail(int rows, int depth, Operand a, const float* b, long ldb, int row, int column, const Epilogue& out) {
  if (rows == M) return tile_out<M, N>(depth, a, b, ldb, row, column, out);
  if constexpr (M > 1) tile_tail<M - 1, N>(rows, depth, a, b, ldb, row, column, out);
}

// out(i, j, vectors of a[i, :] b[:, j ...]) for i < rows, j < columns (a multiple of 16; b's rows are padded with zeros).
template <class Epilogue>
static void multiply(int rows, int columns, int depth, Operand a, const float* b, long ldb, const Epilogue& out) {
  for (int j = 0; j < columns; j += kPanel) {
    bool wide = j + kPanel <= columns;
    for (int i = 0; i < rows; i += kTile) {
      Operand at{a.at + i * a.row, a.row, a.step};
      int m = rows - i < kTile ? rows - i : kTile;
      if (wide && m == kTile) tile_out<kTile, 2>(depth, at, b + j, ldb, i, j, out);
      else if (wide) tile_tail<kTile - 1, 2>(m, depth, at, b + j, ldb, i, j, out);
      else tile_tail<kTile, 1>(m, depth, at, b + j, ldb, i, j, out);
    }
  }
}

// What is done with a product's vectors of row i from column j on, while they are in registers.

struct Rectify {  // out = z + bias, with ReLU if asked; a NaN stays a NaN
  Block out;
  const float* bias;
  bool relu;

  template <int N>
  void operator()(int i, int j, const vf (&z)[N]) const {
    float* to = out.row(i) + j;
#pragma GCC unroll 8
    for (int v = 0; v < N; ++v) {
      vf x = z[v] + load(bias + j + v * kLanes);
      store(to + v * kLanes, relu ? (x < vf{} ? vf{} : x) : x);
    }
  }
};

struct Gate {  // out = g where h was above zero; which: rows of h, null for 0, 1, ...
  Block out, h;
  const int* which;

  template <int N>
  void operator()(int i, int j, const vf (&g)[N]) const {
    float* to = out.row(i) + j;
    const float* active = h.row(which ? which[i] : i) + j;
#pragma GCC unroll 8
    for (int v = 0; v < N; ++v) store(to + v * kLanes, load(active + v * kLanes) <= vf{} ? vf{} : g[v]);
  }
};

// out = x W + b
static void forward(const float* block, const Layer& l, int rows, Block x, Block out, bool relu) {
  multiply(rows, padded(l.out), l.in, Operand{x.at, x.ld, 1}, block + l.weight, l.ld, Rectify{out, block + l.bias, relu});
}

// out = dz W^T where the layer's input was above zero; transposed: (out, stride(in)).
static void backward(const float* transposed, const Layer& l, int rows, Block dz, Block h, const int* which, Block out) {
  multiply(rows, padded(l.in), l.out, Operand{dz.at, dz.ld, 1}, transposed, stride(l.in), Gate{out, h, which});
}

// Adam (Kingma and Ba 2015) with bias correction; step = lr / (1 - beta1^t), scale = 1 / sqrt(1 - beta2^t).
struct Adam {
  float step, scale, polyak;

  void operator()(float* p, float* m, float* v, float* target, vf g) const {
    vf first = load(m), second = load(v);
    first += (g - first) * splat(0.1f);
    second = second * splat(0.999f) + (g * g) * splat(0.001f);
    vf now = load(p) - splat(step) * first / (root(second) * splat(scale) + splat(1e-8f));
    store(m, first), store(v, second), store(p, now);
    if (target) {
      vf slow = load(target);
      store(target, slow + (now - slow) * splat(polyak));
    }
  }
};

// One network's learned arrays; target is null for the actor.
struct Learned {
  float *p, *m, *v, *target;
};

struct Descend {  // a gradient's vectors straight into Adam
  Learned to;
  Adam adam;
  size_t origin;
  long ld;

  template <int N>
  void operator()(int i, int j, const vf (&g)[N]) const {
    size_t at = origin + i * ld + j;
#pragma GCC unroll 8
    for (int v = 0; v < N; ++v, at += kLanes)
      adam(to.p + at, to.m + at, to.v + at, to.target ? to.target + at : nullptr, g[v]);
  }
};

// Rows [first, last) of W from dW = x^T dz over the batch.
static void descend_weight(const Layer& l, int first, int last, int batch, Block x, Block dz, Learned to, Adam adam) {
  multiply(last - first, padded(l.out), batch, Operand{x.at + first, 1, x.ld}, dz.at, dz.ld,
           Descend{to, adam, l.weight + size_t(first) * l.ld, l.ld});
}

static void descend_bias(const Layer& l, int batch, Block dz, Learned to, Adam adam) {
  for (int j = 0; j < padded(l.out); j += kLanes) {
    vf g{};
    for (int b = 0; b < batch; ++b) g += load(dz.row(b) + j);
    size_t at = l.bias + j;
    adam(to.p + at, to.m + at, to.v + at, to.target ? to.target + at : nullptr, g);
  }
}

// A critic's value: the last hidden activation times the single column of its head (stored in line: (in, ld)).
static float dot(const float* x, const float* w, int n) {
  vf s{};
  for (int i = 0; i < padded(n); i += kLanes) s += load(x + i) * load(w + i);
  return sum(s);
}
