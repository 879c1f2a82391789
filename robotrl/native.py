"""Native libraries: compiled by the local compiler when first asked for, and kept beside their source.

Where that may not be written, in the user's cache. A library's name carries a hash of sources, flags and system, and one of the
compiler, so that after an upgrade, or on another machine that shares the folder, it is made anew; a fresh one is moved into
place whole, so processes that begin at once do not disturb each other. Who asks for one does without where there is no compiler
and none was made before: slower, and otherwise the same.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ALWAYS = ("-std=c++17", "-w", "-fPIC", "-shared")


class NoLibrary(Exception):
    """No native library, and why; one line."""


@dataclass(frozen=True)
class Library:
    """A C++ file, the headers beside it, and how to compile them."""

    source: Path
    flags: tuple[str, ...]  # beside ALWAYS
    what: str  # in messages, e.g. "the fused engine"

    def load(self) -> ctypes.CDLL:
        """The library, compiled if need be (some seconds, once). Raises NoLibrary: no working compiler, or no place for it."""
        try:
            stem = f"{self.source.stem}-{platform.machine()}-{self.fingerprint()}"
        except OSError as error:
            raise NoLibrary(f"the source of {self.what} cannot be read: {error}") from None
        folders = [folder for folder in (self.source.parent, cache()) if folder is not None]
        try:
            compiler = self._compiler()
        except NoLibrary:  # one made when there was a compiler is as good
            if there := loaded(found for folder in folders for found in sorted(folder.glob(f"{stem}-*.so"))):
                return there
            raise
        places, why = [folder / f"{stem}-{version(compiler)}.so" for folder in folders], ""
        if there := loaded(places):
            return there
        for place in places:
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                self._compile(place, compiler)
                return ctypes.CDLL(str(place))
            except OSError as error:  # a package directory may be read-only: then the user's cache
                why = str(error)
        raise NoLibrary(f"no place to keep the library of {self.what}: {why}")

    def _compiler(self) -> list[str]:
        """The command that compiles: what CXX says, or the first one found."""
        if named := shlex.split(os.environ.get("CXX", "")):
            if shutil.which(named[0]) is None:
                raise NoLibrary(f"CXX names the compiler {named[0]!r}, which is not there; {self.what} is not compiled")
            return named
        found = next(filter(shutil.which, ("c++", "g++", "clang++")), None)
        if found is None:
            raise NoLibrary(f"no C++ compiler (c++, g++ or clang++) for {self.what}; install one, e.g. the package g++")
        return [found]

    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with any source or flag, the system, or its C library."""
        digest = hashlib.sha256(" ".join((*ALWAYS, *self.flags, platform.system(), *platform.libc_ver())).encode())
        for source in sorted([self.source, *self.source.parent.glob("*.h")]):
            digest.update(source.name.encode() + source.read_bytes())
        return digest.hexdigest()[:16]

    def _compile(self, target: Path, compiler: list[str]) -> None:
        """Compile beside `target` and move into place; NoLibrary with the compiler's first complaint."""
        handle, draft = tempfile.mkstemp(suffix=".so", prefix=f".{self.source.stem}-", dir=target.parent)
        os.close(handle)
        try:
            done = subprocess.run(
                [*compiler, *ALWAYS, *self.flags, str(self.source), "-o", draft],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=300,
                check=False,
            )
            if done.returncode:
                said = done.stderr.splitlines() or [f"exit code {done.returncode}"]
                complaint = next((line for line in said if "error" in line), said[-1])
                raise NoLibrary(f"{compiler[0]} could not compile {self.what}: {complaint.strip()}")
            os.chmod(draft, 0o755)
            os.replace(draft, target)
        except subprocess.TimeoutExpired:
            raise NoLibrary(f"{compiler[0]} took more than 300 s for {self.what}") from None
        finally:
            Path(draft).unlink(missing_ok=True)


def loaded(places: Iterable[Path]) -> ctypes.CDLL | None:
    """The first library that is there and whole."""
    for place in places:
        with contextlib.suppress(OSError):
            return ctypes.CDLL(str(place))
    return None


def version(compiler: list[str]) -> str:
    """8 hexadecimal digits that change with the compiler, what it is told always, and its version."""
    try:
        done = subprocess.run([*compiler, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False)
        said = done.stdout
    except (OSError, subprocess.TimeoutExpired):
        said = b""
    return hashlib.sha256(" ".join(compiler).encode() + said).hexdigest()[:8]


def cache() -> Path | None:
    """The user's folder for compiled libraries; None for a user without a home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "robotrl"
    except RuntimeError:
        return None
