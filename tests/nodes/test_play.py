"""A session through the live code again: the same bytes give the same bits, and whatever is not the same is found and named."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

import msgspec
import numpy as np
import pytest

from robotrl import config, play, transitions
from robotrl.drivers import imu as imu_driver
from robotrl.messages import Action, Applied, Drive, Exchange, Guard, Imu, Joints, Permit, Pose, Thought
from robotrl.nodes import player
from robotrl.nodes.player import Player
from robotrl.session import Reading, SessionError
from tests.nodes.taped import WRITTEN_NS, Taped, actor, changed, held_up


@pytest.fixture(scope="module")
def told():
    """A robot that is enabled, gets up, walks by chance and then by weights; about 300 cycles."""
    taped = Taped()
    taped.until(lambda: taped.pilot.steps >= 70)
    taped.weigh(1)
    taped.until(lambda: taped.pilot.steps >= 130)
    yield taped
    taped.close()


def played(told, tmp_path, said=None, versions=(1,)):
    again = Player()
    again.feed(Reading(told.record(tmp_path / "0001.mcap", said, versions)))
    again.finish()
    return again.result()


def test_the_same_bytes_give_the_same_messages_observations_and_commands(told, tmp_path):
    result = played(told, tmp_path)
    assert result["same"] and not result["cut"] and not result["unweighted"]
    counts = {name: sum(isinstance(m, kind) for _, m in told.said) for name, kind in (("joints", Joints), ("applied", Applied))}
    acted = sum(isinstance(m, Thought) and m.acted for _, m in told.said)
    counts |= {"bytes to the servos": counts["joints"] + 1, "observations": acted, "commands": acted}  # and the handshake
    assert {name: result["rows"][name]["equal"] for name in counts} == counts and acted > 100
    assert result["rows"]["imu"]["equal"] > 150 and result["rows"]["poses"]["equal"] > 150
    assert sum(row["unknown"] for row in result["rows"].values()) == 0


def test_each_transition_keeps_its_own_times(told):
    """Those of the messages of its cycle, so that they are known where there is no session, too."""
    of = {(type(m), m.tick): m for _, m in told.said if isinstance(m, Joints | Applied | Drive | Thought)}
    assert len(told.kept) > 100 and len({t.late_us for t in told.kept}) == 7
    for made in map(transitions.decoded, map(transitions.encoded, told.kept)):
        joints, applied, drive, thought = (of[kind, made.tick] for kind in (Joints, Applied, Drive, Thought))
        assert (made.joints_t, made.applied_t, made.late_us) == (joints.t, applied.t + WRITTEN_NS, drive.late_us)
        assert (made.imu_t, made.pose_t) == (thought.imu_t, thought.pose_t)
        assert 0 < made.pose_t < made.imu_t <= made.joints_t < made.applied_t


def a_reply(topic, message):
    return topic == "wire" and message.source == "servos" and len(message.calls) == 1 and b"rcv" in b"".join(message.data)


def turn_a_joint(exchange: Exchange) -> Exchange:
    """One hex digit of a servo's answer, in the position's bytes."""
    at = next(i for i, data in enumerate(exchange.data) if b"rcv" in data)
    data = bytearray(exchange.data[at])
    first = data.index(b"rcv")
    digits = data.index(b" ", first + 5) + 1
    data[digits + 11] = ord("1") if data[digits + 11] != ord("1") else ord("2")
    return msgspec.structs.replace(exchange, data=(*exchange.data[:at], bytes(data), *exchange.data[at + 1 :]))


def test_one_digit_of_one_reply_changes_a_joint_an_observation_and_a_command(told, tmp_path):
    acted = {m.tick for _, m in told.said if isinstance(m, Thought) and m.acted and m.policy_version == 1}
    ticks = {m.seq: m.tick for _, m in told.said if isinstance(m, Joints)}
    said = changed(told.said, lambda t, m: a_reply(t, m) and ticks[m.first] in acted, turn_a_joint)
    rows = played(told, tmp_path, said)["rows"]
    for name in ("joints", "observations", "commands"):
        assert rows[name]["differ"], (name, rows)
    assert "position was (" in rows["joints"]["first"] and "target was (" in rows["commands"]["first"]
    assert rows["imu"]["differ"] == rows["poses"]["differ"] == 0


@pytest.mark.parametrize(
    ("which", "field", "value", "row"),
    [
        (lambda t, m: t == "imu", "roll", 0.125, "imu"),
        (lambda t, m: t == "pose", "position", (0.0, 0.0, 0.0), "poses"),
        (lambda t, m: t == "applied" and m.writer == "policy", "target", (1.0,) * 8, "applied"),
        (lambda t, m: t == "thought" and m.policy_version == 1 and m.acted, "noise", (0.5,) * 8, "commands"),
        (lambda t, m: t == "thought" and m.acted, "observation", np.zeros(112, "<f4").tobytes(), "observations"),
    ],
)
def test_what_was_recorded_otherwise_is_found(told, tmp_path, which, field, value, row):
    said = changed(told.said, which, lambda m: msgspec.structs.replace(m, **{field: value}))
    rows = played(told, tmp_path, said)["rows"]
    assert [name for name in rows if rows[name]["differ"]] in ([row], [row, "commands"]), rows
    assert rows[row]["first"]


def test_a_command_that_was_recorded_otherwise_is_found_at_the_policy_and_at_the_gate(told, tmp_path):
    said = changed(told.said, lambda t, m: t == "action" and m.source == "policy",
                   lambda m: msgspec.structs.replace(m, target=(1.5,) * 8))  # fmt: skip
    rows = played(told, tmp_path, said)["rows"]
    assert rows["commands"]["differ"] and rows["applied"]["differ"] and rows["bytes to the servos"]["differ"], rows
    assert not rows["joints"]["differ"] and not rows["imu"]["differ"]


def test_other_code_is_found_out(told, tmp_path, monkeypatch):
    monkeypatch.setattr(imu_driver, "ANGLE_SCALE", imu_driver.ANGLE_SCALE * (1 + 1e-15))
    result = played(told, tmp_path)
    assert not result["same"] and result["rows"]["imu"]["differ"] > 100 and not result["rows"]["joints"]["differ"]


def test_bytes_that_the_driver_writes_otherwise_are_found(told, tmp_path):
    def other(exchange: Exchange) -> Exchange:
        last = exchange.data[-1].replace(b"0", b"1", 1)
        return msgspec.structs.replace(exchange, data=(*exchange.data[:-1], last))

    walking = {m.seq for _, m in told.said if isinstance(m, Joints)} - {1}
    said = changed(told.said, lambda t, m: a_reply(t, m) and m.kinds.count("w") == 2 and m.first in walking, other)
    rows = played(told, tmp_path, said)["rows"]
    assert rows["bytes to the servos"]["differ"] == 1 and "writes b'" in rows["bytes to the servos"]["first"]


def test_a_recording_that_begins_in_the_middle_is_compared_as_soon_as_it_can_be(told, tmp_path):
    at = next(i for i, (_, m) in enumerate(told.said) if isinstance(m, Guard) and m.state == "RUN")
    result = played(told, tmp_path, told.said[at + 900 :])
    rows = result["rows"]
    assert result["same"] is not None and not any(row["differ"] for row in rows.values()), rows
    assert rows["joints"]["equal"] > 50 and rows["poses"]["equal"] > 50
    assert rows["imu"]["unknown"] > 0, "its filter is not what it was"
    assert rows["commands"]["unknown"] > 10 and rows["applied"]["unknown"] > 10  # what gate and pilot remember, nobody knows


def test_over_a_gap_nothing_is_held_to_be_known(told, tmp_path):
    at = next(i for i, (_, m) in enumerate(told.said) if isinstance(m, Guard) and m.state == "RUN")
    result = played(told, tmp_path, told.said[: at - 600] + told.said[at - 400 :])
    assert not any(row["differ"] for row in result["rows"].values()), result["rows"]
    assert result["rows"]["joints"]["equal"] > 150


def test_a_recording_that_was_held_up_is_the_same(told, tmp_path, monkeypatch):
    """A tenth of what it may be, for a session of six seconds."""
    monkeypatch.setattr(player, "LATER_NS", player.LATER_NS // 10)
    said = held_up(told.said, 0.04)
    newest = list(itertools.accumulate((m.t for _, m in said), max))
    assert max(a - m.t for a, (_, m) in zip(newest, said, strict=True)) > 3 * player.LATER_NS
    result = played(told, tmp_path, said)
    assert result["same"] and sum(row["unknown"] for row in result["rows"].values()) == 0, result["rows"]
    assert result["rows"]["bytes to the servos"]["equal"] == sum(isinstance(m, Joints) for _, m in told.said) + 1


def test_where_the_recorder_died_over_what_a_driver_was_given_nobody_knows_what_it_did(told, tmp_path):
    at = next(i for i, (_, m) in enumerate(told.said) if isinstance(m, Guard) and m.state == "RUN") + 900
    last = [(topic, m) for topic, m in told.said[at : at + 400] if topic == "wire"]
    result = played(told, tmp_path, told.said[:at] + last)
    assert result["same"] and result["rows"]["bytes to the servos"]["unknown"] > 5, result["rows"]


def test_a_command_where_there_was_none_is_a_difference_and_no_crash(told, tmp_path):
    said = changed(
        told.said, lambda _, m: isinstance(m, Thought) and m.acted and m.policy_version < 0,
        lambda m: msgspec.structs.replace(m, acted=False, noise=(), observation=b""),
    )  # fmt: skip
    row = played(told, tmp_path, said)["rows"]["commands"]
    assert row["differ"] >= 1 and "acts, then it did otherwise" in row["first"]


def test_weights_that_were_not_kept_leave_their_commands_out(told, tmp_path, capsys):
    path = told.record(tmp_path / "0001.mcap", versions=())
    acted = sum(isinstance(m, Thought) and m.acted and m.policy_version == 1 for _, m in told.said)
    (tmp_path / "given.safetensors").write_bytes(actor(1))
    (tmp_path / "other.safetensors").write_bytes(actor(1, seed=2))
    assert play.main([str(path)]) == 0 and f"{acted} commands came of weights" in capsys.readouterr().out
    assert play.main([str(path), "--weights", str(tmp_path / "given.safetensors"), "--json"]) == 0
    *_, line = capsys.readouterr().out.splitlines()
    assert json.loads(line)["unweighted"] == 0 and json.loads(line)["rows"]["commands"]["equal"] >= acted
    assert play.main([str(path), "--weights", str(tmp_path / "other.safetensors")]) == 1
    assert "NOT THE SAME" in capsys.readouterr().out


def test_other_limits_and_what_they_would_have_stopped(told, tmp_path, capsys):
    path = told.record(tmp_path / "0001.mcap")
    same, tight = tmp_path / "same.toml", tmp_path / "tight.toml"
    same.write_text("[limits]\nfalls = 1000\n")
    assert play.main([str(path), "--limits", str(same), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["reproduced"] == answer["causes"] and not [row for row in answer["gate"] + answer["guard"] if row["new"]]

    tight.write_text("[limits]\nfalls = 1000\ntilt_rad = 0.1\ntilt_s = 0.0\nslew_rad_s = 4.0\n")
    assert play.main([str(path), "--limits", str(tight), "--json"]) == 1
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    began = told.said[0][1].t
    first = first_tilt(told.said, 0.1)
    tilts = [row["at_s"] for row in answer["guard"] if row["what"] == "tilt" and row["new"]]
    assert tilts and abs(tilts[0] - (first - began) * 1e-9) < 0.041
    steep = first_step(told.said, 4.0 * 0.02)
    clamps = [row for row in answer["gate"] if row["new"] and "slew" in row["what"]]
    assert clamps and clamps[0]["tick"] <= steep


def first_tilt(said, most: float) -> int:
    """When the robot first leant farther than this in RUN; from the messages alone."""
    state = ""
    for _, m in said:
        state = m.state if isinstance(m, Guard) else state
        if state == "RUN" and isinstance(m, Imu) and max(abs(m.roll), abs(m.pitch)) > most:
            return m.t
    raise AssertionError("it never leant")


def first_step(said, most: float) -> int:
    """The tick at which a target first went farther than this in one period."""
    before = None
    for _, m in said:
        if isinstance(m, Applied) and m.writer != "off":
            if before is not None and max(abs(a - b) for a, b in zip(m.target, before, strict=True)) > most + 1e-5:
                return m.tick
            before = m.target
    raise AssertionError("it never moved fast")


def test_limits_that_are_none_are_named(told, tmp_path, capsys):
    path = told.record(tmp_path / "0001.mcap")
    for text, why in (("[limits]\ntilt = 1\n", "tilt"), ("nonsense", "TOML"), ("[limits]\ntilt_rad = 99\n", "tilt_rad")):
        (tmp_path / "bad.toml").write_text(text)
        with pytest.raises(Exception, match=why) as caught:
            play.main([str(path), "--limits", str(tmp_path / "bad.toml")])
        assert "bad.toml" in str(caught.value) and "\n" not in str(caught.value)


def test_any_damage_of_a_tape_is_a_difference_and_no_crash(told, tmp_path):
    rng = random.Random(1)
    wires = [i for i, (topic, m) in enumerate(told.said) if topic == "wire" and m.data]
    said = list(told.said)
    for i in rng.sample(wires, 60):
        data = [bytearray(d) for d in said[i][1].data]
        piece = rng.choice([d for d in data if d] or [bytearray(b"x")])
        piece[rng.randrange(len(piece))] ^= 1 << rng.randrange(8)
        said[i] = (said[i][0], msgspec.structs.replace(said[i][1], data=tuple(map(bytes, data))))
    assert not played(told, tmp_path, said)["same"]


def test_a_file_that_is_no_session_is_named(tmp_path):
    (tmp_path / "a.mcap").write_bytes(b"nothing")
    with pytest.raises(SessionError, match=r"a\.mcap"):
        play.main([str(tmp_path / "a.mcap")])
    with pytest.raises(SessionError, match="no session here"):
        play.main([str(tmp_path / "nowhere")])


def test_the_tapes_hold_what_the_messages_say(told):
    """Of the tape alone: each exchange of the servos' asks and answers, and its stamps do not run backwards."""
    for topic, message in told.said:
        if topic == "wire":
            assert len(message.at) == len(message.kinds) and not message.missing
            assert len(message.data) == sum(kind != "c" for kind in message.kinds)
            assert list(message.at) == sorted(message.at)
    assert {type(m) for _, m in told.said} >= {Action, Permit, Drive}


