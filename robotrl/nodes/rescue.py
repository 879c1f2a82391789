"""The rescue: stops the motors when the servo driver has died, or hangs and was therefore killed. Started before the driver.

It holds a copy of the driver's open port and writes nothing on it until the kernel says that the driver is gone (pidfd): two
writers there never are. Then the robot's stop profile: damp, then off, read back. It needs neither guard nor manager nor bus to
be alive, and imports neither them nor anything that takes long. What it has to say goes to its log, and from there to the person.
The driver's next life, which waits for the port meanwhile, tells it of a stop key: an arm on its way down is held for as long.

A driver that is silent for twice the servos' own watchdog is killed: by then they have stopped themselves, and it was no use.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from robotrl import aloud, rundir
from robotrl.clock import Clock, WallClock
from robotrl.config import Robot
from robotrl.drivers.chains import Chain, chain_of
from robotrl.drivers.port import OpenPort, PortError
from robotrl.nodes.powerdown import STOW, Profile, first_reading
from robotrl.nodes.tether import BURIED, CHECKED, DONE, DROP, HELD, HOLD, NAME, OFF, ON, PORT, READY, RESCUED
from robotrl.nodes.waydown import LET_GO, Unheard
from robotrl.realtime import real_time

PRIORITY = 20  # the driver's, whose place it takes
STEP_S = 0.02
IDLE_MS = 200
TRIES = 3  # stops that are not read back; then all servos at once are told, and a person (safety facts, row 63)
INSIST_S = 1.0  # for which it goes on telling them
PATIENCE_NS = 100_000_000  # then, for each answer: on a machine without a free core they come late, and late is not never
DIE_S = 1.0  # for a driver that was killed to be gone: then it hangs in the kernel
CUT_OFF = b"!\n"  # ends what the driver was writing when it died: no number, so a moteus adapter refuses the line
CUT_OFF_NS = 20_000_000  # ends it for bus servos: a packet that stands still for so long is over
HOLD_NS = 200_000_000  # for which the next driver's word holds an arm: it comes fifty times a second
CUT_POWER = "CUT POWER: the motors did not confirm that they are off"


def say(what: str) -> None:
    aloud.say(f"rescue: {what}", sys.stderr)


@dataclass
class Outcome:
    """What a rescue came to."""

    confirmed: bool  # every motor read back as off
    seconds: float
    why: str = ""


def stop_motors(
    robot: Robot, chain: Chain, clock: Clock, torque_on: bool, tell: Callable[[str], None],
    held: Callable[[], bool] = lambda: False,
) -> Outcome:  # fmt: skip
    """The stop profile on a bus that is ours: damp or stow for `stop_damp_s` if torque was on, then off until it is read back.

    While `held` says so, which is asked in every step, an arm that is lowered stays where it is. After TRIES stops that were not
    read back every servo on the bus is told at once, `tell` gets the call to cut the power, and it goes on for INSIST_S.
    """
    began = clock.now()
    due = began

    def passed() -> float:
        return (clock.now() - began) * 1e-9

    def step() -> None:
        nonlocal due
        due = max(due + int(STEP_S * 1e9), clock.now())  # what was missed is not made up for: targets are slewed by steps
        clock.sleep_until(due)

    try:
        profile = Profile(robot, chain, STEP_S, began)
        joints = first_reading(chain, clock) if torque_on and robot.stop_profile == STOW else None  # damping waits for no answer
        due, told = clock.now(), Unheard(robot, tell)
        while torque_on and profile.step(clock.now(), joints, held()):
            told.step(joints, profile.raised)
            joints = chain.read(-1)  # it takes the adapter's answers off the line
            step()
        if profile.raised:
            tell(LET_GO)
        off, tries = clock.now(), 0
        while tries <= TRIES or clock.now() - off < INSIST_S * 1e9:
            chain.stop() if tries < TRIES else chain.stop_all()
            if chain.confirmed_off(0 if tries < TRIES else PATIENCE_NS):
                return Outcome(True, passed())
            if tries == TRIES:
                tell(CUT_POWER)
            tries += 1
            step()
    except PortError as error:
        return Outcome(False, passed(), str(error))
    return Outcome(False, passed(), CUT_POWER)


class Ward:
    """The driver's process, as the other end of the tether shows it."""

    def __init__(self, line: socket.socket, robot: Robot, clock: Clock, polls: int) -> None:
        self.line, self._robot, self._clock, self._polls = line, robot, clock, polls
        self.pidfd = self._fd = -1
        self.chain: Chain | None = None
        self.port: OpenPort | None = None
        self.torque_on = self.ended = False
        self._silent: int | None = None  # polls without a word; None until the first beat with this port
        self._answer(READY)

    def hear(self) -> None:
        """Take what the driver has said; no waiting."""
        while not self.ended:
            try:
                word, fds, _, _ = socket.recv_fds(self.line, 64, 4)
            except BlockingIOError:
                return
            except ConnectionResetError:  # it died before it had read our last echo; told once, what it had said comes after
                continue
            if word.startswith(PORT) and len(fds) == 2:
                self._take(fds[0], fds[1], word.endswith(CHECKED))
                continue
            for fd in fds:
                os.close(fd)
            if word in (ON, OFF):
                self.torque_on = word == ON
                self._silent = 0 if self.port is not None else None
                self._answer(HELD if self.port is not None else READY)
            elif word in (DROP, DONE):
                self._drop()
            elif not word:  # the line is closed: by its death, or it would be a driver that says nothing any more
                self.ended, self._silent = True, 0 if self.port is not None else None

    def hangs(self) -> bool:
        """To be asked once a poll: the driver has a port and has said nothing in so many of them.

        Polls, not time: in a machine that was paused as a whole nobody is late.
        """
        if self._silent is not None:
            self._silent += 1
        return self._silent is not None and self._silent > self._polls

    def _take(self, port: int, pidfd: int, checked: bool) -> None:
        self._drop()
        os.set_blocking(port, False)
        self._fd, self.pidfd = port, pidfd
        self.port = OpenPort(self._robot.servos.port, port, self._clock)
        self.chain = chain_of(self.port, self._robot, self._clock, checked, starts=False)

    def _drop(self) -> None:
        """Let go of the port: the driver, which is alive, takes its lock off by itself."""
        for fd in (self._fd, self.pidfd):
            if fd >= 0:
                os.close(fd)
        self._fd = self.pidfd = -1
        self.port = self.chain = self._silent = None

    def _answer(self, word: bytes) -> None:
        try:
            self.line.send(word)
        except OSError:
            pass  # gone, which its end will say, or too slow to be told

    def release(self) -> None:
        """Give the port back for the driver, which is dead: whoever opens it next may have it."""
        if self.port is not None:
            self.port.close()
            self._fd = -1
        self._drop()

    def close(self) -> None:
        self._drop()
        self.line.close()


