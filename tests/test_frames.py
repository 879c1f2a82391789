"""Images in the replay and the log: each stored once, and no sampling pairs what was never seen together.

The model is a list of whole transitions with all pixels of both frames; an image's pixels say when it was taken.
"""

from __future__ import annotations

import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robotrl import transitions
from robotrl.agents.experience import NStep
from robotrl.config import Agent, Run, to_dict
from robotrl.log import Log
from robotrl.logformat import Kind
from robotrl.replay import Replay, ReplayError
from robotrl.replaycheck import compared, rebuild

CAMERAS = (("wrist", 3, 2, 3), ("front", 4, 5, 1))
BYTES = 3 * 2 * 3 + 4 * 5 * 1
EVENTS = ("goes on", "goes on", "goes on", "terminated", "truncated", "taken over", "killed", "lost cycle", "lost reward")
SILENT = (
    "cycle not counted",
    "step not counted",
    "end not counted",
)  # what no pilot writes: one number alone then tells that it does not go on


def frame(moment: int) -> bytes:
    """What all cameras saw at a moment: no two moments look the same."""
    return bytes((moment * 7 + k * 13 + (moment >> 5) * k) % 256 for k in range(BYTES - 2)) + moment.to_bytes(2, "little")


def story(events: list[str]) -> list[dict[str, Any]]:
    """Transitions of a robot to which these things happen, one after each step; `at`, `then`: moments of its two frames."""
    out, episode, step, tick, moment = [], 0, 0, 100, 0
    for event in events:
        ends = {"terminated": event == "terminated", "truncated": event in ("truncated", "taken over", SILENT[2])}
        out.append({"episode": episode, "step": step, "tick": tick, "at": moment, "then": moment + 1, **ends})
        step, tick, moment = step + 1, tick + 1, moment + 1
        if event in ("terminated", "truncated", "taken over", "killed"):
            episode, step, tick = episode + 1, 0, tick + (50 if event == "taken over" else 0)
            moment += 10 if event != "truncated" else 0  # cut off in the middle: the next one may begin where it was
        elif event == "lost cycle":  # the pilot's count of steps does not tell
            tick, moment = tick + 1, moment + 1
        elif event == "lost reward":
            step, tick, moment = step + 1, tick + 1, moment + 1
        elif event in SILENT[:2]:
            step, tick, moment = step + (event == SILENT[1]), tick + (event == SILENT[0]), moment + 1
    return out


def keep(replay: Replay, one: dict[str, Any], images: bool) -> int:
    o = np.array([one["at"], 0.5, 0.25], np.float32)
    about = {k: one[k] for k in ("terminated", "truncated", "episode", "step", "tick")}
    return replay.add(
        o, np.zeros(2, np.float32), one["at"] / 4, o + 1, policy_version=0, **about,
        images=frame(one["at"]) if images else b"", next_images=frame(one["then"]),
    )  # fmt: skip


def seen(one: dict[str, Any]) -> list[bytes]:
    """Each row's frame as it was given."""
    return [b"".join(one[name][k].tobytes() for name, *_ in CAMERAS) for k in range(len(one["wrist"]))]


stories = st.lists(st.sampled_from(EVENTS + SILENT), min_size=1, max_size=25).map(story)


@pytest.fixture(scope="module")
def replay(tmp_path_factory):
    """One for all stories: each begins with `cut(0)`, over what the one before has left."""
    made = Replay.create(tmp_path_factory.mktemp("frames") / "r", 3, 2, 25, CAMERAS)
    yield made
    made.close()


@settings(max_examples=50, deadline=None, derandomize=True)
@given(stories, st.integers(1, 5), st.data())
def test_what_is_sampled_was_seen_together(replay, told, n, data) -> None:
    """Against the list: single steps and n of them, from any first part of the rows; and nothing is stored twice."""
    replay.cut(0)
    follows = [False] * len(told)  # does row k go on from row k - 1? by the frames alone
    for k, one in enumerate(told):
        before = told[k - 1] if k else None
        over = before is None or before["terminated"] or before["truncated"] or before["episode"] != one["episode"]
        follows[k] = not over and before["then"] == one["at"]
        if not follows[k]:
            with pytest.raises(ReplayError, match="goes on from"):
                keep(replay, one, images=False)
        assert keep(replay, one, images=not follows[k]) == k
    rows = np.array(data.draw(st.lists(st.integers(0, len(told) - 1), min_size=1, max_size=30)))
    images = replay.images(rows, rows)
    assert seen(images.observation) == [frame(told[k]["at"]) for k in rows]
    assert seen(images.next_observation) == [frame(told[k]["then"]) for k in rows]
    count = data.draw(st.integers(1, len(told)))
    several = NStep(replay, n, 0.9)
    drawn = several.sample(np.random.default_rng(0), 40, count)
    batch, images = several.rows(drawn), several.images(drawn, replay.images(drawn, drawn))
    for at, k in enumerate(drawn):
        last = int(k)
        while last + 1 < count and last - k + 1 < n and follows[last + 1]:
            last += 1
        assert batch.steps[at] == last - k + 1 and batch.next_observation[at][0] == told[last]["at"] + 1
        assert seen(images.observation)[at] == frame(told[k]["at"]) and seen(images.next_observation)[at] == frame(
            told[last]["then"]
        )
    assert replay.frame_count == len(told) + follows.count(False)
    assert replay.check()["damaged"] == 0


