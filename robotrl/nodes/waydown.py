"""What a person is told of an arm on its way down, by the guard, and by a rescue that no guard hears. Pure."""

from __future__ import annotations

from collections.abc import Callable

from robotrl.config import Robot
from robotrl.messages import Drive, Joints
from robotrl.nodes.checks import motors
from robotrl.safety.causes import State
from robotrl.safety.guard import Outputs

NOT_DOWN = "the arm is not down yet: support it, its torque goes off soon"
GONE = "has let go: support the arm"
LET_GO = "the arm was let go before it was down: see what is in its way"
TOLD = {"stalled", "servo_frozen"}  # causes whose notes say what is to be done first, and to press disable
HOT = {"temp_high", "temp_over"}
LIMP = (0, 1)  # modes of a servo that holds nothing: stopped, and in a fault


def way_down(robot: Robot, drive: Drive, joints: Joints, out: Outputs) -> str:
    """What he is to do, before all else that the guard has to say; "" where there is nothing."""
    lower = ", press disable to lower it on" if drive.stop == "hold" else ""
    if drive.lowers and (who := limp(robot, joints)):
        return f"motor {', '.join(who)} {GONE}{lower}"
    if drive.raised and drive.lowers:
        return NOT_DOWN
    told = out.refused or set(out.causes) - {"operator_stop"} or out.state in (State.CHECK, State.LOCKOUT)  # what is to be done
    if drive.raised and out.stop and not told and not out.hold:
        return LET_GO + ("; press clear" if out.causes else "")
    if out.hold and lower and not TOLD & set(out.causes):
        return f"{'too hot to be held for long; ' if HOT & set(out.causes) else ''}the arm is held where it is{lower}"
    return ""


def limp(robot: Robot, joints: Joints) -> list[str]:
    said = zip(motors(robot), joints.mode, joints.missed, strict=True)
    return [name for name, mode, missed in said if mode in LIMP and not missed]


class Unheard:
    """The same, once each, by who lowers an arm while the guard hears nothing of its joints."""

    def __init__(self, robot: Robot, say: Callable[[str], None]) -> None:
        self._robot, self._say = robot, say
        self._told: set[str] = set()

    def step(self, joints: Joints | None, raised: bool) -> None:
        """Of an arm that is on its way, and nothing of legs, which are braked; `raised`: its time is nearly up."""
        going = self._robot.stop_profile == "stow" and joints is not None and any(joints.mode)  # all off: it has come to its end
        who = limp(self._robot, joints) if going and joints is not None else []
        if new := [name for name in who if name not in self._told]:
            self._say(f"motor {', '.join(new)} {GONE}")
        if raised and NOT_DOWN not in self._told:
            self._say(NOT_DOWN)
        self._told |= {*who, *([NOT_DOWN] if raised else [])}
