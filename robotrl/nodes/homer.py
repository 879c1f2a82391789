"""Homes an arm against its stops, where a policy would be: asks under the guard's lease and through the gate. Imports no torch.

What it found, or why it gave up, is `homing.json` in the run's directory; then it stays where it is until the run is ended.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from robotrl.calibration.stops import Homer
from robotrl.node import Node
from robotrl.rundir import write_json


def main(argv: list[str]) -> int:
    node = Node(Path(argv[0]), "policy")
    homer = Homer(node.run.robot)
    joints, permits, actions = node.bus.subscriber("joints"), node.bus.subscriber("permit"), node.bus.publisher("action")
    node.hurry(9)
    said, told = "", False
    while not node.stopping and not node.orphaned():
        node.bus.wait([joints], 0.1)
        for reading in joints.drain()[-1:]:
            if (action := homer.cycle(reading, permits.latest())) is not None:
                actions.send(action)
        if homer.doing != said:
            said = homer.doing
            node.say(said)
        if not told and (homer.found is not None or homer.failed):
            found = {} if homer.found is None else dataclasses.asdict(homer.found)
            write_json(node.directory / "homing.json", {"failed": homer.failed} | found)
            told = True
        node.beat()
    node.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
