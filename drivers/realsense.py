"""Intel RealSense: colour, and the distance of each of its pixels; live by serial number, or a recording (.db3) that plays.

librealsense needs libusb, which comes in a wheel (libusb-package) where the system has none; it is loaded first. Stamps: with the
kernel's metadata a frame has the camera's own clock, moved onto ours (`camera.ClockMap`), or librealsense's estimate of the same
in the time of day (`global_time`); the middle of the exposure, where the camera says it. Without metadata it has its arrival,
which is then said. Units and traps: hardware facts 8, dependencies 5; what 2.59 does with a recording was tried.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import importlib
import importlib.util
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robotrl.clock import Clock
from robotrl.complaint import command
from robotrl.config import CameraPort
from robotrl.drivers.camera import CameraError, ClockMap, Frame, Pixels, Sample, Stamp

SILENT_NS = 1_000_000_000  # without a frame, before the camera is asked whether it is still there
COLOUR_STEP_S, STEREO_STEP_S = 1e-4, 1e-6  # of the option `exposure`: the colour sensor's UVC unit, the stereo sensor's
EXPOSED_NS = 200_000_000  # no frame is read out so long after the middle of its exposure
SAMPLES, SAMPLES_HZ = 1024, 250  # of an IMU that wait for us, two seconds of both kinds; and a second, at most
FIND = command("find-cameras")


def library() -> Any:
    """pyrealsense2. CameraError where it cannot be loaded."""
    try:
        try:
            return importlib.import_module("pyrealsense2")
        except ImportError:
            spec = importlib.util.find_spec("libusb_package")
            if spec is None or spec.origin is None:
                raise
            ctypes.CDLL(str(Path(spec.origin).parent / "libusb-1.0.so"), mode=ctypes.RTLD_GLOBAL)
            return importlib.import_module("pyrealsense2")
    except (ImportError, OSError) as error:
        raise CameraError(f"RealSense: its library cannot be loaded ({error}); see: {command('doctor')}") from None


def now_minus_unix() -> int:
    """What is to be added to the time of day, ns, for our clock's; as it is now."""
    return time.monotonic_ns() - time.clock_gettime_ns(time.CLOCK_REALTIME)


class Frames:
    """From librealsense's framesets to ours; the same for a live camera, a recording and a software device."""

    def __init__(self, rs: Any, depth: bool, clock: Clock) -> None:
        self._rs, self._clock, self._map = rs, clock, ClockMap()
        self._align = rs.align(rs.stream.color) if depth else None

    def take(self, frameset: Any) -> Frame | None:
        """None for one without colour, or, where the distances are wanted, without these: the first ones come alone."""
        distances, depth_m = None, 0.001
        if self._align is not None:
            if not frameset.get_depth_frame() or not frameset.get_color_frame():
                return None
            frameset = self._align.process(frameset)
            depth = frameset.get_depth_frame()
            distances, depth_m = np.array(depth.get_data(), np.uint16), float(depth.get_units())
        colour = frameset.get_color_frame()
        if not colour:
            return None
        t, stamp, mark = self._when(colour)
        return Frame(
            t=t, stamp=stamp, number=int(colour.get_frame_number()), mark=mark, image=self._pixels(colour), depth=distances,
            depth_m=depth_m,
        )  # fmt: skip

    def _pixels(self, frame: Any) -> Pixels:
        """A copy: the library uses its memory again."""
        data: NDArray[np.uint8] = np.asanyarray(frame.get_data())
        layout = frame.profile.format()
        if layout == self._rs.format.bgr8:
            return data.copy()
        if layout == self._rs.format.rgb8:
            return np.ascontiguousarray(data[:, :, ::-1])
        raise CameraError(f"RealSense: colour as {layout} is not read; record it as bgr8 or rgb8")

    def _when(self, frame: Any) -> tuple[int, Stamp, int]:
        """When it was exposed, whose word that is, and the camera's own stamp (-1: it has none)."""
        mark, arrival = round(frame.get_timestamp() * 1e6), self._clock.now()
        domain, domains = frame.get_frame_timestamp_domain(), self._rs.timestamp_domain
        if domain == domains.system_time:
            return min(arrival, mark + now_minus_unix()), "arrival", -1
        if domain == domains.global_time:
            return min(arrival, mark + now_minus_unix()) - self._exposed(frame), "device", mark
        return self._map(mark, arrival) - self._exposed(frame), "device", mark

    def _exposed(self, frame: Any) -> int:
        """ns from the middle of the exposure to the stamp; 0 where the camera does not say."""
        read_out, middle = self._rs.frame_metadata_value.frame_timestamp, self._rs.frame_metadata_value.sensor_timestamp
        if not (frame.supports_frame_metadata(read_out) and frame.supports_frame_metadata(middle)):
            return 0
        between = 1000 * int(frame.get_frame_metadata(read_out) - frame.get_frame_metadata(middle))
        return between if 0 <= between < EXPOSED_NS else 0


