# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab itself: paths are seen on the far side, also when the bypass is made by hand."""

import contextlib

import pytest

from lab.topology import BYPASS_VIA

FORWARD, REPLY = "0x00100000", "0x00300000"
MASK = "0x00300000"
PRIORITY, TABLE = 5100, 5999
NFT = f"""
table inet by-hand {{
	chain pre {{
		type filter hook prerouting priority mangle; policy accept;
		ct state new ip saddr 198.18.1.0/24 tcp dport 443 ct mark set 0x00100000
		ct state new ip6 saddr 2001:db8:a1::/64 tcp dport 443 ct mark set 0x00100000
		ct mark 0x00100000 ct direction original meta mark set {FORWARD}
		ct mark 0x00100000 ct direction reply meta mark set {REPLY}
	}}
}}
"""


@contextlib.contextmanager
def bypass_by_hand(lab):
    """What steerd does, done with nft and ip; removed at the end."""
    network, incoming = lab.network, ("iif", lab.tenant_interface)
    network.nft("gw", NFT)
    rules = [(family, ("priority", PRIORITY, "fwmark", f"{mark}/{MASK}", *incoming,
                       "lookup", TABLE))
             for family in ("-4", "-6") for mark in (FORWARD, REPLY)]
    try:
        for family, via in zip(("-4", "-6"), BYPASS_VIA):
            network.ip("gw", family, "route", "add", "default", "via", via, "table", TABLE)
        for family, rule in rules:
            network.ip("gw", family, "rule", "add", *rule)
        yield
    finally:
        for family, rule in rules:
            network.ip("gw", family, "rule", "delete", *rule)
        for family in ("-4", "-6"):
            network.ip("gw", family, "route", "flush", "table", TABLE)
        network.exec("gw", "nft", "delete", "table", "inet", "by-hand")


@pytest.mark.parametrize("family", (4, 6))
@pytest.mark.parametrize("customer", ("acme", "globex", "roadwarrior"))
@pytest.mark.parametrize("kind, outcome, path", (("nontls443", "denied", None),
                                                 ("tls443", "answered", "enforce"),
                                                 ("http80", "answered", "direct"),
                                                 ("udp443", "answered", "direct")))
def test_admins_own_routing(lab, customer, kind, outcome, path, family):
    got = lab.probe(customer, kind, family)
    assert (got["outcome"], got["path"]) == (outcome, path), got


@pytest.mark.parametrize("family", (4, 6))
def test_far_side_tells_the_bypass(lab, family):
    before, others = lab.bypassed_packets(), lab.bypassed_packets(lab.source("globex", family))
    with bypass_by_hand(lab):
        assert lab.probe("acme", "nontls443", family)["path"] == "bypass"
        assert lab.probe("globex", "nontls443", family)["outcome"] == "denied"
    assert lab.bypassed_packets() > before
    assert lab.bypassed_packets(lab.source("globex", family)) == others
    assert lab.probe("acme", "nontls443", family)["outcome"] == "denied"
