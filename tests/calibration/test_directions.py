"""The words that a person is asked with, against the geometry of the twin's bodies: where a joint's far end really goes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from robotrl.calibration import stops
from robotrl.calibration.directions import WAYS
from robotrl.move import described
from robotrl.sim.bodies import DKITTY_BODY, OMX_BODY, SO101_BODY

ARM = Path(__file__).resolve().parents[2] / "launch" / "arm.toml"
BODIES = {
    kind: {part.name: part for part in body} for kind, body in (("so101", SO101_BODY), ("omx", OMX_BODY), ("dkitty", DKITTY_BODY))
}
# What is looked at when a joint turns: a part and a point of it, in the pose of zeros.
SEEN = {
    "so101": {"pan": ("roll", (0.3914, 0.0, 0.2265)), "lift": ("lift", (0.0972, -0.018, 0.2292)),
              "elbow": ("elbow", (0.2321, -0.018, 0.2344)), "wrist": ("wrist", (0.3914, 0.0, 0.2265))},
    "omx": {"j1": ("j1", (0.036, 0.0, 0.0765)), "j2": ("j2", (0.036, 0.0, 0.2045)), "j3": ("j3", (0.160, 0.0, 0.2045)),
            "j4": ("j4", (0.286, 0.0, 0.2045))},
}  # fmt: skip
AXES = {
    "arm": {"forwards": (0, 1), "back": (0, -1), "left": (1, 1), "right": (1, -1), "up": (2, 1), "down": (2, -1)},
    "dkitty": {"right": (0, 1), "left": (0, -1), "forwards": (1, 1), "back": (1, -1), "up": (2, 1), "down": (2, -1)},
}


def turned(axis, angle):
    x, y, z = np.asarray(axis, float) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross


def place(kind, angles, part, point):
    """Where a part's point is, the joints being at `angles`."""
    at, parts = np.array(point, float), BODIES[kind]
    while parts[part].parent:
        pivot = np.array(parts[part].pivot)
        at = pivot + turned(parts[part].axis, angles.get(part, 0.0)) @ (at - pivot)
        part = parts[part].parent
    return at


def agree(kind, angles, joint, seen, words):
    """Does the point go where the words say, when the joint's angle grows? Each word is a good part of its way, no other is."""
    went = place(kind, angles | {joint: angles.get(joint, 0.0) + 0.1}, *seen) - place(kind, angles, *seen)
    went /= np.linalg.norm(went)
    axes = AXES.get(kind, AXES["arm"])
    said = [axes[word] for word in words.replace(",", " ").split() if word in axes]
    assert said, words
    others = set(range(3)) - {axis for axis, _ in said}
    return all(sign * went[axis] > 0.3 for axis, sign in said) and all(abs(went[axis]) < 0.75 for axis in others)


@pytest.mark.parametrize("kind", SEEN)
def test_homing_asks_where_the_joint_went_in_the_pose_in_which_it_wiggled(kind):
    plan, joints = stops.PLANS[kind], list(SEEN[kind])
    for step in plan.steps:
        if step.joint < len(joints):
            pose = [step.others.get(i, q) for i, q in enumerate(plan.rest)]
            joint = joints[step.joint]
            angles = dict(zip(joints, pose, strict=False))
            assert agree(kind, angles, joint, SEEN[kind][joint], plan.ways[step.joint]), (joint, plan.ways[step.joint])


@pytest.mark.parametrize("kind", SEEN)
def test_commissioning_asks_where_the_joint_went_from_the_stow_pose(kind):
    joints, ways = list(SEEN[kind]), WAYS[kind]
    angles = dict(zip(joints, described(ARM, kind, []).robot.stow, strict=False))
    for i, joint in enumerate(joints):
        grows, shrinks = ways[i]
        if "clockwise" in grows:
            assert BODIES[kind][joint].axis[2] > 0 and grows.startswith("anti") and not shrinks.startswith("anti")
            continue
        assert agree(kind, angles, joint, SEEN[kind][joint], grows), (joint, grows)
        assert not agree(kind, angles, joint, SEEN[kind][joint], shrinks), (joint, shrinks)


def test_a_dkittys_legs_hang_straight_down_and_go_where_they_are_said_to():
    parts = [part for part in DKITTY_BODY if part.parent]
    for part, (grows, shrinks) in zip(parts, WAYS["dkitty"], strict=True):
        x, y, _ = part.pivot
        seen = (part.name, (x, y, part.pivot[2] - 0.1))
        assert agree("dkitty", {}, part.name, seen, grows) and not agree("dkitty", {}, part.name, seen, shrinks), part.name


def test_the_words_for_both_ways_differ_and_every_joint_has_its_own():
    for kind, ways in WAYS.items():
        assert all(a != b for a, b in ways)
        if kind in BODIES and kind != "dkitty":
            assert len(ways) == len(described(ARM, kind, []).robot.servos.ids)
