"""The process manager with nodes that only pretend: who is started again, how often, and what is said of it."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

import robotrl.manager
import robotrl.move
from robotrl import processes, roster, rundir
from robotrl.bus import Bus
from robotrl.clock import WallClock
from robotrl.config import CameraPort, Run, Servos, load
from robotrl.manager import Ending, with_ports
from robotrl.messages import Beat, Drive, Episode, Guard
from robotrl.nodelog import NodeLog
from robotrl.nodes import rescue
from robotrl.nodes.guard import GONE_NS
from robotrl.nodes.servos import POWER_DOWN_NS
from robotrl.notify import Notify
from robotrl.processes import DOWN_S, END_S, FRESH_NS, OFF_S, GaveUp, Manager
from robotrl.robot import STOP_MAX_S
from robotrl.roster import Spec, nodes_of
from robotrl.safety.halt import HELD_NS, Halt
from robotrl.watch import Watch, power, standing

LAUNCH = Path(__file__).resolve().parent.parent / "launch"
BODIES = {
    "stays": "import sys\nprint('stays: here', file=sys.stderr, flush=True)\nsys.stdin.read()",
    "says": "import sys\nprint('says: here, and some more words of the start', flush=True)\n"
    "for line in sys.stdin:\n    print('says:', line, end='', flush=True)",
    "well": "",
    "dies": "raise SystemExit(1)",
    "falls": "import sys\nprint('falls: slept for too long', file=sys.stderr)\nraise SystemExit('--restarted' in sys.argv or 3)",
    "parts": "import signal\nsignal.signal(15, lambda *_: exit('parts: 3 are lost'))\nprint('on', flush=True)\nsignal.pause()",
    "lingers": "import signal, time\nsignal.signal(15, lambda *_: time.sleep(1))\nprint(1, flush=True)\nsignal.pause()\nexit(7)",
    "complains": "import sys\nprint('complains: sign has 1 entry, not 8; correct it', file=sys.stderr)\nraise SystemExit(2)",
    "clings": "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('on', flush=True)\ntime.sleep(60)",
}


@pytest.fixture
def manager(tmp_path, monkeypatch):
    for name, body in BODIES.items():
        (tmp_path / f"pretend_{name}.py").write_text(body)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "logs").mkdir()
    with tempfile.TemporaryDirectory(prefix="robotrl-") as sockets:
        manager = Manager(tmp_path, Path(sockets), {}, ())
        yield manager
        manager.stop()


def spec(name: str) -> Spec:
    return Spec(name, f"pretend_{name}")


def until(true, seconds=20.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_who_is_killed_is_started_again_and_it_is_said(manager):
    manager.start(spec("stays"))
    until(lambda: manager.heard() == ["stays: here"])
    first = manager.children["stays"].process.pid
    os.kill(first, signal.SIGKILL)
    assert manager.watch(5.0) == ["stays died (SIGKILL) and was started again"]
    assert manager.children["stays"].process.pid != first


def test_who_ends_unasked_is_started_again_too(manager):
    manager.start(spec("stays"))
    manager.children["stays"].process.stdin.close()  # it ends with exit code 0
    assert manager.watch(5.0) == ["stays died (exit code 0) and was started again"]


def test_four_deaths_in_a_minute_are_too_many(manager):
    manager.start(spec("dies"))
    for _ in range(3):
        assert manager.watch(10.0)
    with pytest.raises(GaveUp, match="died 4 times in 60 s, last by exit code 1") as raised:
        manager.watch(10.0)
    assert raised.value.code == 3


def test_the_run_goes_on_without_a_learner_that_died_four_times_and_says_so_again_and_again(manager, monkeypatch):
    told = []
    monkeypatch.setattr(manager.events, "send", lambda message: told.append((message.name, message.event)))
    manager.start(replace(spec("dies"), expendable=True))
    manager.start(spec("stays"))
    for _ in range(3):
        assert "was started again" in manager.watch(10.0)[0]
    said = manager.watch(10.0)[0]
    assert said.startswith("dies died 4 times in 60 s, last by exit code 1: ") and "the run goes on without it" in said
    assert list(manager.children) == ["stays"] and told[-1] == ("dies", "gone")
    assert manager.watch(0.0) == [] and told.count(("dies", "gone")) == 1
    monkeypatch.setattr(processes, "GONE_EVERY_S", 0.0)
    assert manager.watch(0.0) == [] and told.count(("dies", "gone")) == 2, "for a console that came later"


def test_who_is_expendable_is_who_has_no_part_in_the_robots_safety():
    nodes = (*roster.NODES, roster.TELEOP, roster.CLASSIFIER, roster.GATEWAY)
    assert {node.name for node in nodes if node.expendable} == {"learner", "teleop", "gateway"}


def test_what_a_node_complains_of_at_its_start_is_what_is_said(manager):
    manager.start(spec("complains"))
    with pytest.raises(GaveUp, match=r"^complains: sign has 1 entry, not 8; correct it$") as raised:
        manager.watch(10.0)
    assert raised.value.code == 2


def test_the_others_wait_until_the_recorder_lives_or_has_died_or_takes_too_long(manager, monkeypatch):
    manager.start(Spec("recorder", "pretend_stays"))
    recorder = Bus(manager.bus.directory, "recorder", WallClock())
    beats, said = recorder.publisher("beat"), []

    def speak(*_):
        time.sleep(0.01)
        said.append(beats.send(Beat(progress=1)))

    monkeypatch.setattr(processes, "READY_S", 60.0)
    began = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(manager.bus, "wait", speak)
        manager.wait_for("recorder")
    assert said and time.monotonic() - began < 50, "it has spoken"
    recorder.close()
    monkeypatch.setattr(processes, "READY_S", 0.2)
    manager.wait_for("recorder")
    assert time.monotonic() - began >= 0.2, "it is silent, and lives"
    monkeypatch.setattr(processes, "READY_S", 60.0)
    manager.children["recorder"].process.kill()
    manager.wait_for("recorder")
    assert time.monotonic() - began < 50, "it has died"


def test_who_does_not_end_is_killed_and_nobody_is_left(manager, monkeypatch):
    manager.start(spec("clings"))
    manager.start(spec("stays"))
    until(lambda: "on" in (manager.directory / "logs" / "clings.log").read_text())
    pids = [child.process.pid for child in manager.children.values()]
    manager._end(list(manager.children.values()), 0.3)
    manager.children.clear()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_node_has_a_group_of_its_own_so_that_ctrl_c_is_the_managers(manager):
    manager.start(spec("stays"))
    pid = manager.children["stays"].process.pid
    assert os.getpgid(pid) == pid != os.getpgid(0)


def test_the_last_words_of_who_dies_are_passed_on(manager):
    """A guard says that it begins anew, and ends: nobody had looked into its log in between."""
    manager.start(spec("falls"))
    said = manager.watch(5.0)
    assert said == ["falls died (exit code 3) and was started again"] and "falls: slept for too long" in manager.heard()


@pytest.mark.parametrize("expendable", [True, False])
def test_who_cannot_be_started_again_is_given_up_in_a_line(manager, monkeypatch, expendable):
    """Out of memory: it ended the manager, and so the run, by a traceback, were it a learner alone."""
    manager.start(replace(spec("dies"), expendable=expendable))

    def none(*_, **__):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(processes.subprocess, "Popen", none)
    why = r"dies died \(exit code 1\) and cannot be started again \(Cannot allocate memory\)"
    if expendable:
        (said,) = manager.watch(20.0)
        assert re.match(why, said) and "the run goes on without it" in said and "dies" in manager.gone
    else:
        with pytest.raises(GaveUp, match=why):
            manager.watch(20.0)


@pytest.mark.parametrize("again", [False, True])
def test_what_is_said_with_a_nodes_death_is_not_said_once_more(manager, again):
    manager.start(spec("complains"), [time.monotonic()] if again else None)
    if again:
        (said,) = manager.watch(10.0)
        assert "complains: sign has 1 entry" in said
    else:
        with pytest.raises(GaveUp, match="complains: sign has 1 entry"):
            manager.watch(10.0)
    assert manager.heard() == []


def test_why_a_node_is_given_up_is_said_once(manager):
    manager.start(spec("falls"), [time.monotonic()] * 3)
    with pytest.raises(GaveUp, match="falls: slept for too long"):
        manager.watch(10.0)
    assert manager.heard() == []


def test_what_a_node_says_while_it_is_brought_down_is_passed_on(manager, monkeypatch, capsys):
    """A policy whose last transitions nobody took, a learner whose weights the disk did not: nobody reads their logs any more."""
    manager.start(spec("stays"))
    until(lambda: "here\n" in (manager.directory / "logs" / "stays.log").read_text())
    os.kill(manager.children["stays"].process.pid, signal.SIGKILL)
    manager.watch(5.0)  # its last words nobody asks for any more
    manager.start(spec("parts"))
    until(lambda: "on\n" in (manager.directory / "logs" / "parts.log").read_text())
    with monkeypatch.context() as patch:
        patch.setattr(manager.bus, "close", lambda: None)  # its own end closes it
        manager.stop()
    assert set(capsys.readouterr().out.splitlines()) == {"parts: 3 are lost", "stays: here"}


def test_a_node_that_cannot_be_watched_does_not_live_on(manager, monkeypatch):
    """It was said to stay down, and nobody would have ended it."""
    begun, popen = [], processes.subprocess.Popen

    def begin(*args, **more):
        begun.append(popen(*args, **more))
        return begun[-1]

    def none(_):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(processes.subprocess, "Popen", begin)
    monkeypatch.setattr(processes.os, "pidfd_open", none)
    with pytest.raises(OSError, match="Too many"):
        manager.start(spec("clings"))
    assert [process.poll() for process in begun] == [-signal.SIGKILL] and not manager.children


def test_a_death_is_told_though_another_in_the_same_look_ends_the_run(manager):
    for name, deaths in (("complains", 1), ("dies", 3)):
        manager.start(spec(name), [time.monotonic()] * deaths)
    until(lambda: all(os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOWAIT) for child in manager.children.values()))
    with pytest.raises(GaveUp, match="dies died 4 times"):
        manager.watch(5.0)
    told = "complains died (exit code 2: complains: sign has 1 entry, not 8; correct it) and was started again"
    assert manager.heard()[:1] == [told]


def test_it_beats_while_it_watches(manager):
    beats, heard = manager.bus.subscriber("beat"), set()
    until = time.monotonic() + 30
    while len(heard) < 3 and time.monotonic() < until:
        manager.watch(0.01)
        heard |= {beat.progress for beat in beats.drain() if beat.source == "manager"}
    assert len(heard) == 3 and processes.BEAT_S * 1e9 < GONE_NS / 5


def drives(stop: str, off: bool) -> Drive:
    return Drive(tick=0, gate_open=False, torque_on=not off, powered_off_confirmed=off, late_us=0.0, cycle_us=0.0, overruns=0,
                 frame_errors=0, stop=stop)  # fmt: skip


def test_a_run_that_ends_waits_for_an_arm_that_a_stop_key_holds(manager, monkeypatch, capsys):
    monkeypatch.setattr(processes, "OFF_S", 0.2)
    for name in ("guard", "servos"):
        manager.start(spec("stays"))
        manager.children[name] = manager.children.pop("stays")
    robot = replace(Run().robot, stop_profile="stow", stop_damp_s=0.1)
    said = [drives("hold", False)] * 40 + [drives("stow", False)] * 2 + [drives("", True)] * 5
    asked = []

    def newest():
        asked.append(0)
        return msgspec.structs.replace(said[min(len(asked), len(said)) - 1], t=manager.clock.now())

    monkeypatch.setattr(manager.drive, "latest", newest)
    relaxed = Guard(state="RELAX", causes=(), last_cause="", session=False, epoch=0, holder="", nonce=0)
    monkeypatch.setattr(manager.guard, "latest", lambda: relaxed)
    assert manager.power_down(robot) and len(asked) >= 42, "it was held for longer than a stop takes"
    assert capsys.readouterr().out.count("d (disable) at a console lowers it on") == 1
    said[40:] = [drives("stow", False)]
    asked.clear()
    assert not manager.power_down(robot), "what is not held has as long as ever"


@pytest.mark.parametrize(
    ("state", "age_ms", "off"), [("RUN", 0, False), ("RUN", 250, True), ("READY", 0, True), ("PSTOP", 250, True)]
)
def test_motors_that_read_back_as_off_are_off_when_their_guard_says_no_more(manager, monkeypatch, state, age_ms, off):
    monkeypatch.setattr(processes, "OFF_S", 0.2)
    for name in ("guard", "servos"):
        manager.start(spec("stays"))
        manager.children[name] = manager.children.pop("stays")
    word = Guard(state=state, causes=(), last_cause="", session=False, epoch=0, holder="", nonce=0)

    def said(age_ms):
        return manager.clock.now() - age_ms * 1_000_000

    monkeypatch.setattr(manager.drive, "latest", lambda: msgspec.structs.replace(drives("", True), t=said(0)))
    monkeypatch.setattr(manager.guard, "latest", lambda: msgspec.structs.replace(word, t=said(age_ms)))
    assert manager.power_down(replace(Run().robot, stop_damp_s=0.1)) is off


@pytest.mark.parametrize("children", [(), ("servos",), ("guard", "servos")])
def test_nothing_that_has_moved_is_taken_for_off(manager, monkeypatch, children):
    monkeypatch.setattr(processes, "OFF_S", 0.1)
    for name in children:
        manager.start(replace(spec("stays"), name=name))
    robot = replace(Run().robot, stop_damp_s=0.1)
    assert manager.power_down(robot), "no driver ever spoke"
    assert not manager.power_down(replace(robot, stop_profile="stow")), "it may lower an arm, and not have spoken yet"
    monkeypatch.setattr(manager.drive, "latest", lambda: msgspec.structs.replace(drives("damp", False), t=manager.clock.now()))
    assert not manager.power_down(robot), "it has, and did not say that they are off"


@pytest.mark.parametrize(("ends", "last", "off"), [("well", True, True), ("well", False, False), ("dies", True, False)])
def test_a_driver_that_has_ended_in_order_and_said_that_all_are_off_is_believed(manager, monkeypatch, ends, last, off):
    """SIGTERM to every process of a run at once: it is gone before the manager has asked anybody."""
    monkeypatch.setattr(processes, "OFF_S", 0.1)
    manager.start(replace(spec(ends), name="servos"))
    manager.children["servos"].process.wait()
    monkeypatch.setattr(manager.drive, "latest", lambda: drives("", last))
    assert manager.power_down(replace(Run().robot, stop_damp_s=0.1)) is off


def test_nobody_is_started_again_once_the_end_was_asked_for(manager):
    """A rescue that was told to end together with the manager was started anew, beside a driver that is on its way out."""
    manager.start(spec("well"))
    manager.ending = lambda: True
    manager.children["well"].process.wait()
    assert manager.watch(1.0) == [] and manager.children["well"].process.poll() == 0
    manager.ending = lambda: False
    assert manager.watch(1.0) == ["well died (exit code 0) and was started again"]


def test_an_arm_that_is_lowered_without_a_guard_is_waited_for(manager, monkeypatch):
    """One that was given up: whoever cut the power at once would drop it."""
    manager.start(replace(spec("stays"), name="servos"))
    said = [drives("stow", False)] * 10 + [drives("", True)]
    monkeypatch.setattr(
        manager.drive, "latest", lambda: msgspec.structs.replace(said.pop(0) if said[1:] else said[0], t=manager.clock.now())
    )
    assert manager.power_down(replace(Run().robot, stop_profile="stow", stop_damp_s=5.0)) and said == [drives("", True)]


def test_a_standstill_takes_nothing_of_the_time_in_which_an_arm_is_waited_for(manager, monkeypatch):
    """Its stop has all its time too: whoever cut the power at once would drop it."""
    manager.start(replace(spec("stays"), name="servos"))
    said, stood = [drives("stow", False)] * 10 + [drives("", True)], 0

    def newest():
        nonlocal stood
        stood = 20 if len(said) <= 6 else 0
        return msgspec.structs.replace(said.pop(0) if said[1:] else said[0], t=manager.clock.now())

    monkeypatch.setattr(manager.drive, "latest", newest)
    seconds, nanoseconds = time.monotonic, time.monotonic_ns
    monkeypatch.setattr(time, "monotonic", lambda: seconds() + stood)
    monkeypatch.setattr(time, "monotonic_ns", lambda: nanoseconds() + stood * 1_000_000_000)
    assert manager.power_down(replace(Run().robot, stop_profile="stow", stop_damp_s=5.0)) and said == [drives("", True)]


@pytest.mark.parametrize(
    ("ends", "off"),
    [("the motors are read back as off (3.10 s)", True), ("the motors are not confirmed to be off: x", False), ("", False)],
)
def test_an_arm_that_the_rescue_lowers_after_a_driver_that_died_for_good_is_waited_for(manager, monkeypatch, capsys, ends, off):
    monkeypatch.setattr(processes, "OFF_S", 0.3)
    manager.start(replace(spec("stays"), name="rescue"))
    log, looks = manager.children["rescue"].log.path, []
    monkeypatch.setattr(manager.drive, "latest", lambda: msgspec.structs.replace(drives("", False), t=manager.clock.now()))
    heard = manager.heard

    def hears():
        looks.append(0)
        if ends and len(looks) == 5:
            with log.open("a") as file:
                file.write(f"rescue: CUT POWER\nrescue: the servo driver died with torque on; {ends}\n")
        return heard()

    monkeypatch.setattr(manager, "heard", hears)
    assert manager.power_down(replace(Run().robot, stop_profile="stow", stop_damp_s=30.0 if ends else 0.1)) is off
    assert ("rescue: CUT POWER" in capsys.readouterr().out) is bool(ends), "nobody else reads its log by then"
    said = (manager.directory / "logs" / "manager.log").read_text()
    assert ('"event": "off"' in said) is off, "a console, which hears no driver any more, would call to cut the power"


def naps(monkeypatch):
    """Half a minute passes between any two looks at the clock: all is paused again and again."""
    looks, seconds, nanoseconds = [], time.monotonic, time.monotonic_ns
    monkeypatch.setattr(time, "monotonic", lambda: looks.append(0) or seconds() + 30 * len(looks))
    monkeypatch.setattr(time, "monotonic_ns", lambda: looks.append(0) or nanoseconds() + 30_000_000_000 * len(looks))


def test_a_standstill_takes_nothing_of_the_time_in_which_a_rescue_is_waited_for(manager, monkeypatch):
    manager.start(replace(spec("stays"), name="rescue"))
    log, looks, heard = manager.children["rescue"].log.path, [], manager.heard
    monkeypatch.setattr(manager.drive, "latest", lambda: drives("stow", False))

    def hears():
        looks.append(0)
        if len(looks) == 5:
            with log.open("a") as file:
                file.write("rescue: the servo driver died with torque on; the motors are read back as off (3.10 s)\n")
        return heard()

    monkeypatch.setattr(manager, "heard", hears)
    naps(monkeypatch)
    assert manager.power_down(replace(Run().robot, stop_profile="stow", stop_damp_s=5.0))


def test_a_standstill_takes_nothing_of_the_time_in_which_a_node_is_to_end(manager, monkeypatch):
    """A driver, or the rescue, that was killed half way would drop its arm."""
    manager.start(replace(spec("lingers"), name="servos"))
    until((manager.directory / "logs" / "servos.log").read_text)
    naps(monkeypatch)
    manager._end([manager.children.pop("servos")], DOWN_S)
    assert '"event": "stopped", "detail": "exit code 7"' in (manager.directory / "logs" / "manager.log").read_text()


def test_what_a_rescue_says_while_its_driver_is_to_end_is_told_at_once(manager, monkeypatch):
    """To cut the power of a driver that hangs, not when its twenty seconds are over."""
    manager.start(replace(spec("lingers"), name="servos"))
    until((manager.directory / "logs" / "servos.log").read_text)
    manager.start(replace(spec("stays"), name="rescue"))
    with manager.children["rescue"].log.path.open("a") as file:
        file.write("rescue: CUT POWER\n")
    servos, alive = manager.children["servos"].process, {}
    monkeypatch.setattr(processes.aloud, "say", lambda line: alive.setdefault(line, servos.poll() is None))
    manager._end([manager.children.pop("servos")], DOWN_S)
    assert alive["rescue: CUT POWER"]


@pytest.mark.parametrize("late", [False, True])
def test_a_rescue_that_has_died_too_is_not_waited_for(manager, monkeypatch, late):
    """Nobody lowers the arm any more: to cut its power is said at once, and of what the rescue did before it died it is true."""
    for name in ("rescue", "servos"):
        manager.start(replace(spec("stays"), name=name))
        until((manager.directory / "logs" / f"{name}.log").read_text)
        manager.children[name].process.kill()
        manager.children[name].process.wait()
    monkeypatch.setattr(manager.drive, "latest", lambda: drives("stow", False))
    if late:
        with manager.children["rescue"].log.path.open("a") as file:
            file.write("rescue: the servo driver died with torque on; the motors are read back as off (0.60 s)\n")
    began = time.monotonic()
    assert manager.power_down(replace(Run().robot, stop_profile="stow", stop_damp_s=5.0)) is late
    assert time.monotonic() - began < 4.0


def test_an_arm_whose_driver_dies_while_the_run_ends_is_waited_for(manager, monkeypatch):
    """Half way down, when most of the time for it is over: the rescue lowers it, and whoever cut the power would drop it."""
    monkeypatch.setattr(processes, "OFF_S", 0.3)
    for name in ("rescue", "servos"):
        manager.start(replace(spec("stays"), name=name))
    log, died, saved, heard = manager.children["rescue"].log.path, [], [], manager.heard
    begun = time.monotonic()

    def newest():
        if not died and time.monotonic() - begun > 0.7:
            manager.children["servos"].process.kill()
            died.append(manager.clock.now())
        return msgspec.structs.replace(drives("stow", False), t=died[0] if died else manager.clock.now())

    def hears():
        if died and not saved and manager.clock.now() - died[0] > 600_000_000:
            with log.open("a") as file:
                file.write("rescue: the servo driver died with torque on; the motors are read back as off (0.60 s)\n")
            saved.append(True)
        return heard()

    monkeypatch.setattr(manager.drive, "latest", newest)
    monkeypatch.setattr(manager, "heard", hears)
    assert manager.power_down(replace(Run().robot, stop_profile="stow", stop_damp_s=0.6))


def test_what_the_rescue_said_before_is_true_of_a_driver_that_has_not_spoken_since(manager, monkeypatch):
    """Its next lives died before they had the port: the rescue has nothing to say of them."""
    monkeypatch.setattr(processes, "OFF_S", 0.2)
    manager.start(replace(spec("stays"), name="rescue"))
    before = manager.clock.now()
    with manager.children["rescue"].log.path.open("a") as file:
        file.write("rescue: the servo driver died with torque on; the motors are read back as off (3.10 s)\n")
    until(lambda: any("servo driver died" in line for line in manager.heard()))
    robot = replace(Run().robot, stop_profile="stow", stop_damp_s=0.1)
    for spoke, off in ((before, True), (manager.clock.now(), False)):
        monkeypatch.setattr(manager.drive, "latest", lambda t=spoke: msgspec.structs.replace(drives("", True), t=t))
        assert manager.power_down(robot) is off


class Children:
    """A manager of nobody, for `operate`: did the driver speak, and did the motors read back as off?"""

    spoke = confirmed = False

    def __init__(self, *_):
        self.drive = SimpleNamespace(latest=lambda: drives("damp", False) if self.spoke else None)

    def start(self, spec): ...

    def wait_for(self, name): ...

    def stop(self): ...

    def power_down(self, robot, held=None):
        return self.confirmed


@pytest.mark.parametrize("program", [robotrl.manager, robotrl.move])
@pytest.mark.parametrize(
    ("code", "spoke", "confirmed", "cut"),
    [(2, False, False, False), (2, True, False, True), (2, True, True, False), (3, False, False, True), (3, True, True, False)],
)
def test_who_refuses_late_does_not_keep_silent_that_motors_may_be_on(
    tmp_path, monkeypatch, capsys, program, code, spoke, confirmed, cut
):
    def refused(*_, **__):
        raise GaveUp("learner: no such weights; name others", code)

    monkeypatch.setattr(Children, "spoke", spoke)
    monkeypatch.setattr(Children, "confirmed", confirmed)
    monkeypatch.setattr(program, "Manager", Children)
    monkeypatch.setattr(program, "Watch", refused)
    monkeypatch.setattr(program, "of_robot", lambda *_: {})
    monkeypatch.setattr(program, "Ending", SimpleNamespace)
    monkeypatch.chdir(tmp_path)
    run = Run()
    directory = rundir.create(run, tmp_path, "wall", False)
    how = {"as_json": False} if program is robotrl.manager else {"scripted": False}
    assert program.operate(run, directory, 0.0, **how) == code
    said = capsys.readouterr()
    assert ("cut their power" in said.err) is cut
    elsewhere = f"bash {shlex.quote(f'{LAUNCH}/supervise.sh')} {directory}\n"
    assert f"now attach the operator's terminal: {elsewhere}" in said.out, "robotrl is on no PATH"
    gone = program is robotrl.manager and code == 2 and not spoke
    assert directory.exists() is not gone, "where the driver spoke, the rescue's last words may be there"


@pytest.mark.parametrize("folder", [False, True])
def test_a_log_that_is_removed_while_the_run_lives_ends_nothing(manager, folder):
    """By who makes room on a full disk, or by a rotation; or all of them with their folder."""
    manager.start(spec("stays"))
    until(lambda: "stays: here" in manager.children["stays"].log.path.read_text())
    if folder:
        shutil.rmtree(manager.directory / "logs")
    else:
        (manager.directory / "logs" / "stays.log").unlink()
    assert manager.heard() == ["stays: here"], "it was said"
    manager.children["stays"].process.kill()
    assert manager.watch(10.0) == ["stays died (SIGKILL) and was started again"]
    until(lambda: "stays: here" in manager.children["stays"].log.path.read_text())
    assert manager.heard() == ["stays: here"]


@pytest.mark.parametrize("how", ["emptied", "removed"])
def test_what_is_said_after_a_log_was_emptied_or_removed_is_heard(manager, how):
    """By who makes room, as the rescue stops the motors: nobody heard of it until as much was said again."""
    manager.start(spec("says"))
    child = manager.children["says"]
    until(lambda: manager.heard() == ["says: here, and some more words of the start"])
    os.truncate(child.log.path, 0) if how == "emptied" else child.log.path.unlink()
    child.process.stdin.write(b"CUT POWER\n")
    child.process.stdin.flush()
    until(lambda: manager.heard() == ["says: CUT POWER"])
    assert how == "removed" or child.log.path.read_bytes() == b"says: CUT POWER\n"


@pytest.fixture
def small_disk(manager):
    """Under the manager's logs: of a megabyte, with a function that fills it."""
    logs = manager.directory / "logs"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(logs)], capture_output=True).returncode != 0:
        pytest.skip("to mount a small disk is root's")

    def fill():
        with pytest.raises(OSError, match="No space"), open(logs / "film", "wb", buffering=0) as film:
            while film.write(bytes(4096)):
                pass

    yield fill
    subprocess.run(["umount", "-l", str(logs)], check=True)


