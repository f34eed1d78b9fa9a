# SPDX-License-Identifier: GPL-2.0-or-later
"""No flow is harmed by what the product or the tunnel does while it runs."""

import re
import time

from lab.steer import LEASE_SECONDS
from lab.system import PATIENCE, wait_until

# An emulated processor takes minutes for what is to happen; the amount matters less there.
BYTES = 100 * 1000 * 1000 if PATIENCE == 1 else 8 * 1000 * 1000
# A pace that leaves the processor some time; it goes on for longer if that is not enough.
SECONDS = 15 * PATIENCE
CHILD_REKEYS, IKE_REKEYS, KILLS = 50, 5, 3
MOVED = "192.0.2.111"
IDS = {"ike": re.compile(r"^gateway: #(\d+), ESTABLISHED", re.MULTILINE),
       "child": re.compile(r"^  internet: #(\d+), .*INSTALLED", re.MULTILINE)}


def rekey(lab, what):
    """Until the new one has taken over; the next rekey may come while the old one still goes."""
    charon = lab.charons["acme"]

    def newest():
        return max((int(i) for i in IDS[what].findall(charon.swanctl("--list-sas").stdout)),
                   default=0)

    before = newest()
    charon.swanctl("--rekey", f"--{what}", "gateway" if what == "ike" else "internet")
    wait_until(lambda: newest() > before, f"the {what} SA is rekeyed", 30)


def kill_steerd(lab):
    """A crash, and a new start within the lease. Returns how long steerd was away."""
    killed = time.monotonic()
    lab.steer.kill()
    lab.steer.start()
    wait_until(lab.steer.active, "steerd steers")
    away = time.monotonic() - killed
    assert away < LEASE_SECONDS, "too slow a machine for this test"
    return round(away, 2)


def happenings():
    """What happens, in which order: the rest in between the child rekeys."""
    for number in range(1, CHILD_REKEYS + 1):
        yield "child"
        if number % 10 == 0:
            yield "ike"
        if number % 13 == 0:
            yield "kill"
        if number == 25:
            yield "move"
        if number == 45:
            yield "home"


def test_order_is_as_promised():
    order = list(happenings())
    assert [order.count(what) for what in ("child", "ike", "kill", "move", "home")] == \
        [CHILD_REKEYS, IKE_REKEYS, KILLS, 1, 1]


def let_it_happen(lab, transfer):
    """All of it, spread over the whole transfer. Returns how long steerd was away each time."""
    actions = {"child": lambda: rekey(lab, "child"), "ike": lambda: rekey(lab, "ike"),
               "kill": lambda: kill_steerd(lab), "move": lambda: lab.move("acme", MOVED),
               "home": lambda: lab.move("acme")}
    order, away = list(happenings()), []
    for number, what in enumerate(order):
        goal = BYTES * number // len(order)
        wait_until(lambda: transfer.last["echoed"] >= goal or transfer.ended(), "it goes on", 30)
        assert not transfer.ended(), (number, what, transfer.last)
        result = actions[what]()
        if what == "kill":
            away.append(result)
    transfer.wait_progress()
    return away


def test_transfer_survives_rekeys_a_move_and_crashes(lab, record):
    lab.grant_and_wait("acme")
    before = lab.bypassed_packets(lab.source("acme"))
    started = time.monotonic()
    transfer = lab.transfer("acme", BYTES, SECONDS)
    try:
        assert transfer.path == "bypass"
        transfer.wait_progress()
        away = let_it_happen(lab, transfer)
        happened = time.monotonic() - started
        sent_meanwhile = transfer.last["sent"]
        last = transfer.stop(120)
    finally:
        transfer.kill()
        lab.move("acme")
    packets = lab.bypassed_packets(lab.source("acme")) - before
    record("unharmed", {"esp": lab.esp, "bytes": last["sent"], "while_it_happened": sent_meanwhile,
                        "seconds": round(happened, 1), "child_rekeys": CHILD_REKEYS,
                        "ike_rekeys": IKE_REKEYS, "moves": 2, "kills_away_seconds": away,
                        "bypassed_packets": packets, "retransmitted": last["retransmitted"],
                        "longest_gap_seconds": last["longest_gap"]})
    assert last["end"] == "complete", last
    assert last["sent"] == last["echoed"] >= BYTES
    assert last["hash_sent"] == last["hash_echoed"]
    assert sent_meanwhile > BYTES * 0.9, "things happened all the way through"
    assert packets * 1500 > last["sent"], "each byte took the bypass"


def test_grant_leaves_an_enforced_flow_alone(lab, flows, watch):
    """A TLS connection made before the grant stays with the proxy that saw its handshake, and
    not a packet of it takes the bypass; a connection made after the grant does."""
    source = lab.source("acme")
    tls = flows("acme", tls=True)
    assert tls.path == "enforce"
    tls.wait_progress()
    before = lab.bypassed_packets(source)
    lab.steer.grant("acme")
    watch.wait_for("steering-applied", "acme")
    tls.wait_progress(16384)
    assert lab.bypassed_packets(source) == before
    assert lab.verdict("acme", "tls443") == ("answered", "bypass")
    tls.wait_progress()
    last = tls.stop()
    assert last["complete"], last
