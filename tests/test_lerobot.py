"""Exchange with LeRobot: what is exported against the log by a reader that shares no code, what is imported against the frames.

The format's own judge is the lerobot package. It has an environment of its own: `bench/lerobot_oracle.py` says how, and the
tests that ask it run where ROBOTRL_LEROBOT_PYTHON names that environment's Python.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest

from robotrl import cli, config, labelled, rundir, transitions
from robotrl.labels import Given
from robotrl.log import Log
from robotrl.logformat import Kind
from robotrl.messages import PERSON, Label
from robotrl.replay import Replay

pa = pytest.importorskip("pyarrow", reason="the extra [lerobot] is not installed")
pq = pytest.importorskip("pyarrow.parquet")
lerobotformat = pytest.importorskip("robotrl.lerobotformat")

ROOT = Path(__file__).resolve().parent.parent
K, A = 112, 8
COLUMNS = (
    "observation",
    "action",
    "reward",
    "next_observation",
    "terminated",
    "truncated",
    "episode",
    "step",
    "tick",
    "policy_version",
)


def steps(seed: int, episodes: int = 6, k: int = K, a: int = A) -> list[dict]:
    """Episodes of random numbers in which each observation is the next one of the step before; all ways to end, and gaps."""
    rng, rows, tick = np.random.default_rng(seed), [], 100
    for episode in range(episodes):
        observation, tick = rng.standard_normal(k).astype(np.float32), tick + 50
        length = int(rng.integers(1, 30)) if episode else 25
        for step in range(length):
            new, last = rng.standard_normal(k).astype(np.float32), step == length - 1
            rows.append({
                "observation": observation, "next_observation": new, "action": rng.uniform(-1, 1, a).astype(np.float32),
                "reward": float(rng.standard_normal()), "terminated": last and episode % 3 == 0,
                "truncated": last and episode % 3 == 1, "episode": episode, "step": step, "tick": tick,
                "policy_version": episode - 1,
            })  # fmt: skip
            observation, tick = new, tick + 1
    del rows[10], rows[15]  # of the first episode: their rewards never came
    return rows


def recorded(directory: Path, rows: list[dict], gone_back: int = 0) -> Path:
    """A run whose log holds `rows`; the last `gone_back` of them twice, for it went back to a checkpoint before them."""
    (directory / "weights").mkdir(parents=True)
    run = config.load(ROOT / "launch" / "walk.toml")
    rundir.write_json(directory / "run.json", {"clock": "lockstep", "config": config.to_dict(run)})
    log = Log.open(directory / "log")
    written = rows[: len(rows) - gone_back] + [{**row, "reward": 1e3} for row in rows[len(rows) - gone_back :]]
    for number, row in enumerate(written, 1):
        log.append(Kind.TRANSITION, "policy", 1, number, payload(row, number))
    if gone_back:
        cut = json.dumps({"transitions": len(rows) - gone_back}).encode()
        log.append(Kind.CUT, "rehearsal", 2, 1, cut)
        for number, row in enumerate(rows[len(rows) - gone_back :], 1):
            log.append(Kind.TRANSITION, "policy", 2, number, payload(row, number))
    log.sync()
    log.close()
    return directory


def payload(row: dict, number: int) -> bytes:
    return transitions.encoded(msgspec.structs.replace(transitions.make(**row), number=number))


def arrays(rows: list[dict]) -> dict[str, np.ndarray]:
    """The rows' columns, and `piece`: which of the dataset's episodes each must be in."""
    out = {name: np.array([row[name] for row in rows]) for name in COLUMNS}
    out["reward"] = out["reward"].astype(np.float32)
    new = [True] + [a["next_observation"] is not b["observation"] for a, b in pairwise(rows)]
    return out | {"piece": np.cumsum(new) - 1}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(run directory, dataset, rows): a log with gaps that went back once, exported by the command."""
    root = tmp_path_factory.mktemp("lerobot")
    rows = steps(0)
    run = recorded(root / "run", rows, gone_back=7)
    assert cli.main(["export", "--lerobot", str(root / "dataset"), str(run)]) == 0
    return run, root / "dataset", rows


def frames(dataset: Path) -> dict[str, np.ndarray]:
    table = pa.concat_tables(pq.read_table(path) for path in sorted(dataset.glob("data/*/*.parquet")))
    return {name: np.array(table[name].to_pylist()) for name in table.column_names}