def test_on_a_full_disk_the_person_is_told_all_the_same(manager, small_disk):
    """The rescue's call to cut the power went into its log, of which nothing reached the disk, and so nobody."""
    manager.start(spec("says"))
    child = manager.children["says"]
    until(lambda: manager.heard())
    small_disk()
    for number in range(20):
        child.process.stdin.write(f"{number} CUT POWER {'.' * 3000}\n".encode())
        child.process.stdin.flush()
        until(lambda n=number: [line[:17] for line in manager.heard()] == [f"says: {n} CUT POWER"[:17]])
    text = child.log.path.read_bytes()
    assert b"19 CUT POWER" in text and b"\0" not in text, "it is in the log, too"


def test_who_is_started_on_a_full_disk_is_heard_and_why_it_refuses_is_said(manager, small_disk):
    small_disk()
    manager.start(spec("says"))
    until(lambda: manager.heard() == ["says: here, and some more words of the start"])
    manager.start(spec("complains"))
    with pytest.raises(GaveUp, match="sign has 1 entry"):
        manager.watch(10.0)


def test_a_disk_that_can_keep_no_room_is_one_all_the_same(manager, monkeypatch):
    class Libc:
        def fallocate64(self, *_):
            ctypes.set_errno(errno.EOPNOTSUPP)
            return -1

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Libc())
    manager.start(spec("stays"))
    until(lambda: manager.heard() == ["stays: here"])
    assert manager.children["stays"].log.path.read_text() == "stays: here\n"


