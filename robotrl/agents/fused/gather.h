// From the replay's columns into one batch; a row i < 0 is row -i - 1 seen in the mirror. Namespace as kernels.h.

static int64_t row_of(const Engine& e, int b) { return e.call.indices[b] < 0 ? ~e.call.indices[b] : e.call.indices[b]; }

// Ask for a row some rows ahead of its turn: drawn at random, it lies in no cache.
static void announce(const Engine& e, int b) {
  const Columns& s = *e.call.columns;
  int64_t i = row_of(e, b);
  for (long at = 0; at < long(e.c.observation) * 4; at += 64) {
    __builtin_prefetch(s.observation + i * s.observation_stride + at);
    __builtin_prefetch(s.next_observation + i * s.next_observation_stride + at);
  }
  __builtin_prefetch(s.action + i * s.action_stride);
  __builtin_prefetch(s.reward + i * s.reward_stride);
  __builtin_prefetch(s.terminated + i * s.terminated_stride);
}

// n values from a row of the replay, in the mirror unless null.
static void copy(const char* row, int n, const Mirror* mirror, float* to) {
  if (!mirror) std::memcpy(to, row, size_t(n) * 4);
  else
    for (int j = 0; j < n; ++j) {
      float value;
      std::memcpy(&value, row + size_t(mirror->take[j]) * 4, 4);
      to[j] = mirror->sign[j] * value;
    }
}

static void gather(Engine& e, int b) {
  const Columns& s = *e.call.columns;
  const int64_t i = row_of(e, b);
  const bool seen = e.call.indices[b] < 0;
  const Mirror *observation = seen ? &e.observation_mirror : nullptr, *action = seen ? &e.action_mirror : nullptr;
  copy(s.observation + i * s.observation_stride, e.c.observation, observation, e.x.row(b));
  copy(s.action + i * s.action_stride, e.c.action, action, e.x.row(b) + e.c.observation);
  copy(s.next_observation + i * s.next_observation_stride, e.c.observation, observation, e.x_next.row(b));
  std::memcpy(e.reward + b, s.reward + i * s.reward_stride, 4);
  std::memcpy(e.discount + b, s.discount + i * s.discount_stride, 4);
  if (s.terminated[i * s.terminated_stride]) e.discount[b] = 0.0f;
}
