"""A session made in one process on virtual time: the robot's program on the twin, its drivers on tape, its words in a list."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import safetensors.numpy

from robotrl import config
from robotrl.agents.actor import Actor
from robotrl.agents.weights import packed
from robotrl.clock import LockstepClock
from robotrl.drivers.chain import Chain
from robotrl.drivers.imu import WitImu
from robotrl.drivers.tape import Tape
from robotrl.drivers.tracker import PoseStream
from robotrl.messages import Action, Beat, Drive, Episode, Guard, Imu, Message, Operator, Permit, Pose, Transition
from robotrl.nodes.guard import Sentry
from robotrl.nodes.pilot import Pilot
from robotrl.nodes.policy import thought
from robotrl.nodes.reset import Resetter
from robotrl.nodes.servoloop import ServoLoop, prepare
from robotrl.session import Session
from robotrl.sim.operator import Script, needs_a_hand
from robotrl.sim.twin import Twin
from robotrl.topics import TOPICS

ROOT = Path(__file__).resolve().parent.parent.parent
BOOTS = {"servos": 11, "imu": 12, "tracker": 13, "policy": 14, "guard": 15, "reset": 16, "console": 17, "learner": 18}
PERIOD_S = 0.02
BEGAN_NS = 1_000_000_000
WRITTEN_NS = 700_000  # after the reading: here no time passes between the two
CHUNK = 425  # messages: half a second


def actor(version: int, seed: int = 1) -> bytes:
    """A small policy's weights as the learner writes them."""
    rng = np.random.default_rng(seed)
    shapes = ((16, 112), (16, 16))
    weights = {f"actor.{i}.weight": (0.3 * rng.standard_normal(s)).astype(np.float32) for i, s in enumerate(shapes)}
    weights |= {f"actor.{i}.bias": np.zeros(s[0], np.float32) for i, s in enumerate(shapes)}
    return packed(weights, {"version": str(version), "published_ns": "0"})


class Later(LockstepClock):
    """The twin's time, but not from 0: nothing is captured at 0, which to the bus means that it is still to be stamped."""

    def now(self) -> int:
        return super().now() + BEGAN_NS


