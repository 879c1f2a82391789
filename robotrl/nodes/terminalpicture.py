"""A picture for a terminal: as half-blocks of two colours, which every one shows, by kitty's graphics protocol, or in sixels.

Pixels in, text or bytes out; nothing is opened here. What a terminal can do it says itself, in answer to `QUERY`: one that knows
kitty's protocol (sw.kovidgoyal.net/kitty/graphics-protocol) answers that first, and any answers the second part, its device
attributes (DEC VT510: DA1), in which 4 stands for sixels.
"""

from __future__ import annotations

import base64
import re
import zlib
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rich.style import Style
from rich.text import Text

Pixels = NDArray[np.uint8]
Way = Literal["kitty", "sixel", "blocks"]
NUMBER = 31  # of our picture, by kitty's protocol
QUERY = f"\x1b_Gi={NUMBER},s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\\x1b[c"
GONE = f"\x1b_Ga=d,d=I,i={NUMBER},q=2\x1b\\".encode()  # takes a picture of kitty's off the screen
CELL = (10, 20)  # pixels, width and height, that a cell is taken for: their proportion is that of most; chosen
CHUNK = 4096  # bytes of base64 in one escape sequence; kitty's own bound
STEPS = 6  # of each colour in a palette of sixels: 216 in all
COARSE = 0xF0  # of a half-block's colours: runs of equal cells are written once, and a frame has fewer bytes; chosen


def fitted(height: int, width: int, columns: int, rows: int) -> tuple[int, int]:
    """Columns and rows that a picture fills, as large as it goes into so many and not distorted; at least one."""
    wide, high = width / CELL[0], height / CELL[1]
    scale = min(columns / wide, rows / high)
    return max(1, min(columns, round(wide * scale))), max(1, min(rows, round(high * scale)))


def half_blocks(pixels: Pixels) -> list[Text]:
    """Two rows of pixels (2 n, columns, 3) RGB to a line: the upper is the letter's colour, the lower what is behind it."""
    coarse = (pixels & COARSE) | (pixels >> 4)
    lines = []
    for upper, lower in zip(coarse[::2], coarse[1::2], strict=True):
        pairs = np.concatenate([upper, lower], axis=1)
        edges = np.flatnonzero(np.any(pairs[1:] != pairs[:-1], axis=1)) + 1
        line = Text(no_wrap=True, overflow="crop", end="")
        for first, end in zip([0, *edges.tolist()], [*edges.tolist(), len(pairs)], strict=True):
            line.append("▀" * (end - first), _style(tuple(pairs[first].tolist())))
        lines.append(line)
    return lines


@lru_cache(maxsize=4096)
def _style(pair: tuple[int, ...]) -> Style:
    return Style.parse("#{:02x}{:02x}{:02x} on #{:02x}{:02x}{:02x}".format(*pair))


def kitty(pixels: Pixels, columns: int, rows: int) -> bytes:
    """RGB pixels (h, w, 3), shown at the cursor in so many cells, in the place of the last one; the terminal answers nothing."""
    height, width, _ = pixels.shape
    data = base64.standard_b64encode(zlib.compress(pixels.tobytes(), 1))
    pieces = [data[i : i + CHUNK] for i in range(0, len(data), CHUNK)]
    head = f"a=T,f=24,o=z,s={width},v={height},c={columns},r={rows},i={NUMBER},p=1,C=1,q=2,"
    out = []
    for i, piece in enumerate(pieces):
        more = int(i + 1 < len(pieces))
        out.append(f"\x1b_G{head if i == 0 else ''}m={more};".encode() + piece + b"\x1b\\")
    return b"".join(out)


def sixel(pixels: Pixels) -> bytes:
    """RGB pixels (h, w, 3) at the cursor, in the nearest of 216 colours (DEC STD 070, chapter 9)."""
    height, width, _ = pixels.shape
    steps = (pixels.astype(np.uint16) * (STEPS - 1) + 127) // 255
    index = (steps[..., 0] * STEPS + steps[..., 1]) * STEPS + steps[..., 2]
    percent = [round(100 * k / (STEPS - 1)) for k in range(STEPS)]
    used = np.unique(index).tolist()
    out = [f'\x1bP0;1;0q"1;1;{width};{height}']
    out += [f"#{n};2;{percent[n // 36]};{percent[n // 6 % 6]};{percent[n % 6]}" for n in used]
    for top in range(0, height, 6):
        band = index[top : top + 6]
        weights = (1 << np.arange(len(band), dtype=np.uint8))[:, None]
        marks = []
        for n in np.unique(band).tolist():
            bits = ((band == n) * weights).sum(axis=0).astype(np.uint8) + 63
            marks.append(f"#{n}{_runs(bits.tobytes().decode())}")
        out.append("$".join(marks) + "-")
    return "".join(out).encode() + b"\x1b\\"


def _runs(text: str) -> str:
    """Four and more of one letter as !count and the letter."""
    return re.sub(r"(.)\1{3,}", lambda found: f"!{len(found[0])}{found[1]}", text)


def way_of(kitty_answers: bool, attributes: str) -> Way:
    """How a terminal shows a picture that answered so: `attributes` as `?62;4c`, empty where it has not."""
    if kitty_answers:
        return "kitty"
    return "sixel" if "4" in re.split("[;?c]", attributes) else "blocks"
