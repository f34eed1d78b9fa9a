# SPDX-License-Identifier: GPL-2.0-or-later
"""Real charons, each in its namespace with its own configuration, log and vici socket."""

import pathlib
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
           "kernel-netlink", "socket-default", "vici", "updown", "eap-identity", "eap-mschapv2")

# charon loads plugins from one compiled-in directory only. In the mount namespace that `ip netns
# exec` makes, a directory with ours beside the installed ones takes its place: nothing is
# installed on the machine.
WITH_PLUGIN_DIR = f'mount --bind "$1" {PLUGIN_DIR} && shift && exec "$@"'


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
        """The lab's own strongswan.conf, which includes the shipped snippet."""
        plugins = PLUGINS if self.esp == "kernel" else ("kernel-libipsec",) + PLUGINS
        loads = "".join(f"\t\t{name} {{ load = yes }}\n" for name in plugins)
        includes = "".join(f"include {snippet}\n" for snippet in self.snippets)
        (self.dir / "strongswan.conf").write_text(
            f"charon {{\n\tload_modular = yes\n\tplugins {{\n{loads}"
            f"\t\tvici {{ socket = {self.uri} }}\n\t}}\n"
            f"\tfilelog {{ lab {{\n\t\tpath = {self.log}\n\t\tappend = yes\n"
            "\t\tflush_line = yes\n\t\ttime_format = %H:%M:%S\n\t\tdefault = 1\n\t} }\n}\n"
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

    def count_child_sas(self):
        return self.swanctl("--list-sas").stdout.count(", INSTALLED,")

    def initiate(self, timeout=20):
        done = self.swanctl("--initiate", "--child", "internet", "--timeout", timeout, check=False)
        if done.returncode != 0:
            raise LabError(f"{self.role} cannot connect: {done.stdout[-1500:]}{done.stderr}")

    def terminate(self):
        """Leave at once, without waiting for an answer of the other side."""
        self.swanctl("--terminate", "--ike", "gateway", "--force", check=False)

    def wait_connected(self, deadline=20):
        wait_until(lambda: "gateway" in self.established(),
                   lambda: f"{self.role} is connected; its log:\n{tail(self.log)}", deadline)
