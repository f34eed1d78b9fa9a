# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk that is full, read-only, damaged or of another release: nothing new is granted, what runs ends
when it should, and status and stream say why."""

import sqlite3

import pytest

from lab.steer import LEASE_SECONDS
from lab.system import run

SLACK = 2.0
REFUSED = ("grant", "globex", "--profile", "skype", "--change-request", "CR-2", "--accepted-by", "x",
           "--reason", "x", "--accept-risk", "--expires", "1d")


@pytest.fixture(name="disk")
def fixture_disk(lab):
    """The lab with its database on a small disk of its own."""
    lab.steer.stop()
    place = lab.steer.dir / "disk"
    place.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place)
    kept, lab.steer.store = lab.steer.store, place / "exceptions.db"
    try:
        lab.steer.start()
        lab.wait_synchronised()
        yield place
    finally:
        lab.steer.stop()
        run("umount", place)
        place.rmdir()
        lab.steer.store = kept


def fill(disk):
    with open(disk / "filler", "wb", buffering=0) as filler:
        try:
            while filler.write(bytes(4096)):
                pass
        except OSError:
            pass


def grant_until_refused(lab):
    """The database's own file may have some room left. Returns what steerctl said."""
    for number in range(200):
        done = lab.steer.ctl("grant", f"t{number}", *REFUSED[2:], check=False)
        if done.returncode != 0:
            return done.stderr
    raise AssertionError("the disk is never full")


def test_full(lab, disk, watch, eventually):
    lab.steer.grant("acme", expires="20s")
    assert lab.wait_path("acme", "bypass")
    fill(disk)
    said = grant_until_refused(lab)
    assert "full" in said, said
    watch.wait_for("store-failed")
    assert "full" in watch.seen("store-failed")[0]["reason"]
    status = lab.steer.status()
    assert status["state"] == "steering"  # what is in force goes on
    assert not status["store"]["ok"] and "full" in status["store"]["error"]
    before = len(lab.steer.exceptions())
    assert lab.verdict("acme", "nontls443") == ("answered", "bypass")
    done = lab.steer.ctl("change", lab.steer.exceptions()[0]["id"], "--reason", "x" * 255,
                         check=False)
    assert done.returncode == 1
    # it ends all the same, in the kernel, though that cannot be written down
    watch.wait_for("exception-expired", "acme", deadline=30)
    assert lab.wait_path("acme", None, deadline=SLACK)
    assert len(lab.steer.exceptions()) == before
    (disk / "filler").unlink()
    watch.wait_for("store-recovered", deadline=30)
    assert lab.steer.status()["store"]["ok"]
    eventually(lambda: [e for e in lab.steer.ask("history", "acme")["history"]
                        if e["action"] == "expire"], "the expiry is written down")
    assert lab.steer.ctl("audit", "verify").returncode == 0


def test_revocation_on_a_full_disk(lab, disk, watch, eventually):
    lab.grant_and_wait("acme")
    fill(disk)
    grant_until_refused(lab)
    done = lab.steer.revoke("acme")
    assert "NOT YET ON DISK" in done.stdout, done.stdout
    assert lab.verdict("acme", "nontls443") == ("denied", None)
    (disk / "filler").unlink()
    watch.wait_for("store-recovered", deadline=30)
    eventually(lambda: [e for e in lab.steer.ask("history", "acme")["history"]
                        if e["action"] == "revoke"], "the revocation is written down")


def test_read_only(lab, disk):
    """Found when steerd starts: enforced, until the disk can be written again."""
    lab.grant_and_wait("acme")
    lab.steer.kill()
    run("mount", "-o", "remount,ro", disk)
    lab.steer.start()
    watch = lab.steer.watch()
    lab.wait_synchronised()
    assert lab.wait_path("acme", None, deadline=LEASE_SECONDS + SLACK)
    status = lab.steer.status()
    assert not status["store"]["ok"] and "Read-only" in status["store"]["error"], status["store"]
    done = lab.steer.ctl(*REFUSED, check=False)
    assert done.returncode == 1 and "Read-only" in done.stderr, done
    assert any("Read-only" in e["reason"] for e in lab.steer.request("events")["events"]
               if e["type"] == "store-failed")
    # steerd has a mount namespace of its own, from ip netns exec
    run("nsenter", "-m", "-t", lab.steer.process.pid, "mount", "-o", "remount,rw", disk)
    watch.wait_for("store-recovered", deadline=30)
    assert lab.wait_path("acme", "bypass")
    assert lab.verdict("globex", "nontls443") == ("denied", None)
    watch.stop()


def test_damaged_while_it_runs(lab, disk, watch):
    lab.grant_and_wait("acme")
    lab.steer.ctl("audit", "verify")
    with sqlite3.connect(disk / "exceptions.db") as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.execute("CREATE TABLE other (a)")  # what SQLite has cached counts no more
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    size = (disk / "exceptions.db").stat().st_size
    with open(disk / "exceptions.db", "r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))
    done = lab.steer.ctl(*REFUSED, check=False)
    assert done.returncode == 1 and "malformed" in done.stderr, done
    assert lab.verdict("acme", "nontls443") == ("denied", None)
    assert "malformed" in watch.wait_for("store-failed")["reason"]
    assert not lab.steer.status()["store"]["ok"]
    # nor is anything granted afterwards, by whatever part of the file is whole
    for _ in range(3):
        assert lab.steer.ctl(*REFUSED, check=False).returncode == 1
    assert lab.steer.status()["exceptions"] == 0


def test_of_a_newer_release(lab, disk):
    lab.grant_and_wait("acme")
    lab.steer.stop()
    with sqlite3.connect(disk / "exceptions.db") as db:
        db.execute("PRAGMA user_version = 1000")
    db.close()
    before = (disk / "exceptions.db").read_bytes()
    lab.steer.start()
    lab.wait_synchronised()
    assert lab.wait_path("acme", None, deadline=LEASE_SECONDS + SLACK)
    status = lab.steer.status()
    assert "newer release" in status["store"]["error"]
    done = lab.steer.ctl(*REFUSED, check=False)
    assert done.returncode == 1 and "newer release" in done.stderr
    assert any("newer release" in e["reason"] for e in lab.steer.request("events")["events"]
               if e["type"] == "store-failed")
    assert (disk / "exceptions.db").read_bytes() == before
