"""The recorder's safe hand: what must not be lost goes into the run's log, is acknowledged once durable, and then learned from.

The replay is an index over the log that the learner can map into memory: what it lacks after a power cut is added to it again.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import msgspec

from robotrl import messages as m
from robotrl import transitions
from robotrl.account import Account
from robotrl.complaint import command
from robotrl.config import Run
from robotrl.log import Log, Took
from robotrl.logformat import Kind, Record
from robotrl.logread import read, survey
from robotrl.node import Node
from robotrl.nodes.labelbook import BookFile
from robotrl.replay import Replay, ReplayError
from robotrl.replayfiles import NoRoom
from robotrl.tasks.task import cameras, sizes

FLUSH_EVERY_S = 5.0  # so much of the replay must be added to it again after a power cut
ACK_NS = 50_000_000  # between two acknowledgements when nothing has changed
TIMING_NS = 1_000_000_000  # between two records of how the loop kept time
ACKS = 16  # lives that are told of
AGAIN_NS = 1_000_000_000  # between two looks whether a full disk has room again
SIMPLE = {"cause": Kind.CAUSE, "episode_end": Kind.EPISODE, "process": Kind.SESSION}  # every message of these topics


class Flusher:
    """Puts the replay's new rows on the disk every few seconds, beside the loop that adds them."""

    def __init__(self, replay: Replay, say: Callable[[str], None], every_s: float = FLUSH_EVERY_S) -> None:
        self._replay, self._say, self._every_s = replay, say, every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            while not self._ended.wait(self._every_s):
                if self._replay.durable < self._replay.count:
                    self._replay.flush()
        except ReplayError as error:
            self._say(str(error))

    def close(self) -> None:
        """Return once no flush is under way."""
        self._ended.set()
        self._thread.join()