def test_the_frames_are_the_logs_transitions(exported):
    _, dataset, rows = exported
    seen, wanted = frames(dataset), arrays(rows)
    n, piece = len(rows), wanted["piece"]
    assert piece[-1] + 1 == 6 + 2, "six episodes, one of them in three parts"
    first = np.array([int(np.flatnonzero(piece == p)[0]) for p in piece])
    done = wanted["terminated"] | wanted["truncated"]
    for name, value in {
        "observation.state": wanted["observation"], "action": wanted["action"], "next.reward": wanted["reward"],
        "next.done": done, "next.truncated": wanted["truncated"], "episode_index": piece, "index": np.arange(n),
        "next.success": np.zeros(n, bool), "complementary_info.recorded_reward": wanted["reward"],
        "frame_index": np.arange(n) - first, "task_index": np.zeros(n), "complementary_info.run": np.zeros(n),
        **{f"complementary_info.{name}": wanted[name] for name in ("episode", "step", "tick", "policy_version")},
    }.items():  # fmt: skip
        assert np.array_equal(seen[name], value), name
    assert np.allclose(seen["timestamp"], (np.arange(n) - first) / 50.0, atol=1e-6)


def label(episode: int, step: int, kind: str = "add", value: float = 1.0, **more: object) -> Label:
    return Label(press=0, value=value, tick=-1, kind=kind, episode=episode, step=step, giver=9, **more)


def test_what_the_operator_said_is_in_rewards_ends_and_success(tmp_path, capsys):
    """By hand: good and bad, a verdict with steps behind it and one that was taken back, one behind a gap, a failure."""
    rows = [row for row in steps(3, episodes=5) if row["episode"] in (0, 1, 2, 4)]
    count = {e: sum(row["episode"] == e for row in rows) for e in (0, 1, 2, 4)}
    assert count[0] == 23 and min(count.values()) > 3, "episode 0 has gaps at its steps 10 and 16"
    given = [
        label(0, 5, value=0.5),
        label(0, 5, value=-2.0),
        label(0, 12, "success", 10.0),
        label(2, 1, "fail", 0.0),
        label(1, 1, "success", 7.0, number=4),
        label(1, 0, "undo", undoes=(9, 4, 4)),
        label(4, 2, "set", 3.0, first=1),
    ]
    run = recorded(tmp_path / "run", rows)
    (run / "labels.jsonl").write_bytes(b"".join(labelled.line(Given(i, said)) for i, said in enumerate(given, 1)))
    assert cli.main(["export", "--lerobot", str(tmp_path / "set"), str(run)]) == 0
    seen = frames(tmp_path / "set")
    here = {
        (e, s): i
        for i, (e, s) in enumerate(zip(seen["complementary_info.episode"], seen["complementary_info.step"], strict=True))
    }
    gone = [row for row in rows if (row["episode"] == 0 and row["step"] > 12) or (row["episode"] == 2 and row["step"] > 1)]
    assert len(here) == len(rows) - len(gone) and not any((row["episode"], row["step"]) in here for row in gone)
    wanted = {(row["episode"], row["step"]): row for row in rows}
    changed = {(0, 5): -1.5, (0, 12): 10.0}
    for key, i in here.items():
        reward = np.float32(wanted[key]["reward"])
        assert seen["complementary_info.recorded_reward"][i] == reward
        now = np.float32(3.0) if key in ((4, 1), (4, 2)) else reward + np.float32(changed.get(key, 0.0))
        assert seen["next.reward"][i] == pytest.approx(now, abs=1e-6), key
        assert bool(seen["next.success"][i]) == (key == (0, 12)), key
    for key in ((0, 12), (2, 1)):
        assert seen["next.done"][here[key]] and not seen["next.truncated"][here[key]]
    assert f"5 rewards or ends are the operator's, {len(gone)} after the end" in capsys.readouterr().out
    assert cli.main(["import", "--lerobot", str(tmp_path / "set"), "--out", str(tmp_path / "back")]) == 0
    back = Replay.open(tmp_path / "back")
    assert back.columns["reward"][: back.count].tolist() == seen["next.reward"].tolist()
    assert np.array_equal(back.columns["terminated"][: back.count] == 1, seen["next.done"] & ~seen["next.truncated"])
    assert "next.success" not in capsys.readouterr().err


