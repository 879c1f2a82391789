// One SAC update in phases for one instruction set: targets by rows of the batch; then for each critic gradients by rows of
// the batch and weights (Adam, Polyak) by rows of the weights; at its turn the same for the actor. Included after kernels.h, same namespace.

static List room(const Engine& e, int worker) {
  float* at = e.list[worker];
  return {at, reinterpret_cast<uint32_t*>(at + e.list_slots), reinterpret_cast<int*>(at + 2 * e.list_slots), 0, 0};
}

static Block from(Block b, int row) { return Block{b.row(row), b.ld}; }
static Trace from(const Trace& whole, int row, int hidden) {
  Trace t;
  for (int l = 0; l < hidden; ++l) {
    t.h[l] = from(whole.h[l], row), t.dy[l] = from(whole.dy[l], row), t.dz[l] = from(whole.dz[l], row);
    t.normal[l] = {from(whole.normal[l].value, row), whole.normal[l].scale + row};
  }
  return t;
}

// Hidden layers of a network on rows of x; the activations of layer l go to keep[l], what a gradient needs to seen[l].
static void hidden_layers(const float* p, const Net& net, int rows, Block x, const Block* keep, List room,
                          const Normal* seen = nullptr, const Dropping& lost = {}) {
  for (int l = 0; l < net.count - 1; ++l) {
    const Layer& layer = net.layer[l];
    if (l) forward_sparse(p, layer, rows, x, keep[l], room);
    else forward(p, layer, rows, x, keep[l], !layer.norm);
    drop(lost, l, rows, nullptr, layer.out, keep[l]);  // after the ReLU as good as before it
    if (layer.norm) normalise(p, layer, rows, keep[l], seen ? seen + l : nullptr);
    x = keep[l];
  }
}

// Gradient before layer l's ReLU to the same of the layer below; h, which: as for Gate.
static void layer_back(const Weights& w, const Net& net, int l, int rows, Block dz, Block h, const int* which, Block out,
                       List room) {
  if (net.layer[l].norm) backward(w.transposed[l], net.layer[l], rows, dz, h, which, out);
  else backward_sparse(w.transposed[l], net.layer[l], rows, dz, h, which, out, room);
}

// a = tanh(mean + sigma epsilon) into the action columns of x, log pi(a|s), sigma epsilon; rows [first, first + rows).
static void squash(Engine& e, int first, int rows, Block x, const float* epsilon, float* flat) {
  const int n = e.c.action, all = rows * n;
  const float* noise = epsilon + size_t(first) * n;
  float *action = flat, *log_pi = flat + all, *spread = flat + 2 * all;
  for (int r = 0; r < rows; ++r)
    for (int j = 0; j < n; ++j) {
      action[r * n + j] = e.head.row(first + r)[j];
      spread[r * n + j] = e.head.row(first + r)[n + j];
    }
  squash_flat(all, noise, action, spread, log_pi);
  for (int r = 0; r < rows; ++r) {
    float total = 0;
    for (int j = 0; j < n; ++j) total += log_pi[r * n + j];
    e.log_pi[first + r] = total;
    std::memcpy(x.row(first + r) + e.c.observation, action + r * n, size_t(n) * 4);
    std::memcpy(e.spread.row(first + r), spread + r * n, size_t(n) * 4);
  }
}

static float critic_head(const float* p, const Net& net, const float* h) {
  const Layer& l = net.layer[net.count - 1];
  return dot(h, p + l.weight, l.in) + p[l.bias];
}

// Actor on rows [first, first + rows) of x: action columns of x, head, spread, log_pi.
static void act(Engine& e, int first, int rows, Block x, const float* epsilon, const Block* keep, List room) {
  const Layer& last = e.actor.layer[e.actor.count - 1];
  hidden_layers(e.pi.p, e.actor, rows, from(x, first), keep, room);
  forward(e.pi.p, last, rows, keep[e.hidden() - 1], from(e.head, first), false);
  squash(e, first, rows, x, epsilon, room.value);
}

// y = r + gamma^steps (1 - terminated) (min_i Q_target_i(s', a') - alpha log pi(a'|s')), i of the call's targets
static void targets(Engine& e, int first, int rows, const Block* keep, List room) {
  act(e, first, rows, e.x_next, e.call.noise, keep, room);
  for (int k = 0; k < e.c.targets; ++k) {
    const float* target = e.q[e.call.targets[k]].target;
    const Dropping lost = dropping(e, kTarget, e.call.targets[k], first);
    hidden_layers(target, e.critic, rows, from(e.x_next, first), keep, room, nullptr, lost);
    for (int r = 0; r < rows; ++r) {
      float value = critic_head(target, e.critic, keep[e.hidden() - 1].row(r));
      e.y[first + r] = k && !(value < e.y[first + r]) && value == value ? e.y[first + r] : value;
    }
  }
  for (int b = first; b < first + rows; ++b)
    e.y[b] = e.reward[b] + e.discount[b] * (e.y[b] - e.alpha * e.log_pi[b]);
}

