# SPDX-License-Identifier: GPL-2.0-or-later
"""What the benchmarks share: figures, a gateway of a network namespace, a publisher, steerd."""

import datetime
import json
import os
import pathlib
import platform
import queue
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time

import zmq

from lab.system import LabError, Process, StateDir, run, wait_until

PREFIX = "tsb-"
STATE = "/run/tenant-steer-bench"

# The publisher plays charon alone: there are no SAs in the kernel to verify SPIs by.
STEERD_CONF = """\
user = "";
charon {{ publish = "{dir}/events"; snapshot = "{dir}/snapshot"; lost_after = {lost_after}; }}
stream {{ bind = ["{dir}/stream"]; }}
control {{ socket = "{path}/control"; group = ""; }}
store {{ sqlite = "{store}"; }}
steering {{ mode = {mode}; verify_sa = no; pinning = conntrack; lease = 3s; interface = "in"; }}
path bypass {{ mark = 0x01000000; table = 5443; via = ["{via}"]; interface = "bypass"; }}
profile skype {{ path = bypass; services = ["tcp/443"]; max_lifetime = 90d; }}
"""


def machine():
    cpuinfo = pathlib.Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", cpuinfo)
    memory = re.search(r"MemTotal:\s*(\d+)", pathlib.Path("/proc/meminfo").read_text())
    return {"kernel": platform.release(), "cpu": model.group(1) if model else platform.machine(),
            "cores": os.cpu_count(), "memory_mb": int(memory.group(1)) // 1024}


STEERD_CORE = 0
# A subscriber that was there before its publisher finds it this soon.
RECONNECT_MS = 5
# The plugin's default: events it buffers for a subscriber.
QUEUE = 131072


def other_core():
    """Where charon's part runs when steerd has a core to itself."""
    return 1 if os.cpu_count() > 1 else STEERD_CORE


def percentile(values, share):
    """The nearest-rank percentile: always a value that was measured."""
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * share // 100))
    return ordered[min(len(ordered), int(rank)) - 1]


def summary(values, digits=3):
    names = {"p50": 50, "p90": 90, "p99": 99, "p999": 99.9}
    figures = {name: round(percentile(values, share), digits) for name, share in names.items()}
    return {"count": len(values), **figures, "min": round(min(values), digits),
            "max": round(max(values), digits)}


def parse_time(text):
    """An event's time in microseconds since 1970; integers, as floats lose some."""
    moment = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return int(moment.timestamp()) * 1000000 + moment.microsecond


def now_us():
    return time.time_ns() // 1000


def resident(pid):
    """Now and at most, in MB."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return {key: int(re.search(rf"{key}:\s*(\d+)", status).group(1)) / 1024
            for key in ("VmRSS", "VmHWM")}


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Stream:
    """A subscriber of an event stream that keeps what its topics let through."""

    def __init__(self, context, endpoint, topics):
        self.socket = context.socket(zmq.SUB)
        self.socket.setsockopt(zmq.RCVHWM, 0)
        self.socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        for topic in topics:
            self.socket.setsockopt_string(zmq.SUBSCRIBE, topic)
        self.socket.connect(endpoint)

    def next(self, timeout=10.0):
        """The next event; LabError after timeout seconds."""
        if not self.socket.poll(timeout * 1000):
            raise LabError(f"no event on the stream for {timeout} s")
        return json.loads(self.socket.recv_multipart()[1])

    def wait_for(self, kind, tenant, timeout=30.0):
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            event = self.next(timeout)
            if event["type"] == kind and event.get("tenant") == tenant:
                return event
        raise LabError(f"no {kind} of {tenant} within {timeout} s")

    def drain(self):
        events = []
        while self.socket.poll(0):
            events.append(json.loads(self.socket.recv_multipart()[1]))
        return events

    def close(self):
        self.socket.close(0)


class Control:
    """One lasting connection to steerd's control socket."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(str(path))
        self.answers = self.sock.makefile()
        self.risk = None  # the hash of its text

    def ask(self, command, **fields):
        """Returns the answer and when the request was sent, in microseconds."""
        line = json.dumps({"v": 1, "command": command, **fields}).encode() + b"\n"
        sent = now_us()
        self.sock.sendall(line)
        answer = json.loads(self.answers.readline())
        if not answer["ok"]:
            raise LabError(f"{command}: {answer['error']}")
        return answer, sent

    def grant(self, tenant):
        if not self.risk:
            self.risk = self.ask("risk")[0]["risk"]["sha256"]
        return self.ask("grant", tenant=tenant, profile="skype", change_request="BENCH",
                        accepted_by="bench", accept_risk=True, risk_sha256=self.risk,
                        reason="bench", expires_s=86400)

    def revoke(self, tenant):
        return self.ask("revoke", tenant=tenant, reason="bench")

    def close(self):
        self.answers.close()
        self.sock.close()


class Publisher:
    """bench_publisher, which plays charon."""

    def __init__(self, gateway, tenants, children, limit=QUEUE, victims=0, esp="kernel"):
        self.done = queue.Queue()
        self.popen = subprocess.Popen(
            gateway.command("taskset", "-c", other_core(), gateway.programs / "bench_publisher",
                            f"{gateway.uri}/events",
                            f"{gateway.uri}/snapshot", tenants, children, limit, victims, esp),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.popen.stdout:
            self.done.put(json.loads(line))

    def send(self, *words):
        self.popen.stdin.write(" ".join(str(word) for word in words) + "\n")
        self.popen.stdin.flush()

    def wait(self, verb, timeout=30):
        while True:
            done = self.done.get(timeout=timeout)
            if done["done"] == verb:
                return done

    def order(self, *words):
        self.send(*words)
        return self.wait(words[0])

    def stop(self):
        self.popen.stdin.close()
        self.popen.wait(10)
        self.reader.join(10)
        self.popen.stdout.close()


class Gateway:
    """A network namespace with a next hop, for steerd on the real kernel."""

    mode = "sa"
    lost_after = "3s"
    via = "198.19.2.2"

    def __init__(self, build, programs, role):
        self.build = pathlib.Path(build).resolve()
        self.programs = pathlib.Path(programs).resolve()
        self.netns = PREFIX + role
        self.state = StateDir(f"{STATE}-{role}")
        self.store = None
        self.steerd = None

    @property
    def uri(self):
        return f"ipc://{self.state.path}"

    def __enter__(self):
        self.state.take()
        if self.state.pids.is_dir():
            self.state.kill_recorded()
        run("ip", "netns", "delete", self.netns, check=False)
        self.state.remove()
        self.state.make()
        run("ip", "netns", "add", self.netns)
        run("ip", "-n", self.netns, "link", "set", "lo", "up")
        self.connect()
        return self

    def connect(self):
        """The links of the namespace."""
        run("ip", "-n", self.netns, "link", "add", "bypass", "type", "veth", "peer", "name", "peer")
        for interface in ("bypass", "peer"):
            run("ip", "-n", self.netns, "link", "set", interface, "up")
        run("ip", "-n", self.netns, "address", "add", "198.19.2.1/30", "dev", "bypass")

    def __exit__(self, *_):
        self.stop()
        run("ip", "netns", "delete", self.netns)
        self.state.remove()

    def command(self, *words):
        return ["ip", "netns", "exec", self.netns, *(str(word) for word in words)]

    def new_store(self, *grants, directory=None):
        """A store with grants (prefix, count) in a directory, by default in memory."""
        self.store = pathlib.Path(tempfile.mkdtemp(dir=directory or self.state.path)) / "db"
        for prefix, count in grants:
            run(self.programs / "bench_grants", self.store, "skype", prefix, count, timeout=600)

    def remove_store(self):
        shutil.rmtree(self.store.parent)

    def start(self, core=None, wait=True):
        """Start steerd, on one core if one is named."""
        config = self.state.path / "steerd.conf"
        config.write_text(STEERD_CONF.format(dir=self.uri, path=self.state.path, store=self.store,
                                             mode=self.mode, via=self.via,
                                             lost_after=self.lost_after))
        pinned = [] if core is None else ["taskset", "-c", core]
        self.steerd = Process(self.state, "steerd", self.command(
            *pinned, self.build / "sidecar" / "steerd", "--config", config))
        if wait:
            wait_until(self._steers, "steerd steers; its log: " + str(self.steerd.log), 30)

    def _steers(self):
        self.steerd.check_alive()
        try:
            return self.status()["state"] == "steering"
        except OSError:
            return False

    def stop(self):
        if self.steerd:
            self.steerd.stop()
            self.steerd = None
        run(*self.command("nft", "flush", "ruleset"))

    def control(self):
        return Control(self.state.path / "control")

    def status(self):
        control = self.control()
        try:
            return control.ask("status")[0]["status"]
        finally:
            control.close()

    def elements(self):
        """How many child SAs the kernel itself says it holds."""
        listed = run(*self.command("nft", "-j", "list", "set", "inet", "tenant-steer",
                                   "sa_skype")).stdout
        found = next(o["set"] for o in json.loads(listed)["nftables"] if "set" in o)
        return len(found.get("elem", []))
