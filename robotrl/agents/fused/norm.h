// Layer normalisation (Ba et al. 2016) between a linear layer and its ReLU, as in DroQ (Hiraoka et al. 2022). Its ReLU
// leaves zeros as ever, but a gradient that has passed it has none: those products are dense.
// Included after sparse.h, same namespace.

constexpr float kNormEpsilon = 1e-5f;  // torch.nn.LayerNorm's

static inline vf within(vf x, int j, int n) {  // zero from column n on; x holds columns j ...
  if (j + kLanes <= n) return x;
  return offsets(j, 1) < n - vi{} ? x : vf{};
}

// z, in place, to ReLU(gain (z - mean) / std + bias); a NaN stays a NaN. What went by is kept in seen unless null.
static void normalise(const float* p, const Layer& l, int rows, Block z, const Normal* seen) {
  const float *gain = p + l.norm_gain, *bias = p + l.norm_bias;
  const int n = l.out;
  for (int r = 0; r < rows; ++r) {
    float *at = z.row(r), *kept = seen ? seen->value.row(r) : at;
    vf total{}, square{};
    for (int j = 0; j < n; j += kLanes) total += load(at + j);  // the padding holds zeros
    const vf mean = splat(sum(total) / float(n));
    for (int j = 0; j < n; j += kLanes) {
      vf d = within(load(at + j) - mean, j, n);
      square += d * d;
    }
    const float scale = 1.0f / __builtin_sqrtf(sum(square) / float(n) + kNormEpsilon);
    if (seen) seen->scale[r] = scale;
    for (int j = 0; j < n; j += kLanes) {
      vf normal = within((load(at + j) - mean) * splat(scale), j, n);
      vf y = normal * load(gain + j) + load(bias + j);
      store(kept + j, normal), store(at + j, y < vf{} ? vf{} : y);
    }
  }
}

// From the gradient d behind the normalisation to the one before it, which may lie in the same place: it loses its mean
// and its share of the normalised values. which: rows of seen, null for 0, 1, ...
static void before_norm(const float* p, const Layer& l, int rows, Block d, const int* which, const Normal& seen, Block out) {
  const float* gain = p + l.norm_gain;
  const int n = l.out;
  for (int r = 0; r < rows; ++r) {
    const int row = which ? which[r] : r;
    const float *from = d.row(r), *normal = seen.value.row(row);
    float* to = out.row(r);
    vf total{}, share{};
    for (int j = 0; j < n; j += kLanes) {
      vf g = load(from + j) * load(gain + j);
      total += g, share += g * load(normal + j);
    }
    const vf mean = splat(sum(total) / float(n)), part = splat(sum(share) / float(n)), scale = splat(seen.scale[row]);
    for (int j = 0; j < n; j += kLanes) {
      vf g = load(from + j) * load(gain + j);
      store(to + j, within((g - mean - load(normal + j) * part) * scale, j, n));
    }
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
