"""The text console of one moteus servo, spoken over CAN: `conf get`, `conf set` and what it answers.

The servo prints into a buffer that is asked for piece by piece. Used before motion only: it waits.
"""

from __future__ import annotations

from robotrl.clock import Clock
from robotrl.drivers import moteus
from robotrl.drivers.port import Lines, Port

POLL_NS = 10_000_000  # waiting for one answer; a servo takes well under 1 ms
POLLS_MAX = 20
READS_MAX = 64
PIECE = 48  # bytes of a command in one frame


class Diagnostic:
    """Console of servo `servo`. Lines with a wrong checksum, or none when `checksum` is on, are ignored."""

    def __init__(self, port: Port, servo: int, clock: Clock, checksum: bool = False) -> None:
        self._port, self._servo, self._clock, self._checksum = port, servo, clock, checksum
        self._lines = Lines()
        self._asking = self._line(moteus.REPLY_WANTED, moteus.make_poll())

    def ask(self, command: str) -> str:
        """The first line the servo prints after `command`; empty when it stays silent."""
        for _ in range(POLLS_MAX):  # what an earlier user left behind is no answer
            if not self._poll():
                break
        text = command.encode() + b"\n"
        for at in range(0, len(text), PIECE):
            self._port.write(self._line(0, moteus.make_console(text[at : at + PIECE])))
        heard = b""
        for _ in range(POLLS_MAX):
            heard += self._poll()
            if b"\n" in heard:
                break
        return heard.split(b"\n")[0].decode(errors="replace").strip()

    def _line(self, reply: int, frame: bytes) -> bytes:
        return moteus.make_send(reply << 8 | self._servo, frame, self._checksum)

    def _poll(self) -> bytes:
        """What the servo has printed since the last time."""
        self._port.write(self._asking)
        deadline = self._clock.now() + POLL_NS
        for _ in range(READS_MAX):
            data = self._port.read(deadline)
            if not data:
                break
            for line in self._lines.feed(data):
                got = moteus.parse_line(line)
                if not isinstance(got, moteus.Received) or got.can_id != self._servo << 8:
                    continue
                if self._checksum and not got.checked:
                    continue
                if (text := _printed(got.frame)) is not None:
                    return text
        return b""


def _printed(frame: bytes) -> bytes | None:
    try:
        for part in moteus.decode(frame):
            if part.op == "from servo" and part.register == moteus.DIAGNOSTIC:
                return part.data
    except moteus.FrameError:
        pass  # not a console's answer
    return None
