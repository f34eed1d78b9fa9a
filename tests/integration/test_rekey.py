# SPDX-License-Identifier: GPL-2.0-or-later
"""Rekeying goes on under running flows, without a lost byte and without a gap."""

import pytest

ROUNDS = 3


@pytest.mark.parametrize("what", ("child", "ike"))
def test_rekey_under_a_running_flow(lab, flows, watch, what):
    lab.grant_and_wait("acme")
    running = [flows("acme", family) for family in (4, 6)]
    for flow in running:
        assert flow.path == "bypass"
    for _ in range(ROUNDS):
        lab.charons["acme"].rekey(what)
        for flow in running:
            flow.wait_progress()
        assert lab.verdict("acme", "nontls443") == ("answered", "bypass")
    watch.wait_for("child-rekey" if what == "child" else "ike-update",
                   "acme" if what == "child" else None)
    for flow in running:
        last = flow.stop()
        assert last["complete"], last
    assert not watch.seen("publisher-lost")


def test_rekey_of_others_grants_them_nothing(lab):
    lab.grant_and_wait("acme")
    before = lab.bypassed_packets(lab.source("globex"))
    for what in ("child", "ike"):
        lab.charons["globex"].rekey(what)
        assert lab.verdict("globex", "nontls443") == ("denied", None)
    assert lab.bypassed_packets(lab.source("globex")) == before
