// exp, tanh and log on whole arrays, good to about an ulp, without branches so that they compile to vectors. A NaN stays
// a NaN. Polynomials: Moshier, Cephes library, single precision. Namespace as kernels.h.

static inline float exponential(float x) {
  x = x > 88.0f ? 88.0f : x < -87.0f ? -87.0f : x;
  float n = __builtin_rintf(x * 1.44269504f), r = x - n * 0.693359375f + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f, p = p * r + 8.3334519073e-3f, p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f, p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  int32_t bits = (int32_t(n) + 127) << 23;
  float power;
  __builtin_memcpy(&power, &bits, 4);
  return p * power;
}

static inline float log_from_1_to_2(float x) {
  bool high = x > 1.41421356f;
  float r = (high ? 0.5f * x : x) - 1.0f, z = r * r, p = 7.0376836292e-2f;
  p = p * r - 1.1514610310e-1f, p = p * r + 1.1676998740e-1f, p = p * r - 1.2420140846e-1f;
  p = p * r + 1.4249322787e-1f, p = p * r - 1.6668057665e-1f, p = p * r + 2.0000714765e-1f;
  p = p * r - 2.4999993993e-1f, p = p * r + 3.3333331174e-1f;
  return p * r * z - 0.5f * z + r + (high ? 0.69314718056f : 0.0f);
}

// In: action = mean, spread = log_std. Out: action = tanh(mean + sigma epsilon), spread = sigma epsilon, and log pi of each.
// log(1 - tanh(u)^2) = 2 (log 2 - |u| - log(1 + exp(-2 |u|))) is finite for every u.
static void squash_flat(int n, const float* __restrict epsilon, float* __restrict action, float* __restrict spread,
                        float* __restrict log_pi) {
  constexpr float log_2 = 0.69314718056f, half_log_2pi = 0.91893853321f;
  for (int i = 0; i < n; ++i) {
    float raw = spread[i], log_std = raw < -5.0f ? -5.0f : raw > 2.0f ? 2.0f : raw;
    float noise = exponential(log_std) * epsilon[i], u = action[i] + noise, size = __builtin_fabsf(u);
    float e = exponential(-2.0f * size), far = (1.0f - e) / (1.0f + e), s = u * u;
    float near = -5.70498872745e-3f;
    near = near * s + 2.06390887954e-2f, near = near * s - 5.37397155531e-2f, near = near * s + 1.33314422036e-1f;
    near = near * s - 3.33332819422e-1f, near = near * s * u + u;
    action[i] = size < 0.625f ? near : __builtin_copysignf(far, u);
    spread[i] = noise;
    log_pi[i] = -0.5f * epsilon[i] * epsilon[i] - log_std - half_log_2pi - 2.0f * (log_2 - size - log_from_1_to_2(1.0f + e));
  }
}
