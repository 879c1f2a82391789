"""What is wrong with a camera, row by row of the catalogue, each with its control; and whose time a frame has."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from robotrl.drivers.camera import ClockMap, Frame, FrameWatch, decode, encode, whole

PERIOD = 33_333_333
RNG = np.random.default_rng(3)


def noisy(mean: float = 120.0, sd: float = 40.0) -> np.ndarray:
    return np.clip(RNG.normal(mean, sd, (48, 64, 3)), 0, 255).astype(np.uint8)


STILL = noisy()


def watch_all(frames, delay: int = 30_000_000) -> list[str]:
    """Verdicts on (number, mark, image) a period apart."""
    watch = FrameWatch(PERIOD)
    seen = []
    for i, (number, mark, image) in enumerate(frames):
        t = i * PERIOD
        seen.append(watch.see(Frame(t=t, stamp="driver", number=number, mark=mark, image=image), image, t + delay))
    return seen


def test_a_healthy_camera_is_healthy():
    assert watch_all((i, i * PERIOD, noisy()) for i in range(50)) == [""] * 50
    assert watch_all((-1, -1, noisy()) for i in range(50)) == [""] * 50  # one that neither counts nor stamps


@pytest.mark.parametrize(
    "stuck",
    [
        lambda i: (5, i * PERIOD, noisy()),  # its counter stands
        lambda i: (i, 5, noisy()),  # its clock stands
        lambda i, image=STILL: (i, i * PERIOD, image),  # the same picture under new numbers
        lambda i, image=STILL: (-1, -1, image),
    ],
)
def test_row_17_the_third_alike_is_frozen(stuck):
    before = [(100 + i, 10**12 + i * PERIOD, noisy()) for i in range(3)]
    after = [(200 + i, 10**13 + i * PERIOD, noisy()) for i in range(3)]
    seen = watch_all([*before, *(stuck(i + 1000) for i in range(5)), *after])
    assert seen[:4] == [""] * 4 and seen[4:8] == ["repeated", "frozen", "frozen", "frozen"] and seen[8:] == [""] * 3


def test_row_17_repeats_are_no_new_frame():
    """What shows one picture for ever is late too, by the last new one."""
    watch = FrameWatch(PERIOD)
    for i in range(4):
        assert not watch.silence(i * PERIOD + 1)
        watch.see(Frame(t=i * PERIOD, stamp="driver", image=STILL), STILL, i * PERIOD)
    assert watch.silence(4 * PERIOD + 1) == "late"


def test_row_17_two_alike_are_borne():
    pairs = itertools.chain.from_iterable([(i, i, noisy())] * 2 for i in range(10))
    assert watch_all(pairs) == ["", "repeated"] * 10


@pytest.mark.parametrize(("missing", "late"), [(0, False), (1, False), (2, False), (3, True), (10, True)])
def test_row_18_up_to_two_frames_may_stay_away(missing, late):
    """Looked at each ms until the frame after the gap has come; jitter of 5 ms."""
    watch, told = FrameWatch(PERIOD), ""
    for i in range(5):
        image = noisy()
        watch.see(Frame(t=i * PERIOD, stamp="driver", number=i, image=image), image, i * PERIOD + 30_000_000)
    last = 4 * PERIOD + 30_000_000
    told_at = 0
    for now in range(last, last + (missing + 1) * PERIOD + 5_000_000, 1_000_000):
        if watch.silence(now) and not told:
            told, told_at = watch.silence(now), now
    assert (told == "late") is late
    if late:
        assert told_at - last <= 121_000_000  # the row's budget, and our step
    image = noisy()
    watch.see(Frame(t=0, stamp="driver", number=5 + missing, image=image), image, 0)
    assert watch.dropped == missing


def test_row_18_a_frame_that_waited_in_a_buffer_is_late():
    watch, image = FrameWatch(PERIOD), noisy()
    assert watch.see(Frame(t=0, stamp="device", image=image), image, 80_000_000) == ""
    image = noisy()
    assert watch.see(Frame(t=PERIOD, stamp="device", image=image), image, 400_000_000) == "late"


def test_before_the_first_frame_silence_is_none():
    assert FrameWatch(PERIOD).silence(10**12) == ""


@pytest.mark.parametrize(
    ("image", "what"),
    [
        (lambda: noisy(2, 1), "black"),
        (lambda: noisy(254, 1), "white"),
        (lambda: noisy(90, 0.7), "flat"),
        (lambda: noisy(15, 6), ""),
        (lambda: noisy(235, 12), ""),
    ],
)
def test_row_19_five_frames_without_a_picture(image, what):
    seen = watch_all((i, i, image()) for i in range(8))
    assert seen == [""] * 4 + [what] * 4
    broken = watch_all((i, i, noisy() if i % 4 == 3 else image()) for i in range(40))
    assert broken == [""] * 40


def test_a_jpeg_that_was_cut_off_is_no_picture():
    data = encode(noisy())
    assert whole(data) and whole(data + bytes(20)) and decode(data) is not None
    for cut in (0, 1, 10, len(data) // 2, len(data) - 1):
        assert decode(data[:cut]) is None
        assert decode(data[:cut] + b"\xa5" * (len(data) - cut)) is None, "the rest is of an older frame"
    assert decode(b"\xff\xd8" + random.Random(1).randbytes(300) + b"\xff\xd9") is None


@pytest.mark.parametrize("drift", [50e-6, -50e-6])
def test_a_clock_is_moved_by_the_least_delay_of_late(drift):
    """Against the truth: a camera whose clock is 1,000 s off and drifts by 50 ppm, with delays of 8 to 40 ms."""
    rng, clock = random.Random(7), ClockMap()
    worst = 0
    for i in range(6000):  # 200 s at 30 Hz
        taken = i * PERIOD + 10**12
        mark = round((taken - 10**12) * (1 + drift)) + 77
        arrival = taken + 8_000_000 + rng.randrange(32_000_000)
        t = clock(mark, arrival)
        assert t <= arrival
        if i > 300:
            worst = max(worst, abs(t - taken - 8_000_000))
    assert worst < 2_000_000
    again = clock(5, 10**13)  # it was switched off and on
    assert again == 10**13
