# SPDX-License-Identifier: GPL-2.0-or-later
"""The audit log as an operator and an auditor see it: all of it is there, and nobody can touch it."""

import hashlib
import json
import sqlite3

import pytest

UNGUARDED = ("DROP TRIGGER audit_appended", "DROP TRIGGER audit_kept",
             "DROP TRIGGER audit_written_once", "DROP TRIGGER exception_versions",
             "DROP TRIGGER exception_written_once", "DROP TRIGGER exception_ended_once",
             "DROP TRIGGER exception_kept")


@pytest.fixture(name="fresh")
def fixture_fresh(lab):
    """The lab with a database of its own, which the test may spoil."""
    lab.steer.stop()
    kept, lab.steer.store = lab.steer.store, lab.steer.dir / "spoiled.db"
    lab.steer.start()
    yield lab
    lab.steer.stop()
    for left in lab.steer.dir.glob("spoiled.db*"):
        left.unlink()
    lab.steer.store = kept


def tamper(lab, *statements):
    """As somebody with the file and sqlite3 would, beside a steerd that runs."""
    with sqlite3.connect(lab.steer.store) as db:
        for statement in (*UNGUARDED, *statements):
            db.execute(statement)
    db.close()


def live(lab):
    """A grant, a change and a revocation for acme, a grant for globex."""
    lab.steer.grant("acme")
    number = lab.steer.exceptions()[0]["id"]
    lab.steer.ctl("change", number, "--reason", "more calls")
    lab.steer.grant("globex")
    lab.steer.revoke("acme", "over")


def verify(lab, *words):
    return lab.steer.ctl("audit", "verify", *words, check=False)


def test_history(fresh):
    live(fresh)
    told = fresh.steer.ask("history")["history"]
    assert [(e["action"], e["tenant"]) for e in told] == [
        ("grant", "acme"), ("change", "acme"), ("grant", "globex"), ("revoke", "acme")]
    assert [e["seq"] for e in told] == [1, 2, 3, 4]
    assert all((e["actor"], e["actor_uid"]) == ("root", 0) for e in told)
    assert told[1]["changes"] == 'reason "calls" -> "more calls"'
    assert told[3]["record"]["end_reason"] == "over"
    assert told[3]["record"]["accepted_by"] == "ciso@acme.example"
    assert [e["seq"] for e in fresh.steer.ask("history", "acme")["history"]] == [1, 2, 4]
    assert [e["seq"] for e in fresh.steer.ask("history", "--limit", 2)["history"]] == [3, 4]
    assert [e["seq"] for e in fresh.steer.ask("history", "--limit", 2, "--before", 3)["history"]
            ] == [1, 2]
    text = fresh.steer.ctl("history", "acme").stdout
    assert "risk accepted by ciso@acme.example" in text
    assert 'reason "calls" -> "more calls"' in text
    assert fresh.steer.ctl("history", "--limit", 0, check=False).returncode == 1


def test_expiry_is_in_the_log(fresh, eventually):
    fresh.steer.grant("acme", expires="1s")
    eventually(lambda: [e["action"] for e in fresh.steer.ask("history")["history"]]
               == ["grant", "expire"], "the expiry is written down")
    last = fresh.steer.ask("history")["history"][-1]
    assert last["actor"] == "steerd"
    assert verify(fresh).returncode == 0


def test_anybody_can_compute_the_hashes(fresh):
    """By the documentation alone, from what history prints."""
    live(fresh)
    previous = "0" * 64
    for line in fresh.steer.ctl("history", "--json").stdout.split('{"seq":')[1:]:
        text, rest = ('{"seq":' + line).split(',"hash":"', 1)
        told = rest.split('"', 1)[0]
        assert json.loads(text + "}")["previous"] == previous
        assert hashlib.sha256((text + "}").encode()).hexdigest() == told
        previous = told
    assert previous in verify(fresh).stdout


def explain_at(lab, subject, time, *words):
    return lab.steer.ctl("explain", subject, "--at", time, *words, check=False)


def test_what_was_in_force_then(fresh):
    """By the log alone, in each stretch of an exception's life."""
    live(fresh)
    granted, changed, _, revoked = [e["time"] for e in fresh.steer.ask("history")["history"]]
    told = fresh.steer.ask("explain", "acme", "--at", granted)["explain"]
    assert told["source"] == "audit log" and told["path"] is None
    assert [(e["id"], e["version"]) for e in told["in_force"]] == [(1, 1)]
    assert [r["ok"] for r in told["reasons"]] == [True]
    for part in ("exception 1, version 1", "skype", "by root", "ciso@acme.example", "CR-1"):
        assert part in told["reasons"][0]["text"]
    assert [e["action"] for e in told["entries"]] == ["grant", "change", "revoke"]
    told = fresh.steer.ask("explain", "acme", "--at", changed)["explain"]
    assert [(e["version"], e["reason"]) for e in told["in_force"]] == [(2, "more calls")]
    told = fresh.steer.ask("explain", "acme", "--at", revoked)["explain"]
    assert told["in_force"] == []
    assert "had ended at" in told["reasons"][1]["text"] and "over" in told["reasons"][1]["text"]
    text = explain_at(fresh, "acme", "2020-01-01 12:00").stdout
    assert "no exception of acme was in force" in text and "the log begins at" in text
    assert "audit log" in text and "what the kernel did then is not recorded" in text
    assert "no exception of umbrella" in explain_at(fresh, "umbrella", revoked).stdout


