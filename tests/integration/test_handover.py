# SPDX-License-Identifier: GPL-2.0-or-later
"""A virtual IP goes from an exempt tenant to another one: nothing of it may leak."""

import json

import pytest

from lab.lab import HERE, PYTHON
from lab.topology import SERVER4, SERVER6, Client

SECOND = Client("roadwarrior2", 14, "roadwarrior-eap-mschapv2")
VIP = {4: "198.18.3.1", 6: "2001:db8:a3::1"}
SERVER = {4: SERVER4, 6: SERVER6}
ONE_ADDRESS = f"""
include swanctl-shipped.conf
pools {{
	roadwarriors4 {{
		addrs = {VIP[4]}/32
	}}
	roadwarriors6 {{
		addrs = {VIP[6]}/128
	}}
}}
"""
SOURCE_PORT = 40443


def as_hooli(text):
    return text.replace("initech", "hooli")


@pytest.fixture(name="pool_of_one")
def fixture_pool_of_one(lab):
    """Two road warriors who share the only address of the pool."""
    lab.charons["roadwarrior"].terminate()
    restore = lab.configure_gateway(ONE_ADDRESS)
    if SECOND.name not in lab.charons:
        lab.add_client(SECOND, as_hooli)
    lab.reconnect("roadwarrior")
    assert lab.source("roadwarrior") == VIP[4]
    yield lab
    lab.charons[SECOND.name].terminate()
    restore()
    lab.reconnect("roadwarrior")


@pytest.mark.parametrize("family", (4, 6))
def test_address_is_handed_from_exempt_to_not_exempt(pool_of_one, flows, eventually, family):
    lab = pool_of_one
    lab.grant_and_wait("initech", "roadwarrior")
    flow = lab.flow("roadwarrior", family, SOURCE_PORT)
    assert flow.path == "bypass"
    flow.wait_progress()
    lab.disconnect("roadwarrior")
    flow.kill()
    eventually(lab.bypass_is_quiet, "the last packets of the first tenant are through")
    before = lab.bypassed_packets()
    hammer = lab.spawn(SECOND.name, PYTHON, HERE / "hammer.py", "--source", VIP[family],
                       "--target", SERVER[family], "--seconds", 6, "--port", SOURCE_PORT)
    lab.charons[SECOND.name].initiate()
    assert lab.source(SECOND.name) == VIP[4]
    counts = json.loads(hammer.communicate(timeout=30)[0])
    assert counts.get("denied", 0) > 10, counts
    assert not set(counts) - {"denied", "timeout", "not ready"}, counts
    assert lab.bypassed_packets() == before, counts
