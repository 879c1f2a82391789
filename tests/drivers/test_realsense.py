"""RealSense through the library's own software device: stamps, alignment and distances by the code that hardware uses."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest

from robotrl.clock import WallClock
from robotrl.config import CameraPort
from robotrl.drivers.camera import CameraError
from robotrl.drivers.realsense import Frames, Motions, RealSense, library, serials

W, H, FPS = 64, 48, 30
SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def rs():
    return library()


class Device:
    """A D400 that is not there: pushed frames come out of the library's own syncer, or go into its recorder."""

    def __init__(self, rs, path: str = "", shift_m: float = 0.0) -> None:
        self.rs = rs
        self.device = rs.software_device()
        self.device.register_info(rs.camera_info.serial_number, "832112070000")
        self.device.create_matcher(rs.matchers.default)
        depth, colour = self.device.add_sensor("Depth"), self.device.add_sensor("Color")
        self.profiles = [
            depth.add_video_stream(self._video(rs.stream.depth, 0, 2, rs.format.z16)).as_video_stream_profile(),
            colour.add_video_stream(self._video(rs.stream.color, 1, 3, rs.format.rgb8)).as_video_stream_profile(),
        ]
        depth.add_read_only_option(rs.option.depth_units, 0.001)
        between = rs.extrinsics()
        between.rotation, between.translation = [1, 0, 0, 0, 1, 0, 0, 0, 1], [shift_m, 0, 0]
        self.profiles[0].register_extrinsics_to(self.profiles[1], between)
        self.own = [depth, colour]
        for sensor in self.own:
            sensor.set_metadata(rs.frame_metadata_value.actual_fps, FPS * 1000)
        self.recorder = rs.recorder(path, self.device) if path else None
        self.sensors = list(self.recorder.query_sensors()) if self.recorder else self.own
        self.syncer = rs.syncer(100)
        for sensor in self.sensors:
            sensor.open(sensor.get_stream_profiles()[0])
            sensor.start(self.syncer)

    def _video(self, stream, uid, bpp, layout):
        video = self.rs.video_stream()
        video.type, video.uid, video.width, video.height, video.fps, video.bpp, video.fmt = stream, uid, W, H, FPS, bpp, layout
        lens = self.rs.intrinsics()
        lens.width, lens.height, lens.fx, lens.fy, lens.ppx, lens.ppy = W, H, 60, 60, W / 2, H / 2
        video.intrinsics = lens
        return video

    def push(self, n: int, colour, depth, stamp_ms: float, domain) -> None:
        for sensor, data, bpp, profile in zip(self.own, (depth, colour), (2, 3), self.profiles, strict=True):
            frame = self.rs.software_video_frame()
            frame.pixels, frame.stride, frame.bpp, frame.profile = data, W * bpp, bpp, profile
            frame.timestamp, frame.domain, frame.frame_number = stamp_ms, domain, n
            if bpp == 2:
                frame.depth_units = 0.001
            sensor.on_video_frame(frame)

    def framesets(self):
        while frameset := self.syncer.poll_for_frames():
            yield frameset

    def close(self) -> None:
        for sensor in self.sensors:
            sensor.stop()
            sensor.close()
        self.sensors, self.recorder = [], None


def picture(n: int):
    """RGB and distances in mm, each frame its own."""
    rng = np.random.default_rng(n)
    return rng.integers(0, 255, (H, W, 3), np.uint8), np.full((H, W), 500 + n, np.uint16)


