"""A person in the policy's place: his device read 50 times a second, his two keys, and a word on whether he leads.

`Hand` is the thinking, pure of the bus; the rehearsal drives the same. It only says what the person wants (`messages.Teleop`): a
pilot makes an action of it under the policy's lease, and the gate judges that as any other. There is one writer, so no command of
the policy's can cross one of his. Imports no torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from robotrl import config
from robotrl.clock import Clock
from robotrl.drivers.teleop import Reading, Teleoperator, opened
from robotrl.messages import KEY_NS, Applied, Operator, Permit, Teleop
from robotrl.node import Node

AGAIN_NS = 1_000_000_000  # a device that is gone is looked for so often
PERIOD_NS = 20_000_000
WORDS = 120  # letters of what a device complains of: a message has its bounds


class Hand:
    """Who leads. `hear` the operator's keys, and `cycle` once a period."""

    def __init__(self, run: config.Run, clock: Clock, open_device: Callable[[], Teleoperator], moving: int) -> None:
        """`moving`: the first so many joints are those that are led."""
        self.run, self._clock, self._open, self._moving = run, clock, open_device, moving
        self._device: Teleoperator | None = None
        self._trouble, self._again = "", clock.now()
        self._asked: list[str] = []  # take, give
        self._active, self._epoch, self._lost, self._note = False, -1, "", ""

    def hear(self, key: Operator) -> None:
        """What the operator's console said; nobody else's keys are obeyed. One that waited while this process slept only hands
        back: who pressed it may stand elsewhere now."""
        if key.source != "console":
            return
        late = self._clock.now() - key.t > KEY_NS
        if key.command == "give" or (key.command == "take" and not late):
            self._asked.append(key.command)
        elif key.command == "take":
            self._note = "not taken over: the key came too late, press it again"
        if self._device is not None and not late:
            jog = chr(int(key.value)) if key.command == "jog" and 0x20 < key.value < 0x7F else ""
            self._device.hear(jog, self._clock.now())

    def cycle(self, permit: Permit | None, applied: Applied | None) -> Teleop:
        """One look at the device, and what follows for who leads."""
        now, reading = self._clock.now(), self._read()
        lease = permit.epoch if permit is not None and permit.state == "RUN" and permit.holder == "policy" else -1
        if lease != self._epoch:
            if self._active:
                self._note = "the episode is over, and so is this"
            self._active, self._lost, self._epoch = False, "", lease
        if self._active and reading is None:
            self._active, self._lost = False, self._trouble
            self._note = f"GONE: {self._trouble}"
        asked, self._asked = self._asked, []
        for word in asked:
            self._obey(word, reading, applied)
        top, turn = self.run.takeover.speed_m_s, self.run.takeover.turn_rad_s
        twist = () if reading is None else tuple(v * (top if i < 3 else turn) for i, v in enumerate(reading.twist))
        return Teleop(
            source="teleop", t=now, device=self.run.takeover.device, active=self._active, epoch=self._epoch, twist=twist,
            angles=reading.angles if reading is not None else (), lost=self._lost, note=self._note,
            moved=reading is not None and reading.moved,
        )  # fmt: skip

    def close(self) -> None:
        if self._device is not None:
            self._device.close()
            self._device = None

    def _read(self) -> Reading | None:
        """The device's word; None while it is gone, why is in `_trouble`."""
        now = self._clock.now()
        try:
            if self._device is None:
                if now < self._again:
                    return None
                self._device = self._open()
            reading = _sound(self._device.read(now))
            self._trouble = ""
            return reading
        except Exception as error:  # a plug-in may raise whatever it likes: it ends the intervention, and not this process
            self._trouble = " ".join(str(error).split())[:WORDS] or type(error).__name__
            self._again = now + AGAIN_NS
            self.close()
            return None

    def _obey(self, word: str, reading: Reading | None, applied: Applied | None) -> None:
        if word == "give":
            self._note = "handed back: the policy leads" if self._active else "nothing to hand back: you do not lead"
            self._active = False
        elif self._active:
            self._note = "you lead already"
        elif why := self._hindrance(reading, applied):
            self._note = f"not taken over: {why}"
        else:
            self._active, self._note = True, f"you lead, by {self.run.takeover.device}"

    def _hindrance(self, reading: Reading | None, applied: Applied | None) -> str:
        if self._epoch < 0:
            return "the policy does not drive now (RUN)"
        if self._lost:
            return "the policy waits for a key after your device was gone: press r"
        if reading is None:
            return self._trouble
        if not reading.angles:
            return ""
        if applied is None:
            return "nothing is known of the arm yet"
        names, most = self.run.robot.servos.joints, self.run.takeover.match_rad
        pairs = zip(names, reading.angles[: self._moving], applied.target, strict=False)
        far = [f"{name} by {angle - at:+.2f}" for name, angle, at in pairs if abs(angle - at) > most]
        return f"bring the leader to where the arm is: {', '.join(far)} rad" if far else ""


def _sound(reading: Reading) -> Reading:
    """As it is, if it is one: six shares, or finite angles. ValueError for what no hand can have meant."""
    if len(reading.twist) != 6 or not all(-1.0 <= v <= 1.0 for v in reading.twist):
        raise ValueError(f"the device says {reading.twist}: six shares of the top speed were expected")
    if not all(-100.0 < v < 100.0 for v in reading.angles):
        raise ValueError("the device says angles that are none")
    return reading


def hand_of(run: config.Run, clock: Clock, open_device: Callable[[], Teleoperator] | None = None) -> Hand:
    """With the run's device, or another one."""
    from robotrl.serialarm import ARMS

    return Hand(run, clock, open_device or (lambda: opened(run, clock)), ARMS[run.robot.kind].moving)


def main(argv: list[str]) -> int:
    node = Node(Path(argv[0]), "teleop")
    hand = hand_of(node.run, node.clock)
    keys, permits, applied = (node.bus.subscriber(topic) for topic in ("operator", "permit", "applied"))
    words = node.bus.publisher("teleop")
    node.hurry(9)
    newest, said = None, ""
    for _ in node.every(PERIOD_NS):
        for key in keys.drain():
            hand.hear(key)
        newest = (applied.drain() or [newest])[-1]
        word = hand.cycle(permits.latest(), newest)
        words.send(word)
        if word.note != said:
            said = word.note
            node.say(said)
        node.beat()
    hand.close()
    node.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
