"""What comes over a wire from servos into their drivers: adapter lines, frames, console text; what must hold for any bytes.

The oracles share nothing with the drivers: what a driver takes for a reading must stand in the bytes as a whole, checked frame,
found here by regular expressions and a check sum of our own.
"""

from __future__ import annotations

import functools
import math
import random
import re
import struct
import zlib
from collections.abc import Sequence

import msgspec

from robotrl import config
from robotrl.clock import LockstepClock
from robotrl.drivers import chain, moteus, moteus_settings
from robotrl.drivers.chain import Chain
from robotrl.drivers.commands import Commands
from robotrl.drivers.diagnostic import Diagnostic
from robotrl.drivers.identity import identify
from robotrl.drivers.port import DeviceError, Lines
from robotrl.messages import Joints
from tests.fuzz.engine import Broken, held, torn

TAU = 2 * math.pi
KP = moteus_settings.Setting("servo.pid_position.kp", 4.0)


def crc8(text: bytes) -> int:
    """x^8 + x^7 + x^4 + x^2 + x + 1 (0x97), start 0, by long division."""
    crc = 0
    for byte in text:
        crc = CRC[crc ^ byte]
    return crc


def _divided(crc: int) -> int:
    for _ in range(8):
        crc = crc << 1 ^ 0x197 if crc & 0x80 else crc << 1
    return crc


CRC = tuple(_divided(byte) for byte in range(256))


def checked(text: bytes) -> bytes:
    return b"%b *%02X" % (text, crc8(text + b" "))


class Told:
    """A port on which comes what it is told, a piece a read: `pieces` unasked, `answers` once something is asked."""

    name = "memory"

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.answers: list[bytes] = []

    def write(self, data: bytes) -> None:
        if self.answers:
            self.pieces += self.answers
            self.answers = []

    def read(self, deadline: int, limit: int = 4096) -> bytes:
        if not self.pieces:
            return b""
        piece = self.pieces.pop(0)
        if len(piece) > limit:
            self.pieces.insert(0, piece[limit:])
        return piece[:limit]

    def close(self) -> None:
        pass


def wild(rng: random.Random) -> float:
    return rng.choice((0.0, -0.0, math.nan, math.inf, -math.inf, 1e-45, 3e38, -3e38, 1e6, 999_999.0, 2.0, rng.uniform(-1e3, 1e3)))


SERVOS = config.Servos(ids=(1, 2), sign=(1, -1), offset=(0.0, 0.5))
HOSTS = (0x40, 0x41, 0x42, 0x43)  # the first by which a Chain asks, in turn
REPLY = struct.Struct("<HbHfffHbHbbb")
# As a line says a frame, or an empty one at its end.
FRAME = re.compile(rb"rcv\s+0*([0-9a-f]+)\s+(?:([0-9a-f]+)(?:\s|\*|$)|$)", re.IGNORECASE)
COMMANDS = functools.cache(Commands)  # of our two servos; made anew it takes as long as a third of a check
LINE_MAX = 16_384  # bytes that wait before a question: a system's terminal holds a quarter


def telemetry(turn: float, speed: float = 0.0, torque: float = 0.0, mode: int = 10, volts: int = 32, fault: int = 0) -> bytes:
    """A servo's answer to the loop's query, by the manual: mode; position, velocity, torque; two temperatures, voltage, fault."""
    return REPLY.pack(0x0021, mode, 0x012F, turn, speed, torque, 0x0A21, 30, 0x0D23, volts, 31, fault)