def test_stamps_of_each_clock_are_moved_onto_ours(rs):
    clock = WallClock()
    for domain, stamp in ((rs.timestamp_domain.hardware_clock, "device"), (rs.timestamp_domain.global_time, "device"),
                          (rs.timestamp_domain.system_time, "arrival")):  # fmt: skip
        device, frames = Device(rs), Frames(rs, False, clock)
        unix_ms = time.clock_gettime_ns(time.CLOCK_REALTIME) / 1e6
        begun = clock.now()
        base = 5000.0 if domain == rs.timestamp_domain.hardware_clock else unix_ms - 2000  # taken two seconds ago
        taken = []
        for n in range(1, 6):
            device.push(n, *picture(n), base + n * 1000 / FPS, domain)
            taken += [f for f in map(frames.take, device.framesets()) if f is not None]
        device.close()
        assert [f.number for f in taken] == sorted({f.number for f in taken}) and len(taken) >= 3
        assert all(f.stamp == stamp and (f.mark >= 0) is (stamp == "device") for f in taken)
        assert all(np.array_equal(f.image, picture(f.number)[0][:, :, ::-1]) for f in taken), "RGB, and we have BGR"
        if base != 5000.0:
            assert all(abs(f.t - (begun - 2 * SECOND + round(f.number * 1e9 / FPS))) < 50_000_000 for f in taken)
        else:
            assert all(begun - 5000 * 10**6 < f.t <= clock.now() for f in taken)
            assert all(b.t > a.t for a, b in itertools.pairwise(taken))


def test_the_middle_of_the_exposure_is_what_counts(rs):
    device, frames = Device(rs), Frames(rs, False, WallClock())
    for sensor in device.own:
        sensor.set_metadata(rs.frame_metadata_value.frame_timestamp, 20_000)
        sensor.set_metadata(rs.frame_metadata_value.sensor_timestamp, 12_000)
    unix_ms, begun = time.clock_gettime_ns(time.CLOCK_REALTIME) / 1e6, time.monotonic_ns()
    for n in range(1, 4):
        device.push(n, *picture(n), unix_ms - 1000, rs.timestamp_domain.global_time)
    taken = [f for f in map(frames.take, device.framesets()) if f is not None]
    device.close()
    assert taken and all(abs(f.t - (begun - SECOND - 8_000_000)) < 3_000_000 for f in taken)


