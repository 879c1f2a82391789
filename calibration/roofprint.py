"""The five plates of a torso's roof of tags as a PDF, a page each: what `robotrl/tagboard.py` describes, at true scale.

Cut along the lines, glue each to something flat and stiff, and set them edge to edge: the long sides and the ends lean outwards
from the top by the slope that is printed on them.
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

from robotrl.calibration import pdf
from robotrl.calibration.board import EDGE_MM, FOOT_MM, RULER_MM, ruler, tag_black
from robotrl.calibration.store import CalibrationError
from robotrl.robot import CELLS, Roof
from robotrl.tagboard import DICTIONARY, Plate, plates

NAMES = ("top: the arrow to the robot's head", "left side", "right side", "front end", "rear end")


def page(plate: Plate, name: str, roof: Roof, paper: str) -> tuple[pdf.Page, tuple[float, float]]:
    """The drawing, and where the plate's upper left lies on it, mm. CalibrationError where the paper is too small."""
    width, height = plate.width * 1000, plate.height * 1000
    need = (max(width, RULER_MM) + 2 * EDGE_MM, height + EDGE_MM + FOOT_MM)
    short, long = pdf.PAPER[paper]
    fits = next((s for s in ((short, long), (long, short)) if need[0] <= s[0] and need[1] <= s[1]), None)
    if fits is None:
        raise CalibrationError(
            f"a plate of {width:.0f} x {height:.0f} mm with its ruler needs {need[0]:.0f} x {need[1]:.0f} mm, {paper} has"
            f" {short:g} x {long:g}; use a larger --paper or smaller --tag"
        )
    out = pdf.Page(*fits)
    left, top = (out.width - width) / 2, (out.height - FOOT_MM - height + EDGE_MM) / 2
    half = roof.tag_m / 2
    for tag, aside in plate.tags:
        out.rectangles(
            (left + x * 1000, top + y * 1000, w * 1000, h * 1000)
            for x, y, w, h in tag_black(DICTIONARY, tag, plate.width / 2 + aside - half, plate.height / 2 - half, roof.tag_m)
        )
    edges = [(left, top), (left + width, top), (left + width, top + height), (left, top + height)]
    for (x0, y0), (x1, y1) in zip(edges, edges[1:] + edges[:1], strict=True):
        out.line(x0, y0, x1, y1)
    foot = out.height - FOOT_MM + 4.0
    ruler(out, EDGE_MM + 5.0, foot)
    flat = plate.outwards[2] > 0.999
    leans = "" if flat else f", leans {math.degrees(roof.slope_rad):.1f} deg outwards, its upper edge at the top"
    said = f"The line is {RULER_MM:g} mm long, or the print is not to scale. robotrl roof, {name}{leans}"
    out.text(EDGE_MM + 5.0, foot + 4.0, said, 2.5)
    if flat:
        out.text(left + 2.0, top + height / 2, "<-", 4.0)
    return out, (left, top)


def write(path: Path, paper: str, tag_mm: float | None, *, as_json: bool) -> int:
    """The file of all plates. CalibrationError for a roof that cannot be, or not on this paper."""
    roof = Roof()
    if tag_mm is not None:
        if not 10 <= tag_mm <= 1000:  # nan fails
            raise CalibrationError(f"--tag {tag_mm:g}: tags of 10 to 1000 mm can be seen; take one of these")
        roof = dataclasses.replace(roof, tag_m=tag_mm / 1000, margin_m=math.ceil(10 * tag_mm / CELLS) / 10_000)
    data = pdf.joined([page(plate, name, roof, paper)[0] for plate, name in zip(plates(roof), NAMES, strict=True)])
    try:
        path.write_bytes(data)
    except OSError as error:
        raise CalibrationError(f"{path}: not written: {error.strerror}; give --out where there is room") from None
    print(f"wrote {path}: a roof of tags of {roof.tag_m * 1000:g} mm, five pages")
    print("print it at 100 %, measure the lines, cut the plates out")
    if roof != Roof():
        print(f"and in the robot file:\n[roof]\ntag_m = {roof.tag_m:g}\nmargin_m = {roof.margin_m:g}")
    if as_json:
        print(json.dumps({"wrote": str(path), "kind": "roof", "board": dataclasses.asdict(roof)}))
    return 0
