# SPDX-License-Identifier: GPL-2.0-or-later
"""The network: namespaces, links, addresses, routes. Documentation addresses only.

    acme, globex, roadwarrior --wan bridge-- gw --enforce--> HAProxy --+
                                             |----bypass---> router --+--> internet
                                             +----direct--------------+

The servers' addresses are the same whichever way one comes; the server side listens on each
interface separately (from_enforce, from_bypass, from_direct), so that an answer names the way.
"""

import contextlib
import json
from dataclasses import dataclass

from .system import run

GATEWAY4, GATEWAY6 = "192.0.2.1", "2001:db8:1::1"
SERVER4, SERVER6 = "203.0.113.10", "2001:db8:443::10"
# Servers of their own, started where a test wants them: another one, and one with private addresses.
OTHER4, OTHER6 = "203.0.113.20", "2001:db8:443::20"
PRIVATE4, PRIVATE6 = "10.99.0.10", "fd00:99::10"
# An explicit proxy of the enforcement stage's; on the bypass path another one answers.
PROXY4, PROXY6, PROXY_PORT = "203.0.113.80", "2001:db8:443::80", 80
# A router that translates addresses, and what customers behind it are given.
NAT4, NAT_INSIDE4, NAT_MAC = "192.0.2.200", "198.51.100.1", "02:00:00:00:00:01"
TENANTS4, TENANTS6 = "198.18.0.0/22", "2001:db8:a0::/44"
PATHS = ("enforce", "bypass", "direct")
BYPASS_VIA = ("198.19.2.2", "2001:db8:f2::2")

# The admin's own routing on the gateway, which steerd must leave alone.
ADMIN_RULE_PRIORITY = 10000
ADMIN_TABLE = 100
# By number: a small system has no /etc/protocols.
IPPROTO_TCP = 6

