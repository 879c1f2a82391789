"""The one table of streams. Nothing is published that is not in it; `tests/test_topics.py` holds the nodes to it.

`rate_hz` is the rate a reader may expect (0: when it happens). A *latest* topic keeps only the newest message (state); a *queue*
delivers every one in order (events, and what is learned from). The recorder writes every message of what is `recorded`, of a
latest topic too (`bus.Bus.subscriber`, whole). `limit` is the most bytes a message of it may have: a reader drops
who sends more. `gateway` speaks for peers on other machines, as far as `robotrl/roles.py` lets them.
"""

from __future__ import annotations

from dataclasses import dataclass

from robotrl import messages as m


@dataclass(frozen=True)
class Topic:
    type: type[m.Message]
    sources: tuple[str, ...]
    rate_hz: float
    latest: bool
    recorded: bool
    limit: int = 8192  # bytes: state (safety facts 3.7)
    queue: int = 4096  # messages that wait for a slow reader: 80 s at 50 Hz; and the most that one drain takes of a source


COMMAND, LABEL = 512, 1024  # bytes; same source
VIEWERS = ("viewer", "viewer2", "viewer3")  # consoles beside the one that supervises: all they may say is stop
TAPE = 1 << 18  # bytes: what `drivers/tape.py` may collect, packed
FRAMED = 1 << 19  # bytes: two frames of four cameras, 128 x 128, in colours
MOTION = 1 << 16  # bytes: a second and more of an IMU's samples, packed
PICTURE, PICTURES = 1 << 21, 128  # bytes: a JPEG of 8 megapixels has less; two seconds at 60 Hz
CAMERAS = ("camera1", "camera2", "camera3", "camera4")  # a process each, in the order of the robot file

TOPICS: dict[str, Topic] = {
    #               type        published by            rate   latest  recorded
    "joints": Topic(m.Joints, ("servos",), 50, False, True),
    "applied": Topic(m.Applied, ("servos",), 50, False, True),
    "drive": Topic(m.Drive, ("servos",), 50, True, True),
    "imu": Topic(m.Imu, ("imu",), 200, True, True),
    "pose": Topic(m.Pose, ("tracker",), 60, False, True),
    "image": Topic(m.Image, CAMERAS, 30, False, True),
    "picture": Topic(m.Picture, CAMERAS, 30, False, True, PICTURE, PICTURES),
    "depth": Topic(m.Picture, CAMERAS, 30, False, True, PICTURE, PICTURES),
    "motion": Topic(m.Motion, CAMERAS, 30, False, True, MOTION),
    "action": Topic(m.Action, ("policy", "reset", "gateway"), 50, True, True),
    "teleop": Topic(m.Teleop, ("teleop",), 50, True, True),
    "permit": Topic(m.Permit, ("guard",), 50, True, True),
    "guard": Topic(m.Guard, ("guard",), 50, True, True),
    "cause": Topic(m.Guard, ("guard",), 0, False, True),
    "operator": Topic(m.Operator, ("console", "gateway", *VIEWERS), 10, False, True, COMMAND),
    "label": Topic(m.Label, ("console", "gateway", "relabel", "classifier"), 0, False, True, LABEL),
    "episode": Topic(m.Episode, ("policy",), 50, True, False),
    "episode_end": Topic(m.Episode, ("policy",), 0, False, True),
    "learner": Topic(m.Learner, ("learner",), 5, True, True),
    "classifier": Topic(m.Classified, ("classifier",), 5, True, True),
    "reset": Topic(m.Reset, ("reset",), 50, True, True),
    "process": Topic(m.Process, ("manager",), 0, False, True),
    "wire": Topic(m.Exchange, ("servos", "imu", "tracker"), 50, False, True, TAPE),
    "thought": Topic(m.Thought, ("policy",), 50, False, True),
    "transition": Topic(m.Transition, ("policy",), 50, False, False, FRAMED),  # the log has them
    "ack": Topic(m.Ack, ("recorder",), 20, True, False),
    "beat": Topic(m.Beat, ("policy", "learner", "reset", "imu", "tracker", "recorder", "classifier", "manager"), 10, True, True),
}
