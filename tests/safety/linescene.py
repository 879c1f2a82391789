"""A robot on bus servos on stage: the scene of the matrix over a line's bytes, with that line's witness."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from robotrl import config
from robotrl.clock import Clock
from robotrl.config import Run
from robotrl.drivers.chains import Chain
from robotrl.drivers.port import PortError
from robotrl.messages import Action, Joints, Permit
from robotrl.nodes.powerdown import lower
from robotrl.sim import program
from robotrl.sim.armrig import ArmRig
from robotrl.sim.dynamixelservo import DynamixelServo
from robotrl.sim.feetechservo import FeetechServo
from tests.safety.linefamilies import line_witness
from tests.safety.linewitness import LineTap, LineWitness
from tests.safety.scene import LIVE, REST_RAD_S, WALK, Scene, T

QUIET = "[twin]\nperiod_jitter = 0\nrandomise = false\nphysics_dt = 0.004\n"
SWAY_RAD = 0.2


def run_of(robot: str) -> Run:
    """A run of the robot's own file."""
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "robots" / f"{robot}.toml"
        kept.parent.mkdir()
        kept.write_text((WALK.parent / "robots" / kept.name).read_text())
        (Path(folder) / "run.toml").write_text(f'robot = "{robot}"\n{QUIET}')
        return config.load(Path(folder) / "run.toml", [])


class Swayer:
    """In the pilot's place: every joint sways about where it was when its turn came, so that goals move in every period."""

    def __init__(self, sway_rad: float = SWAY_RAD) -> None:
        self._sway = sway_rad
        self.just_ended, self.tally, self.episode = "", None, 0
        self.finished: list[Any] = []
        self.set_up: tuple[float, ...] = ()
        self._seq, self._step, self._epoch = 0, 0, -1
        self._about: tuple[float, ...] = ()

    def see(self, pose: Any) -> None:
        """It looks nowhere."""

    def hear(self, drive: Any) -> None:
        """Nor does it keep times."""

    def cycle(self, joints: Joints, applied: Any, imu: Any, permit: Permit | None, hand: Any) -> Action | None:
        if permit is None or permit.state != "RUN" or permit.holder != "policy":
            return None
        if permit.epoch != self._epoch:
            self._epoch, self._step, self._about = permit.epoch, 0, joints.position
        self._step += 1
        self._seq += 1
        target = tuple(x + self._sway * math.sin(0.12 * self._step) for x in self._about)
        return Action(source="policy", seq=self._seq, t=joints.t, valid_ns=50_000_000, epoch=permit.epoch, tick=joints.tick,
                      target=target)  # fmt: skip


class Seen(program.Program):
    """A rig whose line has a witness from the first byte on: it must see what the start sets up."""

    _witness: LineWitness

    def _chain(self) -> Chain:
        port = self._ports["servos"]
        if not isinstance(port._far, LineTap):
            port._far = LineTap(port._far, self._witness, self.clock.now)
        return super()._chain()


class Watched(Seen, ArmRig):
    def __init__(self, run: Run, seed: int, witness: LineWitness) -> None:
        self._witness = witness
        with mock.patch.object(program, "Pilot", lambda *_: Swayer()):  # no task is played: D'Kitty on its stand has none
            super().__init__(run, seed)


class LineScene(Scene):
    """As `Scene`. A port that comes back is taken as the driver takes it: an arm that still holds is lowered first."""

    rig: Watched
    witness: LineWitness

    def __init__(self, robot: str, seed: int = 0, keep: bool = True) -> None:
        self.run = run_of(robot)
        self.witness = line_witness(config.to_dict(self.run), keep)
        self.rig = Watched(self.run, seed, self.witness)
        self._set_up(("imu", "tracker", "noise", "learner"))
        self.lied: list[Any] = []  # servos that say what is not so
        self.rescued, self.rescue = True, None  # is there a rescue, and what came of it

    def cycle(self, n: int = 1) -> None:
        for _ in range(n):
            self._take_back()
            super().cycle()

    def _take_back(self) -> None:
        """What the driver does before it sets up anew the servos of a port that it has just opened."""
        retry = self.rig._retry["servos"]
        if not retry or self.now < retry or not self.driver_lives:
            return
        try:
            lower(self.run.robot, self.rig._ports["servos"], Passing(self))
        except PortError:
            pass  # it is not back

    def settle(self) -> None:
        """Until a stop that is on its way is over, and nothing moves: an arm takes up to 4 s to lower itself."""
        for _ in range(300):
            last = self.witness.history[-1]
            if not (last.lowers or last.damped or self.moves):
                return
            self.cycle()

    @property
    def moves(self) -> bool:
        """A joint turns, by its own word."""
        return self.rig.joints is not None and max(map(abs, self.rig.joints.velocity)) > REST_RAD_S

    def wait(self) -> None:
        """One period in which the driver is busy."""
        self._without_driver()
        self._look()

    def heal(self) -> None:
        for wire in self.rig.twin.wires.values():
            wire.clear()
        self.rig.twin.bus.faults.end()
        self.rig.twin.bus.host_baud = 0
        self.rig.servos.unrescued = False
        self.rig.twin.joints.push[:] = 0.0
        self.rig.twin.chain.supply_v = self.servos[0].motor.volts
        for servo in self.lied:
            for name in ("_refresh", "law"):
                servo.__dict__.pop(name, None)
        self.rig.twin.joints.__dict__.pop("step", None)
        self.each, self.action = lambda: None, lambda action: action
        self.console, self.human_age, self.beats, self.unkept = True, 0.0, set(LIVE), ""
        self.guard_lives = self.driver_lives = True
        if self.witness.alone:  # another driver is started in the place of the one that died
            self.witness.alone, self.rig._retry["servos"] = False, self.now

    @property
    def servos(self) -> list[DynamixelServo] | list[FeetechServo]:
        return self.rig.twin.bus.servos

    @property
    def ids(self) -> tuple[int, ...]:
        return self.run.robot.servos.ids

    @property
    def middle(self) -> int:
        """The number of a servo that others wait for, and that waits for others."""
        return self.ids[len(self.ids) // 2]

    @property
    def feetech(self) -> bool:
        return self.run.robot.servos.protocol == "feetech"

    @property
    def legged(self) -> bool:
        return self.run.robot.stop_profile == "damp"

    def rogue(self, **changes: object) -> Action:
        lowest, highest = self.run.robot.lowest, self.run.robot.highest
        far = tuple(highest if self.now // T % 2 else lowest)
        return super().rogue(**({"target": far} | changes))

    def tell(self, line: dict[str, Any]) -> None:
        self.rig.twin.command(line)


class Passing(Clock):
    """Whoever sleeps lets the world and the guard go on."""

    def __init__(self, scene: LineScene) -> None:
        self._scene = scene

    def now(self) -> int:
        return self._scene.now

    def sleep_until(self, deadline: int) -> None:
        while self._scene.now < deadline - T // 10:
            self._scene.wait()
