# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel ESP: the SA a packet came by names its tenant, whatever address the packet has."""

import contextlib
import os
import re

import pytest

from lab.topology import ACME, Client

TWIN = Client("twin", 15, "site-psk", ACME.inner4, ACME.inner6)
TENANTS = {"acme": "acme", "twin": "twin.example"}
# The kernel cannot tell two policies with one selector apart, so the admin marks what came by the
# twin's SA, and what goes back to it: a part of the mark that steerd has to leave alone.
GATEWAY = """
include swanctl-shipped.conf
connections {
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
				priority = 1000
				set_mark_in = 0x2a
				mark_in = 0x2a/0xff
				mark_out = 0x2a/0xff
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
SPI_IN = re.compile(r"^ +in +([0-9a-f]{8})", re.MULTILINE)


@pytest.fixture(name="sa")
def fixture_sa(lab):
    if lab.esp != "kernel":
        assert os.environ.get("TENANT_STEER_ESP") != "kernel", "this kernel should have ESP"
        pytest.skip("this kernel has no ESP; tests/vm/run runs this test on one that has")
    return lab


def spis_in(lab, client):
    """What the gateway's charon expects from this customer, as nft prints numbers."""
    connections = re.split(r"^(?=\S)", lab.gateway.swanctl("--list-sas").stdout, flags=re.MULTILINE)
    return {int(spi, 16) for text in connections if f"{client.outer4}[" in text
            for spi in SPI_IN.findall(text)}


def spis_exempt(lab):
    """All numbers in the sets of steerd's table that an SPI may be."""
    listed = lab.network.exec("gw", "nft", "-nn", "list", "table", "inet", "tenant-steer").stdout
    numbers = {int(word, 0) for word in re.findall(r"\b(?:0x[0-9a-f]+|\d{10})\b", listed)}
    return {number for number in numbers if 0xc0000000 <= number <= 0xcfffffff}


def test_exempt_is_the_sa_and_nothing_else(sa, eventually):
    assert sa.steer.status()["mode"] == "sa"
    assert spis_exempt(sa) == set()
    sa.grant_and_wait("acme")
    assert spis_exempt(sa) == spis_in(sa, ACME)
    sa.reconnect("acme")
    assert sa.wait_path("acme", "bypass")
    eventually(lambda: spis_exempt(sa) == spis_in(sa, ACME), "the old SPI is gone")
    sa.steer.revoke("acme")
    eventually(lambda: spis_exempt(sa) == set(), "no SPI is left")


@contextlib.contextmanager
def with_twin(lab):
    """A second customer whose host has the very address of acme's."""
    restore = lab.configure_gateway(GATEWAY)
    lab.network.nft("gw", NFT)
    try:
        if TWIN.name not in lab.charons:
            lab.add_client(TWIN, lambda text: text.replace("acme.example", "twin.example"))
        lab.reconnect(TWIN.name)
        yield
    finally:
        lab.disconnect(TWIN.name)
        lab.network.exec("gw", "nft", "delete", "table", "inet", "twin")
        restore()


@pytest.mark.parametrize("family", (4, 6))
@pytest.mark.parametrize("exempt, other", (("acme", "twin"), ("twin", "acme")))
def test_two_tenants_with_one_address_at_once(sa, watch, exempt, other, family):
    with with_twin(sa):
        sa.wait_synchronised()
        assert sa.source("acme", family) == sa.source("twin", family)
        for name in TENANTS:
            assert sa.verdict(name, "nontls443", family) == ("denied", None)
        sa.grant_and_wait(TENANTS[exempt], exempt)
        before = sa.bypassed_packets()
        for _ in range(3):
            assert sa.verdict(other, "nontls443", family) == ("denied", None)
            assert sa.verdict(other, "tls443", family) == ("answered", "enforce")
        assert sa.bypassed_packets() == before
        assert sa.verdict(exempt, "nontls443", family) == ("answered", "bypass")
        assert sa.bypassed_packets() > before
    assert not watch.seen("tenant-conflict")
