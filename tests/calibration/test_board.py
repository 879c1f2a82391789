"""Boards: the PDF's own bytes are drawn again here, by the PDF standard's rules, and looked at with OpenCV's detectors."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from robotrl.calibration import board
from robotrl.calibration.store import CalibrationError

PX_MM = 0.25  # of the drawing; every module is 3 px and more


def drawn(data: bytes) -> np.ndarray:
    """The page in grey, PX_MM a pixel: the share of each pixel that its filled rectangles cover."""
    width, height = (float(x) * 25.4 / 72 for x in re.search(rb"/MediaBox \[0 0 (\S+) (\S+)\]", data).groups())
    scale = float(re.search(rb"(\S+) 0 0 \1 0 0 cm", data).group(1))
    assert scale == pytest.approx(72 / 25.4)
    ink = np.zeros((round(height / PX_MM), round(width / PX_MM)))
    rows, columns = (np.arange(n)[:, None] for n in ink.shape)
    for match in re.finditer(rb"^(\S+) (\S+) (\S+) (\S+) re$", data, re.M):
        x, y, w, h = (float(v) / PX_MM for v in match.groups())
        top = height / PX_MM - y - h
        across = np.clip(np.minimum(columns + 1, x + w) - np.maximum(columns, x), 0, 1)
        down = np.clip(np.minimum(rows + 1, top + h) - np.maximum(rows, top), 0, 1)
        ink += down * across.T
    assert ink.max() < 1.0 + 1e-3, "two rectangles lie over each other"
    return (255 * (1 - np.clip(ink, 0, 1))).astype(np.uint8)


def on_page(corners: np.ndarray) -> np.ndarray:
    """Pixels to mm from the upper left: pixel 0 has its middle at half a pixel."""
    return (np.asarray(corners, float).reshape(-1, 2) + 0.5) * PX_MM


def test_the_printed_chessboard_is_seen_where_its_definition_says():
    page, upper_left = board.page(board.CHARUCO, "a4")
    corners, ids, _, _ = board.CHARUCO.detector().detectBoard(drawn(page.data()))
    assert ids.ravel().tolist() == list(range(40))
    assert np.abs(on_page(corners) - upper_left - 1000 * board.CHARUCO.corners()[:, :2]).max() < 0.1


def test_the_ruler_is_as_long_as_it_says():
    data = board.page(board.CHARUCO, "a4")[0].data()
    lines = [[float(v) for v in m.groups()] for m in re.finditer(rb"w (\S+) (\S+) m (\S+) (\S+) l S", data)]
    assert max(x1 - x0 for x0, _, x1, _ in lines) == pytest.approx(100.0)
    assert b"The line is 100 mm long" in data


def test_the_files_table_of_objects_is_right():
    data = board.page(board.CHARUCO, "a4")[0].data()
    start = int(re.search(rb"startxref\n(\d+)\n%%EOF\n$", data).group(1))
    assert data[start:].startswith(b"xref\n0 6\n")
    for number, place in enumerate(re.findall(rb"^(\d{10}) 00000 n $", data, re.M), 1):
        assert data[int(place) :].startswith(b"%d 0 obj\n" % number)
    stream = re.search(rb"/Length (\d+) >>\nstream\n(.*)\nendstream", data, re.S)
    assert int(stream.group(1)) == len(stream.group(2))


@pytest.mark.parametrize(
    ("made", "paper", "says"),
    [
        (board.CHARUCO, "letter", "280 x 201 mm, letter has 215.9 x 279.4; use --paper a4"),
        (board.CHARUCO, "a5", "a5 has 148 x 210; use --paper a4"),
        (replace(board.CHARUCO, square_m=0.2, marker_m=0.15), "a4", "make the board smaller"),
        (replace(board.CHARUCO, marker_m=0.029), "a4", "smaller than 0.9 of a square"),
        (replace(board.CHARUCO, columns=40, rows=30), "a4", "needs 600 tags, DICT_5X5_100 has 100"),
        (replace(board.CHARUCO, square_m=float("nan")), "a4", "change its sizes"),
        (replace(board.CHARUCO, dictionary="CORNER_REFINE_NONE"), "a4", "no dictionary 'CORNER_REFINE_NONE'"),
    ],
)
def test_a_board_that_cannot_be_printed_is_one_line(made, paper, says):
    with pytest.raises(CalibrationError, match=says) as error:
        board.page(made, paper)
    assert "\n" not in str(error.value)


def test_the_command_writes_the_file(tmp_path, capsys):
    out = tmp_path / "board.pdf"
    assert board.main(["--kind", "charuco", "--square", "20", "--paper", "letter", "--out", str(out)]) == 0
    assert out.read_bytes().startswith(b"%PDF-1.4") and "squares of 20 mm, markers 14.7 mm" in capsys.readouterr().out
    with pytest.raises(CalibrationError, match="not written"):
        board.main(["--kind", "charuco", "--out", str(tmp_path / "none" / "t.pdf")])
