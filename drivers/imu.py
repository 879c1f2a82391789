"""WitMotion IMU (WT901 and its kin) on a serial line: attitude, body rates, specific force.

A sample is the run acceleration, rates, angles of one burst (`witmotion.py`); nothing is mixed across a lost frame.
Every sample goes through the filter of `attitude.py`, also those that nobody reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from robotrl import config
from robotrl.clock import Clock
from robotrl.drivers.attitude import ComplementaryFilter
from robotrl.drivers.imumount import Mounting
from robotrl.drivers.port import DeviceError, Port, PortError, SerialPort
from robotrl.drivers.tape import Tape
from robotrl.drivers.witmotion import (
    ACCEL,
    ANGLES,
    FRAME,
    RATES,
    REGISTERS,
    SAVE,
    UNLOCK,
    Parser,
    Sample,
    make_get,
    make_set,
    whole_samples,
)
from robotrl.messages import Imu

ACCEL_SCALE = 16 * 9.80665 / 32768  # m/s^2 a step
RATE_SCALE = math.radians(2000) / 32768  # rad/s a step
ANGLE_SCALE = math.pi / 32768  # rad a step
FULL = 32767  # a reading at the end of the range is no measurement
PITCH_MAX = math.pi / 2 + 0.02  # an Euler pitch goes no farther
BACKLOG_NS = 30_000_000  # after a late look, for which more may come of what had waited: the system holds some back
STALE_NS = 60_000_000  # without a good sample (safety facts, row 15)
SAME_MAX = 5  # identical samples in a row: a real sensor has noise (row 15)
PENDING_MAX = 65_536  # bytes parsed in one read at most

OUTPUT, RATE, BAUD, SIX_AXIS = 0x02, 0x03, 0x04, 0x24  # registers
OUTPUT_MASK = 0x0E  # acceleration, rates, angles
RATE_CODES = {10: 0x06, 20: 0x07, 50: 0x08, 100: 0x09, 200: 0x0B}
FACTORY_BAUD = 9600  # at which a new sensor says 10 samples a second
BAUD_CODES = {9600: 0x02, 19200: 0x03, 38400: 0x04, 57600: 0x05, 115200: 0x06, 230400: 0x07}
LISTEN_NS = 500_000_000  # for frames at that rate
TRIES = 3
ANSWER_NS = 200_000_000  # for a register's value to come back
SETTLE_NS = 200_000_000  # for a new baud rate to be taken


class Silent(DeviceError):
    """The sensor does not answer at this baud rate."""


def connect(wiring: config.ImuPort, clock: Clock, say: Callable[[str], None], tape: Tape | None = None) -> tuple[Port, WitImu]:
    """The sensor on its port, configured; one as new, that talks at another baud rate, is set to ours, which is said.

    `tape`: what passes between the two is on it. PortError when the port cannot be opened, DeviceError when the sensor does not
    do as it is told. The port is closed then.
    """
    try:
        return _configured(wiring, clock, tape)
    except Silent:
        if wiring.baud == FACTORY_BAUD or not _set_baud(wiring, clock):
            raise
    found = f"{wiring.port}: the imu talked at {FACTORY_BAUD} baud, as new, and was set to {wiring.baud}"
    try:
        made = _configured(wiring, clock, tape)
    except Silent:
        raise DeviceError(f"{found}; power-cycle it and start again") from None
    say(found)
    return made


def _configured(wiring: config.ImuPort, clock: Clock, tape: Tape | None) -> tuple[Port, WitImu]:
    port = SerialPort(wiring.port, wiring.baud, clock)
    try:
        sensor = WitImu(port, wiring, clock) if tape is None else WitImu(tape.around(port), wiring, tape.clock)
        sensor.configure()
    except PortError:
        port.close()
        raise
    return port, sensor


def _set_baud(wiring: config.ImuPort, clock: Clock) -> bool:
    """Listen at the factory's baud rate and, where a sensor is heard, set it to the wiring's; whether one was."""
    port = SerialPort(wiring.port, FACTORY_BAUD, clock)
    try:
        parser, deadline, heard = Parser(), clock.now() + LISTEN_NS, 0
        while heard < 3 and (data := port.read(deadline)):
            heard += sum(frame is not None for frame in parser.feed(data))
        if heard < 3:
            return False
        if wiring.baud not in BAUD_CODES:
            known = ", ".join(map(str, BAUD_CODES))
            raise DeviceError(f"{wiring.port}: the imu talks at {FACTORY_BAUD} baud; set imu.baud to one of {known}")
        port.write(UNLOCK + make_set(BAUD, BAUD_CODES[wiring.baud]))
        clock.sleep_until(clock.now() + SETTLE_NS)
        port.write(UNLOCK + SAVE)  # for a sensor that takes the new rate only when it is next switched on
        clock.sleep_until(clock.now() + SETTLE_NS)
    finally:
        port.close()
    return True


class WitImu:
    """The sensor on `port`. `errors`: bytes gone astray; `refused`: samples out of range."""

    def __init__(self, port: Port, wiring: config.ImuPort, clock: Clock) -> None:
        self.refused = 0
        self._row = 0  # samples refused since the last good one
        self._longest, self._longest_at = 0, 0  # such row of late, and when it was so long
        self._port, self._wiring, self._clock = port, wiring, clock
        self._parser = Parser()
        self._accel: tuple[int, ...] | None = None
        self._rates: tuple[int, ...] | None  # of the run that `_accel` began
        self._registers: tuple[int, ...] = ()
        self._raw: tuple[int, ...] = ()
        self._filter = ComplementaryFilter(1.0 / wiring.rate_hz, wiring.smoothing_s)
        self._mounting = Mounting.of(wiring)
        self._attitude: tuple[float, float]  # roll, pitch as filtered, of the sample in `_raw`
        self._yaw: float  # of that sample
        self._arrived = 0  # when that one did
        self._same = 1
        self._fresh: int | None = None  # when the sample in `_raw` arrived, if no message was made of it yet
        self._newest: Imu | None = None
        self._looked, self._deaf_until = clock.now(), 0

    @property
    def errors(self) -> int:
        return self._parser.errors

    def read(self) -> Imu | None:
        """Parse all that has arrived; the newest complete sample there has ever been, None before the first.

        `t` is the sample's arrival. It is `stale` 60 ms later, and when five samples in a row were identical; `refused`
        counts samples out of range in a row, for 60 ms, so that who looks less often than samples come still sees them.
        Who looks 60 ms after the last time or later throws away what has waited: when it arrived nobody can tell.
        PortError when the port is lost.
        """
        total = 0
        while total < PENDING_MAX:
            data = self._port.read(self._clock.now())
            now = self._clock.now()
            if now - self._looked >= STALE_NS:  # since the last look, or this call was held up
                self._deaf_until = now + BACKLOG_NS
            self._looked = now
            if deaf := now < self._deaf_until:
                self._forget()
            if not data:
                break
            total += len(data)
            if not deaf:
                self._parse(data)
        if self._fresh is not None:  # of a burst of samples only the newest is made a message
            self._newest, self._fresh = self._sample(self._fresh), None
        newest = self._newest
        if newest is None:
            return None
        now = self._clock.now()
        stale = self._same >= SAME_MAX or now - newest.t >= STALE_NS
        if now - self._longest_at >= STALE_NS:
            self._longest, self._longest_at = self._row, now
        if stale != newest.stale or self._longest != newest.refused:
            newest = Imu(
                t=newest.t,
                roll=newest.roll,
                pitch=newest.pitch,
                yaw=newest.yaw,
                rates=newest.rates,
                accel=newest.accel,
                stale=stale,
                refused=self._longest,
            )
            self._newest = newest
        return newest

    def _forget(self) -> None:
        """Begin anew with what comes next."""
        errors, self._parser = self._parser.errors, Parser()
        self._parser.errors = errors
        self._accel = self._rates = None

    def configure(self) -> None:
        """Set what is sent, how often, and fusion without magnetometer; save what was another.

        DeviceError when a register reads back wrong or not at all.
        """
        rate, baud = self._wiring.rate_hz, self._wiring.baud
        if rate not in RATE_CODES:
            raise DeviceError(f"{self._port.name}: imu rate {rate} Hz; use one of {', '.join(map(str, RATE_CODES))}")
        if 3 * FRAME * 10 * rate > 0.9 * baud:  # the sensor would lower its rate without a word
            raise DeviceError(f"{self._port.name}: {baud} baud is too slow for {rate} Hz; use 115200")
        wanted = {OUTPUT: OUTPUT_MASK, RATE: RATE_CODES[rate], SIX_AXIS: 1}
        if any([self._set(register, value) for register, value in wanted.items()]):  # its flash bears so many writes and no more
            self._port.write(UNLOCK + SAVE)

    def _set(self, register: int, value: int) -> bool:
        """Whether it had to be written; one that reads as it must be is let alone."""
        got: int | None = None
        for _ in range(TRIES):
            if (got := self._get(register)) is None:
                continue
            if got == value:
                return False
            for _ in range(TRIES):
                self._port.write(UNLOCK + make_set(register, value))
                if (got := self._get(register)) == value:
                    return True
            break
        where = f"{self._port.name}: imu register {register:#04x}"
        if got is None:
            raise Silent(f"{where} is not answered; check cable, power and baud ({self._wiring.baud})")
        raise DeviceError(f"{where} reads {got:#04x} after {value:#04x} was set; power-cycle the sensor")

    def _get(self, register: int) -> int | None:
        self._registers = ()
        self._port.write(UNLOCK + make_get(register))  # whether a read needs it, no page says
        deadline = self._clock.now() + ANSWER_NS
        total = 0
        while not self._registers and total < PENDING_MAX and (data := self._port.read(deadline)):
            total += len(data)
            self._parse(data)
        return self._registers[0] & 0xFFFF if self._registers else None

    def _parse(self, data: bytes) -> None:
        if self._parser.clear:
            samples, end = whole_samples(data)
            for sample in samples:
                self._complete(sample)
            if samples:
                self._accel = self._rates = None
                data = data[end:]
        for frame in self._parser.feed(data):
            if frame is None:
                self._accel = self._rates = None
                self._filter.restart()
            elif frame.kind == ACCEL:
                self._accel, self._rates = frame.numbers[:3], None
            elif frame.kind == RATES:
                self._rates = frame.numbers[:3]
            elif frame.kind == ANGLES:
                if self._accel and self._rates:
                    self._complete((*self._accel, *self._rates, *frame.numbers[:3]))
                else:
                    self._filter.restart()
                self._accel = self._rates = None
            elif frame.kind == REGISTERS:
                self._registers = frame.numbers

    def _complete(self, raw: Sample) -> None:
        six = raw[:6]
        _, _, _, p, q, r, roll, pitch, yaw = raw
        attitude = roll * ANGLE_SCALE, pitch * ANGLE_SCALE, yaw * ANGLE_SCALE
        if max(six) >= FULL or min(six) <= -FULL or abs(attitude[1]) > PITCH_MAX:
            self.refused += 1
            self._row += 1
            if self._row >= self._longest:
                self._longest, self._longest_at = self._row, self._clock.now()
            self._filter.restart()
            return
        self._row = 0
        self._same = self._same + 1 if raw == self._raw else 1
        self._raw = raw
        now = self._clock.now()
        if now - self._arrived >= STALE_NS:
            self._filter.restart()
        self._arrived = now
        turning = p * RATE_SCALE, q * RATE_SCALE, r * RATE_SCALE
        if self._mounting is not None:
            attitude, turning = self._mounting.attitude(*attitude), self._mounting.rates(turning)
        self._yaw = attitude[2]
        self._attitude = self._filter.update(attitude[0], attitude[1], turning)
        self._fresh = now

    def _sample(self, t: int) -> Imu:
        """The newest sample's numbers in SI units."""
        x, y, z, p, q, r = self._raw[:6]
        accel, rates = (x * ACCEL_SCALE, y * ACCEL_SCALE, z * ACCEL_SCALE), (p * RATE_SCALE, q * RATE_SCALE, r * RATE_SCALE)
        if self._mounting is not None:
            accel, rates = self._mounting.accel(accel), self._mounting.rates(rates)
        return Imu(t=t, roll=self._attitude[0], pitch=self._attitude[1], yaw=self._yaw, rates=rates, accel=accel)
