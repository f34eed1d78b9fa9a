# SPDX-License-Identifier: GPL-2.0-or-later
"""python3 -m lab up|down [--build DIR] [--prefix P] [--state DIR]"""

import argparse
import sys

from .lab import PREFIX, STATE_DIR, Lab, progress_to_stderr
from .system import LabError


def main():
    parser = argparse.ArgumentParser(prog="lab")
    parser.add_argument("command", choices=("up", "down"))
    parser.add_argument("--build")
    parser.add_argument("--prefix", default=PREFIX)
    parser.add_argument("--state", default=STATE_DIR)
    args = parser.parse_args()
    lab = Lab(args.build, args.prefix, args.state, progress_to_stderr)
    try:
        lab.up() if args.command == "up" else lab.down()
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
