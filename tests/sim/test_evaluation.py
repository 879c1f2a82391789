"""What an evaluation calls lying: a leg folded for a second up to the episode's end, and nothing shorter."""

from __future__ import annotations

import json
import struct
from types import SimpleNamespace

import numpy as np
import pytest

from robotrl import cli, rundir
from robotrl.config import Run
from robotrl.kinematics import to_motors
from robotrl.sim.evaluation import Walked

STAND = (np.zeros(4), np.full(4, 2.0))


def walked(swings: list[float], extensions: list[float]) -> Walked:
    """Cycles of 20 ms in which the front left leg is where the lists say, the others stand."""
    world = SimpleNamespace(position=np.zeros(3), rpy=np.zeros(3))
    rig = SimpleNamespace(run=Run(), seconds=0.0, joints=None, twin=SimpleNamespace(world=world))
    path = Walked(rig)  # type: ignore[arg-type]
    for swing, extension in zip(swings, extensions, strict=True):
        rig.seconds += 0.02
        s, e = STAND[0].copy(), STAND[1].copy()
        s[0], e[0] = swing, extension
        rig.joints = SimpleNamespace(position=tuple(to_motors(s, e)))
        path.look()
    return path


@pytest.mark.parametrize(("swing", "extension"), [(0.85, 2.0), (-0.85, 2.0), (0.0, 2.7), (0.0, 1.3)])
def test_a_leg_folded_at_the_end_lies(swing, extension):
    out, sound = ([swing] * 60, [extension] * 60), ([0.0] * 60, [2.0] * 60)
    assert walked(*out).lies()
    assert walked(sound[0] + out[0], sound[1] + out[1]).lies()
    assert not walked(out[0] + sound[0], out[1] + sound[1]).lies(), "it got up again"
    assert not walked(sound[0] + out[0][:40], sound[1] + out[1][:40]).lies(), "not for a second yet"


def test_the_farthest_that_actions_reach_is_no_fold():
    assert not walked([0.5] * 200, [2.35] * 200).lies()


def test_speed_is_of_the_episode_and_not_of_the_reset_that_carries_the_robot_back():
    path = walked([0.0] * 50, [2.0] * 50)
    world = path.rig.twin.world
    for k in range(1, 51):
        world.position = np.array([0.01 * k, 0.3, 0.0])
        path.rig.seconds += 0.02
        path.look()
    world.position = np.zeros(3)
    assert path.speed() == pytest.approx(0.5 / 2.0)


def network(inputs: int, dtype: str = "F32") -> bytes:
    """An actor of one layer as a safetensors file, written here after the format's page."""
    size = {"F32": 4, "BF16": 2}[dtype]
    end = 16 * inputs * size
    parts = {"actor.0.weight": ([16, inputs], [0, end]), "actor.0.bias": ([16], [end, end + 16 * size])}
    header = json.dumps({name: {"dtype": dtype, "shape": s, "data_offsets": at} for name, (s, at) in parts.items()}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(end + 16 * size)


@pytest.mark.parametrize("weights", [b"no weights", b"", network(112, "BF16"), network(7)], ids=["text", "empty", "BF16", "size"])
def test_weights_that_are_none_are_one_line(tmp_path, capsys, weights):
    directory = rundir.create(Run(), tmp_path, "lockstep")
    (directory / "weights" / "policy.safetensors").write_bytes(weights)
    assert cli.main(["eval", str(directory), "--episodes", "1"]) == 2
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0 and "policy.safetensors" in said