def test_any_torn_frame_that_was_not_promised_drops_its_rows_and_a_promised_one_is_damage(tmp_path):
    told = story(["goes on"] * 4 + ["truncated"] + ["goes on"] * 4)
    replay = Replay.create(tmp_path / "r", 3, 2, 25, CAMERAS)
    for k, one in enumerate(told):
        keep(replay, one, images=k in (0, 5))
        if k == 2:
            replay.flush()
    replay.frames.columns["image_front"][8, 1, 1] ^= 1  # the frame that row 6 and row 7 share
    replay._release()
    assert Replay.open(tmp_path / "r").check()["damaged"] == 2
    again = Replay.open(tmp_path / "r", write=True)
    assert again.count == 6 and again.frame_count == 8 and again.check()["damaged"] == 0
    for k in range(6, 9):
        keep(again, told[k], images=False)
    assert seen(again.images(np.arange(9), np.arange(9)).observation) == [frame(one["at"]) for one in told]
    again.frames.columns["image_wrist"][1, 0, 0, 2] ^= 128
    again.close()
    assert Replay.open(tmp_path / "r").check()["damaged"] == 2, "what nobody reads again on opening, `check` still finds"


def test_what_does_not_fit_is_refused_and_changes_nothing(tmp_path):
    first, second, third = story(["goes on", "terminated", "goes on"])
    replay = Replay.create(tmp_path / "r", 3, 2, 2, CAMERAS)
    for images, after in ((b"", frame(1)[1:]), (frame(0) + b"x", frame(1)), (frame(0), b"")):
        with pytest.raises(ReplayError, match=f"a frame has {BYTES} bytes"):
            replay.add(np.zeros(3), np.zeros(2), 0.0, np.zeros(3), terminated=False, truncated=False, episode=0, step=0, tick=0,
                       policy_version=0, images=images, next_images=after)  # fmt: skip
    assert replay.count == replay.frame_count == 0
    keep(replay, first, True)
    keep(replay, second, False)
    with pytest.raises(ReplayError, match="full at 2"):
        keep(replay, third, True)
    with pytest.raises(IndexError):
        replay.images(np.array([0]), np.array([2]))
    replay.close()
    plain = Replay.create(tmp_path / "plain", 3, 2, 4)
    with pytest.raises(ReplayError, match="a frame has 0 bytes"):
        keep(plain, first, True)
    plain.close()
    assert json.loads((tmp_path / "plain" / "header.json").read_text())["schema"] == 1, "as it was before there were cameras"


@pytest.mark.parametrize(
    "cameras",
    [(("a b", 1, 1, 1),), (("a", 1, 1, 1), ("a", 1, 1, 1)), (("../a", 1, 1, 1),), (("a", 0, 1, 1),), (("a", 2000, 2000, 3),)],
)
def test_cameras_that_cannot_be(tmp_path, cameras):
    with pytest.raises(ReplayError, match="no replay is of"):
        Replay.create(tmp_path / "r", 3, 2, 4, cameras)
    assert not (tmp_path / "r").exists()


def test_two_cameras_of_84_by_84_beside_the_state_take_their_frames_of_disk_and_no_more(tmp_path):
    replay = Replay.create(tmp_path / "r", 112, 8, 1_000_000, (("wrist", 84, 84, 3), ("front", 84, 84, 3)))
    first, second = (np.random.default_rng(k).integers(0, 256, 2 * 84 * 84 * 3, np.uint8).tobytes() for k in (0, 1))
    o = np.zeros(112)
    replay.add(o, np.zeros(8), 0.0, o, terminated=True, truncated=False, episode=0, step=0, tick=0, policy_version=0,
               images=first, next_images=second)  # fmt: skip
    got = replay.images(np.zeros(1, int), np.zeros(1, int))
    assert got.observation["front"].shape == (1, 84, 84, 3)
    assert b"".join(got.next_observation[name].tobytes() for name in ("wrist", "front")) == second
    assert sum(p.stat().st_blocks * 512 for p in (tmp_path / "r").iterdir()) < 6_000_000
    replay.close()


