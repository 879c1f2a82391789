"""The native inner loop against the pages it stands in for: bit for bit, over random commands, faults, overheating and falls."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from robotrl import config
from robotrl.native import NoLibrary
from robotrl.observe import History as Window
from robotrl.replay import Replay
from robotrl.sim import firmware as fw
from robotrl.sim import inner, model
from robotrl.sim.domain import Domain
from robotrl.sim.history import History
from robotrl.sim.layouts import Chorus, Reply
from robotrl.sim.motor import Motors
from robotrl.sim.rig import Rig
from robotrl.sim.senses import ImuSensor
from robotrl.sim.servo import ServoBank
from robotrl.sim.world import World
from robotrl.tasks.walk import ACTIONS, SENSORS

WALK = Path(__file__).resolve().parents[2] / "launch" / "walk.toml"
LEVEL = ((0.0, 0.0, 0.2), (0.0, 0.0, 0.0, 1.0))
REST = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
FRAME = ((0.01, -0.002, 0.03), (0.0, 0.0, math.sin(0.1), math.cos(0.1)))

try:
    inner.library()
    HERE = True
except NoLibrary:
    HERE = False
native = pytest.mark.skipif(not HERE, reason="no C++ compiler on this machine")


class Rotors(World):
    """Eight free rotors on a torso that tumbles: `World` without PyBullet."""

    def __init__(self, make: type[History], latency_s: float) -> None:
        self.twin, self.domain = config.Twin(), Domain.nominal(config.Twin())
        self.motors = Motors(8, 16.0)
        self.history = make(self.twin.physics_dt, FRAME)
        self.lag, self._due = latency_s / self.twin.physics_dt, 0.0
        self._angle, self._speed, self._made = np.linspace(-1.0, 2.0, 8), np.zeros(8), 0
        self.history.fill(np.concatenate((self._angle * model.DIRECTION, np.zeros(16))), LEVEL, REST)

    def simulate(self, forces):
        self._speed = 0.98 * self._speed + 0.002 * np.array(forces) / 0.01
        self._angle = self._angle + 0.002 * self._speed
        t = 0.002 * self._made
        self._made += 1
        axis = np.array((math.sin(t), math.cos(3 * t), math.sin(5 * t)))
        turn = np.append(axis / np.linalg.norm(axis) * math.sin(4 * t), math.cos(4 * t))
        moving = np.cos(np.arange(6) + 7 * t)
        states = tuple((a, v, (0.0,) * 6, 0.0) for a, v in zip(self._angle.tolist(), self._speed.tolist(), strict=True))
        pose = (tuple((np.sin(np.arange(3) + t)).tolist()), tuple(turn.tolist()))
        return pose, (tuple(moving[:3].tolist()), tuple(moving[3:].tolist())), states


class Story:
    """One world, its servos and the loop that moves them."""

    def __init__(self, plainly: bool, latency_s: float) -> None:
        self.world = Rotors(History if plainly else inner.NativeHistory, latency_s)
        self.bank = ServoBank(self.world, config.Servos(), self.world.twin)
        self.loop = (inner.PlainLoop if plainly else inner.NativeLoop)(self.world, self.bank)
        self.told = np.zeros(0)

    def happen(self, rng: np.random.Generator) -> None:
        """A few random commands, then some time."""
        bank, motors = self.bank, self.world.motors
        for _ in range(rng.integers(9)):
            bank.obey(int(rng.integers(8)), *command(rng))
        servo, chance = int(rng.integers(8)), rng.random()
        if chance < 0.02:
            bank.trip(servo, 33)
        elif chance < 0.04:
            bank.reboot(servo)
        elif chance < 0.06:
            bank.conf[servo]["servo.pid_position.kp"] = rng.uniform(0, 100)
            bank.conf[servo]["servo.fault_temperature"] = rng.choice([75.0, fw.AMBIENT_C + 0.001])
            bank.conf[servo]["servo.enable_motor_temperature"] = float(rng.integers(2))
            bank.reconfigured()
        elif chance < 0.08:
            motors.battery_v, motors.strength, motors.friction = rng.uniform(14, 17), rng.uniform(0.8, 1.2), rng.uniform(0, 0.05)
        elif chance < 0.14:
            motors.reset()
        elif chance < 0.2 and motors.watching:
            motors.overload_s[motors.overload_s > 0] = 0.999  # who is overloaded now has been for long
        self.loop.advance(rng.uniform(0.0, 0.05))
        self.world.domain = Domain(extra_latency_s=rng.choice([0.0, 0.0137]), battery_v=rng.choice([15.0, 16.0]))
        self.told = bank.telemetry(rng.standard_normal(8)).copy()

    def state(self) -> dict[str, bytes]:
        """Everything there is to compare."""
        bank, world = self.bank, self.world
        found = {name: getattr(bank, name) for name in (*inner.STATE, "motor_c", "mode", "fault", "aimed", "heat_steps")}
        found |= {name: getattr(bank.ramp, name) for name in (*inner.RAMP, "moving", "plain", "arrived")}
        found |= {name: getattr(world.motors, name) for name in (*inner.MOTORS, "watching")}
        for delay in (0.0, 0.0013, 0.02, 0.4):
            found[f"sample {delay}"] = np.concatenate([np.ravel(part) for part in world.sensed(delay)])
        return {name: np.asarray(value).tobytes() for name, value in found.items()} | {
            "rows": world.history.rows.tobytes(),
            "telemetry": self.told.tobytes(),
        }


def command(rng: np.random.Generator) -> tuple[int, list[float]]:
    """Mode and row; most often position mode, and now and then the very same but for the goal."""
    row = list(fw.DEFAULTS)
    row[fw.P], row[fw.WATCHDOG] = rng.uniform(-0.4, 0.6), rng.choice([0.0, 0.05, math.nan])
    if rng.random() < 0.6:
        return fw.POSITION, [*row[: fw.VLIM], 1.0, *row[fw.ALIM :]]
    row[fw.V], row[fw.VLIM] = rng.choice([0.0, 0.3, math.nan]), rng.choice([math.nan, 0.0, 0.5, 3.0])
    row[fw.ALIM], row[fw.MAX] = rng.choice([math.nan, 2.0, 20.0]), rng.choice([math.nan, 2.0, 9.0])
    row[fw.KP], row[fw.FF] = rng.choice([0.0, 1.0]), rng.choice([0.0, 0.5, -9.0])
    row[fw.P] = rng.choice([row[fw.P], math.nan])
    row[fw.LOWER], row[fw.UPPER], row[fw.IQ] = -0.1, 0.2, rng.choice([5.0, -35.0, 45.0])
    return int(rng.choice([fw.POSITION, fw.STOPPED, fw.CURRENT, fw.ZERO_VELOCITY, fw.WITHIN, fw.BRAKE], p=P_MODE)), row


P_MODE = (0.3, 0.2, 0.25, 0.08, 0.07, 0.1)


@native
@pytest.mark.parametrize("answer", [None, (), (1, 2, 3), "nothing", ((), (), ())])
def test_physics_that_fails_is_said_and_what_was_made_before_stands(answer: object) -> None:
    story = Story(False, 0.003)
    story.loop.advance(0.01)
    world, made = story.world, story.world.history.step
    simulate, calls = world.simulate, []

    def broken(forces: list[float]) -> object:
        calls.append(forces)
        if len(calls) == 3 and answer is None:
            raise RuntimeError("not connected")
        return simulate(forces) if len(calls) < 3 else answer

    world.simulate = broken  # type: ignore[method-assign, assignment]
    with pytest.raises(RuntimeError if answer is None else (TypeError, SystemError, IndexError)):
        story.loop.advance(0.02)
    assert len(calls) == 3 and world.history.step == made + 2


@native
@pytest.mark.parametrize("latency_s", [0.003, 0.0, 0.0151])
def test_native_and_plain_agree_to_the_bit(latency_s: float) -> None:
    plain, fast = Story(True, latency_s), Story(False, latency_s)
    rngs = [np.random.default_rng(7) for _ in range(2)]
    modes: set[int] = set()
    hot = ramps = 0  # advances with a motor shut off, with the ramp's long way
    for k in range(250):
        for story, rng in zip((plain, fast), rngs, strict=True):
            story.happen(rng)
        wanted, got = plain.state(), fast.state()
        assert [name for name in wanted if wanted[name] != got[name]] == [], f"differ after {k} advances"
        modes |= set(fast.bank.mode)
        hot += fast.world.motors.overheated.any()
        ramps += not fast.bank.ramp.plain
    assert modes >= {fw.STOPPED, fw.FAULT, fw.TIMEOUT, fw.POSITION, fw.CURRENT, fw.ZERO_VELOCITY, fw.WITHIN, fw.BRAKE}
    assert hot and ramps, "the story was too tame to prove anything"


@native
@pytest.mark.parametrize("name", ["battery_v", "strength", "friction"])
def test_a_small_difference_would_be_seen(name: str) -> None:
    plain, fast = Story(True, 0.003), Story(False, 0.003)
    for story in (plain, fast):
        story.world.motors.friction, story.world.motors.battery_v = 0.02, 8.0  # what a stalled motor then gets is bounded by it
        story.bank.obey(0, fw.CURRENT, [*fw.DEFAULTS[: fw.IQ], 80.0, 0.0])
    motors = plain.world.motors
    setattr(motors, name, getattr(motors, name) * (1 - 1e-11))
    for story in (plain, fast):
        story.loop.advance(0.2)
    assert plain.state()["rows"] != fast.state()["rows"]


@native
def test_a_current_that_is_no_number_stops_the_world() -> None:
    for plainly in (True, False):
        story = Story(plainly, 0.003)
        story.bank.obey(2, fw.POSITION, list(fw.DEFAULTS))
        story.loop.advance(0.1)
        story.bank.bias[2] = math.nan
        with pytest.raises(ValueError, match="holds a nan"):
            story.loop.advance(0.1)


def random_reply(rng: np.random.Generator) -> Reply:
    """A reply to random reads of the telemetry, in all widths, unknown registers among them."""
    reads = []
    for _ in range(rng.integers(1, 6)):
        start = int(rng.integers(0x10))
        reads.append((int(rng.integers(4)), start, int(rng.integers(1, 0x11 - start))))
    return Reply(tuple(reads), b"\x30\x05\x02" if rng.random() < 0.3 else b"")


@native
def test_answers_agree_to_the_byte() -> None:
    make, rng = inner.chorus(), np.random.default_rng(3)
    assert make is not None
    odd = np.array((math.nan, math.inf, -math.inf, 3e38, -3e38, 0.0, -0.0, 127.0, -127.5, 32767.0, 2147483647.0), np.float32)
    seen = set()
    for _ in range(300):
        reply, servos = random_reply(rng), [int(k) for k in rng.permutation(8)[: rng.integers(1, 9)]]
        heads = [b"OK\r\nrcv %x " % (k << int(rng.integers(9))) for k in servos]
        plain, fast = Chorus(reply, servos, heads), make(reply, servos, heads)
        for _ in range(3):
            telemetry = (rng.standard_normal((8, 16)) * 10.0 ** rng.integers(-3, 10, (8, 16))).astype(np.float32)
            strange = rng.random((8, 16)) < 0.1
            telemetry[strange] = rng.choice(odd, strange.sum())
            with np.errstate(all="ignore"):
                assert fast(telemetry) == plain(telemetry), (reply.parts, servos)
        seen |= {field.kind for field in reply.fields}
    assert seen == {0, 1, 2, 3}


@native
def test_imu_samples_agree_to_the_byte() -> None:
    said = []
    for plainly in (True, False):
        world = Story(plainly, 0.003).world
        world.domain = Domain(imu_bias=(0.01, -0.02), imu_noise_rad=0.03, extra_latency_s=0.0137)
        quick = inner.imu_frames(world, world.twin)
        assert (quick is None) == plainly
        sensor = ImuSensor(world, world.twin, np.random.default_rng(4), quick)
        said.append(b"")
        for seconds in (0.02, 0.004, 0.3, 0.05, 0.0):  # now and then more samples than a period has
            world.advance(seconds, lambda angle, velocity: np.zeros(8))
            sensor.advance()
            said[-1] += sensor.transmit()
    assert len(said[0]) > 70 * inner.SAMPLE and said[0] == said[1]


def replay_of(path: Path, cycles: int) -> dict[str, bytes]:
    run = config.load(WALK, ["agent.capacity=2000", "steps=2000", "twin.push_n=40"])
    window = Window(SENSORS, ACTIONS, run.task.history)
    replay = Replay.create(path, window.size, ACTIONS, run.agent.capacity)
    rig = Rig(run, seed=6, replay=replay)
    for _ in range(cycles):
        rig.cycle()
    rig.close()
    return {name: np.asarray(column[: replay.count]).tobytes() for name, column in replay.columns.items()}


@native
def test_without_a_compiler_the_replay_is_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fast = replay_of(tmp_path / "fast", 450)

    def missing() -> None:
        raise NoLibrary("none")

    monkeypatch.setattr(inner, "library", missing)
    assert inner.chorus() is None
    assert type(inner.history(0.002, FRAME)) is History
    plain = replay_of(tmp_path / "plain", 450)
    assert len(fast["reward"]) > 100 * 4 and fast == plain
