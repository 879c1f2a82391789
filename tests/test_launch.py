"""The launch scripts, with an interpreter that only pretends: what is set up, when, and what is said when it fails."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BASH = shutil.which("bash") or "/bin/bash"
SCRIPTS = ("env.sh", "rehearse.sh", "real_walk.sh", "supervise.sh", "test.sh")

# Answers like CPython 3.11: the probe, `-m venv`, `-m pip install`, and prints any other call.
PYTHON = """#!/usr/bin/env bash
here=$(dirname -- "$0")
case "$*" in
  "-I -c "*) echo "${FAKE_PATH:-$(readlink -f -- "$0")}"; exit "${FAKE_PROBE:-0}" ;;
  "-I -m venv --clear "*)
    [[ -z ${FAKE_VENV:-} ]] || { echo "$FAKE_VENV"; exit 1; }
    find "$5" -mindepth 1 -delete
    mkdir -p "$5/bin" && ln -s "$(readlink -f -- "$0")" "$5/bin/python" ;;
  "-m pip --version") ;;
  "-m pip install "*)
    printf '%s\\n' "$*" >>"$FAKE_LOG"
    sleep "${FAKE_SLEEP:-0}"
    [[ -z ${FAKE_PIP:-} ]] || { printf '%s\\n' "$FAKE_PIP" >&2; exit 1; } ;;
  *) printf '%s\\n' "$PWD" "$@" ;;
