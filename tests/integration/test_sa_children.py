# SPDX-License-Identifier: GPL-2.0-or-later
"""Several child SAs of one IKE_SA: all are their tenant's, and each ends for itself."""

import pytest

from lab.sites import Site, connected

HOSTS = {"office": {4: "198.18.0.49", 6: "2001:db8:a6::10"},
         "lab": {4: "198.18.0.57", 6: "2001:db8:a7::10"},
         "shop": {4: "198.18.0.65", 6: "2001:db8:a8::10"}}
WEST = Site("west", 23, children=(("office", "198.18.0.48/29, 2001:db8:a6::/64"),
                                  ("lab", "198.18.0.56/29, 2001:db8:a7::/64"),
                                  ("shop", "198.18.0.64/29, 2001:db8:a8::/64")),
            more_hosts=tuple(host for pair in HOSTS.values() for host in pair.values()))


@pytest.fixture(scope="module", name="west")
def fixture_west(lab_session):
    with connected(lab_session, WEST):
        yield WEST


def verdicts(lab):
    """Of each child SA, the families in turn: probes are slow on an emulated machine."""
    return {lab.verdict(WEST.name, "nontls443", family, source=HOSTS[host][family])
            for host, family in zip(HOSTS, (4, 6, 4))}


def count_children(lab):
    return lab.gateway.list_sas()[WEST.connection].count(", INSTALLED,")


def test_one_of_several_child_sas_ends(lab, flows, west, eventually):
    assert verdicts(lab) == {("denied", None)}
    assert len(lab.gateway.spis_in(west.connection)) == len(HOSTS)
    acme = lab.bypassed_packets(lab.source("acme"))
    lab.steer.grant(west.tenant)
    eventually(lambda: verdicts(lab) == {("answered", "bypass")}, "all child SAs are steered")
    assert lab.verdict("acme", "nontls443") == ("denied", None)
    running = [flows(west.name, family, source=HOSTS[host][family])
               for host, family in (("office", 4), ("office", 6), ("shop", 6))]
    ending = flows(west.name, source=HOSTS["lab"][4])
    for flow in (ending, *running):
        assert flow.path == "bypass"
        flow.wait_progress()

    lab.charons[west.name].swanctl("--terminate", "--child", "lab")
    eventually(lambda: count_children(lab) == len(HOSTS) - 1, "one child SA is gone")
    left = lab.bypassed_packets(HOSTS["lab"][4])
    for flow in running:
        flow.wait_progress()
        last = flow.stop()
        assert last["complete"], last
    if lab.esp == "kernel":
        eventually(lambda: lab.steer.exempt_spis() == lab.gateway.spis_in(west.connection),
                   "exactly those child SAs are exempt that are left")
    assert lab.bypassed_packets(HOSTS["lab"][4]) == left

    lab.charons[west.name].initiate("lab")
    eventually(lambda: verdicts(lab) == {("answered", "bypass")}, "the new one is steered")
    lab.steer.revoke(west.tenant)
    assert verdicts(lab) == {("denied", None)}
    assert lab.verdict("acme", "nontls443") == ("denied", None)
    assert lab.bypassed_packets(lab.source("acme")) == acme
