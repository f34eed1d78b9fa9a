# SPDX-License-Identifier: GPL-2.0-or-later
"""steerctl apply of 10,000 exceptions over 100,000 child SAs: time until it is durable, and until the
last element is in the kernel; how long anybody else waited meanwhile. Against as many single grants."""

import datetime
import json
import subprocess
import threading
import time

import zmq

from lab.system import LabError

from benchlib import Control, Gateway, Publisher, Stream, now_us, parse_time

CHILDREN = 100000
EXCEPTIONS = 10000
SINGLE = 200
REPEATS = 5
LIMIT_S = 3.0
# Between two questions of the other client.
PACE_S = 0.002


class Waiter(threading.Thread):
    """Somebody else, who asks all the time; the longest wait for an answer."""

    def __init__(self, gateway):
        super().__init__(daemon=True)
        self.control = gateway.control()
        self.longest = 0.0
        self.over = threading.Event()

    def run(self):
        while not self.over.wait(PACE_S):
            started = time.monotonic()
            self.control.ask("stream")
            self.longest = max(self.longest, time.monotonic() - started)

    def stop(self):
        self.over.set()
        self.join()
        self.control.close()
        return self.longest


def write_file(path, risk):
    """What export would print, of tenants that are all connected."""
    end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=30)
    path.write_text(json.dumps({"version": 1, "exceptions": [
        {"tenant": f"t{number:05}", "profile": "skype", "scope": "tenant", "destinations": None,
         "expires_at": end.strftime("%Y-%m-%dT%H:%M:%SZ"), "change_request": "BENCH",
         "accepted_by": "bench", "reason": "bench", "risk_version": 1, "risk_sha256": risk}
        for number in range(EXCEPTIONS)]}, indent=1))


def single_grants(control):
    """Seconds for each, of some other tenants."""
    started = time.monotonic()
    for number in range(SINGLE):
        control.grant(f"single{number}")
    return (time.monotonic() - started) / SINGLE


def apply(gateway, file):
    """steerd reports a tenant when the kernel has acknowledged the last element of all."""
    stream = Stream(zmq.Context.instance(), f"{gateway.uri}/stream",
                    ["charon.heartbeat", "tenant.t00000."])
    stream.next()
    waiter = Waiter(gateway)
    waiter.start()
    started = now_us()
    subprocess.run([gateway.build / "sidecar" / "steerctl", "--socket",
                    gateway.state.path / "control", "apply", file], check=True,
                   stdout=subprocess.DEVNULL)
    durable = now_us() - started
    applied = stream.wait_for("steering-applied", "t00000")
    stream.close()
    return {"durable": durable / 1e6, "in_kernel": (parse_time(applied["time"]) - started) / 1e6,
            "longest_wait": waiter.stop()}


def run_one(gateway, directory):
    gateway.new_store(directory=directory)
    publisher = Publisher(gateway, EXCEPTIONS, CHILDREN)
    file = gateway.state.path / "list.json"
    try:
        publisher.order("hold", 0, CHILDREN)
        gateway.start()
        control = Control(gateway.state.path / "control")
        write_file(file, control.ask("risk")[0]["risk"]["sha256"])
        single = single_grants(control)
        control.close()
        figures = {**apply(gateway, file), "single": single}
        if gateway.elements() != CHILDREN:
            raise LabError(f"the kernel has {gateway.elements()} elements, not {CHILDREN}")
        return figures
    finally:
        gateway.stop()
        publisher.stop()
        gateway.remove_store()


def median(values):
    return sorted(values)[len(values) // 2]


def measure(build, programs, progress, repeats=REPEATS):
    with Gateway(build, programs, "apply") as gateway:
        runs = [run_one(gateway, programs) for _ in range(repeats)]
    figures = {key: median([run[key] for run in runs]) for key in runs[0]}
    most = max(run["in_kernel"] for run in runs)
    progress(f"{EXCEPTIONS} exceptions over {CHILDREN} child SAs: durable after "
             f"{figures['durable']:.2f} s, in the kernel after {figures['in_kernel']:.2f} s (most "
             f"{most:.2f}); longest wait of others {figures['longest_wait'] * 1e3:.0f} ms; single "
             f"grants: {figures['single'] * 1e3:.1f} ms each, "
             f"{figures['single'] * EXCEPTIONS:.0f} s")
    return {"children": CHILDREN, "exceptions": EXCEPTIONS, "limit_s": LIMIT_S, "runs": runs,
            **figures, "most": most, "passed": most < LIMIT_S}
