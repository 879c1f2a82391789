"""The native library: beside this package when the install built it, else compiled once by the local compiler.

The name carries a hash of sources and flags; a fresh library is moved into place whole. It holds every instruction
set of the processor family and picks one when it runs. `python -m robotrl.agents.fused.build` compiles it now.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "native.cpp"
FLAGS = (
    "-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-w",
    "-fPIC", "-shared", "-pthread",
)  # fmt: skip


class NoLibrary(Exception):
    """No native library, and why; one line."""


def library() -> ctypes.CDLL:
    """The native library, compiled if need be (about 10 s, once). Raises NoLibrary."""
    try:
        return ctypes.CDLL(str(path()))
    except OSError as error:
        raise NoLibrary(f"the fused engine's library does not load: {error}") from None


def path() -> Path:
    """Where the library lies; compiles it when it lies nowhere. NoLibrary without a working compiler."""
    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), None)
    name = f"native-{platform.machine()}-{_fingerprint()}.so"
    for folder in (HERE, cache()):
        if (folder / name).is_file():
            return folder / name
    if compiler is None or shutil.which(compiler) is None:
        raise NoLibrary("no C++ compiler (c++, g++ or clang++) for the fused engine; install one, e.g. the package g++")
    for folder in (HERE, cache()):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return compile_to(folder / name, compiler)
        except OSError:
            continue  # a package directory may be read-only: then the user's cache
    raise NoLibrary(f"the fused engine's library can be written neither to {HERE} nor to {cache()}")


def cache() -> Path:
    """The user's folder for compiled libraries."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "robotrl"


def compile_to(target: Path, compiler: str) -> Path:
    """Compile beside `target` and move into place; NoLibrary with the compiler's first complaint."""
    handle, draft = tempfile.mkstemp(suffix=".so", prefix=".native-", dir=target.parent)
    os.close(handle)
    try:
        done = subprocess.run(
            [compiler, *FLAGS, str(SOURCE), "-o", draft],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode:
            complaint = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[-200:])
            raise NoLibrary(f"{compiler} could not compile the fused engine: {complaint.strip()}")
        os.chmod(draft, 0o755)
        os.replace(draft, target)
    except subprocess.TimeoutExpired:
        raise NoLibrary(f"{compiler} took more than 300 s for the fused engine") from None
    finally:
        Path(draft).unlink(missing_ok=True)
    return target


def _fingerprint() -> str:
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for source in sorted([SOURCE, *HERE.glob("*.h")]):
        digest.update(source.name.encode() + source.read_bytes())
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    try:
        print(path())
    except NoLibrary as reason:
        sys.exit(str(reason))
