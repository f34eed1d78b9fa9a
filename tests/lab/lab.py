# SPDX-License-Identifier: GPL-2.0-or-later
"""One lab, from set-up to removal, and what one does with it."""

import concurrent.futures
import contextlib
import json
import pathlib
import subprocess
import sys
import time

from . import topology
from .charon import Charon, kernel_has_esp
from .enforce import start_enforcement
from .flow_process import FlowProcess, Reporter
from .pki import Pki
from .steer import Steer
from .system import PATIENCE, LabError, Process, StateDir, tail, wait_until
from .topology import CLIENTS, GATEWAY6, SERVER4, SERVER6, Network

HERE = pathlib.Path(__file__).resolve().parent
PYTHON = "/usr/bin/python3"
# For programs of the standard library alone, that are started often: without looking for more.
BARE = ("-I", "-S")
STATE_DIR = "/run/tenant-steer-lab"
PREFIX = "ts-"


def quiet(_text):
    """Progress for nobody."""


class Lab:
    """build is the build directory, or None for a lab without tenant-steer."""

    def __init__(self, build=None, prefix=PREFIX, state_dir=STATE_DIR, progress=quiet):
        self.build = pathlib.Path(build).resolve() if build else None
        self.state = StateDir(state_dir)
        self.network = Network(prefix)
        self.progress = progress
        self.charons = {}
        self.clients = {}
        self.processes = []
        self.esp = None
        self.steer = None
        self.pki = None

    # Up and down

    def up(self):
        self.down()
        self.state.make()
        self.esp = "kernel" if kernel_has_esp(self.network) else "userspace"
        self.progress("network namespaces, links and the admin's routing")
        self.network.build()
        self.progress("certificates")
        self.pki = Pki(self.state.dir("pki"))
        self.pki.make()
        self.progress("servers on the internet side, SSL-enforcement stage (HAProxy)")
        self.processes.append(self._start_peer("peer", SERVER4, SERVER6, *topology.PATHS))
        self.processes.append(start_enforcement(self.network, self.state))
        self._add_gateway()
        if self.build:
            self.progress("steerd")
            self.steer.start()
        self.progress(f"gateway: charon with {self.esp} ESP"
                      + (" and tenant-tag" if self.build else ""))
        self.gateway.start()
        for client in CLIENTS:
            self.progress(f"customer {client.name} connects ({client.example})")
            self.add_client(client)
            self.connect(client.name)

    def down(self):
        """Remove what this or an earlier run left; foreign things are never touched."""
        self.state.take()
        if self.steer:
            self.steer.stop()
        for charon in self.charons.values():
            charon.stop()
        for process in self.processes:
            process.stop()
        if self.state.pids.is_dir():
            self.state.kill_recorded()
        self.network.delete()
        self.state.remove()
        self.charons, self.clients, self.processes = {}, {}, []

    def __enter__(self):
        self.up()
        return self

    def __exit__(self, *_):
        self.down()

    @property
    def gateway(self):
        return self.charons["gw"]

    @property
    def tenant_interface(self):
        """Where the customers' decrypted packets come in on the gateway."""
        return "ipsec0" if self.esp == "userspace" else "wan"

    def _start_peer(self, name, address4, address6, *paths):
        journal = self.state.path / "peer.jsonl"
        ready = len(self.arrivals("ready"))
        peer = Process(self.state, name,
                       ["ip", "netns", "exec", self.network.name("internet"), PYTHON,
                        HERE / "peer.py", self.pki.path("server.pem"), self.pki.path("server.key"),
                        journal, address4, address6, *paths])
        wait_until(lambda: peer.check_alive() or len(self.arrivals("ready")) > ready,
                   "the servers listen")
        return peer

    @contextlib.contextmanager
    def servers(self, name, address4, address6, *paths):
        """Further ones, at these addresses or by these paths."""
        new = [address for address in (address4, address6) if address not in (SERVER4, SERVER6)]
        undo = self.network.add_local("internet", *new)
        peer = self._start_peer(f"peer-{name}", address4, address6, *(paths or topology.PATHS))
        try:
            yield
        finally:
            peer.stop()
            undo()

    def _add_gateway(self):
        charon = Charon(self.network, self.state, "gw", self.esp)
        charon.use_certificates(self.pki, own="gateway")
        charon.use_example("gateway")
        if self.build:
            self.steer = Steer(self.network, self.state, self.build)
            charon.use_plugin(self.steer.plugin, self.steer.publish, self.steer.snapshot)
        else:
            charon.snippets.clear()
        self.charons["gw"] = charon

    # Customers

    def add_client(self, client, configuration=None):
        """A customer's namespace and charon; configuration(text) may adapt its swanctl.conf.

        A site connects by itself, a road warrior when it is told to.
        """
        self.network.add_client(client)
        charon = self._start_client(client, configuration)
        if client.inner4:
            charon.wait_connected()
        return charon

    def add_site(self, site):
        """A customer who can be plugged in elsewhere; nothing is configured yet, see sites.py."""
        self.network.add_site(site)
        return self._start_client(site, lambda _: "")

    def _start_client(self, client, configuration):
        charon = Charon(self.network, self.state, client.name, self.esp)
        charon.use_certificates(self.pki, own="globex" if client.name == "globex" else None)
        charon.use_example(f"clients/{client.example}")
        if configuration:
            path = charon.swanctl_dir / "swanctl.conf"
            path.write_text(configuration(path.read_text()))
        self.charons[client.name] = charon
        self.clients[client.name] = client
        charon.start()
        return charon

    def connect(self, name):
        """Bring the tunnel up if it is not."""
        if "gateway" not in self.charons[name].established():
            self.charons[name].initiate()

    def connected(self, name):
        """Do both ends have the tunnel? One end may not know yet that the other died."""
        return "gateway" in self.charons[name].established() and \
            f"{self.clients[name].outer4}[" in self.gateway.swanctl("--list-sas").stdout

    def disconnect(self, name):
        charon = self.charons[name]
        charon.terminate()
        wait_until(lambda: "gateway" not in charon.established(), f"{name} is disconnected")

    def reconnect(self, name):
        self.disconnect(name)
        self.charons[name].initiate()

    def move(self, name, address=None):
        """Give the customer's end another underlay address, or its own again, and wait until the
        tunnel has followed (MOBIKE). charon tries all ways to its peer and takes the one that answers
        first, so it is left none by IPv6."""
        address = address or self.clients[name].outer4
        with self.network.no_route(name, GATEWAY6):
            self.network.readdress(name, "eth0", address)
            wait_until(lambda: f"{address}[" in self.gateway.swanctl("--list-sas").stdout,
                       lambda: f"the tunnel of {name} has moved to {address}; its log:\n"
                       f"{tail(self.charons[name].log)}", 30)

    def configure_gateway(self, text):
        """Load this swanctl.conf, which may include swanctl-shipped.conf; returns the undo."""
        config = self.gateway.swanctl_dir / "swanctl.conf"
        shipped = config.read_text()
        (config.parent / "swanctl-shipped.conf").write_text(shipped)

        self.gateway.configure(text)
        return lambda: self.gateway.configure(shipped)

    def source(self, name, family=4):
        """The inner address that a customer's probes come from."""
        client = self.clients[name]
        fixed = client.inner4 if family == 4 else client.inner6
        return fixed or self.virtual_ip(name, family)

    def virtual_ip(self, name, family=4):
        listed = self.network.ip(name, "-j", f"-{family}", "address", "show", "scope", "global")
        pool = "198.18.3." if family == 4 else "2001:db8:a3:"
        for interface in json.loads(listed.stdout):
            for address in interface.get("addr_info", []):
                if address.get("local", "").startswith(pool):
                    return address["local"]
        raise LabError(f"{name} has no virtual IPv{family} address")

    # Traffic

    def probe(self, name, kind, family=4, timeout=None, source=None, target=None, proxy=None):
        """target is another address than the server's; proxy that of an explicit proxy; timeout in
        seconds, by default what any answer should be there in."""
        timeout = timeout or 5.0 * PATIENCE
        done = self.network.exec(
            name, PYTHON, *BARE, HERE / "probe.py", kind,
            "--source", source or self.source(name, family),
            "--target", target or (SERVER4 if family == 4 else SERVER6), "--timeout", timeout,
            "--tag", name, *(["--proxy", proxy] if proxy else []), timeout=timeout * 4 + 10)
        return json.loads(done.stdout)

    def verdict(self, name, kind, family=4, timeout=None, **more):
        """Outcome and path of one probe."""
        result = self.probe(name, kind, family, timeout, **more)
        return result["outcome"], result["path"]

    def verdicts(self, kind, *probes):
        """The same for several (name, family) at the same time, in their order."""
        with concurrent.futures.ThreadPoolExecutor(len(probes)) as pool:
            return list(pool.map(lambda probe: self.verdict(probe[0], kind, probe[1]), probes))

    def wait_path(self, name, path, deadline=10.0, **more):
        """Until the customer's port 443 that is not TLS takes this path; None: is not answered."""
        return wait_until(lambda: self.probe(name, "nontls443", timeout=1.0, **more)["path"] == path
                          or None, f"{name} takes the path {path}", deadline)

    def flow(self, name, family=4, port=0, tls=False, source=None, target=None, proxy=None):
        """Start a long-lived connection on port 443."""
        return FlowProcess(["ip", "netns", "exec", self.network.name(name), PYTHON,
                            HERE / "flow.py", "--source", source or self.source(name, family),
                            "--target", target or (SERVER4 if family == 4 else SERVER6),
                            "--port", port, *(["--tls"] if tls else []),
                            *(["--proxy", proxy] if proxy else [])])

    def transfer(self, name, total, seconds, family=4):
        """Start a transfer of at least so many bytes that takes at least so many seconds."""
        return FlowProcess(["ip", "netns", "exec", self.network.name(name), PYTHON,
                            HERE / "transfer.py", "--source", self.source(name, family),
                            "--target", SERVER4 if family == 4 else SERVER6,
                            "--bytes", total, "--seconds", seconds])

    def stream(self, name, rate):
        """Start a stream of that many packets a second, as soon as the bypass answers."""
        return Reporter(["ip", "netns", "exec", self.network.name(name), PYTHON,
                         HERE / "stream.py", "--source", self.source(name),
                         "--target", SERVER4, "--rate", rate])

    def capture(self, role, interface, file):
        """Note when packets to port 443 come in there; it listens when this returns."""
        capture = Reporter(["ip", "netns", "exec", self.network.name(role), PYTHON,
                            HERE / "capture.py", interface, file])
        capture.wait_first()
        return capture

    def spawn(self, name, *command):
        """A command in a customer's namespace; returns the Popen, with its output in a pipe."""
        words = ["ip", "netns", "exec", self.network.name(name), *command]
        return subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE, text=True,
                                stdin=subprocess.DEVNULL)

    # Exceptions

    def grant_and_wait(self, tenant, customer=None):
        """Grant an exception and wait until the far side sees it."""
        self.steer.grant(tenant)
        self.wait_path(customer or tenant, "bypass")

    def revoke_all(self):
        for tenant in {exception["tenant"] for exception in self.steer.exceptions()}:
            self.steer.ctl("revoke", tenant, "--reason", "test", check=False)  # one may just end
        wait_until(lambda: not self.steer.exceptions(), "no exception is in force", 5)

    def wait_synchronised(self, deadline=15):
        """Until steerd steers and knows as many child SAs as charon has. One that charon does not get rid
        of after a rekey is steerd's, too, as long as the kernel has it."""
        wait_until(self.steer.active, "steerd steers", deadline)
        patient = time.monotonic() + 8 * PATIENCE

        def agree():
            count = self.steer.status()["child_sas"]
            return count == self.gateway.count_child_sas() or (
                time.monotonic() > patient and count == self.gateway.count_kept_child_sas())

        wait_until(agree, lambda: "steerd knows what charon has:\n" + self.both_sides(), deadline)

    def both_sides(self):
        """The child SAs as steerd and as charon have them."""
        return json.dumps(self.steer.ask("tenants"), indent=1) + "\n" + \
            self.gateway.swanctl("--list-sas").stdout

    # What the far side saw

    def arrivals(self, event="arrived", path=None):
        journal = self.state.path / "peer.jsonl"
        lines = journal.read_text().splitlines() if journal.exists() else []
        entries = (json.loads(line) for line in lines if line.endswith("}"))
        return [entry for entry in entries
                if entry["event"] == event and path in (None, entry.get("path"))]

    def bypassed_packets(self, source=None):
        """Packets to port 443 that the bypass router received, of one source or of all."""
        if source is None:
            listed = self.network.exec("bypass", "nft", "-j", "list", "counter", "inet", "bypass",
                                       "arrived").stdout
            return next(o["counter"]["packets"] for o in json.loads(listed)["nftables"]
                        if "counter" in o)
        name = "sources6" if ":" in source else "sources4"
        listed = self.network.exec("bypass", "nft", "-j", "list", "set", "inet", "bypass",
                                   name).stdout
        found = next(o["set"] for o in json.loads(listed)["nftables"] if "set" in o)
        for element in found.get("elem", []):
            if element["elem"]["val"] == source:
                return element["elem"]["counter"]["packets"]
        return 0

    def bypass_is_quiet(self, seconds=0.5):
        """Has the bypass router received nothing for so long?"""
        before = self.bypassed_packets()
        try:
            wait_until(lambda: self.bypassed_packets() != before, "", seconds)
        except LabError:
            return True
        return False


def progress_to_stderr(text):
    print(text, file=sys.stderr, flush=True)
