"""What the servos answer when all are asked the same, natively: a `Chorus` bit for bit, by `sim/answers.h`."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robotrl.sim.layouts import Reply
from robotrl.sim.registers import F32, TELEMETRY


class Field(ctypes.Structure):
    """Mirror of the struct of that name."""

    _fields_ = [*((name, ctypes.c_int32) for name in ("column", "kind", "at")), ("scale", ctypes.c_float)]


class NativeChorus:
    """`Chorus`, quicker: the text is kept, and the digits alone are written anew."""

    def __init__(self, library: ctypes.CDLL, reply: Reply, servos: Sequence[int], heads: Sequence[bytes]) -> None:
        digits, text, begins = reply.template.hex().encode(), b"", []
        for head in heads:
            begins.append(len(text) + len(head))
            text += head + digits + b"\r\n"
        fields = [
            Field(f.register, f.kind, 2 * f.at, TELEMETRY[f.register][f.kind] if f.kind != F32 else 1.0) for f in reply.fields
        ]
        self._kept = (
            (Field * len(fields))(*fields),
            (ctypes.c_int32 * len(servos))(*servos),
            (ctypes.c_int32 * len(servos))(*begins),
        )
        self._text = ctypes.create_string_buffer(text, len(text))
        at = [ctypes.addressof(array) for array in self._kept]
        self._where = (at[0], len(fields), *at[1:], len(servos), ctypes.addressof(self._text))
        self._write = library.robotrl_answers
        self._telemetry, self._from = np.zeros((0, 16), np.float32), 0

    def __call__(self, telemetry: NDArray[np.float32]) -> bytes:
        if telemetry is not self._telemetry:  # most often the same array with other values: to ask where it is takes long
            assert telemetry.dtype == np.float32 and telemetry.shape[1:] == (16,) and telemetry.flags.c_contiguous, (
                telemetry.shape
            )
            self._telemetry, self._from = telemetry, telemetry.ctypes.data
        self._write(self._from, *self._where)
        return self._text.raw
