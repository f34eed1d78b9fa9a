# SPDX-License-Identifier: GPL-2.0-or-later
"""The hunt's lab: namespaces, charons, steerd behind a relay, senders and next hops."""

import fcntl
import os
import pathlib
import select
import selectors
import subprocess
import threading

from lab.charon import Charon, kernel_has_esp
from lab.steer import Steer
from lab.system import PATIENCE, LabError, Process, StateDir, run, wait_until
from lab.topology import GATEWAY4, Network

from . import packet, settings
from .vici import Vici

PREFIX = "tsh-"
STATE_DIR = "/run/tenant-steer-hunt"
TESTS = pathlib.Path(__file__).resolve().parents[1]
PYTHON = "/usr/bin/python3"
PIPE_SIZE = 1 << 20
START_SECONDS = 1.0
# Flows of one packet would fill the table of a small machine.
CONNTRACK = {"net.netfilter.nf_conntrack_tcp_timeout_syn_sent": 5}
KEEP_ADDRESSES = {"net.ipv6.conf.all.keep_addr_on_down": 1,
                  "net.ipv4.conf.all.promote_secondaries": 1}
BLOCK_PRIORITY = 4000000


class Batch:
    """An `ip -batch` that waits for commands: nothing is forked for each."""

    def __init__(self, namespace):
        self.popen = subprocess.Popen(["ip", "-n", namespace, "-force", "-batch", "-"],
                                      stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                      stderr=subprocess.DEVNULL)

    def run(self, *commands):
        self.popen.stdin.write("".join(line + "\n" for line in commands).encode())
        self.popen.stdin.flush()

    def close(self):
        self.popen.stdin.close()
        self.popen.wait(10)


