"""What a policy sees by: the newest frame of all cameras, and a transition with those of its own moments."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import msgspec
import numpy as np

from robotrl import transitions
from robotrl.agents.actor import Actor
from robotrl.frames import joined
from robotrl.messages import Transition
from robotrl.replay import Cameras


class Glance(NamedTuple):
    """What all cameras saw, one after the other, as a replay takes it, and when each one's frame was exposed, ns."""

    frame: bytes = b""
    taken: tuple[int, ...] = ()


class Gaze:
    """Of one pilot. `eyes` gives what all cameras see now, or None when that is too old to be acted on; their owner sets it.

    `blind`: they gave none when they were last asked. `now` is then what was seen last; dark before anything was.
    """

    def __init__(self, cameras: Cameras) -> None:
        self.cameras = cameras
        self.eyes: Callable[[], Glance | None] | None = None
        self.blind, self.now = False, Glance(bytes(sum(math.prod(shape) for _, *shape in cameras)))  # before all: dark
        self._kept: Transition | None = None  # the newest: its next frame is in no need of being kept again

    def look(self) -> tuple[Glance, Glance]:
        """Look anew: the glance before, and the new one; both empty without cameras."""
        before = self.now
        if self.cameras:
            assert self.eyes is not None, "nobody has given the policy its eyes"
            seen = self.eyes()
            self.blind, self.now = seen is None, seen or before
        return before, self.now

    def picture(self, actor: object) -> tuple[np.ndarray, ...]:
        """The newest frame as this actor takes it, the cameras' channels side by side; nothing for one that sees nothing."""
        if not isinstance(actor, Actor) or not actor.channels or not self.cameras:
            return ()
        return (joined(self.now.frame, self.cameras),)

    def framed(self, made: Transition, glances: tuple[Glance, Glance]) -> Transition:
        """With its frames; without the first where that is the next one of the transition before."""
        if self.cameras:
            before, after = glances
            made = msgspec.structs.replace(made, images_t=before.taken, next_images_t=after.taken)
            self._kept = made = transitions.framed(made, self.cameras, before.frame, after.frame, self._kept)
        return made
