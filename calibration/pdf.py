"""Pages of vector graphics as a PDF file, to scale: black rectangles, lines and text, in millimetres from the page's top left.

PDF 1.4 (ISO 32000-1) without compression: a person can read the numbers in it, and a test can draw them again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

POINTS_PER_MM = 72 / 25.4
Rectangle = tuple[float, float, float, float]  # left, top, width, height; mm

# width and height, mm, the shorter first
PAPER = {"a5": (148.0, 210.0), "a4": (210.0, 297.0), "a3": (297.0, 420.0), "a2": (420.0, 594.0), "letter": (215.9, 279.4)}


class Page:
    """Collects what is to be drawn; `data()` is the file."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height  # mm
        self._drawn = [f"{POINTS_PER_MM:.9f} 0 0 {POINTS_PER_MM:.9f} 0 0 cm"]  # from here on the unit is the millimetre

    def rectangles(self, rectangles: Iterable[Rectangle]) -> None:
        """Filled black as one path: rectangles that touch leave no light seam between them."""
        for left, top, width, height in rectangles:
            self._drawn.append(f"{left:.4f} {self.height - top - height:.4f} {width:.4f} {height:.4f} re")
        self._drawn.append("f")

    def line(self, x0: float, y0: float, x1: float, y1: float, width: float = 0.2) -> None:
        self._drawn.append(f"{width:.4f} w {x0:.4f} {self.height - y0:.4f} m {x1:.4f} {self.height - y1:.4f} l S")

    def text(self, x: float, y: float, text: str, size: float = 3.0) -> None:
        """ASCII, its base line from (x, y) on; `size` in mm. Helvetica: every reader has it."""
        escaped = text.encode("ascii", "replace").decode().replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
        self._drawn.append(f"BT /F1 {size:.3f} Tf {x:.4f} {self.height - y:.4f} Td ({escaped}) Tj ET")

    def data(self) -> bytes:
        """The same drawing gives the same bytes."""
        return joined([self])

    def objects(self, number: int, font: int) -> tuple[bytes, bytes]:
        """The page, which is to be the object of this `number`, and what is on it, which is the next; `font`: of which object."""
        stream = "\n".join(self._drawn).encode()
        box = f"[0 0 {self.width * POINTS_PER_MM:.4f} {self.height * POINTS_PER_MM:.4f}]"
        with_font = f"/Resources << /Font << /F1 {font} 0 R >> >>"
        page = f"<< /Type /Page /Parent 2 0 R /MediaBox {box} /Contents {number + 1} 0 R {with_font} >>"
        return page.encode(), b"<< /Length %d >>\nstream\n%b\nendstream" % (len(stream), stream)


def joined(pages: Sequence[Page]) -> bytes:
    """A file of these pages."""
    font = 3 + 2 * len(pages)
    kids = " ".join(f"{3 + 2 * i} 0 R" for i in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R /ViewerPreferences << /PrintScaling /None >> >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        *(part for i, page in enumerate(pages) for part in page.objects(3 + 2 * i, font)),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out, starts = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        starts.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % start for start in starts)
    size = len(objects) + 1
    return (
        out + b"xref\n0 %d\n0000000000 65535 f \n%b" % (size, table)
        + b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, len(out))
    )  # fmt: skip