class Piped(Process):
    """A process of the hunt itself, in Python, with pipes to standard input and output."""

    def __init__(self, state, name, namespace, *command):
        self.state, self.name = state, name
        self.log = state.dir("log") / f"{name}.log"
        words = ["ip", "netns", "exec", namespace, PYTHON, "-m", *command]
        with open(self.log, "ab") as log:
            self.popen = subprocess.Popen([str(word) for word in words], stdin=subprocess.PIPE,
                                          stdout=subprocess.PIPE, stderr=log, cwd=TESTS,
                                          start_new_session=True)
        fcntl.fcntl(self.popen.stdout, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        state.record(name, self.popen.pid)

    def tell(self, line):
        self.popen.stdin.write(line.encode() + b"\n")
        self.popen.stdin.flush()


class World:
    """build: directory of plugin and steerctl; steerd: another steerd than the one built there."""

    def __init__(self, build, plan, period, steerd=None, mode="auto"):
        self.build = pathlib.Path(build).resolve()
        self.plan = plan
        self.period = period
        self.members = settings.members(plan)
        self.state = StateDir(STATE_DIR)
        self.network = Network(PREFIX)
        self.clients = [settings.lab_client(n) for n in range(plan.clients)]
        self.charons, self.vicis, self.batches = {}, {}, {}
        self.senders, self.hops = [], {}
        self.starting = {}  # name of a charon -> thread that starts it
        self.relay = self.steer = self.esp = None
        self.steerd, self.mode = steerd, mode
        # How long steerd or the relay may take to be back.
        self.start_allowance = round(START_SECONDS * PATIENCE * 1e9)
        self.selector = selectors.DefaultSelector()
        self.rests = {}

    # Up and down

    def up(self):
        self.down()
        self.state.make()
        self.esp = self._choose_esp()
        self.network.build()
        for role in ("bypass", "enforce"):
            # Packets end here; nothing but the next hop itself answers.
            self.network.sysctl(role, {"net.ipv4.ip_forward": 0,
                                       "net.ipv6.conf.all.forwarding": 0})
        self.network.sysctl("gw", KEEP_ADDRESSES)
        self.batches["gw"] = Batch(self.network.name("gw"))
        self.batches["wan"] = Batch(self.network.name("wan"))
        self._start_hops()
        self._add_gateway()
        for number in range(self.plan.clients):
            self._add_client(number)
        self._start_all_charons()
        # By now something has loaded the kernel's connection tracking.
        self.network.sysctl("gw", CONNTRACK)
        self._start_senders()

    def _choose_esp(self):
        has = kernel_has_esp(self.network)
        if self.mode == "sa" and not has:
            raise LabError("SA mode needs a kernel with ESP; see tests/vm")
        return "userspace" if self.mode == "address" or not has else "kernel"

    def down(self):
        self.state.take()
        for thread in self.starting.values():
            thread.join()
        for batch in self.batches.values():
            batch.close()
        for process in (*self.senders, *self.hops.values(), self.relay):
            if process:
                process.popen.stdin.close()
                process.stop(5)
        if self.steer:
            self.steer.stop()
        for charon in self.charons.values():
            charon.stop()
        if self.state.pids.is_dir():
            self.state.kill_recorded()
        self.network.delete()
        self.state.remove()

    def _start_hops(self):
        for role in ("bypass", "enforce"):
            hop = Piped(self.state, f"hop-{role}", self.network.name(role), "hunt.nexthop", "gw")
            os.set_blocking(hop.popen.stdout.fileno(), False)
            self.hops[role] = hop
            self.rests[role] = b""
            self.selector.register(hop.popen.stdout, selectors.EVENT_READ, role)

    def _add_gateway(self):
        charon = Charon(self.network, self.state, "gw", self.esp)
        (charon.swanctl_dir / "swanctl.conf").write_text(settings.gateway_swanctl(self.plan))
        self.steer = Steer(self.network, self.state, self.build)
        if self.steerd:
            self.steer.steerd = pathlib.Path(self.steerd).resolve()
            # ThreadSanitizer of gcc 12 cannot work where addresses are drawn from 32 bits.
            self.steer.wrapper = ("setarch", "-R")
        charon.use_plugin(self.steer.plugin, self.steer.publish, self.steer.snapshot)
        charon.extra += (settings.LOGGING + settings.TIMES + settings.MANY_AT_ONCE
                         + settings.IDENTITY)
        self.charons["gw"] = charon
        self.vicis["gw"] = Vici(charon.dir / "charon.vici")
        self.start_relay()
        self.start_steerd()

    def _add_client(self, number):
        client = self.clients[number]
        self.network.add_client(client)
        self.network.sysctl(client.name, KEEP_ADDRESSES)
        mine = [member for member in self.members if member.client == number]
        charon = Charon(self.network, self.state, client.name, self.esp)
        (charon.swanctl_dir / "swanctl.conf").write_text(settings.client_swanctl(mine))
        charon.extra = settings.LOGGING + settings.TIMES + settings.NO_ROUTES
        self.charons[client.name] = charon
        self.vicis[client.name] = Vici(charon.dir / "charon.vici")
        self.batches[client.name] = Batch(self.network.name(client.name))
        # The answers of the next hops are for nobody's TCP.
        self.network.nft(client.name, "table inet quiet { chain input { type filter hook input "
                                      "priority filter; tcp sport 443 drop; }; }")
        if self.esp == "kernel":
            self._block_plaintext(client.name)

    def _block_plaintext(self, role):
        """What finds no policy of a tunnel does not leave."""
        for source, target in (("198.18.0.0/15", "0.0.0.0/0"), ("2001:db8:a0::/44", "::/0")):
            self.network.ip(role, "xfrm", "policy", "add", "src", source, "dst", target, "dir",
                            "out", "priority", BLOCK_PRIORITY, "action", "block")
        self.network.ip(role, "route", "add", "default", "via", GATEWAY4)
        self.network.ip(role, "-6", "route", "add", "default", "dev", "eth0")

    def _start_all_charons(self):
        for role in self.charons:
            self.start_charon(role)
        self.wait_started()

    def _start_senders(self):
        for number, client in enumerate(self.clients):
            words = [f"{member.number}@" + ",".join(settings.addresses(self.plan, member))
                     for member in self.members if member.client == number]
            self.senders.append(Piped(self.state, f"sender-{client.name}",
                                      self.network.name(client.name), "hunt.sender", self.period,
                                      *words))

    # Daemons, which may be killed at any time

    def start_charon(self, role):
        """In the background: it takes a while, and the hunt goes on."""
        thread = threading.Thread(target=self._start_charon, args=(role,))
        self.starting[role] = thread
        thread.start()

    def _start_charon(self, role):
        charon = self.charons[role]
        self.vicis[role].close()
        charon.start()
        if role != "gw" and self.esp == "userspace":
            # Without an address that stays, the route would go with the last virtual IP.
            self.network.ip(role, "address", "replace", f"{settings.STAYS}/32", "dev", "ipsec0",
                            "scope", "host")
            for family in ("-4", "-6"):
                self.network.ip(role, family, "route", "replace", "default", "dev", "ipsec0")

    def started(self, role):
        return not self.starting[role].is_alive() and self.charons[role].process.alive()

    def wait_started(self):
        for role, thread in self.starting.items():
            thread.join()
            if not self.charons[role].process or not self.charons[role].process.alive():
                raise LabError(f"charon of {role} does not start")

    def start_relay(self):
        self.relay = Piped(self.state, "relay", self.network.name("gw"), "hunt.relay",
                           self.steer.publish, self.steer.relayed)

    def losses(self):
        """When the relay had lost all that it was told to lose, for each time since asked."""
        if not select.select([self.relay.popen.stdout], [], [], 0)[0]:
            return []
        return [int(word) for word in os.read(self.relay.popen.stdout.fileno(), 4096).split()]

    def start_steerd(self):
        self.steer.start(wait=False, publish=self.steer.relayed)

    # What the next hops saw

    def arrivals(self, timeout=0):
        """(path, Packet) of everything that was reported until now, waiting for it if told to."""
        for key, _ in self.selector.select(timeout):
            data = self.rests[key.data] + (key.fileobj.read() or b"")
            whole = len(data) - len(data) % packet.REPORT.size
            self.rests[key.data] = data[whole:]
            for at in range(0, whole, packet.REPORT.size):
                yield key.data, packet.unpack(data[at:at + packet.REPORT.size])

    def on_gateway(self, *command, **kwargs):
        return run("ip", "netns", "exec", self.network.name("gw"), *command, check=False, **kwargs)

    def dropped(self):
        """Packets that the next hops were too slow to look at; ends them."""
        total = 0
        for hop in self.hops.values():
            hop.popen.stdin.close()
            wait_until(lambda h=hop: not h.alive(), "the next hop ends")
            total += int(hop.log.read_text(errors="replace").split()[-1])
        return total
