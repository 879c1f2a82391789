"""The house: who may import whom, and what no file may hold. Each violation is named with file and line."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("drivers", "calibration", "safety", "sim", "agents", "rewards", "tasks", "nodes")  # a layer each
CORE = (
    "complaint", "messages", "topics", "clock", "config", "configfile", "robot", "rundir", "checkpoint", "kinematics", "observe",
    "native", "roles", "realtime", "aloud", "serialarm", "stowtime", "tasksettings", "account", "resolved", "tagboard",
    "tagcorners", "boardpose", "viewpoint", "rewardsettings", "asked", "twincameras", "lateness",
    "portholders",
)  # fmt: skip
TOP = (
    "manager", "move", "calibrate", "watch", "processes", "roster", "twinprocess", "cli", "__main__", "plots", "doctor",
    "cameracheck", "machine",
    "findport", "findcameras", "setupservo", "replaycheck", "resume", "relabel", "plotlabels", "benches", "keytool",
    "installed", "notify", "play", "timing", "picture", "plotreach", "lerobotformat", "lerobotread", "lerobotexport",
    "lerobotimport", "lerobotvideo", "homestops", "classified", "inspection", "report",
    "robotnow", "nodelog",
)  # fmt: skip
LAYER_OF = {
    **dict.fromkeys(CORE, "core"),
    **dict.fromkeys(TOP, "top"),
    **dict.fromkeys(("keyring", "door", "connection", "greeting", "remote", "ring", "patience"), "bus"),  # and its door
    **dict.fromkeys(("log", "logformat", "logread", "session", "foxglove"), "log"),
    **dict.fromkeys(("replayfiles", "frames", "transitions", "labels", "labelled"), "replay"),
    **{name: name for name in ("bus", "replay", "node")},
}
EVERYTHING = {"core", "bus", "replay", "log", "node", "top", *FOLDERS}
# layer: the layers it may import, beside itself
MAY_IMPORT: dict[str, set[str]] = {
    "core": set(),
    "bus": {"core"},
    "replay": {"core"},
    "log": {"core", "bus"},
    "drivers": {"core"},
    "safety": {"core"},
    "calibration": {"core", "drivers"},
    # The rehearsal is the nodes' work in one process, so it holds what they hold. Nothing imports it.
    "sim": {"core", "replay", "log", "node", "drivers", "calibration", "safety", "nodes", "tasks", "agents", "rewards"},
    "agents": {"core", "replay"},
    "rewards": {"core", "replay", "calibration", "tasks"},
    "tasks": {"core"},
    "node": {"core", "bus", "log"},
    "nodes": EVERYTHING - {"sim"},
    "top": {"core", "bus", "replay", "log", "node"},
}
# Inside a function. The top names the twin by string even then; a rehearsal ends with its plots.
MAY_IMPORT_LATE = {"top": EVERYTHING - {"sim"}, "sim": {"top"}}
# package: the modules (or whole layers) that may import it; everything else leaves it alone
ONLY_IN = {
    "serial": ("robotrl.drivers.port",),
    "torch": ("robotrl.agents", "robotrl.nodes.learner", "robotrl.nodes.school"),
    "pybullet": ("robotrl.sim",),
    "pybullet_data": ("robotrl.sim",),
    "pyrealsense2": ("robotrl.drivers.realsense",),
    "mcap": ("robotrl.session", "robotrl.drivers.sessiontape"),
    "pyarrow": ("robotrl.lerobotformat", "robotrl.lerobotread"),
}
STDLIB_ONLY = ("robotrl.safety",)
# Thinking that a rehearsal drives without processes: neither bus nor node, not even late.
NO_BUS = ("robotrl.nodes.pilot", "robotrl.nodes.student", "robotrl.nodes.sight", "robotrl.nodes.tagtracker", "robotrl.nodes.grip")
SECOND_COPIES = ("drivers", "calibration", "safety", "sim")
UNTRUSTED = (
    "pickle", "cPickle", "_pickle", "pickle5", "pickletools", "cloudpickle", "dill", "joblib", "marshal", "shelve", "jsonpickle",
    "yaml", "ruamel", "multiprocessing",
)  # fmt: skip
UNPICKLES = "unpickles; weights are safetensors"
BANNED_CALLS = {
    "eval": "runs whatever it is given",
    "exec": "runs whatever it is given",
    "builtins.eval": "runs whatever it is given",
    "builtins.exec": "runs whatever it is given",
    "torch.load": UNPICKLES,
    "torch.serialization.load": UNPICKLES,
    "torch.jit.load": UNPICKLES,
    "torch.package.PackageImporter": UNPICKLES,
    "torch.hub.load": "runs whatever is there",
    "yaml.load": "builds whatever it is given",
    "time.time": "the time of day jumps; use a Clock or time.monotonic_ns",
}
# Whosever they are: pyzmq's sockets pickle by these.
BANNED_METHODS = ("recv_pyobj", "send_pyobj", "read_pickle", "to_pickle")


@functools.lru_cache(maxsize=1)  # a file's imports are looked at, and then its calls
def parsed(source: str) -> ast.Module:
    return ast.parse(source)


@dataclass(frozen=True)
class Import:
    line: int
    module: str  # dotted, absolute
    late: bool  # inside a function


def module_name(path: Path) -> str:
    """`drivers/chain.py` and `robotrl/bus.py` under their import names; others by their path."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] in SECOND_COPIES:
        parts = ("robotrl", *parts)
    return ".".join(parts).removesuffix(".__init__")


