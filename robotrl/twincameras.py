"""The twin's cameras as settings: the one beside a walk's track, and those that an arm sees by."""

from __future__ import annotations

from dataclasses import dataclass

from robotrl.configfile import within


@dataclass(frozen=True)
class Tripod:
    """The twin's camera beside the track, for a tracker by sight (robot.tracker.camera). Its lens is a wide webcam's; chosen."""

    width: int = within(1280, 64, 4096)  # px
    height: int = within(720, 48, 4096)
    focal_px: float = within(640.0, 10, 10_000)  # 90 degrees across: 5 m of track from 2.6 m
    distortion: tuple[float, ...] = within((-0.05, 0.02, 0.0005, -0.0003, -0.004), -10, 10)  # k1, k2, p1, p2, k3
    position: tuple[float, ...] = within((1.6, -2.4, 1.6), -100, 100)  # m; the robot begins at the origin and walks along x
    target: tuple[float, ...] = within((1.6, 0.0, 0.25), -100, 100)  # m, what it looks at
    rate_hz: float = within(60.0, 1, 1000)
    exposure_s: float = within(0.004, 0.00001, 0.1)
    delay_s: float = within(0.025, 0, 1)  # from the middle of the exposure to a picture in memory
    jitter_s: float = within(0.004, 0, 1)  # up to so much more
    drop: float = within(0.01, 0, 1)  # share of pictures that never come
    noise: float = within(2.0, 0, 100)  # grey levels, sd, where it is dark
    shot: float = within(0.02, 0, 10)  # grey levels of variance for each of light: sd 2.8 at 200 with the noise above
    blur_px: float = within(0.6, 0, 10)  # sd of a point's image


@dataclass(frozen=True)
class Optics:
    """How far the cameras that an arm sees by are from ideal pinholes, all of them alike. By default not at all."""

    distortion: tuple[float, ...] = within((0.0,) * 5, -10, 10)  # k1, k2, p1, p2, k3
    blur_px: float = within(0.0, 0, 10)  # sd of a point's image
    noise: float = within(0.0, 0, 100)  # grey levels, sd, where it is dark; Tripod's webcam has 2
    shot: float = within(0.0, 0, 10)  # grey levels of variance for each of light; Tripod's has 0.02
    moved_m: float = within(0.0, 0, 1)  # in each episode it stands up to so far from its place along each axis
    turned_m: float = within(0.0, 0, 1)  # and looks up to so far beside its target
    lit: float = within(0.0, 0, 0.9)  # and it is brighter or darker by up to this share, and the lamp aside by as much
    delay_s: float = within(0.0, 0, 1)  # from the exposure to a picture in memory
    jitter_s: float = within(0.0, 0, 1)  # up to so much more
    drop: float = within(0.0, 0, 1)  # share of pictures that never come


@dataclass(frozen=True)
class View:
    """A camera of the twin that an arm sees by, where it stands and what it looks at; its lens and sensor: Optics."""

    eye: tuple[float, ...] = within((0.7, 0.0, 0.3), -10, 10)  # m, base frame: where it stands
    target: tuple[float, ...] = within((0.2, 0.0, 0.14), -10, 10)  # m, base frame: what it looks at
    fov_deg: float = within(40.0, 1, 150)  # across the picture
