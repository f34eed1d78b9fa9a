# SPDX-License-Identifier: GPL-2.0-or-later
"""However a tunnel is made, its tenant alone is steered: two customers who are connected in the
same way at the same time, one exempt and one not."""

import collections
import itertools
import re

import pytest

from lab.sites import NORTH, SOUTH, Way, connected
from lab.topology import GATEWAY6, NAT4

FAMILIES = (4, 6)
CPI_IN = re.compile(r"^ +in +[0-9a-f]{8}/[0-9a-f]{4}", re.MULTILINE)

WAYS = {
    "outer-ipv6": Way(GATEWAY6),
    "nat": Way(behind_nat=True),
    "outer-ipv6-in-udp": Way(GATEWAY6, connection="encap = yes"),
}
# charon's own ESP knows tunnel mode only, and always in UDP.
KERNEL_WAYS = {
    "ipcomp": Way(child="ipcomp = yes"),
    "outer-ipv6-ipcomp": Way(GATEWAY6, child="ipcomp = yes"),
}


@pytest.fixture(scope="module", name="way", params=(*WAYS, *KERNEL_WAYS))
def fixture_way(lab_session, request):
    """Both customers connected in one way; its name."""
    if lab_session.esp == "userspace" and request.param in KERNEL_WAYS:
        pytest.skip("this kernel has no ESP; tests/vm/run runs this test on one that has")
    way = WAYS.get(request.param) or KERNEL_WAYS[request.param]
    with connected(lab_session, NORTH, SOUTH, way=way):
        yield request.param


def as_promised(way, listed):
    """Does the gateway's charon have a tunnel that was made this way?"""
    host = re.search(r"remote '.*' @ (\S+)\[(\d+)\]", listed)
    return all((("2001:db8" in host[1]) == way.startswith("outer-ipv6"),
                (host[1] == NAT4) == way.startswith("nat"),
                bool(CPI_IN.search(listed)) == way.endswith("ipcomp"),
                "TUNNEL" in listed))


def families(way):
    """Of the inner addresses. A customer with IPComp sends nothing of the other family than its tunnel's:
    its own kernel finds an SA with the policy's SPI whose selector is of the wrong one, and says EEXIST
    (xfrm_state_find() in net/xfrm/xfrm_state.c)."""
    if not way.endswith("ipcomp"):
        return FAMILIES
    return (6,) if way.startswith("outer-ipv6") else (4,)


def check_compression(lab):
    """Were there packets that were compressed, and others too short for it?"""
    host = re.search(r"remote '.*' @ (\S+)\[", lab.gateway.list_sas()[NORTH.connection])[1]
    seen = collections.Counter()
    for (protocol, _), packets in lab.gateway.packets_from(host).items():
        seen[protocol] += packets
    compressed = seen.pop("comp")
    assert seen.pop("esp") >= compressed > 0
    assert seen.total() > 0, "states of the kernel's own, IP in IP"


def test_exempt_is_one_of_two(lab, flows, way):
    inner = families(way)
    for site, family in zip((NORTH, SOUTH), itertools.cycle(inner)):
        listed = lab.gateway.list_sas()[site.connection]
        assert as_promised(way, listed), listed
        assert lab.verdict(site.name, "nontls443", family) == ("denied", None)
    lab.steer.grant(NORTH.tenant)
    lab.wait_path(NORTH.name, "bypass", family=inner[0])
    others = [lab.source(SOUTH.name, family) for family in inner]
    before = [lab.bypassed_packets(source) for source in others]
    running = [flows(NORTH.name, family) for family in inner]
    for flow in running:
        assert flow.path == "bypass", flow.first
        flow.wait_progress()
    for family in inner:
        assert lab.verdict(SOUTH.name, "nontls443", family) == ("denied", None)
    assert lab.verdict(SOUTH.name, "tls443", inner[0]) == ("answered", "enforce")
    assert [lab.bypassed_packets(source) for source in others] == before
    if way.endswith("ipcomp"):
        check_compression(lab)
    for flow in running:
        last = flow.stop()
        assert last["complete"], last
    lab.steer.revoke(NORTH.tenant)
    for family in inner:
        assert lab.verdict(NORTH.name, "nontls443", family) == ("denied", None)
