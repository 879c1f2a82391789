"""The operator's desk: what a key says, and the console's ends of the bus, here or on another machine."""

from __future__ import annotations

import contextlib
import os

import msgspec

from robotrl.bus import Bus, BusError, Subscriber
from robotrl.logformat import Kind
from robotrl.messages import Ack, Drive, Label, Operator, Teleop
from robotrl.nodes.keys import BACKSPACE, ENTER, NO_KEY, STOP_KEYS
from robotrl.nodes.labelling import label, remember
from robotrl.nodes.outbox import AFAR, BURST, Outbox
from robotrl.nodes.repeats import HELD_NS
from robotrl.nodes.view import SECOND, Said, View
from robotrl.remote import Remote, RemoteSubscriber
from robotrl.roles import HANDS
from robotrl.topics import VIEWERS

LEAVE_WITHIN = 2 * SECOND
FOUND_NS, AGAIN_NS = SECOND // 2, SECOND // 20  # until every hearer has found a new socket; how often a stop is said meanwhile
TOPICS_SHOWN = (
    "joints", "applied", "drive", "imu", "pose", "action", "permit", "guard", "cause", "episode",
    "episode_end", "learner", "classifier", "reset", "process", "beat", "ack", "teleop",
)  # fmt: skip
COMMANDS = {
    "e": "enable", "r": "run", " ": "stop", "\x03": "stop", "\x1c": "stop", "c": "clear", "p": "pause",
    "R": "reset", "d": "disable", "+": "good", "=": "good", "-": "bad", "h": "hold", "s": "success", "f": "fail",
    "S": "last success", "F": "last fail", "N": "last no", "x": "end", "m": "mark", "u": "undo", "U": "undo seconds",
    "o": "take", "b": "give", **dict.fromkeys("12346789", "jog"),
}  # fmt: skip
RELABEL = ("last success", "last fail", "last no")
SAID = {**dict.fromkeys(RELABEL, "relabel"), "undo seconds": "undo"}  # on the bus; all others by their own names
NAMES = {" ": "SPACE", "\x03": "Ctrl-C", "\x1c": "Ctrl-\\", ENTER: "ENTER", BACKSPACE: "BACKSPACE"}
LABELS = {"good", "bad", "hold", "success", "fail", *RELABEL, "end", "mark", "note", "undo", "undo seconds"}
LESS = {"stop", "pause", "disable"}  # motion
ONCE = {"enable", "run", "reset", "clear", "take"}  # of a key that repeats itself only the first press says these
LONGEST = 200  # letters of a note


def press(key: str, view: View, now: int) -> Operator | None:
    """What a key says to the guard, None for a key of the screen's own. It changes nothing but `view`."""
    if key == NO_KEY:  # no word of a person's: a terminal sends by itself what it may be taken from
        _once(key, "is no key", view, now)
        return None
    view.repeats.strike(key, now)
    if not view.repeats.lies:
        view.last_human = now
    if key == "q" and view.typed is None:
        view.leaving = view.leave_asked is not None and now - view.leave_asked < LEAVE_WITHIN
        view.leave_asked = now
        return None
    view.leave_asked = None
    if view.typed is not None and key not in STOP_KEYS:
        return _written(key, view, now)
    if key in "?tTn" and not (view.watching and key == "n"):
        _own(key, view, now)
        return None
    command = COMMANDS.get(key)
    if command is None:
        view.keys.append((now, NAMES.get(key, key), "is no key"))
        return None
    if view.watching and command != "stop":
        why = "your key is a viewer's" if view.afar else "another console supervises"
        view.keys.append((now, NAMES.get(key, key), f"does nothing: {why}, only SPACE acts here"))
        return None
    if _held_down(command, view):
        _once(NAMES.get(key, key), "is held down: let go, then press it", view, now)
        return None
    if command in HANDS and (why := _no_hand(view, command)):
        view.keys.append((now, key, why))
        return None
    return _said(command, NAMES.get(key, key), view, now)


def _once(key: str, said: str, view: View, now: int) -> None:
    """On the line of the keys, where it is not the last thing there: one that is held down is said once."""
    if not view.keys or view.keys[-1][1:] != (key, said):
        view.keys.append((now, key, said))


