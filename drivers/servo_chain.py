"""Many bus servos on one half-duplex line, Dynamixel or Feetech: the same face as the moteus chain (`chain.py`).

A cycle is one synchronous read and one synchronous write. Servos answer in turn, so one that is silent silences those asked
after it: they are asked again at once without it, only it is missed, and from the next cycle on it is asked last. Silence
costs `servos.quiet_s` and the second question. Each of TURNS cycles asks for another number of bytes, by which a late answer
is known; who was silent for so long is believed again after three answers in cycles in which nothing came late.
What the families do not share is behind `servo_line.Line`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from robotrl import config
from robotrl.clock import Clock
from robotrl.drivers import frozen, handshake
from robotrl.drivers.asking import PATIENCE_NS, Asking
from robotrl.drivers.dynamixel_line import DynamixelLine
from robotrl.drivers.feetech_line import FeetechLine
from robotrl.drivers.goalcheck import GoalCheck
from robotrl.drivers.handshake import Wanted
from robotrl.drivers.port import DeviceError, Port
from robotrl.drivers.pressing import Shares
from robotrl.drivers.servo_line import TURNS, Flags, Floats, Line, Reading
from robotrl.drivers.sudden import Sudden
from robotrl.drivers.sync import SyncRead
from robotrl.drivers.tables import Item, Mode
from robotrl.messages import Joints

CYCLE_NS = 12_000_000  # whole read at most, or quiet_s where that is longer: leaves time to write within 20 ms; chosen
READS_MAX = 256  # a babbling far end ends the cycle even where the clock stands still
SETTLE_READS = 4  # of what waits before a question
# No joint gets farther than 1.5 x its fastest between two readings (safety facts, row 4), the first of which may have been taken
# at the beginning of its cycle and the second at the end. One that is off may be turned by a hand: in JUMP_S at least.
WITHIN_S, JUMP_S = CYCLE_NS * 1e-9, 0.05
FALL_RAD_S = 8.0  # of a limp joint: no velocity limit holds it; chosen
ALONE = 3  # answers in cycles without a late one, after which who was silent for long is believed; chosen
UNKNOWN_AFTER = 3  # cycles unread after which any angle is believed; three misses stop the robot (row 1)
TURNS_MAX, SPEED_MAX, AMPS_MAX = 256.0, 40.0, 20.0  # rev, rad/s, A: no servo of these families goes beyond
ROUND_TRIP_NS = 4_000_000  # beyond it the adapter holds bytes back (row 12)
TRIPS = 5
STOPPED, POSITION, TIMEOUT = int(Mode.STOPPED), int(Mode.POSITION), int(Mode.TIMEOUT)
STARTING_NS = 200_000_000  # for every servo to have heard that it is switched on; chosen
BITS = 10  # of a byte on the line
TWICE_READS = 4  # of one servo's block: two servos of one number differ in it, and what they say at once is unsound
EVERY_ID = range(253)


class ServoChain:
    """All servos of `robot` on `port`. ValueError for wiring that cannot be, DeviceError for servos of a model that it does not
    know, PortError when the port is lost.

    `frame_errors` counts damaged and implausible answers, goals that did not arrive (goalcheck.py), and torque without a
    watchdog, which the next write arms; `late_replies` sound ones that nobody was waiting for; `round_trip_ns` is the last
    read's; `rebooted` are the numbers of those that lost what the start had set up.
    """

    checksum = False  # the line has none to be turned on

    def __init__(self, port: Port, robot: config.Robot, clock: Clock, starts: bool = True) -> None:
        """`starts`: a write after a stop switches torque on."""
        servos = robot.servos
        n = len(servos.ids)
        self.frame_errors = self.late_replies = self.round_trip_ns = 0
        self.rebooted: tuple[int, ...] = ()
        self.line: Line = FeetechLine(robot) if servos.protocol == "feetech" else DynamixelLine(robot)
        self._port, self._servos, self._clock = port, servos, clock
        self._sign, self._offset = np.asarray(servos.sign, float), np.asarray(servos.offset)
        self._gear = np.asarray(servos.gear or (1.0,) * n)
        self._ratio = self._sign / self._gear  # of joint to horn
        self._nm_per_amp = self._sign * self._gear * servos.nm_per_amp
        self._values = np.full((5, n), math.nan)  # position, velocity, torque, temperature, voltage
        self._mode, self._fault = np.full(n, -1), np.zeros(n, int)
        self._missed = np.full(n, UNKNOWN_AFTER)
        self._silent = np.zeros(n, int)  # cycles in which each was asked and said nothing: at first it was not asked
        self._doubts = np.zeros(n, int)  # answers still to come, none beside a late one, before a servo is believed
        self._spoke, self._lost = np.zeros(n, bool), np.zeros(n, bool)  # in this cycle; the last: that its registers are
        self._fastest = 1.5 * max(servos.velocity_limit, FALL_RAD_S) / self._gear
        self._sent, self._heard_at = 0, np.zeros(n)  # ns: of this cycle, and of the one in which each said anything last
        self._looked_at = np.zeros(n)  # ns: when each was asked alone last, because it has lost its registers
        self._quiet_ns = round(servos.quiet_s * 1e9)
        self._turn = 0
        self._order = self._all = tuple(range(n))  # in which they are asked: the silent late, who silences others last
        self._stalls = np.zeros(n, int)  # a cycle's first question has ended there, the greatest number last; 0: heard since
        self._shares, self._goals, self._sudden = Shares(robot), GoalCheck(n, self.line.tick), Sudden(n)
        self._frozen = frozen.Frozen(robot)
        self._led: tuple[float, ...] = ()  # targets, where they are the last that was said
        self._unwatched: tuple[int, ...] = ()  # numbers of those that said so in this cycle
        self._starts = starts
        self._starting: int | None = None  # since when; None: the last that was sent is a stop, or a Feetech's brake
        self._braked = False  # Feetech have been: who then says that it has torque may go by no goal, also after a stop unheard
        self._asking = Asking(port, clock, servos.protocol)

    # ---- a cycle

    def read(self, tick: int, patience_ns: int = 0) -> Joints:
        """Ask all servos and collect what comes in time; `t` is when they were asked. `patience_ns`: wait so long at least.

        A servo that was not heard keeps its last values (nan and mode -1 before the first); its `missed` counts the cycles since.
        """
        late = self.late_replies
        self._settle()
        self._turn = (self._turn + 1) % TURNS
        sent = self._sent = self._clock.now()
        self._spoke[:] = self._lost[:] = False
        self._unwatched = ()
        self._missed += 1
        left = self._order
        while left:
            left = self._ask(left, sent, patience_ns)
        if self.rebooted:
            self._look_after_the_rebooted(sent, patience_ns)
        self._doubt(alone=self.late_replies == late)
        self.round_trip_ns = self._clock.now() - sent
        silent = self._missed > 0
        self._stalls *= silent
        # Not before it counts as lost: of a line that holds answers up each would be heard now and then, and none seem lost.
        last = silent + self._stalls * (self._missed > UNKNOWN_AFTER)
        self._order = tuple(np.argsort(last, kind="stable").tolist()) if silent.any() else self._all
        position, velocity, torque, temp_c, voltage = map(tuple, self._values.tolist())
        starting = self._starting is not None and sent - self._starting <= STARTING_NS
        self._shares.read(sent, velocity, torque, temp_c, starting)
        if self._led:
            goes = (self._mode == POSITION) & ~silent
            goes[list(self._shares.pressing)] = False
            self._frozen.read(sent, position, torque, self._led, goes.tolist())
        return Joints(
            t=sent, tick=tick, position=position, velocity=velocity, torque=torque, temp_c=temp_c, voltage=voltage,
            mode=tuple(self._mode.tolist()), fault=tuple(self._fault.tolist()), missed=tuple(self._missed.tolist()),
        )  # fmt: skip

    @property
    def frozen(self) -> bool:
        """A servo's reading stands still while its motor runs."""
        return bool(self._frozen.servos)

    def skip(self, cycles: int) -> None:
        """As if it had asked so often before: each cycle's question has another size."""
        self._turn = (self._turn + cycles) % TURNS

    def write(self, targets: Sequence[float], but: Sequence[int] = ()) -> tuple[float, ...]:
        """Send each servo its goal; `targets` (n,) rad. Returns the targets the sent bytes hold: whole ticks. `but`: places of
        servos that are sent nothing.

        For STARTING_NS after a stop, servos without torque are switched on, their goal before and after it: which of the two
        a servo goes by depends on its firmware. Whose torque goes later stays off. A Feetech's brake, which it says is torque,
        ends in the same way. ValueError, and not one byte sent, for a wrong count or no number.
        """
        wanted = np.asarray(targets, float)
        if wanted.shape != self._sign.shape:
            raise ValueError(f"{len(targets)} targets for {len(self._sign)} servos; nothing was sent")
        if self._led:
            wanted = np.asarray(self._frozen.lead(wanted.tolist(), self._led))
        power = np.array(self._shares.of_supply())
        power[list(self._frozen.servos)] = frozen.SHARE
        packet, held = self.line.goals(self._sign * wanted * self._gear + self._offset, power, but)
        now = self._clock.now()
        if self._starting is None and self._starts:
            self._starting = now
        limp = (self._mode == STOPPED) | (self._braked & (self._mode == POSITION))
        limp[list(but)] = False  # without a goal it would go for its old one
        if limp.any() and self._starting is not None and now - self._starting < STARTING_NS:
            packet += self.line.switch_on([self._servos.ids[i] for i in np.flatnonzero(limp)]) + packet
        self._port.write(self._watch() + packet)
        self._goals.sent(held, but)
        self._led = tuple(self._joint(held).tolist())
        return self._led

    def damp(self) -> None:
        """Brake, where they are, with torque on. To be sent every cycle."""
        self._goals.forget()
        self._led = ()
        if self._servos.protocol == "feetech":  # a Dynamixel's next goal ends its brake by itself
            self._starting, self._braked = None, True
        self._port.write(self._watch() + self.line.damp(self._sign * self._values[0] * self._gear + self._offset))

    def stop(self) -> None:
        """Torque off for all. Sent is not done: see `confirmed_off`."""
        self._starting, self._led = None, ()
        self._shares.let_go()
        self._frozen.let_go()
        self._goals.forget()
        self._port.write(self.line.stopping)

    def stop_all(self) -> None:
        """Torque off for every servo on the bus, whatever its id: what is left where `stop` was not obeyed (row 63)."""
        self._starting = None
        self._port.write(self.line.stopping_all)

    def confirmed_off(self, patience_ns: int = 0) -> bool:
        """Read back: True only when each servo has just said so. `patience_ns`: who has time may wait longer than a cycle."""
        joints = self.read(-1, patience_ns)
        return not any(joints.missed) and all(mode == Mode.STOPPED for mode in joints.mode)

    def clear(self) -> tuple[int, ...]:
        """Forget the watchdog's stop of those last read so; their ids. Torque stays, for an arm that is let go falls; the goal is
        to follow at once, since until then they may go for their old one."""
        stuck = tuple(s for s, mode in zip(self._servos.ids, self._mode, strict=True) if mode == Mode.TIMEOUT)
        if stuck:
            self._port.write(self.line.forgive(stuck))
        return stuck

    def forgive(self) -> None:
        """The same: what a motor needs a stop for is `clear`'s, and these need none."""
        self.clear()

    # ---- the start

    def configure(self) -> None:
        """Set up every servo's RAM, and read back. DeviceError at the first that is silent or differs. EEPROM stays as it is."""
        for wanted in self.line.wanted():
            self._set(wanted, self.line.ram(wanted.id))
            limits = self._asking.read(wanted.id, self.line.own)
            if len(limits) < len(self.line.own):
                raise DeviceError(f"{self._port.name}: {wanted}: does not say its own limits; check its cable")
            self.line.heed(wanted.id, limits)
        self.rebooted = ()
        self._doubts[:] = self._silent[:] = 0  # each has just answered, one question after another: nothing is late

    def adopt(self) -> None:
        """Of servos that hold, and whose RAM another program has left, or their power's return, set up what targets go by.
        DeviceError as `configure`. Torque, goal and watchdog stay as they are: who is freed of its watchdog's stop goes for its
        old goal, and one that is armed and then not fed ends the hold."""
        unset = self.rebooted if self.line.plain(self._servos.ids[0]) else self._servos.ids  # of a Feetech nothing tells
        for wanted in self.line.wanted():
            if wanted.id in unset:
                self._set(wanted, self.line.quiet_ram(wanted.id))
        self.rebooted = ()

    def _set(self, wanted: Wanted, settings: list[tuple[int, bytes]]) -> None:
        """Write addresses and bytes, and read back."""
        for address, data in settings:
            status = self._asking.write(wanted.id, address, data)
            if status is None:
                silent = [line for line in self.check() if "answer" in line]
                raise DeviceError(silent[0] if silent else f"{self._port.name}: {wanted}: does not answer; check its cable")
        for address, data in dict(settings).items():
            if (got := self._asking.bytes_at(wanted.id, address, len(data))) != data:
                what = f"register {address} reads {got.hex() or 'nothing'} after writing {data.hex()}"
                raise DeviceError(f"{self._port.name}: {wanted}: {what}; check cable and firmware")

    def check(self, set_up: bool = True) -> list[str]:
        """Handshake: one line for each thing that forbids motion; empty when all is well. Moves nothing, changes nothing.

        Without `set_up`, before `configure`: whether these are the robot's servos, and turn as it says. What `configure` writes,
        what a servo has tripped over, and how fast the adapter is, are no question then.
        """
        wanted, asking = self.line.wanted(), self._asking
        present = [p for w in wanted if (p := asking.ping(w.id)) is not None]
        if len(present) < len(wanted):  # who is there in their place?
            quick = Asking(self._port, self._clock, self._servos.protocol, self._quiet_ns)
            present += [p for i in EVERY_ID if i not in self._servos.ids and (p := quick.ping(i, 1)) is not None]
        read = {p.id: asking.read(p.id, self.line.items(w)) for w in wanted for p in present if p.id == w.id}
        garbled = [p.id for p in present if p.id in read and self._garbles(p.id)]
        out = handshake.roll_call(wanted, present, garbled)
        if not out:
            out = handshake.swapped(wanted, read)
            for w in wanted:
                self.line.heed(w.id, read[w.id])
                out += self.line.complaints(w, read[w.id] if set_up else self._as_set_up(w.id, read[w.id]))
            out += self._too_slow() if set_up else []
        return [f"{self._port.name}: {line}" for line in out]

    def _as_set_up(self, servo: int, read: dict[Item, int]) -> dict[Item, int]:
        """What will be read of a servo that nothing is wrong with once it is configured."""
        out = {item: 0 if item is self.line.fault else steps for item, steps in read.items()}
        for start, data in self.line.ram(servo):
            places = {item: item.address - start for item in read}
            out |= {i: i.decode(data[at : at + i.size]) for i, at in places.items() if 0 <= at <= len(data) - i.size}
        return out

    def _garbles(self, servo: int) -> bool:
        """Are a servo's answers unsound more often than not? Then two of them speak at once."""
        read, unheard = self.line.plain(servo) or self.line.asked((servo,), 0), 0
        for _ in range(TWICE_READS):
            self._settle()
            self._exchange(read, self._clock.now(), PATIENCE_NS)
            unheard += not read.complete
        return unheard * 2 > TWICE_READS

    def _too_slow(self) -> list[str]:
        trips = [self._asking.round_trip_ns for _ in range(TRIPS) if self._asking.ping(self._servos.ids[0]) is not None]
        # The fastest, because a latency timer delays every answer and a busy machine only some.
        trip = min(trips, default=0)
        return [f"{trip / 1e6:.1f} ms a question; set the adapter's latency_timer to 1 ms"] if trip > ROUND_TRIP_NS else []

    # ---- inside

    def _watch(self) -> bytes:
        """Arms the watchdogs of those that have torque without; in all other cycles nothing."""
        return self.line.forgive(self._unwatched) if self._unwatched else b""

    def _settle(self) -> None:
        """Take off the line what came before the question, and so is no answer to it."""
        for _ in range(SETTLE_READS):
            if not self._port.read(self._clock.now()):
                return
            self.late_replies += 1

    def _doubt(self, alone: bool) -> None:
        """After a cycle: whom not to believe in the next. `alone`: nothing that came in it was late."""
        doubted, heard = self._doubts > 0, self._spoke | self._lost
        self._silent = np.where(heard, 0, self._silent + 1)
        self._doubts = np.where(doubted & self._spoke, self._doubts - 1 if alone else ALONE, self._doubts)
        self._doubts[~heard & (doubted | (self._silent >= TURNS))] = ALONE

    def _ask(self, order: tuple[int, ...], sent: int, patience_ns: int) -> tuple[int, ...]:
        """One synchronous read of servos by place; those that were silenced by the first silent one, to be asked again."""
        read = self.line.asked(tuple([self._servos.ids[i] for i in order]), self._turn)
        self._exchange(read, sent, patience_ns)
        got = self.line.reading(read)
        self._take(order, got, read.heard)
        if got.unwatched.any():
            self._unwatched += tuple(read.ids[k] for k in np.flatnonzero(got.unwatched).tolist())
            self.frame_errors += 1
        if self._turn == TURNS - 1:
            self.frame_errors += self._goals.look(order, got.goal, read.heard & got.set_up & got.on & ~got.tripped)
        if read.complete:
            return ()
        unheard = [i for i, heard in zip(order, read.heard, strict=True) if not heard]
        if order is self._order:  # those of a question for which there is no time left may be silenced, and are no worse
            self._stalls[unheard[0]] = 1 + self._stalls.max()  # behind the others, or who is well again waits for one that is not
        again = self._clock.now() - sent < CYCLE_NS and not patience_ns
        after = set(order[order.index(unheard[0]) + 1 :])
        return tuple(i for i in unheard[1:] if i in after) if again else ()

    def _exchange(self, read: SyncRead, sent: int, patience_ns: int) -> None:
        """Ask, and collect answers until all have come, the line is quiet, or the cycle's time is up."""
        request, errors = read.begin(), read.errors
        port, clock, byte_ns = self._port, self._clock, BITS * 1_000_000_000 // self._servos.baud
        silence = max(self._quiet_ns, 2 * (read.size // len(read.ids)) * byte_ns)  # a slow line is a frame in saying one
        port.write(request)
        end = sent + max(CYCLE_NS, self._quiet_ns, patience_ns)
        deadline = clock.now() + len(request) * byte_ns + max(silence, patience_ns)
        for _ in range(READS_MAX):
            data = port.read(min(deadline, end))
            if not data or read.feed(data):
                break
            now = clock.now()
            if now >= end:
                break
            deadline = now + max(silence, patience_ns)
        if not read.complete:
            read.finish()
        self.frame_errors += read.errors - errors
        self.late_replies += read.strangers

    def _joint(self, horn: Floats) -> Floats:
        return self._ratio * (horn - self._offset)

    def _take(self, order: Sequence[int], got: Reading, heard: Flags) -> None:
        """Keep what is plausible of what was heard, by place. One that has lost its registers says nothing yet."""
        at = slice(None) if order is self._all else np.asarray(order)
        ratio = self._ratio[at]
        angle = ratio * (got.angle - self._offset[at])
        sane = (np.abs(got.angle) <= TURNS_MAX * math.tau) & (np.abs(got.speed) <= SPEED_MAX) & (np.abs(got.amps) <= AMPS_MAX)
        passed = (self._sent - self._heard_at[at]) * 1e-9 + WITHIN_S
        passed = np.where(self._mode[at] == POSITION, passed, np.maximum(passed, JUMP_S))
        far = np.abs(angle - self._values[0, at]) > self._fastest[at] * passed
        sane &= ~(far & (self._missed[at] <= UNKNOWN_AFTER))
        self._heard_at[at] = np.where(heard, self._sent, self._heard_at[at])  # what is refused once is not let in for its age
        good = heard & got.set_up & sane
        self._spoke[at] |= good
        good &= self._doubts[at] == 0
        temp_c = self._believed(order, got.temp_c, good)
        values = np.array((angle, ratio * got.speed, got.amps * self._nm_per_amp[at], temp_c, got.volts))
        mode = np.where(got.on, np.where(got.tripped, TIMEOUT, POSITION), STOPPED)
        if order is self._all and good.all():
            self._values, self._mode, self._fault = values, mode, got.fault
            self._missed[:] = 0
            return
        lost = heard & ~got.set_up
        self._lost[np.asarray(order)[lost]] = True
        self.rebooted = tuple(sorted({*self.rebooted, *(self._servos.ids[order[k]] for k in np.flatnonzero(lost).tolist())}))
        self.frame_errors += int((heard & got.set_up & ~sane).sum())
        places = np.asarray(order)[good]
        self._values[:, places] = values[:, good]
        self._mode[places], self._fault[places], self._missed[places] = mode[good], got.fault[good], 0

    def _believed(self, order: Sequence[int], temp_c: Floats, good: Flags) -> Floats:
        """deg C of those that are taken, by place; where one jumps, as it was."""
        before, out = self._values[3].tolist(), temp_c.tolist()
        for k, i in enumerate(order):
            if good[k] and self._sudden.doubted(i, before[i : i + 1], out[k : k + 1]):
                out[k] = before[i]
        return np.array(out)

    def _look_after_the_rebooted(self, sent: int, patience_ns: int) -> None:
        """Ask one that has lost its registers where they always are: what it says there, that its torque is off, is true.

        After its power was on anew that is all of them, one by one, more than a cycle has time for: the next ones in the next.
        """
        places = [self._servos.ids.index(servo) for servo in self.rebooted]
        for i in sorted(places, key=lambda i: self._looked_at[i]):
            read = self.line.plain(self._servos.ids[i])
            if read is None or not self._missed[i] or self._clock.now() - sent > max(CYCLE_NS, patience_ns):
                continue
            self._looked_at[i] = now = self._clock.now()
            self._exchange(read, now, patience_ns)  # to its end: an answer that is cut off is a late one in the next cycle
            got = self.line.reading(read)
            self._take((i,), got._replace(set_up=read.heard), read.heard)