def test_who_looked_late_and_threw_away_what_had_waited_does_so_again(tmp_path):
    """Nobody looks at the sensors for 0.12 s: then for a while none of the poses is believed, and the filter begins anew."""
    taped = Taped(seed=5)
    try:
        for cycle in range(60):
            taped.cycle(look=not 30 <= cycle < 36)
        poses = [m.t for _, m in taped.said if isinstance(m, Pose)]
        assert max(b - a for a, b in itertools.pairwise(poses)) > 200_000_000, "the pause and what was thrown away"
        rows = played(taped, tmp_path)["rows"]
    finally:
        taped.close()
    assert not any(row["differ"] or row["unknown"] for row in rows.values()), rows
    assert rows["imu"]["equal"] >= 45 and rows["poses"]["equal"] == len(poses)


def test_poses_that_were_seen_are_played_as_they_were_recorded_and_those_off_a_tape_are_not():
    launch = Path(__file__).resolve().parents[2] / "launch"
    pose = Pose(position=(0.0, 0.0, 0.3), rpy=(0.0, 0.0, 0.0))
    for name, seen in (("walk.toml", False), ("walk_seen.toml", True)):
        player = Player()
        player.begin(config.load(launch / name))
        assert player.waits("pose", pose) is seen
        given: list[Pose] = []
        player.rethink.see = given.append  # type: ignore[method-assign]
        player.play(pose)
        assert given == [pose]
