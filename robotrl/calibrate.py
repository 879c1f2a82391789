"""`robotrl calibrate WHAT ...`: each kind's module is named by string and imported when asked for.

Every kind writes one file with its date, of one device, with residuals and what it came from; it can be run again.
"""

from __future__ import annotations

import importlib

from robotrl.complaint import Complaint

KINDS: dict[str, tuple[str, str]] = {
    # kind          module                               what it finds
    "homing": ("robotrl.calibration.homing", "where each motor's zero is: by hand, from LeRobot's file, or --stops"),
    "intrinsics": ("robotrl.calibration.intrinsics", "a camera's lens: --camera SERIAL [--images DIR]"),
    "imu": ("robotrl.calibration.imu", "which way an IMU is mounted, its bias and noise: [--poses top,left,front]"),
    "viewpoint": ("robotrl.calibration.viewpoint", "where the tracker's camera stands: --camera SERIAL --images DIR"),
    "hand-eye": (
        "robotrl.calibration.handeyetool",
        "where a camera is on a robot: --mount hand|base --camera SERIAL --samples DIR",
    ),
}

STOPS = "robotrl.homestops"  # `homing --stops`: it moves, so it needs the processes that may


class NoCalibration(Complaint):
    """A kind that there is not; one line."""


def usage() -> str:
    rows = "\n".join(f"  {name:<11} {what}" for name, (_, what) in KINDS.items())
    return f"usage: robotrl calibrate WHAT ...\n\n{rows}\n\nrobotrl calibrate WHAT --help says more."


def main(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0 if argv else 2
    if argv[0] not in KINDS:
        raise NoCalibration(f"no calibration {argv[0]!r}; known: {', '.join(KINDS)}")
    if argv[0] == "homing" and "--stops" in argv:
        return int(importlib.import_module(STOPS).main(argv[1:]))
    return int(importlib.import_module(KINDS[argv[0]][0]).main(argv[1:]))
