"""A session again through the live code: the same bytes must give the same readings, observations and commands, bit for bit.

    robotrl play RUN_DIR                       all its sessions, one after the other
    robotrl play RUN_DIR/sessions/0003.mcap    one file; what its beginning does not tell is not compared
    robotrl play RUN_DIR --limits FILE         would these limits have tripped? FILE is a run's or a robot's TOML

Exit code 0: all that was compared is the same (with --limits: nothing new would have tripped); 1: something is not; 2: it
cannot be played.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from robotrl.session import Reading, SessionError, files


def parse(argv: list[str]) -> argparse.Namespace:
    doc = (__doc__ or "").split("\n\n")
    parser = argparse.ArgumentParser(
        prog="robotrl play", description=doc[0], epilog="\n\n".join(doc[1:]), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("session", type=Path, nargs="+", help="a run directory, or its session files in order")
    parser.add_argument("--limits", type=Path, metavar="FILE", help="what would gate and guard have said with FILE's limits?")
    parser.add_argument(
        "--weights", type=Path, action="append", default=[], metavar="FILE", help="a version that the session has not kept"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object last on standard output")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    args = parse(argv)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as on the robot: more threads add up in another order
    paths = [path for given in args.session for path in files(given)]
    result = asked(paths, args.limits) if args.limits is not None else compared(paths, args.weights)
    if args.json:
        print(json.dumps(result))
    return 0 if result["same"] else 1


def compared(paths: list[Path], weights: list[Path]) -> dict[str, Any]:
    """Play the files in order, and tell how often each thing came out the same."""
    from robotrl.nodes.player import Player

    player = Player()
    try:
        player.given = [(path.read_bytes(), str(path)) for path in weights]
    except OSError as error:
        raise SessionError(f"{error.filename}: cannot be read: {error.strerror}") from None
    for path in paths:
        player.feed(Reading(path))
    player.finish()
    result = player.result()
    for why in result["cut"]:
        print(f"cut    {why}")
    print(f"{result['seconds']:8.1f} s played    {'compared':>9} {'equal':>9} {'not known':>9}")
    for name, row in result["rows"].items():
        print(f"{name:<20} {row['equal'] + row['differ']:>9} {row['equal']:>9} {row['unknown']:>9}")
        if row["differ"]:
            print(f"  {row['differ']} DIFFER, the first at {row['first']}")
    if result["unweighted"]:
        print(f"{result['unweighted']} commands came of weights that were not kept: their observations alone are compared")
    if any(row["equal"] or row["differ"] for row in result["rows"].values()):
        print("the same, bit for bit" if result["same"] else "NOT THE SAME")
    else:
        print("NOTHING COULD BE COMPARED: too little was recorded")
    return result


def asked(paths: list[Path], limits: Path) -> dict[str, Any]:
    """Play the files in order to a gate and a guard with other limits, and tell what they would have done."""
    from robotrl.nodes.whatif import WhatIf

    asking = WhatIf(limits)
    for path in paths:
        asking.feed(Reading(path))
    asking.finish()
    result = asking.result()
    for why in result["cut"]:
        print(f"cut    {why}")
    print(f"{result['seconds']:.1f} s judged with the limits of {limits}, as if the robot had moved as it did:")
    for row in result["gate"] + result["guard"]:
        print(f"{row['at_s']:9.2f} s  {'NEW ' if row['new'] else '    '}{row['who']:<6} {row['what']}")
    print(f"the guard with the recorded limits: {result['reproduced']} of {result['causes']} recorded causes raised again")
    print("nothing new would have tripped" if result["same"] else "THESE LIMITS WOULD HAVE TRIPPED")
    return result


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
