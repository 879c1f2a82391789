"""The gateway: the one process that speaks with other machines, and only in a run that says `network.listen`. Imports no torch.

What the robot says goes out through the door (`robotrl/door.py`) to whoever was let in; what a peer may say comes in and is said
on the bus under this node's name, with the peer's role as the door knows it. A peer's clock is not ours: what it sends counts
from its arrival, and a console's word must answer a nonce of the guard's that is hardly older than a screen.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec
import zmq

from robotrl import aloud, keyring, node
from robotrl.bus import Bus
from robotrl.complaint import Complaint
from robotrl.config import Run
from robotrl.door import Door, NoAddress, Received
from robotrl.greeting import Shown
from robotrl.messages import Guard, Operator
from robotrl.nodes.view import absent
from robotrl.roles import ASKED, READ
from robotrl.rundir import of_twin
from robotrl.topics import CAMERAS

PERIOD_NS = 20_000_000  # of what goes out; what comes in is passed on at once
FRESH_NS = (
    3_000_000_000  # the guard makes a new nonce each second: a console's word with an older one has been under way too long
)
LOOK_NS = 1_000_000_000  # how often it looks who may still come in
SAY_NS = 10_000_000_000  # how often the log tells of what was refused
TRY_NS = 500_000_000  # between two tries to listen at an address that is not there; chosen

Stamp = list[tuple[str, int, int, int, int, int]]


class Authorised:
    """Who may come in, read again when their files have changed: a key is taken away from a run that goes on.

    `complaint`: why nobody may now; empty while their files are believed.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stamp: Stamp | None = self._look()
        self.complaint = ""

    def changed(self) -> list[keyring.Key] | None:
        """All who may, if that is not as it was. Nobody, when a file among them cannot be believed: that is said by Complaint."""
        stamp = self._look()
        if stamp == self._stamp:
            return None
        self._stamp = None  # until they are believed it looks again each time: whatever was mended, it is heard of
        known = keyring.listed(self._directory)
        self._stamp = stamp
        return known

    def _look(self) -> Stamp:
        """Of the folder and each file what a change of it changes; whose it is and who may read it, too."""
        folder = self._directory / "authorised"
        try:
            found = [(path.name, path.lstat()) for path in (folder, *folder.glob("*.json"))]
        except OSError:  # removed under our eyes: another look will say
            return []
        return sorted((name, s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_mode, s.st_uid) for name, s in found)


class Gateway:
    """Door on one side, bus on the other. `stale`: words of consoles that came too late."""

    def __init__(
        self, bus: Bus, door: Door, cameras: Collection[str] = (), suspended: Callable[[], bool] = lambda: False
    ) -> None:
        """`cameras`: those of the run, by their places on the bus. `suspended`: was the machine, since this was last asked?"""
        self.bus, self.door, self.clock, self._suspended = bus, door, bus.clock, suspended
        self._mine = {topic: bus.publisher(topic) for topic in ("operator", "label", "action")}
        self._theirs = [bus.subscriber(topic, sources=cameras if topic == "image" else None) for topic in READ]
        self._pictures = [bus.subscriber(topic, sources=cameras) for topic in ASKED]
        self._nonces: dict[int, int] = {}  # of the guard's, with when each was first heard
        self._encode = msgspec.msgpack.Encoder().encode
        self.stale = 0
        self.delivered: Counter[str] = Counter()  # by topic

    def turn_out(self) -> None:
        """What the robot has said since the last call goes to the peers."""
        for subscriber in self._theirs:
            for message in subscriber.drain():
                if subscriber.topic == "guard":
                    self._hear(message)
                self.door.send(subscriber.topic, self._encode(message))
        for subscriber in self._pictures:
            newest = {message.source: message for message in subscriber.drain()}
            for source, message in newest.items():
                if self.door.wanted(subscriber.topic, source):
                    self.door.show(subscriber.topic, source, self._encode(message))

    def turn_in(self) -> None:
        """What peers have said goes to the robot."""
        come = self.door.receive()
        if self._suspended():  # nothing has aged by our clock: what answers a word from before it is out of date all the same
            self._nonces = dict.fromkeys(self._nonces, self.clock.now() - FRESH_NS)
        for received in come:
            if self.fresh(received):
                self._deliver(received)
            else:
                self.stale += 1

    def fresh(self, received: Received) -> bool:
        """A stop always; any other word of a console when the nonce in it is a recent one."""
        message = received.message
        if not isinstance(message, Operator) or message.command == "stop":
            return True
        return self.clock.now() - self._nonces.get(message.nonce, -FRESH_NS) < FRESH_NS

    def _hear(self, guard: Guard) -> None:
        now = self.clock.now()
        if guard.nonce not in self._nonces:
            self._nonces = {nonce: heard for nonce, heard in self._nonces.items() if now - heard < FRESH_NS}
            self._nonces[guard.nonce] = now

    def _deliver(self, received: Received) -> None:
        message = msgspec.structs.replace(received.message, t=0, valid_ns=0)
        if isinstance(message, Operator):  # a process number of another machine is nobody's here
            message = msgspec.structs.replace(message, role=received.peer.role, pid=0)
        self._mine[received.topic].send(message)  # first: a full disk takes no line, and must not take a stop
        self.delivered[received.topic] += 1
        if isinstance(message, Operator) and message.command != "beat":
            aloud.say(f"{self.clock.now()} {received.peer.name} ({received.peer.role}): {message.command}")

    def told(self) -> str:
        """What was refused until now, in a line."""
        return " ".join(f"{why} {count}" for why, count in sorted((self.door.refused + Counter(stale=self.stale)).items()))


