"""Reads the weights of a TensorFlow 1 checkpoint with numpy alone.

A checkpoint is two files. `.index` is a sorted table in LevelDB's format: a footer names the index block, whose entries name
the data blocks, whose entries map a tensor's name to a BundleEntry message (dtype, shape, shard, offset, size, crc32c).
`.data-00000-of-00001` holds the raw little-endian values, end to end.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FOOTER = 48
MAGIC = 0xDB4775248B80FB57
TYPES: dict[int, np.dtype[Any]] = {1: np.dtype("<f4"), 3: np.dtype("<i4")}  # TensorFlow's DT_FLOAT, DT_INT32
CASTAGNOLI = 0x82F63B78  # CRC-32C, reflected


class CheckpointError(Exception):
    """What is wrong with a checkpoint, and where; one line."""


Tensor = NDArray[np.float32 | np.int32]


def load(prefix: Path) -> dict[str, Tensor]:
    """Every float and 32-bit integer tensor of the checkpoint `prefix`; CheckpointError when its bytes do not check out."""
    index = Path(f"{prefix}.index").read_bytes()
    data = Path(f"{prefix}.data-00000-of-00001").read_bytes()
    if len(index) < FOOTER or struct.unpack("<Q", index[-8:])[0] != MAGIC:
        raise CheckpointError(f"{prefix}.index: no table (magic number missing)")
    footer = index[-FOOTER:]
    _, at = _varint(footer, 0)
    _, at = _varint(footer, at)
    start, at = _varint(footer, at)
    size, _ = _varint(footer, at)
    tensors = {}
    for _, handle in _entries(_block(index, start, size, prefix)):
        start, at = _varint(handle, 0)
        size, _ = _varint(handle, at)
        for name, value in _entries(_block(index, start, size, prefix)):
            if name and (tensor := _tensor(value, data, name.decode())) is not None:
                tensors[name.decode()] = tensor
    return tensors


def _block(index: bytes, start: int, size: int, prefix: Path) -> bytes:
    """A block of the table; its trailer says how it is compressed and its masked checksum."""
    kind, crc = index[start + size], struct.unpack_from("<I", index, start + size + 1)[0]
    if kind != 0:
        raise CheckpointError(f"{prefix}.index: compressed block at byte {start}; only plain ones are read")
    if _masked(crc32c(index[start : start + size + 1])) != crc:
        raise CheckpointError(f"{prefix}.index: checksum of the block at byte {start} is wrong")
    return index[start : start + size]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values; a key shares its first bytes with the one before."""
    restarts = struct.unpack("<I", block[-4:])[0]
    end, at, key = len(block) - 4 * (restarts + 1), 0, b""
    while at < end:
        shared, at = _varint(block, at)
        fresh, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + fresh]
        yield key, block[at + fresh : at + fresh + length]
        at += fresh + length


def _tensor(entry: bytes, data: bytes, name: str) -> Tensor | None:
    """The tensor a BundleEntry describes; None where its values are of another kind."""
    fields = _message(entry)
    kind, offset, size = _number(fields, 1), _number(fields, 4), _number(fields, 5)
    shape = [_number(_message(d), 1) for d in _all(_message(_one(fields, 2)), 2)]
    if kind not in TYPES:
        return None
    raw = data[offset : offset + size]
    if size != int(np.prod(shape, dtype=int)) * TYPES[kind].itemsize or len(raw) != size:
        raise CheckpointError(f"{name}: {size} bytes at {offset} do not make shape {shape}")
    # The memory of whole episodes is megabytes, and a checksum by hand is slow: only what a policy needs is checked.
    if size <= 100_000 and _masked(crc32c(raw)) != _number(fields, 6):
        raise CheckpointError(f"{name}: checksum is wrong")
    return np.frombuffer(raw, TYPES[kind]).reshape(shape)


def _message(raw: bytes) -> list[tuple[int, int | bytes]]:
    """Fields of a protocol buffer: (number, value); wire types 0 (varint), 2 (bytes), 5 (fixed 32 bits)."""
    out: list[tuple[int, int | bytes]] = []
    at = 0
    while at < len(raw):
        tag, at = _varint(raw, at)
        if tag & 7 == 0:
            value, at = _varint(raw, at)
            out.append((tag >> 3, value))
        elif tag & 7 == 2:
            length, at = _varint(raw, at)
            out.append((tag >> 3, raw[at : at + length]))
            at += length
        elif tag & 7 == 5:
            out.append((tag >> 3, struct.unpack_from("<I", raw, at)[0]))
            at += 4
        else:
            raise CheckpointError(f"wire type {tag & 7} in an entry of the index")
    return out


def _all(fields: list[tuple[int, int | bytes]], number: int) -> list[bytes]:
    return [value for n, value in fields if n == number and isinstance(value, bytes)]


def _one(fields: list[tuple[int, int | bytes]], number: int) -> bytes:
    return next(iter(_all(fields, number)), b"")


def _number(fields: list[tuple[int, int | bytes]], number: int) -> int:
    """A field that is left out is zero."""
    return next((value for n, value in fields if n == number and isinstance(value, int)), 0)


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _crc_table() -> list[int]:
    out = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (CASTAGNOLI if value & 1 else 0)
        out.append(value)
    return out


_CRC = _crc_table()


def crc32c(raw: bytes) -> int:
    """CRC-32C (Castagnoli) of `raw`."""
    crc = 0xFFFFFFFF
    for byte in raw:
        crc = _CRC[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _masked(crc: int) -> int:
    """As LevelDB stores a checksum: rotated right by 15 bits, plus a constant."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
