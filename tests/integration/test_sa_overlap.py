# SPDX-License-Identifier: GPL-2.0-or-later
"""XFRM interfaces, and two tenants with the same addresses behind two of them.

Everything in GATEWAY, NFT and Interfaces is an admin's own: steerd knows nothing of interfaces,
zones or translated addresses, and is to leave them alone.
"""

import collections
import itertools

import pytest

from lab.topology import ACME, GLOBEX, Client

Place = collections.namedtuple("Place", "client if_id net4 net6")
TWIN = Client("twin", 15, "site-psk", ACME.inner4, ACME.inner6)
PLACES = (Place(ACME, 41, "198.18.1.0/24", "2001:db8:a1::/64"),
          Place(GLOBEX, 42, "198.18.2.0/24", "2001:db8:a2::/64"),
          Place(TWIN, 43, "198.18.1.0/24", "2001:db8:a1::/64"))
TENANTS = {"acme": "acme", "globex": "globex", "twin": "twin.example"}
# Who is who beyond the gateway, where the twins' addresses have to differ.
OUTSIDE = {"acme": {4: "198.18.1.241", 6: "2001:db8:a1::f1"},
           "twin": {4: "198.18.1.243", 6: "2001:db8:a1::f3"},
           "globex": {4: GLOBEX.inner4, 6: GLOBEX.inner6}}
GATEWAY = """
include swanctl-shipped.conf
connections {
	site-psk {
		children {
			site-psk {
				if_id_in = 41
				if_id_out = 41
			}
		}
	}
	site-certificate {
		children {
			site-certificate {
				if_id_in = 42
				if_id_out = 42
			}
		}
	}
	site-twin {
		version = 2
		remote_addrs = %any
		local {
			auth = psk
			id = gateway.example
		}
		remote {
			auth = psk
			id = twin.example
		}
		children {
			site-twin {
				local_ts = 0.0.0.0/0, ::/0
				remote_ts = 198.18.1.0/24, 2001:db8:a1::/64
				if_id_in = 43
				if_id_out = 43
			}
		}
	}
}
secrets {
	ike-twin {
		id = twin.example
		secret = "replace-me-acme-pre-shared-key"
	}
}
"""
# The twins' connections may look the same, so each has a conntrack zone for what comes from it.
# Replies are in no zone: the translated address tells them apart. A flow that lost its conntrack
# entry would get another port from "fully-random", and end.
NFT = """
table inet interfaces
delete table inet interfaces
table inet interfaces {
	chain zones {
		type filter hook prerouting priority raw; policy accept;
		iifname "ipsec41" ct original zone set 41
		iifname "ipsec43" ct original zone set 43
	}
	chain remember {
		type filter hook prerouting priority mangle - 10; policy accept;
		iifname "ipsec41" ct mark set ct mark & 0xffffff00 | 41
		iifname "ipsec43" ct mark set ct mark & 0xffffff00 | 43
		ct direction reply ct mark & 0xff == 43 meta mark set meta mark & 0xffffff00 | 43
	}
	chain translate {
		type nat hook postrouting priority srcnat - 1; policy accept;
		ct mark & 0xff == 41 meta nfproto ipv4 snat ip to 198.18.1.241 fully-random
		ct mark & 0xff == 41 meta nfproto ipv6 snat ip6 to 2001:db8:a1::f1 fully-random
		ct mark & 0xff == 43 meta nfproto ipv4 snat ip to 198.18.1.243 fully-random
		ct mark & 0xff == 43 meta nfproto ipv6 snat ip6 to 2001:db8:a1::f3 fully-random
	}
}
"""
RULE_PRIORITY, TABLE = 9000, 43
# Another one for each test: the server still has the flows that were cut off.
SAME_PORTS = itertools.count(40444)