def test_what_had_expired_then(fresh, eventually):
    fresh.steer.grant("acme", expires="1s")
    eventually(lambda: [e["action"] for e in fresh.steer.ask("history")["history"]]
               == ["grant", "expire"], "the expiry is written down")
    ended = fresh.steer.ask("history")["history"][-1]["time"]
    text = explain_at(fresh, "acme", ended).stdout
    assert "no  exception 1, for profile skype, had ended" in text, text


@pytest.mark.parametrize("subject, time, says", (
    ("acme", "noon", "at: expected a time"),
    ("acme", "2099-01-01 12:00", "at: expected a time that has been"),
    ("198.18.1.5", "2020-01-01 12:00", "addresses are not in the audit log"),
    ("no name", "2020-01-01 12:00", "expected a tenant name"),
))
def test_what_the_log_cannot_tell(fresh, subject, time, says):
    done = explain_at(fresh, subject, time)
    assert done.returncode == 1 and says in done.stderr, done


def test_whole(fresh):
    live(fresh)
    done = verify(fresh)
    assert done.returncode == 0
    assert "whole" in done.stdout and "entries 4, exceptions 2" in done.stdout, done.stdout
    told = fresh.steer.ask("audit", "verify")["audit"]
    assert told["whole"] and told["entries"] == 4 and told["head"] in done.stdout


def test_more_than_a_page(fresh):
    """Pages of entries and of exceptions; the last link of many is looked at, too."""
    for number in range(300):
        fresh.steer.request(
            "grant", tenant=f"t{number}", profile="skype", change_request="CR", accepted_by="x",
            reason="x", accept_risk=True, expires_s=60,
            risk_sha256=fresh.steer.request("risk")["risk"]["sha256"])
    done = verify(fresh)
    assert "entries 300, exceptions 300" in done.stdout, done.stdout
    tamper(fresh, "UPDATE audit SET actor = 'x' WHERE seq = 300")
    assert "entry 300 was changed" in verify(fresh).stdout


@pytest.mark.parametrize("statements, says", (
    (("UPDATE audit SET actor = 'x' WHERE seq = 2",), "entry 2 was changed"),
    (("DELETE FROM audit WHERE seq = 2",), "entry 2 is missing"),
    (("UPDATE exception SET expires_at_us = expires_at_us + 1 WHERE tenant = 'globex'",),
     "exception 2 is not as its last entry in the log says"),
    (("UPDATE exception SET ended_at_us = 0 WHERE id = 1",), "exception 1 is not as its last"),
    (("DELETE FROM exception WHERE id = 1",), "exception 1 is in the log, and not among"),
    (("CREATE TABLE copy AS SELECT * FROM exception WHERE id = 2",
      "UPDATE copy SET id = 3, tenant = 'initech'", "INSERT INTO exception SELECT * FROM copy"),
     "exception 3 is not in the log"),
))
def test_tampered(fresh, statements, says):
    live(fresh)
    tamper(fresh, *statements)
    done = verify(fresh)
    assert done.returncode == 1
    assert "BROKEN" in done.stdout and says in done.stdout, done.stdout
    told = json.loads(verify(fresh, "--json").stdout)["audit"]
    assert not told["whole"] and says in told["broken"]


def test_tail_cut_off(fresh):
    """Only whoever noted the head can tell."""
    live(fresh)
    head = fresh.steer.ask("audit", "verify")["audit"]["head"]
    fresh.steer.grant("initech")
    assert verify(fresh, "--expect", head).returncode == 0
    tamper(fresh, "DELETE FROM audit WHERE seq > 3", "DELETE FROM exception WHERE id = 3",
           "UPDATE exception SET ended_at_us = 0, version = 2, ended_by = '', ended_by_uid = -1,"
           " end_reason = '' WHERE id = 1")
    assert verify(fresh).returncode == 0
    done = verify(fresh, "--expect", head)
    assert done.returncode == 1
    assert "cut off" in done.stdout, done.stdout
    assert verify(fresh, "--expect", "nonsense").returncode == 2
