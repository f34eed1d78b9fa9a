# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel ESP without a tunnel: BEET mode is steered, transport mode has nothing to be steered."""

import contextlib
import dataclasses
import json

import pytest

from lab.lab import HERE, PYTHON
from lab.sites import NORTH, SOUTH, Way, connected
from lab.system import Process, wait_until
from lab.topology import GATEWAY4, SERVER4

# One host at each end: BEET carries no addresses.
BEET = Way(child="mode = beet", internet=f"{SERVER4}/32")
TRANSPORT = Way(child="mode = transport", internet="dynamic")
LISTEN = """
import socketserver
class Answer(socketserver.StreamRequestHandler):
	def handle(self):
		self.rfile.readline()
		self.wfile.write(b"path=gateway\\n")
socketserver.TCPServer.allow_reuse_address = True
socketserver.TCPServer(("", 443), Answer).serve_forever()
"""


def with_selectors(site, nets):
    return dataclasses.replace(site, children=(("internet", nets),))


def test_beet_mode_is_steered(sa, flows):
    sites = [with_selectors(site, f"{site.inner4}/32") for site in (NORTH, SOUTH)]
    with connected(sa, *sites, way=BEET):
        for site in sites:
            assert "BEET" in sa.gateway.list_sas()[site.connection]
            assert sa.verdict(site.name, "nontls443") == ("denied", None)
        sa.grant_and_wait(NORTH.tenant, NORTH.name)
        before = sa.bypassed_packets(SOUTH.inner4)
        flow = flows(NORTH.name)
        assert flow.path == "bypass"
        flow.wait_progress()
        assert sa.verdict(SOUTH.name, "nontls443") == ("denied", None)
        assert sa.verdict(SOUTH.name, "tls443") == ("answered", "enforce")
        assert sa.bypassed_packets(SOUTH.inner4) == before
        sa.steer.revoke(NORTH.tenant)
        assert sa.verdict(NORTH.name, "nontls443") == ("denied", None)


@pytest.fixture(name="portal")
def fixture_portal(sa):
    """A service of the gateway's own on port 443."""
    process = Process(sa.state, "portal", ["ip", "netns", "exec", sa.network.name("gw"), PYTHON,
                                           "-c", LISTEN])
    wait_until(lambda: ":443 " in sa.network.exec("gw", "ss", "-Htln").stdout, "the portal listens")
    yield
    process.stop()


def ask_portal(lab, site):
    done = lab.network.exec(site.name, PYTHON, HERE / "probe.py", "nontls443", "--source",
                            site.outer4, "--target", GATEWAY4)
    return json.loads(done.stdout)["path"]


@contextlib.contextmanager
def gre_within(lab, site):
    """A GRE tunnel that both ends' transport mode encrypts."""
    ends = ((site.name, site.outer4, GATEWAY4, "default"),
            ("gw", GATEWAY4, site.outer4, f"{site.inner4}/32"))
    try:
        for role, local, remote, route in ends:
            lab.network.ip(role, "link", "add", "gre1", "type", "gre", "local", local,
                           "remote", remote)
            lab.network.ip(role, "link", "set", "gre1", "up")
            lab.network.ip(role, "route", "add", route, "dev", "gre1")
        yield
    finally:
        for role, *_ in ends:
            lab.network.ip(role, "link", "delete", "gre1", check=False)


def test_transport_mode_stays_at_the_gateway(sa, portal, eventually):
    """Its packets are for the gateway itself, exempt or not: a bypass would lead them astray.
    Of a tunnel within, the kernel no longer knows by which SA it came."""
    site = with_selectors(NORTH, "dynamic")
    with connected(sa, site, way=TRANSPORT):
        assert "TRANSPORT" in sa.gateway.list_sas()[site.connection]
        assert ask_portal(sa, site) == "gateway"
        sa.steer.grant(site.tenant)
        eventually(lambda: sa.steer.exempt_spis() == sa.gateway.spis_in(site.connection),
                   "the SA is exempt")
        before = sa.bypassed_packets()
        assert ask_portal(sa, site) == "gateway"
        with gre_within(sa, site):
            assert sa.verdict(site.name, "nontls443") == ("denied", None)
            assert sa.verdict(site.name, "tls443") == ("answered", "enforce")
        assert sa.bypassed_packets() == before
