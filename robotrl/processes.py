"""The processes of a run: each node started by name, watched by pidfd, started again within bounds, ended in order."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from robotrl import aloud, config
from robotrl.bus import Bus
from robotrl.clock import WallClock
from robotrl.messages import Beat, Drive, Guard, Process
from robotrl.nodelog import NodeLog
from robotrl.roster import OPERATOR, Spec

RESTARTS, WITHIN_S = 3, 60.0  # Erlang's restart intensity: more often, and it stays down
READY_S = 10.0  # for the recorder to listen, before the others begin: chosen for a busy machine, of which a quiet one takes 0.5
BEAT_S = 0.5  # between the manager's own
GONE_EVERY_S = 10.0  # who is gone for good is told anew to consoles that came later
END_S = 10.0  # for a node that was told to end; then it is killed
DOWN_S = 20.0  # the same for who may have an arm to lower first, for robot.STOP_MAX_S: killed half way they would drop it
FRESH_NS = 200_000_000  # an older word of the driver's says nothing of now
STEP_S = 0.2  # that one look counts for at most: where all stood still together, an arm is no lower (safety/awake.py)
OFF_S = 4.0  # for the motors to be damped, switched off, and read back as off, when the run ends


# NumPy's threads wait by spinning, which a matrix of 256 x 256 is not worth; torch has its own setting, agent.threads.
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
# End after all others, in this order: while anything runs, somebody watches, and it is on record how it ended.
LAST = ("servos", "rescue", "guard", "recorder")
LOWER = ("servos", "rescue")  # an arm that still holds


class GaveUp(Exception):
    """The run cannot go on; one line. `code`: 2 when a node found something wrong at its start, 3 when it died on the way."""

    def __init__(self, what: str, code: int = 3) -> None:
        super().__init__(what)
        self.code = code


@dataclass
class Child:
    """A started node."""

    spec: Spec
    process: subprocess.Popen[bytes]
    pidfd: int
    log: NodeLog
    deaths: list[float] = field(default_factory=list)


class Wait:
    """`left`: how long is waited still, s, as counted from look to look."""

    def __init__(self, left: float) -> None:
        self.left, self._looked = left, time.monotonic()

    def goes_on(self) -> bool:
        """To be asked at each look."""
        now = time.monotonic()
        self.left, self._looked = self.left - min(now - self._looked, STEP_S), now
        return self.left > 0


class Manager:
    """Holds the children of one run."""

    def __init__(
        self, directory: Path, sockets: Path, extra: dict[str, list[str]], keep: tuple[int, ...],
        ending: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        """`ending`: was the end of the run asked for? Who dies from then on stays dead: all may have been told to end at once."""
        self.directory, self.extra, self.keep, self.ending = directory, extra, keep, ending
        self.clock = WallClock()
        self.bus = Bus(sockets, "manager", self.clock)
        self.events, self.beats = self.bus.publisher("process"), self.bus.publisher("beat")
        self._looks, self._beaten = 0, 0.0
        self.drive, self.guard = self.bus.subscriber("drive"), self.bus.subscriber("guard")
        self.children: dict[str, Child] = {}
        self.gone: dict[str, str] = {}  # who was given up, and why, while the run goes on
        self._gone_said = 0.0
        self._last_words: list[str] = []  # of nodes that have died since `heard` was called last
        self._buried: tuple[int, bool] | None = None  # when the rescue last said how a dead driver's motors are; off?

    def start(self, spec: Spec, deaths: list[float] | None = None) -> None:
        """Start one node; its standard input is a pipe whose closing tells it that we are gone."""
        words = [sys.executable, "-m", spec.module, str(self.directory), *spec.words, *self.extra.get(spec.name, [])]
        if deaths:
            words.append("--restarted")
        with contextlib.ExitStack() as undo:
            log = NodeLog(self.directory / "logs" / f"{spec.name}.log")
            undo.callback(log.close)
            # A group of its own: Ctrl-C is for us, who then end all in order.
            process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=log.fd, stderr=log.fd, pass_fds=self.keep, process_group=0,
                env=os.environ | ONE_THREAD,
            )  # fmt: skip
            try:
                pidfd = os.pidfd_open(process.pid)
            except OSError:
                with process:  # nobody would watch it, or end it
                    process.kill()
                raise
            undo.pop_all()
        self.children[spec.name] = Child(spec, process, pidfd, log, deaths or [])
        self.say(spec.name, process.pid, "started", restarts=len(deaths or []))

    def wait_for(self, name: str) -> None:
        """Return when this node lives, or has died, or has had READY_S for it: without a recorder the robot works too."""
        child, beats, until = self.children[name], self.bus.subscriber("beat"), time.monotonic() + READY_S
        while beats.latest(name) is None and child.process.poll() is None and time.monotonic() < until:
            self.bus.wait([beats], 0.05)

    def say(self, name: str, pid: int, event: str, detail: str = "", restarts: int = 0) -> None:
        self.events.send(Process(name=name, pid=pid, event=event, detail=detail, restarts=restarts))
        line = json.dumps({"t": self.clock.now(), "name": name, "pid": pid, "event": event, "detail": detail}) + "\n"
        with contextlib.suppress(OSError), open(self.directory / "logs" / "manager.log", "a") as log:
            log.write(line)  # a full disk ends no run: what the log lacks has been said on the bus

    def watch(self, timeout_s: float, also: tuple[int, ...] = ()) -> list[str]:
        """Wait for deaths and start again who died; a line for each. GaveUp when one stays down that the run cannot do without.

        `also`: other pidfds to wake up for.
        """
        self._looks += 1
        aloud.again()
        now = time.monotonic()
        if now - self._beaten > BEAT_S:
            self._beaten = now
            self.beats.send(Beat(progress=self._looks))
        if self.gone and now - self._gone_said > GONE_EVERY_S:
            self._gone_said = now
            for name, why in self.gone.items():
                self.events.send(Process(name=name, pid=0, event="gone", detail=why))
        fds = {child.pidfd: child for child in self.children.values()}
        ready, _, _ = select.select([*fds, *also], [], [], timeout_s)
        told: list[str] = []
        try:
            for fd in ready if not self.ending() else ():
                told += [self._bury(fds[fd])] if fd in fds else []
        except GaveUp:
            self._last_words = told + self._last_words  # heard while the run ends, as all that is said then
            raise
        return told

    def _bury(self, child: Child) -> str:
        name, pid = child.spec.name, child.process.pid
        self._last_words += self._words(child)
        del self.children[name]
        code, said = self._reap(child), child.log.last_line()
        child.log.close()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        self.say(name, pid, "died", how, len(child.deaths))
        if code == 2 and said and not child.deaths:
            raise GaveUp(self._once(said), 2)
        now = time.monotonic()
        deaths = [t for t in child.deaths if now - t < WITHIN_S] + [now]
        if len(deaths) > RESTARTS:
            return self._give_up(child, f"{name} died {len(deaths)} times in {WITHIN_S:.0f} s, last by {how}", said)
        try:
            self.start(child.spec, deaths)
        except OSError as error:  # by what it died of, as a rule: there is no memory
            return self._give_up(child, f"{name} died ({how}) and cannot be started again ({error.strerror})", said)
        how += f": {self._once(said)}" if code == 2 and said else ""  # who is refused again after a death must say why
        return f"{name} died ({how}) and was started again"

    def _give_up(self, child: Child, why: str, said: str) -> str:
        """GaveUp where the run cannot do without it."""
        name, pid, said = child.spec.name, child.process.pid, self._once(said)
        if child.spec.expendable:
            self.gone[name], self._gone_said = why, time.monotonic()
            self.say(name, pid, "gone", why)
            return f"{why}: {said or 'it said nothing'}; it stays down, and the run goes on without it; see {child.log.path}"
        self.say(name, pid, "gave up", why)
        raise GaveUp(f"{why}: {said or 'it said nothing'}; see {child.log.path}")

    def _once(self, said: str) -> str:
        """What is told with a node's death, and so not among its last words."""
        self._last_words = [line for line in self._last_words if line != said]
        return said

    @staticmethod
    def _reap(child: Child) -> int:
        code = child.process.wait()
        os.close(child.pidfd)
        if child.process.stdin is not None:
            child.process.stdin.close()
        return code

    def heard(self) -> list[str]:
        """What nodes said to the person since the last call: lines of their logs that begin with their name."""
        lines, self._last_words = self._last_words, []
        for child in self.children.values():
            lines += self._words(child)
        return lines

    def _words(self, child: Child) -> list[str]:
        lines = child.log.whole_lines().splitlines()
        self._listen_to_the_rescue(child, lines)
        if child.spec is OPERATOR:
            return []
        return [line for line in lines if line.startswith(f"{child.spec.name}: ")]

    def _listen_to_the_rescue(self, child: Child, lines: list[str]) -> None:
        from robotrl.nodes.tether import BURIED, RESCUED

        for line in lines if child.spec.name == "rescue" else ():
            if BURIED in line:
                self._buried = self.clock.now(), RESCUED in line

    def power_down(self, robot: config.Robot, held: Callable[[], None] = lambda: None) -> bool:
        """Have the guard take torque off by the robot's stop profile; true once the motors have read back as off.

        A driver that never spoke has moved nothing, but an arm: that it found holding, and may be lowering still. An arm that a
        stop key holds on its way down is waited for, and while it is `held` is called: each press begins its ten minutes anew.
        """
        self.say("manager", os.getpid(), "stopping")
        enough = OFF_S + robot.stop_damp_s
        wait, told = Wait(enough), False
        while wait.goes_on() and self._lives("servos"):
            aloud.again()
            self._pass_on()
            drive, guard = self.drive.latest(), self.guard.latest()
            if drive is not None and drive.stop == "hold" and self.clock.now() - drive.t < FRESH_NS:
                wait.left = enough
                held()
                if not told:
                    aloud.say(
                        "a stop key holds the arm on its way down: d (disable) at a console lowers it on, or ten minutes do"
                    )
                told = True
            if off(drive, self.clock.now()) and self._keeps_off(guard):
                return True
            self.bus.wait([self.drive], 0.05)
        if (drive := self.drive.latest()) is None:
            return robot.stop_profile != "stow"
        if self._lives("servos"):
            return False
        if "servos" in self.children and self.children["servos"].process.poll() == 0 and drive.powered_off_confirmed:
            return True  # it was told to end with us, and has ended in order
        return self._rescued(drive.t, enough)  # one that died just now is followed by the rescue's whole stop

    def _lives(self, name: str) -> bool:
        """While the run ends nobody watches for deaths, or starts anybody again."""
        return name in self.children and self.children[name].process.poll() is None

    def _rescued(self, since: int, within_s: float) -> bool:
        """The driver has died for good, and the rescue may be lowering an arm still: has it said since then that it is off?"""
        from robotrl.nodes.tether import RESCUED

        wait, lives = Wait(within_s), True
        while lives and wait.goes_on():
            lives = self._lives("rescue")  # one that has died too will say no more than stands in its log now
            self._pass_on()
            if self._buried is not None and self._buried[0] > since:
                if self._buried[1]:  # the driver can no more tell it to a console
                    self.say("rescue", os.getpid(), "off", RESCUED)
                return self._buried[1]
            time.sleep(0.05)
        return False

    def _pass_on(self) -> None:
        """What nodes say to the person while the run ends, a rescue's call to cut the power too."""
        for line in self.heard():
            aloud.say(line)

    def _keeps_off(self, guard: Guard | None) -> bool:
        """It permits no torque, or never spoke, or has said nothing for so long that nobody goes by its permit any more."""
        if not isinstance(guard, Guard):
            return True
        return guard.state in ("CHECK", "READY", "RELAX", "LOCKOUT") or self.clock.now() - guard.t > FRESH_NS

    def stop(self) -> None:
        """Ask all to end; whoever does not is killed."""
        early = [child for name, child in self.children.items() if name not in LAST]
        self._end(early, END_S)
        for name in LAST:
            self._end([self.children[name]] if name in self.children else [], DOWN_S if name in LOWER else END_S)
        for child in self.children.values():
            child.log.close()
        self.children.clear()
        self.bus.close()

    def _end(self, children: list[Child], within_s: float) -> None:
        for child in children:
            child.process.terminate()
        wait = Wait(within_s)
        for child in children:
            while child.process.poll() is None and wait.goes_on():
                self._pass_on()  # a call to cut the power comes now or too late
                select.select([child.pidfd], [], [], 0.05)
            child.process.kill()  # of one that has ended nothing
            self.say(child.spec.name, child.process.pid, "stopped", f"exit code {self._reap(child)}")
        self._pass_on()  # what is lost, or not written, they say now


def off(drive: Drive | None, now: int) -> bool:
    """The driver has just said that every motor reads back as off."""
    return drive is not None and drive.powered_off_confirmed and now - drive.t < FRESH_NS
