# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel ESP: the SA a packet came by names its tenant, whatever address the packet has."""

import pytest

from lab.sites import Way, connected

NETS = "198.18.1.0/24, 2001:db8:a1::/64"
# The kernel cannot tell two policies with one selector apart, so the admin marks what came by the
# twin's SA, and what goes back to it: a part of the mark that steerd has to leave alone.
MARKED = Way(gateway_child="""
	priority = 1000
	set_mark_in = 0x2a
	mark_in = 0x2a/0xff
	mark_out = 0x2a/0xff
""")
NFT = """
table inet twin
delete table inet twin
table inet twin {
	chain keep {
		type filter hook prerouting priority mangle - 10; policy accept;
		meta mark & 0xff == 0x2a ct mark set ct mark & 0xffffff00 | 0x2a
		ct direction reply ct mark & 0xff == 0x2a meta mark set meta mark & 0xffffff00 | 0x2a
	}
}
"""


def test_exempt_is_the_sa_and_nothing_else(sa, eventually):
    assert sa.steer.status()["mode"] == "sa"
    assert sa.steer.exempt_spis() == set()
    sa.grant_and_wait("acme")
    assert sa.steer.exempt_spis() == sa.gateway.spis_in("site-psk")
    sa.reconnect("acme")
    assert sa.wait_path("acme", "bypass")
    eventually(lambda: sa.steer.exempt_spis() == sa.gateway.spis_in("site-psk"),
               "the old SPI is gone")
    sa.steer.revoke("acme")
    eventually(lambda: sa.steer.exempt_spis() == set(), "no SPI is left")


@pytest.fixture(name="twin")
def fixture_twin(sa, twin_of_acme):
    twin = twin_of_acme(NETS)
    sa.network.nft("gw", NFT)
    with connected(sa, twin, way=MARKED):
        yield twin
    sa.network.exec("gw", "nft", "delete", "table", "inet", "twin")


@pytest.mark.parametrize("family", (4, 6))
@pytest.mark.parametrize("exempt_first", (True, False))
def test_two_tenants_with_one_address_at_once(sa, watch, twin, exempt_first, family):
    pair = [("acme", "acme"), (twin.name, twin.tenant)]
    (exempt, tenant), (other, _) = pair if exempt_first else reversed(pair)
    sa.wait_synchronised()
    assert sa.source("acme", family) == sa.source(twin.name, family)
    for name in (exempt, other):
        assert sa.verdict(name, "nontls443", family) == ("denied", None)
    sa.grant_and_wait(tenant, exempt)
    before = sa.bypassed_packets()
    for _ in range(3):
        assert sa.verdict(other, "nontls443", family) == ("denied", None)
        assert sa.verdict(other, "tls443", family) == ("answered", "enforce")
    assert sa.bypassed_packets() == before
    assert sa.verdict(exempt, "nontls443", family) == ("answered", "bypass")
    assert sa.bypassed_packets() > before
    assert not watch.seen("tenant-conflict")