def layer_of(module: str) -> str | None:
    """The layer of a `robotrl.…` module, None where the table has no place for it; the bare package is core."""
    parts = module.split(".")
    if parts == ["robotrl"]:
        return "core"
    return parts[1] if parts[1] in FOLDERS else LAYER_OF.get(parts[1])


def statements(tree: ast.AST, late: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """All statements, and whether each is inside a function."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.stmt | ast.excepthandler | ast.match_case):
            yield node, late
            yield from statements(node, late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def imports(tree: ast.AST, module: str, package: bool = False) -> Iterator[Import]:
    """All imports, also those in functions and under TYPE_CHECKING; `from a import b` names a.b."""
    for node, late in statements(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = module.split(".")[: len(module.split(".")) - node.level + package]
                base = ".".join([*up, base] if base else up)
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (Import(node.lineno, name, late) for name in names)


def import_violations(source: str, module: str, package: bool = False) -> list[str]:
    """What this source imports against the tables."""
    out = []
    inside = module.split(".")[0] == "robotrl"
    layer = layer_of(module) if inside else None
    if inside and layer is None:
        return [f"{module}: has no place in the import table; give it a layer in tests/test_layout.py"]
    for found in imports(parsed(source), module, package):
        top = found.module.split(".")[0]
        where = f"{module}:{found.line}"
        if top in SECOND_COPIES:
            out.append(f"{where}: import robotrl.{top}, not {top}: the short name makes a second copy")
        if top in UNTRUSTED:
            out.append(f"{where}: imports {top}, which runs or builds what a file tells it to")
        if found.module == "time.time":
            out.append(f"{where}: time.time: {BANNED_CALLS['time.time']}")
        if layer is None:
            continue
        if top == "robotrl":
            theirs = layer_of(found.module)
            allowed = MAY_IMPORT[layer] | (MAY_IMPORT_LATE.get(layer, set()) if found.late else set())
            if module in NO_BUS and theirs in ("bus", "log", "node"):
                out.append(f"{where}: {module} knows no bus ({found.module})")
            if theirs is None:
                out.append(f"{where}: imports {found.module}, which has no place in the import table")
            elif theirs != layer and theirs not in allowed and found.module != "robotrl":
                out.append(f"{where}: {layer} may not import {theirs} ({found.module})")
            continue
        homes = ONLY_IN.get(top)
        if homes and not any(module == home or module.startswith(home + ".") for home in homes):
            out.append(f"{where}: {top} is imported in {', '.join(homes)} alone")
        if module.startswith(STDLIB_ONLY) and top not in sys.stdlib_module_names:
            out.append(f"{where}: safety is the standard library alone, not {top}")
    return out


def dotted(node: ast.expr) -> str:
    """`a.b.c` of a name or attribute, else empty."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (left := dotted(node.value)):
        return f"{left}.{node.attr}"
    return ""


def call_violations(source: str, module: str) -> list[str]:
    """Calls that no file may hold, under any alias an import gives them."""
    tree, out = parsed(source), []
    alias = {}
    for node, _ in statements(tree):
        if isinstance(node, ast.Import):
            alias |= {a.asname: a.name for a in node.names if a.asname}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            alias |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            head, _, rest = dotted(node).partition(".")
            name = alias.get(head, head) + (f".{rest}" if rest else "")
            if name in BANNED_CALLS and not (name == "exec" and module.startswith("tests.")):
                out.append(f"{module}:{node.lineno}: {name}: {BANNED_CALLS[name]}")
        if isinstance(node, ast.Attribute) and node.attr in BANNED_METHODS:
            out.append(f"{module}:{node.lineno}: {node.attr}: pickles")
        if isinstance(node, ast.Call) and lets_pickle(node, alias):
            out.append(f"{module}:{node.lineno}: allow_pickle: runs whatever the file holds")
        if isinstance(node, ast.Call) and (what := named_at_run_time(node)):
            out.append(f"{module}:{node.lineno}: {what}: named by a string")
    return out


def lets_pickle(call: ast.Call, alias: dict[str, str]) -> bool:
    """allow_pickle by name, by place, or by a dictionary that nobody can look into."""
    for word in call.keywords:
        if word.arg == "allow_pickle" and not (isinstance(word.value, ast.Constant) and word.value.value is False):
            return True
    head, _, rest = dotted(call.func).partition(".")
    name = f"{alias.get(head, head)}.{rest}".strip(".")
    if name not in ("numpy.load", "np.load", "numpy.lib.format.read_array", "numpy.lib.npyio.load"):
        return False
    first = 1 if name.endswith("read_array") else 2
    placed = any(not (isinstance(a, ast.Constant) and a.value is False) for a in call.args[first : first + 1])
    return placed or any(isinstance(a, ast.Starred) for a in call.args) or any(word.arg is None for word in call.keywords)


def named_at_run_time(call: ast.Call) -> str:
    """A forbidden module or builtin asked for by its name in a string; empty for others."""
    function = dotted(call.func).rpartition(".")[2]
    place = {"import_module": 0, "__import__": 0, "getattr": 1}.get(function)
    if place is None or len(call.args) <= place:
        return ""
    word = call.args[place]
    text = word.value if isinstance(word, ast.Constant) and isinstance(word.value, str) else ""
    forbidden = UNTRUSTED if place == 0 else ("eval", "exec", "__import__", *BANNED_METHODS)
    if place == 1 and text == "eval" and dotted(call.args[0]) not in ("builtins", "__builtins__"):
        return ""  # a network's eval() is none
    return text if text.split(".")[0] in forbidden else ""


def init_violations(source: str, module: str) -> list[str]:
    body = ast.parse(source).body
    if len(body) == 1 and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        return []
    return [f"{module}: an __init__.py holds one docstring and nothing else"]


def files() -> list[Path]:
    """Every Python file of the tree, each once: the links in robotrl/ are the folders at the root."""
    folders = ("drivers", "calibration", "safety", "sim", "robotrl", "tests", "bench", "launch")
    found = (p for f in folders for p in (ROOT / f).rglob("*.py") if "__pycache__" not in p.parts)
    return sorted(p for p in found if not any(q.is_symlink() for q in p.parents if q.is_relative_to(ROOT)))


@pytest.fixture(scope="module")
def found() -> dict[str, list[str]]:
    """All that is wrong with the tree's imports, and with its calls: each file is read once."""
    found: dict[str, list[str]] = {"imports": [], "calls": []}
    for path in files():
        source, module = path.read_text(), module_name(path)
        found["imports"] += import_violations(source, module, path.name == "__init__.py")
        found["calls"] += call_violations(source, module)
    return found


def test_the_walk_sees_the_tree():
    names = [module_name(path) for path in files()]
    assert {"robotrl.config", "robotrl.drivers.port", "robotrl.calibration.store", "tests.test_layout"} <= set(names)
    assert set(NO_BUS) <= set(names)
    assert len(names) == len(set(names))


def test_the_four_links_are_relative_and_lead_to_the_folders():
    for name in SECOND_COPIES:
        assert (ROOT / "robotrl" / name).readlink() == Path("..") / name


def test_imports_keep_to_the_table(found):
    assert not found["imports"], "\n".join(found["imports"])


def test_nothing_runs_what_a_file_tells_it_to_or_reads_the_time_of_day(found):
    assert not found["calls"], "\n".join(found["calls"])


def test_packages_hold_a_docstring_alone():
    inits = [p for p in files() if p.name == "__init__.py"]
    found = [v for p in inits for v in init_violations(p.read_text(), module_name(p))]
    assert inits and not found, "\n".join(found)


def test_every_layer_of_the_table_is_known():
    assert set(MAY_IMPORT) == EVERYTHING
    for layer, allowed in MAY_IMPORT.items():
        assert allowed <= EVERYTHING, layer


def test_safety_runs_on_the_standard_library_alone():
    modules = [module_name(p) for p in sorted((ROOT / "safety").glob("*.py"))]
    code = "import sys, importlib; sys.path.insert(0, sys.argv[1])\n"
    code += "for m in sys.argv[2:]: importlib.import_module(m)"
    done = subprocess.run([sys.executable, "-I", "-S", "-B", "-c", code, str(ROOT), *modules], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("module", "source", "says"),
    [
        ("robotrl.drivers.x", "from robotrl import bus", "drivers may not import bus"),
        ("robotrl.drivers.x", "from robotrl.safety import gate", "drivers may not import safety"),
        ("robotrl.safety.x", "def f():\n    from robotrl.drivers import port", "safety may not import drivers"),
        ("robotrl.safety.x", "import numpy", "standard library alone"),
        ("robotrl.nodes.servos", "import robotrl.sim.twin", "nodes may not import sim"),
        ("robotrl.nodes.servos", "from robotrl import sim", "nodes may not import sim"),
        ("robotrl.nodes.servos", "from ..sim import twin", "nodes may not import sim"),
        ("robotrl.cli", "def f():\n    import robotrl.sim.twin", "top may not import sim"),
        ("robotrl.manager", "import robotrl.nodes.guard", "top may not import nodes"),
        ("robotrl.agents.sac", "from robotrl.nodes import policy", "agents may not import nodes"),
        ("robotrl.config", "from robotrl.drivers import port", "core may not import drivers"),
        ("robotrl.drivers.imu", "import serial", "serial is imported in robotrl.drivers.port alone"),
        ("robotrl.nodes.pilot", "import torch", "torch is imported in"),
        ("robotrl.nodes.pilot", "from robotrl.node import Node", "knows no bus"),
        ("robotrl.nodes.pilot", "def f():\n    from robotrl import bus", "knows no bus"),
        ("robotrl.nonsense", "", "has no place in the import table"),
        ("robotrl.nodes.x", "import robotrl.nonsense", "has no place in the import table"),
        ("robotrl.nodes.x", "from drivers import port", "second copy"),
        ("tests.x", "import safety.gate", "second copy"),
        *(
            ("robotrl.replay", f"import {name}", f"imports {name}")
            for name in ("pickle", "dill", "joblib", "yaml", "multiprocessing")
        ),
        ("robotrl.replay", "def f():\n    from dill import loads", "imports dill"),
        ("robotrl.replay", "from time import time", "time.time"),
    ],
)
def test_a_forbidden_import_is_named(module, source, says):
    assert any(says in v for v in import_violations(source, module)), import_violations(source, module)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("robotrl.sim.x", "from robotrl.nodes import servos\nimport pybullet"),
        ("robotrl.manager", "def f():\n    import robotrl.nodes.guard"),
        ("robotrl.nodes.policy", "from robotrl.agents import actor\nfrom robotrl import bus, messages"),
        ("robotrl.drivers.port", "import serial\nfrom robotrl.clock import Clock"),
        ("robotrl.safety.gate", "import math\nfrom robotrl.safety import limits"),
        ("tests.x", "from robotrl.sim import twin"),
    ],
)
def test_an_allowed_import_passes(module, source):
    assert import_violations(source, module) == []


