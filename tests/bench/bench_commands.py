# SPDX-License-Identifier: GPL-2.0-or-later
"""What an operator waits for, with 100,000 child SAs: steerctl grant, against one durable transaction of
SQLite on the same disk, and steerctl explain. From the command's start to its return."""

import sqlite3
import subprocess
import time

from lab.system import LabError

from benchlib import Gateway, Publisher, summary

CHILDREN = 100000
ROUNDS = 200
OVER_TRANSACTION_MS = 5.0
EXPLAIN_MS = 10.0


def timed(call):
    """Milliseconds."""
    started = time.monotonic()
    call()
    return (time.monotonic() - started) * 1e3


class Operator:
    def __init__(self, gateway):
        self.steerctl = [gateway.build / "sidecar" / "steerctl", "--socket",
                         gateway.state.path / "control"]

    def run(self, *words):
        done = subprocess.run([*self.steerctl, *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise LabError(done.stderr)
        return done.stdout

    def grant(self, tenant):
        self.run("grant", tenant, "--profile", "skype", "--change-request", "BENCH",
                 "--accepted-by", "bench", "--accept-risk", "--reason", "bench", "--expires", "1d")

    def explain(self, tenant):
        return self.run("explain", tenant, "--dst", "203.0.113.10:443")


class Baseline:
    """The very least: one row, written as steerd's store is."""

    def __init__(self, directory):
        self.connection = sqlite3.connect(directory / "baseline.db", isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = FULL")
        self.connection.execute("CREATE TABLE record (text TEXT)")

    def write(self):
        self.connection.execute("INSERT INTO record VALUES ('" + "x" * 500 + "')")

    def close(self):
        self.connection.close()


def play(gateway, operator, baseline):
    """In turns, so that whatever else the machine does is in all of them."""
    times = {"transaction": [], "grant": [], "explain": []}
    for number in range(ROUNDS):
        tenant = f"t{number * 7:05}"
        times["transaction"].append(timed(baseline.write))
        times["grant"].append(timed(lambda t=tenant: operator.grant(t)))
        if gateway.elements() != number + 1:
            raise LabError(f"the grant of {tenant} returned before the kernel had it")
        times["explain"].append(timed(lambda t=tenant: operator.explain(t)))
    if "yes" not in operator.explain("t00007"):
        raise LabError("explain does not know of the exception")
    return times


def measure(build, programs, progress):
    with Gateway(build, programs, "commands") as gateway:
        gateway.new_store(directory=programs)
        publisher = Publisher(gateway, CHILDREN, CHILDREN)
        baseline = Baseline(gateway.store.parent)
        try:
            publisher.order("hold", 0, CHILDREN)
            gateway.start()
            times = play(gateway, Operator(gateway), baseline)
        finally:
            baseline.close()
            gateway.stop()
            publisher.stop()
            gateway.remove_store()
    figures = {name: summary(values, 2) for name, values in times.items()}
    over = round(figures["grant"]["p50"] - figures["transaction"]["p50"], 2)
    for name, figure in figures.items():
        progress(f"{name}: median {figure['p50']} ms, p99 {figure['p99']}, most {figure['max']}")
    progress(f"a grant takes {over} ms more than one transaction (at most {OVER_TRANSACTION_MS})")
    return {"children": CHILDREN, "rounds": ROUNDS, **figures, "over_transaction_ms": over,
            "passed": over <= OVER_TRANSACTION_MS and figures["explain"]["p50"] < EXPLAIN_MS}