def _held_down(command: str, view: View) -> bool:
    """A press that only repeats one before, and may not act again: what has been stopped or ended since would go on by it."""
    repeats, stopped, drive = view.repeats, view.stop_pressed, view.get("drive", Drive)
    if command == "disable":  # to less power, but an arm that a stop key holds, this console's or another's, goes down by it
        if drive is not None and drive.stop == "hold":
            return repeats.gap < HELD_NS  # its first repeat comes so late
        return repeats.again and stopped is not None and repeats.since <= stopped
    return (repeats.again and command in ONCE) or (repeats.lies and command == "jog")


def _no_hand(view: View, command: str) -> str:
    """Why this key leads nothing here; empty where it may."""
    if view.afar:
        return "does nothing: the robot is led by hand at its own computer alone"
    hand = view.get("teleop", Teleop)
    if hand is None:
        return "does nothing: this run has no takeover.device (docs/takeover.md)"
    just = any(did == "take" and view.last_human - when < SECOND for when, _, did in view.keys)  # the answer is under way
    return "leads nothing now: o takes over" if command == "jog" and not (hand.active or just) else ""


def _said(command: str, key: str, view: View, now: int) -> Operator:
    view.last_press = max(now, view.last_press + 1)  # unique over consoles too: monotonic time never repeats
    _once(key, command, view, now) if command == "jog" else view.keys.append((now, key, command))
    if command == "stop":
        view.stop_pressed, view.stop_answered = now, None
    elif command in ("clear", "enable", "run") and view.stop_answered is not None:  # the alarm of one never heard stands
        view.stop_pressed = None
    guard = view.guard()
    nonce = guard.nonce if guard else 0
    return Operator(command=command, press=view.last_press, nonce=nonce, seen_tick=view.seen_tick,
                    value=float(ord(key)) if command == "jog" else 0.0)  # fmt: skip


def _own(key: str, view: View, now: int) -> None:
    """A key of the screen's own."""
    if key == "?":
        view.help = not view.help
    elif key == "n":
        view.typed = ""
    else:
        view.tested = True
        caps = "; Caps Lock is on, and swaps r and R" if key == "T" else ""
        view.keys.append((now, key, f"arrives: the keyboard works{caps}"))


def _written(key: str, view: View, now: int) -> Operator | None:
    """A letter of a note; the key that ends it. SPACE stays the stop, so words are joined by `_`."""
    assert view.typed is not None
    if key == ENTER:
        if view.typed:
            return _said("note", "n", view, now)
        view.typed = None
        return None
    view.typed = view.typed[:-1] if key == BACKSPACE else (view.typed + key)[:LONGEST]
    return None


def beat(view: View, now: int) -> Operator:
    """The heartbeat: `value` is the time since a human last pressed a key, s."""
    guard = view.guard()
    idle, nonce = (now - view.last_human) / SECOND, guard.nonce if guard else 0
    return Operator(command="beat", press=0, nonce=nonce, value=idle, seen_tick=view.seen_tick, pid=os.getpid())


