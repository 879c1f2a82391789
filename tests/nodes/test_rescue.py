"""The rescue: who writes to the motors after the driver's death, when, and that nobody ever does beside a living one.

The real rescue process; a driver that only pretends, at its own end of the tether; servos that are only emulated. What the far
end of the wire has heard is the judge: the driver's lines are numbered, the rescue's are read as the protocol has them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from robotrl import rundir
from robotrl.clock import LockstepClock, WallClock
from robotrl.config import Run
from robotrl.drivers.chain import Chain
from robotrl.drivers.port import PortError, SerialPort
from robotrl.nodes.rescue import CUT_POWER, Rescue, stop_motors
from robotrl.nodes.tether import Tether
from robotrl.sim.bare import BareBus
from robotrl.sim.faults import Mute
from robotrl.sim.twin import Twin

ROOT = Path(__file__).resolve().parents[2]
ALL, EVERY = set(range(1, 9)), {0x7F}  # the last where a busy machine lets the servos answer too late
TIOCGEXCL = 0x80045440  # of Linux: whether TIOCEXCL stands
DRIVER = """
import os, sys, time
from pathlib import Path
from robotrl.clock import WallClock
from robotrl.config import Servos
from robotrl.drivers.commands import Commands
from robotrl.drivers.port import PortError, SerialPort
from robotrl.nodes.tether import Tether
where, path, how = sys.argv[1:]
clock = WallClock()
tether = Tether(Path(where), clock)
assert tether.greet(20)
port = SerialPort(path, 115200, clock)
tether.give(port.fileno(), False)
if how != "off":
    port.write(Commands(Servos(), False).damping)
n = 0
for n in range(1 << 40):
    port.write(b"# %d\\n" % n)
    if n % 10 == 0:
        tether.beat(how != "off")
    if how == "drops" and n == 20:
        tether.drop()
        port.close()
        while port.fileno() < 0:
            try:
                port = SerialPort(path, 115200, clock)
            except PortError:
                tether.beat(False)
                time.sleep(0.01)
        tether.give(port.fileno(), False)
    if n == 40:
        print("lost" if tether.lost else "held", flush=True)
    if n >= 40 and how == "ends":
        tether.done()
        port.close()
        break
    if n >= 40 and how == "waits":
        sys.stdin.read()
        tether.done()
        os._exit(0)
    if n >= 40 and how == "raises":
        raise SystemError
    time.sleep(0.002)
