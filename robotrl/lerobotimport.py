"""`robotrl import --lerobot DIR`: demonstrations out of a LeRobotDataset v3, as a replay that a run learns from.

    robotrl import --lerobot DIR --out runs/demonstrations
    robotrl rehearse launch/walk.toml --set agent.demonstrations=runs/demonstrations

One transition a frame: its state, its action, the reward and the end that follow, and the next frame's state. What the dataset
does not say, and what a replay has no place for, is told in a line each (docs/lerobot.md). The dataset is only read.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robotrl.complaint import Complaint, missing_extra
from robotrl.lerobotexport import INTERVENED, ORIGIN, PREFIX, RECORDED, SUCCESS
from robotrl.logread import sync
from robotrl.replay import Replay

if TYPE_CHECKING:
    from robotrl.lerobotread import Dataset

STATE, ACTION, REWARD, DONE, TRUNCATED = ("observation.state", "action", "next.reward", "next.done", "next.truncated")
INTERVENTIONS = ("is_intervention", INTERVENED)  # by what names a dataset may have it
INDICES = ("timestamp", "frame_index", "episode_index", "index", "task_index")


class ImportFailed(Complaint):
    """Why nothing was imported, and what to do; one line."""


@dataclass
class Plan:
    """Which columns are read as what, and what is to be said of the rest."""

    state: str
    action: str
    reward: str = ""  # "" for none: 0
    done: str = ""
    truncated: str = ""
    intervened: str = ""  # only frames of which this is true
    ours: bool = False
    cameras: list[str] = field(default_factory=list)  # videos that are kept
    said: list[str] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        named = (self.state, self.action, self.reward, self.done, self.truncated, self.intervened)
        return [*filter(None, named), *(PREFIX + name for name in ORIGIN if self.ours)]


def planned(dataset: Dataset, interventions: bool, images: bool = False) -> Plan:
    """What is read as what. ImportFailed for a dataset without states or actions."""
    features, root = dataset.features, dataset.root
    for name in (STATE, ACTION):
        shape = features.get(name, {}).get("shape")
        if not isinstance(shape, list) or [type(size) for size in shape] != [int] or shape[0] < 1:
            raise ImportFailed(f"{root}: has no {name} of numbers, but {', '.join(features)}; nothing can be learned from it")
    plan = Plan(STATE, ACTION, ours=dataset.ours is not None)
    plan.reward = next((name for name in (REWARD, SUCCESS) if name in features), "")
    plan.done, plan.truncated = (name if name in features else "" for name in (DONE, TRUNCATED))
    if plan.reward == SUCCESS:
        plan.said.append("no next.reward: 1 where next.success is, 0 elsewhere")
    elif not plan.reward:
        plan.said.append("no next.reward: every reward is 0")
    if not plan.done:
        plan.said.append("no next.done: no episode terminates, the last frame of each is a truncation")
    elif not plan.truncated:
        plan.said.append("no next.truncated: every next.done is a termination, no value is seen behind it")
    if interventions:
        plan.intervened = next((name for name in INTERVENTIONS if name in features), "")
        if not plan.intervened:
            raise ImportFailed(f"{root}: has no {' or '.join(INTERVENTIONS)}; leave out --interventions")
    if images:
        plan.cameras = [name for name, feature in features.items() if feature.get("dtype") == "video"]
        if not plan.cameras:
            raise ImportFailed(f"{root}: has no video; leave out --images")
    ours = (SUCCESS, RECORDED, INTERVENED) if plan.ours else ()
    for name in [n for n in features if n not in (*plan.columns, *plan.cameras, *INDICES, *ours)]:
        plan.said.append(f"{name}: left out, {_why(features[name])}")
    return plan


def _why(feature: dict[str, Any]) -> str:
    why = {"video": "--images keeps it", "image": "only videos are read"}
    return why.get(str(feature.get("dtype")), "a replay has no place for it")


@dataclass
class Rows:
    """An episode's transitions, in order; (n, ...) each."""

    observation: NDArray[np.float32]
    action: NDArray[np.float32]
    reward: NDArray[np.float32]
    next_observation: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    origin: dict[str, NDArray[np.int64]]  # by the names of ORIGIN
    lost: int  # frames, 0 or 1, whose next observation nobody knows
    frame: NDArray[np.int64]  # of the episode's frames, which each is
    seen: list[NDArray[np.uint8]] = field(default_factory=list)  # (frames, height, width, 3) by camera, one more where there is


