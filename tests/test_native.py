"""Libraries that are compiled when first asked for: where they are kept, and what is said when there is none."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from robotrl import native
from robotrl.native import Library, NoLibrary

SOURCE = 'extern "C" int answer() { return 42; }\n'
needs_compiler = pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="no C++ compiler here")


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    (tmp_path / "source").mkdir()
    source = tmp_path / "source" / "answer.cpp"
    source.write_text(SOURCE)
    monkeypatch.setattr(native, "cache", lambda: tmp_path / "cache")
    monkeypatch.delenv("CXX", raising=False)
    return Library(source, ("-O1",), "the answer")


def kept(library: Library) -> list[Path]:
    """Everything beside the source but the source: no draft may stay."""
    return [path for path in library.source.parent.iterdir() if path != library.source]


@needs_compiler
def test_compiled_once_and_kept_beside_the_source(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    assert library.load().answer() == 42
    assert len(kept(library)) == 1
    monkeypatch.setenv("CXX", "/nowhere/c++")
    assert library.load().answer() == 42, "the second time no compiler is needed"


def a_compiler(path: Path, number: int) -> str:
    """One that says it has this version."""
    path.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "compiler {number}" && exit\nexec c++ "$@"\n')
    path.chmod(0o755)
    return str(path)


@needs_compiler
def test_another_compiler_or_system_makes_its_own(library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old library that still loads is not taken for a new one: after an upgrade, or in a home that machines share."""
    for made, number in enumerate((11, 11, 12)):
        monkeypatch.setenv("CXX", a_compiler(tmp_path / "cxx", number))
        assert library.load().answer() == 42
        assert len(kept(library)) == 1 + made // 2
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "9.99"))
    assert library.load().answer() == 42
    assert len(kept(library)) == 3
    monkeypatch.setenv("CXX", "/nowhere/c++")
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "1.00"))
    with pytest.raises(NoLibrary):
        library.load()


@needs_compiler
def test_one_that_does_not_load_is_made_anew(library: Library) -> None:
    library.load()
    (there,) = kept(library)
    there.unlink()
    there.write_bytes(b"made for another machine")
    assert library.load().answer() == 42


@needs_compiler
def test_a_folder_that_takes_nothing_leaves_the_cache(library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Library, target: Path, compiler: list[str]) -> None:
        if target.parent == library.source.parent:
            raise PermissionError(13, "Permission denied", str(target))
        compile_there(self, target, compiler)

    compile_there = Library._compile
    monkeypatch.setattr(Library, "_compile", refuse)
    assert library.load().answer() == 42
    assert not kept(library) and len(list((tmp_path / "cache").iterdir())) == 1
    monkeypatch.setattr(native, "cache", lambda: None)  # a user without a home
    with pytest.raises(NoLibrary, match=r"no place to keep the library of the answer: .*Permission denied"):
        library.load()


@needs_compiler
def test_a_source_that_does_not_compile_is_one_line(library: Library) -> None:
    library.source.write_text("int answer( {\nint twice(;\n")
    with pytest.raises(NoLibrary, match=r"could not compile the answer: .*error") as said:
        library.load()
    assert "\n" not in str(said.value) and not kept(library)


def test_a_compiler_that_is_not_there_is_named(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-c++ -m64")
    with pytest.raises(NoLibrary, match="'no-such-c\\+\\+', which is not there"):
        library.load()


def test_a_user_without_a_home_has_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert native.cache() is None
    monkeypatch.setenv("XDG_CACHE_HOME", os.sep + "elsewhere")
    assert native.cache() == Path("/elsewhere/robotrl")
