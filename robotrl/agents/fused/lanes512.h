// What AVX-512 does in one instruction and the language cannot say. Namespace as kernels.h.

constexpr int kBlock = 48;  // depth of one list: with 8 vectors of columns, a right operand of 24 kB

// Append the lanes of x that are not zero, and their offsets; room for a whole vector. Returns the new count.
static inline int append(float* value, uint32_t* where, int n, vf x, vi offset) {
  __mmask16 keep = _mm512_cmp_ps_mask((__m512)x, _mm512_setzero_ps(), _CMP_NEQ_UQ);
  _mm512_storeu_ps(value + n, _mm512_maskz_compress_ps(keep, (__m512)x));
  _mm512_storeu_si512(where + n, _mm512_maskz_compress_epi32(keep, (__m512i)offset));
  return n + __builtin_popcount(keep);
}

static inline void turn_tile(vf (&y)[16]) {
  __m512 (&x)[16] = reinterpret_cast<__m512 (&)[16]>(y);
  __m512 t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) t[i] = _mm512_unpacklo_ps(x[i], x[i + 1]), t[i + 1] = _mm512_unpackhi_ps(x[i], x[i + 1]);
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4)
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      x[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(t[i + j]), _mm512_castps_pd(t[i + j + 2])));
      x[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(t[i + j]), _mm512_castps_pd(t[i + j + 2])));
    }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {  // x[4 q + i]: column i (mod 4) of rows 4 q .. 4 q + 3
    __m512 a = _mm512_shuffle_f32x4(x[i], x[i + 4], 0x88), b = _mm512_shuffle_f32x4(x[i], x[i + 4], 0xdd);
    __m512 c = _mm512_shuffle_f32x4(x[i + 8], x[i + 12], 0x88), d = _mm512_shuffle_f32x4(x[i + 8], x[i + 12], 0xdd);
    t[i] = _mm512_shuffle_f32x4(a, c, 0x88), t[i + 8] = _mm512_shuffle_f32x4(a, c, 0xdd);
    t[i + 4] = _mm512_shuffle_f32x4(b, d, 0x88), t[i + 12] = _mm512_shuffle_f32x4(b, d, 0xdd);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) x[i] = t[i];
}
