"""What is done to a line of bus servos, and how a detector is taken out that is no row of the table of causes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from robotrl.drivers.block import Block
from robotrl.drivers.chains import chain_of
from robotrl.nodes import powerdown
from robotrl.nodes.rescue import stop_motors
from robotrl.sim.faults import Unplugged
from tests.safety.linescene import LineScene, Passing
from tests.safety.linewitness import TICK
from tests.safety.mischief import Act, forgetful
from tests.safety.scene import T

DXL_AMPS, STS_AMPS, DXL_RAD_S = 2.69e-3, 6.5e-3, 0.0239691  # of one step (hardware facts 4.2, 5)


def inside(fault: str, place: int | None = None, **more: object) -> Act:
    """A fault of one servo, by its place on the line; None: the one in the middle."""

    def begin(s: LineScene) -> None:
        s.tell({"fault": fault, "servo": s.middle if place is None else s.ids[place], **more})

    return begin  # type: ignore[return-value]


def heated(above: float) -> Act:
    """So many degrees above what the robot's file allows."""
    return lambda s: s.tell({"fault": "heat", "servo": s.middle, "celsius": s.run.robot.limits.temp_c + above})  # type: ignore


def revives(s: LineScene) -> None:
    """A driver that starts whatever comes back, and a chain that switches torque on whenever it writes a goal: of two, both."""
    forgetful(s)
    chain = s.rig.servos.chain
    write = chain.write

    def anew(targets: Any) -> Any:
        chain._starting = None  # type: ignore[attr-defined]
        return write(targets)

    chain.write = anew  # type: ignore[method-assign]


def flaky(s: LineScene) -> None:
    """One answer in five is lost."""
    if s.now // T % 5 == 0:
        s.tell({"fault": "mute", "servo": s.middle, "for_s": 0.03})


def says(**registers: Callable[[LineScene, int], int]) -> Act:
    """The middle servo says what is not so: of each register, by the family's name for it, this in its place."""

    def begin(s: LineScene) -> None:
        servo = next(v for v in s.servos if v.id == s.middle)
        refresh, names = servo._refresh, FEETECH_NAMES if s.feetech else {}

        def lying() -> None:
            refresh()
            for name, value in registers.items():
                known = names.get(name, name)
                servo.registers.put(known, value(s, servo.registers.get(known)))

        servo.__dict__["_refresh"] = lying
        s.lied.append(servo)

    return begin  # type: ignore[return-value]


FEETECH_NAMES = {"present_velocity": "present_speed"}


def drift(s: LineScene) -> None:
    """The encoder says that the joint goes off as fast as this servo may, away from where its target can follow."""
    began, rad_s = s.rig.seconds, s.run.robot.servos.velocity_limit
    steps = TICK if s.feetech else DXL_RAD_S
    says(present_position=lambda s, now: now + round((s.rig.seconds - began) * rad_s / TICK),
         present_velocity=lambda s, _: round(rad_s / steps))(s)  # fmt: skip


def backwards(s: LineScene) -> None:
    """The bridge of the first servo is wired the wrong way round: its own loop drives it away from every goal."""
    servo = s.servos[0]
    law, limp = servo.law, type(servo.law(1e-6))

    def other_way(dt: float) -> object:
        drive, damping = law(dt)
        return limp(-drive, damping)

    servo.law = other_way  # type: ignore[method-assign, assignment]
    s.lied.append(servo)


def pinched(s: LineScene) -> None:
    """Something is in the way of the middle joint, which was about to go on: it stands still, whatever its servo gives."""
    joints, i = s.rig.twin.joints, s.ids.index(s.middle)
    step = joints.step

    def stuck(drive: Any, damping: Any, friction: Any, dt: float) -> None:
        held = friction.copy()
        held[i] = 1e3
        step(drive, damping, held, dt)

    joints.step = stuck  # type: ignore[method-assign]


def creeping(s: LineScene) -> None:
    """The second joint sinks at 1 rad/s, by its encoder, and its servo says nothing of it."""
    servo, began, refresh = s.servos[1], s.rig.seconds, s.servos[1]._refresh

    def sinking() -> None:
        refresh()
        down = round((s.rig.seconds - began) / TICK) * s.run.robot.servos.sign[1]
        servo.registers.put("present_position", servo.registers.get("present_position") + down)
        servo.registers.put("present_speed" if s.feetech else "present_velocity", 0)

    servo.__dict__["_refresh"] = sinking
    s.lied.append(servo)


def strained(s: LineScene, _: int) -> int:
    servos = s.run.robot.servos
    return round(1.05 * servos.continuous_torque / servos.nm_per_amp / (STS_AMPS if s.feetech else DXL_AMPS))