def test_the_last_line_of_this_life(tmp_path):
    path = tmp_path / "x.log"
    path.write_text("old\n")
    log = NodeLog(path)
    assert log.last_line() == "" and log.whole_lines() == ""
    with path.open("a") as file:
        file.write("Traceback\n  File\nValueError: x\n\n")
    assert log.last_line() == "ValueError: x" and log.whole_lines().startswith("Traceback")
    os.truncate(path, 0)
    assert log.last_line() == ""
    log.close()


def test_the_twins_ports_slowness_and_budget_of_falls_are_the_only_difference():
    run = with_ports(Run(), {"servos": "/a", "imu": "/b", "tracker": "/c"})
    assert (Run().robot.limits.falls, run.robot.limits.falls) == (5, Run().twin.falls)
    assert (run.robot.servos.port, run.robot.imu.port, run.robot.tracker.port) == ("/a", "/b", "/c")
    assert run.robot.servos.quiet_s == Run().twin.quiet_s > Run().robot.servos.quiet_s
    run = with_ports(run, {"servos": ""})  # a robot without the other two wires
    assert replace(run, robot=replace(run.robot, limits=Run().robot.limits, servos=Run().robot.servos)) == Run()


class Heard:
    """Streams as a test fills them, in the manager's place."""

    def __init__(self):
        self.bus = self.guard = self
        self.drive, self.clock = Newest(), WallClock()
        self.queue, self.newest = [], None

    def subscriber(self, topic):
        return Newest() if topic == "episode" else self

    def drain(self):
        out, self.queue = self.queue, []
        return out

    def latest(self):
        return self.newest


