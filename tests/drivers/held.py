"""A reader that the machine holds up in the midst of a look."""

from __future__ import annotations


class Held:
    """A port whose reader is held up in the middle of a look, so long before or after it took what was there."""

    name = "cam"

    def __init__(self, clock, before, after):
        self.clock, self.before, self.after, self.data = clock, before, after, b""

    def read(self, deadline, limit=4096):
        self.clock.advance(self.before)
        data, self.data = self.data, b""
        self.clock.advance(self.after)
        return data
