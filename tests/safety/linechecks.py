"""What more must hold on a servo line than the guard's state, when a fault was played."""

from __future__ import annotations

import math

from tests.safety.linescene import LineScene
from tests.safety.mischief import Check
from tests.safety.scene import T

STOWED_RAD = 0.15  # a joint that carries a weight hangs a little lower


def alone(place: int | None = None) -> Check:
    """Who is silent is missed, and nobody else is: each of the others was heard in every period in which it was asked."""

    def check(s: LineScene, onset: int) -> str:
        silent = (s.ids.index(s.middle) if place is None else place % len(s.ids)) + 1
        asked = [m for m in s.witness.history if m.t > onset and m.asked]
        missed = sorted({s.ids[p - 1] for m in asked for p in m.asked - set(m.modes) - {silent}})
        return f"servos {missed} are missed too" if missed or not asked else ""

    return check  # type: ignore[return-value]


def nobody(s: LineScene, onset: int) -> str:
    """Everybody was heard in every period in which he was asked."""
    asked = [m for m in s.witness.history if m.t > onset and m.asked]
    return "" if asked and all(m.asked <= set(m.modes) for m in asked) else "somebody is missed"


def left_alone(s: LineScene, onset: int) -> str:
    """Nobody talks to them. A Dynamixel was stopped by its watchdog; a Feetech went as far as its goal led, and no farther."""
    if not s.feetech:
        led = [v.id for v in s.servos if v.registers.get("torque") and v.registers.get("bus_watchdog") != -1]
        return f"servos {led} are led by nobody, and their watchdog did not act" if led else ""
    return travelled(s, onset)


def travelled(s: LineScene, onset: int) -> str:
    """No joint under torque got farther from where it was heard last than a goal may lead it."""
    lead = s.run.robot.limits.lead_rad + 0.02
    led = [p for p, v in enumerate(s.servos, 1) if v.registers.get("torque") and p in s.witness._seen]
    ways = [abs(s.rig.twin.joints.angle[p - 1] - s.witness._seen[p]) for p in led]
    return f"a joint travelled {max(ways):.2f} rad by itself" if max(ways, default=0.0) > lead else ""


def unpowered(s: LineScene, onset: int) -> str:
    """What came back is off, and stays off; an arm may have been lowered before."""
    told = [m for m in s.witness.history if m.t > onset]
    limp = next((m.t for m in told if 0 in m.modes.values()), s.now) + 3 * T
    on = [v.id for v in s.servos if v.registers.get("torque")] if not told[-1].lowers else []
    if on or any(m.on for m in told) or any(m.goal and not m.lowers for m in told if m.t > limp):
        return f"torque came back by itself, or was left: servos {on}"
    return ""


def no_goal_soon(s: LineScene, onset: int) -> str:
    late = [m for m in s.witness.history if m.t > onset + 80_000_000]
    return "goals go on without a permit" if any(m.goal and not m.lowers for m in late) else ""


def awake(s: LineScene, onset: int) -> str:
    first = next(m for m in s.witness.history if m.t > onset)
    return "the first word after waking is a goal" if first.goal and not first.lowers else ""


def held(s: LineScene, onset: int) -> str:
    """All of them are led: a servo that its watchdog has stopped brakes, and an arm sinks."""
    modes = s.witness.history[-1].modes
    return f"modes {modes}: not held" if set(modes.values()) != {10} else ""


def eased(s: LineScene, onset: int) -> str:
    """The middle servo has been told to press with 30 % of its torque at most."""
    servo = next(v for v in s.servos if v.id == s.middle)
    share = servo.registers.get("torque_limit") / 1000 if s.feetech else servo.registers.get("goal_pwm") / 885
    return f"the joint presses with {share:.2f} of its torque" if share > 0.301 else ""


def lowered(s: LineScene, onset: int) -> str:
    """The stop profile, as the wire has it: an arm holds, lowers itself, lets go where it lies; legs brake, then are off."""
    told = [m for m in s.witness.history if m.t > onset]
    began = next((k for k, m in enumerate(told) if m.lowers or m.damped), None)
    end = next((k for k, m in enumerate(told) if k >= (began or 0) and m.stopped and not m.goal), None)
    robot = s.run.robot
    if began is None or end is None:
        led = [m for m in s.witness.history if m.t <= onset][-1].goal
        return f"no stop profile: began {began}, ended {end}" if led else ""
    seconds, braked = (told[end].t - told[began].t) * 1e-9, all(m.damped for m in told[began:end])
    if braked != s.legged or not 0.25 < seconds <= robot.stop_damp_s + 0.05:
        return f"{seconds:.2f} s of {'brakes' if braked else 'goals'} before torque went off"
    if any(v.registers.get("torque") for v in s.servos) or any(m.goal or m.damped for m in told[end:]):
        return "torque is not off at the end"
    lay = max((abs(s.witness.at_stop[p] - to) for p, to in enumerate(robot.stow, 1)), default=0.0) if robot.stow else 0.0
    return f"let go {lay:.2f} rad from where it falls no farther" if lay > STOWED_RAD else ""


def rescued(s: LineScene, onset: int) -> str:
    """Off, and an arm was lowered before."""
    if why := lowered(s, onset):
        return why
    on = [v.id for v in s.servos if v.registers.get("torque")]
    return f"servos {on} are under torque, and nobody is there" if on else ""


def told_all(s: LineScene, onset: int) -> str:
    """Row 63: before LOCKOUT every servo on the bus was told at once, and a person to cut the power."""
    locked = next((m.t for m in s.witness.history if m.state == "LOCKOUT"), None)
    if locked is None or not any(m.all_off and onset < m.t <= locked + T for m in s.witness.history):
        return "nobody told all servos at once"
    return "" if s.rig.guard is not None and "CUT POWER" in s.rig.guard.note else "nobody says: CUT POWER"


def over_the_floor(s: LineScene, onset: int) -> str:
    """The gripper's point by plane geometry, from the goals on the wire: never under the floor that the file draws."""
    least = min((hand(s, m.goal) for m in s.witness.history if m.t > onset and m.goal), default=1.0)
    floor = s.run.robot.workspace.low[2]
    return f"the hand is sent to z = {least:.3f} m" if least < floor - 1e-3 else ""


# x and z, m, from each pivot to the next at q = 0, and the first pivot's height (hardware facts 3.1)
CHAINS = {"omx": (0.0765, ((0.024, 0.128), (0.124, 0.0), (0.126, 0.0))),
          "so101": (0.1166, ((0.028, 0.1126), (0.1349, 0.0052), (0.1593, -0.0079)))}  # fmt: skip


def hand(s: LineScene, goal: dict[int, float]) -> float:
    z, parts = CHAINS[s.run.robot.kind]
    turned = 0.0
    for place, (along, up) in enumerate(parts, 2):
        turned += goal[place]
        z += up * math.cos(turned) - along * math.sin(turned)
    return z
