"""A run is a directory: its configuration, what it was built from, metrics, replay, weights, pictures.

runs/20261120-131500-walk/
    run.json  metrics.jsonl  log/  replay/  weights/  checkpoint/  sessions/  traces.npz  timing.npz  plot.png  walk.mp4
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import platform
import struct
import subprocess
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robotrl.complaint import Complaint, attach
from robotrl.config import Run, recorded, to_dict
from robotrl.topics import TOPICS

if TYPE_CHECKING:
    from numpy.typing import NDArray


SOCKET_PATH = 107  # bytes that the path of a Unix socket may have
FULL = (errno.ENOSPC, errno.EDQUOT)  # a disk that has no room now, as against one that fails


class RunError(Complaint):
    """What is wrong with a run directory, where, and what to do; one line."""


def create(run: Run, root: Path, clock_kind: str, sim: bool = False, robot: dict[str, Any] | None = None) -> Path:
    """A new run directory under `root`, named by the time of day (the only use of it in the project).

    `clock_kind` is "lockstep" or "wall"; on the wall clock `sim` says that its ports are the twin's. `robot`: what
    `made_of` is to give back.
    """
    if clock_kind == "wall":
        require_room_for_sockets()
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{run.name}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        for suffix in ("", *(f"-{i}" for i in range(2, 100))):
            path = root / f"{stem}{suffix}"
            if not path.exists():
                break
        path.mkdir()
        (path / "weights").mkdir()
        record = {"clock": clock_kind, "sim": sim, "config": to_dict(run), "built_from": provenance()}
        write_json(path / "run.json", record | ({"robot": robot} if robot else {}))
    except OSError as error:
        raise RunError(f"{root}: cannot make a run directory: {error.strerror}; free space or give --out") from None
    return path


def require_room_for_sockets() -> None:
    """RunError where a run's sockets cannot be made under TMPDIR, or their path would be longer than one may be."""
    longest = max(len(f"{name}.{source}") for name, topic in TOPICS.items() for source in topic.sources)
    try:
        folder = tempfile.gettempdir()
    except FileNotFoundError:  # nor could one be written with a full disk
        raise RunError("TMPDIR: no folder takes a temporary file; free some space, or set one that does: TMPDIR=...") from None
    if len(os.fsencode(folder)) + len("/robotrl-xxxxxxxx/") + longest > SOCKET_PATH:
        raise RunError(
            f"TMPDIR: no room for a socket's name, of {SOCKET_PATH} letters, under {folder}; set a shorter one: TMPDIR=/tmp"
        )


def load(path: Path) -> Run:
    """The configuration a run was made with."""
    source = path / "run.json"
    try:
        data = json.loads(source.read_text())
        return recorded(data["config"], source)
    except FileNotFoundError:
        raise RunError(f"{path}: no run directory (no run.json); runs are made under runs/ by launch/rehearse.sh") from None
    except PermissionError:
        raise _anothers(path, source) from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunError(f"{source}: corrupt: {error!r}; the run cannot be read without it, restore it from a copy") from None


def kind(path: Path) -> tuple[str, bool]:
    """Which clock a run is on, "lockstep" or "wall", and whether its ports there are the twin's. RunError as `load`."""
    load(path)
    record = json.loads((path / "run.json").read_text())
    return record.get("clock", ""), record.get("sim", False) is True


def of_twin(path: Path) -> bool:
    """Are a run's ports the twin's? Of one whose run.json is damaged nobody knows that they are a robot's."""
    try:
        return kind(path)[1]
    except RunError:
        return True


def made_of(path: Path) -> dict[str, Any] | None:
    """Where the robot of this run is described (robotnow.py); None where it kept no such thing."""
    robot = json.loads((path / "run.json").read_text()).get("robot")
    whole = isinstance(robot, dict) and isinstance(robot.get("file"), str) and isinstance(robot.get("set"), list)
    return robot if whole and all(isinstance(item, str) for item in robot["set"]) else None


def hold(path: Path) -> int:
    """A descriptor that keeps everybody else from holding this run; close it when done. RunError when somebody does."""
    held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        raise RunError(f"{path}: this run is alive; attach to it, {attach(path)}, or end it first") from None
    return held