class Link:
    """The console's end of the bus: all that is shown comes in, keys and beats go out."""

    def __init__(self, bus: Bus | Remote) -> None:
        """BusError where there are too many consoles. Where one supervises already, this is a viewer until it leaves."""
        self.bus, self.clock = bus, bus.clock
        self._beside, self.giver = False, 0
        self._stop: Operator | None = None  # one that nobody may have heard: this speaks through a new socket
        self._said_at, self._changed = 0, -FOUND_NS  # when it was said last, and this changed seats
        try:
            if not self._speak():
                self._watch()
        except BusError:
            bus.close()
            raise
        try:
            self.subscribers: list[Subscriber | RemoteSubscriber] = [bus.subscriber(topic) for topic in TOPICS_SHOWN]
            self.guard = next(s for s in self.subscribers if s.topic == "guard")
        except BusError:
            self.close()
            raise

    @property
    def watching(self) -> bool:
        """Its word counts only to stop: another console supervises, or its key is no console's. It sends no beats."""
        return self.bus.welcome.role != "console" if isinstance(self.bus, Remote) else self._beside

    def _speak(self) -> bool:
        """As the console that supervises, if nobody on this machine does."""
        mouth = self.bus if isinstance(self.bus, Remote) else Bus(self.bus.directory, "console", self.clock)
        try:
            operator, labels = mouth.publisher("operator"), mouth.publisher("label")
        except BusError:
            mouth.close()
            return False
        self._mouth, self.operator = mouth, operator
        if self.giver:  # it has supervised before: what is not acknowledged is sent on
            self.labels.publisher = labels
            return True
        self.giver = int.from_bytes(os.urandom(6), "big") | 1
        burst = AFAR if isinstance(mouth, Remote) else BURST
        self.labels: Outbox[Label] = Outbox(labels, self.clock, Kind.LABEL, "console", self.giver, burst=burst)
        return True

    def _watch(self) -> None:
        """As one beside it, whose word counts only to stop. BusError where there are too many."""
        assert isinstance(self.bus, Bus)
        for name in VIEWERS:
            mouth = Bus(self.bus.directory, name, self.clock)
            try:
                self.operator = mouth.publisher("operator")
            except BusError as error:
                mouth.close()
                taken = error
            else:
                self._mouth, self._beside = mouth, True
                return
        raise taken

    def promote(self) -> bool:
        """Supervise, if nobody does any more."""
        if not self._beside:
            return False
        before = self._mouth
        if not self._speak():
            return False
        self._beside, self._changed = False, self.clock.now()
        before.close()
        return True

    def retire(self) -> None:
        """Supervise no more: whoever else is at a console may. Not where there are too many to watch, and not afar: by the door
        several may supervise."""
        if self._beside or isinstance(self.bus, Remote):
            return
        before = self._mouth
        with contextlib.suppress(BusError):
            self._watch()
            self._changed = self.clock.now()
            before.close()

    def read(self, view: View) -> None:
        """Bring `view` up to date; never waits."""
        for subscriber in self.subscribers:
            self._take(subscriber, view)
        view.watching = self.watching
        if not self.watching:
            self.labels.tend(view.get("ack", Ack), self.clock.now())
            view.labels = (self.labels.given, self.labels.acked)

    def listen(self, view: View) -> None:
        """The guard's newest word alone: its nonce and its answer to a key. A stop that nobody may have heard is said again."""
        self._take(self.guard, view)
        now = self.clock.now()
        if view.stop_answered is not None or now - self._changed >= FOUND_NS:
            self._stop = None
        if self._stop is not None and now - self._said_at >= AGAIN_NS:
            self.operator.send(self._stop)
            self._said_at = now

    def _take(self, subscriber: Subscriber | RemoteSubscriber, view: View) -> None:
        for message in subscriber.drain():
            view.receive(subscriber.topic, message, self.clock.now())

    def obey(self, key: str, view: View) -> None:
        """Send what the key says, at once."""
        command = press(key, view, now := self.clock.now())
        if command is None:
            return
        if not view.repeats.lies or command.command in LESS:  # whatever key the guard hears of is a person to it
            self.operator.send(msgspec.structs.replace(command, command=SAID.get(command.command, command.command)))
        if command.command not in LABELS:  # any other key comes behind the stop, and is not to be stopped by it
            self._stop, self._said_at = command if command.command == "stop" else None, now
        if command.command in LABELS:
            self._label(command, view, now)

    def _label(self, key: Operator, view: View, now: int) -> None:
        """Give the label that the key stands for, and say what came of it."""
        given = label(key.command, key.press, view, now)
        when, name, _ = view.keys.pop()
        view.typed = None
        if isinstance(given, str):
            if given:  # a key that is held says nothing new until the next frame
                view.keys.append((when, name, given))
            return
        self.labels.keep(msgspec.structs.replace(given, giver=self.giver))
        numbered = msgspec.structs.replace(given, giver=self.giver, number=self.labels.given)
        view.keys.append((when, name, remember(view, numbered, now)))
        if key.command == "hold":
            view.held = Said(now, numbered.number, numbered)
        view.labels = (self.labels.given, self.labels.acked)

    def guard_speaks(self, view: View, within_ns: int) -> bool:
        """Wait for the guard's first word, at most `within_ns`."""
        deadline = self.clock.now() + within_ns
        while view.guard() is None and (left := deadline - self.clock.now()) > 0:
            self.bus.wait([self.guard], left / SECOND)  # type: ignore[list-item]  # each bus makes the readers it waits for
            self.read(view)
        return view.guard() is not None

    def close(self) -> None:
        if self._mouth is not self.bus:
            self._mouth.close()
        self.bus.close()
