"""What a policy sees by: the newest frame of all cameras, and a transition with those of its own moments."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from robotrl import transitions
from robotrl.agents.actor import Actor
from robotrl.frames import joined
from robotrl.messages import Transition
from robotrl.replay import Cameras


class Gaze:
    """Of one pilot. `eyes` gives what all cameras see now, one after the other, as a replay takes it; their owner sets it."""

    def __init__(self, cameras: Cameras) -> None:
        self.cameras = cameras
        self.eyes: Callable[[], bytes] | None = None
        self._frame = b""
        self._kept: Transition | None = None  # the newest: its next frame is in no need of being kept again

    def look(self) -> tuple[bytes, bytes]:
        """Look anew: the frame before, and the new one; both empty without cameras."""
        before = self._frame
        if self.cameras:
            assert self.eyes is not None, "nobody has given the policy its eyes"
            self._frame = self.eyes()
        return before, self._frame

    def picture(self, actor: object) -> tuple[np.ndarray, ...]:
        """The newest frame as this actor takes it, the cameras' channels side by side; nothing for one that sees nothing."""
        if not isinstance(actor, Actor) or not actor.channels:
            return ()
        return (joined(self._frame, self.cameras),)

    def framed(self, made: Transition, frames: tuple[bytes, bytes]) -> Transition:
        """With its frames; without the first where that is the next one of the transition before."""
        if self.cameras:
            self._kept = made = transitions.framed(made, self.cameras, *frames, self._kept)
        return made
