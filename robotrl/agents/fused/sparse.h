// Products whose left operand is half zeros. ReLU leaves about half of every hidden activation, and of every gradient
// behind it, exactly zero: keeping the others in lists skips half of the work; what is left out
// would have added zero. A block of the right operand stays in the first-level cache while all rows pass over it.
// Included after kernels.h and a compress header, same namespace.

// out(i, j, acc of N vectors of a b at row i, columns j ...) for one panel; sums over the depth blocks are kept in partial.
// The next block's lines are asked for in time: the right operands of one update are more than a second-level cache holds.
template <int N, class Epilogue>
static void sparse_panel(const List list, const float* b, long ldb, int depth, Block partial, int column,
                         const Epilogue out) {
  const int rows = list.rows, lines = (N * kLanes + 15) / 16;
  for (int block = 0; block < list.blocks; ++block) {
    const bool last = block + 1 == list.blocks;
    const float* next = b + column + (block + 1) * kBlock * ldb;
    const int next_rows = last ? 0 : std::min(kBlock, depth - (block + 1) * kBlock);
    int asked = 0;
    for (int r = 0; r < rows; ++r) {
      for (int until = (r + 1) * next_rows / rows; asked < until; ++asked)
        for (int i = 0; i < lines; ++i) __builtin_prefetch(next + asked * ldb + 16 * i, 0, 2);
      float* c = partial.row(r) + column;
      vf acc[N];
      if (block)
        for (int v = 0; v < N; ++v) acc[v] = load(c + v * kLanes);
      else
        for (int v = 0; v < N; ++v) acc[v] = vf{};
      const size_t slot = size_t(block) * rows + r;
      const float* value = list.value + slot * kBlock;
      const uint32_t* offset = list.offset + slot * kBlock;
      const int count = list.count[slot];
      for (int q = 0; q < count; ++q) {
        vf left = splat(value[q]);
        const float* right = b + column + offset[q];
#pragma GCC unroll 8
        for (int v = 0; v < N; ++v) acc[v] += left * load(right + v * kLanes);
      }
      if (last) out(r, column, acc);
      else
        for (int v = 0; v < N; ++v) store(c + v * kLanes, acc[v]);
    }
  }
}

template <int N, class Epilogue>
static void sparse_tail(int vectors, const List& a, const float* b, long ldb, int depth, Block partial,
                        int column, const Epilogue& out) {
  if (vectors == N) return sparse_panel<N>(a, b, ldb, depth, partial, column, out);
  if constexpr (N > 1) sparse_tail<N - 1>(vectors, a, b, ldb, depth, partial, column, out);
}

// As multiply in kernels.h, with the left operand in lists; partial: (rows, columns) of room for sums.
template <class Epilogue>
static void sparse_multiply(const List& a, int columns, int depth, const float* b, long ldb, Block partial,
                            const Epilogue& out) {
  for (int j = 0; j < columns; j += 8 * kLanes) {
    int vectors = std::min(8, (columns - j) / kLanes);
    sparse_tail<8>(vectors, a, b, ldb, depth, partial, j, out);
  }
}

// out = x W + b, with ReLU unless a normalisation comes first; x the ReLU of the layer below.
static void forward_sparse(const float* block, const Layer& l, int rows, Block x, Block out, List room) {
  compress_rows(room, rows, l.in, x, l.ld);
  sparse_multiply(room, padded(l.out), l.in, block + l.weight, l.ld, out, Rectify{out, block + l.bias, !l.norm});
}

// As backward in kernels.h, dz having passed a ReLU.
static void backward_sparse(const float* transposed, const Layer& l, int rows, Block dz, Block h, const int* which,
                            Block out, List room) {
  compress_rows(room, rows, l.out, dz, stride(l.in));
  sparse_multiply(room, padded(l.in), l.out, transposed, stride(l.in), out, Gate{out, h, which});
}

// As descend_weight in kernels.h, x the ReLU of the layer below.
static void descend_weight_sparse(const Layer& l, int first, int last, int batch, Block x, Block dz, Learned to,
                                  Adam adam, List room, Block partial) {
  compress_columns(room, last - first, batch, x.at + first, x.ld, dz.ld);
  Descend into{to, adam, l.weight + size_t(first) * l.ld, l.ld};
  sparse_multiply(room, padded(l.out), batch, dz.at, dz.ld, partial, into);
}

struct Keep {  // the product as it is
  Block out;

  template <int N>
  void operator()(int i, int j, const vf (&x)[N]) const {
    for (int v = 0; v < N; ++v) store(out.row(i) + j + v * kLanes, x[v]);
  }
};

// Columns [first, last) of the first layer's W: (dz^T x)^T, for there dz has the zeros. tall: (kRows, in), wide: (in, kRows).
static void descend_first_sparse(const Layer& l, int first, int last, int batch, Block x, Block dz, Learned to,
                                 Adam adam, List room, Block tall, Block wide) {
  int columns = padded(last - first);  // a gradient of zero for the padding
  compress_columns(room, columns, batch, dz.at + first, dz.ld, x.ld);
  sparse_multiply(room, padded(l.in), batch, x.at, x.ld, tall, Keep{tall});
  turn(columns, padded(l.in), tall.at, tall.ld, wide.at, wide.ld);
  Descend into{to, adam, l.weight, l.ld};
  for (int i = 0; i < l.in; ++i)
    for (int j = 0; j < columns; j += kLanes) {
      vf g[1] = {load(wide.row(i) + j)};
      into(i, first + j, g);
    }
}

// The transposed copy's columns [first, last), from rows of W.
static void transpose(const float* block, const Layer& l, int first, int last, float* transposed) {
  turn(last - first, padded(l.out), block + l.weight + size_t(first) * l.ld, l.ld, transposed + first, stride(l.in));
}
