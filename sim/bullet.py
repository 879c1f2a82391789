"""PyBullet's import, without the line its C code writes to the terminal."""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

NOISE = b"pybullet build time:"


def import_bullet() -> None:
    """Import pybullet without a word; ImportError as from an import."""
    if "pybullet" not in sys.modules:
        with without(1, NOISE), without(2, NOISE):
            importlib.import_module("pybullet")


@contextmanager
def without(descriptor: int, noise: bytes) -> Iterator[None]:
    """Hold back what is written to `descriptor` meanwhile, by C code too; then pass on all but lines that begin with `noise`."""
    try:
        real = os.dup(descriptor)
    except OSError:  # closed: nobody would have heard it
        yield
        return
    try:
        held = os.memfd_create("held")
    except OSError:  # not allowed here: then it is heard
        os.close(real)
        yield
        return
    _flush()
    os.dup2(held, descriptor)
    try:
        yield
    finally:
        _flush()  # what C code still holds in its buffers belongs in here
        os.dup2(real, descriptor)
        os.close(real)
        _pass_on(held, descriptor, noise)


def _pass_on(held: int, descriptor: int, noise: bytes) -> None:
    with os.fdopen(held, "rb") as file:
        file.seek(0)
        said = b"".join(line for line in file if not line.startswith(noise))
    try:
        while said:
            said = said[os.write(descriptor, said) :]
    except OSError:
        pass  # a terminal that is gone


def _flush() -> None:
    ctypes.CDLL(None).fflush(None)