esac
"""


class Checkout:
    """A fresh clone at a path with a space, and the interpreter that pretends."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a b" / "clone"
        (self.root / "launch").mkdir(parents=True)
        for name in SCRIPTS:
            shutil.copy(ROOT / "launch" / name, self.root / "launch" / name)
        (self.root / "pyproject.toml").write_text("[project]\n")
        (self.root / "constraints.txt").write_text("torch==9.9.9\n")
        self.python = folder / "pretend python"
        self.python.write_text(PYTHON)
        self.python.chmod(0o755)
        self.log = folder / "pip.log"
        self.elsewhere = folder / "elsewhere"
        self.elsewhere.mkdir()

    def start(self, script: str = "test.sh", *arguments: str, **environment: str) -> subprocess.Popen[str]:
        inherited = {key: os.environ[key] for key in ("HOME", "PATH") if key in os.environ}
        named = {"ROBOTRL_PYTHON": str(self.python), "FAKE_LOG": str(self.log), "TMPDIR": str(self.elsewhere), **environment}
        return subprocess.Popen(
            [BASH, str(self.root / "launch" / script), *arguments],
            env={k: v for k, v in {**inherited, **named}.items() if v},
            cwd=self.elsewhere,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )

    def run(self, script: str = "test.sh", *arguments: str, **environment: str) -> tuple[int, list[str], list[str]]:
        """Exit code, lines of standard output, lines of standard error."""
        process = self.start(script, *arguments, **environment)
        out, err = process.communicate(timeout=60)
        return process.returncode, out.splitlines(), err.splitlines()

    def installs(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def test_the_first_command_sets_up_torch_first_and_the_second_does_not(checkout):
    code, _, said = checkout.run()
    assert code == 0
    first, second = checkout.installs()
    assert first.endswith("torch==9.9.9") and "--constraint" in first
    assert second.endswith(f"--editable {checkout.root}[dev]")
    assert len(said) == 4 and all(line.startswith("set-up: ") for line in said)
    assert checkout.run("test.sh", "-x") == (0, [str(checkout.root), "-m", "pytest", "-x"], [])


def test_all_tests_run_in_four_parts_and_any_that_fails_fails_them(checkout):
    checkout.run()
    code, out, _ = checkout.run()
    starts = [at for at, line in enumerate(out) if line == str(checkout.root)]
    rest, *parts = (set(out[a:b]) for a, b in zip(starts, [*starts[1:], None], strict=True))
    of_each = [{word for word in part if word.startswith("tests/")} for part in parts]
    folders = set.union(*of_each)
    assert code == 0 and "tests" in rest and len(parts) == 3 and all(of_each) and not set.intersection(*of_each)
    assert {f"--ignore={folder}" for folder in folders} == {word for word in rest if word.startswith("--ignore")}
    assert all((ROOT / folder).exists() for folder in folders)
    for part in (
        "-p no:cacheprovider tests/agents",
        "-p no:cacheprovider tests/bench",
        "-p no:cacheprovider tests/drivers",
        "tests --ignore",
    ):
        checkout.python.write_text(PYTHON.replace('case "$*" in', f'case "$*" in "-m pytest {part}"*) exit 3 ;;'))
        assert checkout.run()[0] == 3, part
    assert len(checkout.installs()) == 2


def test_what_the_tests_start_may_keep_what_it_has_compiled(checkout):
    checkout.run()
    said = '"COMPILED=${PYTHONDONTWRITEBYTECODE-kept}" '
    checkout.python.write_text(PYTHON.replace("*) printf '%s\\n' ", f"*) printf '%s\\n' {said}"))
    assert checkout.run(PYTHONDONTWRITEBYTECODE="1")[1].count("COMPILED=kept") == 4


def test_the_set_up_alone_sets_up_and_starts_nothing(checkout):
    """What a person is told to type where packages are missing."""
    code, out, said = checkout.run("env.sh")
    assert (code, out) == (0, []) and said[-1] == "set-up: done" and len(checkout.installs()) == 2
    code, out, said = checkout.run("env.sh", FAKE_PIP="ERROR: network is unreachable", ROBOTRL_PYTHON=str(checkout.python))
    assert (code, out, said) == (0, [], []), "nothing to do"
    (checkout.root / ".venv" / "stamp").unlink()
    code, _, said = checkout.run("env.sh", FAKE_PIP="ERROR: network is unreachable")
    assert code == 2 and "no network" in said[-1]


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt", "launch/env.sh"])
def test_a_change_of_what_it_is_made_from_sets_up_again(checkout, name):
    checkout.run()
    with (checkout.root / name).open("a") as file:
        file.write("# changed\n")
    checkout.run()
    assert len(checkout.installs()) == 4
    checkout.run()
    assert len(checkout.installs()) == 4


def test_another_interpreter_makes_a_new_environment(checkout):
    checkout.run()
    (checkout.root / ".venv" / "old").touch()
    other = checkout.python.with_name("other")
    shutil.copy(checkout.python, other)
    assert checkout.run(ROBOTRL_PYTHON=str(other))[0] == 0
    assert not (checkout.root / ".venv" / "old").exists()
    assert (checkout.root / ".venv" / "bin" / "python").resolve() == other


def test_an_environment_that_was_not_finished_is_finished(checkout):
    assert checkout.run(FAKE_PIP="ERROR: interrupted")[0] == 2
    assert checkout.run()[0] == 0
    assert len(checkout.installs()) == 3


def test_a_half_done_change_that_is_taken_back_is_set_up_again(checkout):
    checkout.run()
    pins = checkout.root / "constraints.txt"
    before = pins.read_text()
    pins.write_text("torch==9.9.8\n")
    assert checkout.run(FAKE_PIP="ERROR: interrupted")[0] == 2
    pins.write_text(before)
    assert checkout.run()[0] == 0
    assert len(checkout.installs()) == 5


def test_a_moved_checkout_is_set_up_again(checkout):
    checkout.run()
    moved = checkout.root.with_name("moved")
    checkout.root.rename(moved)
    checkout.root = moved
    assert checkout.run()[0] == 0
    assert len(checkout.installs()) == 4


def test_extra_arguments_reach_pip(checkout):
    checkout.run(ROBOTRL_PIP_ARGS="--index-url file:///x  --pre")
    assert all("--index-url file:///x --pre" in line for line in checkout.installs())


def test_two_at_the_same_moment_set_up_once(checkout):
    first, second = checkout.start(FAKE_SLEEP="0.5"), checkout.start(FAKE_SLEEP="0.5")
    said = [process.communicate(timeout=60) for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0)
    assert len(checkout.installs()) == 2
    assert sum("waiting" in err for _, err in said) == 1


def test_the_lock_ends_with_the_set_up_and_not_with_the_program(checkout):
    checkout.python.write_text(PYTHON.replace("*) printf", '*) exec sleep "${FAKE_RUN:-0}";; +) printf'))
    running = checkout.start(FAKE_RUN="30")
    try:
        deadline = time.monotonic() + 30
        while not (checkout.root / ".venv" / "stamp").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        (checkout.root / "constraints.txt").write_text("torch==9.9.8\n")
        assert checkout.run()[0] == 0
        assert running.poll() is None
    finally:
        os.killpg(running.pid, signal.SIGKILL)  # the program too: whoever waits for its output would wait for its end
        running.communicate()


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"ROBOTRL_PYTHON": "/nowhere/python"}, "/nowhere/python is no CPython 3.11"),
        ({"FAKE_PROBE": "3"}, "is no CPython 3.11"),
        ({"FAKE_PROBE": "5"}, "has no venv module"),
        ({"FAKE_VENV": "Error: [Errno 28] No space left on device"}, "disk full"),
        ({"FAKE_PIP": "ERROR: Could not install: [Errno 28] No space left on device"}, "disk full"),
        ({"FAKE_PIP": "WARNING: NewConnectionError: Temporary failure in name resolution"}, "no network"),
        ({"FAKE_PIP": "OSError: [Errno 13] Permission denied: 'x'"}, "not allowed to write"),
        ({"FAKE_PIP": "hm\nERROR: No matching distribution found for torch==9.9.9"}, "No matching distribution"),
    ],
)
def test_what_fails_is_said_in_one_line_and_nothing_runs(checkout, environment, says):
    code, out, said = checkout.run(**environment)
    assert (code, out) == (2, [])
    assert says in said[-1]
    assert all(line.startswith("set-up: ") for line in said)
    assert not (checkout.root / ".venv" / "stamp").exists()


