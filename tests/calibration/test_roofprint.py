"""The printed roof: each page drawn again from the PDF's own numbers, and read by the tracker's own eyes where the plate says."""

from __future__ import annotations

import re

import numpy as np
import pytest

from robotrl import tagcorners
from robotrl.calibration import pdf, roofprint
from robotrl.calibration.board import main
from robotrl.calibration.store import CalibrationError
from robotrl.robot import Roof
from robotrl.tagboard import corners, plates
from tests.calibration.test_board import drawn, on_page


@pytest.mark.parametrize("number", range(5))
def test_a_plates_tags_are_printed_where_the_tracker_expects_them(number):
    roof, plate = Roof(), plates(Roof())[number]
    page, upper_left = roofprint.page(plate, roofprint.NAMES[number], roof, "a4")
    seen = tagcorners.find(tagcorners.detector(), np.ascontiguousarray(drawn(page.data())), roof.ids)
    assert sorted(seen) == sorted(tag for tag, _ in plate.tags)
    for tag, at in seen.items():
        off = corners(roof)[tag] - plate.centre
        mm = np.stack((off @ plate.right + plate.width / 2, off @ plate.down + plate.height / 2), -1) * 1000 + upper_left
        assert np.abs(on_page(at) - mm).max() < 0.1


def test_all_five_are_in_one_file_and_other_sizes_say_what_the_robot_file_needs(tmp_path, capsys):
    out = tmp_path / "roof.pdf"
    assert main(["--kind", "roof", "--out", str(out), "--tag", "60"]) == 0
    data = out.read_bytes()
    assert data.count(b"/Type /Page ") == 5 and b"/Count 5" in data
    for match in re.finditer(rb"^(\d+) 0 obj", data, re.M):
        entry = data[data.rindex(b"xref\n0 ") :].split(b"\n")[2 + int(match.group(1))]
        assert int(entry.split()[0]) == match.start()
    said = capsys.readouterr().out
    assert "tag_m = 0.06" in said and "margin_m = 0.01" in said


def test_a_roof_that_cannot_be_printed_is_said(tmp_path):
    with pytest.raises(CalibrationError, match="use a larger --paper or smaller --tag"):
        main(["--kind", "roof", "--out", str(tmp_path / "x.pdf"), "--tag", "200"])
    with pytest.raises(CalibrationError, match="tags of 10 to 1000 mm"):
        main(["--kind", "roof", "--out", str(tmp_path / "x.pdf"), "--tag", "nan"])


def test_one_page_alone_is_the_file_it_was():
    page = pdf.Page(10, 20)
    page.line(1, 2, 3, 4)
    assert b"/Kids [3 0 R] /Count 1" in page.data() and b"/F1 5 0 R" in page.data()
