"""Who takes part in a run: each node by its name on the bus and its module; a robot has those for which it has a device."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from robotrl import config
from robotrl.topics import CAMERAS


@dataclass(frozen=True)
class Spec:
    """A node as data: its name on the bus and its module."""

    name: str
    module: str
    words: tuple[str, ...] = ()  # behind the run directory
    expendable: bool = False  # where it dies too often the robot's run goes on without it (safety facts, rows 33 and 42)


# In the order of starting. Each is started again when it dies; none of them moves the robot before the operator has cleared it.
NODES = (
    Spec("recorder", "robotrl.nodes.recorder"),  # first, so that it hears the others begin
    Spec("guard", "robotrl.nodes.guard"),
    Spec("rescue", "robotrl.nodes.rescue"),
    Spec("servos", "robotrl.nodes.servos"),
    Spec("imu", "robotrl.nodes.imu"),
    Spec("tracker", "robotrl.nodes.tracker"),
    Spec("reset", "robotrl.nodes.reset"),
    Spec("policy", "robotrl.nodes.policy"),
    Spec("learner", "robotrl.nodes.learner", expendable=True),
)
OPERATOR = Spec("operator", "robotrl.sim.operator")
CAMERA = "robotrl.nodes.camera"  # a process for each camera of the robot file
TELEOP = Spec("teleop", "robotrl.nodes.teleop", expendable=True)  # only where the run says takeover.device
CLASSIFIER = Spec("classifier", "robotrl.nodes.classifier")  # only where task.reward is "classifier"
GATEWAY = Spec("gateway", "robotrl.nodes.gateway", expendable=True)  # only where the run says network.listen


def nodes_of(robot: config.Robot) -> tuple[Spec, ...]:
    """Of `NODES` those that this robot has a device for."""
    absent = {sense for sense in ("imu", "tracker") if sense not in robot.senses}
    return tuple(spec for spec in NODES if spec.name not in absent)


def cameras(robot: config.Robot, needed: Collection[str]) -> tuple[Spec, ...]:
    """The nodes of the robot's cameras, by their places on the bus. `needed`: names of those that the run cannot do without."""
    return tuple(Spec(place, CAMERA, (place,), name not in needed) for place, name in zip(CAMERAS, robot.cameras, strict=False))
