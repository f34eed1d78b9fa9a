# SPDX-License-Identifier: GPL-2.0-or-later
"""IKEv1: a rekeyed child SA stays until it expires, and reauthentication hands child SAs on."""

import pytest

from lab.topology import Client

LEGACY = Client("legacy", 16, "site-psk", "198.18.0.10", "2001:db8:a0::10")
TENANT = "legacy.example"
NETS = (("internet", "198.18.0.0/24", "0.0.0.0/0"), ("internet6", "2001:db8:a0::/64", "::/0"))
CONNECTION = """
	{name} {{
		version = 1
		remote_addrs = {remote}
		local {{
			auth = psk
			id = {own}
		}}
		remote {{
			auth = psk
			id = {other}
		}}
		children {{{children}
		}}
	}}
"""
CHILD = """
			{name} {{
				local_ts = {local}
				remote_ts = {remote}
				start_action = {start}
			}}"""
SECRET = f"""
secrets {{
	ike-legacy {{
		id = {TENANT}
		id-gateway = gateway.example
		secret = "replace-me-legacy-pre-shared-key"
	}}
}}
"""


def gateway_config():
    children = "".join(CHILD.format(name=f"legacy-{name}", local=internet, remote=net, start="none")
                       for name, net, internet in NETS)
    connection = CONNECTION.format(name="site-legacy", remote="%any", own="gateway.example",
                                   other=TENANT, children=children)
    return f"include swanctl-shipped.conf\nconnections {{{connection}}}\n{SECRET}"


def site_config(_shipped):
    children = "".join(CHILD.format(name=name, local=net, remote=internet, start="start")
                       for name, net, internet in NETS)
    connection = CONNECTION.format(name="gateway", remote="192.0.2.1", own=TENANT,
                                   other="gateway.example", children=children)
    return f"connections {{{connection}}}\n{SECRET}"


@pytest.fixture(name="ikev1", scope="module")
def fixture_ikev1(lab_session):
    restore = lab_session.configure_gateway(gateway_config())
    lab_session.add_client(LEGACY, site_config)
    yield lab_session
    lab_session.disconnect(LEGACY.name)
    restore()


@pytest.fixture(name="running")
def fixture_running(ikev1, lab, flows, eventually):
    """Bypassed flows of the tenant, one for each child SA."""
    eventually(lambda: ikev1.charons[LEGACY.name].count_child_sas() >= len(NETS),
               "all child SAs are there")
    lab.grant_and_wait(TENANT, LEGACY.name)
    running = [flows(LEGACY.name, family) for family in (4, 6)]
    for flow in running:
        assert flow.path == "bypass"
    return running


def still_bypassed(lab, running):
    for flow in running:
        flow.wait_progress()
    both = [(LEGACY.name, 4), (LEGACY.name, 6)]
    assert lab.verdicts("nontls443", *both) == [("answered", "bypass")] * 2


def complete(running):
    for flow in running:
        last = flow.stop()
        assert last["complete"], last


def test_rekeyed_child_sas(lab, running):
    for _ in range(2):
        for child, _, _ in NETS:
            lab.charons[LEGACY.name].rekey("child", child)
    still_bypassed(lab, running)
    complete(running)
    lab.steer.revoke(TENANT)
    before = lab.bypassed_packets()
    assert lab.verdict(LEGACY.name, "nontls443") == ("denied", None)
    assert lab.verdict("globex", "nontls443") == ("denied", None)
    assert lab.bypassed_packets() == before


@pytest.mark.parametrize("who, connection", ((LEGACY.name, "gateway"), ("gw", "site-legacy")))
def test_child_sas_move_to_the_new_ike_sa(lab, running, watch, eventually, who, connection):
    """Both ends can begin: the child SAs are handed on after the proof, or before it."""
    ikes, children = (lab.gateway.current_ids("ike", "site-legacy"),
                      lab.gateway.current_ids("child", "legacy-internet"))
    lab.charons[who].rekey("ike", connection, "--reauth")
    eventually(lambda: not lab.gateway.current_ids("ike", "site-legacy") & ikes,
               "the gateway knows the new IKE_SA only")
    still_bypassed(lab, running)
    complete(running)
    assert lab.gateway.current_ids("child", "legacy-internet") == children
    told = {str(event["ike_id"]) for event in watch.seen("ike-update")}
    assert told == lab.gateway.current_ids("ike", "site-legacy")
