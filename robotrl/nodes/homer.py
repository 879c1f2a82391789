"""Homes an arm against its stops, where a policy would be: asks under the guard's lease and through the gate. Imports no torch.

What it found, or why it gave up, is `homing.json` in the run's directory; then it stays where it is until the run is ended.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

from robotrl.calibration.stops import Homer
from robotrl.node import Node
from robotrl.rundir import write_json

AGAIN_NS = 10_000_000_000  # between two tries to keep what was found, on a disk that does not take it


def main(argv: list[str]) -> int:
    node = Node(Path(argv[0]), "policy")
    homer = Homer(node.run.robot)
    joints, permits, actions = node.bus.subscriber("joints"), node.bus.subscriber("permit"), node.bus.publisher("action")
    node.hurry(9)
    said, told, due = "", False, 0
    while not node.stopping and not node.orphaned():
        node.bus.wait([joints], 0.1)
        for reading in joints.drain()[-1:]:
            if (action := homer.cycle(reading, permits.latest())) is not None:
                actions.send(action)
        if homer.doing != said:
            said = homer.doing
            node.say(said)
        if not told and (homer.found is not None or homer.failed) and node.clock.now() >= due:
            found = {} if homer.found is None else dataclasses.asdict(homer.found)
            told, due = kept(node, {"failed": homer.failed} | found), node.clock.now() + AGAIN_NS
        node.beat()
    node.close()
    return 0


def kept(node: Node, found: dict[str, Any]) -> bool:
    """Into the run's directory; false, and said, where the disk does not take it."""
    try:
        write_json(node.directory / "homing.json", found)
    except OSError as error:
        node.say(f"{node.directory / 'homing.json'}: {error.strerror}; free some space, and it ends by itself")
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
