"""Which way a joint goes, in words, for the person who is to see it: an encoder turns with its motor and cannot tell.

Words depend on how the robot lies: the same turn lifts an upper arm that lies folded back and lowers one that points ahead.
"""

from __future__ import annotations

# By kind, each joint in the order of its servos: when its angle grows, when it shrinks. An arm lies in its stow pose, D'Kitty's
# legs hang straight down.
_BACK_AND_FORTH = ("its far end back", "its far end forwards")
WAYS: dict[str, tuple[tuple[str, str], ...]] = {
    "minitaur": (("its upper link towards the feet", "its upper link away from the feet"),) * 8,
    "so101": (
        ("the hand to the right", "the hand to the left"),
        ("its far end up", "its far end down"),
        ("its far end down", "its far end up"),
        ("the hand back and down", "the hand forwards and up"),
        ("anticlockwise, seen from behind the hand", "clockwise, seen from behind the hand"),
        ("open", "shut"),
    ),
    "omx": (
        ("anticlockwise, seen from above", "clockwise, seen from above"),
        ("its far end up", "its far end down"),
        ("its far end down", "its far end up"),
        ("the hand forwards", "the hand back"),
        ("open", "shut"),
    ),
    "dkitty": (("the foot to the left", "the foot to the right"), _BACK_AND_FORTH, _BACK_AND_FORTH) * 4,
}


def way_of(kind: str, joint: int, way: int) -> str:
    """Where joint number `joint` goes, 1: when its angle grows, -1: when it shrinks."""
    grows, shrinks = WAYS[kind][joint]
    return grows if way > 0 else shrinks
