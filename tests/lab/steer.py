# SPDX-License-Identifier: GPL-2.0-or-later
"""steerd and steerctl of one lab, taken from the build directory, and the operators' stream."""

import contextlib
import json
import pathlib
import re
import signal
import socket
import subprocess
import threading

from .system import PATIENCE, LabError, Process, run, tail, wait_until
from .topology import BYPASS_VIA

# steerd has to be able to start again within the lease.
LEASE_SECONDS = round(3 * min(PATIENCE, 4))
MARK_MASK = 0x0f000000
RULE_PRIORITY = 5200
TABLE = 5443

STEERD_CONF = """\
# steerd runs as root here: the lab's directory belongs to root.
user = "";
charon {{ publish = "{publish}"; snapshot = "{snapshot}"; lost_after = {lost_after}; }}
stream {{ bind = ["{stream}"]; }}
control {{ socket = "{control}"; group = ""; }}
store {{ sqlite = "{store}"; }}
steering {{
	mode = {mode};
	verify_sa = {verify_sa};
	pinning = {pinning};
	lease = {lease};
	on_death = {on_death};
	mark_mask = {mask:#010x};
	rule_priority = {priority};
	interface = "ipsec0";
}}
path bypass {{ mark = 0x01000000; table = {table}; via = {via}; interface = "bypass"; }}
profile skype {{ path = bypass; services = {services}; max_lifetime = 90d; }}
{more}
"""


class Watch:
    """A `steerctl watch --json` that collects the stream from now on."""

    def __init__(self, command):
        self.popen = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        self.events = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.popen.stdout:
            self.events.append(json.loads(line))

    def seen(self, kind, tenant=None, since=0):
        return [event for event in self.events[since:]
                if event.get("type") == kind and tenant in (None, event.get("tenant"))]

    def wait_for(self, kind, tenant=None, since=0, deadline=10):
        """The first event of this kind after the first `since` ones."""
        wait_until(lambda: self.seen(kind, tenant, since),
                   lambda: f"event {kind} of {tenant or 'anybody'}; seen: "
                   f"{[e.get('type') for e in self.events]}", deadline)
        return self.seen(kind, tenant, since)[0]

    def stop(self):
        self.popen.terminate()
        self.popen.wait()
        self.reader.join(5)


class Steer:
    """The sidecar on the lab's gateway."""

    def __init__(self, network, state, build):
        self.network = network
        self.state = state
        self.dir = state.dir("steer")
        self.config = self.dir / "steerd.conf"
        build = pathlib.Path(build)
        self.steerd = build / "sidecar" / "steerd"
        self.steerctl = build / "sidecar" / "steerctl"
        self.plugin = build / "charon-plugin" / ".libs" / "libstrongswan-tenant-tag.so"
        self.publish = f"ipc://{self.dir}/charon-events"
        self.snapshot = f"ipc://{self.dir}/charon-snapshot"
        self.relayed = f"ipc://{self.dir}/relayed-events"
        self.control = self.dir / "control"
        self.store = self.dir / "exceptions.db"
        self.wrapper = ()  # setarch and its options, for example
        self.process = None
        for file in (self.steerd, self.steerctl, self.plugin):
            if not file.exists():
                raise LabError(f"{file} is missing: build first")

    def write_config(self, **changes):
        values = {"publish": self.publish, "snapshot": self.snapshot, "lost_after": "3s",
                  "stream": f"ipc://{self.dir}/stream", "control": self.control,
                  "store": self.store, "mode": "auto", "verify_sa": "yes",
                  "pinning": "conntrack", "on_death": "lease",
                  "lease": f"{LEASE_SECONDS}s", "mask": MARK_MASK, "priority": RULE_PRIORITY,
                  "table": TABLE, "via": json.dumps(BYPASS_VIA), "services": '["tcp/443"]',
                  "more": ""}
        self.config.write_text(STEERD_CONF.format(**{**values, **changes}))

    def exempt_spis(self):
        """All numbers in the kernel's table that an SPI may be."""
        listed = self.network.exec("gw", "nft", "-nn", "list", "table", "inet",
                                   "tenant-steer").stdout
        numbers = {int(word, 0) for word in re.findall(r"\b(?:0x[0-9a-f]+|\d{10})\b", listed)}
        return {number for number in numbers if 0xc0000000 <= number <= 0xcfffffff}

    def on_gateway(self, *command):
        return ["ip", "netns", "exec", self.network.name("gw"), *command]

    def start(self, wait=True, **changes):
        self.write_config(**changes)
        self.process = Process(self.state, "steerd",
                               self.on_gateway(*self.wrapper, self.steerd, "--config",
                                               self.config))
        if wait:
            wait_until(self._answers,
                       lambda: f"steerd answers; its log:\n{tail(self.process.log)}")

    def wait_log(self, text, deadline=10):
        """Until steerd logged this; true."""
        return wait_until(lambda: text in self.process.log.read_text(errors="replace"),
                          f"steerd logs {text!r}", deadline)

    def _answers(self):
        self.process.check_alive()
        return self.control.exists() and self.ctl("status", check=False).returncode == 0

    def kill(self):
        self.process.kill()

    def stop(self):
        if self.process:
            self.process.stop()

    @contextlib.contextmanager
    def damaged_store(self):
        """steerd is stopped, and its database is none: gives what the file has instead. Afterwards
        steerd runs with the good one."""
        self.stop()
        good = {path: path.read_bytes() for path in self.store.parent.glob(self.store.name + "*")}
        damage = b"this is no database\n" * 500
        try:
            for path in good:
                path.unlink()
            self.store.write_bytes(damage)
            yield damage
        finally:
            self.stop()
            for path in self.store.parent.glob(self.store.name + "*"):
                path.unlink()
            for path, content in good.items():
                path.write_bytes(content)
            self.start()

    def freeze(self):
        self.process.signal(signal.SIGSTOP)

    def thaw(self):
        self.process.signal(signal.SIGCONT)

    def flush(self):
        return run(*self.on_gateway(self.steerd, "--config", self.config, "--flush"))

    def ctl(self, *words, **kwargs):
        """Run steerctl as an operator would; returns the CompletedProcess."""
        return run(self.steerctl, "--socket", self.control, *words, **kwargs)

    def ask(self, *words):
        """The same with --json, parsed."""
        return json.loads(self.ctl(*words, "--json").stdout)

    def request(self, command, **fields):
        """One request on the control socket itself; returns the answer."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(str(self.control))
            sock.sendall(json.dumps({"v": 1, "command": command, **fields}).encode() + b"\n")
            with sock.makefile() as answer:
                return json.loads(answer.readline())

    def sequence(self):
        """The number of the last event on the operators' stream."""
        return self.request("stream")["stream"]["seq"]

    def status(self):
        return self.ask("status")["status"]

    def active(self):
        """Does steerd say that it steers?"""
        return self.status()["state"] == "steering"

    def exceptions(self):
        return self.ask("exceptions")["exceptions"]

    def watch_command(self, *words):
        return [self.steerctl, "--socket", self.control, "watch", *words]

    def watch(self):
        """Collect the stream from now on, without missing anything."""
        return Watch(self.watch_command("--json", "--since", self.sequence()))

    def grant(self, tenant, *more, expires="30d", profile="skype"):
        return self.ctl("grant", tenant, "--profile", profile, "--change-request", "CR-1",
                        "--accepted-by", f"ciso@{tenant}.example", "--accept-risk",
                        "--reason", "calls", "--expires", expires, *more)

    def revoke(self, tenant, reason="test"):
        return self.ctl("revoke", tenant, "--reason", reason)