// dz of the last hidden layer from one number a row: scale[r] * w where the unit was active.
static void spread_value(const Engine& e, const float* p, const float* h, float scale, float* out) {
  const Layer& l = e.critic.layer[e.hidden()];
  vf s = splat(scale);
  for (int j = 0; j < padded(l.in); j += kLanes) {
    vf g = s * load(p + l.weight + j);
    store(out + j, load(h + j) <= vf{} ? vf{} : g);
  }
}

static void target_phase(void* context, int task, int worker) {
  Engine& e = *static_cast<Engine*>(context);
  int first = task * e.chunk(), rows = std::min(e.chunk(), e.c.batch - first);
  constexpr int ahead = 6;
  for (int b = first; b < first + rows + ahead; ++b) {
    if (b < first + rows) announce(e, b);
    if (b >= first + ahead) gather(e, b - ahead);
  }
  Block keep[kMaxHidden];
  for (int l = 0; l < e.hidden(); ++l) keep[l] = e.scratch[worker][l % 2];
  targets(e, first, rows, keep, room(e, worker));
}

// Values of a critic on the batch, and the gradient of half the mean squared residual in every layer.
static void critic_phase(void* context, int task, int worker) {
  Engine& e = *static_cast<Engine*>(context);
  const int i = e.learning, first = task * e.chunk(), rows = std::min(e.chunk(), e.c.batch - first), top = e.hidden() - 1;
  const Weights& q = e.q[i];
  const Trace t = from(e.judging, first, e.hidden());
  const Dropping lost = dropping(e, kCritic, i, first);
  hidden_layers(q.p, e.critic, rows, from(e.x, first), t.h, room(e, worker), t.normal, lost);
  for (int r = 0; r < rows; ++r) {
    const int b = first + r;
    e.value[i][b] = critic_head(q.p, e.critic, t.h[top].row(r));
    e.dvalue[i][b] = (e.value[i][b] - e.y[b]) / float(e.c.batch);
    spread_value(e, q.p, t.h[top].row(r), e.dvalue[i][b], t.dy[top].row(r));
  }
  for (int l = top; l >= 0; --l) {
    const Layer& layer = e.critic.layer[l];
    if (layer.norm) before_norm(q.p, layer, rows, t.dy[l], nullptr, t.normal[l], t.dz[l]);
    drop(lost, l, rows, nullptr, layer.out, t.dz[l]);
    if (l) layer_back(q, e.critic, l, rows, t.dz[l], t.h[l - 1], nullptr, t.dy[l - 1], room(e, worker));
  }
}

static Adam adam(const Engine& e, float lr, int64_t steps) {
  double t = double(steps);
  return {float(lr / (1 - std::pow(0.9, t))), float(1 / std::sqrt(1 - std::pow(0.999, t))), e.c.polyak};
}

// A critic's head: one column, so its gradient is a weighted sum of activations.
static void descend_head(Engine& e, int i, Learned to, Adam step) {
  const Layer& l = e.critic.layer[e.hidden()];
  Block h = e.judging.h[e.hidden() - 1];
  for (int j = 0; j < padded(l.in); j += kLanes) {
    vf g{};
    for (int b = 0; b < e.c.batch; ++b) g += splat(e.dvalue[i][b]) * load(h.row(b) + j);
    size_t at = l.weight + j;
    step(to.p + at, to.m + at, to.v + at, to.target + at, g);
  }
  vf g{};
  for (int b = 0; b < e.c.batch; ++b) g[0] += e.dvalue[i][b];
  for (size_t at = l.bias; at < l.bias + 16; at += kLanes) {
    step(to.p + at, to.m + at, to.v + at, to.target + at, g);
    g = vf{};
  }
}