"""


def files_of(folder: Path) -> set[str]:
    """What a process has open, by its /proc/PID/fd; what it closes meanwhile is left out."""
    found = set()
    for fd in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(os.path.realpath(fd, strict=True))
    return found


class Scene:
    """A rescue process in a run directory, and a pretended driver on emulated servos."""

    def __init__(self, folder: Path) -> None:
        self.bus = BareBus(Run().robot)
        run = Run(real_time=False)
        # 2 s are a hang: no driver is to be late for so long because the machine is busy with other things.
        self.run = replace(run, robot=replace(run.robot, servos=replace(run.robot.servos, port=self.bus.path, watchdog_s=1.0)))
        self.directory = rundir.create(self.run, folder, "wall")
        self.folder = tempfile.TemporaryDirectory(prefix="robotrl-")
        rundir.write_json(self.directory / "bus.json", {"directory": self.folder.name})
        self.log = self.directory / "rescue.log"
        self.driver: subprocess.Popen[bytes] | None = None
        self.rescue = self.start_rescue()

    def start_rescue(self) -> subprocess.Popen[bytes]:
        with open(self.log, "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "robotrl.nodes.rescue", str(self.directory)], stdin=subprocess.PIPE, stdout=log, stderr=log
            )

    def drive(self, how: str = "on") -> int:
        """Start a driver; returns once it has been driving for a while."""
        self.driver = subprocess.Popen(
            [sys.executable, "-c", DRIVER, self.folder.name, self.bus.path, how], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.driver.stdout is not None and self.driver.stdout.readline() == b"held\n"
        return self.driver.pid

    def said(self) -> str:
        return self.log.read_text()

    def wait(self, true, seconds: float = 20.0) -> None:
        until = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < until, (self.said(), self.bus.since(0)[-400:])
            time.sleep(0.002)

    def rescued(self) -> bool:
        return "read back as off" in self.said()

    def close(self) -> None:
        for process in (self.driver, self.rescue):
            if process is not None:
                process.kill()
                process.wait()
                for pipe in (process.stdin, process.stdout):
                    if pipe is not None:
                        pipe.close()
        self.bus.close()
        self.folder.cleanup()


@pytest.fixture
def scene(tmp_path):
    scene = Scene(tmp_path)
    yield scene
    scene.close()


def last_driver_line(data: bytes) -> int:
    """Where the last line that only the driver writes ends."""
    return max((found.end() for found in re.finditer(rb"# \d+\n?", data)), default=0)


def rescue_lines(data: bytes, wire_reader):
    """What the rescue wrote: all that comes after its mark, in which nothing of the driver may be."""
    before, mark, after = data.partition(b"!\n")
    assert mark and last_driver_line(before) and not last_driver_line(after), after[-400:]
    return wire_reader(after)


@pytest.mark.parametrize("how", ["killed", "raises"])
def test_a_driver_that_dies_with_torque_on_leaves_motors_that_are_damped_then_off(scene, how, wire_reader):
    pid = scene.drive("on" if how == "killed" else how)
    began = time.monotonic_ns()
    if how == "killed":
        os.kill(pid, signal.SIGKILL)
    scene.wait(scene.rescued)
    sent = rescue_lines(scene.bus.since(0), wire_reader)
    assert sent.damped == sent.stopped - EVERY == ALL and not sent.position
    assert set(scene.bus.bus.bank.mode) == {0}
    assert "died with torque on; the motors are read back as off" in scene.said()
    first_off = min(t for t, modes in scene.bus.modes if t > began and set(modes) == {0})
    assert first_off - began > scene.run.robot.stop_damp_s * 1e9  # how < is the bench's to say


def test_a_driver_that_dies_with_torque_off_gets_no_torque_put_on(scene, wire_reader):
    os.kill(scene.drive("off"), signal.SIGKILL)
    scene.wait(scene.rescued)
    sent = rescue_lines(scene.bus.since(0), wire_reader)
    assert sent.stopped - EVERY == ALL and not sent.damped and not sent.position


def test_a_driver_that_hangs_is_killed_before_a_byte_is_written(scene, wire_reader):
    pid = scene.drive()
    os.kill(pid, signal.SIGSTOP)
    pidfd = os.pidfd_open(pid)
    while not select.select([pidfd], [], [], 0.0005)[0]:
        assert b"!" not in scene.bus.since(0) or select.select([pidfd], [], [], 0)[0]
    os.close(pidfd)
    assert scene.driver.wait(5) == -signal.SIGKILL
    scene.wait(scene.rescued)
    assert rescue_lines(scene.bus.since(0), wire_reader).stopped - EVERY == ALL
    assert "was silent and held the motors' port: it is killed" in scene.said()


def test_a_driver_that_dies_as_it_is_to_be_killed_is_no_reason_to_die(scene, monkeypatch, capsys):
    """Between the look and the signal it may have been reaped: then there is nobody to kill, and the motors wait."""
    gone = subprocess.Popen(["true"])
    pidfd = os.pidfd_open(gone.pid)
    gone.wait()
    with pytest.raises(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    Rescue._kill(None, SimpleNamespace(pidfd=pidfd))
    os.close(pidfd)
    assert "CUT POWER" not in capsys.readouterr().err


def test_a_driver_that_beats_late_but_beats_is_left_alone(scene):
    pid = scene.drive()
    for _ in range(4):
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.04)
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.04)
    assert scene.driver.poll() is None and b"!" not in scene.bus.since(0) and scene.said() == ""


def test_who_ends_in_order_is_not_rescued(scene):
    scene.drive("ends")
    scene.driver.wait(10)
    for pipe in (scene.driver.stdin, scene.driver.stdout):
        pipe.close()
    opened(scene.bus.path).close()  # nobody keeps a lock on it either
    scene.drive("on")  # the rescue is there for the next life
    assert scene.said() == "" and b"!" not in scene.bus.since(0)


def test_its_last_words_count_though_it_is_dead_when_they_are_heard(scene):
    scene.drive("waits")
    os.kill(scene.rescue.pid, signal.SIGSTOP)
    scene.driver.stdin.close()
    scene.driver.wait(10)
    os.kill(scene.rescue.pid, signal.SIGCONT)
    next_life = Tether(Path(scene.folder.name), WallClock())
    assert next_life.greet(20)
    next_life.close()
    assert scene.said() == "" and b"!" not in scene.bus.since(0)


def test_a_port_that_was_lost_and_found_again_is_the_one_that_is_rescued(scene, wire_reader):
    pid = scene.drive("drops")  # which opens it a second time: no copy may keep the lock
    assert b"!" not in scene.bus.since(0)
    os.kill(pid, signal.SIGKILL)
    scene.wait(scene.rescued)
    assert rescue_lines(scene.bus.since(0), wire_reader).damped == ALL


def opened(path: str, seconds: float = 10.0) -> SerialPort:
    until = time.monotonic() + seconds
    while True:
        try:
            return SerialPort(path, 115200, WallClock())
        except PortError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)


def test_from_the_drivers_death_to_the_end_of_the_rescue_nobody_else_gets_the_port(scene):
    os.kill(scene.drive(), signal.SIGKILL)
    scene.driver.wait()
    with pytest.raises(PortError, match=f"{scene.directory}; it may hold or lower the arm.* do not kill"):
        SerialPort(scene.bus.path, 115200, WallClock())
    next_life = Tether(Path(scene.folder.name), WallClock())
    assert next_life.greet(20) and scene.rescued(), "the next driver is greeted when the motors are off"
    fd = os.open(scene.bus.path, os.O_RDWR | os.O_NOCTTY)
    assert not int.from_bytes(fcntl.ioctl(fd, TIOCGEXCL, bytes(4)), sys.byteorder), "open to one who is not root"
    os.close(fd)
    opened(scene.bus.path).close()
    next_life.close()


def test_a_rescue_that_hangs_or_has_died_is_missed_by_the_driver(scene):
    clock = WallClock()
    tether = Tether(Path(scene.folder.name), clock)
    assert tether.greet(20)
    port = SerialPort(scene.bus.path, 115200, clock)
    tether.give(port.fileno(), False)

    def beats(lost: bool) -> bool:
        tether.beat(False)
        return tether.lost is lost

    scene.wait(lambda: beats(False))
    os.kill(scene.rescue.pid, signal.SIGSTOP)
    scene.wait(lambda: beats(True))
    os.kill(scene.rescue.pid, signal.SIGCONT)
    scene.wait(lambda: beats(False))
    scene.rescue.kill()
    scene.rescue.wait()
    scene.rescue.stdin.close()
    scene.wait(lambda: beats(True))
    scene.rescue = scene.start_rescue()
    scene.wait(lambda: beats(False))
    tether.done()
    port.close()
    tether.close()


def test_a_rescue_that_was_started_again_is_handed_the_port_of_a_driver_that_drives(scene, wire_reader):
    pid = scene.drive()
    scene.rescue.kill()
    scene.rescue.wait()
    scene.rescue.stdin.close()
    scene.rescue = scene.start_rescue()
    folder = Path(f"/proc/{scene.rescue.pid}/fd")
    scene.wait(lambda: scene.bus.path in files_of(folder))
    handed = scene.bus.since(0).count(b"# ")
    scene.wait(lambda: scene.bus.since(0).count(b"# ") > handed + 50)  # the driver has beaten since then: torque is on
    os.kill(pid, signal.SIGKILL)
    scene.wait(scene.rescued)
    assert rescue_lines(scene.bus.since(0), wire_reader).damped == ALL


def test_manager_and_driver_killed_together_still_leave_the_motors_off_and_the_rescue_ends(scene, wire_reader):
    pid = scene.drive()
    scene.rescue.stdin.close()  # what the manager's death does
    time.sleep(0.3)
    assert scene.rescue.poll() is None and b"!" not in scene.bus.since(0), "while a driver lives it stays, and is silent"
    os.kill(pid, signal.SIGKILL)
    assert scene.rescue.wait(20) == 0
    assert scene.rescued() and rescue_lines(scene.bus.since(0), wire_reader).damped == ALL
    assert set(scene.bus.bus.bank.mode) == {0}


def test_motors_that_do_not_obey_are_said_and_the_bus_is_told_at_once(scene, wire_reader):
    scene.bus.deaf = {2}
    os.kill(scene.drive(), signal.SIGKILL)
    scene.wait(lambda: "not confirmed" in scene.said())
    assert f"rescue: {CUT_POWER}\n" in scene.said() and not scene.rescued()
    sent = rescue_lines(scene.bus.since(0), wire_reader)
    assert sent.stopped == ALL | EVERY


class Memory:
    """The stop profile in virtual time, on the twin's bus: what the motors do, byte for byte."""

    def __init__(self) -> None:
        self.clock = LockstepClock()
        self.robot = Run().robot
        self.twin = Twin(Run(), 0, self.clock)
        self.chain = Chain(self.twin.ports()["servos"], self.robot.servos, self.clock)
        self.said: list[str] = []
        sleep, self.clock.sleep_until = self.clock.sleep_until, self._sleep
        self._moved = sleep

    def _sleep(self, deadline: int) -> None:
        if (left := (deadline - self.clock.now()) * 1e-9) > 1e-6:
            del self.clock.sleep_until  # the twin moves it by the same name
            self.twin.advance(left)
            self.clock.sleep_until = self._sleep

    def save(self, torque_on: bool = True):
        return stop_motors(self.robot, self.chain, self.clock, torque_on, self.said.append)