class Newest:
    message = None

    def latest(self):
        return self.message


@pytest.fixture
def watch(capsys):
    watch = Watch(Heard(), Run(), None, 0.0, None)

    def told(state=None, *causes, **kw):
        if state is not None:
            said = dict(last_cause="", session=True, epoch=1, holder="", nonce=1, note="", boot=1) | kw
            watch.manager.newest = Guard(state=state, causes=causes, **said)
            watch.manager.queue.append(watch.manager.newest)
        watch._tell_causes()
        return [line.partition(" s  ")[2] for line in capsys.readouterr().out.splitlines()]

    watch.told = told
    return watch


def test_a_cause_is_told_once_with_its_own_note_and_when_it_is_over(watch):
    assert watch.told("CHECK", "imu_stale", note="see its cable") == []
    assert watch.told("RUN", "learner_gone", note="the learner is gone") == ["RUN      learner_gone: the learner is gone"]
    assert watch.told("RELAX", "tilt", "learner_gone", note="the robot fell") == [], "falls are forgiven, the rest is known"
    assert watch.told("RESET", "learner_gone", note="the learner is gone") == []
    assert watch.told("HOLD", "reset_failed", "learner_gone", note="put it on its feet") == [
        "HOLD     reset_failed: put it on its feet"
    ]
    assert watch.told("RESET", "learner_gone") == ["RESET    reset_failed is over"]
    assert watch.told("RUN") == ["RUN      learner_gone is over"]
    assert watch.told("RUN") == []