class Keeper:
    """Log and replay of a run, and the acknowledgements. One `cycle` whenever something has come, and often besides."""

    def __init__(self, node: Node) -> None:
        """LogError or ReplayError where the run cannot be kept; NoRoom where the replay lacks room for what the log has."""
        self.node = node
        self.log = Log.open(node.directory / "log")
        for line in self.log.said:
            node.say(line)
        with ExitStack() as undo:
            undo.callback(self.log.close)
            self.replay = open_replay(node.directory, node.run)
            undo.callback(self.replay.close)
            if added := top_up(node.directory / "log", self.replay, self.log.counts().get(Kind.TRANSITION, 0)):
                node.say(f"{added} transitions of the log were not in the replay yet")
            self.account = Account()
            self.book = BookFile(node.directory, self.replay, self._recall)
            undo.pop_all()
        self._flusher = Flusher(self.replay, node.say)
        self._waiting: deque[tuple[int, m.Transition | m.Label]] = deque()  # taken, and not durable yet
        self.streams = [node.bus.subscriber("transition"), node.bus.subscriber("label")]
        self._acks = node.bus.publisher("ack")
        self._due = self._told = self._timing = self._notes = 0
        self._reset, self._version, self._said = ("", ""), 0, ""
        self._full, self._again = "", 0  # why the learner does not get what is kept, and when that is tried again
        self._judged = False  # the guard has been heard in this life
        self.note("session", m.Process(source="recorder", name="run", pid=0, event="started"))

    @property
    def trouble(self) -> str:
        """Why nothing more is kept, or learned from; "" when all is well."""
        return self.log.trouble or self._full

    def cycle(self) -> None:
        """What has come into the log; what is durable into the replay, and told. ReplayError when that has all the rows that it
        may have, or fails."""
        for stream in self.streams:
            for message in stream.drain():
                self._take(message)
        durable, now = self.log.durable, self.node.clock.now()
        if not self._full or now >= self._again:
            self._pass_on(durable, now)
        if durable != self._told or self.trouble != self._said or now >= self._due:
            self._tell(durable, now)

    def _pass_on(self, durable: int, now: int) -> None:
        """All that is durable, for the learner; on a full disk as much as goes, and the rest waits: the log has it."""
        try:
            while self._waiting and self._waiting[0][0] <= durable:
                self._learn_from(*self._waiting[0])
                self._waiting.popleft()
            self.book.settle()
            self._full = ""
        except NoRoom:
            self._full = f"{self.node.directory}: disk full: what is kept is not learned from; free some space"
            self._again = now + AGAIN_NS

    def _learn_from(self, order: int, made: m.Transition | m.Label) -> None:
        """What is durable, for the learner."""
        if isinstance(made, m.Label):
            self.book.hear(order, made)
            return
        self.book.book.lived(made.episode, made.life or made.boot)
        if transitions.add(self.replay, made) == transitions.ORPHAN:
            self.node.say(f"transition {made.number} of the policy's: its frame was in a record that the log does not have")

    def _recall(self, record: Record) -> None:
        """What was noted in an earlier life."""
        if record.kind is Kind.CAUSE:
            self.account.hear(msgspec.msgpack.decode(record.payload, type=m.Guard))

    def note(self, topic: str, message: m.Message) -> None:
        """One message of another recorded topic: what tells of the run is kept too, though nobody would send it again."""
        now = self.node.clock.now()
        kind = SIMPLE.get(topic)
        match message:
            case m.Guard() if topic == "cause":
                self._judged = True
                self.account.hear(message)
            case m.Reset() if (message.stage, message.outcome) != self._reset:
                kind, self._reset = Kind.RESET, (message.stage, message.outcome)
            case m.Operator() if topic == "operator" and message.command not in ("beat", "jog"):
                kind = Kind.OPERATOR
            case m.Learner() if message.version != self._version:
                kind, self._version = Kind.WEIGHTS, message.version
            case m.Drive() if now >= self._timing:
                kind, self._timing = Kind.TIMING, now + TIMING_NS
            case m.Process() if topic == "session":
                kind, self._notes = Kind.SESSION, self._notes + 1
                message = msgspec.structs.replace(message, boot=self.node.bus.boot, seq=self._notes, t=now)
        if kind is not None:
            self.log.append(kind, message.source, message.boot, message.seq, msgspec.msgpack.encode(message))

    def _take(self, message: m.Transition | m.Label) -> None:
        if isinstance(message, m.Label):
            if message.giver > 0 and message.number > 0:  # a console of an older version asks for no acknowledgement
                payload = msgspec.msgpack.encode(message)
                took = self.log.append(Kind.LABEL, "console", message.giver, message.number, payload, message.oldest)
                if took is Took.STORED:
                    self._waiting.append((self.log.sequence, message))
        elif why := transitions.fits(self.replay, message):
            self.node.say(f"transition {message.number} of the policy's is refused: {why}")
        else:
            payload, oldest = transitions.encoded(message), message.oldest
            life = message.life or message.boot
            took = self.log.append(Kind.TRANSITION, message.source, life, message.number, payload, oldest)
            if took is Took.STORED:
                self._waiting.append((self.log.sequence, message))

    def _tell(self, durable: int, now: int) -> None:
        if self.trouble != self._said:
            self.node.say(self.trouble or "there is room again: what was not acknowledged is kept now")
        self._told, self._said, self._due = durable, self.trouble, now + ACK_NS
        kept = tuple((*mark, number) for mark, number in self.log.acks().items() if mark[0] in (Kind.TRANSITION, Kind.LABEL))
        rows = self.replay.count + sum(isinstance(made, m.Transition) for _, made in self._waiting)
        book = self.book.book
        refused = book.refused[-1] if book.refused else ""
        account = tuple(self.account.figures(now if self._judged else None))
        self._acks.send(
            m.Ack(kept=kept[-ACKS:], durable=durable, transitions=rows, trouble=self.trouble, labels=book.counts, refused=refused,
                  account=account)
        )  # fmt: skip

    def close(self) -> None:
        """Keep what has come; LogError for what could not be."""
        self.note("session", m.Process(source="recorder", name="run", pid=0, event="ended"))
        self._again = 0
        try:
            self.cycle()
            self.log.sync()
            self.cycle()
            if self._full:
                how = command(f"replay rebuild {self.node.directory}")
                self.node.say(f"what the disk had no room for is in the log alone; free some space, then resume, or {how}")
        finally:
            self._flusher.close()
            self.book.close()
            self.replay.close()
            self.log.close()


def open_replay(directory: Path, run: Run) -> Replay:
    """The run's replay, to write; made if it is not there yet."""
    path = directory / "replay"
    if path.exists():
        try:
            return Replay.open(path, write=True)
        except NoRoom:
            raise
        except ReplayError as error:
            if not (directory / "log").is_dir():
                raise
            raise ReplayError(f"{error}, or make it anew from the log: {command(f'replay rebuild {directory}')}") from None
    return Replay.create(path, *sizes(run), run.agent.capacity, cameras(run))


def top_up(log: Path, replay: Replay, logged: int) -> int:
    """Add what the log has behind the replay's last row; how many rows that were. `logged`: transitions in the log.

    Episodes, and steps in an episode, only ever rise on the wall clock: so behind is what is later by these.
    """
    count = replay.count
    if logged == count:
        return 0
    last = (int(replay.columns["episode"][count - 1]), int(replay.columns["step"][count - 1])) if count else (-1, -1)
    begins = [s.header.state for s in survey(log)[0] if s.header.state.counts.get(Kind.TRANSITION, 0) <= count]
    for record in read(log, [], after=begins[-1].sequence if begins else 0):
        if record.kind is Kind.TRANSITION:
            t = transitions.decoded(record.payload)
            if (t.episode, t.step) > last and not transitions.fits(replay, t):
                transitions.add(replay, t)
    return replay.count - count
