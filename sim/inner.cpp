// The twin between two physics steps, in one call: the servos' delayed reading, their law, the motors, the record; and the
// torso's attitude out of the record. The readable pages are servo.py, ramp.py, motor.py and history.py; this does what they
// do, operation for operation, so that equal seeds give equal bits: compile it with -ffp-contract=off and without -ffast-math.
// Arrays belong to Python. Units: SI, robot convention.
#include <cmath>
#include <cstdint>
#include <cstring>

#include "answers.h"

namespace {

constexpr int N = 8;                 // motors
constexpr int TORSO = 24, ROW = 37;  // a row of the record: angle, velocity, torque; position, orientation, velocity, spin
constexpr int SPEED = 31;
constexpr int TABLE = 7;
constexpr double PI = 3.141592653589793;

// numpy's maximum and minimum on this processor family: a nan wins, and of equal numbers (0.0, -0.0) the second is taken.
inline double larger(double a, double b) { return std::isnan(a) || a > b ? a : b; }
inline double smaller(double a, double b) { return std::isnan(a) || a < b ? a : b; }

}  // namespace

extern "C" {

// The record; `History` in history.py.
struct Ring {
  double *rows, *torso;  // (depth, ROW); (depth, 12): rpy, rates, accel, position
  int64_t* derived;      // (depth,) the step whose values stand in `torso`
  int64_t depth;
  double dt, gravity;
  double offset[3], turn[4];  // of the torso's inertial frame
};

// Servos and motors; `ServoBank`, `Ramp` and `Motors`. All arrays (N,).
struct Plant {
  Ring* ring;
  double *stiffness, *damping, *bias, *feedforward, *limit, *floor, *heat;
  double *place, *speed, *goal, *goal_speed, *vlim, *alim;
  double *current, *torque, *overload_s;
  uint8_t* overheated;
  double *demand, *forces, *answer;  // A; Nm of URDF sign; PyBullet's answer (29,): angles, velocities, pose, twist
  double amperes[TABLE], newton_metres[TABLE], direction[N];
  double lag, dt;                     // physics steps, s
  double emf_per_speed, resistance, overload_a, overload_max_s, creep;
  double battery_v, strength, friction;
  int64_t step;                       // the newest in the record
  int32_t moving, plain, aimed, heat_steps, watching;
};

// What the servos know of themselves.
struct Thermal {
  double *sign, *offset, *trip_c, *thermistor;  // (N,)
  double ambient_c, kelvin_per_a2, board_share, nm_per_a, turn;
};

}  // extern "C"

