"""What a person is told of an arm on its way down, by the guard, and by a rescue that no guard hears. Pure."""

from __future__ import annotations

from robotrl.config import Robot
from robotrl.messages import Drive, Joints
from robotrl.nodes.checks import motors
from robotrl.safety.guard import Outputs

NOT_DOWN = "the arm is not down yet: support it, its torque goes off soon"
LET_GO = "the arm was let go before it was down: see what is in its way"
TOLD = {"stalled", "servo_frozen"}  # causes whose notes say what is to be done first, and to press disable
LIMP = (0, 1)  # modes of a servo that holds nothing: stopped, and in a fault


def way_down(robot: Robot, drive: Drive, joints: Joints, out: Outputs) -> str:
    """What he is to do, before all else that the guard has to say; "" where there is nothing."""
    lower = ", press disable to lower it on" if drive.stop == "hold" else ""
    if drive.lowers and (limp := _limp(robot, joints)):
        return f"motor {limp} has let go: support the arm{lower}"
    if drive.raised and drive.lowers:
        return NOT_DOWN
    if drive.raised and out.stop and not out.note and not out.hold:
        return LET_GO
    if out.hold and lower and not TOLD & set(out.causes):
        return f"{'too hot to be held for long; ' if 'temp_over' in out.causes else ''}the arm is held where it is{lower}"
    return ""


def _limp(robot: Robot, joints: Joints) -> str:
    said = zip(motors(robot), joints.mode, joints.missed, strict=True)
    return ", ".join(name for name, mode, missed in said if mode in LIMP and not missed)
