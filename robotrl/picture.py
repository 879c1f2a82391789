"""Drawing into a picture file: the house's colours, and a file that is whole or as it was."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from robotrl.rundir import RunError

INK, QUIET, GRID = "#22262b", "#8a929c", "#e6e9ed"
BLUE, ORANGE, GREEN, RED, PURPLE = "#2166ac", "#e08214", "#1b7837", "#c51b3a", "#7b5ea7"
STYLE: Any = {
    "font.size": 10, "font.family": "DejaVu Sans", "text.color": INK, "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "xtick.color": INK, "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "grid.color": GRID, "axes.axisbelow": True, "axes.titlesize": 11,
    "axes.titleweight": "bold", "axes.titlelocation": "left", "legend.framealpha": 0.85,
    "legend.edgecolor": "none", "legend.fontsize": 9, "figure.facecolor": "white",
    "figure.constrained_layout.h_pad": 0.1, "figure.constrained_layout.w_pad": 0.1,
}  # fmt: skip


@contextmanager
def picture(path: Path, rows: int, columns: int, size: tuple[float, float], head: str = "", dpi: int = 110) -> Iterator[Any]:
    """Axes (rows, columns) to draw on, `size` in inches; then `path` is that picture. RunError when it cannot be written."""
    import matplotlib  # late: it takes half a second

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    aside = path.with_name(f".{path.stem}.{os.getpid()}.png")
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", gridspec_kw={"hspace": 0.06})
        if head:
            figure.suptitle(head, x=0.012, ha="left", fontsize=14)
        try:
            yield axes
            figure.savefig(aside, dpi=dpi)
            aside.replace(path)
        except OSError as error:
            raise RunError(f"{path}: cannot be written: {error.strerror}; free space or make it writable") from None
        finally:
            aside.unlink(missing_ok=True)
            plt.close(figure)
