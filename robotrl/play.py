"""A session again through the live code: the same bytes must give the same readings, observations and commands, bit for bit.

    robotrl play RUN_DIR                       all its sessions, one after the other
    robotrl play RUN_DIR/sessions/0003.mcap    one file; what its beginning does not tell is not compared
    robotrl play RUN_DIR --limits FILE         would these limits have tripped? FILE is a run's or a robot's TOML

Exit code 0: all that was compared is the same; 1: something is not; 2: it cannot be played.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from robotrl import config
from robotrl.messages import Action, Applied, Exchange, Imu, Joints, Message, Pose, Thought
from robotrl.session import Attached, Reading, SessionError, files

LATER_NS = 2_000_000_000  # so much older than the newest is what can be played: all that it was given has been read
KEEP_NS = 30_000_000_000  # and so much older what is forgotten: an action, a pose and an IMU's reading may be old


def parse(argv: list[str]) -> argparse.Namespace:
    doc = (__doc__ or "").split("\n\n")
    parser = argparse.ArgumentParser(
        prog="robotrl play", description=doc[0], epilog="\n\n".join(doc[1:]), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("session", type=Path, nargs="+", help="a run directory, or its session files in order")
    parser.add_argument(
        "--limits", type=Path, metavar="FILE", help="ask what the gate and the guard would say with FILE's limits"
    )
    parser.add_argument("--weights", type=Path, action="append", default=[], metavar="FILE",
                        help="a version of the policy's weights that the session has not kept")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object last on standard output")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    args = parse(argv)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as on the robot: more threads add up in another order
    paths = [path for given in args.session for path in files(given)]
    if args.limits is not None:
        from robotrl.nodes.whatif import ask

        return ask(paths, args.limits, as_json=args.json)
    player = Player()
    for path in args.weights:
        player.keep_weights(path.read_bytes(), str(path))
    for path in paths:
        player.feed(Reading(path))
    player.finish()
    result = player.result()
    print(told(result))
    if args.json:
        print(json.dumps(result))
    return 0 if result["same"] else 1


class Player:
    """Sessions in, a comparison out."""

    def __init__(self) -> None:
        from robotrl.nodes import playback

        self._playback = playback
        self.recorded = playback.Recorded()
        self.run: config.Run | None = None
        self.cut: list[str] = []
        self._pending: list[Exchange | Thought] = []
        self._newest = self._oldest = self._played = self._pruned = 0
        self._weights: list[tuple[bytes, str]] = []
        self._joints: dict[tuple[int, int], Joints] = {}
        self._applied: dict[tuple[int, int], Applied] = {}
        self._imu: dict[tuple[int, int], Imu] = {}

    def feed(self, reading: Reading) -> None:
        """Play one more file."""
        if self.run is None:
            self._begin(reading)
        for item in reading:
            if isinstance(item, Attached):
                self.keep_weights(item.data, f"{reading.path}: {item.name}")
                continue
            self._take(*item)
        if reading.cut:
            self.cut.append(f"{reading.path}: {reading.cut}; played as far as it is whole")

    def _begin(self, reading: Reading) -> None:
        from robotrl.nodes.rethink import Rethink

        try:
            self.run = run = config.from_dict(json.loads(reading.about["config"]), reading.path / "config")
        except (KeyError, ValueError) as error:
            raise SessionError(f"{reading.path}: says no run's configuration ({error}); it cannot be played") from None
        p = self._playback
        self.imu, self.pose = p.Score("imu"), p.Score("poses")
        self.servos = p.Servos(run)
        self.sensors = {"imu": p.Sensor("imu", "imu", run.robot, self.imu),
                        "tracker": p.Sensor("tracker", "pose", run.robot, self.pose)}  # fmt: skip
        self.rethink = Rethink(run)
        for data, where in self._weights:
            self.keep_weights(data, where)

    def keep_weights(self, data: bytes, where: str) -> None:
        """Weights that commands may have been given with."""
        from robotrl.nodes.rethink import weights

        if self.run is None:
            self._weights.append((data, where))
            return
        version, actor = weights(data, where)
        self.rethink.actors[version] = actor

    def _take(self, topic: str, message: Message) -> None:
        self._oldest = self._oldest or message.t
        self._newest = max(self._newest, message.t)
        if isinstance(message, Exchange | Thought):
            self._pending.append(message)
        else:
            self.recorded.keep(topic, message)
            if isinstance(message, Action) and message.source == "policy":
                self.recorded["action of", message.boot, message.tick] = message
        if self._newest - self._played > LATER_NS:
            self._play(self._newest - LATER_NS)

    def finish(self) -> None:
        self._play(self._newest + 1)

    def _play(self, until: int) -> None:
        """All that began before `until`, in the order of its beginning."""
        self._played = until + LATER_NS // 2
        due = sorted((m for m in self._pending if m.t < until), key=lambda m: m.t)
        self._pending = [m for m in self._pending if m.t >= until]
        for message in due:
            if isinstance(message, Thought):
                self._think(message)
            elif message.source == "servos":
                for joints, applied in self.servos.play(message, self.recorded):
                    self._joints[joints.boot, joints.tick], self._applied[applied.boot, applied.tick] = joints, applied
            elif message.source in self.sensors:
                self._sense(message)
        if until - self._pruned > KEEP_NS:
            self._pruned = until
            self.recorded.prune(until - KEEP_NS)
            for kept in (self._joints, self._applied, self._imu):
                for key in [key for key, old in kept.items() if old.t < until - KEEP_NS]:
                    del kept[key]

    def _sense(self, exchange: Exchange) -> None:
        for made in self.sensors[exchange.source].play(exchange, self.recorded):
            if isinstance(made, Imu):
                self._imu[made.boot, made.seq] = made
            elif isinstance(made, Pose):
                self.rethink.see((made,))

    def _think(self, thought: Thought) -> None:
        """With what the tapes gave; with what was recorded where a tape has a gap."""
        boot = next((b for b, tick in reversed(self._joints) if tick == thought.tick), -1)
        self.rethink.think(
            thought, self._joints.get((boot, thought.tick)), self._applied.get((boot, thought.tick)),
            self._imu.get(thought.imu), self.recorded,
        )  # fmt: skip

    def result(self) -> dict[str, Any]:
        """The comparison as plain data."""
        scores = [self.servos.joints, self.servos.applied, self.servos.written, self.imu, self.pose,
                  self.rethink.observations, self.rethink.commands]  # fmt: skip
        rows = {s.name: {"equal": s.equal, "differ": s.differ, "unknown": s.unknown, "first": s.first} for s in scores}
        return {
            "seconds": (self._newest - self._oldest) * 1e-9, "rows": rows, "unweighted": self.rethink.unweighted, "cut": self.cut,
            "same": not any(s.differ for s in scores) and any(s.equal for s in scores),
        }  # fmt: skip


def told(result: dict[str, Any]) -> str:
    """The comparison for a person."""
    lines = [f"cut    {why}" for why in result["cut"]]
    lines.append(f"{result['seconds']:.1f} s played    {'compared':>9} {'equal':>9} {'not yet known':>14}")
    for name, row in result["rows"].items():
        lines.append(f"{name:<20} {row['equal'] + row['differ']:>9} {row['equal']:>9} {row['unknown']:>14}")
        if row["differ"]:
            lines.append(f"  DIFFERS {row['differ']} times, first at {row['first']}")
    if result["unweighted"]:
        lines.append(f"{result['unweighted']} commands came of weights that the session has not kept: their observations alone")
    lines.append("the same, bit for bit" if result["same"] else "NOT THE SAME")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