def rows_of(columns: dict[str, NDArray[Any]], plan: Plan, episode: int, last: NDArray[np.float32] | None) -> Rows:
    """The transitions of an episode's frames. `last`: next observation of the last frame, None where the dataset has none.

    Then a last frame that terminates has its own state in that place, for no value is asked of it; any other is left out, and
    the recording ends one frame before.
    """
    state = columns[plan.state].astype(np.float32)
    n = len(state)
    done = columns[plan.done].astype(bool) if plan.done else np.zeros(n, bool)
    truncated = columns[plan.truncated].astype(bool) if plan.truncated else np.zeros(n, bool)
    origin = {name: columns[PREFIX + name] for name in ORIGIN} if plan.ours else {
        "run": np.zeros(n, np.int64), "episode": np.full(n, episode), "step": np.arange(n), "tick": np.arange(n),
        "policy_version": np.full(n, -1),
    }  # fmt: skip
    rows = Rows(
        observation=state, action=columns[plan.action].astype(np.float32),
        reward=columns[plan.reward].astype(np.float32) if plan.reward else np.zeros(n, np.float32),
        next_observation=np.concatenate([state[1:], state[-1:] if last is None else last[None]]),
        terminated=done & ~truncated, truncated=truncated, origin=origin, lost=0, frame=np.arange(n),
    )  # fmt: skip
    keep = columns[plan.intervened].astype(bool) if plan.intervened else np.ones(n, bool)
    if last is None and not rows.terminated[-1]:
        rows.lost, keep[-1] = 1, False
        rows.truncated[-2:-1] = ~rows.terminated[-2:-1]
    for name in ("observation", "action", "reward", "next_observation", "terminated", "truncated", "frame"):
        setattr(rows, name, getattr(rows, name)[keep])
    rows.origin = {name: numbers[keep] for name, numbers in origin.items()}
    return rows


def episodes(dataset: Dataset, plan: Plan) -> Iterator[Rows]:
    """All of them; those of a further run of ours are numbered on. ImportFailed for numbers that nobody can learn from."""
    offset, run, highest = 0, 0, -1
    sizes = {name: dataset.features[name]["shape"][0] for name in (plan.state, plan.action)}
    videos = [dataset.video(name) for name in plan.cameras]
    for episode, columns in enumerate(dataset.episodes(plan.columns)):
        last = dataset.last[episode]
        known = None if last is None else np.asarray(last, np.float32)
        for name in columns:  # one number a frame may be a list of one
            size = sizes.get(name, 1)
            if columns[name].size != len(columns[name]) * size or (
                name == plan.state and known is not None and known.size != size
            ):
                raise ImportFailed(f"{dataset.root}: {name} of episode {episode} has not {size} numbers; restore it from a copy")
            columns[name] = columns[name].reshape(-1, size) if name in sizes else columns[name].reshape(-1)
        rows = rows_of(columns, plan, episode, known)
        for name in ("observation", "action", "reward", "next_observation"):
            if not np.isfinite(getattr(rows, name)).all():
                raise ImportFailed(
                    f"{dataset.root}: {name} of episode {episode} is not finite; leave that episode out, or mend it"
                )
        if len(rows.reward) and (now := int(rows.origin["run"][0])) != run:
            run, offset = now, highest + 1
        rows.origin["episode"] = rows.origin["episode"] + offset
        highest = max(highest, *rows.origin["episode"].tolist()) if len(rows.reward) else highest
        frames = dataset.lengths[episode] + plan.ours  # ours have the next image of the last frame behind it
        rows.seen = [video.episode(dataset.rows[episode], frames) for video in videos]
        yield rows


