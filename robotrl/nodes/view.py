"""What the operator's console knows: a `View` filled from the bus, and whether a stop is confirmed. No
drawing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from rich.text import Text

from robotrl.config import Agent, Operator, Run
from robotrl.messages import Applied, Beat, Drive, Episode, Guard, Joints, Label, Message, Process, Teleop
from robotrl.nodes.repeats import Repeats

SECOND = 1_000_000_000
GUARD_SILENT = SECOND // 2  # ten of the guard's messages
ANSWER = SECOND // 4  # a stop not answered by then is said to be unanswered; 40 ms is usual
FRESH = SECOND // 10  # five of the driver's: an older read-back confirms nothing
GIVES_TORQUE = frozenset(("HOLD", "RUN", "RESET"))  # in the others that have it, what is off stays off
STOPPED = frozenset(("STOPPING", "PSTOP", "RELAX", "LOCKOUT"))
UNMOVED = frozenset(("BOOT", "CHECK"))  # a stop leads out of neither, and yet holds an arm that is being lowered
FRAMES = 100  # shown ones that are remembered: 10 s
M = TypeVar("M", bound=Message)


class Frame(NamedTuple):
    """What a screen showed of the episode: its newest step when it was drawn, by which a key names what it is about."""

    drawn: int  # ns
    life: int  # of the policy
    episode: int
    step: int  # -1: none yet
    tick: int
    over: bool  # the episode has ended


class Said(NamedTuple):
    """A label given here."""

    t: int  # when, ns
    number: int
    label: Label


@dataclass
class Stream:
    """One source's messages: the newest, and recent running numbers.

    The rate is taken from the running numbers, for of a *latest* topic a reader sees only what it asked for.
    """

    newest: Message
    numbers: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=200))  # (t ns, seq)
    moved: int = 0  # when a beat's progress last changed, ns

    def rate_hz(self, now: int) -> float:
        """Messages sent per second over the last two seconds."""
        recent = [pair for pair in self.numbers if now - pair[0] < 2 * SECOND]
        if len(recent) < 2 or recent[-1][0] == recent[0][0]:
            return 0.0
        return (recent[-1][1] - recent[0][1]) / ((recent[-1][0] - recent[0][0]) / SECOND)


def absent(run: Run) -> tuple[str, ...]:
    """Streams and nodes that a run does not have."""
    senses = [name for sense, names in (("imu", ("imu",)), ("tracker", ("pose", "tracker"))) if sense not in run.robot.senses
              for name in names]  # fmt: skip
    return (*senses, *(() if run.task.reward == "classifier" else ("classifier",)))


@dataclass
class View:
    """All the screen shows. `receive` takes what the bus brought, `desk.press` keys. Times are ns."""

    run: str = "run"
    temp_limit_c: float = 80.0
    board_limit_c: float = 75.0  # of a moteus's board
    agent: Agent = field(default_factory=Agent)
    absent: tuple[str, ...] = ()  # streams and nodes that this run does not have: nobody is missed who was never there
    streams: dict[tuple[str, str], Stream] = field(default_factory=dict)  # by (topic, source)
    events: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=50))
    keys: deque[tuple[int, str, str]] = field(default_factory=lambda: deque(maxlen=6))  # (when, key, its effect)
    gone: set[str] = field(default_factory=set)  # nodes that stay down while the run goes on
    judged: Guard | None = None  # the guard's last word on a state or a cause that changed
    last: Episode | None = None  # the episode that ended last
    falls: int = 0  # since this console came up
    ends: deque[str] = field(default_factory=lambda: deque(maxlen=20))  # how the last episodes ended that nobody stopped
    labels: tuple[int, int] = (0, 0)  # given here, and kept: acknowledged by the recorder
    settings: Operator = field(default_factory=Operator)
    frames: deque[Frame] = field(default_factory=lambda: deque(maxlen=FRAMES))
    given: deque[Said] = field(default_factory=lambda: deque(maxlen=1000))  # here, and not taken back, the newest last
    ended_at: int = 0  # when the last episode was heard to have ended, ns
    rescued: int = 0  # when a dead driver's motors were said to be off, ns
    held: Said | None = None  # of a key that is held down
    typed: str | None = None  # of a note that is being written
    hand_at: int = 0  # when what a person's hand says of itself last changed, ns
    twin: bool = False  # of whose run this is
    afar: bool = False  # on another machine than the robot
    watching: bool = False  # another console supervises, or the key to the door is a viewer's: here nothing acts but a stop
    answered: int | None = None  # how long the terminal's newest answer was under way, ns
    tested: bool = False  # a person has tried the keyboard
    disk_free: int | None = None  # bytes
    last_human: int = 0
    repeats: Repeats = field(default_factory=Repeats)
    last_press: int = 0
    seen_tick: int = -1  # Joints tick of the frame on the screen
    reply: tuple[int, str] = (0, "")  # when the guard answered a key, and with what
    stop_pressed: int | None = None
    stop_answered: int | None = None  # when the guard first showed a stop state after it
    leave_asked: int | None = None
    leaving: bool = False
    help: bool = False
    middle: Callable[[int, int, int], list[Text]] | None = None  # of (now, width, rows): what stands in the place of the tables

    def receive(self, topic: str, message: Message, now: int) -> None:
        """Take one message that arrived at `now`."""
        key = (topic, message.source)
        stream = self.streams.get(key)
        if stream is None or stream.newest.boot != message.boot:
            stream = self.streams[key] = Stream(message, moved=now)
        if isinstance(message, Beat) and message.progress != getattr(stream.newest, "progress", None):
            stream.moved = now
        if isinstance(message, Guard) and message.note and message.note != getattr(stream.newest, "note", ""):
            self.reply = (now, message.note)  # a refusal stands in the guard's note for a single period
        if isinstance(message, Teleop):
            self.hand_at = now if message.note != getattr(stream.newest, "note", "") else self.hand_at
            self.last_human = now if message.moved else self.last_human
        stream.newest = message
        stream.numbers.append((message.t, message.seq))
        if topic == "guard" and isinstance(message, Guard):
            self._answer(message)
        elif topic == "cause" and isinstance(message, Guard):
            if what := happened(message, self.judged):
                self.events.append((now, what))
            self.judged = message
        elif topic == "episode_end" and isinstance(message, Episode):
            self.last, self.ended_at = message, now
            self.falls += message.ended == "fall"
            if message.ended != "stopped":
                self.ends.append(message.ended)
        elif topic == "episode" and isinstance(message, Episode):
            if message.ended and self.last is not None and message.episode == self.last.episode:
                self.last = message  # its last rewards are known by now
        elif isinstance(message, Process) and message.event == "gone" and message.name in self.gone:
            pass  # known: it is said again for those who come later
        elif isinstance(message, Process):
            self.rescued = message.t if message.event == "off" else self.rescued
            self.gone = self.gone - {message.name} | ({message.name} if message.event == "gone" else set())
            again = f", restart {message.restarts}" if message.restarts else ""
            self.events.append((now, f"{message.name} {message.event} (pid {message.pid}{again}) {message.detail}"))

    def _answer(self, guard: Guard) -> None:
        """Note when a stop that was asked for first shows in the guard's state, or where it changes none, at the driver."""
        waiting = self.stop_pressed is not None and self.stop_answered is None
        drive = self.get("drive", Drive)
        # Of an arm on its way down RELAX was said before the key, and is said of a key that got lost; or PSTOP, where the guard
        # was started again meanwhile. Not while damping: that takes half a second, in which a stop changes nothing, and is
        # longer than ANSWER.
        lowered = guard.state in STOPPED and drive is not None and drive.stop == "stow"
        shows = self._rests() if lowered or guard.state in UNMOVED else guard.state in STOPPED
        if waiting and shows and guard.t >= (self.stop_pressed or 0):
            self.stop_answered = guard.t

    def _rests(self) -> bool:
        """The driver has said since the stop was asked for that torque is off, or that an arm is held on its way down."""
        drive = self.get("drive", Drive)
        if drive is None or not drive.present or drive.t < (self.stop_pressed or 0):  # without its port it only knows no better
            return False
        return drive.stop == "hold" or not drive.torque_on

    def drawn(self, now: int) -> None:
        """A frame of what is known now is on the screen."""
        joints, stream = self.get("joints", Joints), self.stream("episode")
        self.seen_tick = joints.tick if joints else -1
        if stream is not None and isinstance(e := stream.newest, Episode):
            self.frames.append(Frame(now, e.boot, e.episode, e.step - 1, e.tick, bool(e.ended)))

    def frame(self, now: int) -> Frame | None:
        """What was on the screen a reaction's time before now."""
        seen = now - int(self.settings.reaction_s * SECOND)
        return next((frame for frame in reversed(self.frames) if frame.drawn <= seen), None)

    def stream(self, topic: str) -> Stream | None:
        """The topic's stream, of whichever source spoke last."""
        found = [stream for (name, _), stream in self.streams.items() if name == topic]
        return max(found, key=lambda stream: stream.newest.t, default=None)

    def get(self, topic: str, kind: type[M]) -> M | None:
        """The topic's newest message, None before the first."""
        stream = self.stream(topic)
        return stream.newest if stream and isinstance(stream.newest, kind) else None

    def guard(self) -> Guard | None:
        return self.get("guard", Guard)

    def age(self, topic: str, now: int) -> int | None:
        """ns since the topic's newest message was captured, None before the first."""
        stream = self.stream(topic)
        return None if stream is None else max(0, now - stream.newest.t)

    def guard_heard(self, now: int) -> bool:
        age = self.age("guard", now)
        return age is not None and age < GUARD_SILENT

    def driver_heard(self, now: int) -> bool:
        age = self.age("drive", now)
        return age is not None and age < GUARD_SILENT

    @property
    def unkept(self) -> int:
        """Labels of this console that the recorder has not acknowledged: they go with it."""
        return self.labels[0] - self.labels[1]

    def unconfirmed(self) -> bool:
        """Did the driver's last word leave it open whether the motors are off, and nobody has said it since?"""
        drive = self.get("drive", Drive)
        return drive is not None and (drive.torque_on or not drive.powered_off_confirmed) and drive.t > self.rescued


