# SPDX-License-Identifier: GPL-2.0-or-later
"""A virtual IP goes from an exempt tenant to another one: nothing of it may leak."""

import itertools
import json

import pytest

from lab.lab import HERE, PYTHON
from lab.lossy import LossyRelay
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
# Both tenants use one source port, so that even the connection looks the same. Another one for
# each test: the server still has the connections of tenants who left without a word.
SOURCE_PORTS = itertools.count(40443)


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
    for name in ("roadwarrior", SECOND.name):
        lab.disconnect(name)
    restore()
    lab.reconnect("roadwarrior")


@pytest.fixture(name="relay")
def fixture_relay(pool_of_one):
    """steerd hears charon through a relay that can lose events."""
    steer = pool_of_one.steer
    relay = LossyRelay(steer.publish, steer.relayed)
    steer.stop()
    steer.start(publish=steer.relayed)
    pool_of_one.wait_synchronised()
    yield relay
    steer.stop()
    relay.close()


def hand_over(lab, eventually, family, meanwhile=lambda: None):
    """The exempt tenant with a running flow leaves, the other gets its address; no packet leaks."""
    port = next(SOURCE_PORTS)
    lab.grant_and_wait("initech", "roadwarrior")
    flow = lab.flow("roadwarrior", family, port)
    assert flow.path == "bypass", flow.first
    flow.wait_progress()
    lab.disconnect("roadwarrior")
    flow.kill()
    eventually(lab.bypass_is_quiet, "the last packets of the first tenant are through")
    meanwhile()
    before = lab.bypassed_packets()
    hammer = lab.spawn(SECOND.name, PYTHON, HERE / "hammer.py", "--source", VIP[family],
                       "--target", SERVER[family], "--seconds", 6, "--port", port)
    lab.charons[SECOND.name].initiate()
    assert lab.source(SECOND.name) == VIP[4]
    counts = json.loads(hammer.communicate(timeout=30)[0])
    assert counts.get("denied", 0) > 10, counts
    assert not set(counts) - {"denied", "timeout", "not ready"}, counts
    assert lab.bypassed_packets() == before, counts


@pytest.mark.parametrize("family", (4, 6))
def test_address_is_handed_from_exempt_to_not_exempt(pool_of_one, eventually, family):
    hand_over(pool_of_one, eventually, family)


@pytest.mark.parametrize("family", (4, 6))
def test_handed_over_after_a_lost_withdrawal(pool_of_one, relay, eventually, family):
    """With kernel ESP the SPI alone keeps the next tenant out. Userspace ESP knows addresses only:
    there the loss must have been noticed, by the next event or heartbeat."""
    def notice():
        if pool_of_one.esp == "userspace":
            eventually(lambda: pool_of_one.steer.status()["publisher"]["gaps"],
                       "the gap is noticed")

    relay.lose.add("child-down")
    hand_over(pool_of_one, eventually, family, notice)
    assert relay.lost == ["child-down"]
