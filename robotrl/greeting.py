"""What passes between the network door (`door.py`) and who knocks (`remote.py`) beside the bus's messages: greeting and asking.

One frame a message: a word or a topic's name, a zero byte, msgpack. `want` asks for the next of what goes only to who asks.
"""

from __future__ import annotations

import msgspec

from robotrl.topics import TOPICS

LIMIT = 8192 + 64  # bytes of a frame: the largest topic's message, its name, and the 33 that CURVE adds
HELLO, WELCOME, WANT = b"hello\0", b"welcome\0", b"want\0"
DECODE = {topic: msgspec.msgpack.Decoder(entry.type).decode for topic, entry in TOPICS.items()}


class Shown(msgspec.Struct, frozen=True):
    """What of the run's settings a console elsewhere needs for its screen."""

    temp_limit_c: float = 80.0
    board_limit_c: float = 75.0  # of a moteus's board
    random_steps: int = 0
    learn_after: int = 0
    updates_per_step: float = 1.0
    operator: dict[str, float] = {}  # what its keys are worth (config.Operator); msgspec copies it
    absent: tuple[str, ...] = ()  # streams and nodes that this run does not have (`nodes/view.py`)
    twin: bool = False  # it is a twin's run


class Welcome(msgspec.Struct, frozen=True):
    """The answer to a hello: what the peer must put in `boot` of all it sends, and as whom it is known."""

    session: int
    name: str
    role: str
    shown: Shown = Shown()
