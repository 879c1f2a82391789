"""A complaint is one line that any terminal can show, whatever a foreign file put into it."""

import pytest

from robotrl.complaint import LONGEST, Complaint


@pytest.mark.parametrize("foreign", ["a\nb", "\x1b[2J", "\x00", "\udcff", "\u2028", "x" * 100_000])
def test_what_is_quoted_breaks_no_line(foreign):
    line = str(Complaint(f"file: field {foreign} is odd; correct it"))
    assert line.isprintable() and len(line) <= LONGEST + 10
    assert line.startswith("file: field ") and line.endswith(" is odd; correct it")
    line.encode()


def test_what_can_be_shown_is_left_as_it_is():
    assert str(Complaint("Kraftmaß 3 °C: zu groß; nimm 2")) == "Kraftmaß 3 °C: zu groß; nimm 2"
