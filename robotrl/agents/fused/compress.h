// Lists of what is not zero. Included after kernels.h and a lanes header, same namespace.

// List r of block d: value[k] and offset[k] (floats from the right operand's row 0), k < count, in order of depth.
struct List {
  float* value;
  uint32_t* offset;
  int* count;
  int rows, blocks;

  void shape(int r, int depth) { rows = r, blocks = (depth + kBlock - 1) / kBlock; }
};

static inline vi offsets(int first, long ld) {
  vi at;
  for (int i = 0; i < kLanes; ++i) at[i] = (first + i) * int(ld);
  return at;
}

// Rows of a, padded with zeros to whole vectors; ld: the right operand's.
static void compress_rows(List& list, int rows, int depth, Block a, long ld) {
  list.shape(rows, depth);
  for (int d = 0; d < list.blocks; ++d) {
    const int first = d * kBlock, vectors = std::min(kBlock / kLanes, (depth - first + kLanes - 1) / kLanes);
    vi offset[kBlock / kLanes];
    for (int v = 0; v < vectors; ++v) offset[v] = offsets(first + v * kLanes, ld);
    for (int r = 0; r < rows; ++r) {
      const size_t slot = size_t(d) * rows + r;
      const float* from = a.row(r) + first;
      int n = 0;
      for (int v = 0; v < vectors; ++v)
        n = append(list.value + slot * kBlock, list.offset + slot * kBlock, n, load(from + v * kLanes), offset[v]);
      list.count[slot] = n;
    }
  }
}

// Columns of a (depth, lda): list r is column r. Rows past the depth count as zero.
static void compress_columns(List& list, int columns, int depth, const float* a, long lda, long ld) {
  list.shape(columns, depth);
  for (int d = 0; d < list.blocks; ++d)
    for (int c = 0; c < columns; c += kLanes) {
      const int last = std::min(depth, (d + 1) * kBlock), lists = std::min(kLanes, columns - c);
      const size_t slot = size_t(d) * columns + c;
      int n[kLanes] = {};
      for (int k = d * kBlock; k < last; k += kLanes) {
        vf x[kLanes];
        for (int i = 0; i < kLanes; ++i) x[i] = k + i < last ? load(a + (k + i) * lda + c) : vf{};
        turn_tile(x);
        const vi offset = offsets(k, ld);
        for (int i = 0; i < lists; ++i)
          n[i] = append(list.value + (slot + i) * kBlock, list.offset + (slot + i) * kBlock, n[i], x[i], offset);
      }
      for (int i = 0; i < lists; ++i) list.count[slot + i] = n[i];
    }
}

// to (columns, ldt) = a (rows, lda) turned; both have room for multiples of 16.
static void turn(int rows, int columns, const float* a, long lda, float* to, long ldt) {
  for (int i = 0; i < rows; i += kLanes)
    for (int j = 0; j < columns; j += kLanes) {
      vf x[kLanes];
      for (int k = 0; k < kLanes; ++k) x[k] = load(a + (i + k) * lda + j);
      turn_tile(x);
      for (int k = 0; k < kLanes; ++k) store(to + (j + k) * ldt + i, x[k]);
    }
}
