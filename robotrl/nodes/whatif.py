"""Would other limits have tripped? Gate and guard judge a session again, as if the robot had moved as it did.

The gate gets the actions and readings that were recorded, its own goal is what it would have sent. The guard hears every message
when it came, and is led along the states that were recorded: what it would have stopped is told, and then it goes on.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from robotrl import config, configfile
from robotrl import messages as m
from robotrl.nodes.guard import Sentry, causes
from robotrl.nodes.playback import Score, Sensor, Servos
from robotrl.nodes.player import Feed
from robotrl.nodes.vigil import STREAMS
from robotrl.safety.causes import State
from robotrl.safety.guard import POWERS, Guard

ROUTINE = ("", "no permit", "no action", "holder", "epoch", "seq")  # refusals that have nothing to do with limits
CLAMPS = ((1, "range"), (2, "slew"), (4, "lead"))
TOGETHER_NS = 100_000_000  # the same clamp, that soon again, is the same event
SAME_NS = 1_000_000_000  # a cause raised again within this time of the recorded one is that one


def limits_of(path: Path, run: config.Run) -> config.Limits:
    """The limits that a run's or a robot's TOML holds, those of `run` where it is silent. ConfigError for what is no limit."""
    data = configfile.read(path)
    if isinstance(data.get("robot"), str):
        return config.load(path).robot.limits
    table = data.get("limits", data)
    if not isinstance(table, dict):
        raise configfile.ConfigError(f"{path}: limits is no table; write [limits] and a line for each")
    whole = config.to_dict(run)
    whole["robot"]["limits"] |= table
    return config.from_dict(whole, path).robot.limits


class Led(Guard):
    """A guard that goes on as the recorded one did, whatever it would have done itself."""

    def follow(self, now: int, shown: m.Guard) -> None:
        """Be in the recorded state, with nothing latched that was not."""
        if str(self.state) != shown.state:
            self._enter(now, State(shown.state), "as recorded")
            self._torque = POWERS[self.state].torque
        self.session = shown.session
        self.ledger.latched &= set(shown.causes)


class Judge:
    """One guard led along a session."""

    def __init__(self, run: config.Run, limits: config.Limits, epoch: int, restarted: bool) -> None:
        run = dataclasses.replace(run, robot=dataclasses.replace(run.robot, limits=limits))
        self._epoch, self._nonce = epoch, 0
        self.sentry = Sentry(run, self._next_epoch, lambda: self._nonce, restarted, epoch)
        self.guard = self.sentry.guard = Led(causes(run), lambda: self._nonce, damp_s=run.robot.stop_damp_s, restarted=restarted)
        self._standing: set[str] = set()
        self.raised: list[tuple[int, str]] = []

    def _next_epoch(self) -> int:
        self._epoch += 1
        return self._epoch

    def step(self, shown: m.Guard) -> None:
        """One period of the guard's, at the time of the one that was recorded."""
        self._nonce = shown.nonce
        _, said = self.sentry.step(shown.t)
        self.raised += [(shown.t, cause) for cause in said.causes if cause not in self._standing]
        self.guard.follow(shown.t, shown)
        self._standing = set(said.causes) & (set(shown.causes) | self.guard.ledger.active)


