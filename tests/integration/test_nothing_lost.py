# SPDX-License-Identifier: GPL-2.0-or-later
"""The whole steerd, killed at each write to its database while it is asked for something.

What was being done is wholly there after a restart, or wholly absent; what was answered is there; and the
audit log is whole. It runs in a network namespace of its own, without charon and without the lab.
(tests/unit/test_nothing_lost.c does the same with the modules alone, many times more.)
"""

import datetime
import json
import os

import pytest

from lab.lone import Lone

# The database starts anew after so many rounds.
ROUNDS = 20
LEAST_KILLS = 40
# What steerctl exits with when steerd does not answer.
UNREACHABLE = 3


@pytest.fixture(name="lone")
def fixture_lone(tmp_path):
    lone = Lone(tmp_path, os.environ["TENANT_STEER_BUILD"])
    assert lone.library.exists(), "make check in tests/unit makes it"
    yield lone
    lone.stop()


def apply(lone, *keys):
    """One file, with exceptions by tenant and profile; None if there was no answer."""
    end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)
    file = lone.dir / "exceptions.json"
    file.write_text(json.dumps({"version": 1, "exceptions": [
        {"tenant": tenant, "profile": profile, "expires_at": end.strftime("%Y-%m-%dT%H:%M:%SZ"),
         "change_request": "CR", "accepted_by": "z", "reason": "a list", "risk_sha256": lone.risk}
        for tenant, profile in keys]}))
    done = lone.ctl("apply", file)
    assert done.returncode in (0, UNREACHABLE), done
    return {"ok": True} if done.returncode == 0 else None


def work(lone, number):
    """Ask for a few things; yields after each how many entries of the log it makes, and its answer."""
    risk = {"accept_risk": True, "risk_sha256": lone.risk}
    wish = {"change_request": "CR", "accepted_by": "x", "reason": "x", "expires_s": 3600, **risk}
    acme, globex = f"acme-{number}", f"globex-{number}"
    answer = lone.ask("grant", tenant=acme, profile="skype", **wish)
    yield 1, answer
    yield 1, lone.ask("change", id=answer["exception"]["id"], expires_s=7200, accepted_by="y", **risk)
    yield 1, lone.ask("grant", tenant=acme, profile="ssh", **wish)
    yield 1, lone.ask("grant", tenant=globex, profile="ssh", **wish)
    yield 2, apply(lone, (acme, "ssh"), (f"initech-{number}", "skype"))
    yield 2, lone.ask("revoke", tenant=acme, reason="over")
    yield 1, lone.ask("revoke", tenant=globex, reason="over")


def entries(lone):
    """How many the log has, which must be whole, and as the exceptions are."""
    told = lone.ctl("audit", "verify", "--json")
    assert told.returncode == 0, told
    return json.loads(told.stdout)["audit"]["entries"]


def count_state(lone):
    """The entries that the exceptions as they are must have made: their versions."""
    return sum(e["version"] for e in lone.ask("exceptions", all=True)["exceptions"])


def one_round(lone, number, half, before):
    """Killed at write `number`. Returns (killed, entries afterwards)."""
    done, under_way = 0, 0
    if lone.start(number, half):
        for made, answer in work(lone, number):
            if answer is None:
                under_way = made
                break
            assert answer["ok"], answer
            done += made
    killed = lone.process.poll() is not None or under_way
    lone.stop()
    assert lone.start()
    after = entries(lone)
    assert after in (before + done, before + done + under_way), (number, before, done, under_way)
    assert after == count_state(lone)
    lone.stop()
    return killed, after


@pytest.mark.parametrize("half", (False, True), ids=("before", "halfway"))
def test_killed_at_each_write(lone, half):
    lone.start_anew()
    assert lone.start()
    lone.risk = lone.ask("risk")["risk"]["sha256"]
    lone.stop()
    number, before, kills, killed = 0, 0, 0, True
    while killed:
        if number % ROUNDS == ROUNDS - 1:
            lone.start_anew()
            before = 0
        number += 1
        killed, before = one_round(lone, number, half, before)
        kills += bool(killed)
    assert kills >= LEAST_KILLS
