"""`robotrl keys`: who may reach a run from another machine.

robotrl keys new NAME --role console    makes a key pair: its public half is authorised here, its file goes to that machine
robotrl keys list                       who may come in, and as what
robotrl keys revoke NAME                who had that key may no longer; a run that listens cuts him off within seconds
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from robotrl import keyring
from robotrl.config import Network
from robotrl.roles import ROLES


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="robotrl keys", description=(__doc__ or "").split("\n\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    new = verbs.add_parser("new", help="a new key pair")
    new.add_argument("name", help="whose key it is, e.g. laptop")
    new.add_argument("--role", required=True, choices=list(ROLES))
    revoke = verbs.add_parser("revoke", help="who may no longer come in")
    revoke.add_argument("name", help="whose key it was")
    for verb in (new, revoke, verbs.add_parser("list", help="who may come in")):
        verb.add_argument("--keys", type=Path, metavar="DIR", default=Path(Network().keys), help="folder of the keys")
        verb.add_argument("--json", action="store_true", help="print one JSON object last on standard output")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    args = parse(argv)
    directory = args.keys.expanduser()
    if args.verb == "new":
        path = keyring.new(directory, args.name, args.role)
        print(f"{path}\ntake this file to the other machine (scp -p), then remove it here; {args.name} is a {args.role}")
        told = {"name": args.name, "role": args.role, "file": str(path), "public": keyring.read(path).public}
    elif args.verb == "revoke":
        keyring.revoke(directory, args.name)
        print(f"{args.name} may no longer come in")
        told = {"revoked": args.name}
    else:
        keys = keyring.listed(directory)
        for key in keys:
            print(f"{key.name:<20} {key.role:<8} {key.public}")
        if not keys:
            print(f"{directory}: nobody may come in", file=sys.stderr)
        told = {"keys": [{"name": key.name, "role": key.role, "public": key.public} for key in keys]}
    if args.json:
        print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
