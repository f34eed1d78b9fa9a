# SPDX-License-Identifier: GPL-2.0-or-later
"""100,000 child SAs at once: time until the last is in the kernel, on one core, and memory."""

import zmq

from lab.system import LabError, wait_until

from benchlib import (QUEUE, STEERD_CORE, Gateway, Publisher, Stream, cpu_seconds, parse_time,
                      resident)

CHILDREN = 100000
TENANTS = (1000, 1, CHILDREN)
REPEATS = 5
LIMIT_S = 1.0
LIMIT_MB = 150

# How they are announced, and the plugin's option "queue". With the default, so many at once
# overrun it and steerd fetches the rest in a snapshot.
WAYS = (
    ("up", QUEUE, "one event each"),
    ("setup", 2 * QUEUE, "two events each"),
    ("snapshot", QUEUE, "a snapshot at start"),
)


class Run:
    """One announcement to a fresh steerd; the store is written already."""

    def __init__(self, gateway, tenants, way, limit):
        self.gateway = gateway
        self.way = way
        self.publisher = Publisher(gateway, tenants, CHILDREN, limit)

    def live(self):
        """From before the first event until the kernel has acknowledged the last element.

        The marker is announced after all others. Whether it reaches steerd as an event or, when
        ZeroMQ's buffers overran, in a snapshot: steerd reports it when its turn is committed.
        """
        gateway = self.gateway
        gateway.start(core=STEERD_CORE)
        stream = Stream(zmq.Context.instance(), f"{gateway.uri}/stream",
                        ["charon.heartbeat", "tenant.marker."])
        try:
            stream.next()
            before = cpu_seconds(gateway.steerd.pid)
            self.publisher.send(f"{self.way} 0 {CHILDREN}\nmark")
            started = self.publisher.wait(self.way)
            applied = stream.wait_for("steering-applied", "marker", 60)
        finally:
            stream.close()
        return started["first_us"], started["last_us"], applied, before

    def snapshot(self):
        """From steerd's first question until the kernel has acknowledged the last element: only
        then is any tenant reported, the marker too. The subscriber is there before steerd is."""
        self.publisher.order("hold", 0, CHILDREN)
        self.publisher.order("mark")
        stream = Stream(zmq.Context.instance(), f"{self.gateway.uri}/stream", ["tenant.marker."])
        try:
            self.gateway.start(core=STEERD_CORE)
            sent = self.publisher.wait("snapshot")
            applied = stream.wait_for("steering-applied", "marker", 60)
        finally:
            stream.close()
        return sent["asked_us"], sent["sent_us"], applied, 0.0

    def figures(self):
        started, announced, applied, cpu = (self.snapshot if self.way == "snapshot"
                                            else self.live)()
        gateway = self.gateway
        wait_until(lambda: gateway.status()["exempt_child_sas"] == CHILDREN + 1,
                   "steerd steers all", 30)
        kernel = gateway.elements()
        if kernel != CHILDREN + 1:
            raise LabError(f"the kernel has {kernel} elements instead of {CHILDREN + 1}")
        memory = resident(gateway.steerd.pid)
        return {"seconds": (parse_time(applied["time"]) - started) / 1e6,
                "announced_in_seconds": (announced - started) / 1e6,
                "cpu_seconds": cpu_seconds(gateway.steerd.pid) - cpu,
                "resyncs": gateway.status()["publisher"]["resyncs"],
                "kernel_elements": kernel, "rss_mb": memory["VmRSS"], "peak_mb": memory["VmHWM"]}

    def close(self):
        self.gateway.stop()
        self.publisher.stop()


def run_one(gateway, tenants, way, limit):
    run = Run(gateway, tenants, way, limit)
    try:
        return run.figures()
    finally:
        run.close()


def median(values):
    return sorted(values)[len(values) // 2]


def summarise(tenants, way, limit, words, runs):
    return {"tenants": tenants, "way": way, "queue": limit, "words": words, "runs": runs,
            "seconds": median([run["seconds"] for run in runs]),
            "seconds_max": max(run["seconds"] for run in runs),
            "cpu_seconds": median([run["cpu_seconds"] for run in runs]),
            "resyncs": max(run["resyncs"] for run in runs) - 1,
            "peak_mb": max(run["peak_mb"] for run in runs)}


def describe(row):
    return (f"{CHILDREN} child SAs of {row['tenants']} tenants, {row['words']}, queue "
            f"{row['queue']}: {row['seconds']:.2f} s (most {row['seconds_max']:.2f}, CPU "
            f"{row['cpu_seconds']:.2f}), resyncs {row['resyncs']}, {row['peak_mb']:.0f} MB")


def measure(build, programs, progress, repeats=REPEATS):
    results = []
    with Gateway(build, programs, "scale") as gateway:
        for tenants in TENANTS:
            gateway.new_store(("t", tenants), ("marker", 0))
            for way, limit, words in WAYS:
                runs = [run_one(gateway, tenants, way, limit) for _ in range(repeats)]
                results.append(summarise(tenants, way, limit, words, runs))
                progress(describe(results[-1]))
    return {"children": CHILDREN, "limit_s": LIMIT_S, "limit_mb": LIMIT_MB, "results": results,
            "passed": all(row["seconds"] < LIMIT_S and row["peak_mb"] < LIMIT_MB
                          for row in results)}
