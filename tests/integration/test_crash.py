# SPDX-License-Identifier: GPL-2.0-or-later
"""Daemons that die or hang, and strangers in the kernel's tables: when in doubt, enforce."""

import signal
import time

import pytest

from lab.steer import LEASE_SECONDS, TABLE

# How much later than the lease the far side may notice: polling, a probe's own time.
SLACK = 2.0


def test_charon_killed_and_started_again(lab, watch):
    lab.grant_and_wait("acme")
    lab.gateway.kill()
    watch.wait_for("publisher-lost")
    assert not lab.steer.active()
    lab.gateway.start()
    lab.reconnect("globex")
    lab.reconnect("acme")
    assert lab.wait_path("acme", "bypass")
    watch.wait_for("resynced")
    assert lab.verdict("globex", "nontls443") == ("denied", None)


def test_steerd_killed_and_back_within_the_lease(lab, flows):
    lab.grant_and_wait("acme")
    flow = flows("acme")
    assert flow.path == "bypass"
    flow.wait_progress()
    killed = time.monotonic()
    lab.steer.kill()
    lab.steer.start()
    assert time.monotonic() - killed < LEASE_SECONDS, "too slow a machine for this test"
    lab.wait_synchronised()
    flow.wait_progress()
    assert lab.verdict("acme", "nontls443") == ("answered", "bypass")
    last = flow.stop()
    assert last["complete"], last


def test_steerd_killed_and_away_longer_than_the_lease(lab, flows):
    lab.grant_and_wait("acme")
    flow = flows("acme")
    assert flow.path == "bypass"
    flow.wait_progress()
    lab.steer.kill()
    assert lab.wait_path("acme", None, deadline=LEASE_SECONDS + SLACK)
    after = lab.bypassed_packets()
    assert flow.stalled(0.2) or not flow.ended()
    assert lab.verdict("acme", "nontls443") == ("denied", None)
    assert lab.bypassed_packets() == after
    lab.steer.start()
    assert lab.wait_path("acme", "bypass")


@pytest.fixture(name="deaf")
def fixture_deaf(lab):
    """The settings of a steerd that does not hear charon."""
    yield {"publish": f"ipc://{lab.steer.dir}/nobody"}
    lab.steer.stop()


def restart(steer, deaf):
    steer.kill()
    steer.start(**deaf)


def reload(steer, deaf):
    steer.write_config(**deaf)
    steer.process.signal(signal.SIGHUP)
    steer.wait_log("is loaded anew")


@pytest.mark.parametrize("renew", (restart, reload))
def test_revoked_before_the_first_snapshot(lab, flows, deaf, renew):
    """Flows that an earlier steerd let pass go on within its lease, but not one that is revoked."""
    lab.grant_and_wait("acme")
    flow = flows("acme")
    assert flow.path == "bypass"
    flow.wait_progress()
    begun = time.monotonic()
    renew(lab.steer, deaf)
    flow.wait_progress(256)
    lab.steer.revoke("acme")
    after = lab.bypassed_packets()
    assert time.monotonic() - begun < LEASE_SECONDS, "too slow a machine for this test"
    assert lab.bypass_is_quiet(1)
    assert lab.bypassed_packets() == after


def test_steerd_frozen(lab):
    """A daemon that hangs is as good as dead; when it goes on, so does the bypass."""
    lab.grant_and_wait("acme")
    lab.steer.freeze()
    try:
        assert lab.wait_path("acme", None, deadline=LEASE_SECONDS + SLACK)
        assert lab.verdict("globex", "nontls443") == ("denied", None)
    finally:
        lab.steer.thaw()
    assert lab.wait_path("acme", "bypass")


def test_events_missed_while_frozen(lab, watch):
    """What happened meanwhile is known afterwards."""
    lab.grant_and_wait("acme")
    lab.steer.freeze()
    try:
        lab.charons["acme"].terminate()
        for _ in range(3):
            lab.reconnect("globex")
        lab.reconnect("acme")
    finally:
        lab.steer.thaw()
    lab.wait_synchronised()
    assert lab.wait_path("acme", "bypass")
    assert lab.verdict("globex", "nontls443") == ("denied", None)
    assert watch.popen.poll() is None


@pytest.mark.parametrize("kind", ("child-down", "child-up", "child-installing", "child-rekey"))
def test_lost_events_lead_to_a_snapshot(lab, relay, eventually, kind):
    lab.grant_and_wait("acme")
    before = lab.steer.status()["publisher"]["gaps"]
    relay.lose.add(kind)
    lab.reconnect("acme")
    lab.charons["acme"].swanctl("--rekey", "--child", "internet")
    eventually(lambda: kind in relay.lost, "the event is lost")
    relay.lose.clear()
    eventually(lambda: lab.steer.status()["publisher"]["gaps"] > before, "the gap is noticed")
    lab.wait_synchronised()
    assert lab.wait_path("acme", "bypass")
    assert lab.verdict("globex", "nontls443") == ("denied", None)


def test_silent_publisher_means_enforced(lab, relay):
    lab.grant_and_wait("acme")
    relay.lose.add("heartbeat")
    assert lab.wait_path("acme", None, deadline=LEASE_SECONDS + SLACK)
    relay.lose.clear()
    assert lab.wait_path("acme", "bypass")


def test_ruleset_flushed_by_a_stranger(lab, watch):
    lab.grant_and_wait("acme")
    globex = lab.bypassed_packets(lab.source("globex"))
    lab.network.exec("gw", "nft", "flush", "ruleset")
    assert lab.verdict("globex", "nontls443") == ("denied", None)
    watch.wait_for("kernel-repaired")
    lab.network.load_admin_nft()
    assert lab.wait_path("acme", "bypass")
    assert lab.verdict("globex", "nontls443") == ("denied", None)
    assert lab.bypassed_packets(lab.source("globex")) == globex


def test_rules_and_routes_removed_by_a_stranger(lab, watch, eventually):
    lab.grant_and_wait("acme")
    for family in ("-4", "-6"):
        lab.network.ip("gw", family, "route", "flush", "table", TABLE)
    lab.network.ip("gw", "rule", "flush", "protocol", 93)
    watch.wait_for("kernel-repaired")
    assert lab.wait_path("acme", "bypass")
    eventually(lambda: lab.verdict("acme", "nontls443", 6) == ("answered", "bypass"),
               "IPv6 is bypassed again")


def test_snapshot_on_demand(lab, watch):
    lab.grant_and_wait("acme")
    lab.steer.ctl("resync")
    watch.wait_for("resynced")
    assert lab.wait_path("acme", "bypass")