class Interfaces:
    """One XFRM interface for each customer; the twin's routes are in a table of its own."""

    def __init__(self, lab):
        self.lab = lab
        self.undo = None

    def _ip(self, *words):
        self.lab.network.ip("gw", *words)

    def up(self):
        for place in PLACES:
            name = f"ipsec{place.if_id}"
            self._ip("link", "add", name, "type", "xfrm", "dev", "wan", "if_id", place.if_id)
            self._ip("link", "set", name, "up")
            table = ("table", TABLE) if place.client is TWIN else ()
            for family, net in (("-4", place.net4), ("-6", place.net6)):
                self._ip(family, "route", "add", net, "dev", name, *table)
        for family in ("-4", "-6"):
            self._ip(family, "rule", "add", "priority", RULE_PRIORITY, "fwmark", "43/0xff",
                     "lookup", TABLE)
        self.lab.network.nft("gw", NFT)
        self.undo = self.lab.configure_gateway(GATEWAY)
        self._reconnect()

    def down(self):
        self.undo()
        if TWIN.name in self.lab.charons:
            self.lab.disconnect(TWIN.name)
        self._reconnect()
        self.lab.network.exec("gw", "nft", "delete", "table", "inet", "interfaces")
        for family in ("-4", "-6"):
            self._ip(family, "rule", "delete", "priority", RULE_PRIORITY)
        for place in PLACES:
            self._ip("link", "delete", f"ipsec{place.if_id}")

    def _reconnect(self):
        for name in ("acme", "globex"):
            self.lab.reconnect(name)


@pytest.fixture(name="interfaces", scope="module")
def fixture_interfaces(lab_session):
    if lab_session.esp != "kernel":
        pytest.skip("this kernel has no ESP; tests/vm/run runs this test on one that has")
    interfaces = Interfaces(lab_session)
    interfaces.up()
    yield lab_session
    interfaces.down()


@pytest.fixture(name="placed")
def fixture_placed(interfaces, lab):
    """Each customer at its interface."""
    if TWIN.name not in interfaces.charons:
        lab.add_client(TWIN, lambda text: text.replace("acme.example", "twin.example"))
    elif not lab.connected(TWIN.name):
        lab.reconnect(TWIN.name)
    lab.wait_synchronised()
    return lab


def bypassed(lab, name):
    return [lab.bypassed_packets(OUTSIDE[name][family]) for family in (4, 6)]


@pytest.mark.parametrize("exempt", ("acme", "twin"))
def test_one_is_exempt_and_the_others_are_not(placed, watch, exempt):
    lab = placed
    assert lab.source("acme") == lab.source("twin")
    others = [(name, family) for name in TENANTS if name != exempt for family in (4, 6)]
    lab.grant_and_wait(TENANTS[exempt], exempt)
    before = {name: bypassed(lab, name) for name in TENANTS}
    assert lab.verdicts("nontls443", *others) == [("denied", None)] * len(others)
    assert lab.verdicts("nontls443", (exempt, 4), (exempt, 6)) == [("answered", "bypass")] * 2
    assert lab.verdicts("tls443", *others) == [("answered", "enforce")] * len(others)
    for name, _ in others:
        assert bypassed(lab, name) == before[name]
    for now, then in zip(bypassed(lab, exempt), before[exempt]):
        assert now > then
    assert not watch.seen("tenant-conflict")


@pytest.mark.parametrize("ended, kept", (("acme", "twin"), ("twin", "acme")))
def test_end_of_one_exception_leaves_the_twins_flows_alone(placed, flows, ended, kept):
    lab = placed
    for name in (ended, kept):
        lab.grant_and_wait(TENANTS[name], name)
    port = next(SAME_PORTS)
    running = {(name, family): flows(name, family, port)
               for name in (ended, kept) for family in (4, 6)}
    for flow in running.values():
        assert flow.path == "bypass"
        flow.wait_progress()
    lab.steer.revoke(TENANTS[ended])
    after = bypassed(lab, ended)
    for flow in (running[kept, 4], running[kept, 6]):
        flow.wait_progress()
    assert lab.verdicts("nontls443", (ended, 4), (ended, 6)) == [("denied", None)] * 2
    assert lab.verdicts("nontls443", (kept, 4), (kept, 6)) == [("answered", "bypass")] * 2
    for family in (4, 6):
        running[kept, family].wait_progress()
        last = running[kept, family].stop()
        assert last["complete"], last
        assert not running[ended, family].last.get("complete")
    assert bypassed(lab, ended) == after
