# SPDX-License-Identifier: GPL-2.0-or-later
"""The main job, shown: who gets through on port 443, which way, and whether that was promised."""

import subprocess
import time
from dataclasses import dataclass

from .system import LabError, wait_until

FAMILIES = (4, 6)
DENIED = ("denied", None)
WORDS = {"nontls443": "443, not TLS", "tls443": "443, TLS", "http80": "80, HTTP"}
COLUMNS = ("when", "tenant", "flow", "path taken", "outcome", "promised", "ok")
# The tenant that each customer of the lab is.
TENANTS = {"acme": "acme", "globex": "globex", "roadwarrior": "initech"}

BEFORE = [(customer, "nontls443", DENIED) for customer in TENANTS]
GRANTED = [
    ("acme", "nontls443", ("answered", "bypass")),
    ("acme", "tls443", ("answered", "bypass")),
    ("acme", "http80", ("answered", "direct")),
    ("globex", "nontls443", DENIED),
    ("globex", "tls443", ("answered", "enforce")),
    ("globex", "http80", ("answered", "direct")),
    ("roadwarrior", "nontls443", DENIED),
    ("roadwarrior", "tls443", ("answered", "enforce")),
    ("roadwarrior", "http80", ("answered", "direct")),
]
REVOKED = [
    ("acme", "nontls443", DENIED),
    ("acme", "tls443", ("answered", "enforce")),
]


class Progress:
    """One line a step, with the time it took."""

    def __init__(self):
        self.started = None

    def __call__(self, text):
        self.done()
        print(f"  {text:<58}", end="", flush=True)
        self.started = time.monotonic()

    def done(self):
        if self.started is not None:
            print(f"{time.monotonic() - self.started:6.1f} s", flush=True)
        self.started = None


@dataclass
class Row:
    when: str
    tenant: str
    flow: str
    path: str
    outcome: str
    promised: str
    ok: bool

    def cells(self):
        return (self.when, self.tenant, self.flow, self.path, self.outcome, self.promised,
                "yes" if self.ok else "NO")


def in_words(outcome, path):
    return f"{outcome} by the {path} path" if path else outcome


def both(values):
    """One text for IPv4 and IPv6, or both when they differ."""
    four, six = (value or "-" for value in values)
    return four if four == six else f"v4 {four}, v6 {six}"


def try_flow(lab, when, customer, kind, promised):
    got = [lab.probe(customer, kind, family) for family in FAMILIES]
    results = [(result["outcome"], result["path"]) for result in got]
    return Row(when, TENANTS[customer], WORDS[kind], both([path for _, path in results]),
               both([outcome for outcome, _ in results]), in_words(*promised),
               all(result == promised for result in results))


def wait_path(lab, path, deadline=5):
    """Steering is applied when the kernel has it; ask the far side, not steerd."""
    wait_until(lambda: all(lab.probe("acme", "nontls443", family)["path"] == path
                           for family in FAMILIES), f"acme takes the path {path}", deadline)


def running_flow_ends(lab, flow):
    """After a revocation: nothing more comes back, and the connection comes to its end."""
    wait_until(lambda: flow.stalled(1.0), "the running flow stalls", 5)
    echoed = flow.last["echoed"]
    ended = flow.wait_ended(30)
    return Row("revoked", "acme", "443, running", "-", "ended", "ended at once",
               ended["echoed"] == echoed and not ended.get("complete"))


def run_rows(lab, when, expectations):
    return [try_flow(lab, when, *expectation) for expectation in expectations]


def tell(lab, progress):
    """Returns all rows of the table."""
    progress("nobody has an exception: try everybody")
    rows = run_rows(lab, "before", BEFORE)
    progress("the operator grants acme an exception (steerctl grant)")
    lab.steer.grant("acme")
    wait_path(lab, "bypass")
    progress("try everybody again")
    rows += run_rows(lab, "granted", GRANTED)
    progress("acme opens a long connection, then the operator revokes")
    flow = lab.flow("acme")
    flow.wait_progress()
    lab.steer.revoke("acme", "risk no longer accepted")
    rows += run_rows(lab, "revoked", REVOKED)
    rows.append(running_flow_ends(lab, flow))
    progress.done()
    return rows


def print_table(rows):
    cells = [COLUMNS] + [row.cells() for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(COLUMNS))]
    previous = None
    for line in cells:
        if previous not in (None, line[0]):
            print()
        previous = line[0]
        print("  " + "  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip())


def run_story(lab):
    """Set the lab up, do the job, print table and event stream; true if all was as promised."""
    progress = Progress()
    lab.progress = progress
    lab.up()
    progress.done()
    stream = lab.state.path / "watch.txt"
    with open(stream, "w") as out:
        watch = subprocess.Popen([str(word) for word in lab.steer.watch_command("--since", 0)],
                                 stdout=out, stdin=subprocess.DEVNULL)
        try:
            rows = tell(lab, progress)
            wait_until(lambda: "exception-revoked" in stream.read_text(),
                       "the stream tells of the revocation", 5)
        finally:
            watch.terminate()
            watch.wait()
    print(f"\nPort 443 of the tenants, IPv4 and IPv6, {lab.esp} ESP; the path is what the "
          "far side saw:\n")
    print_table(rows)
    print("\nWhat the operators saw meanwhile (steerctl watch):\n")
    print(stream.read_text())
    failed = [row for row in rows if not row.ok]
    print(f"{len(rows) - len(failed)} of {len(rows)} lines came out as promised.")
    return not failed


def explore(lab):
    """How to look around in a lab that stays up."""
    name = lab.network.name
    ctl = f"{lab.steer.steerctl} --socket {lab.steer.control}"
    print(f"""
The lab is still up. Things to try, as root:

  {ctl} status
  {ctl} tenants
  {ctl} watch
  {ctl} grant globex --profile skype --change-request CR-2 \\
      --accepted-by you --accept-risk --reason "a try" --expires 1d
  PYTHONPATH=tests /usr/bin/python3 -m lab probe globex nontls443
  {ctl} explain globex
  ip netns exec {name('gw')} nft list table inet tenant-steer
  ip netns exec {name('bypass')} tcpdump -ni gw tcp port 443
  ls {lab.state.path}/log

  ./quickstart clean      takes it down""")


def story(lab, keep):
    """Returns the exit status."""
    try:
        good = run_story(lab)
    except LabError as error:
        print(f"\nlab: {error}")
        good = False
    if keep:
        explore(lab)
    else:
        lab.down()
    return 0 if good else 1
