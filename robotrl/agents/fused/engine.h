// The state of one agent: networks, moments, targets, the activations of one batch. The updates themselves: step.h.
#pragma once
#include <algorithm>
#include <cmath>

#include "layout.h"
#include "pool.h"

namespace robotrl {

// Parts of an update, in order: robotrl/agents/fused/engine.py names them.
enum Phase { kTargets, kCriticGradients, kCriticSteps, kActorGradients, kActorSteps, kPhases };

constexpr int kRows = 48;  // rows of a weight matrix one task updates; a multiple of every register tile

// One network: parameters p, moments m and v, target (critics only), and W^T of the layers a gradient passes through.
struct Weights {
  float *p = nullptr, *m = nullptr, *v = nullptr, *target = nullptr;
  float* transposed[kMaxHidden + 1] = {};
};

// What a pass of some rows through a network's hidden layers leaves for its gradients, and these.
struct Trace {
  Block h[kMaxHidden], dy[kMaxHidden];  // (rows, ld) activations after ReLU, gradients before it
  Block dz[kMaxHidden];                 // gradients before the normalisation too; dy where there is none
  Normal normal[kMaxHidden];
};

struct Piece {  // rows [first, last) of a layer's weight; columns of the first layer's
  int layer, first, last;
};

// A row seen in a mirror: value j is sign[j] * row[take[j]].
struct Mirror {
  std::vector<int32_t> take;
  std::vector<float> sign;
};

struct Call {  // one update's arguments
  const Columns* columns;
  const int64_t* indices;
  const float* noise;  // (2, batch, action); the second half is for the actor's turn
  const int32_t* targets;  // c.targets of the critics, by number: those whose targets count
  uint32_t key;            // of the masks of dropout
};

struct Engine {
  Config c;
  Net actor, critic;
  Weights pi, q[kMaxCritics];
  Trace acting, judging;                      // of the batch; the critics learn one after the other, in the same cache lines
  Trace asked[kMaxThreads][kMaxCritics];      // of a chunk, without gradients: the critics' values of the actor's actions
  int learning = 0;                           // the critic whose turn it is
  float* log_alpha;  // p, m, v
  int64_t steps = 0;
  float alpha = 0, actor_loss = 0, entropy = 0;  // the latter two of the actor's last turn
  double spent[kPhases] = {};                    // s, by phase, since the engine was made: what a profile is made of

  Block x, x_next;              // (batch, observation | action)
  Block head, dhead;            // (batch, mean | log_std)
  Block spread;                 // (batch, action) sigma * epsilon
  float *reward, *discount, *y, *log_pi;  // discount: gamma^steps (1 - terminated)
  float *value[kMaxCritics], *dvalue[kMaxCritics];  // (batch,) Q_i and dJ/dQ_i
  Block scratch[kMaxThreads][2];  // (chunk, widest)
  float* list[kMaxThreads];       // room for the lists of one product: values, offsets, counts
  size_t list_slots = 0;
  Block tall[kMaxThreads];        // (kRows, input) a gradient before it is turned
  float* daction[kMaxThreads];  // (chunk, action)
  int* which[kMaxThreads];      // (chunk,)
  std::vector<Piece> critic_pieces, actor_pieces;
  Call call{};
  Mirror observation_mirror, action_mirror;
  Arena arena;
  Pool pool;

  explicit Engine(const Config& config) : c(config), pool(config.threads) {
    build(actor, c.observation, 2 * c.action, false);
    build(critic, c.observation + c.action, 1, c.layer_norm != 0);
    place();        // measure
    arena.open();
    arena.used = 0;
    place();        // hand out
    cut(critic_pieces, critic);
    cut(actor_pieces, actor);
  }
  ~Engine() { std::free(arena.base); }

  bool actor_turn() const { return steps % c.actor_every == 0; }  // in the update going on
  int hidden() const { return c.hidden_count; }
  int chunk() const { return std::min(kChunk, ((c.batch + c.threads - 1) / c.threads + 11) / 12 * 12); }
  int chunks() const { return (c.batch + chunk() - 1) / chunk(); }

 private:
  void build(Net& net, int in, int out, bool norm) {
    for (int l = 0; l < c.hidden_count; ++l) net.add(l ? c.hidden[l - 1] : in, c.hidden[l], norm);
    net.add(c.hidden[c.hidden_count - 1], out, false);
  }

  float* floats(size_t n) { return arena.base + arena.take(n); }
  Block block(int rows, int columns) { return Block{floats(size_t(rows) * stride(columns)), stride(columns)}; }

  void place_weights(Weights& w, const Net& net, bool target, int first_transposed, int last_transposed) {
    w.p = floats(net.size), w.m = floats(net.size), w.v = floats(net.size);
    if (target) w.target = floats(net.size);
    for (int l = first_transposed; l <= last_transposed; ++l)
      w.transposed[l] = floats(size_t(padded(net.layer[l].out)) * stride(net.layer[l].in));
  }

  void place_trace(Trace& t, const Net& net, int rows, bool gradients) {
    for (int l = 0; l < hidden(); ++l) {
      t.h[l] = block(rows, c.hidden[l]);
      if (gradients) t.dy[l] = t.dz[l] = block(rows, c.hidden[l]);
      if (!net.layer[l].norm) continue;
      if (gradients) t.dz[l] = block(rows, c.hidden[l]);
      t.normal[l] = {block(rows, c.hidden[l]), floats(rows)};
    }
  }

  void place() {
    place_weights(pi, actor, false, 1, hidden());
    for (int i = 0; i < c.critics; ++i) place_weights(q[i], critic, true, 1, hidden() - 1);
    place_trace(acting, actor, c.batch, true), place_trace(judging, critic, c.batch, true);
    log_alpha = floats(3);
    x = block(c.batch, c.observation + c.action), x_next = block(c.batch, c.observation + c.action);
    head = block(c.batch, 2 * c.action), dhead = block(c.batch, 2 * c.action), spread = block(c.batch, c.action);
    reward = floats(c.batch), discount = floats(c.batch), y = floats(c.batch), log_pi = floats(c.batch);
    for (int i = 0; i < c.critics; ++i) value[i] = floats(c.batch), dvalue[i] = floats(c.batch);
    int widest = std::max(*std::max_element(c.hidden, c.hidden + c.hidden_count), 2 * c.action);  // of all layers' outputs
    list_slots = size_t(kChunk) * (std::max({widest, c.batch, 3 * c.action}) + 128);
    for (int t = 0; t < c.threads; ++t) {
      for (auto& s : scratch[t]) s = block(std::max(kChunk, padded(c.observation + c.action)), widest);
      tall[t] = block(kRows, c.observation + c.action);
      list[t] = floats(3 * list_slots);
      daction[t] = floats(size_t(kChunk) * c.action);
      which[t] = reinterpret_cast<int*>(floats(kChunk));
      for (int i = 0; i < c.critics; ++i) place_trace(asked[t][i], critic, chunk(), false);
    }
  }

  static void cut(std::vector<Piece>& pieces, const Net& net) {
    for (int l = net.count - 1; l >= 0; --l) {
      int in = net.layer[l].in, rows = net.layer[l].out == 1 ? in : kRows;  // a single column is one task
      if (l == 0) in = net.layer[0].out, rows = kRows;  // the first layer's are cut by output: its gradient, not its
                                                        // input, is half zeros
      for (int first = 0; first < in; first += rows) pieces.push_back({l, first, std::min(first + rows, in)});
    }
  }
};

}  // namespace robotrl
