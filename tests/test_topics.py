"""The one table of streams: who publishes what is read from the nodes' source, and held against it both ways."""

from __future__ import annotations

import ast
from pathlib import Path

import msgspec
import pytest

from robotrl import messages
from robotrl.bus import Bus, BusError
from robotrl.clock import WallClock
from robotrl.node import _BEATERS
from robotrl.topics import CAMERAS, TOPICS, VIEWERS

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("servos", "guard", "policy", "learner", "reset", "imu", "tracker", "console", "gateway")
NODES = {
    **{
        name: ROOT / "robotrl" / "nodes" / f"{name}.py"
        for name in ("servos", "policy", "learner", "reset", "imu", "tracker", "gateway", "classifier", "teleop")
    },
    **{name: ROOT / "robotrl" / "nodes" / "camera.py" for name in CAMERAS},
    "recorder": ROOT / "robotrl" / "nodes" / "keeper.py",
    "guard": ROOT / "robotrl" / "nodes" / "vigil.py",
    "console": ROOT / "robotrl" / "nodes" / "desk.py",
    "manager": ROOT / "robotrl" / "processes.py",
    "relabel": ROOT / "robotrl" / "relabel.py",
}


def published(source: str) -> set[str]:
    """Topics given to `publisher(...)`, by name or by a comprehension over names, and to `sense(node, connect, ...)`."""
    topics = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.GeneratorExp | ast.ListComp | ast.DictComp) and "publisher(" in ast.unparse(node):
            topics |= {c.value for c in ast.walk(node.generators[0].iter) if isinstance(c, ast.Constant)}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("publisher") and node.args:
            topics |= {node.args[0].value} if isinstance(node.args[0], ast.Constant) else set()
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "sense":
            topics |= {node.args[2].value, "wire"} if isinstance(node.args[2], ast.Constant) else set()
    return topics


def test_what_nodes_publish_is_what_the_table_says():
    found = {(topic, name) for name, path in NODES.items() for topic in published(path.read_text())}
    found |= {("beat", name) for name in _BEATERS}
    found |= {("operator", name) for name in VIEWERS}  # a console beside the one that supervises: the same code, another name
    assert found == {(topic, source) for topic, entry in TOPICS.items() for source in entry.sources}


def test_the_operator_of_the_twin_publishes_what_the_console_does():
    mine = published((ROOT / "sim" / "operator.py").read_text())
    assert mine == {"operator"} and "console" in TOPICS["operator"].sources


def test_the_reader_of_source_sees_each_form():
    assert published('bus.publisher("a")\nx, y = (node.bus.publisher(t) for t in ("b", "c"))') == {"a", "b", "c"}
    assert published('return sense(node, lambda: connect(node), "d", 10, read, tape)') == {"d", "wire"}


@pytest.mark.parametrize("topic", TOPICS)
def test_each_stream_is_of_one_message_type_that_survives_the_wire(topic):
    kind = TOPICS[topic].type
    assert issubclass(kind, messages.Message) and TOPICS[topic].sources
    assert msgspec.msgpack.Decoder(kind)


def test_the_bus_refuses_what_is_not_in_the_table(tmp_path):
    bus = Bus(tmp_path, "servos", WallClock())
    for end in (bus.publisher, bus.subscriber):
        with pytest.raises(BusError, match="no topic 'jionts'"):
            end("jionts")
    bus.close()
