# SPDX-License-Identifier: GPL-2.0-or-later
"""Real charons, each in its namespace with its own configuration, log and vici socket."""

import pathlib
import re
import shutil

from .system import LabError, Process, run, tail, wait_until

CHARON = "/usr/sbin/charon-systemd"
PLUGIN_DIR = "/usr/lib/ipsec/plugins"
PLUGIN = "libstrongswan-tenant-tag.so"
EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "swanctl-examples"

# Only what the lab needs: some of Debian's plugins open sockets in /run, and all charons of the
# lab share that directory.
PLUGINS = ("aes", "sha1", "sha2", "md5", "hmac", "kdf", "random", "nonce", "x509", "constraints",
           "revocation", "pubkey", "pem", "pkcs1", "pkcs8", "openssl", "gcm", "curve25519", "gmp",
           "kernel-netlink", "socket-default", "vici", "updown", "eap-identity", "eap-mschapv2",
           "eap-radius")

# What swanctl lists: "gateway: #1, ESTABLISHED ..." and "  internet: #2, reqid 1, INSTALLED ...".
LISTED = {"ike": "^{}: #(\\d+), ESTABLISHED", "child": "^  {}: #(\\d+), .*INSTALLED"}
NAMES = {"ike": "gateway", "child": "internet"}  # as the shipped customers call them

# All that swanctl needs to read keys and certificates: by default it loads all it finds, each time.
SWANCTL_PLUGINS = "pem pkcs1 pkcs8 x509 pubkey openssl random"

# charon loads plugins from one compiled-in directory only. In the mount namespace that `ip netns
# exec` makes, a directory with ours beside the installed ones takes its place: nothing is
# installed on the machine.
WITH_PLUGIN_DIR = f'mount --bind "$1" {PLUGIN_DIR} && shift && exec "$@"'
SPI_IN = re.compile(r"^ +in +([0-9a-f]{8})", re.MULTILINE)


def kernel_has_esp(network):
    """Try the kernel itself: configuration files and module lists both can be wrong."""
    run("ip", "netns", "add", network.name("espcheck"))
    try:
        added = network.ip("espcheck", "xfrm", "state", "add", "src", "192.0.2.1",
                           "dst", "192.0.2.2", "proto", "esp", "spi", "0xc0000001",
                           "mode", "tunnel", "aead", "rfc4106(gcm(aes))",
                           "0x" + "11" * 20, 128, check=False)
    finally:
        run("ip", "netns", "delete", network.name("espcheck"))
    return added.returncode == 0


