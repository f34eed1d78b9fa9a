# SPDX-License-Identifier: GPL-2.0-or-later
"""Rekeying by both ends at once, and under load."""

import itertools
import json
import signal

import pytest

from lab.lab import HERE, PYTHON
from lab.topology import SERVER4
from lab.vici import command

COLLISION = {"ike": r"IKE_SA rekey collision (won|lost)",
             "child": r"CHILD_SA rekey collision (won|lost)"}
ATTEMPTS = 25
REKEYS = 20
# The two ends, and what each calls the connection and the child SA.
ENDS = (("acme", {"ike": "gateway", "child": "internet"}),
        ("gw", {"ike": "site-psk", "child": "site-psk"}))


def collisions(lab, what):
    return sum(lab.charons[role].logged(COLLISION[what]) for role, _ in ENDS)


def settled(lab, what):
    """Do both ends have exactly one?"""
    return all(len(lab.charons[role].current_ids(what, names[what])) == 1 for role, names in ENDS)


def begin_together(lab, what):
    """Both charons are stopped, find the command when they go on, and so begin together."""
    charons = [(lab.charons[role], names[what]) for role, names in ENDS]
    for charon, _ in charons:
        charon.process.signal(signal.SIGSTOP)
    asked = [command(charon.dir / "charon.vici", "rekey", **{what: name})
             for charon, name in charons]
    for charon, _ in charons:
        charon.process.signal(signal.SIGCONT)
    return asked


def collide(lab, flows, eventually, what):
    """Rekey under a bypassed flow until charon logs a collision; returns the flow.

    Where one end was a little earlier, this charon may keep two child SAs, and the next attempt
    would begin with these: so it begins with new ones.
    """
    for _ in range(ATTEMPTS):
        flow = flows("acme")
        assert flow.path == "bypass"
        before, seen = lab.gateway.current_ids(what, "site-psk"), collisions(lab, what)
        asked = begin_together(lab, what)
        eventually(lambda b=before: not lab.gateway.current_ids(what, "site-psk") & b,
                   f"the {what} SA is rekeyed")
        for connection in asked:
            connection.close()
        if collisions(lab, what) > seen:
            return flow
        flow.kill()
        lab.reconnect("acme")
    pytest.fail(f"no collision in {ATTEMPTS} attempts")


@pytest.mark.parametrize("what", ("child", "ike"))
def test_both_ends_rekey_at_once(lab, flows, eventually, what):
    lab.grant_and_wait("acme")
    globex = lab.bypassed_packets(lab.source("globex"))
    flow = collide(lab, flows, eventually, what)
    eventually(lambda: settled(lab, what), f"one {what} SA is left at both ends")
    flow.wait_progress()
    assert lab.verdicts("nontls443", ("acme", 4), ("acme", 6)) == [("answered", "bypass")] * 2
    lab.wait_synchronised()
    last = flow.stop()
    assert last["complete"], last
    assert lab.verdict("globex", "nontls443") == ("denied", None)
    assert lab.bypassed_packets(lab.source("globex")) == globex
    lab.steer.revoke("acme")
    assert lab.verdict("acme", "nontls443") == ("denied", None)


@pytest.fixture(name="with_udp")
def fixture_with_udp(lab):
    """A profile that also has UDP, so that what is lost is not sent again by anybody."""
    lab.steer.stop()
    lab.steer.start(services='["tcp/443", "udp/443"]')
    lab.wait_synchronised()
    yield lab
    lab.steer.stop()


def test_rekeys_under_load(with_udp, flows, eventually):
    """At most one datagram is lost for each rekey. Each end's own kernel may lose what it has under way by
    an SA that is just replaced, and nobody sends a datagram again; and where steerd is slow to hear of
    the new one, the gateway drops what a pinned flow sends by it until then, and counts that."""
    lab = with_udp
    lab.grant_and_wait("acme")
    denied = lab.steer.status()["counters"]["packets_denied"]
    flow = flows("acme")
    assert flow.path == "bypass"
    assert lab.verdict("acme", "udp443") == ("answered", "bypass")
    fast = lab.spawn("acme", PYTHON, HERE / "datagrams.py", "--source", lab.source("acme"),
                     "--target", SERVER4)
    try:
        for role, names in itertools.islice(itertools.cycle(ENDS), REKEYS):
            lab.charons[role].rekey("child", names["child"])
            eventually(lambda: settled(lab, "child"), "the other end has it too")
        flow.wait_progress()
    finally:
        fast.terminate()
        counts = json.loads(fast.communicate(timeout=60)[0])
    denied = lab.steer.status()["counters"]["packets_denied"] - denied
    print(f"{REKEYS} rekeys: {counts}, {denied} denied by the gateway")
    assert counts["sent"] > 10 * REKEYS, counts
    assert counts["answered"].keys() == {"bypass"}, counts
    assert counts["sent"] - counts["answered"]["bypass"] <= REKEYS, counts
    assert denied <= REKEYS
    last = flow.stop()
    assert last["complete"], last