class Servoline:
    """`drivers/chain.py` over `drivers/moteus.py`: two servos; fuzzed is what waits before a question, and the answer to it."""

    name = "servo chain"
    words = (b"rcv ", b"OK\r\n", b"ERR ", b"\n", b"\r\n", b" *", b"rcv 140 ", b"rcv 100 ", b"\x00" * 40, b"checksum", b" E F",
             b"_", b"0x", b"+", telemetry(0.1).hex().encode())  # fmt: skip

    def __init__(self) -> None:
        self._fresh()

    def _fresh(self) -> None:
        self._port, self._clock = Told(), LockstepClock()
        self._chain = Chain(self._port, SERVOS, self._clock)
        for _ in range(2):
            for host in HOSTS:
                self._last = self._cycle(self._good(host))
            self._begin()

    def _begin(self) -> None:
        """The next input meets the first number again, and no check sums."""
        self._chain._cycle = -1
        if self._chain.checksum:
            self._chain.checksum, self._chain._commands = False, COMMANDS(SERVOS, checksum=False)

    def example(self, rng: random.Random) -> bytes:
        out, sums = b"", rng.random() < 0.2
        for _ in range(rng.randint(1, 3)):
            for servo in SERVOS.ids:
                if rng.random() < 0.8:
                    text = b"rcv %x %b" % (servo << 8 | rng.choice((*HOSTS, 0x40, 0x40, 0x40)), self._frame(rng).hex().encode())
                else:
                    text = rng.choice((b"OK", b"ERR unknown command", b"ERR checksum required", b"rcv 8001 110f", b"hello"))
                out += (checked(text) if sums else text) + rng.choice((b"\r\n", b"\n"))
                out += rng.choice((b"", b"OK\r\n"))
        return out

    def _frame(self, rng: random.Random) -> bytes:
        if rng.random() < 0.15:
            return bytes(rng.choices(range(256), k=rng.randint(0, 64)))
        turn, speed, torque = (rng.uniform(-0.5, 0.5) if rng.random() < 0.8 else wild(rng) for _ in range(3))
        mode, fault = (rng.randint(-128, 127) if rng.random() < 0.2 else usual for usual in (10, 0))
        return telemetry(turn, speed, torque, mode, rng.choice((32, -128, 127)), fault) + b"\x50" * rng.randint(0, 3)

    def check(self, data: bytes) -> None:
        chain.Commands = COMMANDS  # type: ignore
        try:
            self._meet(data)
        finally:
            chain.Commands = Commands  # type: ignore

    def _meet(self, data: bytes) -> None:
        was, digest = self._last, zlib.crc32(data)
        cut = min(LINE_MAX, (digest >> 8) % (len(data) + 1)) if digest & 3 == 0 else 0
        waiting, answer = data[:cut], data[cut:]
        got = self._cycle(torn(answer) if digest & 4 else [answer], waiting)
        self._plausible(got, was, answer)
        left, sums = b"".join(self._port.pieces), self._chain.checksum  # the cycle may be over before all has come
        again = self._cycle(self._good(HOSTS[1]), left)
        if self._chain.checksum == sums:
            if sum(map(bool, again.missed)) > (len(data) > LINE_MAX):
                raise Broken(f"two good answers, and servos {again.missed} are still unread")
            if len(data) <= LINE_MAX and again.position != was.position:
                raise Broken(f"what came before the question is read: {again.position}, not {was.position}")
        settled = msgspec.structs.replace(again, t=was.t) == was
        if any(again.missed) or (self._chain.checksum and not settled):
            self._fresh()
            return
        if not settled:  # a temperature that jumped is believed the third time
            for host in HOSTS[2:]:
                again = self._cycle(self._good(host))
        self._begin()
        self._last = again

    def _cycle(self, answers: Sequence[bytes], waiting: bytes = b"") -> Joints:
        self._port.pieces, self._port.answers = [waiting] if waiting else [], [piece for piece in answers if piece]
        joints = self._chain.read(0)
        self._clock.advance(20_000_000)
        return joints

    def _good(self, host: int) -> list[bytes]:
        lines = [b"rcv %x %b" % (servo << 8 | host, telemetry(0.1).hex().encode()) for servo in SERVOS.ids]
        return [(checked(line) if self._chain.checksum else line) + b"\r\n" for line in lines]

    def _plausible(self, joints: Joints, was: Joints, data: bytes) -> None:
        for i, servo in enumerate(SERVOS.ids):
            if joints.missed[i]:
                if joints.position[i] != was.position[i]:
                    raise Broken(f"servo {servo} is unread and has another angle")
                continue
            numbers, winding = (joints.position[i], joints.velocity[i], joints.torque[i]), joints.temp_c[i]
            if not (0 < winding <= 127 or math.isnan(winding)):
                raise Broken(f"servo {servo} has a winding of {winding} C, which is no reading and not known to be none")
            if not all(map(math.isfinite, numbers)) or joints.mode[i] < 0 or joints.fault[i] < 0:
                raise Broken(f"servo {servo} is read as {numbers}")
            if abs(joints.velocity[i]) > 1001 or abs(joints.torque[i]) > 100 or joints.voltage[i] < 0:
                raise Broken(f"servo {servo} cannot move or pull like that: {numbers}")
            if abs(joints.position[i] - was.position[i]) > 1.5 * SERVOS.velocity_limit * 0.05 + 1e-9:
                raise Broken(f"servo {servo} jumped from {was.position[i]} to {joints.position[i]}")
            self._heard(i, servo, joints, data)

    def _heard(self, i: int, servo: int, joints: Joints, data: bytes) -> None:
        """The reading must be somewhere in the bytes, in a line that says it is of this servo and this cycle."""
        for found in re.finditer(rb"rcv[ \t\x0b\x0c]+0*([0-9a-fA-F]+)[ \t\x0b\x0c]+((?:[0-9a-fA-F]{2})+)", data):
            frame = bytes.fromhex(found[2].decode())
            if int(found[1], 16) != servo << 8 | HOSTS[0] or len(frame) < REPLY.size:
                continue
            _, mode, _, turn, *_ = REPLY.unpack_from(frame)
            angle = SERVOS.sign[i] * (turn * TAU - SERVOS.offset[i])
            if angle == joints.position[i] and mode == joints.mode[i]:
                return
        raise Broken(f"servo {servo} is read as {joints.position[i]}, which no line says")

    def held(self) -> int:
        return held(self._chain._lines, self._chain._twice, self._chain._waiting)