namespace {

inline double* row_of(const Ring& r, int64_t step) {
  const int64_t i = step % r.depth;
  return r.rows + ROW * (i < 0 ? i + r.depth : i);
}

void step_ramp_fully(Plant& p) {
  bool moving = false;
  for (int i = 0; i < N; ++i) {
    const double dx = p.goal[i] - p.place[i], distance = std::fabs(dx), change = p.alim[i] * p.dt;
    const bool seeking = distance > 0;
    const double approach = std::copysign(smaller(p.vlim[i], std::sqrt(2.0 * p.alim[i] * distance)), dx);
    const double more = (seeking ? approach : p.goal_speed[i]) - p.speed[i];
    const double v = p.speed[i] + smaller(larger(more, -change), change);
    const bool done = seeking && v * p.dt * std::copysign(1.0, dx) >= distance;
    p.place[i] = done ? p.goal[i] : p.place[i] + v * p.dt;
    p.speed[i] = done ? p.goal_speed[i] : v;
    if (!seeking) p.goal[i] = p.place[i];
    const bool busy = p.speed[i] != 0 || p.goal_speed[i] != 0 || p.goal[i] != p.place[i];
    moving |= busy && !std::isnan(p.place[i]);
  }
  p.moving = moving;
}

void step_ramp(Plant& p) {
  if (!p.plain) return step_ramp_fully(p);
  bool moving = false;
  for (int i = 0; i < N; ++i) {
    const double dx = p.goal[i] - p.place[i], stride = p.vlim[i] * p.dt;
    const double move = smaller(larger(dx, -stride), stride);
    const bool under_way = move < dx || move > dx;
    p.place[i] = under_way ? p.place[i] + move : p.goal[i];
    p.speed[i] = under_way ? move / p.dt : 0.0;
    moving |= under_way;
  }
  p.moving = moving;
}

void aim(Plant& p) {
  for (int i = 0; i < N; ++i) {
    const double here = std::isnan(p.place[i]) ? 0.0 : p.stiffness[i] * p.place[i] + p.damping[i] * p.speed[i];
    p.bias[i] = here + p.feedforward[i];
  }
  p.aimed = 1;
}

// ServoBank.drive: the current demanded of each motor.
void drive(Plant& p, int64_t step) {
  if (p.moving) {
    step_ramp(p);
    aim(p);
  } else if (!p.aimed) {
    aim(p);
  }
  const int64_t whole = static_cast<int64_t>(p.lag);
  const double part = p.lag - static_cast<double>(whole);
  const double *newer = row_of(*p.ring, step - whole), *older = row_of(*p.ring, step - whole - 1);
  for (int i = 0; i < N; ++i) {
    const double angle = part == 0.0 ? newer[i] : newer[i] * (1.0 - part) + older[i] * part;
    const double velocity = part == 0.0 ? newer[N + i] : newer[N + i] * (1.0 - part) + older[N + i] * part;
    const double amps = p.bias[i] - p.stiffness[i] * angle - p.damping[i] * velocity;
    p.demand[i] = smaller(larger(amps, p.floor[i]), p.limit[i]);
    p.heat[i] += p.current[i] * p.current[i];
  }
  ++p.heat_steps;
}

// numpy.interp: `x` from the scale `from` to the scale `to`, (TABLE,) each.
double interpolated(double x, const double* from, const double* to) {
  if (std::isnan(x)) return x;
  if (x > from[TABLE - 1]) return to[TABLE - 1];
  if (x < from[0]) return to[0];
  int j = 0;
  while (j < TABLE - 1 && x >= from[j + 1]) ++j;
  if (j == TABLE - 1 || from[j] == x) return to[j];
  const double slope = (to[j + 1] - to[j]) / (from[j + 1] - from[j]);
  return slope * (x - from[j]) + to[j];
}

// Motors._watch: overload and shut-off. False for a nan.
bool watch(Plant& p, const double* size, double* torque) {
  for (int i = 0; i < N; ++i)
    if (std::isnan(size[i])) return false;
  bool watching = false;
  for (int i = 0; i < N; ++i) {
    p.overload_s[i] = size[i] > p.overload_a ? p.overload_s[i] + p.dt : 0.0;
    p.overheated[i] |= p.overload_s[i] > p.overload_max_s;
    if (p.overheated[i]) torque[i] = p.current[i] = 0.0;
    watching |= p.overload_s[i] != 0.0 || p.overheated[i];
  }
  p.watching = watching;
  return true;
}

// Motors.step: torque at the joints for the demanded current. False for a nan.
bool turn_motors(Plant& p, const double* velocity) {
  double size[N], torque[N];
  const double stall = p.battery_v / p.resistance;
  bool overloaded = p.watching;
  for (int i = 0; i < N; ++i) {
    const double emf = velocity[i] * p.emf_per_speed;
    p.current[i] = smaller(larger(p.demand[i], emf - stall), emf + stall);
    size[i] = std::fabs(p.current[i]);
    torque[i] = interpolated(size[i], p.amperes, p.newton_metres) * p.strength;
    overloaded |= !(size[i] <= p.overload_a);
  }
  if (overloaded && !watch(p, size, torque)) return false;
  for (int i = 0; i < N; ++i) {
    p.torque[i] = std::copysign(torque[i], p.current[i]);
    double shaft = p.torque[i];
    if (p.friction != 0.0) shaft -= smaller(larger(velocity[i], -p.creep), p.creep) * p.friction;
    p.forces[i] = shaft * p.direction[i];
  }
  return true;
}

// History._derive: rpy, rates, accel, position of one step from its row and the row before it.
void derive(const Ring& r, const double* row, const double* before, double* out) {
  const double *q = row + TORSO + 3, *t = r.turn, *v = row + SPEED, *w = v + 3, *u = before + SPEED;
  const double ax = q[0], ay = q[1], az = q[2], aw = q[3], bx = t[0], by = t[1], bz = t[2], bw = t[3];
  const double x = aw * bx + ax * bw + ay * bz - az * by, y = aw * by - ax * bz + ay * bw + az * bx;
  const double z = aw * bz + ax * by - ay * bx + az * bw, s = aw * bw - ax * bx - ay * by - az * bz;
  const double m[3][3] = {{1 - 2 * (y * y + z * z), 2 * (x * y - z * s), 2 * (x * z + y * s)},
                          {2 * (x * y + z * s), 1 - 2 * (x * x + z * z), 2 * (y * z - x * s)},
                          {2 * (x * z - y * s), 2 * (y * z + x * s), 1 - 2 * (x * x + y * y)}};
  const double sine = -m[2][0] < 1.0 ? -m[2][0] : 1.0;  // as Python's min and max take it
  out[0] = std::atan2(m[2][1], m[2][2]);
  out[1] = std::asin(sine > -1.0 ? sine : -1.0);
  out[2] = std::atan2(m[1][0], m[0][0]);
  const double f[3] = {(v[0] - u[0]) / r.dt, (v[1] - u[1]) / r.dt, (v[2] - u[2]) / r.dt + r.gravity};
  for (int k = 0; k < 3; ++k) {
    out[3 + k] = m[0][k] * w[0] + m[1][k] * w[1] + m[2][k] * w[2];
    out[6 + k] = m[0][k] * f[0] + m[1][k] * f[1] + m[2][k] * f[2];
    out[9 + k] = row[TORSO + k] - (m[k][0] * r.offset[0] + m[k][1] * r.offset[1] + m[k][2] * r.offset[2]);
  }
}

const double* torso_at(const Ring& r, int64_t step) {
  const double* row = row_of(r, step);
  const int64_t i = (row - r.rows) / ROW;
  double* out = r.torso + 12 * i;
  if (r.derived[i] != step) {
    derive(r, row, row_of(r, step - 1), out);
    r.derived[i] = step;
  }
  return out;
}

// Python's x % (2 pi).
double modulo(double x) {
  const double rest = std::fmod(x, 2 * PI);
  return rest == 0.0 ? 0.0 : rest < 0.0 ? rest + 2 * PI : rest;
}

// History._blend: the torso `back` steps before `step`, as (12,).
void blend(const Ring& r, int64_t step, double back, double* out) {
  const int64_t whole = static_cast<int64_t>(back);
  const double part = back - static_cast<double>(whole);
  const double *newer = torso_at(r, step - whole), *older = torso_at(r, step - whole - 1);
  bool wraps = false;
  for (int k = 0; k < 12; ++k) out[k] = newer[k] + (older[k] - newer[k]) * part;
  for (int k = 0; k < 3; ++k) wraps |= !(std::fabs(older[k] - newer[k]) <= PI);
  if (!wraps) return;
  for (int k = 0; k < 3; ++k) out[k] = newer[k] + part * (modulo(older[k] - newer[k] + PI) - PI);
}

// An IMU's three frames, 33 bytes into `out`; as `robotrl_imu`.
bool imu_sample(const Ring& r, int64_t step, double back, const double* noise, const double* level, const int16_t* last,
                uint8_t* out) {
  double t[12], value[9];
  blend(r, step, back, t);
  for (int k = 0; k < 3; ++k) {
    value[k] = (t[6 + k] + level[0] * noise[k]) * level[5];
    value[3 + k] = (t[3 + k] + level[1] * noise[3 + k]) * level[6];
  }
  const double angles[3] = {t[0] + level[3] + level[2] * noise[6], t[1] + level[4] + level[2] * noise[7], t[2]};
  for (int k = 0; k < 3; ++k) value[6 + k] = (modulo(angles[k] + PI) - PI) * level[7];
  for (int frame = 0; frame < 3; ++frame, out += 11) {
    int16_t words[4];
    for (int k = 0; k < 3; ++k) {
      const double whole = std::rint(value[3 * frame + k]);
      if (!std::isfinite(whole)) return false;
      words[k] = static_cast<int16_t>(whole < -32768 ? -32768 : whole > 32767 ? 32767 : whole);
    }
    words[3] = last[frame];
    out[0] = 0x55, out[1] = static_cast<uint8_t>(0x51 + frame), out[10] = 0;
    for (int k = 0; k < 4; ++k) {
      out[2 + 2 * k] = static_cast<uint8_t>(words[k] & 0xFF);
      out[3 + 2 * k] = static_cast<uint8_t>(words[k] >> 8 & 0xFF);
    }
    for (int k = 0; k < 10; ++k) out[10] = static_cast<uint8_t>(out[10] + out[k]);
  }
  return true;
}

// Torques of the step to come into `forces`. False when a current is not a number: then the step must not be made.
bool demand(Plant& p) {
  drive(p, p.step);
  return turn_motors(p, row_of(*p.ring, p.step) + N);
}

// Record what physics made of it, from `answer`, as the next step.
void record(Plant& p) {
  double* row = row_of(*p.ring, ++p.step);
  for (int i = 0; i < N; ++i) {
    row[i] = p.answer[i] * p.direction[i];
    row[N + i] = p.answer[N + i] * p.direction[i];
    row[2 * N + i] = p.torque[i];
  }
  std::memcpy(row + TORSO, p.answer + 2 * N, (ROW - TORSO) * sizeof(double));
}

}  // namespace