def messages(told: list[dict[str, Any]]) -> list[Any]:
    """As a policy would send them."""
    out: list[Any] = []
    for one in told:
        o = np.array([one["at"], 0.5, 0.25], np.float32)
        about = {k: one[k] for k in ("terminated", "truncated", "episode", "step", "tick")}
        t = transitions.make(o, np.zeros(2), one["at"] / 4, o + 1, policy_version=0, **about)
        out.append(transitions.framed(t, CAMERAS, frame(one["at"]), frame(one["then"]), out[-1] if out else None))
    return out


@pytest.fixture(scope="module")
def no_disk():
    """No power goes in this test: what was written is there."""
    with pytest.MonkeyPatch.context() as patch:
        for call in ("fsync", "fdatasync"):
            patch.setattr("os." + call, lambda handle: None)
        yield


@settings(max_examples=10, deadline=None, derandomize=True)
@given(stories, st.data())
def test_the_replay_is_made_anew_from_the_log(no_disk, tmp_path_factory: pytest.TempPathFactory, told, data) -> None:
    """Byte by byte the same; where the log has lost records, without those whose frame was in one of them."""
    run = tmp_path_factory.mktemp("run")
    (run / "run.json").write_text(
        json.dumps({"config": to_dict(Run(steps=25, agent=Agent(capacity=25, random_steps=1, learn_after=1)))})
    )
    lost = data.draw(st.sets(st.integers(0, len(told) - 1), max_size=3))
    kept = [(one, t) for k, (one, t) in enumerate(zip(told, messages(told), strict=True)) if k not in lost]
    log, replay = Log.open(run / "log"), Replay.create(run / "replay", 3, 2, 25, CAMERAS)
    there = []
    for number, (one, t) in enumerate(kept, 1):
        payload = transitions.encoded(t)
        assert transitions.decoded(payload) == t and not transitions.fits(replay, t)
        log.append(Kind.TRANSITION, "policy", 7, number, payload)
        if transitions.add(replay, t) != transitions.ORPHAN:
            there.append(one)
    log.close()
    replay.close()
    files = lambda: {p.name: p.read_bytes() for p in (run / "replay").iterdir()}  # noqa: E731
    whole = files()
    reader = Replay.open(run / "replay")
    rows = np.arange(reader.count)
    assert seen(reader.images(rows, rows).observation) == [frame(one["at"]) for one in there], "never another's frame"
    assert seen(reader.images(rows, rows).next_observation) == [frame(one["then"]) for one in there]
    assert lost or len(there) == len(told)
    assert compared(run, []) == {"logged": len(there), "differ": 0}
    if there:
        assert rebuild(run, []) == len(there)
        assert files() == whole
        reader = Replay.open(run / "replay.old", write=True)
        reader.frames.columns["frame_crc"][0] ^= 1
        reader.close()
        shutil.rmtree(run / "replay")
        (run / "replay.old").rename(run / "replay")
        assert compared(run, [])["differ"] == 1
    shutil.rmtree(run)


def test_a_payload_that_says_it_is_gigabytes_is_no_transition():
    (t,) = messages(story(["terminated"]))
    good = transitions.encoded(t)
    squeezed = zlib.compress(t.next_images, transitions.LEVEL)
    assert squeezed in good
    for bad in (zlib.compress(bytes(10**6)), squeezed[:-3], zlib.compress(t.next_images[1:])):
        worse = msgspec.msgpack.encode(msgspec.structs.replace(t, images=zlib.compress(t.images), next_images=bad))
        with pytest.raises(ReplayError, match="no transition"):
            transitions.decoded(worse)


def test_another_cameras_frames_do_not_fit(tmp_path: Path):
    replay = Replay.create(tmp_path / "r", 3, 2, 4, CAMERAS)
    (t,) = messages(story(["terminated"]))
    change = msgspec.structs.replace
    assert transitions.fits(replay, t) == ""
    assert "cameras are" in transitions.fits(replay, change(t, cameras=CAMERAS[:1]))
    assert "bytes" in transitions.fits(replay, change(t, next_images=b"")) and "bytes" in transitions.fits(
        replay, change(t, images=b"x")
    )
    replay.close()