static void descend(Engine& e, const Net& net, Weights& w, Trace& t, Piece piece, Block x, Block dz, Adam step,
                    int worker) {
  const Layer& l = net.layer[piece.layer];
  Learned to{w.p, w.m, w.v, w.target};
  List lists = room(e, worker);
  Block wide = e.scratch[worker][0];
  if (piece.layer == 0 && l.norm)
    descend_first(l, piece.first, piece.last, e.c.batch, x, dz, to, step);
  else if (piece.layer == 0)
    descend_first_sparse(l, piece.first, piece.last, e.c.batch, x, dz, to, step, lists, e.tall[worker], wide);
  else if (l.out > 64)
    descend_weight_sparse(l, piece.first, piece.last, e.c.batch, x, dz, to, step, lists, wide);
  else
    descend_weight(l, piece.first, piece.last, e.c.batch, x, dz, to, step);
  if (piece.first == 0) descend_bias(l, e.c.batch, dz, to, step);
  if (piece.first == 0 && l.norm) descend_norm(l, e.c.batch, t.dy[piece.layer], t.normal[piece.layer], to, step);
  if (w.transposed[piece.layer]) transpose(w.p, l, piece.first, piece.last, w.transposed[piece.layer]);
}

static void critic_descend_phase(void* context, int task, int worker) {
  Engine& e = *static_cast<Engine*>(context);
  Piece piece = e.critic_pieces[task];
  Weights& q = e.q[e.learning];
  Trace& t = e.judging;
  Adam step = adam(e, e.c.critic_lr, e.steps);
  if (piece.layer == e.hidden()) return descend_head(e, e.learning, {q.p, q.m, q.v, q.target}, step);
  descend(e, e.critic, q, t, piece, piece.layer ? t.h[piece.layer - 1] : e.x, t.dz[piece.layer], step, worker);
}

// The critic with the smallest value of row b.
static int smallest(const Engine& e, int b) {
  int least = 0;
  for (int i = 1; i < e.c.critics; ++i)
    if (e.value[i][b] < e.value[least][b]) least = i;
  return least;
}

// What the actor ascends at row b: the smallest of the critics' values or their mean.
static float actor_value(const Engine& e, int b) {
  if (!e.c.actor_mean) return e.value[smallest(e, b)][b];
  float total = 0;
  for (int i = 0; i < e.c.critics; ++i) total += e.value[i][b];
  return total / float(e.c.critics);
}

// Critic i's share of d(-mean actor_value)/da for a chunk, added to out (rows, action).
static void action_gradient(Engine& e, int i, int first, int rows, int worker, float* out) {
  const Weights& q = e.q[i];
  const Trace& t = e.asked[worker][i];
  int count = 0, *which = e.which[worker], n = e.c.action;
  Block d = e.scratch[worker][0], other = e.scratch[worker][1];
  const float share = -1.0f / float(e.c.actor_mean ? e.c.batch * e.c.critics : e.c.batch);
  for (int r = 0; r < rows; ++r) {
    if (!e.c.actor_mean && smallest(e, first + r) != i) continue;
    spread_value(e, q.p, t.h[e.hidden() - 1].row(r), share, d.row(count));
    which[count++] = r;
  }
  for (int l = e.hidden() - 1; l >= 0; --l) {
    const Layer& layer = e.critic.layer[l];
    if (layer.norm) before_norm(q.p, layer, count, d, which, t.normal[l], d);
    drop(dropping(e, kActor, i, first), l, count, which, layer.out, d);
    if (l) layer_back(q, e.critic, l, count, d, t.h[l - 1], which, other, room(e, worker)), std::swap(d, other);
  }
  const Layer& bottom = e.critic.layer[0];
  for (int r = 0; r < count; ++r)
    for (int j = 0; j < n; ++j)
      out[which[r] * n + j] += dot(d.row(r), q.p + bottom.weight + size_t(e.c.observation + j) * bottom.ld, bottom.out);
}

// The actor's loss down to the head's two outputs.
static void head_gradient(Engine& e, int b, const float* daction) {
  float scale = e.alpha / float(e.c.batch);
  const float *head = e.head.row(b), *a = e.x.row(b) + e.c.observation, *spread = e.spread.row(b);
  float* out = e.dhead.row(b);
  for (int j = 0; j < e.c.action; ++j) {
    float raw = head[e.c.action + j];
    float du = 2.0f * scale * a[j] + daction[j] * (1.0f - a[j] * a[j]);
    out[j] = du;
    out[e.c.action + j] = raw >= -5.0f && raw <= 2.0f ? du * spread[j] - scale : 0.0f;
  }
}

