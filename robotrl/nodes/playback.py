"""What a session's bytes become when the live code gets them again: each device's driver, call by call, off its tape.

A driver does the same again when its port and its clock say the same (`drivers/tape.py`). Where a recording begins in the
middle, or has a gap, nobody knows what its driver remembered: it is compared from the first message that comes out the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeVar

import msgspec

from robotrl import config
from robotrl.drivers.chains import Chain, chain_of
from robotrl.drivers.commands import HOSTS
from robotrl.drivers.imu import Silent, WitImu
from robotrl.drivers.port import PortError
from robotrl.drivers.servo_chain import ServoChain
from robotrl.drivers.tape import Playback
from robotrl.drivers.tracker import PoseStream
from robotrl.messages import Action, Applied, Call, Drive, Exchange, Joints, Message, Permit
from robotrl.nodes.servoloop import ServoLoop, set_up

SETTLE = 25  # messages in a row that may come out otherwise where the driver's memory is not known: half a second of the servos'
Reading = TypeVar("Reading", Joints, Applied)
Key = tuple[str, int, int]  # a message: topic, boot, number


@dataclass
class Score:
    """How often one thing came out the same. Where it is not known that it must, it is from the first time on that it does;
    with `told`, only from `settle` on."""

    name: str
    told: bool = False
    patience: float = SETTLE  # how many in a row may be otherwise before it is known
    known: bool = False
    equal: int = 0
    differ: int = 0
    unknown: int = 0  # not compared, because it was not known that it must be the same
    first: str = ""  # the first difference
    _row: int = 0

    def forget(self) -> None:
        """From here on it is not known again."""
        self.known, self._row = False, 0

    def settle(self) -> None:
        """From here on it must be the same."""
        self.known = True

    def take(self, same: bool, what: str) -> None:
        """One comparison; `what` says where and what, should it be a difference."""
        if same and (self.known or not self.told):
            self.equal, self.known = self.equal + 1, True
            return
        self._row += 1
        if not self.known and (self.told or self._row <= self.patience):
            self.unknown += 1
            return
        self.differ += 1
        self.first = self.first or what


def difference(was: Any, now: Any) -> str:
    """The first field in which two messages differ, bit for bit; empty when none does."""
    for name in was.__struct_fields__:
        a, b = getattr(was, name), getattr(now, name)
        if a is not b and msgspec.msgpack.encode(a) != msgspec.msgpack.encode(b):
            return f"{name} was {a!r:.120}, is {b!r:.120}"
    return ""


class Recorded(dict[Key, Message]):
    """Messages by topic, life and number (joints, applied: by tick), the last half minute of them."""

    def keep(self, topic: str, message: Message) -> None:
        number = message.tick if isinstance(message, Joints | Applied) else message.seq
        self[topic, message.boot, number] = message
        if isinstance(message, Joints):
            self["joints number", message.boot, message.seq] = message
        if isinstance(message, Drive):
            self["drive at", message.boot, message.t] = message

    def prune(self, before: int) -> None:
        """Forget what was captured before this time (ns)."""
        for key in [key for key, message in self.items() if message.t < before]:
            del self[key]


class Sensor:
    """The IMU's or the tracker's driver, off its tape."""

    def __init__(self, source: str, topic: str, robot: config.Robot, score: Score) -> None:
        self.source, self.topic, self.robot, self.score = source, topic, robot, score
        self.playback = Playback(source)
        self._life: tuple[int, int] | None = None  # boot and number of the last exchange
        self._device: WitImu | PoseStream | None = None

    def play(self, exchange: Exchange, recorded: Recorded) -> list[tuple[int, Message]]:
        """The messages that the exchange's calls give, and when; each is compared with the one that was recorded."""
        if self._life != (exchange.boot, exchange.seq - 1):
            self._device = None
            self.score.forget()
        self._life = None if exchange.missing else (exchange.boot, exchange.seq)
        self.playback.load(exchange)
        made: list[tuple[int, Message]] = []
        for call, end in spans(exchange):
            self.playback.begin(call.event, end)
            if call.kind == "connect":
                self._connect()
                continue
            try:
                made += [(self.playback.now(), message) for message in self._read()]
            except PortError:
                self._device = None
                self.score.forget()
        return [(t, self._compared(message, exchange, i, recorded)) for i, (t, message) in enumerate(made)]

    def _connect(self) -> None:
        """As the node does; a sensor that was silent at our baud rate is configured once more at the end of the tape."""
        self._device = None
        self.score.forget()
        for _ in range(2):
            device = self._made()
            try:
                if isinstance(device, WitImu):
                    device.configure()
            except Silent:
                continue
            except PortError:
                return
            self._device = device
            self.score.settle()
            self.playback.finish()
            if self.playback.departed:
                self.score.take(False, f"handshake: the driver {self.playback.departed}")
            return

    def _made(self) -> WitImu | PoseStream:
        line = self.playback
        return WitImu(line, self.robot.imu, line) if self.source == "imu" else PoseStream(line, line)

    def _read(self) -> list[Message]:
        if self._device is None:
            self._device = self._made()
        got = self._device.read()
        return list(got) if isinstance(got, list) else [got] if got is not None else []

    def _compared(self, message: Message, exchange: Exchange, i: int, recorded: Recorded) -> Message:
        seq = exchange.first + i
        message = msgspec.structs.replace(message, source=self.source, boot=exchange.boot, seq=seq)
        was = recorded.get((self.topic, exchange.boot, seq))
        if was is not None:
            why = difference(was, message)
            self.score.take(not why, f"number {seq}: {why}")
            message = message if self.score.known else was
        return message


