"""A servo's diagnostic channel: the text console that configuration tools use, behind subframes 0x40 to 0x44."""

from __future__ import annotations

import math

import numpy as np

from robotrl.sim.firmware import STOPPED
from robotrl.sim.servo import ServoBank

INTEGERS = ("id.id", "servo.timeout_mode", "motor.poles")
LONGEST_LINE = 256  # bytes; a longer one is thrown away
PRINTED_MAX = 4096  # bytes kept for a reader that does not read; what is printed beyond it is lost


class Diagnostic:
    """Console of servo `index`: bytes in by `write`, bytes out by `read` or, with acknowledgement, by `read_flow`."""

    def __init__(self, bank: ServoBank, index: int) -> None:
        self._bank, self._index = bank, index
        self._stored = dict(bank.conf[index])  # what `conf write` keeps and `conf load` brings back
        self._in = bytearray()
        self._out = bytearray()
        self._packet, self._sent = 0, b""  # the last flow-controlled packet, kept until it is acknowledged

    def write(self, data: bytes) -> None:
        for byte in data:
            if byte not in b"\r\n":
                self._in.append(byte)
            elif self._in:
                line = self._in.decode("ascii", "replace")
                self._in.clear()
                self._out += self._answer(line).encode()
                del self._out[PRINTED_MAX:]
        if len(self._in) > LONGEST_LINE:
            self._in.clear()

    def read(self, limit: int) -> bytes:
        data = bytes(self._out[:limit])
        del self._out[:limit]
        return data

    def read_flow(self, acknowledged: int, limit: int) -> tuple[int, bytes]:
        """Packet number and bytes; the last packet again unless `acknowledged` is its number."""
        if acknowledged == self._packet or not self._packet:
            self._packet = self._packet % 255 + 1
            self._sent = self.read(limit)
        return self._packet, self._sent

    def _answer(self, line: str) -> str:
        words = line.split()
        if words[:1] == ["conf"]:
            return self._configure(words[1:])
        if words[:2] == ["d", "stop"]:
            self._bank.obey(self._index, STOPPED, [])
            return "OK\r\n"
        return "ERR unknown command\r\n"

    def _configure(self, words: list[str]) -> str:
        conf = self._bank.conf[self._index]
        match words:
            case ["get", name]:
                return f"{_text(name, conf[name])}\r\n" if name in conf else "ERR error reading\r\n"
            case ["set", name, text]:
                try:
                    with np.errstate(over="ignore"):
                        value = float(np.float32(text)) if name in conf else None
                except ValueError:
                    value = None
                if value is None:
                    return "ERR error setting\r\n"
                conf[name] = value
                self._bank.reconfigured()
                return "OK\r\n"
            case ["enumerate"] | ["list"]:
                return "".join(f"{k} {_text(k, v)}\r\n" for k, v in conf.items()) + "OK\r\n"
            case ["write"]:
                self._stored.update(conf)
                return "OK\r\n"
            case ["load"]:
                conf.update(self._stored)
                self._bank.reconfigured()
                return "OK\r\n"
        return "ERR unknown subcommand\r\n"


def _text(name: str, value: float) -> str:
    return str(int(value)) if name in INTEGERS and math.isfinite(value) else f"{value:f}"