def import_dataset(
    root: Path, out: Path, interventions: bool = False, images: bool = False
) -> tuple[dict[str, int], list[str], float]:
    """Make the replay `out` of the dataset at `root`: counts, what is to be said, frames a second.

    Complaint, and nothing at `out`, when it cannot be.
    """
    from robotrl.lerobotread import Dataset

    if out.exists():
        raise ImportFailed(f"{out}: is there already; name another place by --out, or remove it")
    dataset = Dataset(root)
    plan = planned(dataset, interventions, images)
    aside = out.with_name(f".{out.name}.{os.getpid()}")
    size, actions = (dataset.features[name]["shape"][0] for name in (plan.state, plan.action))
    reach, lost, count = 0.0, 0, {"episodes": 0, "transitions": 0}
    try:
        replay: Replay | None = None
        for rows in episodes(dataset, plan):
            if replay is None:
                cameras = [(name.rpartition(".")[2], *seen.shape[1:]) for name, seen in zip(plan.cameras, rows.seen, strict=True)]
                replay = Replay.create(aside, size, actions, max(1, sum(dataset.lengths)), tuple(cameras))
            _add(replay, rows)
            lost += rows.lost
            reach = max(reach, float(np.abs(rows.action).max(initial=0.0)))
            count["episodes"] += bool(len(rows.reward))
        if replay is not None:
            count["transitions"] = replay.count
            replay.close()
        if not count["transitions"]:
            raise ImportFailed(f"{root}: holds nothing to learn from; name another dataset")
        os.rename(aside, out)
        sync(out.parent)
    except OSError as error:
        raise ImportFailed(f"{out}: not written: {error.strerror}; free space, see whose the directory is") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    if lost:
        plan.said.append(f"{lost} last frames of episodes have no next observation, and are left out")
    if reach > 1 and not plan.ours:  # ours may go a little beyond, where the gate clamped
        plan.said.append(f"action: its numbers reach {reach:g}, a policy's here -1 to 1; scale them, or they are never acted")
    return count, plan.said, float(dataset.info["fps"])


def _add(replay: Replay, rows: Rows) -> None:
    origin = {name: numbers.tolist() for name, numbers in rows.origin.items()}
    for i in range(len(rows.reward)):
        place = [origin[name][i] for name in ("episode", "step", "tick")]
        at, on = int(rows.frame[i]), replay.goes_on(*place)
        images, next_images = (
            b"".join([seen[min(frame, len(seen) - 1)].tobytes() for seen in rows.seen]) for frame in (at, at + 1)
        )
        replay.add(
            rows.observation[i], rows.action[i], rows.reward[i], rows.next_observation[i],
            terminated=bool(rows.terminated[i]), truncated=bool(rows.truncated[i]),
            images=b"" if on else images, next_images=next_images, **{name: origin[name][i] for name in ORIGIN[1:]},
        )  # fmt: skip


def main(argv: list[str]) -> int:
    doc = (__doc__ or "").split("\n\n")
    parser = argparse.ArgumentParser(
        prog="robotrl import",
        description=doc[0],
        epilog="\n\n".join(doc[1:]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--lerobot", type=Path, required=True, metavar="DIR", help="a LeRobotDataset v3")
    parser.add_argument("--out", type=Path, help="the replay to make (default: runs/NAME-demonstrations)")
    parser.add_argument("--interventions", action="store_true", help="only the frames in which a person intervened")
    parser.add_argument("--images", action="store_true", help="what its cameras saw, too: videos, as far as they keep it")
    parser.add_argument("--json", action="store_true", help="print one JSON object last on standard output")
    args = parser.parse_args(argv)
    out = args.out or Path("runs") / f"{args.lerobot.resolve().name}-demonstrations"
    with missing_extra("pyarrow", "lerobot"):
        count, said, fps = import_dataset(args.lerobot, out, args.interventions, args.images)
    for line in said:
        print(f"robotrl import: {line}", file=sys.stderr)
    print(f"{count['transitions']} transitions in {count['episodes']} episodes, {fps:g} frames a second")
    print(f"learn from them beside a run's own: --set agent.demonstrations={out}")
    if args.json:
        print(json.dumps({**count, "fps": fps, "out": str(out), "said": said}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
