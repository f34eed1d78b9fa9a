# SPDX-License-Identifier: GPL-2.0-or-later
"""The tenant of a road warrior is the class that a RADIUS server gives the user."""

import pytest

from lab.radius import OPTIONS, radius

DENIED, ENFORCED = ("denied", None), ("answered", "enforce")
# The class decides before the name does.
TENANTS = """
charon {{ plugins {{ tenant-tag {{
	identity = group, eap, cert, id
	tenants {{
		initech {{ match = {initech} }}
		hooli {{ match = {hooli} }}
	}}
}} }} }}
"""
BY_CLASS = OPTIONS + TENANTS.format(initech="initech-staff", hooli="hooli-staff")
SWAPPED = OPTIONS + TENANTS.format(initech="hooli-staff", hooli="initech-staff")


@pytest.fixture(name="tenants")
def fixture_tenants(lab):
    """tenants(text) loads these options besides the lab's."""
    before = lab.gateway.extra
    yield lambda text: lab.gateway.set_options(before + text)
    lab.gateway.set_options(before)


@pytest.fixture(name="server")
def fixture_server(lab, tenants):
    """The road warrior is up, as what the server says."""
    tenants(BY_CLASS)
    with radius(lab, "initech-staff") as server:
        lab.reconnect("roadwarrior")
        lab.wait_synchronised()
        yield server
        lab.disconnect("roadwarrior")
    lab.reconnect("roadwarrior")


def exempt_flow(lab, flows):
    lab.grant_and_wait("initech", "roadwarrior")
    flow = flows("roadwarrior")
    assert flow.path == "bypass"
    flow.wait_progress()
    return flow


def test_another_class_counts_with_the_next_reauthentication(lab, server, flows, watch):
    flow = exempt_flow(lab, flows)
    server.set_class("hooli-staff")
    lab.charons["roadwarrior"].rekey("ike")
    flow.wait_progress()  # it has not been asked
    lab.charons["roadwarrior"].rekey("ike", None, "--reauth", deadline=20)
    assert watch.wait_for("child-up", "hooli")["identity_source"] == "group"
    assert lab.verdict("roadwarrior", "nontls443") == DENIED
    assert lab.verdict("roadwarrior", "tls443") == ENFORCED
    assert not flow.wait_ended(30)["complete"]


def test_another_tenant_of_the_class_counts_at_once(lab, server, tenants, flows, watch):
    flow = exempt_flow(lab, flows)
    before = lab.gateway.current_ids("ike", "roadwarriors")
    tenants(SWAPPED)
    watch.wait_for("child-reassigned", "initech")
    watch.wait_for("child-up", "hooli")
    assert lab.verdict("roadwarrior", "nontls443") == DENIED
    assert lab.verdict("roadwarrior", "tls443") == ENFORCED
    assert not flow.wait_ended(30)["complete"]
    assert lab.gateway.current_ids("ike", "roadwarriors") == before
