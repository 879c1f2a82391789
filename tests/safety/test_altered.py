"""The controls of the rows that are tested elsewhere, in part (the whole: python -m tests.safety.altered)."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.safety import altered as controls
from tests.safety import matrix
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


def test_the_matrix_counts_these_among_its_controls_when_it_plays_everything(monkeypatch, capsys, tmp_path):
    case = {"robot": "altered", "state": "", "seed": 0, "control": True, "said": ["it passed"]}
    told = [case | {"row": 45, "name": "forgets", "good": True}, case | {"row": 46, "name": "remembers", "good": False}]
    monkeypatch.setattr(controls, "table", lambda: told)
    monkeypatch.setattr(matrix, "PLAYED", {})
    monkeypatch.setattr(matrix.camerascene, "cases", lambda control: iter([(matrix.camerascene.ROWS[0], ["late"] * control)]))
    out = tmp_path / "out.json"
    assert matrix.main(["--jobs", "1", "--out", str(out)]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "faults x states held 1/1, controls red 2/3"
    assert json.loads(out.read_text())["robots"]["altered"] == {"controls red": [1, 2]}
    assert matrix.main(["--jobs", "1", "--row", "17"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "faults x states held 1/1, controls red 1/1"


def test_a_control_that_nobody_hears_of_is_no_control(monkeypatch):
    monkeypatch.setattr(controls, "ALTERED", {50: ALTERED[50], 4711: ALTERED[50]})
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, '{"row": 50}\n'))
    with pytest.raises(RuntimeError, match="1 rows of 2"):
        controls.table()
