// What AVX2 does in a few instructions and the language cannot say. Namespace as kernels.h.

constexpr int kBlock = 96;  // depth of one list: with 8 vectors of columns, a right operand of 24 kB

struct Packing {  // for each mask of 8 lanes, the numbers of its set lanes, a byte each
  uint64_t of[256];
};
static constexpr Packing packing() {
  Packing p{};
  for (int mask = 0; mask < 256; ++mask)
    for (int lane = 0, n = 0; lane < 8; ++lane)
      if (mask >> lane & 1) p.of[mask] |= uint64_t(lane) << 8 * n++;
  return p;
}
static constexpr Packing kPacking = packing();

// Append the lanes of x that are not zero, and their offsets; room for a whole vector. Returns the new count.
static inline int append(float* value, uint32_t* where, int n, vf x, vi offset) {
  int keep = _mm256_movemask_ps(_mm256_cmp_ps((__m256)x, _mm256_setzero_ps(), _CMP_NEQ_UQ));
  __m256i order = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(int64_t(kPacking.of[keep])));
  _mm256_storeu_ps(value + n, _mm256_permutevar8x32_ps((__m256)x, order));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(where + n), _mm256_permutevar8x32_epi32((__m256i)offset, order));
  return n + __builtin_popcount(unsigned(keep));
}

static inline void turn_tile(vf (&y)[8]) {
  __m256 t[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps((__m256)y[i], (__m256)y[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps((__m256)y[i], (__m256)y[i + 1]);
  }
  for (int i = 0; i < 4; ++i) {  // column i (mod 4) of rows 0 .. 3 and of rows 4 .. 7
    int from = i / 2;
    __m256 a = t[from], b = t[from + 2], c = t[from + 4], d = t[from + 6];
    __m256 low = i % 2 ? _mm256_shuffle_ps(a, b, 0xee) : _mm256_shuffle_ps(a, b, 0x44);
    __m256 high = i % 2 ? _mm256_shuffle_ps(c, d, 0xee) : _mm256_shuffle_ps(c, d, 0x44);
    y[i] = (vf)_mm256_permute2f128_ps(low, high, 0x20), y[i + 4] = (vf)_mm256_permute2f128_ps(low, high, 0x31);
  }
}
