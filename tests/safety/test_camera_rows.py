"""Rows 17 to 20 of the fault catalogue, of the camera that a robot's tracker looks through: from its frames to the state.

Each with its negative control: without the cause the robot walks on. And what of a camera stops nobody.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from robotrl.config import Run
from robotrl.messages import Image
from robotrl.nodes.guard import Sentry
from tests.nodes.test_guard import World
from tests.safety.camerascene import HELD, ROWS, Watched, blinded, played

CAUSES = {"dead": "camera_gone", "unplugged": "camera_gone", "black": "camera_blind"}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_robot_holds_within_the_rows_budget(tmp_path, row):
    assert played(row, tmp_path) == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_without_its_detector_it_walks_on(tmp_path, row):
    assert blinded(row, tmp_path) == [f"no {row.cause} within {row.ms} ms"]


@pytest.mark.parametrize(
    "spoils",
    [
        lambda n, f: f if n > 1 else None,  # two lost frames are borne, their age is known
        lambda n, f: f and (replace(f, number=5, mark=5, image=HELD) if n in (0, 1) else f),  # one repeated
        lambda n, f: f and (replace(f, image=f.image // 100) if n < 4 else f),  # four dark ones
    ],
)
def test_what_is_borne(tmp_path, spoils):
    assert Watched(tmp_path).run().until_it_holds(spoils, 1000) > 1000


def test_a_camera_that_nobody_looks_through_stops_nobody(tmp_path):
    world = Watched(tmp_path).run()
    world.eye._name = "wrist"
    world.sentry._cameras["track"] = world.now + 10**9
    assert world.until_it_holds(lambda n, f: "unplugged", 800) > 800


@pytest.mark.parametrize("fault", ["dead", "frozen", "late", "black", "unplugged"])
def test_each_camera_that_a_policy_sees_by_holds_the_robot_alone(fault):
    """The other one goes on as if nothing were."""
    world, run = World(), Run()
    seen = replace(run, task=replace(run.task, pixels=replace(run.task.pixels, cameras=("front", "side"))))
    world.sentry = Sentry(seen, lambda: 1, iter(range(1000, 9999)).__next__)
    speak, ill = world.speak, False

    def speaks():
        speak()
        world.hear(Image(source="camera1", boot=1, t=world.now, camera="front"))
        if not ill or fault != "dead":
            world.hear(Image(source="camera2", boot=1, t=world.now, camera="side", fault=fault if ill else ""))

    world.speak = speaks
    world.run()
    assert all(world.step() == "RUN" for _ in range(50))
    ill, begun = True, world.now
    while world.now - begun < 2e9 and world.step() == "RUN":
        pass
    assert world.now - begun < 0.45e9
    assert world.sentry.outputs.causes[0] == CAUSES.get(fault, f"camera_{fault}")


def test_before_its_first_word_a_camera_is_not_missed():
    world = World()
    robot = Run().robot
    seen = replace(Run(), robot=replace(robot, tracker=replace(robot.tracker, camera="track")))
    world.sentry = Sentry(seen, lambda: 1, iter(range(1000, 9999)).__next__)
    assert world.run().step(100) == "RUN"
