"""The gate where it counts: whatever permits, actions and readings come, each byte the servo loop writes keeps the promises."""

from __future__ import annotations

import math
import re
import struct

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robotrl.clock import LockstepClock
from robotrl.config import Limits, Robot, Servos
from robotrl.drivers.chain import Chain
from robotrl.drivers.port import MemoryPort
from robotrl.messages import Action, Permit
from robotrl.nodes.servoloop import ServoLoop

T = 20_000_000
SIGN = (1, -1, 1, 1, -1, 1, -1, 1)
OFFSET = (0.0, 0.3, -0.2, 2.0, 0.0, -1.0, 0.1, 0.7)
ROBOT = Robot(
    servos=Servos(sign=SIGN, offset=OFFSET, max_torque=5.0, watchdog_s=0.1),
    limits=Limits(position_min=0.4, position_max=3.6, slew_rad_s=40.0, lead_rad=1.6, gap_min=0.1),
)
LOW, HIGH, SLEW, LEAD, OPENING, INWARD = 0.4, 3.6, 40.0 * 0.02, 1.6, 0.035, 0.5 * 0.02
SUM_LOW, SUM_HIGH = 0.1, 2 * math.pi - 0.1  # of a leg's two motors
TINY = 1e-5  # two roundings to float32 revolutions
STAND = (2.0,) * 8
ASKED = re.compile(rb"can send ([c-f][0-9a-f])([0-9a-f]{2}) ")


class Servo8:
    """Far end of the wire: keeps what was written, and answers queries with the angles it is told (None: silence)."""

    def __init__(self) -> None:
        self.written = b""
        self.angles: tuple[float | None, ...] = STAND
        self._answers: list[bytes] = []

    def receive(self, data: bytes) -> None:
        self.written += data
        for found in ASKED.finditer(data):
            servo, host = int(found[2], 16), int(found[1], 16) & 0x7F
            angle = self.angles[servo - 1]
            if angle is None:
                continue
            turn = (SIGN[servo - 1] * angle + OFFSET[servo - 1]) / (2 * math.pi)
            frame = struct.pack("<HbHfffHbHbbb", 0x0021, 10, 0x012F, turn, 0.0, 0.0, 0x0A21, 25, 0x0D23, 32, 25, 0)
            self._answers.append(b"rcv %x %s\r\n" % (servo << 8 | host, frame.hex().encode()))

    def transmit(self) -> bytes:
        data, self._answers = b"".join(self._answers), []
        return data