class Codec:
    """`moteus.parse_line`, `moteus.decode` and `Lines`: torn and merged bytes mean the same; numbers are numbers."""

    name = "servo codec"
    words = (*Servoline.words, b"410105", b"43", b"80808080", b"2f01", b"ffffffffff")

    def __init__(self) -> None:
        self._chain = Servoline()
        self._one, self._many = Lines(), Lines()

    def example(self, rng: random.Random) -> bytes:
        if rng.random() < 0.5:
            return self._chain.example(rng)
        frame = b""
        for _ in range(rng.randint(1, 4)):
            count, width = rng.randint(1, 5), rng.randint(0, 3)
            head = bytes((rng.choice((0x00, 0x20)) | width << 2 | (count if count < 4 else 0),)) + bytes((count,)) * (count > 3)
            part = head + bytes((rng.randrange(128),)) + rng.randbytes(count * (1, 2, 4, 4)[width])
            frame += rng.choice((part, part, b"\x31\x05\x01", b"\x41\x01\x03abc", b"\x42\x01\x30", b"\x11\x00", b"\x50"))
        return b"rcv %x %b\r\n" % (rng.randrange(0x10000), frame.hex().encode())

    def check(self, data: bytes) -> None:
        good = b"\nrcv 140 2100\n"
        merged = self._one.feed(data + good)
        pieced = [line for piece in (*torn(data), good) for line in self._many.feed(piece)]
        if merged != pieced:
            raise Broken("torn bytes are other lines than merged ones")
        if moteus.parse_line(merged[-1]) != (0x140, b"\x21\x00", False):
            raise Broken("the good line after it is not understood")
        for line in merged[:-1]:
            got = moteus.parse_line(line)
            if isinstance(got, moteus.Received):
                self._sound(line, got)

    def _sound(self, line: bytes, got: moteus.Received) -> None:
        wanted = got.can_id, got.frame.hex().encode()
        if not any((int(said[1], 16), (said[2] or b"").lower()) == wanted for said in FRAME.finditer(line)):
            raise Broken(f"the line does not say {got}")
        said = line.rstrip()[line.rstrip().rfind(b"rcv ") :].split(b"\r")[0]  # half a line's end is one
        if got.checked and not said.upper().endswith(b"%02X" % crc8(said[:-3])):
            raise Broken(f"passes for checked: {line!r}")
        try:
            parts = moteus.decode(got.frame)
        except moteus.FrameError:
            return
        for part in parts:
            if len(part.values) > 64 or len(part.data) > len(got.frame):
                raise Broken(f"more is read than there was: {part}")

    def held(self) -> int:
        return held(self._one, self._many)


GAIN = b"rcv 100 %b\n" % (b"\x41\x01\x04" + b"4.0\n").hex().encode()


class Console:
    """The servo's text console and its identity, asked for before motion: what answers is data, whatever it says."""

    name = "servo console"
    words = (
        b"rcv 100 ",
        b"rcv 110 ",
        b"41013030",
        b"nan",
        b"inf",
        b"\n",
        b"\r\n",
        b"ffff7f7f",
        b"0000807f",
        b"00000080",
        b"2d8102",
        b"2f2002",
    )

    def __init__(self) -> None:
        self._port, self._clock = Told(), LockstepClock()
        self._console = Diagnostic(self._port, 1, self._clock)

    def example(self, rng: random.Random) -> bytes:
        text = rng.choice(
            (b"4.0\r\n", b"OK\r\n", b"ERR error setting\r\n", b"nan\r\n", b"1e999\r\n", b"-0\n", b"\xff\xfe\n", b"1_0\n")
        )
        frame = bytes((0x41, 1, len(text))) + text
        if rng.random() < 0.5:
            kind = rng.choice((2, 2, 2, 3))
            frame = bytes((0x20 | kind << 2 | 1, 0x81, 0x02)) + rng.randbytes(4)
            frame += bytes((0x20 | kind << 2 | 3, 0xA0, 0x02)) + rng.choice(
                (rng.randbytes(12), struct.pack("<3f", *[wild(rng)] * 3))
            )
            return b"rcv 110 %b\r\n" % frame.hex().encode()
        return b"rcv 100 %b\r\n" % frame.hex().encode()

    def check(self, data: bytes) -> None:
        silent = zlib.crc32(data) & 7 == 0  # then it is asked until it is given up, which takes four times as long
        self._port.pieces = [b"\n", b"", data, b"", data] + [b"", GAIN] * (3 * moteus_settings.ASKS) * (not silent)
        said = moteus_settings.complaints(self._console, [KP])
        if len(said) > 1 or any("\n" in line for line in said):
            raise Broken("a complaint of two lines")
        self._port.pieces = [b"\n", b"", GAIN]
        if self._console.ask("conf get servo.pid_position.kp") != "4.0":
            raise Broken("a good answer after it is not understood")
        self._port.pieces = [b"\n", data, b"", *torn(data)]
        try:
            identify(self._port, (1,), self._clock)
        except DeviceError as error:
            if "\n" in str(error):
                raise Broken("a complaint of two lines") from None

    def held(self) -> int:
        return held(self._console._lines)


TARGETS = (Servoline, Codec, Console)