class Rescue:
    """Waits for a driver, watches it until it ends, stops the motors where it left them on; then for the next one."""

    def __init__(self, robot: Robot, directory: Path, clock: Clock, period_s: float) -> None:
        """`directory`: where the bus's sockets are. OSError when no socket can be made there."""
        self._robot, self._clock = robot, clock
        self.stopping = False
        self._polls = round(max(2 * robot.servos.watchdog_s, 5 * period_s) / STEP_S)
        path = directory / NAME
        path.unlink(missing_ok=True)  # of a rescue that was killed
        self._waiting: socket.socket | None = None  # who has come to the door, and is to be watched next
        self._asked_at: int | None = None  # when he said last that a stop key holds the arm
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._door.bind(str(path))
        self._door.listen(4)

    def serve(self) -> None:
        """Until told to end or the manager is gone; and then still until the driver has ended."""
        while not self._over():
            if (line := self._at_the_door(IDLE_MS * 1e-3)) is not None:
                self._waiting = None
                ward = Ward(line, self._robot, self._clock, self._polls)
                try:
                    self._watch(ward)
                finally:
                    ward.close()
        self.close()

    def close(self) -> None:
        if self._waiting is not None:
            self._waiting.close()
        self._door.close()

    def _at_the_door(self, seconds: float) -> socket.socket | None:
        if self._waiting is None and select.select([self._door], [], [], seconds)[0]:
            self._waiting, _ = self._door.accept()
            self._waiting.setblocking(False)
        return self._waiting

    def _held(self) -> bool:
        """Does the driver's next life, which waits for the port, say that a stop key holds the arm? Not in a run that ends."""
        now = self._clock.now()
        try:
            while (line := self._at_the_door(0)) is not None:
                if (word := line.recv(64)) == HOLD:
                    self._asked_at = now
                elif not word:
                    raise ConnectionResetError
        except BlockingIOError:
            pass
        except OSError:  # it has died too
            assert self._waiting is not None
            self._waiting.close()
            self._waiting = None
        return self._asked_at is not None and now - self._asked_at <= HOLD_NS and not self._over()

    def _over(self) -> bool:
        if not self.stopping and not os.isatty(0) and select.select([0], [], [], 0)[0]:
            self.stopping = os.read(0, 4096) == b""
        return self.stopping

    def _watch(self, ward: Ward) -> None:
        while True:
            fds = [fd for fd in (ward.pidfd, ward.line.fileno() if not ward.ended else -1) if fd >= 0]
            ready = select.select(fds, [], [], STEP_S)[0]
            gone = ward.pidfd in ready
            ward.hear()  # its last words too, when it is gone: whether torque was on, or that all was done
            if ward.port is None and (ward.ended or self._over()):
                return
            if gone and ward.port is not None:
                return self._save(ward)
            if not ready and ward.hangs():
                self._kill(ward)

    def _kill(self, ward: Ward) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has died just now: what follows is the same
            signal.pidfd_send_signal(ward.pidfd, signal.SIGKILL)
        say("the servo driver was silent and held the motors' port: it is killed")
        if not select.select([ward.pidfd], [], [], DIE_S)[0]:
            say("CUT POWER: the servo driver hangs in the kernel, and nobody else may write to the motors")
            select.select([ward.pidfd], [], [])

    def _save(self, ward: Ward) -> None:
        assert ward.port is not None and ward.chain is not None
        began = time.monotonic_ns()
        ward.port.forget()
        if self._robot.servos.protocol == "moteus":
            with contextlib.suppress(PortError):  # the next write says it
                ward.port.write(CUT_OFF)
        else:
            self._clock.sleep_until(self._clock.now() + CUT_OFF_NS)
        outcome = stop_motors(self._robot, ward.chain, self._clock, ward.torque_on, say, self._held)
        how = RESCUED if outcome.confirmed else f"the motors are not confirmed to be off: {outcome.why}"
        was = "on" if ward.torque_on else "off"
        say(f"{BURIED} with torque {was}; {how} ({(time.monotonic_ns() - began) * 1e-9:.2f} s)")
        ward.release()


def main(argv: list[str]) -> int:
    directory = Path(argv[0])
    run = rundir.load(directory)
    try:
        rescue = Rescue(run.robot, rundir.bus_directory(directory), WallClock(), 1.0 / run.task.rate_hz)
    except OSError as error:
        aloud.say(f"{rundir.bus_directory(directory)}: no rescue: {error.strerror}; is the run live?", sys.stderr)
        return 2

    def end(*_: object) -> None:
        rescue.stopping = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    if run.real_time and (refused := real_time(PRIORITY, lock=True)):
        say(refused)
    gc.collect()
    gc.freeze()
    gc.disable()  # nothing here makes cycles
    rescue.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
