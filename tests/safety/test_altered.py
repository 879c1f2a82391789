"""The controls of the rows that are tested elsewhere, in part (the whole: python -m tests.safety.altered)."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.safety.altered import ALTERED, NO_CONTROL, ROOT, altered
from tests.safety.elsewhere import ELSEWHERE


def test_every_row_that_is_tested_elsewhere_has_a_control_or_says_why_not():
    assert set(ALTERED) | set(NO_CONTROL) == set(ELSEWHERE) and not set(ALTERED) & set(NO_CONTROL)


@pytest.mark.parametrize("row", ALTERED)
def test_the_line_that_is_altered_is_there_and_the_program_still_reads(row):
    path, text = altered(ALTERED[row])
    compile(text, str(path), "exec")


def test_with_its_line_altered_a_row_turns_red():
    done = subprocess.run([sys.executable, "-m", "tests.safety.altered", "--row", "50"], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.endswith("controls red: 1/1\n") and done.returncode == 0, done.stdout + done.stderr