class WhatIf(Feed):
    """Sessions in, the trips of other limits out."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.clamps: list[dict[str, Any]] = []
        self.recorded_causes: list[tuple[int, str]] = []
        self._boot: int | None = None
        self._arrived: list[tuple[int, m.Message]] = []
        self._judges: list[Judge] = []  # of this life of the guard: with the recorded limits, with the others
        self._past: list[list[Judge]] = []
        self._standing: set[str] = set()

    def begin(self, run: config.Run) -> None:
        self.limits = limits_of(self.path, run)
        self._gate = Servos(run, self.limits)
        self._sensors = {
            "imu": Sensor("imu", "imu", run.robot, Score("imu")),
            "tracker": Sensor("tracker", "pose", run.robot, Score("poses")),
        }
        self._run = run

    def waits(self, topic: str, message: m.Message) -> bool:
        seen = topic == "pose" and bool(self._run.robot.tracker.camera)  # by our own camera: it has no tape
        told = topic in STREAMS and (seen or topic not in ("joints", "applied", "drive", "imu", "pose"))
        return isinstance(message, m.Exchange) or topic == "guard" or told

    def play(self, message: m.Message) -> None:
        if isinstance(message, m.Guard):
            self._judge(message)
        elif not isinstance(message, m.Exchange):
            self._arrived.append((message.t, message))
        elif message.source == "servos":
            self._drive(message)
        elif message.source in self._sensors:
            self._arrived += self._sensors[message.source].play(message, self.recorded)

    def _drive(self, exchange: m.Exchange) -> None:
        """The gate's verdict; what the guard hears of the cycle is what was recorded."""
        done = exchange.t + (exchange.at[-1] if exchange.at else 0)
        for joints, applied in self._gate.play(exchange, self.recorded):
            was = self.recorded.get(("applied", exchange.boot, joints.tick))
            self._clamped(done, applied, was if isinstance(was, m.Applied) else None)
        read = self.recorded.get(("joints number", exchange.boot, exchange.first))
        if not isinstance(read, m.Joints):
            return
        keys = ("joints", exchange.boot, read.tick), ("applied", exchange.boot, read.tick), ("drive at", exchange.boot, read.t)
        self._arrived += [(done, found) for key in keys if (found := self.recorded.get(key)) is not None]

    def _clamped(self, t: int, now: m.Applied, was: m.Applied | None) -> None:
        bits = {bit for bits in now.clamped for bit, _ in CLAMPS if bits & bit}
        what = " ".join(name for bit, name in CLAMPS if bit in bits)
        joints = [i + 1 for i, clamped in enumerate(now.clamped) if clamped]
        if now.refused not in ROUTINE:
            what = f"refuses: {now.refused}"
        elif what:
            what = f"clamps {what}, motors {joints}"
        else:
            return
        new = was is not None and (was.clamped, was.refused) != (now.clamped, now.refused)
        last = self.clamps[-1] if self.clamps else None
        if last is not None and (last["what"], last["new"]) == (what, new) and t - last["until"] < TOGETHER_NS:
            last["until"], last["cycles"] = t, last["cycles"] + 1
            return
        self.clamps.append({"t": t, "until": t, "tick": now.tick, "cycles": 1, "what": what, "new": new})

    def _judge(self, shown: m.Guard) -> None:
        if shown.boot != self._boot:
            again = self._boot is not None
            self._boot = shown.boot
            assert self.run is not None
            self._judges = [Judge(self._run, limits, shown.epoch, again) for limits in (self._run.robot.limits, self.limits)]
            self._past.append(self._judges)
            self._standing = set()
        for t, message in sorted((a for a in self._arrived if a[0] <= shown.t), key=lambda a: a[0]):
            for judge in self._judges:
                judge.sentry.hear(message, t)
        self._arrived = [a for a in self._arrived if a[0] > shown.t]
        for judge in self._judges:
            judge.step(shown)
        self.recorded_causes += [(shown.t, cause) for cause in shown.causes if cause not in self._standing]
        self._standing = set(shown.causes)

    def result(self) -> dict[str, Any]:
        """Every clamp and refusal of the gate and every cause of the guard with its time; `new`: not with the recorded limits."""
        known = [raised for judges in self._past for raised in judges[0].raised]
        gate = [
            {"at_s": (c["t"] - self.began) * 1e-9, "who": "gate", "new": c["new"], "tick": c["tick"], "cycles": c["cycles"],
             "what": f"{c['what']}, {c['cycles']} cycles"}
            for c in self.clamps
        ]  # fmt: skip
        guard = [
            {"at_s": (t - self.began) * 1e-9, "who": "guard", "new": not _among(t, cause, known), "what": cause}
            for judges in self._past for t, cause in judges[1].raised
        ]  # fmt: skip
        again = sum(_among(t, cause, known) for t, cause in self.recorded_causes)
        return {
            "seconds": (self.newest - self.began) * 1e-9, "limits": json.loads(json.dumps(config.to_dict(self.limits))),
            "gate": gate, "guard": guard, "causes": len(self.recorded_causes), "reproduced": again, "cut": self.cut,
            "same": not any(row["new"] for row in gate + guard),
        }  # fmt: skip


def _among(t: int, cause: str, raised: list[tuple[int, str]]) -> bool:
    return any(cause == other and abs(t - at) < SAME_NS for at, other in raised)