class Motions:
    """A D435i's own IMU. Not by the pipeline, out of whose framesets 38 samples of 240 came: a queue at the sensor has all."""

    def __init__(self, rs: Any, sensor: Any, clock: Clock) -> None:
        """RuntimeError of the library's when it cannot be opened."""
        self._rs, self._sensor, self._clock = rs, sensor, clock
        self._queue = rs.frame_queue(SAMPLES, True)
        self._maps = {rs.stream.gyro: ClockMap(), rs.stream.accel: ClockMap()}
        sensor.open(self._chosen(sensor.get_stream_profiles()))
        sensor.start(self._queue)

    def _chosen(self, profiles: list[Any]) -> list[Any]:
        """Of each of the two the quickest of at most 250 a second: more would be more wakings, and motors are slower."""
        out = []
        for stream in self._maps:
            rates = [profile for profile in profiles if profile.stream_type() == stream]
            out.append(max(rates, key=lambda profile: profile.fps() if profile.fps() <= SAMPLES_HZ else -profile.fps()))
        return out

    def take(self) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
        """What came since the last call: rates of turning, rad/s, and accelerations, m/s2, in the camera's own axes."""
        found: dict[Any, list[Sample]] = {stream: [] for stream in self._maps}
        while frame := self._queue.poll_for_frame():
            stream, at = frame.profile.stream_type(), frame.as_motion_frame().get_motion_data()
            found[stream].append((self._when(frame, stream), at.x, at.y, at.z))
        rates, accel = (tuple(samples) for samples in found.values())
        return rates, accel

    def _when(self, frame: Any, stream: Any) -> int:
        mark, arrival = round(frame.get_timestamp() * 1e6), self._clock.now()
        if frame.get_frame_timestamp_domain() == self._rs.timestamp_domain.hardware_clock:
            return self._maps[stream](mark, arrival)
        return min(arrival, mark + now_minus_unix())

    def close(self) -> None:
        with contextlib.suppress(RuntimeError):  # it was gone
            self._sensor.stop()
            self._sensor.close()