SYSCTLS = {
    "net.ipv6.conf.all.accept_dad": 0,
    "net.ipv6.conf.default.accept_dad": 0,
    "net.ipv6.conf.all.accept_ra": 0,
    "net.ipv6.conf.default.accept_ra": 0,
    "net.ipv4.conf.all.rp_filter": 0,
    "net.ipv4.conf.default.rp_filter": 0,
    # A second address of one network outlives the first.
    "net.ipv4.conf.all.promote_secondaries": 1,
}
FORWARDING = {"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1}

ADMIN_NFT = """
table inet admin
delete table inet admin
table inet admin {
	chain nat {
		type nat hook postrouting priority srcnat; policy accept;
		oifname "direct" masquerade
	}
	# As on any gateway whose replies come from other machines: what the kernel has to say about
	# a reply that does not fit into the tunnel would not find back to the sender.
	chain clamp {
		type filter hook forward priority mangle; policy accept;
		tcp flags & (syn | rst) == syn tcp option maxseg size set 1300
	}
}
"""

NAT_NFT = """
table inet nat {
	chain nat {
		type nat hook postrouting priority srcnat; policy accept;
		oifname "wan" masquerade
	}
}
"""

BYPASS_NFT = """
table inet bypass
delete table inet bypass
table inet bypass {
	counter arrived { }
	set sources4 { type ipv4_addr; size 65536; flags dynamic; counter; }
	set sources6 { type ipv6_addr; size 65536; flags dynamic; counter; }
	chain count {
		type filter hook prerouting priority raw; policy accept;
		iifname "gw" tcp dport 443 counter name arrived
		iifname "gw" tcp dport 443 update @sources4 { ip saddr }
		iifname "gw" tcp dport 443 update @sources6 { ip6 saddr }
	}
	chain nat {
		type nat hook postrouting priority srcnat; policy accept;
		oifname "internet" masquerade
	}
}
"""


@dataclass(frozen=True)
class Client:
    """A customer's side: its place on the underlay and the hosts behind it."""

    name: str
    host: int                 # last part of the underlay addresses
    example: str              # directory below swanctl-examples/clients
    inner4: str = ""          # a host of the site; road warriors get theirs from the gateway
    inner6: str = ""

    @property
    def outer4(self):
        return f"192.0.2.{self.host}"

    @property
    def outer6(self):
        return f"2001:db8:1::{self.host}"

    @property
    def hosts(self):
        """Addresses behind it."""
        return tuple(address for address in (self.inner4, self.inner6) if address)

    @property
    def inside4(self):
        """Its address when it is plugged in behind the NAT router."""
        return f"198.51.100.{self.host}"


ACME = Client("acme", 11, "site-psk", "198.18.1.10", "2001:db8:a1::10")
GLOBEX = Client("globex", 12, "site-certificate", "198.18.2.10", "2001:db8:a2::10")
ROADWARRIOR = Client("roadwarrior", 13, "roadwarrior-eap-mschapv2")
CLIENTS = (ACME, GLOBEX, ROADWARRIOR)


@dataclass(frozen=True)
class Link:
    """A point-to-point link; the first end has .1, the second .2."""

    first: str
    first_if: str
    second: str
    second_if: str
    net: int

    def addresses(self, end):
        return f"198.19.{self.net}.{end}/30", f"2001:db8:f{self.net}::{end}/64"

    def address(self, end):
        return tuple(a.partition("/")[0] for a in self.addresses(end))


TO_ENFORCE = Link("gw", "enforce", "enforce", "gw", 1)
TO_BYPASS = Link("gw", "bypass", "bypass", "gw", 2)
DIRECT = Link("gw", "direct", "internet", "from_direct", 3)
FROM_ENFORCE = Link("enforce", "internet", "internet", "from_enforce", 11)
FROM_BYPASS = Link("bypass", "internet", "internet", "from_bypass", 12)
LINKS = (TO_ENFORCE, TO_BYPASS, DIRECT, FROM_ENFORCE, FROM_BYPASS)
# Built where a test wants them: a path with a stage of its own, see second.py.
TO_SECOND = Link("gw", "second", "second", "gw", 4)
FROM_SECOND = Link("second", "internet", "internet", "from_second", 14)

FIXED = ("wan", "gw", "enforce", "bypass", "internet")


class Network:
    """The namespaces of one lab; names are prefix + role."""

    def __init__(self, prefix):
        self.prefix = prefix

    def name(self, role):
        return self.prefix + role

    def ip(self, role, *words, **kwargs):
        return run("ip", "-n", self.name(role), *words, **kwargs)

    def exec(self, role, *command, **kwargs):
        return run("ip", "netns", "exec", self.name(role), *command, **kwargs)

    def nft(self, role, text):
        return self.exec(role, "nft", "-f", "-", input=text)

    def sysctl(self, role, values):
        self.exec(role, "sysctl", "-qw", *(f"{key}={value}" for key, value in values.items()))

    def namespaces(self):
        listed = run("ip", "netns", "list").stdout.splitlines()
        names = [line.split()[0] for line in listed if line]
        return [name for name in names if name.startswith(self.prefix)]

    def delete(self):
        for name in self.namespaces():
            run("ip", "netns", "delete", name)

    def build(self):
        for role in FIXED:
            self._add_namespace(role)
        self.ip("wan", "link", "add", "br0", "type", "bridge")
        self.ip("wan", "link", "set", "br0", "up")
        self._join_wan("gw", "wan", GATEWAY4, GATEWAY6)
        for link in LINKS:
            self._connect(link)
        self._route_gateway()
        self._route_stage("enforce", FROM_ENFORCE, TO_ENFORCE)
        self._route_stage("bypass", FROM_BYPASS, TO_BYPASS)
        self._servers()

    def add_client(self, client):
        self._add_namespace(client.name)
        self._join_wan(client.name, "eth0", client.outer4, client.outer6)
        for address in client.hosts:
            self.ip(client.name, "address", "add", address, "dev", "lo")

    def add_nat(self):
        """A router with one address on the underlay and room for customers behind it."""
        self._add_namespace("nat")
        self.sysctl("nat", FORWARDING)
        self._join_wan("nat", "wan", NAT4)
        # An address of its own: otherwise it is the lowest of its ports', and one more customer may change
        # it under the others, who go on sending to the old one.
        self.ip("nat", "link", "add", "name", "inside", "address", NAT_MAC, "type", "bridge")
        self.ip("nat", "link", "set", "inside", "up")
        self.ip("nat", "address", "add", f"{NAT_INSIDE4}/24", "dev", "inside")
        self.nft("nat", NAT_NFT)

    def add_site(self, client):
        """A customer with two plugs, one on the underlay and one behind the NAT router."""
        self.add_client(client)
        if self.name("nat") not in self.namespaces():
            self.add_nat()
        self.ip("nat", "link", "add", client.name, "type", "veth",
                "peer", "name", "eth1", "netns", self.name(client.name))
        self.ip("nat", "link", "set", client.name, "master", "inside", "up")
        self.ip(client.name, "link", "set", "eth1", "up")

    def plug(self, client, where):
        """Move a site into "wan" or "nat": there first, then away from where it was."""
        old = set(self._addresses(client.name, ("eth0", "eth1")))
        if where == "wan":
            new = {("eth0", f"{client.outer4}/24"), ("eth0", f"{client.outer6}/64")}
        else:
            new = {("eth1", f"{client.inside4}/24")}
        for interface, address in new - old:
            self.ip(client.name, "address", "add", address, "dev", interface)
        if where == "nat":
            self.ip(client.name, "route", "replace", "default", "via", NAT_INSIDE4)
        for interface, address in old - new:
            self.ip(client.name, "address", "delete", address, "dev", interface)
        # Who takes an address over announces it; here nobody waits for old entries to time out.
        for role, interface in (("gw", "wan"), ("nat", "wan"), ("nat", "inside")):
            self.ip(role, "neighbour", "flush", "dev", interface)

    def _addresses(self, role, interfaces):
        """Pairs: interface, global address with the bits of its network."""
        listed = self.ip(role, "-j", "address", "show", "scope", "global").stdout
        for interface in json.loads(listed):
            if interface.get("ifname") in interfaces:
                for address in interface["addr_info"]:
                    # ip leaves an empty object where it leaves an address out.
                    if address:
                        yield interface["ifname"], f"{address['local']}/{address['prefixlen']}"

    def readdress(self, role, interface, new):
        """The new address is there before the old one goes, as on a host that roams."""
        listed = self.ip(role, "-j", "-4", "address", "show", "dev", interface).stdout
        old = [a["local"] for a in json.loads(listed)[0]["addr_info"] if a["local"] != new]
        # Without it, the old address would take its subnet's newer ones with it.
        self.sysctl(role, {f"net.ipv4.conf.{interface}.promote_secondaries": 1})
        self.ip(role, "address", "replace", f"{new}/24", "dev", interface)
        for address in old:
            self.ip(role, "address", "delete", f"{address}/24", "dev", interface)

    @contextlib.contextmanager
    def no_route(self, role, address):
        """Nothing gets to this address meanwhile."""
        self.ip(role, "route", "add", "unreachable", address)
        try:
            yield
        finally:
            self.ip(role, "route", "delete", "unreachable", address)

    def add_stage(self, role, out, back):
        """A namespace on another path from the gateway (back) to the internet (out)."""
        self._add_namespace(role)
        self._connect(back)
        self._connect(out)
        self._route_stage(role, out, back)

    def remove_stage(self, role):
        run("ip", "netns", "delete", self.name(role))

    def add_local(self, role, *addresses):
        """Addresses that this one answers for; returns the undo."""
        for address in addresses:
            self.ip(role, "address", "add", address, "dev", "lo")

        def undo():
            for address in addresses:
                self.ip(role, "address", "delete", address, "dev", "lo")
        return undo

    def divert(self, *addresses):
        """The admin's rules that send what is for these to the enforcement stage; returns the undo."""
        rules = [("-6" if ":" in address else "-4", "priority", ADMIN_RULE_PRIORITY, "to", address,
                  "lookup", ADMIN_TABLE) for address in addresses]
        for family, *rule in rules:
            self.ip("gw", family, "rule", "add", *rule)

        def undo():
            for family, *rule in rules:
                self.ip("gw", family, "rule", "delete", *rule)
        return undo

    def load_admin_nft(self):
        self.nft("gw", ADMIN_NFT)

    def _add_namespace(self, role):
        run("ip", "netns", "add", self.name(role))
        self.sysctl(role, SYSCTLS)
        self.ip(role, "link", "set", "lo", "up")

    def _join_wan(self, role, interface, *addresses):
        self.ip("wan", "link", "add", role, "type", "veth",
                "peer", "name", interface, "netns", self.name(role))
        self.ip("wan", "link", "set", role, "master", "br0", "up")
        self.ip(role, "link", "set", interface, "up")
        for address in addresses:
            bits = 64 if ":" in address else 24
            self.ip(role, "address", "add", f"{address}/{bits}", "dev", interface)

    def _connect(self, link):
        self.ip(link.first, "link", "add", link.first_if, "type", "veth",
                "peer", "name", link.second_if, "netns", self.name(link.second))
        for end, (role, interface) in enumerate(((link.first, link.first_if),
                                                 (link.second, link.second_if)), 1):
            self.ip(role, "link", "set", interface, "up")
            for address in link.addresses(end):
                self.ip(role, "address", "add", address, "dev", interface)

    def _route_gateway(self):
        """Port 443 of the tenants to the enforcement stage, the rest straight out."""
        self.sysctl("gw", FORWARDING)
        # Strict on the way back from the bypass: only steerd's reply mark lets replies in.
        self.sysctl("gw", {"net.ipv4.conf.bypass.rp_filter": 1,
                           "net.ipv4.conf.bypass.src_valid_mark": 1})
        for family, tenants, stage, out in zip(("-4", "-6"), (TENANTS4, TENANTS6),
                                               TO_ENFORCE.address(2), DIRECT.address(2)):
            self.ip("gw", family, "route", "add", "default", "via", out)
            self.ip("gw", family, "route", "add", "default", "via", stage, "table", ADMIN_TABLE)
            self.ip("gw", family, "rule", "add", "priority", ADMIN_RULE_PRIORITY, "from", tenants,
                    "ipproto", IPPROTO_TCP, "dport", 443, "lookup", ADMIN_TABLE)
        self.load_admin_nft()

    def _route_stage(self, role, out, back):
        self.sysctl(role, FORWARDING)
        for family, tenants, via, home in zip(("-4", "-6"), (TENANTS4, TENANTS6), out.address(2),
                                              back.address(1)):
            self.ip(role, family, "route", "add", "default", "via", via)
            self.ip(role, family, "route", "add", tenants, "via", home)
        if role == "bypass":
            self.nft(role, BYPASS_NFT)

    def _servers(self):
        self.ip("internet", "address", "add", f"{SERVER4}/32", "dev", "lo")
        self.ip("internet", "address", "add", f"{SERVER6}/128", "dev", "lo")