def test_without_any_python_it_says_how_to_name_one(checkout, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "dirname", "readlink", "sha256sum", "cut", "cat", "mkdir", "flock", "env", "id"):
        (tools / name).symlink_to(shutil.which(name))
    code, _, said = checkout.run(ROBOTRL_PYTHON="", PATH=str(tools), HOME=str(tmp_path))
    assert code == 2 and "no CPython 3.11 found" in said[-1] and "ROBOTRL_PYTHON=" in said[-1]


def test_without_a_name_the_first_fitting_python_is_taken(checkout, tmp_path):
    for number, probe in enumerate(("3", "5", "4", "0")):
        folder = tmp_path / f"bin{number}"
        folder.mkdir()
        (folder / "python3.11").write_text(PYTHON.replace("${FAKE_PROBE:-0}", probe))
        (folder / "python3.11").chmod(0o755)
    path = ":".join([*(str(tmp_path / f"bin{number}") for number in range(4)), os.environ["PATH"]])
    assert checkout.run(ROBOTRL_PYTHON="", PATH=path)[0] == 0
    assert (checkout.root / ".venv" / "bin" / "python").resolve() == tmp_path / "bin3" / "python3.11"


@pytest.mark.parametrize(
    ("script", "arguments", "runs"),
    [
        ("rehearse.sh", ["--steps", "5"], ["-m", "robotrl", "rehearse", "launch/walk.toml", "--steps", "5"]),
        ("real_walk.sh", ["--sim"], ["-m", "robotrl", "run", "launch/walk.toml", "--sim"]),
        ("real_walk.sh", ["launch/reach.toml", "--sim"], ["-m", "robotrl", "run", "launch/reach.toml", "--sim"]),
        ("supervise.sh", [], ["-m", "robotrl", "console"]),
        ("test.sh", ["-k", "a b"], ["-m", "pytest", "-k", "a b"]),
    ],
)
def test_each_script_runs_its_command_in_the_checkout_from_anywhere(checkout, script, arguments, runs):
    code, out, _ = checkout.run(script, *arguments)
    assert (code, out) == (0, [str(checkout.root), *runs])


def test_supervise_finds_a_run_named_from_where_the_person_stands(checkout):
    (checkout.elsewhere / "my run").mkdir()
    assert checkout.run("supervise.sh", "my run")[1][-1] == str(checkout.elsewhere / "my run")


def test_another_projects_python_path_stays_out(checkout):
    checkout.python.write_text(PYTHON.replace("*) printf '%s\\n' ", "*) printf '%s\\n' \"PYTHONPATH=${PYTHONPATH-none}\" "))
    assert "PYTHONPATH=none" in checkout.run(PYTHONPATH="/opt/ros/lib")[1]


def test_without_standard_input_the_program_still_has_one(checkout):
    checkout.run()
    script = f'"{BASH}" "{checkout.root}/launch/test.sh" -x <&-'
    checkout.python.write_text(PYTHON.replace("*) printf", "*) readlink /proc/self/fd/0;; +) printf"))
    done = subprocess.run([BASH, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "/dev/null", done.stderr


def test_the_check_run_fails_when_any_check_does(checkout):
    (checkout.root / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", checkout.root / ".ci" / "run")
    command = [BASH, str(checkout.root / ".ci" / "run")]
    environment = {**os.environ, "ROBOTRL_PYTHON": str(checkout.python), "FAKE_LOG": str(checkout.log)}
    sound = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert sound.returncode == 0, sound.stderr
    for part in ("pytest", "ruff check", "ruff format --check", "mypy"):
        checkout.python.write_text(PYTHON.replace('case "$*" in', f'case "$*" in "-m {part}"*) exit 1 ;;'))
        broken = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert broken.returncode == 1, part
        assert "all checks passed" not in broken.stdout


@pytest.mark.parametrize("name", [*(f"launch/{s}" for s in SCRIPTS), ".ci/run"])
def test_the_scripts_parse(name):
    assert subprocess.run([BASH, "-n", str(ROOT / name)], capture_output=True).returncode == 0
