"""The mutation bench: that its faults are the ones it says, that it sees a weak suite, and a sample of the real ones."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def mutants(script):
    return script("mutants")


def bench(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "bench/mutation.py", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **options)  # type: ignore[call-overload]


def faults(mutants, source: str) -> list[str]:
    """The whole source with each of its mutants in it."""
    made = []
    while True:
        tree = ast.parse(source)
        found = mutants.Finder(tree, "x.py", __import__("kinds").enumerations([tree])).all()
        if len(made) == len(found):
            return made
        found[len(made)].apply()
        made.append(ast.unparse(tree))


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("def f(a, b):\n    return a < b", ["return None", "return a <= b", "return a >= b"]),
        ("def f(a):\n    return a == 'run'", ["return None", "return a != 'run'", "return a == 'run_'"]),
        ("def f(a, b):\n    return a - b", ["return None", "return a + b"]),
        ("def f(a, b):\n    return a and b", ["return None", "return a or b", "return b", "return a"]),
        ("def f(a):\n    return not a", ["return None", "return a"]),
        ("def f():\n    return 7", ["return 8", "return 6", "return 0"]),
        ("def f():\n    return 0.06", ["return 0.066", "return 0.054", "return 0.0"]),
        ("def f():\n    return 3.0", ["return 4.0", "return 2.0", "return 0.0"]),
        ("def f():\n    return True", ["return False"]),
        ("def f():\n    return b'OK'", ["return b'OK?'"]),
        ("def f():\n    return 'a text for people'", []),
        ("def f(a):\n    a.go()", ["pass"]),
        ("def f(a):\n    raise ValueError(a + 1)", ["pass"]),
        ("def f(a):\n    while a:\n        break", ["while not a:", "pass", "continue"]),
        ("def f(a):\n    return min(a)", ["return None", "return max(a)"]),
        ("def f(a, k):\n    return a[k:]", ["return None", "return a[k + 1:]", "return a[k - 1:]"]),
        ("def f(a, i):\n    return a[i]", ["return None", "return a[i + 1]", "return a[i - 1]"]),
        ("def f(a):\n    return a(x=a)", ["return None", "return a()"]),
        ("def f(a: int = 1) -> int:\n    'Doc 1.'\n    return a", ["a: int=2", "a: int=0", "return None"]),
        ("X = {1: 'a b'}", ["X = {2: 'a b'}", "X = {0: 'a b'}"]),
        ("X = {'a b', 'c d'}", ["X = {'c d'}", "X = {'a b'}"]),
    ],
)
def test_faults_that_are_made(mutants, source, wanted):
    made = faults(mutants, source)
    assert len(made) == len(wanted), made
    assert all(text in whole for text, whole in zip(wanted, made, strict=True)), made


def test_members_and_the_names_that_stand_for_them_are_exchanged(mutants):
    source = "class E(Enum):\n    A = 'a b'\n    B = 'b c'\n    C = 'c d'\nx, y = E.A, E.B\nz = E.C, x"
    made = "\n".join(faults(mutants, source))
    assert "z = (E.B, x)" in made and "z = (E.A, x)" in made and "z = (E.C, y)" in made


def test_a_mutant_that_passes_many_tests_is_not_held_up_by_telling_them(mutants, tmp_path):
    """More than a pipe holds."""

    def work(mutant, tell):
        for k in range(2000):
            tell(f"test {k} {'x' * 80}")
        if mutant.where == "killed":
            tell("killed")

    trial = __import__("trial").Trial(ROOT, [], {}, 2, tmp_path / "none")
    made = [mutants.Mutant("x.py", where, 1, 1, "", None, None, "", None, None) for where in ("killed", "survives")]
    found = {verdict.key.split()[1]: verdict.by[:9] for verdict in trial._pool(made, work)}
    assert found == {"killed:": "test 1999", "survives:": ""}


def test_a_weak_suite_is_seen_as_one(tmp_path):
    """Tests that look at the text of limits.py only notice no fault in it."""
    out = tmp_path / "out.json"
    weak = ["--suite", "tests/safety/test_imports.py", "--survivors", str(tmp_path / "none"), "--state", str(tmp_path)]
    done = bench("safety/limits.py", "--sample", "6", "--seed", "3", "--out", str(out), *weak)
    assert done.returncode == 1 and done.stdout.count("survived: safety/limits.py ") == 6, done.stdout + done.stderr
    row = json.loads(out.read_text())["safety"]["files"]["all"]
    assert (row["mutants"], row["killed"], row["survived"], row["score"]) == (6, 0, 6, 0.0)


def test_a_sample_of_mutants_is_killed_and_a_list_that_is_wrong_is_told(tmp_path):
    out = tmp_path / "out.json"
    strong = ["--suite", "tests/drivers/test_tracker_exact.py", "--sample", "30", "--seed", "1", "--state", str(tmp_path)]
    done = bench("drivers/tracker.py", "--out", str(out), *strong)
    assert done.returncode == 0, done.stdout + done.stderr
    row = json.loads(out.read_text())["codecs"]["files"]["all"]
    assert row["mutants"] == 30 and row["killed"] >= 28
    killed = next(key for _, key, by, _ in map(json.loads, (tmp_path / "codecs.jsonl").read_text().splitlines()) if by)
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(
        f"[[survivor]]\nreason = 'because'\nmutants = {json.dumps([killed, 'drivers/tracker.py nowhere: [a => b]'])}\n"
    )
    done = bench("drivers/tracker.py", "--survivors", str(wrong), *strong)  # what was found is not tried again
    assert done.returncode == 1 and "listed as a survivor, but killed by tests/drivers/test_tracker_exact.py" in done.stdout
    assert "there is no such mutant: drivers/tracker.py nowhere" in done.stdout


def test_the_function_that_is_exchanged_is_the_one_that_runs(mutants):
    """Of one within another the outer, which makes it; of one that remembers its results the one behind, and it forgets."""
    source = (
        "from functools import cache\n@cache\ndef twice(a):\n    return a * 2\n"
        "class C:\n    @property\n    def p(self):\n        def inner(a):\n            return a * 2\n        return inner(7)\n"
        "    @staticmethod\n    def s(a):\n        return a * 2\n"
        "class D(C):\n    def t(self, a=7):\n        return super().s(a)\n"
    )
    module = __import__("types").ModuleType("made")
    exec(compile(source, "made.py", "exec"), vars(module))
    assert (module.twice(7), module.C().p, module.C.s(7)) == (14, 14, 14)
    sources, halved = __import__("sources"), compile(source.replace("*", "/"), "made.py", "exec")
    for where in ("twice", "C.p.inner", "C.s"):
        sources.exchange(module, where, halved)
    assert (module.twice(7), module.C().p, module.C.s(7), module.D().t()) == (3.5, 3.5, 3.5, 3.5)
    sources.exchange(module, "D.t", compile(source.replace("super().s(a)", "a"), "made.py", "exec"))
    assert module.D().t() == 7
    with pytest.raises(LookupError, match="no function"):
        sources.exchange(module, "C", halved)


def test_a_mutant_that_cannot_be_tried_is_told_and_not_left_out(mutants, tmp_path):
    """The loop is within pytest, which keeps what is raised there to itself."""
    forked = __import__("forked")
    test = tmp_path / "test_one.py"
    test.write_text("def test_one():\n    pass\n")

    def loop(items):
        raise LookupError("no such function")

    def work(tell):
        try:
            forked.collect([str(test)], loop)
        except LookupError as error:
            tell(str(error))

    pid, read = forked.forked(work)  # pytest within pytest, so in a child
    assert forked.told(read) == ["no such function"]
    __import__("os").waitpid(pid, 0)


def test_a_verdict_rests_on_what_the_test_and_the_mutated_file_import(mutants, tmp_path, monkeypatch):
    files = {
        "safety/gate.py": "from robotrl.safety import limits\n", "safety/limits.py": "x = 1\n", "safety/other.py": "x = 1\n",
        "tests/safety/test_gate.py": "from robotrl.safety.gate import Gate\nfrom tests.safety.scene import T\n",
        "tests/safety/scene.py": "T = 1\n", "tests/safety/test_else.py": "import robotrl.safety.other\n", "tests/conftest.py": "",
    }  # fmt: skip
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    (tmp_path / "robotrl").mkdir()
    (tmp_path / "robotrl/safety").symlink_to("../safety")
    mutation = __import__("mutation")
    group, state = mutation.Group(98.0, {"safety/gate.py": ()}, ("tests/safety",)), tmp_path / "state/safety.jsonl"
    killed = mutation.Verdict("safety/gate.py Gate: [a => b]", "tests/safety/test_gate.py::test_a[1 b]", 0.1)
    survived = mutation.Verdict("safety/gate.py Gate: [c => d]", "", 0.1)

    def known() -> set[str]:
        mutation.digest.cache_clear()
        mutation.resting_on.cache_clear()
        __import__("sources")._imported.cache_clear()
        return set(mutation.Memory(state, group, tmp_path).known)

    known()
    memory = mutation.Memory(state, group, tmp_path)
    for verdict in (killed, survived):
        memory.keep(verdict)
    assert known() == {killed.key, survived.key}
    for path in files:
        (tmp_path / path).write_text(files[path] + "# changed\n")
        left = set() if path not in ("safety/other.py", "tests/safety/test_else.py") else {killed.key}
        assert known() == left, path
        (tmp_path / path).write_text(files[path])
    assert known() == {killed.key, survived.key} and memory.hints == {}