@pytest.mark.parametrize(
    "source",
    [
        "eval('1')",
        "exec('1')",
        "import torch\ntorch.load('w')",
        "import torch as t\nt.load('w')",
        "from torch import load\nload('w')",
        "import time\ntime.time()",
        "import time as t\nt.time()",
        "from time import time as now\nnow()",
        "import time\nstamp = time.time",
        "import numpy\nnumpy.load('w', allow_pickle=True)",
        "import numpy\nnumpy.load('w', allow_pickle=flag)",
        "import numpy as np\nnp.load('w', None, True)",
        "from numpy import load\nload('w', None, True)",
        "import numpy as np\nnp.load('w', **words)",
        "import numpy as np\nnp.load(*words)",
        "from numpy.lib import format\nformat.read_array(file, True)",
        "import builtins\nbuiltins.eval('1')",
        "from builtins import exec as run\nrun('1')",
        "getattr(builtins, 'eval')('1')",
        "__import__('pickle')",
        "import importlib\nimportlib.import_module('pickle')",
        "from importlib import import_module\nimport_module('dill._dill')",
        "from torch import serialization\nserialization.load('w')",
        "import torch\nload = torch.jit.load",
        "socket.recv_pyobj()",
        "socket.send_pyobj({})",
        "import pandas\npandas.read_pickle('w')",
    ],
)
def test_a_forbidden_call_is_named(source):
    assert call_violations(source, "x")


@pytest.mark.parametrize(
    "source",
    [
        "model.eval()",
        "getattr(model, 'eval')()",
        "import time\ntime.monotonic_ns()",
        "numpy.load('w', allow_pickle=False)",
        "import numpy\nnumpy.load('w', None, False)",
        "import importlib\nimportlib.import_module('robotrl.bus')",
    ],
)
def test_a_harmless_call_passes(source):
    assert call_violations(source, "x") == []


@pytest.mark.parametrize("source", ["", "import os", '"""Doc."""\nx = 1'])
def test_a_package_that_holds_more_is_named(source):
    assert init_violations(source, "x")