class Servos:
    """The servo driver with its gate, off its tape: joints, what was applied, the bytes written."""

    def __init__(self, run: config.Run, limits: config.Limits | None = None) -> None:
        """`limits`: other ones for the gate; then the bytes that are written may be others too."""
        self.robot = run.robot if limits is None else replace(run.robot, limits=limits)
        self.period_s = 1.0 / run.task.rate_hz
        self.joints, self.applied = Score("joints"), Score("applied", told=True)
        self.written = Score("bytes to the servos", told=True)
        self.playback = Playback("servos")
        self._life: tuple[int, int] | None = None
        self._loop: ServoLoop | None = None
        self._tick = -1

    def play(self, exchange: Exchange, recorded: Recorded) -> list[tuple[Joints, Applied]]:
        """What the exchange's cycles read and applied."""
        if self._life is None or self._life[0] != exchange.boot:
            self._tick = -1
        if self._life != (exchange.boot, exchange.seq - 1):
            self._forget()
        self._life = (exchange.boot, -1 if exchange.missing else exchange.seq)
        self.playback.load(exchange)
        made = []
        for call, end in spans(exchange):
            self.playback.begin(call.event, end)
            if call.kind == "connect":
                self._connect()
            elif call.kind == "lapse" and self._loop is not None:
                self._lapse(self._loop, call, recorded)
            elif call.kind in ("cycle", "held") and (found := self._cycle(call, end, exchange, recorded)) is not None:
                made.append(found)
        return made

    def _forget(self) -> None:
        self._loop = None
        for score in (self.joints, self.applied, self.written):
            score.forget()

    def _connect(self) -> None:
        self._forget()
        try:
            chain = set_up(self.robot, self.playback, self.playback, self._tick, lambda _: None)
            self._loop = ServoLoop(self.robot, chain, self.playback, self.period_s)
        except (PortError, ValueError):
            return
        self._loop.tick = self._tick
        for score in (self.joints, self.applied, self.written):
            score.settle()
        self.playback.finish()
        self.written.take(not self.playback.departed, f"handshake: the driver {self.playback.departed}")

    def _lapse(self, loop: ServoLoop, call: Call, recorded: Recorded) -> None:
        try:
            loop.lapse(self._heard(call, recorded)[0])
        except PortError:
            self._loop = None

    def _cycle(self, call: Call, end: int, exchange: Exchange, recorded: Recorded) -> tuple[Joints, Applied] | None:
        was = recorded.get(("joints number", exchange.boot, exchange.first))
        tick = was.tick if isinstance(was, Joints) else self._tick + 1
        drive = recorded.get(("drive at", exchange.boot, was.t)) if was is not None else None
        permit, action = self._heard(call, recorded)
        loop = self._loop or self._joined(call, end)
        self.playback.begin(call.event, end)
        loop.tick = tick - 1
        if isinstance(drive, Drive):
            loop.late_us, loop.overruns, loop.unrescued = drive.late_us, drive.overruns, drive.unrescued
        try:
            joints, applied, _ = loop.cycle(permit, action, call.kind == "held")
        except PortError:
            self._loop = None
            return None
        self._loop, self._tick = loop, tick
        self.playback.finish()
        kept = recorded.get(("applied", exchange.boot, tick))
        if isinstance(kept, Applied) and kept.writer == "off":  # a gate that is shut remembers nothing
            self.applied.settle()
            if not self.playback.departed:
                self.written.settle()
        self.written.take(not self.playback.departed, f"tick {tick}: the driver {self.playback.departed}")
        joints = self._same(self.joints, "joints", joints, exchange.boot, recorded)
        return joints, self._same(self.applied, "applied", applied, exchange.boot, recorded)

    def _same(self, score: Score, topic: str, made: Reading, boot: int, recorded: Recorded) -> Reading:
        """What was made, named as what was recorded of this cycle, and compared with it."""
        kept = recorded.get((topic, boot, made.tick))
        if kept is None:
            return msgspec.structs.replace(made, boot=boot)
        made = msgspec.structs.replace(made, source="servos", boot=boot, seq=kept.seq)
        why = difference(kept, made)
        score.take(not why, f"tick {made.tick}: {why}")
        return made if score.known else kept  # type: ignore[return-value]  # whoever goes on with it was given the recorded one

    def _joined(self, call: Call, end: int) -> ServoLoop:
        """A loop for a recording that begins in the middle: its queries name the hosts in the order that the tape has."""
        for turned in range(len(HOSTS)):
            self._turned(turned, call, end).read(-1)
            if not self.playback.departed:
                break
        chain = self._turned(turned, call, end)
        if self.robot.servos.protocol == "feetech":  # by what limits its owner has set it writes was read at its set-up alone
            self.written.forget()
        return ServoLoop(self.robot, chain, self.playback, self.period_s)

    def _turned(self, turned: int, call: Call, end: int) -> Chain:
        """A chain that has asked so often before, with this call at hand."""
        self.playback.begin(0, 0)
        chain = chain_of(self.playback, self.robot, self.playback)
        if isinstance(chain, ServoChain):  # who is asked and does not answer is not believed for a while
            chain.skip(turned)
        else:
            for _ in range(turned):
                chain.read(-1)
        self.playback.begin(call.event, end)
        return chain

    def _heard(self, call: Call, recorded: Recorded) -> tuple[Permit | None, Action | None]:
        """The messages that this call was given. Where one was not recorded, what the gate did is not known until it is shut."""
        found = [
            recorded.get((topic, boot, seq)) for topic, (_, boot, seq) in zip(("permit", "action"), call.heard, strict=False)
        ]
        if any(message is None and seq >= 0 for message, (_, _, seq) in zip(found, call.heard, strict=False)):
            self.applied.forget()
            self.written.forget()
        permit, action = [*found, None, None][:2]
        return (permit if isinstance(permit, Permit) else None), (action if isinstance(action, Action) else None)


def spans(exchange: Exchange) -> list[tuple[Call, int]]:
    """Each call with the event at which it ends."""
    ends = [call.event for call in exchange.calls[1:]] + [len(exchange.kinds)]
    return list(zip(exchange.calls, ends, strict=True))