def test_distances_lie_over_the_colour_pixel_by_pixel(rs):
    """Sensors 50 mm apart, all at 0.5 m: the distances move by fx * 50 / 500 = 6 pixels, by geometry."""
    device, frames = Device(rs, shift_m=0.05), Frames(rs, True, WallClock())
    colour, depth = picture(1)
    depth[:] = 500
    depth[:, 20] = 400
    for n in range(1, 8):
        device.push(n, colour, depth, n * 1000 / FPS, rs.timestamp_domain.hardware_clock)
    taken = [f for f in map(frames.take, device.framesets()) if f is not None]
    device.close()
    assert taken and taken[-1].depth.shape == (H, W) and taken[-1].depth_m == pytest.approx(0.001)
    row = taken[-1].depth[H // 2]
    moved = 60 * 0.05 / 0.5
    assert np.count_nonzero(row[: round(moved) - 1]) == 0 and np.mean(row[round(moved) + 1 : -1] > 0) > 0.8
    near = np.flatnonzero(row == 400)
    assert len(near) >= 1 and abs(near.mean() - (20 + 60 * 0.05 / 0.4)) <= 1.5


def test_a_recording_plays_through_the_same_class(rs, tmp_path):
    path, clock = tmp_path / "seen.db3", WallClock()
    device = Device(rs, str(path))
    for n in range(1, 21):
        device.push(n, *picture(n), n * 1000 / FPS, rs.timestamp_domain.hardware_clock)
        list(device.framesets())
    device.close()
    del device
    camera = RealSense(CameraPort(kind="file", path=str(path), depth=True), clock, real_time=False)
    time.sleep(0.2)  # six pictures long: who comes late loses the oldest at most, and none between two
    taken = []
    with pytest.raises(CameraError, match="has come to its end"):
        while True:
            if (frame := camera.read(clock.now() + SECOND)) is not None:
                taken.append(frame)
    camera.close()
    numbers = [frame.number for frame in taken]
    assert camera.identity == "832112070000" and numbers and numbers == list(range(numbers[0], 21)), numbers
    for frame in taken:
        colour, depth = picture(frame.number)
        assert np.array_equal(frame.image, colour[:, :, ::-1]) and frame.stamp == "device"
        assert frame.mark == round(frame.number * 1e9 / FPS) or abs(frame.mark - frame.number * 1e9 / FPS) < 1000
        assert np.all(frame.depth[frame.depth > 0] == depth[0, 0]) and np.count_nonzero(frame.depth) > W * H * 0.9
    cut = tmp_path / "cut.db3"
    cut.write_bytes(path.read_bytes()[:3000])
    for name, says in ((cut, "no RealSense recording that can be played"), (tmp_path / "none.db3", "no such recording")):
        with pytest.raises(CameraError, match=says) as caught:
            RealSense(CameraPort(kind="file", path=str(name)), clock)
        assert "\n" not in str(caught.value)


class Moved:
    """The motion module of a D435i that is not there."""

    def __init__(self, rs) -> None:
        self.rs, self.device = rs, rs.software_device()
        self.sensor = self.device.add_sensor("Motion Module")
        self.profiles = {}
        kinds = ((rs.stream.gyro, 200), (rs.stream.gyro, 400), (rs.stream.accel, 63), (rs.stream.accel, 250))
        for uid, (stream, rate) in enumerate(kinds):
            motion = rs.motion_stream()
            motion.type, motion.index, motion.uid, motion.fps, motion.fmt = stream, 0, uid, rate, rs.format.motion_xyz32f
            self.profiles[stream, rate] = self.sensor.add_motion_stream(motion).as_motion_stream_profile()

    def push(self, stream, rate, number, stamp_ms, at, domain) -> None:
        frame, data = self.rs.software_motion_frame(), self.rs.vector()
        data.x, data.y, data.z = at
        frame.data, frame.timestamp, frame.domain, frame.frame_number = data, stamp_ms, domain, number
        frame.profile = self.profiles[stream, rate]
        self.sensor.on_motion_frame(frame)


@pytest.mark.parametrize("named", ["hardware_clock", "global_time"])
def test_every_sample_of_a_cameras_imu_comes_by_its_own_time(rs, named):
    moved, clock, domain = Moved(rs), WallClock(), getattr(rs.timestamp_domain, named)
    motions = Motions(rs, moved.sensor, clock)
    begun = clock.now()
    base = 7000.0 if named == "hardware_clock" else time.clock_gettime_ns(time.CLOCK_REALTIME) / 1e6 - 2000  # two seconds ago
    for n in range(400):
        moved.push(rs.stream.gyro, 200, n, base + 5 * n, (0.01 * n, -1.0, 2.0), domain)
        moved.push(rs.stream.accel, 250, n, base + 4 * n, (0.5, -9.8, 0.01 * n), domain)
    rates, accel = motions.take()
    assert motions.take() == ((), ())
    motions.close()
    for samples, step, of in ((rates, 5, 1), (accel, 4, 3)):
        assert len(samples) == 400, "none is lost"
        assert [sample[of] for sample in samples] == pytest.approx([0.01 * n for n in range(400)])
        times = np.array([sample[0] for sample in samples])
        if named == "global_time":
            assert abs(times[0] - (begun - 2 * SECOND)) < 50_000_000
            assert np.quantile(np.abs(np.diff(times) - step * 1_000_000), 0.9) < 50_000
        else:
            assert times[-1] <= clock.now() and (np.diff(times) > 0).all()
    assert accel[0][1:3] == pytest.approx((0.5, -9.8)) and rates[0][2:] == pytest.approx((-1.0, 2.0))


def test_a_camera_that_is_not_there_is_one_line(rs):
    if serials(rs):
        pytest.skip("a RealSense is plugged in")
    for serial in ("", "123"):
        with pytest.raises(CameraError, match="no RealSense on USB; plug it in"):
            RealSense(CameraPort(kind="realsense", serial=serial), WallClock())
