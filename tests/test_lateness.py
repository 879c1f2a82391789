"""What is kept of a loop's periods: the newest, in memory that does not grow; counts and the latest of all are of every one."""

from __future__ import annotations

import errno
import tracemalloc

import numpy as np

from robotrl import lateness, report
from robotrl.lateness import KEPT, Lateness, keep

HOUR = 180_000  # periods at 50 Hz


def test_a_day_of_periods_takes_no_more_memory_than_half_an_hour():
    tracemalloc.start()
    late, cycles = Lateness(), Lateness().late_us
    sizes = []
    for hour in range(6):
        for i in range(HOUR):
            late.add(i * 1e-3 + 0.1)
            keep(cycles, i * 1e-3 + hour)
        sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert max(sizes) < 1e6 and len(late.late_us) <= KEPT and len(cycles) <= KEPT


def test_a_disk_that_takes_no_timing_is_a_line_and_not_the_drivers_end(tmp_path, monkeypatch, capfd):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(lateness.rundir, "write_bytes", full)
    Lateness().save(tmp_path / "timing.npz", [1.0])
    (line,) = capfd.readouterr().err.splitlines()
    assert line == f"{tmp_path}/timing.npz: this life's timing is lost: No space left on device; free some space"


def test_the_newest_stay_in_order_and_the_worst_and_the_count_are_of_all(tmp_path, monkeypatch):
    monkeypatch.setattr(lateness, "KEPT", 8)
    for life in range(2):
        kept, cycles = Lateness(), Lateness().late_us
        for i in range(21):
            kept.add(900.0 if (life, i) == (0, 3) else 100.0 * life + i)
            assert kept.late_us[-1] == (900.0 if (life, i) == (0, 3) else 100.0 * life + i)
            keep(cycles, i)
        kept.overruns = 1
        kept.save(tmp_path / "timing.npz", cycles)
    with np.load(tmp_path / "timing.npz") as file:
        newest = [16.0, 17.0, 18.0, 19.0, 20.0]
        assert file["late_us"].tolist() == [*newest, *(100.0 + i for i in newest)]
        assert file["cycle_us"].tolist() == [*newest, *newest]
        assert (file["periods"], file["worst_us"], file["overruns"]) == (42, 900.0, 2)
    assert report.overruns(tmp_path) == (2, 42)