class RealSense:
    """One camera, or one recording, that streams. `identity` is the camera's serial number, of a recording too."""

    def __init__(self, wiring: CameraPort, clock: Clock, real_time: bool = True) -> None:
        """`real_time`: a recording takes its time; else each frame comes when it is asked for."""
        self._rs = rs = library()
        self._clock, self._recorded = clock, wiring.kind == "file"
        self.name = wiring.path if self._recorded else f"RealSense {wiring.serial}".rstrip()
        self._frames = Frames(rs, wiring.depth, clock)
        self._motions: Motions | None = None
        config, serial = rs.config(), wiring.serial
        if self._recorded:
            if not Path(wiring.path).is_file():
                raise CameraError(f"{wiring.path}: no such recording; give a .db3 of a RealSense")
            config.enable_device_from_file(wiring.path, repeat_playback=False)
        else:
            serial = self._found(wiring)
            config.enable_device(serial)
            size = wiring.width, wiring.height
            config.enable_stream(rs.stream.color, *size, rs.format.bgr8, round(wiring.rate_hz))
            if wiring.depth:
                config.enable_stream(rs.stream.depth, *size, rs.format.z16, round(wiring.rate_hz))
        self._pipeline = rs.pipeline()
        try:
            if self._recorded:  # before it starts: a recording that is under way has dropped what nobody fetched in time
                config.resolve(rs.pipeline_wrapper(self._pipeline)).get_device().as_playback().set_real_time(real_time)
            self._device = self._pipeline.start(config).get_device()
        except RuntimeError as error:
            raise CameraError(self._why(str(error), wiring)) from None
        self.identity = self._device.get_info(rs.camera_info.serial_number) if self._tells_serial() else serial or wiring.path
        try:
            if not self._recorded:
                self._fix(wiring)
        except (RuntimeError, CameraError) as error:
            self.close()
            raise CameraError(f"{self.name}: {error}") from None
        self._motions = self._moved(wiring)
        self._heard = clock.now()

    def _moved(self, wiring: CameraPort) -> Motions | None:
        """Its IMU, where that is wanted. A recording's is not played: the library drops most of what a second reader asks for."""
        if not wiring.imu or self._recorded:
            return None
        there = [sensor for sensor in self._device.query_sensors() if sensor.is_motion_sensor()]
        try:
            if not there:
                raise CameraError("has no IMU, which a D435i has; set imu = false")
            return Motions(self._rs, there[0], self._clock)
        except (RuntimeError, CameraError) as error:
            self.close()
            raise CameraError(f"{self.name}: {' '.join(str(error).split())}") from None

    def _tells_serial(self) -> bool:
        return bool(self._device.supports(self._rs.camera_info.serial_number))

    def _found(self, wiring: CameraPort) -> str:
        """The serial number of the camera that is meant; the only one there is, where none is named."""
        there = serials(self._rs)
        if wiring.serial in there or (not wiring.serial and len(there) == 1):
            return wiring.serial or there[0]
        if not there:
            raise CameraError(f"{self.name}: no RealSense on USB; plug it in, or see: {FIND}")
        raise CameraError(f"{self.name}: there are {', '.join(there)}; write the serial of one")

    def _why(self, said: str, wiring: CameraPort) -> str:
        said = " ".join(said.split())
        if self._recorded:
            return f"{wiring.path}: is no RealSense recording that can be played, or was cut off ({said.rpartition(': ')[2]})"
        if "resolve" in said:
            size = f"{wiring.width}x{wiring.height} at {wiring.rate_hz:g}"
            return f"{self.name}: has no {size} a second on this USB port; see its modes with rs-enumerate-devices"
        return f"{self.name}: does not start ({said}); unplug it and plug it in again"

    def _fix(self, wiring: CameraPort) -> None:
        """Exposure as it is asked for; never a frame rate that gives way to it."""
        rs = self._rs
        sensor = self._device.first_color_sensor() if self._has_colour_sensor() else self._device.first_depth_sensor()
        if sensor.supports(rs.option.auto_exposure_priority):
            sensor.set_option(rs.option.auto_exposure_priority, 0)
        if wiring.exposure_s:
            step = COLOUR_STEP_S if sensor.is_color_sensor() else STEREO_STEP_S
            sensor.set_option(rs.option.enable_auto_exposure, 0)
            sensor.set_option(rs.option.exposure, max(1, round(wiring.exposure_s / step)))

    def _has_colour_sensor(self) -> bool:
        """A D405 has none: its colour comes from the stereo pair."""
        return any(sensor.is_color_sensor() for sensor in self._device.query_sensors())

    def read(self, deadline: int) -> Frame | None:
        while True:
            left_ms = max(0, deadline - self._clock.now()) // 1_000_000
            try:
                there, frameset = self._pipeline.try_wait_for_frames(int(left_ms)) if left_ms else self._poll()
            except RuntimeError as error:
                raise CameraError(f"{self.name}: is gone ({' '.join(str(error).split())}); plug it in again") from None
            if not there:
                self._look()
                return None
            self._heard = self._clock.now()
            if (frame := self._frames.take(frameset)) is not None:
                return frame if self._motions is None else self._with_motions(frame)

    def _with_motions(self, frame: Frame) -> Frame:
        assert self._motions is not None
        rates, accel = self._motions.take()
        return dataclasses.replace(frame, rates=rates, accel=accel)

    def _poll(self) -> tuple[bool, Any]:
        frameset = self._pipeline.poll_for_frames()
        return frameset.size() > 0, frameset

    def _look(self) -> None:
        """Nothing has come: at its end, or gone? CameraError then."""
        if self._recorded:
            if self._device.as_playback().current_status() == self._rs.playback_status.stopped:
                raise CameraError(f"{self.name}: has come to its end; it is begun anew")
        elif self._clock.now() - self._heard > SILENT_NS:
            self._heard = self._clock.now()
            if not self._device.is_connected():
                raise CameraError(f"{self.name}: is gone; plug it in again")

    def close(self) -> None:
        if self._motions is not None:
            self._motions.close()
        try:
            self._pipeline.stop()
        except RuntimeError:
            pass  # it was gone, or at its end


def serials(rs: Any) -> list[str]:
    """Of all RealSense cameras on USB."""
    return [device.get_info(rs.camera_info.serial_number) for device in rs.context().query_devices()]
