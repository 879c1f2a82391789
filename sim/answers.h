// What servos answer, as text: the registers of a query in their widths, as hexadecimal digits. `Reply.of_all` in layouts.py.
#include <cmath>
#include <cstdint>
#include <cstring>

extern "C" {

// A register in a reply: its column of the telemetry, INT8, INT16, INT32 or F32, the place of its first digit, its unit a step.
struct Field {
  int32_t column, kind, at;
  float scale;
};

}  // extern "C"

namespace {

constexpr int REGISTERS = 16, F32 = 3;
constexpr int BYTES[] = {1, 2, 4, 4};
constexpr double LARGEST[] = {127, 32767, 2147483647};

// The field's bits on the wire, lowest byte first: truncated toward zero, saturated, the most negative number for a nan.
uint32_t bits_of(float value, const Field& field) {
  uint32_t bits;
  if (field.kind == F32) {
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
  }
  const double largest = LARGEST[field.kind], number = value / field.scale;  // divided in single precision
  if (!std::isfinite(number)) return static_cast<uint32_t>(static_cast<int32_t>(-largest - 1));
  return static_cast<uint32_t>(static_cast<int32_t>(number < -largest ? -largest : number > largest ? largest : number));
}

}  // namespace

extern "C" {

// Write the `fields` of servos `servo` (count,) into `text`, where each one's digits begin at `begin` (count,).
void robotrl_answers(const float* telemetry, const Field* fields, int32_t size, const int32_t* servo, const int32_t* begin,
                     int32_t count, char* text) {
  for (int k = 0; k < count; ++k)
    for (int f = 0; f < size; ++f) {
      const uint32_t bits = bits_of(telemetry[REGISTERS * servo[k] + fields[f].column], fields[f]);
      char* out = text + begin[k] + fields[f].at;
      for (int b = 0; b < BYTES[fields[f].kind]; ++b) {
        *out++ = "0123456789abcdef"[bits >> (8 * b + 4) & 15];
        *out++ = "0123456789abcdef"[bits >> 8 * b & 15];
      }
    }
}

}  // extern "C"
