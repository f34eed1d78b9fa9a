# SPDX-License-Identifier: GPL-2.0-or-later
"""What an operator waits for, with 100,000 child SAs: steerctl grant, against one durable transaction of
SQLite on the same disk, and steerctl explain: of a tenant, of a running flow, and of all flows of an address to
one destination. From the command's start to its return."""

import sqlite3
import subprocess
import time

from lab.system import LabError, run

from benchlib import Gateway, Publisher, summary

CHILDREN = 100000
ROUNDS = 200
OVER_TRANSACTION_MS = 5.0
EXPLAIN_MS = 10.0
SERVER = "203.0.113.10"
FLOW_PORT = 50000
# For all flows of an address the kernel walks its whole table, and steerd rests after it: so seldom that it has rested.
WALK_EVERY = 25


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
        done = subprocess.run([*self.steerctl, *map(str, words)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise LabError(done.stderr)
        return done.stdout

    def grant(self, tenant):
        self.run("grant", tenant, "--profile", "skype", "--change-request", "BENCH",
                 "--accepted-by", "bench", "--accept-risk", "--reason", "bench", "--expires", "1d")

    def explain(self, subject, *more):
        return self.run("explain", subject, "--dst", f"{SERVER}:443", *more)


def address_of(number):
    """The inner address of the publisher's child SA with this number."""
    return f"198.{18 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


def add_flow(gateway, address):
    """An entry in conntrack's table, as a flow that runs has."""
    run(*gateway.command("conntrack", "-I", "-p", "tcp", "-s", address, "-d", SERVER, "--sport",
                         FLOW_PORT, "--dport", 443, "--state", "ESTABLISHED", "--timeout", 3600))


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
    times = {"transaction": [], "grant": [], "explain": [], "explain_flow": [], "explain_address": []}
    for number in range(ROUNDS):
        tenant, address = f"t{number * 7:05}", address_of(number * 7)
        add_flow(gateway, address)
        times["transaction"].append(timed(baseline.write))
        times["grant"].append(timed(lambda t=tenant: operator.grant(t)))
        if gateway.elements() != number + 1:
            raise LabError(f"the grant of {tenant} returned before the kernel had it")
        times["explain"].append(timed(lambda t=tenant: operator.explain(t)))
        times["explain_flow"].append(timed(
            lambda a=address: operator.explain(a, "--source-port", FLOW_PORT)))
        if number % WALK_EVERY == 0:
            times["explain_address"].append(timed(lambda a=address: operator.explain(a)))
    if "yes" not in operator.explain("t00007"):
        raise LabError("explain does not know of the exception")
    if "pinned to enforcement" not in operator.explain(address_of(7), "--source-port", FLOW_PORT):
        raise LabError("explain does not know of the flow")
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
            "passed": over <= OVER_TRANSACTION_MS and all(
                figures[name]["p50"] < EXPLAIN_MS for name in ("explain", "explain_flow"))}
