"""Whether a person's hand is on the robot, for who must not go on when it lets go: the policy, and the guard.

A hand that leads and is gone, by its own word or because its program is silent or began anew, is no hand-back: he took over
because the policy did wrong, and nobody is there to take over again. The policy then asks for nothing (the gate holds its goal),
and the guard ends the session as a pause does (`nodes/guard.py`): HOLD, until a person presses run.
"""

from __future__ import annotations

from robotrl.messages import Teleop

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