@contextlib.contextmanager
def written(path: Path) -> Iterator[None]:
    """What follows writes into this run: RunError where that is another user's to do, or a disk is full."""
    try:
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        yield
    except PermissionError as error:
        if error.filename is None or not Path(os.fsdecode(error.filename)).is_relative_to(path):
            raise
        raise _anothers(path, Path(os.fsdecode(error.filename))) from None
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise RunError(f"{error.filename or path}: {error.strerror}; free some space") from None


def _anothers(path: Path, at: Path) -> RunError:
    try:
        owner = at.owner() if at.exists() else path.owner()
    except (KeyError, OSError):
        owner = "another user"
    return RunError(f"{at}: no permission; go on with this run as {owner}, or make it yours: sudo chown -R $USER {path}")


def amend(path: Path, run: Run) -> None:
    """Put `run` in the place of the configuration that the directory was made with."""
    record = json.loads((path / "run.json").read_text())
    write_json(path / "run.json", record | {"config": to_dict(run)})


def bus_directory(directory: Path) -> Path:
    """Where a live run's sockets are; a directory that does not exist when it is not live."""
    try:
        return Path(json.loads((directory / "bus.json").read_text())["directory"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return directory / "no-bus"


def made(root: Path) -> list[Path]:
    """The run directories under `root`, the one made last first."""
    return sorted((p for p in root.glob("*/") if (p / "run.json").is_file()), reverse=True)


def newest(root: Path) -> Path:
    """The run directory made last; RunError when there is none."""
    runs = made(root)
    if not runs:
        raise RunError(f"{root}: no runs here; launch/rehearse.sh makes one")
    return runs[0]


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Those of an .npz; RunError where it is none, or damaged."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: np.asarray(file[name]) for name in file.files}
    except (OSError, ValueError, TypeError, AttributeError, EOFError, KeyError, NotImplementedError, MemoryError, OverflowError,
            RuntimeError, SyntaxError, struct.error, zlib.error, zipfile.BadZipFile) as error:  # fmt: skip
        why = " ".join(str(error).split()) or type(error).__name__
        raise RunError(f"{path}: corrupt ({why}); remove it or restore it from a copy") from None


def write_json(path: Path, value: Any) -> None:
    """Whole or not at all: written aside, synced, renamed."""
    write_bytes(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Whole or not at all: written aside, synced, renamed."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(aside, "wb") as file:
            file.write(data)
            file.flush()
            os.fdatasync(file.fileno())
        os.replace(aside, path)
    except OSError:
        aside.unlink(missing_ok=True)  # a full disk needs the room
        raise


class Metrics:
    """metrics.jsonl: one JSON object a line, appended as it happens; the source of every plot and figure.

    `lost`: lines that the disk did not take. No figure is worth the process that holds a robot.
    """

    def __init__(self, path: Path) -> None:
        self._file = open(path / "metrics.jsonl", "a+b", buffering=0)  # noqa: SIM115
        self.lost = 0
        self._file.seek(0)
        if not (text := self._file.read()).endswith(b"\n"):  # torn by a power cut: readers leave it out, but not in the midst
            self._file.truncate(text.rfind(b"\n") + 1)

    def write(self, kind: str, **values: Any) -> None:
        line = (json.dumps({"kind": kind, **values}, allow_nan=False) + "\n").encode()
        before, written = self.size, 0
        with contextlib.suppress(OSError):
            written = self._file.write(line)
        if written == len(line):
            return
        self.lost += 1
        with contextlib.suppress(OSError):
            self._file.truncate(before)  # a line is there whole or not at all

    @property
    def size(self) -> int:
        """Bytes so far."""
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        self._file.close()


def provenance() -> dict[str, Any]:
    """What ran: commit, whether the tree was clean, interpreter and machine."""
    root = Path(__file__).resolve().parent.parent

    def git(*words: str) -> str:
        try:
            done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""

    return {
        "commit": git("rev-parse", "HEAD") or "unknown",
        "clean": git("status", "--porcelain", "--untracked-files=no") == "",
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {cpu_model()}",
    }


def cpu_model() -> str:
    """The processor's name, empty where the system does not say."""
    try:
        for line in Path("/proc/cpuinfo").read_text().split("\n"):
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return ""