static void actor_phase(void* context, int task, int worker) {
  Engine& e = *static_cast<Engine*>(context);
  int first = task * e.chunk(), rows = std::min(e.chunk(), e.c.batch - first), top = e.hidden() - 1;
  const Trace t = from(e.acting, first, e.hidden());
  act(e, first, rows, e.x, e.call.noise + size_t(e.c.batch) * e.c.action, t.h, room(e, worker));
  for (int i = 0; i < e.c.critics; ++i) {
    const Trace& seen = e.asked[worker][i];
    const Dropping lost = dropping(e, kActor, i, first);
    hidden_layers(e.q[i].p, e.critic, rows, from(e.x, first), seen.h, room(e, worker), seen.normal, lost);
    for (int r = 0; r < rows; ++r) e.value[i][first + r] = critic_head(e.q[i].p, e.critic, seen.h[top].row(r));
  }
  std::memset(e.daction[worker], 0, size_t(rows) * e.c.action * 4);
  for (int i = 0; i < e.c.critics; ++i) action_gradient(e, i, first, rows, worker, e.daction[worker]);
  for (int r = 0; r < rows; ++r) head_gradient(e, first + r, e.daction[worker] + size_t(r) * e.c.action);
  backward(e.pi.transposed[top + 1], e.actor.layer[top + 1], rows, from(e.dhead, first), t.h[top], nullptr, t.dz[top]);
  for (int l = top; l > 0; --l)
    backward_sparse(e.pi.transposed[l], e.actor.layer[l], rows, t.dz[l], t.h[l - 1], nullptr, t.dz[l - 1], room(e, worker));
}

static void actor_descend_phase(void* context, int task, int worker) {
  Engine& e = *static_cast<Engine*>(context);
  Piece piece = e.actor_pieces[task];
  Block dz = piece.layer == e.hidden() ? e.dhead : e.acting.dz[piece.layer];
  Block x = piece.layer ? e.acting.h[piece.layer - 1] : e.x;
  descend(e, e.actor, e.pi, e.acting, piece, x, dz, adam(e, e.c.actor_lr, e.steps / e.c.actor_every), worker);
}

// All tasks of a phase, and what they took.
static void go(Engine& e, Phase phase, size_t tasks, Pool::Task task) {
  auto begun = std::chrono::steady_clock::now();
  e.pool.run(int(tasks), task, &e);
  e.spent[phase] += std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
}

// The turn of actor and temperature.
static void improve(Engine& e) {
  double loss = 0, log_pi = 0;
  int n = e.c.batch;
  go(e, kActorGradients, e.chunks(), actor_phase);
  for (int b = 0; b < n; ++b) loss += double(e.alpha) * e.log_pi[b] - actor_value(e, b), log_pi += e.log_pi[b];
  go(e, kActorSteps, e.actor_pieces.size(), actor_descend_phase);
  float g = -e.alpha * float(log_pi / n + e.c.target_entropy);
  Adam step = adam(e, e.c.temperature_lr, e.steps / e.c.actor_every);
  float *p = e.log_alpha, &m = p[1], &v = p[2];
  m += (g - m) * 0.1f, v = v * 0.999f + g * g * 0.001f;
  p[0] -= step.step * m / (std::sqrt(v) * step.scale + 1e-8f);
  e.actor_loss = float(loss / n), e.entropy = float(-log_pi / n);
}

// metrics: critic_loss, actor_loss, entropy, temperature, q_mean
static void update(Engine& e, float* metrics) {
  ++e.steps;
  e.alpha = std::exp(e.log_alpha[0]);
  int n = e.c.batch, k = e.c.critics;
  go(e, kTargets, e.chunks(), target_phase);
  for (e.learning = 0; e.learning < k; ++e.learning) {
    go(e, kCriticGradients, e.chunks(), critic_phase);
    go(e, kCriticSteps, e.critic_pieces.size(), critic_descend_phase);
  }
  double residual = 0, value = 0;
  for (int i = 0; i < k; ++i)
    for (int b = 0; b < n; ++b) {
      double d = e.value[i][b] - e.y[b];
      residual += 0.5 * d * d, value += e.value[i][b];
    }
  if (e.actor_turn()) improve(e);
  metrics[0] = float(residual / n), metrics[1] = e.actor_loss, metrics[2] = e.entropy;
  metrics[3] = std::exp(e.log_alpha[0]), metrics[4] = float(value / n / k);
}

// After parameters were written from outside.
static void refresh(Engine& e) {
  auto all = [](const Net& net, Weights& w) {
    for (int l = 0; l < net.count; ++l)
      if (w.transposed[l]) transpose(w.p, net.layer[l], 0, net.layer[l].in, w.transposed[l]);
  };
  all(e.actor, e.pi);
  for (int i = 0; i < e.c.critics; ++i) all(e.critic, e.q[i]);
}
