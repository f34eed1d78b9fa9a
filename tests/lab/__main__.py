# SPDX-License-Identifier: GPL-2.0-or-later
"""python3 -m lab up|down|story|probe ...: the lab from the command line."""

import argparse
import json
import sys

from .lab import PREFIX, STATE_DIR, Lab, progress_to_stderr
from .probe import KINDS
from .story import story
from .system import LabError
from .topology import CLIENTS


def parse():
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--prefix", default=PREFIX, help="of the namespaces' names")
    common.add_argument("--state", default=STATE_DIR, help="directory for everything the lab makes")
    parser = argparse.ArgumentParser(prog="lab")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, words in (("up", "set the lab up and leave it running"),
                        ("story", "set it up, do the main job, take it down")):
        command = commands.add_parser(name, parents=[common], help=words)
        command.add_argument("--build", help="build directory; without it, no tenant-steer")
    command.add_argument("--keep", action="store_true", help="leave the lab up")
    commands.add_parser("down", parents=[common], help="take it down")
    command = commands.add_parser("probe", parents=[common], help="try a service as a customer")
    command.add_argument("customer", choices=[client.name for client in CLIENTS])
    command.add_argument("kind", choices=KINDS)
    command.add_argument("--family", type=int, choices=(4, 6), default=4)
    return parser.parse_args()


def main():
    args = parse()
    lab = Lab(getattr(args, "build", None), args.prefix, args.state, progress_to_stderr)
    try:
        if args.command == "story":
            return story(lab, args.keep)
        if args.command == "up":
            lab.up()
        elif args.command == "down":
            lab.down()
        else:
            lab.clients = {client.name: client for client in CLIENTS}
            print(json.dumps(lab.probe(args.customer, args.kind, args.family)))
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
