# SPDX-License-Identifier: GPL-2.0-or-later
"""python3 -m hunt: see README.md. Exit status: 0 nothing leaked, 1 a leak or something broken."""

import argparse
import datetime
import os
import pathlib
import random
import signal
import sys
import time

from lab.system import PATIENCE, LabError, wait_until

from . import settings
from .hunt import Hunt
from .truth import NOTHING
from .world import World

SUPPRESSIONS = pathlib.Path(__file__).resolve().parent / "tsan.supp"
DESCRIPTION = "Hunt for leaks: see tests/hunt/README.md."


def parse():
    parser = argparse.ArgumentParser(prog="python3 -m hunt", description=DESCRIPTION)
    parser.add_argument("--build", required=True, help="build directory")
    parser.add_argument("--steerd", help="another steerd, such as one with a sanitizer")
    parser.add_argument("--seed", type=int, default=None, help="default: a new one, printed")
    parser.add_argument("--ops", type=int, default=2000, help="operations; default: 2000")
    parser.add_argument("--seconds", type=float, help="end after so many seconds at the latest")
    parser.add_argument("--mode", choices=("auto", "sa", "address"), default="auto")
    parser.add_argument("--rate", type=float, help="operations a second, at most")
    parser.add_argument("--period", type=float, help="seconds between two packets of a flow")
    parser.add_argument("--quiet", type=int, help="operations between two quiet checks")
    parser.add_argument("--plant", type=int, nargs="?", const=200, default=0, metavar="AFTER",
                        help="let a tenant pass on purpose; status 0 if that was seen")
    parser.add_argument("--keep", action="store_true", help="leave the lab as it is at the end")
    args = parser.parse_args()
    args.slow = PATIENCE > 1
    args.patience = PATIENCE
    args.seed = random.SystemRandom().randrange(1 << 31) if args.seed is None else args.seed
    args.rate = args.rate or (10 if args.slow else 80)
    args.period = args.period or (0.8 if args.slow else 0.05)
    args.quiet = args.quiet or (250 if args.slow else 2000)
    return args


def say(text):
    print(text, flush=True)


def stamp(nanoseconds):
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return datetime.datetime.fromtimestamp(seconds).strftime("%H:%M:%S.") + f"{rest:09}"[:6]


def print_timeline(hunt):
    say(f"timeline, the last {len(hunt.timeline)} entries:")
    for at, text in hunt.timeline:
        say(f"  {stamp(at)} {text}")
    for leak in hunt.judge.leaks[:20]:
        tenant = hunt.tenants[leak.tenant] if leak.tenant is not None else None
        say(f"leak: {tenant.name if tenant else 'unknown'} from {leak.source}, number "
            f"{leak.number}, sent {stamp(leak.sent)}, captured {stamp(leak.arrived)}, "
            f"address held since {stamp(leak.since)}")
        former, sent = hunt.judge.holders.former.get(leak.source, (None, 0))
        if former is not None:
            say(f"      {hunt.tenants[former].name} had the address before, last heard {stamp(sent)}")
        for exemption in list(tenant.exemptions)[-4:] if tenant else ():
            until = "open" if exemption.until > 1 << 61 else stamp(exemption.until)
            say(f"      exempt {stamp(exemption.since)} to {until}")


def print_counts(hunt):
    for kind in sorted(set(hunt.done) | set(hunt.missed)):
        missed = f", {hunt.missed[kind]} could not be done" if hunt.missed[kind] else ""
        each = 1000 * hunt.took[kind] / (hunt.done[kind] + hunt.missed[kind])
        say(f"  {kind:16} {hunt.done[kind]}{missed}, {each:.1f} ms each")
    for (path, state), count in sorted(hunt.judge.counts.items()):
        say(f"  packets on the {path} side, {state}: {count}")
    say(f"  the latest bypassed packet of an ended exception: {hunt.judge.late / 1e6:.1f} ms after "
        "its end (sent before it)")
    say(f"  requests without an answer: {hunt.operator.unanswered}, revocations that the kernel "
        f"refused: {hunt.operator.refused}")


def print_windows(windows):
    if windows is None:
        return
    say("  address mode's documented windows, packets that passed for a former owner:")
    for cause in (NOTHING, *windows.until):
        say(f"    {cause}: {windows.counts[cause]} packets, at most "
            f"{windows.worst[cause] / 1e6:.0f} ms after the address was the sender's")


def report(hunt, problem):
    seconds = hunt.ended - hunt.started
    judged = sum(hunt.judge.counts.values())
    busy = max(seconds - hunt.quiet_seconds, 0.001)
    if problem:
        print_timeline(hunt)
    print_counts(hunt)
    print_windows(hunt.judge.windows)
    bypassed = sum(count for (path, _), count in hunt.judge.counts.items() if path == "bypass")
    outcome = f"FAILED: {problem}" if problem else "passed"
    say(f"hunt: {outcome}: seed {hunt.options.seed}, "
        f"{hunt.world.esp} ESP, {hunt.count} operations in {seconds:.0f} s "
        f"({hunt.count / busy:.1f} a second), {hunt.quiet.checks} quiet checks in which "
        f"{hunt.quiet.renewed} tunnels were renewed, {judged} packets "
        f"judged, {bypassed} bypassed, leaks {len(hunt.judge.leaks)}")


def found_planted(hunt):
    """Was what leaked what had been planted, and nothing else?"""
    leaked = {leak.tenant for leak in hunt.judge.leaks}
    if hunt.planted is None or leaked != {hunt.planted}:
        return False
    say("hunt: the planted leak was found")
    return True


def main():
    args = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    os.environ.setdefault("TSAN_OPTIONS", f"suppressions={SUPPRESSIONS}")
    os.environ["PYTHONPATH"] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    plan = settings.Plan(clients=3) if args.slow else settings.Plan()
    world = World(args.build, plan, args.period, args.steerd, args.mode)
    say(f"hunt: seed {args.seed}")
    try:
        begun = time.monotonic()
        world.up()
        say(f"  the lab is up after {time.monotonic() - begun:.0f} s: {len(world.members)} "
            f"tenants in {world.plan.clients} clients, {world.esp} ESP")
        hunt = Hunt(world, args, say)
        problem = hunt.run()
        report(hunt, problem)
        return 1 if problem and not found_planted(hunt) else 0
    except LabError as error:
        say(f"hunt: {error}")
        return 1
    finally:
        if not args.keep:
            world.down()


if __name__ == "__main__":
    sys.exit(main())
