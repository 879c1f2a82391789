"""Bodies in boxes: SO-101, OpenManipulator-X, D'Kitty (pivots, masses and limits: hardware facts 2.1, 3.1).

The shapes are plates and blocks around those pivots, not the printed parts. Where the tables say nothing (which way SO-101's jaw
swings, where a link's mass lies in it) the simplest is taken: the jaw opens upward at q = 0, mass lies in the middle.
"""

from __future__ import annotations

import math

from robotrl.sim.dynamixeltable import TURN, XM430_W350
from robotrl.sim.feetechtable import STS3215_12V
from robotrl.sim.primitives import Box, Part


def degrees(low: float, high: float) -> tuple[float, float]:
    return math.radians(low), math.radians(high)


_STS, _XM = STS3215_12V.rotor, XM430_W350.motor.rotor
SO101_BODY = (
    Part("base", "", 0.147, (Box((0.02, 0.0, 0.028), (0.09, 0.07, 0.056)),)),
    Part(
        "pan", "base", 0.100, (Box((0.054, -0.009, 0.09), (0.05, 0.05, 0.05)),),
        (0.0388, 0.0, 0.0624), (0.0, 0.0, -1.0), degrees(-110, 110), _STS,
    ),
    Part(
        "lift", "pan", 0.103, (Box((0.0832, -0.018, 0.1729), (0.045, 0.035, 0.10)),),
        (0.0692, -0.018, 0.1166), (0.0, 1.0, 0.0), degrees(-100, 100), _STS,
    ),
    Part(
        "elbow", "lift", 0.104, (Box((0.16465, -0.018, 0.2318), (0.12, 0.035, 0.04)),),
        (0.0972, -0.018, 0.2292), (0.0, 1.0, 0.0), degrees(-96.8, 96.8), _STS,
    ),
    Part(
        "wrist", "elbow", 0.079, (Box((0.2626, -0.009, 0.2344), (0.05, 0.04, 0.035)),),
        (0.2321, -0.018, 0.2344), (0.0, 1.0, 0.0), degrees(-95, 95), _STS,
    ),
    Part(
        "roll", "wrist", 0.087,
        (Box((0.3146, 0.0, 0.2344), (0.04, 0.05, 0.03)), Box((0.3632, 0.0, 0.2235), (0.056, 0.024, 0.006))),
        (0.2932, 0.0, 0.2344), (-1.0, 0.0, 0.0), degrees(-157, 163), _STS, 0.003, tip=(0.3914, 0.0, 0.2265),
    ),
    Part(
        "jaw", "roll", 0.012, (Box((0.354, 0.0, 0.245), (0.075, 0.024, 0.006)),),
        (0.3166, 0.0176, 0.2555), (0.0, -1.0, 0.0), degrees(-10, 100), _STS, 0.003,
    ),
)  # fmt: skip
FINGER_M = 1.7627e-5 * TURN / (2 * math.pi)  # a finger's way for a radian of the crank, both alike
OMX_BODY = (
    Part("base", "", 0.079, (Box((0.0, 0.0, 0.0), (0.05, 0.05, 0.034)),)),
    Part(
        "j1", "base", 0.098, (Box((0.012, 0.0, 0.055), (0.035, 0.046, 0.06)),),
        (0.012, 0.0, 0.017), (0.0, 0.0, 1.0), degrees(-180, 180), _XM,
    ),
    Part(
        "j2", "j1", 0.139, (Box((0.024, 0.0, 0.145), (0.034, 0.046, 0.12)),),
        (0.012, 0.0, 0.0765), (0.0, 1.0, 0.0), degrees(-86, 86), _XM,
    ),
    Part(
        "j3", "j2", 0.133, (Box((0.098, 0.0, 0.2045), (0.10, 0.046, 0.034)),),
        (0.036, 0.0, 0.2045), (0.0, 1.0, 0.0), degrees(-86, 80), _XM,
    ),
    Part(
        "j4", "j3", 0.143, (Box((0.195, 0.0, 0.2045), (0.07, 0.05, 0.04)),),
        (0.160, 0.0, 0.2045), (0.0, 1.0, 0.0), degrees(-97, 113), _XM, tip=(0.286, 0.0, 0.2045),
    ),
    Part(
        "left", "j4", 0.01, (Box((0.265, 0.021, 0.2045), (0.045, 0.008, 0.02)),),
        (0.2417, 0.021, 0.2045), (0.0, 1.0, 0.0), (-0.011, 0.020), slides=True,
    ),
    Part(
        "right", "j4", 0.01, (Box((0.265, -0.021, 0.2045), (0.045, 0.008, 0.02)),),
        (0.2417, -0.021, 0.2045), (0.0, -1.0, 0.0), (-0.011, 0.020), slides=True,
    ),
)  # fmt: skip
# x is to the right, y ahead, z up; hip roll about y, hip pitch and knee about -x; legs in the order FR, FL, BL, BR.
_OUT, _IN = (-3.419, 0.279), (-0.279, 3.419)
_HIPS = (("fr", 0.09, 0.122, _OUT), ("fl", -0.09, 0.122, _IN), ("bl", -0.09, -0.122, _IN), ("br", 0.09, -0.122, _OUT))


def _leg(name: str, x: float, y: float, limits: tuple[float, float]) -> tuple[Part, Part, Part]:
    roll, pitch, knee = f"{name}_roll", f"{name}_pitch", f"{name}_knee"
    ahead, across = (0.0, 1.0, 0.0), (-1.0, 0.0, 0.0)
    return (
        Part(roll, "torso", 0.118, (Box((x, y, -0.055), (0.036, 0.03, 0.06)),), (x, y, 0.0), ahead, limits, _XM),
        Part(
            pitch, roll, 0.118, (Box((x, y, -0.144), (0.03, 0.036, 0.07)),),
            (x, y, -0.0965), across, (-2.14, 2.14), _XM, 0.002,
        ),
        Part(
            knee, pitch, 0.040, (Box((x, y, -0.242), (0.018, 0.018, 0.09)), Box((x, y, -0.292), (0.021, 0.021, 0.021))),
            (x, y, -0.191), across, (-1.57, 1.57), _XM, 0.002, tip=(x, y, -0.292),
        ),
    )  # fmt: skip


DKITTY_BODY = (Part("torso", "", 0.73, (Box((0.0, 0.0, 0.0), (0.18, 0.28, 0.036)),)), *(p for hip in _HIPS for p in _leg(*hip)))