def test_where_a_stop_comes_to_rest_is_told(watch):
    watch.told("RUN")
    assert watch.told("STOPPING", "console_dead", note="attach one", trigger="console_dead") == [
        "STOPPING console_dead: attach one"
    ]
    assert watch.told("PSTOP", "console_dead", trigger="at rest after console_dead") == ["PSTOP    at rest after console_dead"]
    assert watch.told("PSTOP", "console_dead", "console_silent") == [], "the dead are silent"
    assert watch.told("PSTOP", "console_dead", "learner_gone", note="attach one") == ["PSTOP    learner_gone"]  # not its note


def test_a_guard_that_was_started_again_is_heard_though_its_first_word_was_not(watch):
    watch.told("RUN")
    watch.manager.newest = Guard(
        state="PSTOP", causes=("guard_restart",), last_cause="", session=False, epoch=1, holder="", nonce=1, note="look", boot=2
    )
    assert watch.told() == ["PSTOP    guard_restart: look"]


def test_how_it_stands_says_what_the_run_waits_for():
    guard = Guard(state="READY", causes=(), last_cause="", session=False, epoch=1, holder="", nonce=1)
    assert standing(guard, None, 9, "torque off, read back") == "step 0/9  torque off, read back; at the console: e enables"
    guard = msgspec.structs.replace(guard, state="PSTOP", note="look round; press clear")
    assert standing(guard, None, 9, "being lowered") == "step 0/9  being lowered; look round; press clear"
    guard = msgspec.structs.replace(guard, state="CHECK", note="waiting for the tracker")
    assert standing(guard, None, 9, "") == "step 0/9  waiting for the tracker"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "torque off, not read back"),
        ({"powered_off_confirmed": True}, "torque off, read back"),
        ({"stop": "damp", "torque_on": True}, "being braked"),
        ({"stop": "stow", "torque_on": True}, "being lowered"),
        ({"stop": "off"}, "torque off, not read back"),
        ({"torque_on": True, "gate_open": True}, "torque on, held"),
        ({"powered_off_confirmed": True, "t": 10**9 - FRESH_NS}, "the servo driver is silent"),
        ({"present": False}, "the servos' port is lost"),
    ],
)
def test_what_is_not_read_back_is_not_said_to_be_off(fields, says):
    plain = dict(tick=0, gate_open=False, torque_on=False, powered_off_confirmed=False, late_us=0.0, cycle_us=0.0, overruns=0,
                 frame_errors=0, stop="", t=10**9 - FRESH_NS + 1)  # fmt: skip
    assert power(Drive(**plain | fields), 10**9) == says and power(None, 0) == "the servo driver is silent"