class Charon:
    """One charon; role is also the name of its namespace."""

    def __init__(self, network, state, role, esp):
        self.network = network
        self.state = state
        self.role = role
        self.esp = esp
        self.dir = state.dir(role)
        self.swanctl_dir = state.dir(role, "swanctl")
        self.log = self.dir / "charon.log"
        self.snippets = []
        self.extra = ""
        self.plugin_dir = None
        self.wrapper = ()  # valgrind and its options, for example
        self.process = None

    @property
    def uri(self):
        return f"unix://{self.dir}/charon.vici"

    def use_example(self, directory):
        """Load a shipped configuration, byte for byte."""
        source = EXAMPLES / directory
        shutil.copy(source / "swanctl.conf", self.swanctl_dir / "swanctl.conf")
        self.snippets.append(source / "strongswan.conf")

    def use_certificates(self, pki, own=None):
        for kind in ("x509", "x509ca", "private"):
            (self.swanctl_dir / kind).mkdir(exist_ok=True)
        shutil.copy(pki.path("ca.pem"), self.swanctl_dir / "x509ca")
        if own:
            shutil.copy(pki.path(f"{own}.pem"), self.swanctl_dir / "x509")
            shutil.copy(pki.path(f"{own}.key"), self.swanctl_dir / "private")

    def use_plugin(self, library, publish, snapshot):
        """Load tenant-tag from where it was built; only its sockets differ from the example."""
        self.plugin_dir = self.dir / "plugins"
        shutil.copytree(PLUGIN_DIR, self.plugin_dir, dirs_exist_ok=True)
        shutil.copy(library, self.plugin_dir / PLUGIN)
        self.extra = ("charon { plugins { tenant-tag {\n"
                      f"\tpublish = {publish}\n\tsnapshot = {snapshot}\n}} }} }}\n")

    def write_settings(self):
        """The lab's own strongswan.conf, which includes the shipped snippet. BEET mode has a private
        number, which charon only understands of a peer that says that it is strongSwan."""
        plugins = PLUGINS if self.esp == "kernel" else ("kernel-libipsec",) + PLUGINS
        loads = "".join(f"\t\t{name} {{ load = yes }}\n" for name in plugins)
        includes = "".join(f"include {snippet}\n" for snippet in self.snippets)
        (self.dir / "strongswan.conf").write_text(
            f"charon {{\n\tload_modular = yes\n\tsend_vendor_id = yes\n\tplugins {{\n{loads}"
            f"\t\tvici {{ socket = {self.uri} }}\n\t}}\n"
            f"\tfilelog {{ lab {{\n\t\tpath = {self.log}\n\t\tappend = yes\n"
            "\t\tflush_line = yes\n\t\ttime_format = %H:%M:%S\n\t\tdefault = 1\n\t} }\n}\n"
            f"swanctl {{\n\tload = {SWANCTL_PLUGINS}\n}}\n"
            f"{includes}{self.extra}")

    def start(self):
        self.write_settings()
        (self.dir / "charon.vici").unlink(missing_ok=True)
        command = ["ip", "netns", "exec", self.network.name(self.role)]
        if self.plugin_dir:
            command += ["sh", "-c", WITH_PLUGIN_DIR, "sh", self.plugin_dir]
        self.process = Process(self.state, f"charon-{self.role}", command + [*self.wrapper, CHARON],
                               env={"STRONGSWAN_CONF": self.dir / "strongswan.conf"})
        wait_until(self._answers,
                   lambda: f"charon of {self.role} answers; its log:\n{tail(self.log)}")
        self.swanctl("--load-all")

    def _answers(self):
        self.process.check_alive()
        return (self.dir / "charon.vici").exists() and \
            self.swanctl("--version", "--daemon", check=False).returncode == 0

    def kill(self):
        self.process.kill()

    def stop(self):
        if self.process:
            self.process.stop()

    def swanctl(self, command, *words, **kwargs):
        return self.network.exec(self.role, "env", f"SWANCTL_DIR={self.swanctl_dir}",
                                 f"STRONGSWAN_CONF={self.dir}/strongswan.conf",
                                 "swanctl", command, *words, "--uri", self.uri, **kwargs)

    def established(self):
        """Names of the connections that have an installed child SA."""
        listed = self.swanctl("--list-sas").stdout
        name, found = None, []
        for line in listed.splitlines():
            if line and not line[0].isspace():
                name = line.split(":")[0]
            elif ", INSTALLED," in line:
                found.append(name)
        return found

    def list_sas(self):
        """What swanctl prints of the IKE_SAs and their child SAs, by name of the connection."""
        found = {}
        for text in re.split(r"^(?=\S)", self.swanctl("--list-sas").stdout, flags=re.MULTILINE):
            name = text.partition(":")[0]
            found[name] = found.get(name, "") + text
        return found

    def spis_in(self, name):
        """The numbers of the SAs by which this connection's packets come."""
        return {int(spi, 16) for spi in SPI_IN.findall(self.list_sas().get(name, ""))}

    def packets_from(self, source):
        """How many packets of this peer each of the kernel's states has seen, by protocol and SPI."""
        listed = self.network.ip(self.role, "-s", "xfrm", "state", "list", "src", source).stdout
        found = {}
        for state in re.split(r"^(?=src )", listed, flags=re.MULTILINE)[1:]:
            protocol, spi = re.search(r"proto (\S+) spi (0x[0-9a-f]+)", state).groups()
            found[protocol, int(spi, 16)] = int(re.search(r"(\d+)\(packets\)", state)[1])
        return found

    def count_child_sas(self):
        """Those that take packets: with IKEv1, one that was rekeyed stays until it expires."""
        return len(re.findall(r", reqid \d+, (?:INSTALLED|REKEYED),",
                              self.swanctl("--list-sas").stdout))

    def count_kept_child_sas(self):
        """Those and what charon keeps besides in the kernel, for seconds if nothing is wrong."""
        return len(re.findall(r", reqid \d+, (?!CREATED|ROUTED|DESTROYING)[A-Z]+,",
                              self.swanctl("--list-sas").stdout))

    def configure(self, text):
        """Load this swanctl.conf instead of the one before."""
        (self.swanctl_dir / "swanctl.conf").write_text(text)
        self.swanctl("--load-all")

    def set_options(self, text):
        """Give the running charon these lines of strongswan.conf besides the lab's."""
        self.extra = text
        self.write_settings()
        self.swanctl("--reload-settings")

    def current_ids(self, what, name=None):
        """Unique ids of the IKE or child SAs ("ike", "child") of this name that are in use."""
        pattern = LISTED[what].format(re.escape(name or NAMES[what]))
        return set(re.findall(pattern, self.swanctl("--list-sas").stdout, re.MULTILINE))

    def rekey(self, what, name=None, *options, deadline=10):
        """Rekey and wait until only the new one is left."""
        name = name or NAMES[what]
        before = self.current_ids(what, name)
        self.swanctl("--rekey", f"--{what}", name, *options)

        def rekeyed():
            now = self.current_ids(what, name)
            return now and not now & before

        wait_until(rekeyed, f"{what} SA {name} of {self.role} is rekeyed", deadline)

    def logged(self, pattern):
        """How often this was logged."""
        return len(re.findall(pattern, self.log.read_text(errors="replace")))

    def initiate(self, child="internet", timeout=20):
        done = self.swanctl("--initiate", "--child", child, "--timeout", timeout, check=False)
        if done.returncode != 0:
            raise LabError(f"{self.role} cannot connect: {done.stdout[-1500:]}{done.stderr}")

    def terminate(self):
        """Leave at once, without waiting for an answer of the other side."""
        self.swanctl("--terminate", "--ike", "gateway", "--force", check=False)

    def wait_connected(self, deadline=20):
        wait_until(lambda: "gateway" in self.established(),
                   lambda: f"{self.role} is connected; its log:\n{tail(self.log)}", deadline)
