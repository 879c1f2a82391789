// The plain forms of lanes256.h and lanes512.h, for any other processor. Namespace as kernels.h.

constexpr int kBlock = 96;

static inline int append(float* value, uint32_t* where, int n, vf x, vi offset) {
  for (int i = 0; i < kLanes; ++i) {
    value[n] = x[i], where[n] = uint32_t(offset[i]);
    n += x[i] != 0.0f;
  }
  return n;
}

static inline void turn_tile(vf (&x)[kLanes]) {
  for (int i = 0; i < kLanes; ++i)
    for (int j = 0; j < i; ++j) {
      float keep = x[i][j];
      x[i][j] = x[j][i], x[j][i] = keep;
    }
}
