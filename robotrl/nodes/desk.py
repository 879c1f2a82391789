"""The operator's desk: what a key says, and the console's ends of the bus, here or on another machine."""

from __future__ import annotations

import os

import msgspec

from robotrl.bus import Bus, BusError, Subscriber
from robotrl.logformat import Kind
from robotrl.messages import Ack, Label, Operator
from robotrl.nodes.outbox import Outbox
from robotrl.nodes.view import SECOND, View
from robotrl.remote import Remote, RemoteSubscriber

LEAVE_WITHIN = 2 * SECOND
TOPICS_SHOWN = (
    "joints", "applied", "drive", "imu", "pose", "action", "permit", "guard", "cause", "episode",
    "episode_end", "learner", "reset", "process", "beat", "ack",
)  # fmt: skip
COMMANDS = {
    "e": "enable", "r": "run", " ": "stop", "\x03": "stop", "\x1c": "stop", "c": "clear", "p": "pause",
    "R": "reset", "d": "disable", "+": "good", "=": "good", "-": "bad",
}  # fmt: skip
NAMES = {" ": "SPACE", "\x03": "Ctrl-C", "\x1c": "Ctrl-\\"}


def press(key: str, view: View, now: int) -> Operator | None:
    """What a key says to the guard, None for a key of the screen's own. It changes nothing but `view`."""
    view.last_human = now
    if key == "q":
        view.leaving = view.leave_asked is not None and now - view.leave_asked < LEAVE_WITHIN
        view.leave_asked = now
        return None
    view.leave_asked = None
    if key == "?":
        view.help = not view.help
        return None
    command = COMMANDS.get(key)
    if command is None:
        view.keys.append((now, key, "is no key"))
        return None
    view.last_press = max(now, view.last_press + 1)  # unique over consoles too: monotonic time never repeats
    view.keys.append((now, NAMES.get(key, key), command))
    if command == "stop":
        view.stop_pressed, view.stop_answered = now, None
    elif command in ("clear", "enable", "run"):
        view.stop_pressed = None
    guard = view.guard()
    nonce = guard.nonce if guard else 0
    return Operator(command=command, press=view.last_press, nonce=nonce, seen_tick=view.seen_tick)


def label(operator: Operator) -> Label | None:
    """The reward in a good or bad key, bound to the tick that was on the screen; None for other commands."""
    value = {"good": 1.0, "bad": -1.0}.get(operator.command)
    return None if value is None else Label(press=operator.press, value=value, tick=operator.seen_tick)


def beat(view: View, now: int) -> Operator:
    """The heartbeat: `value` is the time since a human last pressed a key, s."""
    guard = view.guard()
    idle, nonce = (now - view.last_human) / SECOND, guard.nonce if guard else 0
    return Operator(command="beat", press=0, nonce=nonce, value=idle, seen_tick=view.seen_tick, pid=os.getpid())


class Link:
    """The console's end of the bus: all that is shown comes in, keys and beats go out."""

    def __init__(self, bus: Bus | Remote) -> None:
        self.bus, self.clock = bus, bus.clock
        try:
            self.operator, labels = bus.publisher("operator"), bus.publisher("label")
            self.giver = int.from_bytes(os.urandom(6), "big") | 1
            self.labels: Outbox[Label] = Outbox(labels, self.clock, Kind.LABEL, "console", self.giver)
            self.subscribers: list[Subscriber | RemoteSubscriber] = [bus.subscriber(topic) for topic in TOPICS_SHOWN]
            self.guard = next(s for s in self.subscribers if s.topic == "guard")
        except BusError:
            self.bus.close()
            raise

    def read(self, view: View) -> None:
        """Bring `view` up to date; never waits."""
        for subscriber in self.subscribers:
            self._take(subscriber, view)
        self.labels.tend(view.get("ack", Ack), self.clock.now())
        view.labels = (self.labels.given, self.labels.acked)

    def listen(self, view: View) -> None:
        """The guard's newest word alone: its nonce and its answer to a key."""
        self._take(self.guard, view)

    def _take(self, subscriber: Subscriber | RemoteSubscriber, view: View) -> None:
        for message in subscriber.drain():
            view.receive(subscriber.topic, message, self.clock.now())

    def obey(self, key: str, view: View) -> None:
        """Send what the key says, at once."""
        command = press(key, view, self.clock.now())
        if command is not None:
            self.operator.send(command)
            if (reward := label(command)) is not None:
                self.labels.keep(msgspec.structs.replace(reward, giver=self.giver))
                view.labels = (self.labels.given, self.labels.acked)

    def guard_speaks(self, view: View, within_ns: int) -> bool:
        """Wait for the guard's first word, at most `within_ns`."""
        deadline = self.clock.now() + within_ns
        while view.guard() is None and (left := deadline - self.clock.now()) > 0:
            self.bus.wait([self.guard], left / SECOND)  # type: ignore[list-item]  # each bus makes the readers it waits for
            self.read(view)
        return view.guard() is not None

    def close(self) -> None:
        self.bus.close()
