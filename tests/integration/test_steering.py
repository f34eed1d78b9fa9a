# SPDX-License-Identifier: GPL-2.0-or-later
"""The main job: exempt tenants' port 443 goes around the enforcement stage, nobody else's does."""

import pytest

FAMILIES = (4, 6)
OTHERS = ("globex", "roadwarrior")


@pytest.mark.parametrize("family", FAMILIES)
def test_exempt_tenant_is_bypassed_and_nobody_else(lab, family):
    others = [lab.source(name, family) for name in OTHERS]
    before = [lab.bypassed_packets(source) for source in others]
    lab.grant_and_wait("acme")
    assert lab.verdict("acme", "nontls443", family) == ("answered", "bypass")
    assert lab.verdict("acme", "tls443", family) == ("answered", "bypass")
    for name in OTHERS:
        assert lab.verdict(name, "nontls443", family) == ("denied", None)
        assert lab.verdict(name, "tls443", family) == ("answered", "enforce")
    assert [lab.bypassed_packets(source) for source in others] == before


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ("http80", "udp443"))
def test_other_ports_stay_where_they_were(lab, kind, family):
    lab.grant_and_wait("acme")
    assert lab.verdict("acme", kind, family) == ("answered", "direct")


@pytest.mark.parametrize("customer, tenant", (("acme", "acme"), ("globex", "globex"),
                                              ("roadwarrior", "initech")))
def test_each_way_to_prove_an_identity(lab, customer, tenant):
    lab.grant_and_wait(tenant, customer)
    for family in FAMILIES:
        assert lab.verdict(customer, "nontls443", family) == ("answered", "bypass")


@pytest.mark.parametrize("family", FAMILIES)
def test_revoking_ends_new_and_running_flows(lab, flows, family):
    lab.grant_and_wait("acme")
    flow = flows("acme", family)
    assert flow.path == "bypass"
    flow.wait_progress()
    lab.steer.revoke("acme")
    assert lab.verdict("acme", "nontls443", family) == ("denied", None)
    after = lab.bypassed_packets()
    ended = flow.wait_ended(30)
    assert not ended["complete"]
    assert lab.bypassed_packets() == after


def test_replies_pass_a_strict_reverse_path_filter(lab):
    """The bypass interface filters strictly; without steerd's reply mark nothing comes back."""
    lab.grant_and_wait("acme")
    assert lab.network.exec("gw", "sysctl", "-n", "net.ipv4.conf.bypass.rp_filter").stdout == "1\n"
    assert lab.verdict("acme", "nontls443") == ("answered", "bypass")
    lab.network.sysctl("gw", {"net.ipv4.conf.bypass.src_valid_mark": 0})
    try:
        assert lab.verdict("acme", "nontls443", timeout=1.0) == ("timeout", None)
    finally:
        lab.network.sysctl("gw", {"net.ipv4.conf.bypass.src_valid_mark": 1})
    assert lab.verdict("acme", "nontls443") == ("answered", "bypass")


def test_exception_with_an_end_ends_by_itself(lab):
    lab.steer.grant("acme", expires="2s")
    assert lab.wait_path("acme", "bypass")
    assert lab.wait_path("acme", None, deadline=6)
