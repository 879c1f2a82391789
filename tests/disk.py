"""A disk that the power is taken from: what it had not been told to keep may be missing, torn, or there in another order.

The calls are recorded as they are really made, below one directory. Un-synced are writes to a file until it is synced, and names
(made, renamed, removed) until their directory is. A crash state is what was synced, and of the rest: all or nothing, but for one
operation, torn anywhere, or for two, each there, missing, its first or its last half there, two writes to a file in either order
(ALICE, Pillai et al. 2014; LazyFS).
"""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

GONE = (0, 0)
END = 16  # bytes, in which a file may say that it is whole
State = dict[str, bytes | None]  # what is found: a file's bytes by its path, None for a directory


@dataclass(eq=False)
class File:
    """What is on the disk, and calls since that it need not have yet."""

    kept: bytes = b""
    pending: list[tuple[int, bytes]] = field(default_factory=list)  # bytes at a place; at -1: the new size


@dataclass(eq=False)
class Folder:
    """Files and folders by name, as on the disk; and removed name, added name, what it names, of each call since."""

    names: dict[str, Any] = field(default_factory=dict)
    pending: list[tuple[str, str, Any]] = field(default_factory=list)

    def now(self) -> dict[str, Any]:
        return dict(listed(self, lambda op: (0, 1), None))


Operation = tuple[Any, int]  # the un-synced call of this number of a file or folder
Fate = Callable[[Operation], tuple[int, int]]  # which of its bytes are there; of a name, whether there are any


def of(path: Path) -> Folder:
    """As it is, all on the disk."""
    return Folder({p.name: of(p) if p.is_dir() else File(p.read_bytes()) for p in path.iterdir()})


def listed(folder: Folder, fate: Fate, late: Operation | None) -> Iterator[tuple[str, Any]]:
    names = dict(folder.names)
    for i in ordered(folder, late):
        gone, new, node = folder.pending[i]
        if fate((folder, i)) != GONE:
            names.pop(gone, None)
            if node is not None:
                names[new] = node
    return iter(names.items())


def ordered(node: Any, late: Operation | None) -> list[int]:
    """Its calls in the order in which they get to the disk: as made, but for one that is `late`."""
    order = list(range(len(node.pending)))
    if late is not None and late[0] is node:
        order.append(order.pop(late[1]))
    return order


def written(file: File, fate: Fate, late: Operation | None) -> bytes:
    data = bytearray(file.kept)
    for i in ordered(file, late):
        at, what = file.pending[i]
        first, end = fate((file, i))
        if at < 0 and (first, end) != GONE:
            size = int.from_bytes(what, "little")
            data = data[:size].ljust(size, b"\0")
        elif at >= 0 and (part := what[first:end]):
            data = data.ljust(at + first + len(part), b"\0")
            data[at + first : at + first + len(part)] = part
    return bytes(data)


def found(folder: Folder, fate: Fate, late: Operation | None = None, under: str = "") -> State:
    """What is there once the power is back."""
    state: State = {}
    for name, node in listed(folder, fate, late):
        if isinstance(node, Folder):
            state |= {under + name: None, **found(node, fate, late, f"{under}{name}/")}
        else:
            state[under + name] = written(node, fate, late)
    return state


def operations(folder: Folder) -> list[Operation]:
    """All that is un-synced below a folder."""
    nodes = {id(node): node for node in (*folder.names.values(), *(node for _, _, node in folder.pending)) if node is not None}
    out = [(folder, i) for i in range(len(folder.pending))]
    for node in nodes.values():
        out += operations(node) if isinstance(node, Folder) else [(node, i) for i in range(len(node.pending))]
    return list({(id(node), i): (node, i) for node, i in out}.values())


