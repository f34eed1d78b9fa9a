# SPDX-License-Identifier: GPL-2.0-or-later
"""Userspace ESP knows addresses only: two tenants who share one are both enforced."""

import pytest

from lab.sites import connected

# Wider selectors than acme's, so that replies go on to acme's own tunnel.
NETS = "198.18.0.0/23, 2001:db8:a0::/47"


def test_two_tenants_with_one_address_are_both_enforced(lab, watch, twin_of_acme):
    if lab.esp != "userspace":
        pytest.skip("kernel ESP: the SPI tells tenants with one address apart")
    twin = twin_of_acme(NETS)
    lab.grant_and_wait("acme")
    with connected(lab, twin):
        watch.wait_for("tenant-conflict")
        assert lab.wait_path("acme", None)
        before = lab.bypassed_packets()
        assert lab.verdict("acme", "nontls443", 6) == ("denied", None)
        lab.probe(twin.name, "nontls443", timeout=1.0)
        assert lab.bypassed_packets() == before
    assert lab.wait_path("acme", "bypass")