class Watcher:
    """Knows what was sent before and holds every new byte to the promises at the head of safety/gate.py."""

    def __init__(self, read_wire) -> None:
        self.read_wire, self.far, self.clock = read_wire, Servo8(), LockstepClock()
        self.loop = ServoLoop(ROBOT, Chain(MemoryPort(self.far), ROBOT.servos, self.clock), self.clock, 0.02)
        self.goal: list[float] | None = None
        self.present, self.unread = [math.nan] * 8, [99] * 8
        self.permit: Permit | None = None
        self.armed = False  # torque never comes on by a restart: a permit without it must have come first
        self.until, self.highest, self.written, self.clamped = 0, -1, 0, 0

    def cycle(self, pause_ns: int, permit: Permit | None, action: Action | None, angles) -> None:
        self.clock.advance(pause_ns)
        slept = self.clock.now() > self.until  # who slept through the end of a permit begins anew
        self.far.written, self.far.angles = b"", angles
        if permit is not None:
            permit = msgspec.structs.replace(permit, t=self.clock.now())
        self._take(permit)
        joints, applied, _ = self.loop.cycle(permit, action)
        for i in range(8):
            self.unread[i] = 0 if joints.missed[i] == 0 else self.unread[i] + 1
            self.present[i] = joints.position[i] if joints.missed[i] == 0 else self.present[i]
        if slept and any(joints.missed):
            self.goal = None  # where the joints are; those who all say that they are led (mode 10) go on from their goal
        sent = self.read_wire(self.far.written)
        assert sent.asked == set(range(1, 9))
        if not sent.position:
            assert applied.held
            self.goal = None
            return
        assert set(sent.position) == set(range(1, 9)) and not sent.damped
        assert self.permit is not None and self.clock.now() <= self.until, "written without a permit"
        assert all(s == pytest.approx(0.1) for s in sent.watchdog_s.values()) and max(sent.torque.values()) <= 5.0
        target = [SIGN[i] * (sent.position[i + 1] - OFFSET[i]) for i in range(8)]
        assert target == pytest.approx(list(applied.target), abs=1e-9), "applied is what the bytes hold"
        self._hold_to_promises(target, self.permit.speed_scale, slept or self.goal is None)
        if applied.writer == "hold":
            self._holds(target)
        self.goal, self.written, self.clamped = target, self.written + 1, self.clamped + any(applied.clamped)

    def _take(self, permit: Permit | None) -> None:
        """Which permit counts now, and until when; the gate's own code is not asked."""
        if permit is None:
            return
        self.armed = self.armed or not permit.torque
        whole = type(permit.torque) is bool and type(permit.speed_scale) is float and 0 <= permit.speed_scale <= 1
        if not self.armed or not whole or permit.epoch < self.highest:
            return
        self.highest = permit.epoch
        powered = permit.torque and permit.state in ("HOLD", "RUN", "RESET", "STOPPING", "PSTOP")
        self.permit = permit if powered else None
        now = self.clock.now()
        self.until = min(now, permit.t or now) + 60_000_000

    def _hold_to_promises(self, target: list[float], scale: float, opening: bool) -> None:
        base = list(self.present) if self.goal is None else self.goal
        step = min(SLEW * scale, OPENING) if opening else SLEW * scale
        for i, (x, before) in enumerate(zip(target, base, strict=True)):
            assert math.isfinite(x)
            assert abs(x - before) <= step + TINY, f"motor {i} jumps from {before} to {x}"
            assert outside(x, LOW, HIGH) <= outside(before, LOW, HIGH) + TINY, f"motor {i} leaves its range: {x}"
            if self.unread[i] > 3:
                assert abs(x - before) <= TINY, f"motor {i} moves, and nobody knows where it is"
            elif outside(before, self.present[i] - LEAD, self.present[i] + LEAD) == 0:
                assert abs(x - self.present[i]) <= LEAD + TINY, f"motor {i} is led too far"
        for i in range(0, 8, 2):
            now, was = target[i] + target[i + 1], base[i] + base[i + 1]
            assert outside(now, SUM_LOW, SUM_HIGH) <= outside(was, SUM_LOW, SUM_HIGH) + 2 * TINY, f"leg {i // 2} closes"

    def _holds(self, target: list[float]) -> None:
        """Nobody drives: what moves was pushed away, or is brought in, and slowly."""
        base = list(self.present) if self.goal is None else self.goal
        for i, (x, before) in enumerate(zip(target, base, strict=True)):
            pushed = self.unread[i] <= 3 and outside(before, self.present[i] - LEAD, self.present[i] + LEAD) > 0
            assert pushed or abs(x - before) <= INWARD + TINY, f"motor {i} goes from {before} to {x} by itself"


def outside(x: float, low: float, high: float) -> float:
    return max(low - x, x - high, 0.0)