def rebooted(s: LineScene) -> None:
    """So quickly that nobody misses an answer; what lay in its RAM is gone all the same."""
    servo = next(v for v in s.servos if v.id == s.middle)
    servo.boots_s = 0.0
    servo.boot()


def written(**registers: int) -> Act:
    """Somebody else has written to the middle servo."""

    def begin(s: LineScene) -> None:
        servo = next(v for v in s.servos if v.id == s.middle)
        for name, value in registers.items():
            servo._put(name, value)

    return begin  # type: ignore[return-value]


def supply(volts: float, for_s: float = math.inf) -> Act:
    """What the supply gives, for so long."""

    def begin(s: LineScene) -> None:
        until = s.now + for_s * 1e9
        s.tell({"supply_v": volts})

        def back() -> None:
            if s.now >= until:
                s.tell({"supply_v": s.servos[0].motor.volts})

        s.each = back

    return begin  # type: ignore[return-value]


def other_baud(s: LineScene) -> None:
    """The adapter has lost its setting."""
    s.rig.twin.bus.host_baud = 57_600


def swapped(s: LineScene) -> None:
    """The port is unplugged, and what is plugged in there is another robot."""
    s.wire("servos", Unplugged(), 0.4)
    for servo in s.servos:
        servo.registers.put("id", servo.id + 100)


def beyond_recall(s: LineScene) -> None:
    """The machine was suspended, and the guard does not come back."""
    s.rig.twin.advance(0.5)
    s.guard_lives = False


def awaited(s: LineScene) -> None:
    """The machine was suspended; the guard woke first, and its permit is there when the driver wakes."""
    rig = s.rig
    rig.twin.advance(0.5)
    rig._live(s.now)
    rig.permit, rig.guard = rig.sentry.step(s.now)
    s.witness.permit(rig.permit.t, rig.permit.state, rig.permit.torque, rig.permit.speed_scale)


def asleep(s: LineScene) -> None:
    s.rig.twin.advance(0.5)


def orphaned(s: LineScene) -> None:
    """The driver is killed; the rescue, which holds its port, stops the motors by a chain of its own."""
    s.driver_lives, s.witness.alone = False, True
    led = any(v.registers.get("torque") for v in s.servos)
    if s.rescued:
        port, clock = s.rig._ports["servos"], Passing(s)
        chain = chain_of(port, s.run.robot, clock, starts=False)
        s.rescue = stop_motors(s.run.robot, chain, clock, led, lambda _: None)


def hung(s: LineScene) -> None:
    """The driver hangs, and is killed when the servos' watchdogs have long stopped them; then as above."""
    s.driver_lives = False
    for _ in range(15):
        s.wait()
    orphaned(s)


# ---- controls of what no row of the table sees


def asks_once(s: LineScene) -> None:
    """A chain that takes all behind a silent servo for silent."""
    chain = s.rig.servos.chain
    ask = chain._ask
    chain._ask = lambda *of: (ask(*of), ())[1]  # type: ignore


def confused(s: LineScene) -> None:
    """A chain that does not know which of two answers to believe, and believes neither."""
    put = Block.put

    def neither(self: Block, servo: int, error: int, params: bytes) -> None:
        row = self._row.get(servo)
        if row is None or not self.heard[row]:
            return put(self, servo, error, params)
        self.heard = self.heard.copy()
        self.heard[row] = False

    Block.put = neither  # type: ignore[method-assign]


def one_length(s: LineScene) -> None:
    """A chain whose questions all look alike."""
    line = s.rig.servos.chain.line
    asked = line.asked
    line.asked = lambda ids, turn: asked(ids, 0)  # type: ignore


def drops(s: LineScene) -> None:
    """An arm that is let go where it is; legs that are not braked."""
    powerdown.Profile.step = lambda self, now, joints: ""  # type: ignore


def whispers(s: LineScene) -> None:
    """It insists with those that it knows, and never tells all."""
    chain = s.rig.servos.chain
    chain.stop_all = chain.stop  # type: ignore


def boundless(s: LineScene) -> None:
    gate = s.rig.servos.gate
    gate.limits = dataclasses.replace(gate.limits, outside=None)


def alone(s: LineScene) -> None:
    """The driver says that there is no rescue."""
    s.rig.servos.unrescued = True


def unattended(s: LineScene) -> None:
    s.rescued = False


def both(*acts: Any) -> Act:
    return lambda s: [act(s) for act in acts]


def strong(s: LineScene) -> None:
    """A driver that lets a joint press with all it has."""
    s.rig.servos.chain._shares._pressing = None  # type: ignore[attr-defined]
