"""What the person who waits sees of a rehearsal."""

import io

from rich.console import Console

from robotrl.sim.course import LINES, Course

WORDS = "0.00 m/s  return 100  falls 100  stuck 100  1000 updates/s  10.0x real time"


def show(terminal: bool) -> str:
    out = io.StringIO()
    with Course(Console(file=out, width=80, force_terminal=terminal), 160_000) as course:
        for done in range(0, 160_001, 50):
            course.show(done, WORDS)
        course.show(160_030, WORDS)
    return out.getvalue()


def test_off_a_terminal_it_is_a_line_a_twentieth_of_the_way():
    lines = show(terminal=False).splitlines()
    assert len(lines) == LINES
    assert lines[0].startswith("8000/160000  " + WORDS) and lines[0].endswith("s left")
    assert lines[-1] == f"160000/160000  {WORDS}  0 s left"


def test_on_a_terminal_of_80_columns_all_of_it_is_seen():
    said = show(terminal=True)
    assert "160000/160000" in said and "left" in said and WORDS in said and "…" not in said
