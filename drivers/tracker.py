r"""Pose tracker: the torso's pose as text lines from a camera or motion-capture computer on a serial line.

Ours, one pose a line, metres and radians, all numbers decimal:

    pose <seq> <age_us> <x> <y> <z> <roll> <pitch> <yaw> *XX\n

`seq` counts the sender's poses from 0. `age_us` is how old the picture was when the line was sent. XX is the
CRC-8 (polynomial 0x97, initial 0) of everything before the star in two upper-case hex digits, as for servos.
"""

from __future__ import annotations

import math

from robotrl.clock import Clock
from robotrl.drivers.moteus import crc8
from robotrl.drivers.port import Lines, Port
from robotrl.messages import Pose

FIELDS = 9  # the word, seq, age, six numbers
AGE_MAX_US = 5_000_000  # an older picture helps nobody
SEQ_MAX = 1 << 48  # a larger number was never counted up to
FARTHEST = 1000.0  # m and rad; beyond it the sender is mad
LATE_NS = 60_000_000  # since the last look: what has waited on the line so long, or as short as a moment, nobody can tell apart
BURST = 8  # poses in one read; more have been held up on their way, and nobody knows for how long
SETTLE_NS = 100_000_000  # for which more of it may come: the system holds some back until there is room
PENDING_MAX = 65_536  # bytes parsed in one read at most


def make_line(seq: int, age_us: int, position: tuple[float, ...], rpy: tuple[float, ...]) -> bytes:
    """The line for one pose. ValueError for a number that is not finite."""
    numbers = (*position, *rpy)
    if len(numbers) != 6 or not all(map(math.isfinite, numbers)):
        raise ValueError(f"a pose has six finite numbers, not {numbers}")
    text = f"pose {seq} {age_us} {' '.join(f'{n:.6f}' for n in numbers)} ".encode()
    return text + b"*%02X\n" % crc8(text)


def parse_line(line: bytes) -> tuple[int, int, tuple[float, ...]] | None:
    """(seq, age in us, six numbers) of a sound line, None for any other. Never raises.

    A line whose end was lost has swallowed the next one whole, so the last pose in it counts.
    """
    line = line.rstrip()
    line = line[max(line.rfind(b"pose "), 0) :]
    text, star, check = line[:-3], line[-3:-2], line[-2:]
    if star != b"*" or b"%02X" % crc8(text) != check:
        return None
    fields = text.split()
    if len(fields) != FIELDS or fields[0] != b"pose" or b"_" in text:  # Python's numbers may have it, decimal ones not
        return None
    try:
        seq, age = int(fields[1]), int(fields[2])
        numbers = tuple(map(float, fields[3:]))
    except ValueError:
        return None
    if not 0 <= seq <= SEQ_MAX or not 0 <= age <= AGE_MAX_US or not all([abs(n) <= FARTHEST for n in numbers]):  # nan fails
        return None
    return seq, age, numbers


class PoseStream:
    """Poses from `port`. `bad_lines`: refused; `lost`: missing by their seq; `repeats`: seen before.

    Who looks later than LATE_NS after the last time throws away what waits, and what comes in the next SETTLE_NS: the age of a
    picture when its line came is known, not when that was.
    """

    def __init__(self, port: Port, clock: Clock) -> None:
        self.bad_lines = 0
        self.lost = 0
        self.repeats = 0
        self._port, self._clock = port, clock
        self._lines = Lines()
        self._seq: int | None = None
        self._looked = clock.now()
        self._deaf_until = 0

    def read(self) -> list[Pose]:
        """All poses that have arrived since the last call, oldest first; `t` is when each picture was taken.

        PortError when the port is lost.
        """
        poses: list[Pose] = []
        total = 0
        while total < PENDING_MAX:
            data = self._port.read(self._clock.now())
            now = self._clock.now()
            if now - self._looked > LATE_NS:  # since the last time that nothing was left: also where this call was held up
                self._deaf_until = now + SETTLE_NS
            self._looked = now
            if deaf := now < self._deaf_until:
                self._lines = Lines()
            if not data:
                break
            total += len(data)
            if deaf:
                continue
            for line in self._lines.feed(data):
                if (got := parse_line(line)) is None:
                    self.bad_lines += bool(line.strip())
                elif self._is_new(got[0]):
                    _, age_us, numbers = got
                    poses.append(Pose(t=now - age_us * 1000, position=numbers[:3], rpy=numbers[3:]))
        if len(poses) > BURST:
            self._deaf_until, poses = self._looked + SETTLE_NS, []
        return poses

    def _is_new(self, seq: int) -> bool:
        """Count the gap before `seq`. A smaller one is a sender that was restarted, the same one a repeat."""
        last, self._seq = self._seq, seq
        if last is None or seq < last:
            return True
        if seq == last:
            self.repeats += 1
            return False
        self.lost += seq - last - 1
        return True
