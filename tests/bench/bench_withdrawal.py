# SPDX-License-Identifier: GPL-2.0-or-later
"""How long a withdrawal takes to reach the kernel while child SAs are announced and rekeyed.

Measured from just before the request is written to the control socket to the time of the
steering-withdrawn event, which steerd takes after the kernel acknowledged the commit and before
it writes the end of the exception to disk. Taking the time itself is within it, so it is an upper
bound. The answer to the request comes after the disk and is reported beside it.
"""

import random
import threading
import time

import zmq

from lab.system import wait_until

from benchlib import QUEUE, Gateway, Publisher, Stream, now_us, parse_time, summary

CHILDREN = 100000
TENANTS = 1000
# The last tenants are taken for the withdrawals; the load does not touch their child SAs.
VICTIMS = 50
VICTIM_CHILDREN = 10
RATE = 20000
SAMPLES = 2500
PAUSE_MAX_S = 0.004
LIMIT_MS = 10.0
MEMORY = "/dev/shm"


def victim(number):
    return f"v{number:05d}"


class Withdrawals:
    """A control connection that revokes and grants in turn, and the stream that tells when."""

    def __init__(self, gateway):
        self.control = gateway.control()
        self.stream = Stream(zmq.Context.instance(), f"{gateway.uri}/stream",
                             ["charon.heartbeat", "tenant.v"])
        self.stream.next()
        self.random = random.Random(1)
        self.kernel_ms = []
        self.answer_ms = []

    def one(self, tenant):
        """Revoke, note, grant again. The pause keeps it from following steerd's own rhythm."""
        time.sleep(self.random.uniform(0, PAUSE_MAX_S))
        _, sent = self.control.revoke(tenant)
        answered = now_us()
        withdrawn = self.stream.wait_for("steering-withdrawn", tenant)
        self.kernel_ms.append((parse_time(withdrawn["time"]) - sent) / 1000)
        self.answer_ms.append((answered - sent) / 1000)
        self.control.grant(tenant)

    def take(self, samples, going_on=lambda: True):
        self.kernel_ms, self.answer_ms = [], []
        while len(self.kernel_ms) < samples and going_on():
            self.one(victim(len(self.kernel_ms) % VICTIMS))
        return list(self.kernel_ms), list(self.answer_ms)

    def close(self):
        self.stream.close()
        self.control.close()


class Bursts(threading.Thread):
    """Announces all child SAs and takes them down again, over and over, each time waiting until
    steerd is through: while this runs, steerd has a burst to work on."""

    def __init__(self, gateway, publisher):
        super().__init__(daemon=True)
        self.publisher = publisher
        self.stream = Stream(zmq.Context.instance(), f"{gateway.uri}/stream",
                             ["charon.heartbeat", "tenant.marker.steering"])
        self.stream.next()
        self.ending = False
        self.count = 0

    def run(self):
        while not self.ending:
            for verb, mark, kind in (("up", "mark", "steering-applied"),
                                     ("down", "unmark", "steering-withdrawn")):
                self.publisher.send(f"{verb} 0 {CHILDREN}\n{mark}")
                self.publisher.wait(mark)
                self.stream.wait_for(kind, "marker", 60)
            self.count += 1

    def stop(self):
        self.ending = True
        self.join(60)
        self.stream.close()


def wait_steered(gateway, count):
    wait_until(lambda: gateway.status()["exempt_child_sas"] == count,
               f"{count} child SAs are steered", 30)


def under_rate(gateway, publisher, withdrawals, rate, samples):
    publisher.order("load", rate, 0, CHILDREN)
    before = gateway.status()
    started = time.monotonic()
    figures = report(withdrawals.take(samples))
    after = gateway.status()
    publisher.order("load", 0, 0, 0)
    events = after["publisher"]["seq"] - before["publisher"]["seq"]
    figures["events_per_second"] = round(events / (time.monotonic() - started))
    figures["resyncs"] = after["publisher"]["resyncs"] - before["publisher"]["resyncs"]
    return figures


def under_bursts(gateway, publisher, withdrawals, samples):
    publisher.order("down", 0, CHILDREN)
    wait_steered(gateway, VICTIMS * VICTIM_CHILDREN)
    before = gateway.status()["publisher"]["resyncs"]
    bursts = Bursts(gateway, publisher)
    bursts.start()
    try:
        figures = report(withdrawals.take(samples, bursts.is_alive))
    finally:
        bursts.stop()
    figures["bursts"] = bursts.count
    figures["resyncs"] = gateway.status()["publisher"]["resyncs"] - before
    return figures


def report(measured):
    kernel, answer = measured
    return {"kernel_ms": summary(kernel), "answer_ms": summary(answer)}


class Results(dict):
    """Says each result when it is there."""

    def __init__(self, progress):
        super().__init__()
        self.progress = progress

    def __setitem__(self, name, figures):
        super().__setitem__(name, figures)
        self.progress(describe(name, figures))


def measure(build, programs, progress, samples=SAMPLES):
    results = Results(progress)
    with Gateway(build, programs, "withdraw") as gateway:
        # In memory: a disk that takes 30 ms for each answer would make it hours.
        gateway.new_store(("t", TENANTS), ("marker", 0), ("v", VICTIMS), directory=MEMORY)
        publisher = Publisher(gateway, TENANTS, CHILDREN, QUEUE, VICTIMS)
        gateway.start()
        withdrawals = Withdrawals(gateway)
        try:
            publisher.order("up", CHILDREN, VICTIMS * VICTIM_CHILDREN)
            wait_steered(gateway, VICTIMS * VICTIM_CHILDREN)
            results["idle"] = report(withdrawals.take(samples))
            publisher.order("up", 0, CHILDREN)
            wait_steered(gateway, CHILDREN + VICTIMS * VICTIM_CHILDREN)
            results["rate"] = under_rate(gateway, publisher, withdrawals, RATE, samples)
            results["bursts"] = under_bursts(gateway, publisher, withdrawals, samples)
        finally:
            withdrawals.close()
            gateway.stop()
            publisher.stop()
            gateway.remove_store()
    return {"rate": RATE, "limit_ms": LIMIT_MS, "results": results,
            "passed": all(figures["kernel_ms"]["p999"] <= LIMIT_MS
                          for figures in results.values())}


def describe(name, figures):
    kernel, answer = figures["kernel_ms"], figures["answer_ms"]
    return (f"withdrawal, {name}: in the kernel after {kernel['p50']:.2f} ms (p99 "
            f"{kernel['p99']:.2f}, p99.9 {kernel['p999']:.2f}, most {kernel['max']:.2f}), "
            f"answered after {answer['p50']:.2f} ms (p99.9 {answer['p999']:.2f})")
