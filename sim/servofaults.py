"""Faults of single servos on a line: one that is off it, one that answers and does not obey."""

from __future__ import annotations

from collections.abc import Sequence


class ServoFaults:
    """By servo number, each until a time (s of the servos' own clock)."""

    def __init__(self) -> None:
        self._until: dict[tuple[str, int], float] = {}

    def begin(self, kind: str, servo: int, until_s: float) -> None:
        """`kind` is mute or deaf."""
        self._until[kind, servo] = until_s

    def end(self) -> None:
        self._until.clear()

    def mute(self, servo: int, now: float) -> bool:
        """Hears nothing, says nothing: its plug is out."""
        return bool(self._until) and self._until.get(("mute", servo), -1.0) > now

    def deaf(self, servo: int, now: float) -> bool:
        """Answers as if it had done what it was told."""
        return bool(self._until) and self._until.get(("deaf", servo), -1.0) > now


def together(frames: Sequence[bytes]) -> bytes:
    """What a line shows while several speak at once: it is at 1 where all are, and idles at 1."""
    out = bytearray(b"\xff" * max(map(len, frames)))
    for frame in frames:
        for i, byte in enumerate(frame):
            out[i] &= byte
    return bytes(out)
