# SPDX-License-Identifier: GPL-2.0-or-later
"""Customers move (MOBIKE) and their addresses on the underlay change hands, while flows run."""

import dataclasses

import pytest

from lab.sites import NORTH, SOUTH, connected
from lab.topology import NAT4

FAMILIES = (4, 6)


@pytest.fixture(scope="module", name="pair")
def fixture_pair(lab_session):
    with connected(lab_session, NORTH, SOUTH):
        yield


@pytest.fixture(name="move")
def fixture_move(lab, pair, eventually):
    """move(site, where, host): plug it in and wait until the gateway knows; undone at the end."""
    def move(site, where, host=None):
        there = dataclasses.replace(site, host=host or site.host)
        lab.network.plug(there, where)
        address = NAT4 if where == "nat" else there.outer4
        eventually(lambda: f"@ {address}[" in lab.gateway.list_sas()[site.connection],
                   f"the gateway knows that {site.name} is at {address}", 20)

    yield move
    for site in (NORTH, SOUTH):
        move(site, "wan")


def check_enforced(lab, site):
    before = [lab.bypassed_packets(lab.source(site.name, family)) for family in FAMILIES]
    for family in FAMILIES:
        assert lab.verdict(site.name, "nontls443", family) == ("denied", None)
    assert lab.verdict(site.name, "tls443") == ("answered", "enforce")
    after = [lab.bypassed_packets(lab.source(site.name, family)) for family in FAMILIES]
    assert before == after


def test_flow_goes_on_wherever_the_exempt_customer_moves(lab, flows, watch, move):
    """To another address, which goes on to a customer who is not exempt; behind a NAT; back."""
    lab.grant_and_wait(NORTH.tenant, NORTH.name)
    running = [flows(NORTH.name, family) for family in FAMILIES]
    assert [flow.path for flow in running] == ["bypass", "bypass"]
    spis = lab.gateway.spis_in(NORTH.connection)
    for steps in ((NORTH, "wan", 31), (SOUTH, "wan", NORTH.host)), ((NORTH, "nat"),), \
            ((SOUTH, "wan"), (NORTH, "wan")):
        for step in steps:
            move(*step)
        for flow in running:
            flow.wait_progress(deadline=20)
        assert lab.verdict(NORTH.name, "nontls443") == ("answered", "bypass")
        check_enforced(lab, SOUTH)
    if lab.esp == "kernel":
        assert lab.gateway.spis_in(NORTH.connection) == spis
    assert watch.seen("ike-update")
    for flow in running:
        last = flow.stop()
        assert last["complete"], last


def test_moving_grants_nothing(lab, flows, move):
    """A TLS flow stays with the proxy that saw its handshake, new flows are denied as before."""
    lab.grant_and_wait(NORTH.tenant, NORTH.name)
    flow = flows(SOUTH.name, tls=True)
    assert flow.path == "enforce"
    move(SOUTH, "nat")
    flow.wait_progress(deadline=20)
    check_enforced(lab, SOUTH)
    move(NORTH, "nat")
    check_enforced(lab, SOUTH)
    assert lab.verdict(NORTH.name, "nontls443") == ("answered", "bypass")
    lab.steer.revoke(NORTH.tenant)
    check_enforced(lab, NORTH)
    last = flow.stop()
    assert last["complete"], last