# s, from when an arm is no longer held: the manager waits for its way down, then for one node after the other.
AFTER_S = OFF_S + STOP_MAX_S + END_S + sum(DOWN_S if name in processes.LOWER else END_S for name in processes.LAST)


def longest_stop() -> float:
    """s, of any robot file that is accepted: the driver's profile; where that hangs, until it is killed, then the rescue's."""
    silence = Servos.__dataclass_fields__["watchdog_s"].metadata["within"].high
    return STOP_MAX_S + 2 * silence + POWER_DOWN_NS * 1e-9 + rescue.DIE_S + rescue.INSIST_S


def test_the_service_gives_every_robot_the_time_that_its_stop_takes():
    """To those whose manager was killed."""
    unit = (LAUNCH / "system" / "robotrl.service").read_text()
    given, stopping, counting = (
        float(re.search(rf"^{key}(\d+)$", unit, re.M)[1])
        for key in ("ExecStopPost=/bin/sleep ", "TimeoutStopSec=", "StartLimitIntervalSec=")
    )
    assert longest_stop() + 1.0 < given < stopping
    assert stopping >= HELD_NS * 1e-9 + AFTER_S, "and to a manager that is told to end while a stop key holds an arm"
    assert 3 * (given + 10.0) < counting, "or a run that fails at once would be started for ever"
    assert "KillMode=process" in unit.splitlines(), "or systemd kills driver, rescue and guard before the first of these seconds"


