"""The operator's console: what the robot does, ten times a second, and one key for all that the operator may say.

The heartbeat and the screen share one thread on purpose: a terminal that no longer takes output stops the
heartbeat, and the guard stops the robot 0.5 s later. So does one that has answered and takes longer than three
seconds for it: a line that dies without a word (no FIN, no RST) takes output for a minute or more. An operator who
cannot see does not supervise, and makes room for one who does. When this process ends the guard knows it at once,
by its pid in the beat. A key is sent when it is read, not at the next redraw.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
from rich.console import Console
from rich.live import Live

from robotrl import node, rundir
from robotrl.bus import Bus, BusError
from robotrl.clock import WallClock
from robotrl.complaint import Complaint, attach, command
from robotrl.keyring import read
from robotrl.messages import KEY_NS
from robotrl.nodes.desk import Link, beat
from robotrl.nodes.gallery import Gallery
from robotrl.nodes.keys import STOP_KEYS, KeyParser, Line, Terminal
from robotrl.nodes.screen import draw
from robotrl.nodes.view import SECOND, STOPPED, View, absent
from robotrl.remote import Remote

LOOK = "v"  # the key of the cameras' pictures
PERIOD = SECOND // 10  # of the heartbeat and of the screen
LISTEN_NS = SECOND // 100  # the guard speaks 50 times a second, and a refusal stands in one message only
GUARD_WAIT = 5 * SECOND  # a live run's guard speaks 20 times a second
UNCONFIRMED = 3  # the exit code where a run has ended, and nobody has read its motors back as off: as the run's own
USAGE = """usage: robotrl console [RUN_DIR]              the newest live run under runs/ when none is given, a robot's first
       robotrl console tcp://ADDRESS:PORT KEY   a run on another machine (docs/security.md); KEY: NAME.secret.json"""


class Signals:
    """Signals become facts that the loop reads; ending ones raise SystemExit: every `finally` runs."""

    ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)

    def __init__(self) -> None:
        self.suspend = self.resumed = False
        for number in self.ENDING:
            signal.signal(number, self._end)
        signal.signal(signal.SIGTSTP, self._suspend)
        signal.signal(signal.SIGCONT, self._resume)

    def _end(self, number: int, _: object) -> None:
        self.settle()  # a second one must not interrupt the restoring of the terminal
        raise SystemExit(128 + number)

    def _suspend(self, *_: object) -> None:
        self.suspend = True

    def _resume(self, *_: object) -> None:
        self.resumed = True

    def settle(self) -> None:
        """From here on only the end counts."""
        for number in (*self.ENDING, signal.SIGTSTP):
            signal.signal(number, signal.SIG_IGN)

    def sleep(self) -> None:
        """Stop this process, as Ctrl-Z asks, until it is continued."""
        self.suspend = False
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._suspend)
        self.resumed = True


def supervise(
    link: Link, view: View, directory: Path | None, terminal: Terminal, live: Live, signals: Signals
) -> tuple[str, int]:  # fmt: skip
    """The loop: keys as they come, a beat and a frame ten times a second. Returns why it ended, and the exit code."""
    clock, parser, gallery = link.clock, KeyParser(), Gallery(terminal, lambda: link.bus.subscriber("picture"))
    sockets = None if directory is None else node.bus_directory(directory)  # of this life of the run
    due = looked = heard = clock.now()
    line = Line(terminal, parser, due)
    state, late = "", False
    while not view.leaving:
        wait = min(due - clock.now(), LISTEN_NS) / SECOND
        typed = terminal.read(wait)
        # A key is stamped below, when it is read. Where this process stood still since it listened last (stopped, or in a draw)
        # it may have been typed long before: until nothing more waits to be read only a stop counts.
        before, heard = heard, clock.now()
        late = heard - before > KEY_NS or (late and bool(typed))
        refused = parser.refused
        keys = parser.feed(typed, heard, view.typed is not None)
        view.repeats.came(keys, heard, late, parser.refused > refused)
        for key in stops_of(keys, view, heard) if late else keys:
            if key == LOOK and view.typed is None:
                view.keys.append((clock.now(), key, gallery.key(view, clock.now())))
            else:
                link.obey(key, view)
        line.tend(clock.now())
        view.answered = line.took
        link.listen(view)
        if signals.suspend or signals.resumed:
            change_hands(link, view, line, terminal, live, signals)
        if (now := clock.now()) < due:
            continue
        due = max(due + PERIOD, now)
        link.read(view)
        gallery.listen(parser, now)
        attend(link, view, line, live, now)
        if directory is not None and sockets is not None and now >= looked:
            looked, view.disk_free = now + SECOND, None
            if not sockets.is_dir() and not (view.unconfirmed() and view.driver_heard(now)):
                await_answer(link, view, line)
                return ended(view, directory)
            with contextlib.suppress(OSError):  # it was renamed, say, and the stop key is not to go with it
                view.disk_free = shutil.disk_usage(directory).free
        show(live, view, now, parser)
        gallery.over()
        if (guard := view.guard()) is not None and guard.state != state:
            if state and guard.state in STOPPED:
                live.console.bell()
            state = guard.state
    await_answer(link, view, line)
    if link.watching:
        return f"left{unkept(view)}; the run goes on", 0
    return left(view, directory), 0


