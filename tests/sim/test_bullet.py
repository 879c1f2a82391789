"""PyBullet says nothing when it is imported, and nothing else is lost on the way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from robotrl.sim.bullet import NOISE, without

ROOT = Path(__file__).resolve().parent.parent.parent
TWIN = "from robotrl.config import Run; from robotrl.sim.twin import Twin; Twin(Run(), 0).close(); print('done')"


@pytest.mark.parametrize("closed", ["", " 2>&-"])
def test_a_twin_is_made_without_a_word(closed):
    done = subprocess.run(["sh", "-c", f'exec "$0" -c "$1"{closed}', sys.executable, TWIN], cwd=ROOT, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"done\n", b"")


@pytest.mark.parametrize("descriptor", [1, 2])
def test_what_else_is_said_is_passed_on(descriptor, capfd):
    with pytest.raises(ImportError), without(descriptor, NOISE):
        os.write(descriptor, b"a warning\n" + NOISE + b" Jan 1\nno end of line")
        raise ImportError
    said = capfd.readouterr()
    assert (said.out, said.err)[descriptor - 1] == "a warning\nno end of line"
    os.write(descriptor, b"after\n")
    assert "after\n" in capfd.readouterr()