extern "C" {

// ServoBank.warm, without the trips: `board` (N,) deg C. `share` of the way to where a temperature settles has passed.
// 1 when a motor shut off or a board is too hot: `ServoBank.trip_hot` has something to do.
int robotrl_warm(Plant* p, const Thermal* t, double share, double* motor_c, double* board) {
  bool hot = false;
  for (int i = 0; i < N; ++i) {
    if (share != 0.0) {
      const double settled = t->ambient_c + t->kelvin_per_a2 * (p->heat[i] / p->heat_steps);
      motor_c[i] += (settled - motor_c[i]) * share;
      p->heat[i] = 0.0;
    }
    board[i] = t->ambient_c + t->board_share * (motor_c[i] - t->ambient_c);
    hot |= p->overheated[i] || board[i] > t->trip_c[i];
  }
  return hot;
}

// ServoBank.telemetry: registers 0x000 to 0x00F of all servos into `out` (N, 16), seen `back` steps ago (0: now). Mode, voltage and
// fault stay as they are.
void robotrl_telemetry(const Plant* p, const Thermal* t, int64_t step, double back, const double* noise, const double* motor_c,
                       const double* board, float* out) {
  const int64_t whole = static_cast<int64_t>(back);
  const double part = back - static_cast<double>(whole);
  const double *now = row_of(*p->ring, step), *newer = row_of(*p->ring, step - whole);
  const double* older = row_of(*p->ring, step - whole - 1);
  for (int i = 0; i < N; ++i, out += 16) {
    double angle = now[i], velocity = now[N + i];
    if (back != 0.0) {
      angle = newer[i] + (older[i] - newer[i]) * part;
      velocity = newer[N + i] + (older[N + i] - newer[N + i]) * part;
    }
    const double sign = t->sign[i], amps = sign * p->current[i];
    const double turns = (sign * (angle + noise[i]) + t->offset[i]) / t->turn;
    const double speed = sign * velocity / t->turn, torque = amps * t->nm_per_a;
    out[1] = out[6] = static_cast<float>(turns);
    out[2] = static_cast<float>(speed);
    out[3] = static_cast<float>(torque);
    out[4] = static_cast<float>(amps);
    out[7] = static_cast<float>(torque * speed * t->turn + p->resistance * amps * amps);
    out[10] = static_cast<float>(motor_c[i] * t->thermistor[i]);
    out[11] = std::isnan(p->place[i]) || p->goal[i] == p->place[i];
    out[14] = static_cast<float>(board[i]);
  }
}

void robotrl_torso(const Ring* r, int64_t step, double back, double* out) { blend(*r, step, back, out); }

// What an IMU makes of the torso `back` (count,) steps before `step`: 33 bytes a sample into `out`. `noise` (count, 8) unit
// normal; `level` (8,): standard deviations of acceleration, rate, tilt; bias of roll and pitch; steps a unit of the three.
// 1 when a value is not finite. `ImuSensor._sample` in senses.py.
int robotrl_imu(const Ring* r, int64_t step, int32_t count, const double* back, const double* noise, const double* level,
                const int16_t* last, uint8_t* out) {
  for (int k = 0; k < count; ++k)
    if (!imu_sample(*r, step, back[k], noise + 8 * k, level, last, out + 33 * k)) return 1;
  return 0;
}

int robotrl_sizes(int which) { return which == 0 ? sizeof(Ring) : which == 1 ? sizeof(Plant) : which == 2 ? sizeof(Thermal) : sizeof(Field); }

}  // extern "C"

#include "steps.h"