def stops_of(keys: list[str], view: View, now: int) -> list[str]:
    """The stop keys alone; that others are refused is said."""
    stops = [key for key in keys if key in STOP_KEYS]
    if len(stops) < len(keys):
        view.keys.append((now, "typed while this stood still:", "REFUSED, press again"))
    return stops


def attend(link: Link, view: View, line: Line, live: Live, now: int) -> None:
    """Beat, as long as the person sees. Who does not makes room for another console; he is back when he does, and it is free."""
    if line.dead(now):
        link.retire()
    elif not link.watching:
        link.operator.send(beat(view, now))
    elif link.promote():
        view.keys.append((now, "now", "YOU SUPERVISE: no other console does"))
        live.console.bell()


def await_answer(link: Link, view: View, line: Line) -> None:
    """The terminal is about to be given back; a stop that is pressed while its answer is waited for counts."""
    for key in line.last(link.clock):
        if key in STOP_KEYS:
            link.obey(key, view)


def ended(view: View, directory: Path) -> tuple[str, int]:
    """The run's end as the last line tells it, and the exit code: its manager may be dead, and say nothing."""
    if view.unconfirmed():
        return f"{directory}: the run has ended; CUT POWER: the motors did not confirm that they are off", UNCONFIRMED
    return f"{directory}: the run has ended", 0


def left(view: View, directory: Path | None) -> str:
    """What follows from leaving as the one who supervises, and how to come back."""
    what = "left" + unkept(view)
    if directory is not None:
        return f"{what}; the robot stops and the run goes on; attach again: {attach(directory)}"
    again = command(f"console {view.run} KEY")
    return f"{what}; the robot stops, if nobody else supervises, and the run goes on; attach again: {again}"


def unkept(view: View) -> str:
    """Of rewards that this process alone has."""
    count = view.unkept
    return f"; {count} reward{'s are' if count > 1 else ' is'} not kept by the recorder yet, and may be lost" if count else ""


def show(live: Live, view: View, now: int, parser: KeyParser) -> None:
    """Draw one frame and remember what it showed."""
    if parser.refused:
        view.keys.append((now, "several keys at once:", "REFUSED, press one"))
        parser.refused = 0
    live.update(draw(view, now, *live.console.size), refresh=True)
    view.drawn(now)


def change_hands(link: Link, view: View, line: Line, terminal: Terminal, live: Live, signals: Signals) -> None:
    """Ctrl-Z gives the terminal back and sleeps, and the robot stops; after `fg` it is taken again."""
    if signals.suspend:
        await_answer(link, view, line)
        live.stop()
        terminal.give_back()
        signals.sleep()
    signals.resumed = False
    terminal.take(drop=False)  # SPACE may have been typed while this stood still; what else was acts no more (supervise)
    live.stop()
    live.start()
    line.again(link.clock.now())