def parts(operation: Operation, tear: int) -> list[tuple[int, int]]:
    """What may be there of a call: all, nothing, either side of every `tear`-th byte and of each of the last; 0: either half."""
    node, i = operation
    size = len(node.pending[i][1]) if isinstance(node, File) and node.pending[i][0] >= 0 else 1
    cuts = sorted({*range(1, size, tear), *range(max(1, size - END), size)}) if tear else [size // 2] if size > 1 else []
    return [(0, size), GONE, *((0, cut) for cut in cuts), *((cut, size) for cut in cuts)]


def crash_states(folder: Folder, tear: int, pair_tear: int = 0) -> Iterator[State]:
    """All of one operation, and all of two; `tear` of a single one, and of each of a pair: see `parts`."""
    todo = operations(folder)
    for whole in (True, False):
        rest = {(id(op[0]), op[1]): parts(op, 0)[0] if whole else GONE for op in todo}
        yield _with(folder, rest)
        for op in todo:
            for part in parts(op, tear):
                yield _with(folder, rest, {op: part})
            if isinstance(op[0], Folder):  # a folder's names up to here
                yield _with(folder, rest, {(op[0], i): GONE for i in range(op[1], len(op[0].pending))})
        for a, b in combinations(todo, 2):
            for first in parts(a, pair_tear):
                for second in parts(b, pair_tear):
                    yield _with(folder, rest, {a: first, b: second})
                    if a[0] is b[0] and isinstance(a[0], File):
                        yield _with(folder, rest, {a: first, b: second}, late=a)


def _with(
    folder: Folder, rest: dict[tuple[int, int], tuple[int, int]], but: dict[Operation, tuple[int, int]] | None = None,
    late: Operation | None = None,
) -> State:  # fmt: skip
    fates = rest | {(id(node), i): part for (node, i), part in (but or {}).items()}
    return found(folder, lambda op: fates[id(op[0]), op[1]], late)


class Recorder:
    """Stands in the place of the calls by which files are written, and makes them; `look` is told of the disk before each."""

    CALLS = ("open", "pwrite", "fsync", "fdatasync", "rename", "link", "unlink", "ftruncate", "posix_fallocate", "mkdir")

    def __init__(self, directory: Path, look: Callable[[Folder], None]) -> None:
        self.directory, self.look, self.disk = directory, look, of(directory)
        self.files: dict[int, Any] = {}  # by descriptor
        self.real = {name: getattr(os, name) for name in self.CALLS}

    def _at(self, path: Any) -> tuple[Folder, str] | None:
        """The folder that a path's name is in, if it is one of ours."""
        path = Path(path)
        if self.directory not in path.parents:
            return None
        folder = self.disk
        for name in path.relative_to(self.directory).parts[:-1]:
            folder = folder.now()[name]
        return folder, path.name

    def _name(self, gone: str, path: Any, node: Any) -> None:
        self.look(self.disk)
        where = self._at(path)
        assert where is not None, path
        where[0].pending.append((gone, where[1] if node is not None else "", node))

    def _node(self, path: Any) -> Any:
        where = self._at(path)
        assert where is not None, path
        return where[0].now()[where[1]]

    def open(self, path, flags, *rest, **words):
        made = flags & os.O_CREAT and not Path(path).exists()
        fd = self.real["open"](path, flags, *rest, **words)
        self.files.pop(fd, None)
        if Path(path) == self.directory:
            self.files[fd] = self.disk
        elif self._at(path) is not None:
            if made:
                self._name("", path, File())
            self.files[fd] = node = self._node(path)
            if flags & os.O_TRUNC and not made:
                self.look(self.disk)
                node.pending.append((-1, bytes(8)))
        return fd

    def pwrite(self, fd, data, at):
        self.look(self.disk)
        self.files[fd].pending.append((at, bytes(data)))
        return self.real["pwrite"](fd, data, at)

    def posix_fallocate(self, fd, at, size):
        self.ftruncate(fd, size)

    def ftruncate(self, fd, size):
        self.look(self.disk)
        self.files[fd].pending.append((-1, size.to_bytes(8, "little")))
        self.real["ftruncate"](fd, size)

    def fsync(self, fd):
        self.look(self.disk)
        node = self.files[fd]
        if isinstance(node, Folder):
            node.names, node.pending = node.now(), []
        else:
            node.kept, node.pending = written(node, lambda op: (0, len(node.pending[op[1]][1])), None), []

    fdatasync = fsync

    def rename(self, old, new):
        self._name(Path(old).name, new, self._node(old))
        self.real["rename"](old, new)

    def link(self, old, new):
        self._name("", new, self._node(old))
        self.real["link"](old, new)

    def unlink(self, path, **words):
        self._name(Path(path).name, path, None)
        self.real["unlink"](path, **words)

    def mkdir(self, path, *rest, **words):
        self.real["mkdir"](path, *rest, **words)
        if self._at(path) is not None:
            self._name("", path, Folder())

    def rmtree(self, path, ignore_errors=False):
        """One name after the other, as `shutil` does."""
        if not Path(path).exists():
            assert ignore_errors
            return
        for inside in sorted(Path(path).iterdir()):
            self.unlink(inside)
        self._name(Path(path).name, path, None)
        Path(path).rmdir()

    def opened(self, path, mode):
        """In the place of the built-in `open` of a module that only writes whole files."""
        assert mode == "wb"
        recorder, fd = self, self.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        at = 0

        class Opened:
            def write(self, data: bytes) -> int:
                nonlocal at
                at += recorder.pwrite(fd, data, at)
                return len(data)

            def flush(self) -> None: ...

            def fileno(self) -> int:
                return fd

            def __enter__(self):
                return self

            def __exit__(self, *_):
                os.close(fd)

        return Opened()


def crashes(
    directory: Path, monkeypatch: Any, work: Callable[[], object], promised: Callable[[], int],
    tear: int, pair_tear: int = 0, writes: tuple[Any, ...] = (),
) -> dict[tuple[tuple[str, bytes | None], ...], int]:  # fmt: skip
    """Every state that a power cut during `work` may leave of `directory` -> the most that was promised by then.

    `writes`: modules that write by `open` and remove by `shutil.rmtree`.
    """
    states: dict[tuple[tuple[str, bytes | None], ...], int] = {}

    def look(disk: Folder) -> None:
        now = promised()
        for state in crash_states(disk, tear, pair_tear):
            key = tuple(sorted(state.items()))
            states[key] = max(states.get(key, 0), now)

    recorder = Recorder(directory, look)
    with monkeypatch.context() as patch:
        for name in Recorder.CALLS:
            patch.setattr(os, name, getattr(recorder, name))
        for module in writes:
            patch.setattr(module, "open", recorder.opened, raising=False)
            patch.setattr(module.shutil, "rmtree", recorder.rmtree)
        work()
        look(recorder.disk)
    return states


def laid(where: Path, state: tuple[tuple[str, bytes | None], ...]) -> None:
    """A state as files."""
    where.mkdir()
    for name, data in state:  # in order: a folder comes before what is in it
        if data is None:
            (where / name).mkdir()
        else:
            with builtins.open(where / name, "wb") as file:
                file.write(data)
