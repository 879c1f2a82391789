"""Weights as a file: safetensors with a check sum in its metadata. A flipped bit is another number, as finite as any.

The metadata are in order: equal weights give equal bytes.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from robotrl.complaint import Complaint


class WeightsError(Complaint, ValueError):
    """Weights that are not an actor's: what, where, what to do; one line."""


def packed(weights: Mapping[str, NDArray[np.float32]], about: Mapping[str, str]) -> bytes:
    """A file's bytes: the weights by name, what `about` says of them, and `crc32` of all that the file holds beside it."""
    header, numbers = _split(safetensors.numpy.save(dict(weights), dict(about)))
    said = dict(sorted({**about, "crc32": _sum(header, numbers)}.items()))
    text = json.dumps(header | {"__metadata__": said}, separators=(",", ":")).encode()
    text = text.ljust(-(-len(text) // 8) * 8)  # the numbers begin at a multiple of eight
    return len(text).to_bytes(8, "little") + text + numbers


def metadata(data: bytes) -> dict[str, str]:
    """What a file says of its weights; WeightsError where its check sum is another. It has none where others have made it.

    KeyError, ValueError, TypeError, AttributeError for bytes that are no safetensors file.
    """
    header, numbers = _split(data)
    found = dict(header.get("__metadata__") or {})
    if "crc32" in found and found["crc32"] != _sum(header, numbers):
        raise WeightsError("its content does not fit its check sum: the file is damaged; publish the weights again")
    return found


def _split(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and numbers."""
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def _sum(header: dict[str, Any], numbers: bytes) -> str:
    said = {name: value for name, value in (header.get("__metadata__") or {}).items() if name != "crc32"}
    return f"{zlib.crc32(numbers, zlib.crc32(json.dumps({**header, '__metadata__': said}, sort_keys=True).encode())):08x}"
