"""Whether a person's hand is on the robot, for who must not go on when it lets go: the policy, and the guard.

A hand that leads and is gone, by its own word or because its program is silent or began anew, is no hand-back: he took over
because the policy did wrong, and nobody is there to take over again. The policy then asks for nothing (the gate holds its goal),
and the guard ends the session (the cause `hand_gone`): HOLD, until a person presses run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from robotrl.messages import Teleop

if TYPE_CHECKING:
    from robotrl.safety.guard import Outputs

SILENT_NS = 100_000_000  # five of its messages: as long as an action may stay away (safety facts, row 23)


class Grip:
    """One judgement a cycle. `gone`: why nobody leads any more though nobody handed back, until the next lease."""

    def __init__(self) -> None:
        self.gone = ""
        self._epoch = -1
        self._led = False

    def look(self, hand: Teleop | None, now: int, epoch: int) -> bool:
        """True while a person leads under the lease `epoch`; `hand` is his newest word, `now` ns."""
        if epoch != self._epoch:
            self._epoch, self._led, self.gone = epoch, False, ""
        if hand is None or hand.epoch != epoch or now - hand.t > SILENT_NS:
            self.gone = self.gone or ("its program is silent" if self._led else "")
        else:
            self.gone = self.gone or hand.lost
            self._led = hand.active
        return self._led and not self.gone


class Held:
    """The guard's grip: whether a person leads under the policy's lease, and whether his hand is `gone`; `why` it last was."""

    def __init__(self) -> None:
        self.gone, self.why = False, ""
        self._grip = Grip()
        self._word: Teleop | None = None

    def hear(self, word: Teleop) -> None:
        self._word = word

    def look(self, now: int, last: Outputs | None) -> bool:
        """True while he leads, `last` being the guard's last word; of another lease's hand nothing follows."""
        self.gone = False
        if last is None or last.holder != "policy":
            return False
        led = self._grip.look(self._word, now, last.epoch)
        self.gone, self.why = bool(self._grip.gone), self._grip.gone
        return led