class Taped:
    """`cycle` is one period of the whole program; `said` everything on the bus, in order, with its topic."""

    def __init__(self, seed: int = 3, **limits: float) -> None:
        run = config.load(ROOT / "launch" / "walk.toml", ["agent.random_steps=60"])
        self.run = replace(run, robot=replace(run.robot, limits=replace(run.robot.limits, falls=1000, **limits)))
        self.clock = Later()
        self.twin = Twin(self.run, seed, self.clock)
        self.ports = self.twin.ports()
        self.said: list[tuple[str, Message]] = []
        self.numbers: Counter[tuple[str, str]] = Counter()
        self.tapes = {name: Tape(self.clock) for name in ("servos", "imu", "tracker")}
        self.servos = self._servos()
        self.imu = WitImu(self._taped("imu"), self.run.robot.imu, self.tapes["imu"].clock)
        self.imu.configure()
        self.tracker = PoseStream(self._taped("tracker"), self.tapes["tracker"].clock)
        self.sentry = Sentry(self.run, self._epoch, self._nonce)
        self.kept: list[Transition] = []
        self.pilot = Pilot(self.run, None, seed, keep=self.kept.append)
        self.resetter, self.script = Resetter(self.run), Script()
        self._epochs = self._nonces = 0
        self.permit: Permit | None = None
        self.guard: Guard | None = None
        self.action: Action | None = None
        self.attitude: Imu | None = None
        self.pose: Pose | None = None

    def close(self) -> None:
        self.twin.close()

    def _taped(self, name: str) -> object:
        self.tapes[name].call("connect")
        return self.tapes[name].around(self.ports[name])

    def _servos(self) -> ServoLoop:
        tape = self.tapes["servos"]
        chain = Chain(self._taped("servos"), self.run.robot.servos, tape.clock)  # type: ignore[arg-type]
        prepare(chain, -1, lambda _: None)
        return ServoLoop(self.run.robot, chain, tape.clock, PERIOD_S)

    def _epoch(self) -> int:
        self._epochs += 1
        return self._epochs

    def _nonce(self) -> int:
        self._nonces += 1
        return self._nonces

    def say(self, topic: str, source: str, message: Message, hear: bool = True) -> Message:
        """Publish: numbered as the bus would number it, and heard by the guard."""
        self.numbers[topic, source] += 1
        number, t = self.numbers[topic, source], message.t or self.clock.now()
        message = msgspec.structs.replace(message, source=source, boot=BOOTS[source], seq=number, t=t)
        self.said.append((topic, message))
        if hear:
            self.sentry.hear(message, self.clock.now())
        return message

    def cycle(self, look: bool = True) -> None:
        """One period; without `look` nobody reads the sensors in it."""
        self.twin.advance(PERIOD_S)
        if look:
            self._sense()
        tape = self.tapes["servos"]
        tape.call("cycle", self.permit, self.action)
        self.servos.late_us = float(self.servos.tick % 7)
        joints, applied, drive = self.servos.cycle(self.permit, self.action)
        joints = self.say("joints", "servos", joints)
        applied, drive = self.say("applied", "servos", applied), self.say("drive", "servos", drive)
        assert isinstance(drive, Drive)
        self.pilot.hear(drive)
        self.say("wire", "servos", tape.take(joints.seq), hear=False)
        if self.attitude is not None:
            self._think(joints, applied, self.attitude)
        self._live()
        permit, guard = self.sentry.step(self.clock.now())
        self.permit = self.say("permit", "guard", permit, hear=False)  # type: ignore[assignment]
        self.guard = self.say("guard", "guard", guard, hear=False)  # type: ignore[assignment]

    def _sense(self) -> None:
        for name, topic, read in (("imu", "imu", self.imu.read), ("tracker", "pose", self.tracker.read)):
            tape, first = self.tapes[name], self.numbers[topic, name] + 1
            tape.call("read")
            got = read()  # type: ignore[operator]
            for message in got if isinstance(got, list) else [got] if got is not None else []:
                stamped = self.say(topic, name, message)
                if isinstance(stamped, Imu):
                    self.attitude = stamped
                elif isinstance(stamped, Pose):
                    self.pose = stamped
                    self.pilot.see(stamped)
            self.say("wire", name, tape.take(first), hear=False)

    def _think(self, joints, applied, imu: Imu) -> None:
        steps = self.pilot.steps
        applied = msgspec.structs.replace(applied, t=applied.t + WRITTEN_NS)
        asked, played = self.pilot.cycle(joints, applied, imu, self.permit), self.resetter.cycle(joints, imu, self.permit)
        action = None
        if asked is not None:
            action = self.say("action", "policy", asked, hear=False)
        self.say(
            "thought", "policy", thought(self.pilot, joints, applied, imu, self.pose, self.permit, steps, action), hear=False
        )
        if played is not None:
            action = self.say("action", "reset", played, hear=False)
        self.action = action  # type: ignore[assignment]
        if self.pilot.just_ended:
            self.say("episode_end", "policy", Episode(episode=self.pilot.episode, step=0, total_steps=0, total_return=0.0,
                speed=0.0, policy_version=0, policy_age_s=0.0, ended=self.pilot.just_ended))  # fmt: skip

    def _live(self) -> None:
        self.say("reset", "reset", self.resetter.state)
        for name in ("policy", "reset", "learner"):
            self.say("beat", name, Beat(progress=1))
        command = self.script.answer(self.guard) if self.guard is not None else ""
        if self.guard is not None and needs_a_hand(command, self.guard):
            self.twin.world.place("stand")
        self.say("operator", "console", Operator(
            command=command or "beat", press=self.numbers["operator", "console"], nonce=self.guard.nonce if self.guard else 0
        ))  # fmt: skip

    def until(self, over: Callable[[], bool], cycles: int = 3000) -> None:
        for _ in range(cycles):
            if over():
                return
            self.cycle()
        raise AssertionError(f"not in {cycles} cycles; the guard: {self.guard}")

    def record(self, path: Path, said: list[tuple[str, Message]] | None = None, versions: tuple[int, ...] = (1,)) -> Path:
        """What was said as a session's file, a chunk every half second."""
        session = Session(path, {"run": "taped", "config": json.dumps(config.to_dict(self.run))})
        for version in versions:
            session.attach("policy.safetensors", 0, actor(version))
        said = self.said if said is None else said
        for i, (topic, message) in enumerate(said, 1):
            session.write(topic, message)
            if i % CHUNK == 0 or i == len(said):
                session.flush()
        session.finish({})
        return path

    def weigh(self, version: int) -> None:
        """Act by these weights from now on."""
        self.pilot.take(Actor(safetensors.numpy.load(actor(version))), version, 0)


def changed(said, which, how):
    """The same words, but `how` makes another of the one in the middle that is `which`."""
    at = [i for i, (topic, message) in enumerate(said) if which(topic, message)]
    assert at
    i = at[len(at) // 2]
    return [*said[:i], (said[i][0], how(said[i][1])), *said[i + 1 :]]


def held_up(said, seconds):
    """As a recorder writes it that gets no processor: one topic whole after the other, so long after the one before."""
    waiting, now = {topic: deque() for topic in TOPICS}, 0
    for topic, message in said:
        now = max(now, message.t)
        waiting[topic].append((now, message))
    out, now = [], said[0][1].t
    while any(waiting.values()):
        for topic, left in waiting.items():
            now += int(seconds * 1e9)
            while left and left[0][0] <= now:
                out.append((topic, left.popleft()[1]))
    return out
