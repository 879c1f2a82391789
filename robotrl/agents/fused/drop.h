// Dropout, the masks those of robotrl/agents/dropout.py to the bit. Included after norm.h, same namespace.

typedef uint32_t vu __attribute__((vector_size(kLanes * 4), may_alias));

enum Stage { kTarget, kCritic, kActor };

// What is dropped in one pass of one critic; batch row `first` is row 0 of the blocks at hand.
struct Dropping {
  uint32_t key = 0, pass = 0;
  int parts = 0, first = 0;  // parts: the rate in 65536ths
};

static Dropping dropping(const Engine& e, Stage stage, int critic, int first) {
  return {e.call.key, uint32_t(stage) << 24 | uint32_t(critic) << 8, e.c.dropout, first};
}

template <class Word>
static inline Word mix(Word x) {
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}

// x in place, (rows, width) of hidden layer `layer`: to zero or times 1 / (1 - rate). As a linear map it is its own
// transpose: a gradient passes it in the same way. which: rows of x, null for 0, 1, ...
static void drop(const Dropping& d, int layer, int rows, const int* which, int width, Block x) {
  if (!d.parts) return;
  const uint32_t stream = mix(d.key + 0x9e3779b9u * (d.pass | uint32_t(layer)));
  const vf kept = splat(65536.0f / float(65536 - d.parts));
  const vi parts = d.parts - vi{};
  const vu lane = (vu)offsets(0, 1);
  for (int r = 0; r < rows; ++r) {
    const vu row = mix(stream + uint32_t(d.first + (which ? which[r] : r))) + lane;
    float* at = x.row(r);
    for (int j = 0; j < width; j += 32)
      for (int c = j; c < j + 16; c += kLanes) {
        const vu bits = mix(row + uint32_t(c - j / 2));
        const vi low = (vi)(bits & 0xffffu), high = (vi)(bits >> 16);
        store(at + c, low < parts ? vf{} : load(at + c) * kept);
        if (j + 16 < width) store(at + c + 16, high < parts ? vf{} : load(at + c + 16) * kept);
      }
  }
}