def newest_live(root: Path, within_ns: int) -> Path:
    """The run under `root` made last of those whose guard speaks, a robot's before a twin's; RunError when none does.

    A run that was killed with the machine leaves its sockets' names behind, and a rehearsal never had any.
    """
    clock, passed = WallClock(), ""
    begun = [directory for directory in rundir.made(root) if os.path.isdir(node.bus_directory(directory))]
    for directory in sorted(begun, key=rundir.of_twin):
        try:
            bus = Bus(node.bus_directory(directory), "console", clock)  # listens only: another console may be attached
        except BusError as error:  # another user's, or over by now
            passed = passed or f" ({error})"
            continue
        try:
            guard = bus.subscriber("guard")
            if bus.wait([guard], within_ns / SECOND):
                return directory
        finally:
            bus.close()
    start = "start one: bash launch/real_walk.sh (with --sim: on the twin)"
    raise rundir.RunError(f"{root}: no run is live here{passed}; {start}, or name its directory")


def operate(directory: Path) -> int:
    """Attach to the live run in `directory` until the operator leaves or the run ends."""
    clock = WallClock()
    run = rundir.load(directory)
    if run.robot.cameras:
        import cv2  # noqa: F401  # what decodes their pictures; later, a heartbeat would wait for it
    view = View(
        run=directory.name,
        temp_limit_c=run.robot.limits.temp_c,
        board_limit_c=run.robot.servos.board_c,
        agent=run.agent,
        settings=run.operator,
        last_human=clock.now(),
        absent=absent(run),
        twin=rundir.of_twin(directory),
    )
    return watch(Link(Bus(node.bus_directory(directory), "console", clock)), view, directory, str(directory))


def operate_afar(address: str, key: Path) -> int:
    """The same with a run on another machine, of which only its door is known: no disk, and what settings the door tells."""
    import cv2  # noqa: F401  # as above: nobody knows what cameras there are

    clock = WallClock()
    remote, view = Remote(address, read(key), clock), View(run=address, afar=True, last_human=clock.now())

    def told() -> None:
        shown = msgspec.structs.asdict(remote.welcome.shown)
        view.temp_limit_c, view.board_limit_c = shown.pop("temp_limit_c"), shown.pop("board_limit_c")
        view.settings = replace(view.settings, **shown.pop("operator"))
        view.absent, view.twin = tuple(shown.pop("absent")), shown.pop("twin")
        view.agent = replace(view.agent, **shown)

    return watch(Link(remote), view, None, address, told)


def watch(link: Link, view: View, directory: Path | None, where: str, told: Callable[[], None] = lambda: None) -> int:
    """`told` is called when the guard has spoken."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        if not link.guard_speaks(view, GUARD_WAIT):
            raise BusError(f"{where}: no guard speaks, the run is not live or lets nobody in; start one: launch/real_walk.sh")
        told()
        signals = Signals()
        screen = Console(highlight=False, soft_wrap=False)
        live = Live(console=screen, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        try:
            with Terminal(sys.stdin.fileno()) as terminal, live:
                said, code = supervise(link, view, directory, terminal, live, signals)
        finally:
            signals.settle()
    finally:
        link.close()
    print(f"robotrl console: {said}")
    return code


def has_screen() -> bool:
    """There is a keyboard, and a screen that can place a cursor."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def main(argv: list[str]) -> int:
    """`robotrl console [RUN_DIR]`. Exit code 2 and one line when there is no terminal or no live run."""
    if any(word in ("-h", "--help") for word in argv):
        print(USAGE)
        return 0
    try:
        afar = len(argv) == 2 and argv[0].startswith("tcp://")
        if len(argv) > 1 and not afar:
            raise BusError(f"{len(argv)} arguments; write robotrl console [RUN_DIR], or tcp://ADDRESS:PORT KEY")
        if not has_screen():
            dumb = f" that can place a cursor, which TERM={name} cannot" if (name := os.environ.get("TERM", "")) == "dumb" else ""
            raise BusError(f"needs a terminal{dumb or ' (keyboard and screen)'}; run it in a shell, over ssh -t, or in tmux")
        if afar:
            return operate_afar(argv[0], Path(argv[1]))
        return operate(Path(argv[0]) if argv else newest_live(Path("runs"), GUARD_WAIT))
    except Complaint as error:
        print(f"robotrl console: {error}", file=sys.stderr)
    except EOFError:
        return 0  # the terminal is gone, and with it the operator: the heartbeat ends here
    return 2