@pytest.fixture
def memory():
    memory = Memory()
    yield memory
    memory.twin.close()


def test_servos_that_their_own_watchdog_has_stopped_are_taken_off_too(memory):
    memory.chain.damp()
    memory.twin.advance(0.15)
    assert set(memory.chain.read(0).mode) == {11}
    assert memory.save().confirmed and set(memory.chain.read(0).mode) == {0} and not memory.said


def test_motors_that_were_off_are_not_damped_first(memory):
    outcome = memory.save(torque_on=False)
    assert outcome.confirmed and outcome.seconds < 0.1


def test_a_mute_motor_is_not_taken_for_off(memory, wire_tap):
    memory.twin.wires["servos"].add(Mute(5))
    memory.twin.wires["servos"].add(wire_tap)
    outcome = memory.save()
    assert not outcome.confirmed and memory.said == [CUT_POWER] and outcome.why == CUT_POWER
    assert 0x7F in wire_tap.read().stopped
    assert outcome.seconds == pytest.approx(memory.robot.stop_damp_s + 1.06, abs=0.1)


def test_a_port_that_is_gone_is_said(memory):
    memory.twin.command({"fault": "close"})
    outcome = memory.save()
    assert not outcome.confirmed and "the port was closed" in outcome.why


HEAVY = {"torch", "numpy", "cv2", "matplotlib", "pybullet", "rich", "safetensors"}


@pytest.mark.parametrize(
    ("module", "never"),
    [
        ("robotrl.nodes.rescue", HEAVY | {"zmq", "pickle", "asyncio"}),
        ("robotrl.nodes.guard", HEAVY),
        ("robotrl.nodes.servos", HEAVY - {"numpy"}),
    ],
)
def test_what_stands_between_the_learner_and_the_motors_imports_nothing_heavy(module, never):
    code = f"import sys, {module}; print(*{{m.split('.')[0] for m in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert not never & set(loaded)
