# SPDX-License-Identifier: GPL-2.0-or-later
"""Rekeying goes on under running flows, without a lost byte and without a gap."""

import re

import pytest

ROUNDS = 3
# "gateway: #1, ESTABLISHED ..." and "  internet: #2, reqid 1, INSTALLED ...".
IDS = {"ike": re.compile(r"^gateway: #(\d+), ESTABLISHED", re.MULTILINE),
       "child": re.compile(r"^  internet: #(\d+), .*INSTALLED", re.MULTILINE)}


def current_ids(charon, what):
    return set(IDS[what].findall(charon.swanctl("--list-sas").stdout))


def rekey(lab, eventually, role, what):
    """Rekey and wait until only the new one is left."""
    charon = lab.charons[role]
    before = current_ids(charon, what)
    name = "gateway" if what == "ike" else "internet"
    charon.swanctl("--rekey", f"--{what}", name)
    eventually(lambda: current_ids(charon, what) and not current_ids(charon, what) & before,
               f"{what} SA of {role} is rekeyed", 10)


@pytest.mark.parametrize("what", ("child", "ike"))
def test_rekey_under_a_running_flow(lab, flows, watch, eventually, what):
    lab.grant_and_wait("acme")
    running = [flows("acme", family) for family in (4, 6)]
    for flow in running:
        assert flow.path == "bypass"
    for _ in range(ROUNDS):
        rekey(lab, eventually, "acme", what)
        for flow in running:
            flow.wait_progress()
        assert lab.verdict("acme", "nontls443") == ("answered", "bypass")
    watch.wait_for("child-rekey" if what == "child" else "ike-update",
                   "acme" if what == "child" else None)
    for flow in running:
        last = flow.stop()
        assert last["complete"], last
    assert not watch.seen("publisher-lost")


def test_rekey_of_others_grants_them_nothing(lab, eventually):
    lab.grant_and_wait("acme")
    before = lab.bypassed_packets(lab.source("globex"))
    for what in ("child", "ike"):
        rekey(lab, eventually, "globex", what)
        assert lab.verdict("globex", "nontls443") == ("denied", None)
    assert lab.bypassed_packets(lab.source("globex")) == before
