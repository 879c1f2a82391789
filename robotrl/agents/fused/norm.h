// Layer normalisation (Ba et al. 2016) between a linear layer and its ReLU, as in DroQ (Hiraoka et al. 2022). Its ReLU
// leaves zeros as ever, but a gradient that has passed it has none: those products are dense.
// Included after sparse.h, same namespace.

constexpr float kNormEpsilon = 1e-5f;  // torch.nn.LayerNorm's

static inline vf within(vf x, int n) { return offsets(0, 1) < n - vi{} ? x : vf{}; }  // zero from column n on

// f(j, cut) for the vector from each column j of n on; cut(x) is x with zeros from column n on.
template <class F>
static inline void columns(int n, const F& f) {
  int j = 0;
  for (; j + kLanes <= n; j += kLanes) f(j, [](vf x) { return x; });
  if (j < n) f(j, [=](vf x) { return within(x, n - j); });
}

// R rows from r on together: their sums do not wait for each other.
template <int R>
static inline void normalise_rows(const float* p, const Layer& l, int r, Block z, const Normal* seen) {
  float *at[R], *kept[R];
  for (int i = 0; i < R; ++i) at[i] = z.row(r + i), kept[i] = seen ? seen->value.row(r + i) : at[i];
  vf total[R] = {}, square[R] = {}, mean[R], scale[R];
  columns(l.out, [&](int j, auto cut) {
#pragma GCC unroll 4
    for (int i = 0; i < R; ++i) total[i] += cut(load(at[i] + j));
  });
  for (int i = 0; i < R; ++i) mean[i] = splat(sum(total[i]) / float(l.out));
  columns(l.out, [&](int j, auto cut) {
#pragma GCC unroll 4
    for (int i = 0; i < R; ++i) {
      vf d = cut(load(at[i] + j) - mean[i]);
      square[i] += d * d;
    }
  });
  for (int i = 0; i < R; ++i) {
    float inverse = 1.0f / __builtin_sqrtf(sum(square[i]) / float(l.out) + kNormEpsilon);
    if (seen) seen->scale[r + i] = inverse;
    scale[i] = splat(inverse);
  }
  columns(l.out, [&](int j, auto cut) {
    vf gain = load(p + l.norm_gain + j), bias = load(p + l.norm_bias + j);
#pragma GCC unroll 4
    for (int i = 0; i < R; ++i) {
      vf normal = cut((load(at[i] + j) - mean[i]) * scale[i]), y = normal * gain + bias;
      store(kept[i] + j, normal), store(at[i] + j, y < vf{} ? vf{} : y);
    }
  });
}

// z, in place, to ReLU(gain (z - mean) / std + bias); a NaN stays a NaN. What went by is kept in seen unless null.
static void normalise(const float* p, const Layer& l, int rows, Block z, const Normal* seen) {
  int r = 0;
  for (; r + 4 <= rows; r += 4) normalise_rows<4>(p, l, r, z, seen);
  for (; r < rows; ++r) normalise_rows<1>(p, l, r, z, seen);
}

// From the gradient d behind the normalisation to the one before it, which may lie in the same place: it loses its mean
// and its share of the normalised values. which: rows of seen, null for 0, 1, ...
static void before_norm(const float* p, const Layer& l, int rows, Block d, const int* which, const Normal& seen, Block out) {
  const float* gain = p + l.norm_gain;
  for (int r = 0; r < rows; ++r) {
    const int row = which ? which[r] : r;
    const float *from = d.row(r), *normal = seen.value.row(row);
    float* to = out.row(r);
    vf total{}, share{};
    columns(l.out, [&](int j, auto) {  // the padding of all three holds zeros
      vf g = load(from + j) * load(gain + j);
      total += g, share += g * load(normal + j);
    });
    const vf mean = splat(sum(total) / float(l.out)), part = splat(sum(share) / float(l.out)), scale = splat(seen.scale[row]);
    columns(l.out, [&](int j, auto cut) {
      vf g = load(from + j) * load(gain + j);
      store(to + j, cut((g - mean - load(normal + j) * part) * scale));
    });
  }
}

// Gain and bias from the gradient d behind the normalisation.
static void descend_norm(const Layer& l, int batch, Block d, const Normal& seen, Learned to, Adam adam) {
  for (int j = 0; j < padded(l.out); j += kLanes) {
    vf gain{}, bias{};
    for (int b = 0; b < batch; ++b) {
      vf g = load(d.row(b) + j);
      bias += g, gain += g * load(seen.value.row(b) + j);
    }
    for (size_t at : {l.norm_gain + j, l.norm_bias + j})
      adam(to.p + at, to.m + at, to.v + at, to.target + at, at == l.norm_gain + j ? gain : bias);
  }
}

// As descend_first_sparse, dz without zeros: columns [first, last) of the first layer's W.
static void descend_first(const Layer& l, int first, int last, int batch, Block x, Block dz, Learned to, Adam adam) {
  multiply(l.in, padded(last - first), batch, Operand{x.at, 1, x.ld}, dz.at + first, dz.ld,
           Descend{to, adam, l.weight + first, l.ld});
}
