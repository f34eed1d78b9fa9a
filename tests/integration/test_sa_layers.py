# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel ESP: packets that came by more than one SA. What is inside an exempt customer's tunnel and
was encrypted by somebody else is somebody else's."""

import pytest

from lab.sites import NORTH, connected
from lab.topology import ACME, GATEWAY4

FAMILIES = (4, 6)
# acme routes for north, and hides it behind an address of its own that its tunnel is for.
ROUTER_NFT = f"""
table inet router {{
	chain nat {{
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr {NORTH.outer4} meta l4proto esp snat ip to {ACME.inner4}
	}}
}}
"""


def set_nopolicy(lab, value):
    """The kernel's own policy check refuses two tunnels in one another, unless it is told not to
    look, as admins of route-based VPNs do."""
    lab.network.sysctl("gw", {"net.ipv4.conf.wan.disable_policy": value,
                              "net.ipv6.conf.wan.disable_policy": value})


@pytest.fixture(name="north_within_acme")
def fixture_north_within_acme(sa):
    """north's ESP packets reach the gateway through acme's tunnel; answers come straight back. The
    kernel looks into charon's own table first."""
    through_acme = f"{GATEWAY4}/32", "via", ACME.outer4, "table", 220
    with connected(sa, NORTH):
        sa.network.nft("acme", ROUTER_NFT)
        sa.network.sysctl("acme", {"net.ipv4.ip_forward": 1,
                                   "net.ipv4.conf.all.send_redirects": 0,
                                   "net.ipv4.conf.eth0.send_redirects": 0})
        sa.network.ip(NORTH.name, "route", "add", *through_acme)
        set_nopolicy(sa, 1)
        yield
        set_nopolicy(sa, 0)
        sa.network.ip(NORTH.name, "route", "delete", *through_acme)
        sa.network.sysctl("acme", {"net.ipv4.ip_forward": 0})
        sa.network.exec("acme", "nft", "delete", "table", "inet", "router")


def check_north(lab):
    for family in FAMILIES:
        assert lab.verdict(NORTH.name, "nontls443", family) == ("denied", None)
        assert lab.verdict(NORTH.name, "tls443", family) == ("answered", "enforce")


def test_inner_tunnel_does_not_get_the_outer_ones_exception(sa, north_within_acme):
    sources = [sa.source(NORTH.name, family) for family in FAMILIES]
    before = [sa.bypassed_packets(source) for source in sources]
    sa.grant_and_wait("acme")
    spi, = sa.gateway.spis_in("site-psk")
    used = sa.gateway.packets_from(ACME.outer4)["esp", spi]
    check_north(sa)
    assert sa.gateway.packets_from(ACME.outer4)["esp", spi] > used + 10
    sa.steer.grant(NORTH.tenant)
    check_north(sa)
    assert [sa.bypassed_packets(source) for source in sources] == before
    assert sa.verdict("acme", "nontls443") == ("answered", "bypass")