def test_of_a_task_that_ends_at_its_goal_termination_is_success(tmp_path):
    rows = steps(4)
    run = recorded(tmp_path / "run", rows)
    told = json.loads((run / "run.json").read_text())
    told["config"] = config.to_dict(config.load(ROOT / "launch" / "reach.toml"))
    rundir.write_json(run / "run.json", told)
    (run / "labels.jsonl").write_bytes(labelled.line(Given(1, label(3, 0, "fail", 0.0))))
    assert cli.main(["export", "--lerobot", str(tmp_path / "set"), str(run)]) == 0
    seen = frames(tmp_path / "set")
    terminated = seen["next.done"] & ~seen["next.truncated"]
    assert terminated.sum() == 2 and np.array_equal(seen["next.success"], terminated & (seen["complementary_info.episode"] != 3))


def test_what_a_person_led_is_told_and_can_be_taken_alone(tmp_path):
    rows = [{**t, "policy_version": PERSON} if t["step"] in (1, 2) else t for t in steps(6)]
    run = recorded(tmp_path / "run", rows)
    assert cli.main(["export", "--lerobot", str(tmp_path / "set"), str(run)]) == 0
    seen = frames(tmp_path / "set")
    led = np.isin(seen["complementary_info.step"], (1, 2))
    assert 0 < led.sum() < len(led) and np.array_equal(seen["complementary_info.is_intervention"], led)
    words = ["import", "--lerobot", str(tmp_path / "set"), "--interventions", "--out", str(tmp_path / "some")]
    assert cli.main(words) == 0
    back = Replay.open(tmp_path / "some")
    assert set(back.columns["step"][: back.count].tolist()) == {1, 2}


