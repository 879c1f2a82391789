"""What a peer on another machine may do. Its role hangs on the key it proved to hold, never on what its messages say.

Anyone who was let in may read and may stop the robot; only a console may clear; nobody there puts torque on or makes the robot
move unless the run says so (`network.motion`). The guard judges once more: of whoever is no console it takes a stop alone.
"""

from __future__ import annotations

from robotrl.messages import Message, Operator

# role: the topics it may publish, beside a stop. Weights are files of the run directory, no topic yet: a learner only reads.
ROLES: dict[str, tuple[str, ...]] = {
    "console": ("operator", "label"),
    "agent": ("action",),  # the gate obeys it when the guard's lease names it
    "learner": (),
    "viewer": (),
}
MOTION = ("enable", "run", "reset")
# Of these the guard hears no more than that somebody is there: a label goes with all of them but the beat.
LABELLING = ("good", "bad", "hold", "success", "fail", "relabel", "end", "mark", "note", "undo", "beat")
HANDS = ("take", "give", "jog")  # to lead the robot by hand (docs/takeover.md): of no console but one on this machine
COMMANDS = ("stop", "clear", "pause", "disable", *LABELLING, *MOTION)
READ = (
    "joints", "applied", "drive", "imu", "pose", "permit", "guard", "cause", "episode", "episode_end", "learner", "reset",
    "process", "beat", "ack", "image", "classifier", "teleop",
)  # fmt: skip
LARGEST = 1e9  # of a key's value: seconds for which nobody was there, or a reward
ASKED = ("picture",)  # read only by who asks, and one of each camera at a time: a slow line carries stops first


def refusal(role: str, topic: str, message: Message, motion: bool) -> str:
    """Why a peer of this role may not publish this, in one word for the counters; empty when it may.

    `motion`: consoles on other machines may press enable, run and reset.
    """
    if role not in ROLES:
        return "role"
    if isinstance(message, Operator) and message.command == "stop":
        return ""
    if topic not in ROLES[role]:
        return "beat" if isinstance(message, Operator) and message.command == "beat" else "role"
    if not abs(getattr(message, "value", 0.0)) <= LARGEST:  # nan is not
        return "malformed"
    if isinstance(message, Operator):
        if message.command not in COMMANDS:
            return "malformed"
        return "motion" if message.command in MOTION and not motion else ""
    return ""
