"""What a rehearsal tells the person besides its result; that it learns is tests/test_rehearsal.py's."""

from __future__ import annotations

import errno
import io
import os
from types import SimpleNamespace

import pytest
from rich.console import Console

from robotrl.rundir import Metrics
from robotrl.sim.training import Training


class Full:
    """A file of a disk that takes nothing."""

    def __init__(self, file):
        self.close, self.fileno, self.truncate = file.close, file.fileno, file.truncate

    def write(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("lost", [0, 2])
def test_figures_that_the_disk_did_not_take_are_said_to_be_lost(tmp_path, lost):
    metrics, said = Metrics(tmp_path), io.StringIO()
    metrics.write("episode", number=0)
    metrics._file = Full(metrics._file)
    for number in range(lost):
        metrics.write("episode", number=number)
    part = SimpleNamespace(close=lambda: None)
    Training.close(
        SimpleNamespace(
            learner=part, schooling=None, metrics=metrics, supervision=part, replay=part, _log=part, rig=part,
            console=Console(file=said, width=200),
        )
    )  # fmt: skip
    assert said.getvalue() == ("2 lines of metrics.jsonl are lost: the disk did not take them; free space\n" if lost else "")