def test_the_files_are_those_of_the_format(exported):
    _, dataset, rows = exported
    info, wanted = json.loads((dataset / "meta/info.json").read_text()), arrays(rows)
    assert (info["codebase_version"], info["fps"], info["robot_type"]) == ("v3.0", 50, "minitaur")
    assert (info["total_frames"], info["total_episodes"], info["splits"]) == (len(rows), 8, {"train": "0:8"})
    schema = pq.read_schema(dataset / info["data_path"].format(chunk_index=0, file_index=0))
    assert set(schema.names) == set(info["features"])
    for name, feature in info["features"].items():
        kind = {"float32": pa.float32(), "int64": pa.int64(), "bool": pa.bool_()}[feature["dtype"]]
        shape = feature["shape"]
        assert schema.field(name).type == (kind if shape == [1] else pa.list_(kind, shape[0])), name
        assert feature["names"] is None or len(feature["names"]) == len(set(feature["names"])) == shape[0]
    tasks = pq.read_table(dataset / "meta/tasks.parquet")
    assert tasks.to_pylist() == [{"task_index": 0, "task": "walk"}]
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]
    episodes = pq.read_table(dataset / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    for i, episode in enumerate(episodes):
        at = np.flatnonzero(wanted["piece"] == i)
        told = [episode[k] for k in ("episode_index", "dataset_from_index", "dataset_to_index", "length", "tasks")]
        assert told == [i, at[0], at[-1] + 1, len(at), ["walk"]]
        assert (episode["data/chunk_index"], episode["data/file_index"]) == (0, 0)
        assert np.allclose(episode["stats/action/mean"], wanted["action"][at].mean(0), atol=1e-6)
    stats = json.loads((dataset / "meta/stats.json").read_text())
    assert set(stats) == set(info["features"])
    for name, value in (("observation.state", wanted["observation"]), ("next.reward", wanted["reward"][:, None])):
        for what in ("min", "max", "mean", "std"):
            assert np.allclose(stats[name][what], getattr(value.astype(float), what)(0), rtol=1e-6, atol=1e-7), (name, what)
        assert stats[name]["count"] == [len(rows)] and {"q01", "q10", "q50", "q90", "q99"} < set(stats[name])


def hashes(directory: Path) -> dict[str, str]:
    return {
        str(p.relative_to(directory)): hashlib.sha256(p.read_bytes()).hexdigest() for p in directory.rglob("*") if p.is_file()
    }


def test_there_and_back_are_the_same_transitions(exported, tmp_path):
    _, dataset, rows = exported
    before = hashes(dataset)
    assert cli.main(["import", "--lerobot", str(dataset), "--out", str(tmp_path / "demonstrations")]) == 0
    assert hashes(dataset) == before
    replay, wanted = Replay.open(tmp_path / "demonstrations"), arrays(rows)
    assert replay.count == replay.durable == len(rows) and not replay.check()["damaged"]
    for name in COLUMNS:
        assert np.array_equal(replay.columns[name][: len(rows)], wanted[name]), name


def test_two_runs_are_one_dataset_with_episodes_of_its_own(exported, tmp_path):
    run, _, rows = exported
    more = steps(5, episodes=2)
    other = recorded(tmp_path / "other", more)
    assert cli.main(["export", "--lerobot", str(tmp_path / "two"), str(run), str(other)]) == 0
    assert cli.main(["import", "--lerobot", str(tmp_path / "two"), "--out", str(tmp_path / "demonstrations")]) == 0
    replay = Replay.open(tmp_path / "demonstrations")
    assert np.array_equal(replay.columns["reward"], [np.float32(row["reward"]) for row in rows + more])
    assert replay.columns["episode"].tolist() == [r["episode"] for r in rows] + [6 + r["episode"] for r in more]
    found = replay.check()
    assert (found["episodes"], found["doubles"]) == (8, 0)


@pytest.fixture
def in_many_files(exported, tmp_path, monkeypatch):
    """The same export in files of an episode or two, three to a folder."""
    monkeypatch.setattr(lerobotformat, "FILE_MB", 0.01)
    monkeypatch.setattr(lerobotformat, "FILES_A_CHUNK", 3)
    run, _, rows = exported
    assert cli.main(["export", "--lerobot", str(tmp_path / "many"), str(run)]) == 0
    assert len(list((tmp_path / "many").glob("data/chunk-000/*"))) == 3 and list((tmp_path / "many").glob("data/chunk-001/*"))
    return tmp_path / "many", rows


def test_many_files_are_one_dataset(in_many_files, tmp_path):
    dataset, rows = in_many_files
    info = json.loads((dataset / "meta/info.json").read_text())
    for episode in pq.read_table(dataset / "meta/episodes/chunk-000/file-000.parquet").to_pylist():
        places = {f"{name}_index": episode[f"data/{name}_index"] for name in ("chunk", "file")}
        indices = pq.read_table(dataset / info["data_path"].format(**places))["index"].to_pylist()
        assert set(range(episode["dataset_from_index"], episode["dataset_to_index"])) <= set(indices)
    assert cli.main(["import", "--lerobot", str(dataset), "--out", str(tmp_path / "out")]) == 0
    replay, wanted = Replay.open(tmp_path / "out"), arrays(rows)
    assert all(np.array_equal(replay.columns[name], wanted[name]) for name in COLUMNS)


def test_states_and_actions_of_one_number(tmp_path):
    """The format keeps a single number as such, not as a list of one."""
    rows = steps(2, 3, k=1, a=1)
    run = recorded(tmp_path / "run", rows)
    assert cli.main(["export", "--lerobot", str(tmp_path / "dataset"), str(run)]) == 0
    assert pq.read_schema(tmp_path / "dataset/data/chunk-000/file-000.parquet").field("action").type == pa.float32()
    assert cli.main(["import", "--lerobot", str(tmp_path / "dataset"), "--out", str(tmp_path / "out")]) == 0
    replay, wanted = Replay.open(tmp_path / "out"), arrays(rows)
    assert all(np.array_equal(replay.columns[name], wanted[name]) for name in COLUMNS)


def test_of_a_damaged_log_what_is_whole_is_exported_and_the_rest_said(tmp_path, capsys):
    rows = steps(4)
    run = recorded(tmp_path / "run", rows)
    segment = run / "log/00000001.log"
    whole = segment.read_bytes()
    segment.write_bytes(whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 4]) + whole[len(whole) // 2 + 1 :])
    assert cli.main(["export", "--lerobot", str(tmp_path / "dataset"), str(run)]) == 0
    assert f"robotrl export: {segment}: its bytes are not those that were sealed" in capsys.readouterr().err
    seen = frames(tmp_path / "dataset")["next.reward"]
    assert 0 < len(seen) < len(rows) and np.array_equal(seen, arrays(rows)["reward"][: len(seen)])


def refused(capsys, *words: object) -> str:
    """The one line of a command that is refused."""
    capsys.readouterr()  # of those before
    assert cli.main([str(word) for word in words]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith(f"robotrl {words[0]}: "), said
    return said


def test_what_cannot_be_exported_is_one_line_and_nothing_is_written(exported, tmp_path, capsys):
    run, dataset, _ = exported
    out = tmp_path / "out"
    empty = recorded(tmp_path / "empty", [])
    assert "no run directory" in refused(capsys, "export", "--lerobot", out, tmp_path)
    assert "holds no transition" in refused(capsys, "export", "--lerobot", out, empty)
    assert f"name the run: {run}" in refused(capsys, "export", "--lerobot", out, run / "sessions" / "0001.mcap")
    before = hashes(dataset)
    assert "is there already" in refused(capsys, "export", "--lerobot", dataset, run)
    assert hashes(dataset) == before
    slower = recorded(tmp_path / "slower", steps(1, 2))
    data = json.loads((slower / "run.json").read_text())
    data["config"]["task"]["rate_hz"] = 40.0
    rundir.write_json(slower / "run.json", data)
    assert "export it apart" in refused(capsys, "export", "--lerobot", out, run, slower)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "slower"]


def test_any_bit_that_changed_is_one_line_and_nothing_is_made(exported, tmp_path, capsys):
    """One flipped bit at every so many bytes of every file, every file cut short, and every file away."""
    _, dataset, _ = exported
    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy)
    tried = 0
    for path in sorted(p for p in copy.rglob("*") if p.is_file()):
        whole = path.read_bytes()
        flips = range(0, len(whole), max(1, len(whole) // 12))
        damaged = [whole[:i] + bytes([whole[i] ^ 1 << i % 8]) + whole[i + 1 :] for i in flips]
        for data in [*damaged, whole[: len(whole) // 2], b""]:
            path.write_bytes(data)
            if path.name == "robotrl.json" and same_meaning(data, whole):
                continue
            assert str(copy) in refused(capsys, "import", "--lerobot", copy, "--out", tmp_path / "out")
            tried += 1
        path.unlink()
        if path.name != "robotrl.json":
            refused(capsys, "import", "--lerobot", copy, "--out", tmp_path / "out")
        path.write_bytes(whole)
    assert tried > 60 and [p.name for p in tmp_path.iterdir()] == ["copy"]


def same_meaning(data: bytes, whole: bytes) -> bool:
    """Whether what is read of meta/robotrl.json, format and check sums, is as it was."""
    try:
        one, other = json.loads(data), json.loads(whole)
        return bool(one["format"] == other["format"] and one["sha256"] == other["sha256"])
    except (ValueError, KeyError, TypeError):
        return False


def foreign(dataset: Path, copy: Path, **changes: object) -> Path:
    """The dataset as if another program had written it, with fields of its info.json changed."""
    shutil.copytree(dataset, copy)
    (copy / "meta/robotrl.json").unlink()
    info = json.loads((copy / "meta/info.json").read_text())
    (copy / "meta/info.json").write_text(json.dumps(info | changes))
    return copy


def test_anothers_dataset_that_is_not_as_it_says_is_one_line(exported, tmp_path, capsys):
    _, dataset, rows = exported
    info = json.loads((dataset / "meta/info.json").read_text())
    less = {k: v for k, v in info["features"].items() if k != "action"}
    for name, changes, says in (
        ("old", {"codebase_version": "v2.1"}, "convert it with the lerobot package first"),
        ("new", {"codebase_version": "v3.1"}, "needs a newer robotrl"),
        ("more", {"total_frames": len(rows) + 1}, "info.json says"),
        ("bare", {"features": less}, "has no action of numbers"),
        ("none", {"features": 3}, "says no features"),
    ):
        copy = foreign(dataset, tmp_path / name, **changes)
        assert says in refused(capsys, "import", "--lerobot", copy, "--out", tmp_path / "out"), name
    data = foreign(dataset, tmp_path / "data") / "data/chunk-000/file-000.parquet"
    table = pq.read_table(data)
    swapped = pa.concat_tables([table.slice(1, 1), table.slice(0, 1), table.slice(2)])
    for wrong, says in (
        (table.slice(0, len(rows) - 1), "is not whole"),
        (pa.concat_tables([table, table.slice(0, 1)]), "more frames than"),
        (swapped, "are not numbered"),
        (table.drop_columns(["action"]), "has no column action"),
    ):
        pq.write_table(wrong, data)
        assert says in refused(capsys, "import", "--lerobot", tmp_path / "data", "--out", tmp_path / "out")
    number = table.schema.get_field_index("next.reward")
    pq.write_table(table.set_column(number, "next.reward", pa.array([float("nan")] * len(rows), pa.float32())), data)
    assert "reward of episode 0 is not finite" in refused(
        capsys, "import", "--lerobot", tmp_path / "data", "--out", tmp_path / "out"
    )
    (tmp_path / "out").mkdir()
    assert "is there already" in refused(capsys, "import", "--lerobot", dataset, "--out", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def without(dataset: Path, columns: tuple[str, ...], more: dict[str, list] | None = None) -> Path:
    """A foreign dataset that lacks `columns` and knows no next observation of a last frame; `more`: columns that it has."""
    data, meta = dataset / "data/chunk-000/file-000.parquet", dataset / "meta/episodes/chunk-000/file-000.parquet"
    table, info = pq.read_table(data), json.loads((dataset / "meta/info.json").read_text())
    gone = [c for c in table.column_names if c in columns or c.startswith("complementary_info.")]
    table = table.drop_columns(gone)
    for name, values in (more or {}).items():
        table = table.append_column(name, pa.array(values))
        info["features"][name] = {"dtype": "bool", "shape": [1], "names": None}
    pq.write_table(table, data)
    pq.write_table(pq.read_table(meta).drop_columns([lerobotformat.LAST]), meta)
    info["features"] = {k: v for k, v in info["features"].items() if k not in gone or k in (more or {})}
    info["features"]["observation.images.top"] = {"dtype": "video", "shape": [3, 8, 8], "names": None}
    (dataset / "meta/info.json").write_text(json.dumps(info))
    return dataset


def test_what_another_does_not_say_is_told(exported, tmp_path, capsys):
    """Done alone, then neither end nor reward, then success alone and who intervened."""
    _, dataset, rows = exported
    given = arrays(rows)
    done, last = given["terminated"] | given["truncated"], np.append(np.diff(given["piece"]) != 0, True)
    one = without(foreign(dataset, tmp_path / "one"), ("next.truncated",))
    assert cli.main(["import", "--lerobot", str(one), "--out", str(tmp_path / "a")]) == 0
    said = capsys.readouterr().err
    assert all(word in said for word in ("no next.truncated", "--images keeps it", "last frames of episodes"))
    keep, replay = ~last | done, Replay.open(tmp_path / "a")
    n = replay.count
    before_lost = np.append((last & ~done)[1:], False) & ~last
    for name, value in (
        ("reward", given["reward"]),
        ("terminated", done),
        ("truncated", before_lost),
        ("episode", given["piece"]),
    ):
        assert np.array_equal(replay.columns[name][:n], value[keep]), name
    seen = np.where(done[:, None], given["observation"], given["next_observation"])[keep]
    assert np.array_equal(replay.columns["next_observation"][:n], seen)
    bare = without(foreign(dataset, tmp_path / "bare"), ("next.truncated", "next.done", "next.reward", "next.success"))
    assert cli.main(["import", "--lerobot", str(bare), "--out", str(tmp_path / "b")]) == 0
    said = capsys.readouterr().err
    assert "no next.reward: every reward is 0" in said and "no next.done" in said
    replay = Replay.open(tmp_path / "b")
    assert replay.count == (~last).sum() and not replay.columns["reward"].any() and not replay.columns["terminated"].any()
    assert np.array_equal(replay.columns["truncated"][: replay.count], np.append(last[1:], True)[~last])
    more = {"next.success": done.tolist(), "is_intervention": (done | (np.arange(len(rows)) % 3 == 0)).tolist()}
    some = without(foreign(dataset, tmp_path / "some"), ("next.truncated", "next.reward", "next.success"), more)
    assert cli.main(["import", "--interventions", "--lerobot", str(some), "--out", str(tmp_path / "c")]) == 0
    keep &= np.array(more["is_intervention"])
    replay = Replay.open(tmp_path / "c")
    assert done[keep].any() and not keep.all() and np.array_equal(replay.columns["reward"][: replay.count], done[keep])
    assert np.array_equal(replay.columns["action"][: replay.count], given["action"][keep])
    assert "leave out --interventions" in refused(capsys, "import", "--interventions", "--lerobot", bare, "--out", tmp_path / "d")


def test_a_newer_export_of_ours_is_refused(exported, tmp_path, capsys):
    _, dataset, _ = exported
    shutil.copytree(dataset, tmp_path / "copy")
    path = tmp_path / "copy/meta/robotrl.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    assert "of format 2" in refused(capsys, "import", "--lerobot", tmp_path / "copy", "--out", tmp_path / "out")


def test_without_pyarrow_the_extra_is_named(exported, tmp_path, capsys, monkeypatch):
    run, dataset, _ = exported
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "robotrl.lerobotformat", raising=False)
    monkeypatch.delitem(sys.modules, "robotrl.lerobotread", raising=False)
    for words in (("export", "--lerobot", tmp_path / "out", run), ("import", "--lerobot", dataset, "--out", tmp_path / "out")):
        assert "needs pyarrow" in (line := refused(capsys, *words)) and "[lerobot]" in line
    assert not list(tmp_path.iterdir())
    with pytest.raises(SystemExit) as done:
        cli.main(["export", "--help"])
    assert done.value.code == 0


PYTHON = os.environ.get("ROBOTRL_LEROBOT_PYTHON", "")
package = pytest.mark.skipif(not PYTHON, reason="ROBOTRL_LEROBOT_PYTHON names no Python that has lerobot")


def asked(verb: str, dataset: Path, given: dict[str, np.ndarray], file: Path) -> dict:
    """What the package says of it, or made of it."""
    np.savez(file, **given)
    words = [PYTHON, str(ROOT / "bench" / "lerobot_oracle.py"), verb, str(dataset), str(file)]
    home = {"HOME": str(file.parent), "HF_HOME": str(file.parent / "hf"), "HF_HUB_OFFLINE": "1", "PATH": os.environ["PATH"]}
    done = subprocess.run(words, capture_output=True, text=True, timeout=280, env=home, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@package
def test_the_lerobot_package_reads_what_the_log_says(exported, tmp_path):
    _, dataset, rows = exported
    before = hashes(dataset)
    found = asked("reads", dataset, arrays(rows), tmp_path / "arrays.npz")
    assert (found["frames"], found["episodes"]) == (len(rows), 8), found
    assert hashes(dataset) == before


@package
def test_the_lerobot_package_reads_many_files(in_many_files, tmp_path):
    dataset, rows = in_many_files
    assert asked("reads", dataset, arrays(rows), tmp_path / "arrays.npz")["frames"] == len(rows)


@package
def test_what_the_lerobot_package_recorded_is_learned_from(tmp_path, capsys):
    rows = steps(3)
    given = arrays(rows)
    given["intervened"] = np.random.default_rng(0).random(len(rows)) < 0.5
    asked("writes", tmp_path / "dataset", given, tmp_path / "arrays.npz")
    capsys.readouterr()
    assert cli.main(["import", "--lerobot", str(tmp_path / "dataset"), "--out", str(tmp_path / "all")]) == 0
    said = capsys.readouterr()
    for line in ("no next.truncated: ", "observation.images.top: left out, only videos are read", "last frames of episodes"):
        assert f"robotrl import: {line}" in said.err or line in said.err
    assert "30 frames a second" in said.out
    last = np.append(np.diff(given["piece"]) != 0, True)
    keep = ~last | given["terminated"]
    check(Replay.open(tmp_path / "all"), given, keep)
    words = ["import", "--interventions", "--lerobot", str(tmp_path / "dataset"), "--out", str(tmp_path / "some")]
    assert cli.main(words) == 0
    check(Replay.open(tmp_path / "some"), given, keep & given["intervened"])


def check(replay: Replay, given: dict[str, np.ndarray], keep: np.ndarray) -> None:
    for name in ("observation", "action", "reward", "terminated"):
        assert np.array_equal(replay.columns[name][: replay.count], given[name][keep]), name
    goes_on = keep & ~given["terminated"]
    seen = replay.columns["next_observation"][: replay.count][~given["terminated"][keep]]
    assert np.array_equal(seen, given["next_observation"][goes_on])
