"""Tags in a picture: which, and where their corners are to a twentieth of a pixel.

OpenCV's detector reads the tags; its corners are a pixel wrong where a tag has twenty. So each side is found anew, as the line
along which the picture turns from black to white fastest, and a corner is where two sides meet.
"""

from __future__ import annotations

from collections.abc import Container

import cv2
import numpy as np
from numpy.typing import NDArray

from robotrl.tagboard import CELLS, DICTIONARY

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
SIDE_MIN = 8.0  # px; a cell of a shorter side is hardly a pixel
ALONG = np.linspace(0.12, 0.88, 10)  # places on a side: its ends are their neighbours' blur
ACROSS = np.linspace(-1.0, 1.0, 9)  # places before and behind it, in reaches
REACH = (1.0, 2.5)  # px, at least and at most; else half a cell: the next edge is a cell away
ROUNDS = 3  # each begins where the last one found the edge, so that what a short reach cuts off is alike on both sides
CONTRAST_MIN = 12.0  # grey levels between the two sides of an edge


def detector() -> cv2.aruco.ArucoDetector:
    """For tags from 9 pixels a side on; it reads no rim with a wrong cell in it."""
    parameters = cv2.aruco.DetectorParameters()
    parameters.adaptiveThreshWinSizeMin, parameters.adaptiveThreshWinSizeMax, parameters.adaptiveThreshWinSizeStep = 5, 13, 8
    parameters.minMarkerPerimeterRate, parameters.maxMarkerPerimeterRate = 0.01, 8.0
    parameters.perspectiveRemovePixelPerCell = 4
    parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_NONE
    parameters.errorCorrectionRate = 0.0
    parameters.minSideLengthCanonicalImg = 12
    return cv2.aruco.ArucoDetector(cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, DICTIONARY)), parameters)


def find(
    reader: cv2.aruco.ArucoDetector, image: Image, ids: Container[int], corner: tuple[int, int] = (0, 0)
) -> dict[int, Array]:
    """Corners (4, 2) px of every tag of `ids` that `image` (grey) shows once and clearly, from its top left clockwise.

    `corner`: of the image in the picture it was cut from, x and y.
    """
    found, names, _ = reader.detectMarkers(image)
    if names is None or not len(names):
        return {}
    flat = [int(name) for name in names.ravel()]
    rough = {n: f[0].astype(float) for n, f in zip(flat, found, strict=True) if n in ids and flat.count(n) == 1}
    rough = {n: at for n, at in rough.items() if np.linalg.norm(at - np.roll(at, 1, 0), axis=1).min() >= SIDE_MIN}
    if not rough:
        return {}
    fine, sharp = refined(image, np.array(list(rough.values())))
    return {n: at + corner for n, at, good in zip(rough, fine, sharp, strict=True) if good}


def refined(image: Image, corners: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Corners (m, 4, 2) px found anew, and of each tag whether all of its sides were there to be found."""
    at, good = corners.astype(float), np.ones(len(corners), bool)
    for _ in range(ROUNDS):
        ends = np.roll(at, -1, 1)
        side = ends - at
        length = np.linalg.norm(side, axis=2, keepdims=True)
        normal = np.stack((side[..., 1], -side[..., 0]), -1) / np.maximum(length, 1e-9)  # outwards: corners go clockwise
        depth = np.abs(np.roll(side, -1, 1) * normal).sum(2, keepdims=True)  # of the tag, across this side
        reach = np.clip(0.5 * depth / CELLS, *REACH)
        feet = at[:, :, None] + side[:, :, None] * ALONG[:, None]
        places = feet[:, :, :, None] + (normal * reach)[:, :, None, None] * ACROSS[:, None]
        x, y = (places[..., k].reshape(-1, len(ACROSS)).astype(np.float32) for k in (0, 1))
        grey = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        rise = np.maximum(np.diff(grey.reshape(places.shape[:4]).astype(float), axis=3), 0.0)
        total = rise.sum(3)
        middle = (ACROSS[1:] + ACROSS[:-1]) / 2
        off = (rise @ middle) / np.maximum(total, 1e-9) * reach
        good &= (np.median(total, axis=2) > CONTRAST_MIN).all(1)
        at = _meet(at, side, normal, off, total)
    moved = np.linalg.norm(at - corners, axis=2).max(1)
    return at, good & np.isfinite(moved) & (moved < 0.25 * np.sqrt(_area(corners)) + 1.0)


def _meet(at: Array, side: Array, normal: Array, off: Array, weight: Array) -> Array:
    """Where each side's line, fitted to its places' distances `off` (m, 4, n) along the normal, meets the one before it."""
    weight = weight / np.maximum(weight.sum(2, keepdims=True), 1e-9)
    mean_t, mean_off = weight @ ALONG, (weight * off).sum(2)
    t = ALONG - mean_t[..., None]
    slope = (weight * t * (off - mean_off[..., None])).sum(2) / np.maximum((weight * t * t).sum(2), 1e-9)
    start = at + normal * (mean_off - slope * mean_t)[..., None]
    direction = side + normal * slope[..., None]
    before, towards = np.roll(start, 1, 1), np.roll(direction, 1, 1)
    det = direction[..., 0] * towards[..., 1] - direction[..., 1] * towards[..., 0]
    gap = before - start
    part = (gap[..., 0] * towards[..., 1] - gap[..., 1] * towards[..., 0]) / np.where(np.abs(det) < 1e-9, np.nan, det)
    met: Array = start + part[..., None] * direction
    return np.where(np.isfinite(met), met, at)


def _area(corners: Array) -> Array:
    x, y = corners[..., 0], corners[..., 1]
    doubled: Array = np.abs((x * np.roll(y, -1, 1) - y * np.roll(x, -1, 1)).sum(1))
    return doubled / 2