def happened(guard: Guard, before: Guard | None) -> str:
    """What a message of the guard's `cause` stream tells: a new state and what led to it, or causes that came and went."""
    known = set(before.causes) if before is not None else set()
    came = " ".join(id for id in guard.causes if id not in known)
    if guard.trigger:
        more = " ".join(id for id in came.split() if id not in guard.trigger)
        return f"{guard.state}: {guard.trigger}" + (f", also {more}" if more else "")
    gone = " ".join(sorted(known - set(guard.causes)))
    parts = [f"{came} in {guard.state}" if came else "", f"{gone} is over" if gone else ""]
    return ", ".join(part for part in parts if part)


def stop_status(view: View, now: int) -> tuple[str, str, str]:
    """How the motors' power stands: a word, a detail, and a level (good, plain, warn, bad, alarm).

    CONFIRMED is said only of a fresh read-back with the torque off, and never in a state in which torque comes on: the screen may
    not have heard of it yet. A guard that says it stopped is no read-back.
    A PSTOP keeps the torque on, to hold the robot up, and is said to.
    """
    drive, guard = view.get("drive", Drive), view.guard()
    answer = ""
    if view.stop_pressed is not None and view.stop_answered is not None:
        answer = f"; guard answered in {span(view.stop_answered - view.stop_pressed)}"
    elif view.stop_pressed is not None and now - view.stop_pressed > ANSWER:
        waited, heard = f"{span(now - view.stop_pressed)} after SPACE", view.guard_heard(now)
        do = "PRESS SPACE AGAIN, it goes on down" if heard and _sinks(view, now) else "CUT THE MOTOR POWER"
        return "STOP UNCONFIRMED", f"{'no stop' if heard else 'guard silent'} {waited}: {do}", "alarm"
    stopping = guard is None or guard.state in STOPPED or not view.guard_heard(now)
    age = view.age("drive", now)
    if drive is None or age is None or age > GUARD_SILENT:
        return (
            ("STOP UNCONFIRMED" if stopping else "UNKNOWN"),
            f"servo loop silent {span(age)}{answer}",
            "bad",
        )
    read_back = drive.powered_off_confirmed and not drive.torque_on
    if read_back and age <= FRESH and (guard is None or guard.state not in GIVES_TORQUE):
        return "OFF, CONFIRMED", f"torque off, read back from every servo{answer}", "good"
    if guard is not None and guard.state == "LOCKOUT":
        return "STOP UNCONFIRMED", "CUT THE MOTOR POWER", "alarm"
    applied = view.get("applied", Applied)
    driven = applied is not None and applied.writer in ("policy", "reset") and not applied.held
    if guard is not None and guard.state == "PSTOP" and drive.torque_on and not drive.stop and not driven:
        return "HELD, NOT OFF", f"torque on, own goal held{answer}", "warn"
    if drive.stop == "hold":
        return "HELD, NOT OFF", f"on its way down; d lowers it on{answer}", "warn"
    stage = f", stage {drive.stop}" if drive.stop else ""
    if stopping:
        torque = (
            "torque on" if drive.torque_on else f"read back as off {span(age)} ago" if read_back else "torque off, not read back"
        )
        return "STOP UNCONFIRMED", f"{torque}{stage}{answer}", "bad"
    if not drive.torque_on:
        detail = f"read back as off {span(age)} ago; it may come on" if read_back else f"not read back from every servo{stage}"
        return "OFF, UNCONFIRMED", detail, "warn"
    writer = applied.writer if applied is not None and driven else ""
    own = f"the driver's own way to off{stage}" if drive.stop else "the driver holds its own goal"
    return "ON", f"{writer}'s targets go to the wire" if writer else own, "plain"


def _sinks(view: View, now: int) -> bool:
    """An arm is on its way down, which a stop key can hold, and which falls where its power is cut. In LOCKOUT none holds it, nor
    without a manager."""
    drive, guard, age = view.get("drive", Drive), view.guard(), view.age("drive", now)
    fresh = age is not None and age < GUARD_SILENT
    held = guard is not None and guard.state != "LOCKOUT" and "manager_gone" not in guard.causes
    return fresh and drive is not None and drive.stop == "stow" and held


def clean(text: str) -> str:
    """Text from a message, harmless for a terminal: one line, no control characters."""
    return "".join(c if c.isprintable() else "?" for c in text)


def span(ns: int | None) -> str:
    """A duration in at most 7 characters: 12 ms, 3.4 s, 5 min, 30 h."""
    if ns is None:
        return "never"
    if ns < SECOND:
        return f"{ns // 1_000_000} ms"
    for unit, name, digits in ((SECOND, "s", 1), (60 * SECOND, "min", 0)):
        if ns < 100 * unit:
            return f"{ns / unit:.{digits}f} {name}"
    return f"{ns // (3600 * SECOND)} h"
