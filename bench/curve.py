"""The curve of the walk, as a picture: bench/results/walk.json (and the peer's in peers.json) to docs/walk.png.

Episodes as they were trained, noise and randomisation on: means over about 4,000 steps each. Run: robotrl bench curve
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from robotrl.picture import BLUE, GREEN, ORANGE, QUIET, picture
from robotrl.plots import thousands

RESULTS = Path(__file__).resolve().parent / "results"
PICTURE = RESULTS.parent.parent / "docs" / "walk.png"
PEER = "stable-baselines3 2.9.2 SAC, seed 0"
PANELS = (("speed", "forward speed, m/s", 0.32), ("return", "return of an episode, of 250", 0.0))


def curves() -> list[tuple[str, str, list[dict[str, Any]]]]:
    """Label, colour and points of each training."""
    ours = json.loads((RESULTS / "walk.json").read_text())["runs"]
    peer = json.loads((RESULTS / "peers.json").read_text())["peers"][PEER]
    rows = [(f"seed {r['seed']}", c, r["curve"]) for r, c in zip(ours, (BLUE, GREEN, ORANGE), strict=True)]
    return [*rows, ("stable-baselines3", QUIET, peer["curve"])]


def main() -> None:
    with picture(PICTURE, 1, 2, (11, 3.6), dpi=80) as axes:
        for axis, (key, title, mark) in zip(axes, PANELS, strict=True):
            for label, colour, points in curves():
                axis.plot([p["steps"] for p in points], [p[key] for p in points], color=colour, linewidth=1.8, label=label)
            axis.axhline(mark, color=QUIET, linewidth=0.8, linestyle=(0, (4, 3)))
            axis.set_title(title)
            thousands(axis)
        axes[1].legend(loc="lower right")
    print(PICTURE)


if __name__ == "__main__":
    main()