def main(argv: list[str]) -> int:
    own = node.Node(Path(argv[0]), "gateway")
    network = own.run.network
    folder = Path(network.keys).expanduser()
    authorised = Authorised(folder)  # looks before they are read: what changes in between is seen
    try:
        keys = keyring.load(folder)
        told = shown(own.run, of_twin(own.directory))
        door = opened(own, lambda: Door(network.listen, keys, own.clock, network.motion, network.rate_hz, shown=told))
    except Complaint as error:
        return own.refuse(error)
    if door is None:
        own.close()
        return 0
    who = ", ".join(f"{key.name} ({key.role})" for key in keys.authorised.values())
    own.say(f"listening at {door.address} for {who}" + (" of this machine alone" if door.loopback else ""))
    serve(own, Gateway(own.bus, door, CAMERAS[: len(own.run.robot.cameras)], own.suspended), authorised)
    door.close()
    own.close()
    return 0


def opened(own: node.Node, door: Callable[[], Door]) -> Door | None:
    """The door. An address that is not there is waited for: with a machine's start it may come later than its run, which is not
    to end for it. None when told to end meanwhile; BusError when it cannot be had."""
    said = False
    for _ in own.every(TRY_NS):
        try:
            return door()
        except NoAddress as error:
            if not said:
                own.say(f"{error}; it is looked for, and nobody comes in before it is there")
            said = True
    return None


def shown(run: Run, twin: bool = False) -> Shown:
    robot, agent, keys = run.robot, run.agent, dataclasses.asdict(run.operator)
    limits = robot.limits.temp_c, robot.servos.board_c
    return Shown(*limits, agent.random_steps, agent.learn_after, agent.updates_per_step, keys, absent(run), twin)


def renew(own: node.Node, door: Door, authorised: Authorised) -> None:
    """Let in who may now. Files that cannot be believed let nobody in: what the person meant is not known."""
    try:
        known = authorised.changed()
    except Complaint as error:
        if str(error) == authorised.complaint:
            return
        own.say(f"{error}; until then nobody may come in")
        authorised.complaint, known = str(error), []
    else:
        if known is None:
            return
        authorised.complaint = ""
    door.authorise(keyring.authorised(known))
    who = ", ".join(f"{key.name} ({key.role})" for key in known)
    aloud.say(f"{own.clock.now()} may come in: {who or 'nobody'}")


def serve(own: node.Node, gateway: Gateway, authorised: Authorised) -> None:
    """Until told to stop. A word of a peer's wakes us; the robot's words go out once a period."""
    due = say = look = own.clock.now()
    said = ""
    while not own.over():
        poller = zmq.Poller()  # anew: a cut has made another socket
        for socket in (gateway.door.socket, gateway.door.zap):
            poller.register(socket, zmq.POLLIN)
        poller.poll(max(0, due - own.clock.now()) // 1_000_000)
        gateway.turn_in()
        now = own.clock.now()
        if now >= due:
            due = max(due + PERIOD_NS, now)
            gateway.turn_out()
        if now >= look:
            look = now + LOOK_NS
            renew(own, gateway.door, authorised)
        if now >= say and gateway.told() != said:
            say, said = now + SAY_NS, gateway.told()
            aloud.say(f"{now} refused: {said}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
