"""What ends a motion of the tools, and that the motors are damped and off afterwards: signals, two at once, a line that fails."""

from __future__ import annotations

import itertools
import json
import math
import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest

from robotrl.calibration import measure, store
from robotrl.calibration.store import CalibrationError
from robotrl.clock import LockstepClock, WallClock
from robotrl.drivers.chains import baud_of, chain_of
from robotrl.drivers.identity import asked
from robotrl.drivers.port import PortError, SerialPort
from tests.calibration.test_commission_servos import Stand
from tests.nodes.armrig import LAUNCH, run_of

POSE = (math.pi / 2,) * 8
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP)


@pytest.fixture(autouse=True)
def outside():
    """Signals that would end the tool at once are noted here: none gets through, and afterwards they are as they were before."""
    through = []

    def note(number, frame):
        through.append(number)

    ours = {number: signal.default_int_handler if number == signal.SIGINT else note for number in ENDS}
    before = {number: signal.signal(number, handler) for number, handler in ours.items()}
    yield
    after = {number: signal.signal(number, handler) for number, handler in before.items()}
    assert after == ours and not through


class Nth:
    """Calls `what` before the nth call of a chain's method `name`, counted from 1, and never again; `every`: from the nth on."""

    def __init__(self, chain, name, what, nth=1, every=False):
        self.count, self._do = 0, getattr(chain, name)
        self._what, self._nth, self._every = what, nth, every
        setattr(chain, name, self)

    def __call__(self, *args):
        self.count += 1
        if self.count == self._nth or (self._every and self.count > self._nth):
            self._what()
        return self._do(*args)


def comes(number):
    return lambda: signal.raise_signal(number)


def lost():
    raise PortError("/dev/ttyACM0: takes no bytes for 50 ms; is the far end alive?")


def made_safe(chain):
    """Damped, then off, since the last target."""
    since = chain.calls[len(chain.calls) - chain.calls[::-1].index("write") :]
    return not any(chain.mode) and set(since) == {"damp", "stop"} and since[-1] == "stop"


@pytest.mark.parametrize("number", ENDS)
@pytest.mark.parametrize("after", [2, 20, 200])
def test_a_signal_ends_a_motion_as_ctrl_c_does(chain, robot, clock, number, after):
    Nth(chain, "write", comes(number), after)
    with pytest.raises(KeyboardInterrupt):
        measure.sign_test(chain, robot, clock, POSE)
    assert made_safe(chain) and chain.calls.count("damp") == 25


@pytest.mark.parametrize("number", ENDS)
@pytest.mark.parametrize(("call", "nth"), [("damp", 1), ("damp", 25), ("stop", 1), ("confirmed_off", 1)])
def test_a_second_signal_does_not_end_the_making_safe(chain, robot, clock, number, call, nth):
    Nth(chain, "write", comes(signal.SIGINT), 5)
    Nth(chain, call, comes(number), nth)
    with pytest.raises(KeyboardInterrupt):
        measure.sign_test(chain, robot, clock, POSE)
    assert made_safe(chain) and chain.calls.count("damp") == 25


def test_fingers_that_stay_on_ctrl_c_change_nothing(chain, robot, clock):
    Nth(chain, "write", comes(signal.SIGINT), 5)
    for call in ("damp", "stop", "confirmed_off"):
        Nth(chain, call, comes(signal.SIGINT), every=True)
    with pytest.raises(KeyboardInterrupt):
        measure.sign_test(chain, robot, clock, POSE)
    assert made_safe(chain) and chain.calls.count("damp") == 25


@pytest.mark.parametrize("nth", [1, 25])
def test_a_signal_while_they_are_made_safe_lets_no_other_motion_begin(chain, robot, clock, nth):
    Nth(chain, "damp", comes(signal.SIGINT), nth)
    seen = []
    with pytest.raises(KeyboardInterrupt):
        measure.sign_test(chain, robot, clock, POSE, lambda i: seen.append(i) or True)
    assert made_safe(chain) and chain.calls.count("damp") == 25 and not seen


def test_what_was_wrong_is_said_though_a_signal_came_after_it(chain, robot, clock):
    chain.fault[2] = 33
    Nth(chain, "damp", comes(signal.SIGTERM))
    with pytest.raises(CalibrationError, match="servo 3 reports fault 33"):
        measure.sign_test(chain, robot, clock, POSE)
    assert not any(chain.mode)


@pytest.mark.parametrize("every", [False, True])
def test_motors_that_cannot_be_damped_are_let_go_all_the_same(chain, robot, clock, capsys, every):
    Nth(chain, "damp", lost, every=every)
    measure.sign_test(chain, robot, clock, POSE)
    assert chain.calls[-1] == "stop" and not any(chain.mode) and chain.calls.count("damp") == (0 if every else 24)
    (line,) = capsys.readouterr().err.splitlines()
    assert "damping failed" in line and "takes no bytes" in line