def test_systemd_waits_for_an_arm_that_is_held_again_and_again(manager, monkeypatch):
    """As it counts, by sd_notify(3), on a clock of the test's: the unit's time, and from each word on what that asks for."""
    unit = (LAUNCH / "system" / "robotrl.service").read_text()
    now, killed_at = 0.0, float(re.search(r"^TimeoutStopSec=(\d+)$", unit, re.M)[1])
    halt, presses, notify = Halt(), [0.0, 300.0, 590.0], Notify("")

    def hear(text):
        nonlocal killed_at
        assert "WATCHDOG=1" in text.splitlines()
        killed_at = max(killed_at, now + float(re.search(r"^EXTEND_TIMEOUT_USEC=(\d+)$", text, re.M)[1]) * 1e-6)

    def passes(*_):
        nonlocal now
        now += 0.02
        assert now < killed_at, "driver, rescue and guard are killed with the arm up"

    def newest():
        pressed = bool(presses) and now >= presses[0] and presses.pop(0) >= 0.0
        stop = "hold" if halt.step(int(now * 1e9), pressed, True) else ""
        return msgspec.structs.replace(drives(stop, not stop), t=int(now * 1e9))

    monkeypatch.setattr(notify, "_send", hear)
    monkeypatch.setattr(processes, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(manager, "clock", SimpleNamespace(now=lambda: int(now * 1e9)))
    monkeypatch.setattr(manager.bus, "wait", passes)
    monkeypatch.setattr(manager.drive, "latest", newest)
    monkeypatch.setattr(manager, "say", lambda *_: None)
    monkeypatch.setattr(manager, "heard", list)
    with monkeypatch.context() as patch:
        patch.setattr(manager, "children", {"servos": SimpleNamespace(process=SimpleNamespace(poll=lambda: None))})
        assert manager.power_down(replace(Run().robot, stop_profile="stow", stop_damp_s=STOP_MAX_S), notify.longer)
    assert now > 1190.0 and killed_at - now > AFTER_S, "and the rest of the end has its time"


def test_a_manager_that_ends_gives_driver_and_rescue_the_time_that_the_longest_stow_takes(manager, monkeypatch):
    assert longest_stop() + 1.0 < DOWN_S
    given, end = {}, manager._end
    for name in ("servos", "rescue", "guard", "policy"):
        manager.start(replace(spec("stays"), name=name))
    with monkeypatch.context() as patch:
        patch.setattr(manager, "_end", lambda who, s: (given.update({child.spec.name: s for child in who}), end(who, s)))
        patch.setattr(manager.bus, "close", lambda: None)  # its own end closes it
        manager.stop()
    assert given == {"servos": DOWN_S, "rescue": DOWN_S, "guard": processes.END_S, "policy": processes.END_S}


def test_while_nothing_changes_nothing_is_repeated(watch, capsys):
    watch.told("READY")
    for elapsed in (6.0, 12.0, 30.0, 70.0):
        watch.started = time.monotonic() - elapsed
        watch._tell_progress()
    assert [line[:6].strip() for line in capsys.readouterr().out.splitlines()] == ["6.0", "70.0"]


def test_where_a_person_is_at_the_console_the_twin_is_held_up_while_its_torque_is_off(watch):
    lifts = []
    watch.held_up = type("Twin", (), {"lift": lambda self: lifts.append(1)})()
    for state, count in (("CHECK", 0), ("READY", 1), ("READY", 2), ("HOLD", 2), ("RELAX", 2)):
        watch.told(state)
        watch._hold_up()
        assert len(lifts) == count
    said = watch.told("HOLD", "reset_failed", note="put it on its feet")
    assert said == ["HOLD     reset_failed: put it on its feet", said[1]] and "c, d, e, then R" in said[1]


def test_the_twins_person_is_told_each_state_once_with_where_things_belong(watch):
    told, episode = [], dict(step=0, total_steps=0, total_return=0.0, speed=0.0, policy_version=-1, policy_age_s=0.0)
    watch.twin = type("Twin", (), {"tell": lambda self, *words: told.append(words)})()
    watch.told("RESET")
    watch._lend_hands()
    assert not told, "nobody has said yet where they belong"
    for state, places in (("RESET", (0.1, 0.2)), ("HOLD", (0.1, 0.2)), ("HOLD", (0.1, 0.2)), ("RUN", (0.3, 0.2))):
        watch.episode.message = Episode(episode=0, set_up=places, **episode)
        watch.told(state)
        watch._lend_hands()
    assert told == [("RESET", (0.1, 0.2)), ("HOLD", (0.1, 0.2)), ("RUN", (0.3, 0.2))]


def test_a_robot_has_the_nodes_of_its_senses():
    robots = {name: load(LAUNCH / f"{name}.toml").robot for name in ("walk", "push", "reach")}
    named = {name: {spec.name for spec in nodes_of(robot)} for name, robot in robots.items()}
    assert named["walk"] - named["push"] == {"imu"} and named["push"] - named["reach"] == {"tracker"}
    assert named["reach"] == {"recorder", "guard", "rescue", "servos", "reset", "policy", "learner"}


def test_the_driver_the_rescue_and_the_guard_end_last_and_one_after_the_other(manager):
    order = manager.directory / "order.txt"
    body = f"""
import signal, sys, time
name = __name__ if __name__ != "__main__" else sys.argv[0].rsplit("_")[-1].removesuffix(".py")
def end(*_):
    time.sleep(0.1)  # who does not wait for the one before would be first
    open({str(order)!r}, "a").write(name + "\\n")
    raise SystemExit(0)
signal.signal(signal.SIGTERM, end)
print("on", flush=True)
time.sleep(60)
"""
    for name in ("guard", "rescue", "servos", "policy"):
        (manager.directory / f"pretend_{name}.py").write_text(body)
        manager.start(spec(name))
    until(lambda: all("on" in child.log.path.read_text() for child in manager.children.values()))
    for child in list(manager.children.values()):
        assert os.readlink(f"/proc/self/fd/{child.pidfd}") == "anon_inode:[pidfd]"
    close, manager.bus.close = manager.bus.close, lambda: None  # the fixture's to do
    manager.stop()
    manager.bus.close = close
    assert order.read_text().split() == ["policy", "servos", "rescue", "guard"]


def test_deaths_long_past_are_forgotten(manager, monkeypatch):
    monkeypatch.setattr(processes, "WITHIN_S", 0.0)
    manager.start(spec("dies"))
    for _ in range(6):
        assert manager.watch(10.0)


def test_the_rescue_is_there_before_the_driver_and_after_it():
    names = [node.name for node in roster.NODES]
    assert names.index("rescue") < names.index("servos") and processes.LAST == ("servos", "rescue", "guard", "recorder")


def test_a_node_for_each_camera_and_with_the_twin_only_for_those_it_shows():
    cameras = {
        "front": CameraPort(serial="A", rate_hz=60),
        "wrist": CameraPort(kind="realsense", depth=True),
        "top": CameraPort(path="x"),
    }
    run = replace(Run(), robot=replace(Run().robot, cameras=cameras))
    nodes = roster.cameras(run.robot, {"wrist"})
    assert [(n.name, n.words) for n in nodes] == [(f"camera{i}", (f"camera{i}",)) for i in (1, 2, 3)]
    assert [n.expendable for n in nodes] == [True, False, True], "through the wrist's the run sees"
    ports = {"servos": "s", "camera.wrist": "unix:/w", "camera.front": "unix:/f"}
    there = with_ports(run, ports).robot.cameras
    assert list(there) == ["front", "wrist"] and not roster.cameras(Run().robot, ())
    assert [(c.kind, c.url, c.rate_hz, c.depth) for c in there.values()] == [
        ("mjpeg", "unix:/f", 60, False),
        ("mjpeg", "unix:/w", 30, False),
    ]


ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGTSTP, signal.SIGQUIT)


@pytest.mark.parametrize("number", ENDING)
def test_every_key_and_signal_that_would_end_or_stop_the_manager_ends_the_run(number):
    """Stopped by Ctrl-Z it would start nobody anew, and the robot would go on."""
    before = {n: signal.getsignal(n) for n in ENDING}
    try:
        end = Ending()
        signal.raise_signal(number)
        assert end.asked
    finally:
        for n, handler in before.items():
            signal.signal(n, handler)
