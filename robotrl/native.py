"""Native libraries: beside their source when the install built them, else compiled once by the local compiler.

A library's name carries a hash of sources and flags; a fresh one is moved into place whole. Who asks for one does without where
there is no compiler: slower, and otherwise the same.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
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
        """The library, compiled if need be (some seconds, once). Raises NoLibrary."""
        try:
            return ctypes.CDLL(str(self.path()))
        except OSError as error:
            raise NoLibrary(f"the library of {self.what} does not load: {error}") from None

    def path(self) -> Path:
        """Where the library lies; compiles it when it lies nowhere. NoLibrary without a working compiler."""
        compiler = os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), None)
        name = f"{self.source.stem}-{platform.machine()}-{self.fingerprint()}.so"
        folders = (self.source.parent, cache())
        for folder in folders:
            if (folder / name).is_file():
                return folder / name
        if compiler is None or shutil.which(compiler) is None:
            raise NoLibrary(f"no C++ compiler (c++, g++ or clang++) for {self.what}; install one, e.g. the package g++")
        for folder in folders:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                return self._compile(folder / name, compiler)
            except OSError:
                continue  # a package directory may be read-only: then the user's cache
        raise NoLibrary(f"the library of {self.what} can be written neither to {folders[0]} nor to {folders[1]}")

    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with any source or flag."""
        digest = hashlib.sha256(" ".join((*ALWAYS, *self.flags)).encode())
        for source in sorted([self.source, *self.source.parent.glob("*.h")]):
            digest.update(source.name.encode() + source.read_bytes())
        return digest.hexdigest()[:16]

    def _compile(self, target: Path, compiler: str) -> Path:
        """Compile beside `target` and move into place; NoLibrary with the compiler's first complaint."""
        handle, draft = tempfile.mkstemp(suffix=".so", prefix=f".{self.source.stem}-", dir=target.parent)
        os.close(handle)
        try:
            done = subprocess.run(
                [compiler, *ALWAYS, *self.flags, str(self.source), "-o", draft],
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            if done.returncode:
                complaint = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[-200:])
                raise NoLibrary(f"{compiler} could not compile {self.what}: {complaint.strip()}")
            os.chmod(draft, 0o755)
            os.replace(draft, target)
        except subprocess.TimeoutExpired:
            raise NoLibrary(f"{compiler} took more than 300 s for {self.what}") from None
        finally:
            Path(draft).unlink(missing_ok=True)
        return target


def cache() -> Path:
    """The user's folder for compiled libraries."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "robotrl"