EDGES = [math.nan, math.inf, -math.inf, -0.0, 5e-324, 1e308, -1e308, 3.5e38, 10**400, True, "1", None, LOW, HIGH, math.tau]
anything = st.one_of(st.sampled_from(EDGES), st.floats(), st.floats(-3, 9), st.floats(0.3, 3.7))
targets = st.one_of(
    st.tuples(*[st.sampled_from([0.0, 0.4, 2.0, 3.6, 9.0])] * 8),
    st.tuples(*[st.floats(-1, 6)] * 8),
    st.tuples(*[anything] * 8),
    st.lists(anything, max_size=9),
    st.none(),
)
angles = st.one_of(
    st.tuples(*[st.floats(0.4, 3.6)] * 8),
    st.tuples(*[st.one_of(st.floats(-4, 9), st.sampled_from([None, math.nan, math.inf, 1e9]))] * 8),
)
permits = st.one_of(
    st.none(),
    st.builds(
        Permit,
        state=st.sampled_from(["RUN", "RUN", "HOLD", "RESET", "PSTOP", "RELAX", ""]),
        epoch=st.sampled_from([1, 1, 1, 0, 2]),
        holder=st.sampled_from(["policy", "policy", "reset", ""]),
        torque=st.sampled_from([True, True, True, False, 1]),
        speed_scale=st.sampled_from([1.0, 1.0, 0.5, 0.0, math.nan, 2.0]),
    ),
)
cycles = st.tuples(
    st.sampled_from([T, T, T, 1, 45_000_000, 200_000_000]),
    permits,
    targets,
    st.sampled_from([1, 1, 1, 0, 2, None]),  # the action's epoch
    st.sampled_from(["policy", "policy", "policy", "reset", "hold"]),
    angles,
)
RUN = Permit(state="RUN", epoch=1, holder="policy", torque=True)
HOLD = Permit(state="HOLD", epoch=1, holder="", torque=True)
READY = Permit(state="READY", epoch=0, holder="", torque=False)


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(cycles, min_size=1, max_size=12))
def test_every_byte_keeps_the_promises_for_any_input(wire_reader, played):
    watcher = Watcher(wire_reader)
    watcher.cycle(T, READY, None, STAND)
    watcher.cycle(T, RUN, None, STAND)
    assert watcher.written == 1
    for seq, (pause, permit, target, epoch, source, seen) in enumerate(played, 1):
        now = watcher.clock.now() + pause
        action = Action(source=source, seq=seq, t=now, valid_ns=50_000_000, epoch=epoch, tick=0, target=target)
        watcher.cycle(pause, permit, action, seen)


def test_a_policy_that_slams_the_stops_is_written_and_held_back(wire_reader):
    """The property above would hold for a gate that never opens: here it must write in every cycle, and clamp in most."""
    watcher, seen = Watcher(wire_reader), list(STAND)
    watcher.cycle(T, READY, None, STAND)
    for k in range(1, 200):
        slam = tuple(3.6 if (k // 7 + i) % 2 else 0.4 for i in range(8))
        action = Action(source="policy", seq=k, t=watcher.clock.now() + T, epoch=1, tick=0, target=slam)
        watcher.cycle(T, RUN, action, tuple(seen))
        goal = watcher.goal or seen
        seen = [a + 0.3 * (b - a) for a, b in zip(seen, goal, strict=True)]  # a soft servo follows
    assert watcher.written == 199 and watcher.clamped > 100
    assert watcher.loop.gate.counts["no permit"] == 1


@pytest.mark.parametrize("at", [-1.2, 5.0, -0.4])
def test_torque_that_comes_on_outside_brings_the_joints_in_by_half_a_radian_a_second(wire_reader, at):
    """-0.4 is in no range either, and its legs are folded; the joints follow what they are sent."""
    watcher, way = Watcher(wire_reader), []
    watcher.cycle(T, READY, None, (at,) * 8)
    for _ in range(400):
        watcher.cycle(T, HOLD, None, tuple(watcher.goal or (at,) * 8))
        way.append(watcher.goal[0])
    assert LOW <= way[-1] <= HIGH and SUM_LOW <= 2 * way[-1] <= SUM_HIGH
    took = next(k for k, x in enumerate(way, 1) if x == way[-1])
    assert took == math.ceil(abs(way[-1] - at) / (INWARD - 1e-5)), "as slowly as said, and no slower"


def test_silence_of_the_guard_ends_the_targets_within_60_ms(wire_reader):
    assert written_under([READY, RUN, RUN, None, None, None, None, None], wire_reader) == [0, 1, 1, 1, 1, 1, 0, 0]


def test_a_loop_that_was_started_again_waits_for_a_permit_without_torque(wire_reader):
    assert written_under([RUN, RUN, READY, RUN], wire_reader) == [0, 0, 0, 1]


def written_under(heard: list[Permit | None], wire_reader) -> list[int]:
    """Whether targets were written, cycle by cycle."""
    watcher, written = Watcher(wire_reader), []
    for permit in heard:
        before = watcher.written
        watcher.cycle(T, permit, None, STAND)
        written.append(watcher.written - before)
    return written