@pytest.mark.parametrize("call", ["stop", "confirmed_off"])
def test_a_line_that_fails_once_is_asked_again(chain, robot, clock, call):
    Nth(chain, call, lost)
    measure.sign_test(chain, robot, clock, POSE)
    assert not any(chain.mode)


@pytest.mark.parametrize("call", ["stop", "confirmed_off"])
def test_motors_that_cannot_be_let_go_are_to_be_cut_off(chain, robot, clock, call):
    Nth(chain, "write", comes(signal.SIGHUP), 5)
    Nth(chain, call, lost, every=True)
    with pytest.raises(CalibrationError, match=r"not confirmed; cut the motor supply.*takes no bytes"):
        measure.sign_test(chain, robot, clock, POSE)


class Hit(LockstepClock):
    """The stand's clock, by which a signal comes at the nth wait."""

    def __init__(self, clock, number, nth):
        super().__init__()
        self._clock, self._number, self._left = clock, number, itertools.count(nth, -1)

    def now(self):
        return self._clock.now()

    def sleep_until(self, deadline):
        self._clock.sleep_until(deadline)
        if next(self._left) == 0:
            signal.raise_signal(self._number)


@pytest.mark.parametrize("nth", [5, 40, 90])
def test_an_arm_without_watchdog_does_not_hold_on(tmp_path, nth):
    stand = Stand("so101", tmp_path)
    stand.clock = Hit(stand.clock, signal.SIGHUP, nth)
    with pytest.raises(KeyboardInterrupt):
        stand.commission(None)
    assert stand.chain.confirmed_off()
    stand.twin.close()


# ---- the command itself, at a terminal, the twin's wire a pty


@pytest.fixture
def twin(tmp_path):
    """An SO-101's twin lying in its stow pose, on the wall clock, and its calibration: the port, and the robot."""
    words = [sys.executable, "-m", "robotrl", "twin", "--robot", "so101", "--until-eof"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        path = json.loads(process.stdout.readline())["servos"]
        robot = run_of("so101", tmp_path, ['robot.serial="a1"', f'robot.servos.port="{path}"']).robot
        process.stdin.write(json.dumps({"place": list(robot.stow)}).encode() + b"\n")
        process.stdin.flush()
        n = len(robot.servos.ids)
        record = store.Calibration(
            store.SCHEMA, robot.name, robot.kind, "a1", store.today(), robot.servos.ids, robot.servos.sign, robot.servos.offset,
            robot.stow, (0.0,) * n, on_line(robot, lambda port: asked(port, robot.servos, WallClock())),
        )  # fmt: skip
        store.write(record, store.path_of(store.Calibration, robot, tmp_path))
        yield robot
        process.stdin.close()


def on_line(robot, what):
    port = SerialPort(robot.servos.port, baud_of(robot.servos), WallClock())
    try:
        return what(port)
    finally:
        port.close()


def off(robot):
    def read(port):
        chain = chain_of(port, robot, WallClock())
        return any(chain.confirmed_off(50_000_000) for _ in range(10))

    return on_line(robot, read)


def moving(robot, folder):
    """The command at a terminal of its own, its first joints moving: its process, and the terminal's far end."""
    master, slave = pty.openpty()
    words = [sys.executable, "-m", "robotrl", "commission", str(LAUNCH / "arm.toml"), "--yes", "--calibration", str(folder)]
    words += ["--serial", "a1", "--port", robot.servos.port]
    terminal = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", terminal, *words], stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    said = heard(master, b"watchdog: these servos have none")
    assert b"these servos have none" in said, said
    time.sleep(0.6)  # the arm is led to its stow pose and the first joint's wiggle begins
    return process, master


def heard(master, until):
    said = b""
    while until not in said and select.select([master], [], [], 30)[0]:
        try:
            said += os.read(master, 4096)
        except OSError:
            break
    return said


@pytest.mark.parametrize("how", ["hang up", "kill", "twice"])
def test_a_dropped_connection_leaves_the_arm_off(twin, tmp_path, how):
    process, master = moving(twin, tmp_path)
    if how == "hang up":
        os.close(master)  # as sshd does: SIGHUP, and nothing more can be written to the terminal
    elif how == "kill":
        process.terminate()
    else:
        os.write(master, b"\x03")
        time.sleep(0.1)
        os.write(master, b"\x03")
    code = process.wait(20)
    assert off(twin)
    # Who writes to a terminal that is gone hears of that first, or of a second SIGHUP once all is off: nobody reads its code.
    assert code == 130 or (how == "hang up" and code in (2, -signal.SIGHUP))
    if how != "hang up":
        assert b"stopped by Ctrl-C" in heard(master, b"Ctrl-C\r\n")
        os.close(master)
    assert not list(tmp_path.rglob("*.commissioning.json"))


def test_the_signals_of_the_tools_are_those_that_are_tried_here():
    from robotrl.calibration import safely

    assert set(safely.SIGNALS) == set(ENDS)
