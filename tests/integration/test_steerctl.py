# SPDX-License-Identifier: GPL-2.0-or-later
"""steerctl says what was wrong, and changes nothing then."""

import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest

RISK = ("--change-request", "CR-1", "--accepted-by", "ciso@acme.example", "--reason", "calls",
        "--accept-risk")


@pytest.mark.parametrize("words, says", (
    (("grant", "acme", "--profile", "skype"), "--accept-risk"),
    (("grant", "acme", "--profile", "skype", *RISK[:-1], "--expires", "1d"), "--accept-risk"),
    (("grant", "acme", "--profile", "skype", "--accepted-by", "x", "--accept-risk",
      "--expires", "1d"), "--change-request"),
    (("grant", "acme", "--profile", "skype", "--change-request", "x", "--accept-risk",
      "--expires", "1d"), "--accepted-by"),
    (("grant", "acme", *RISK, "--profile", "nonsense", "--expires", "1d"), "no profile \"nonsense\""),
    (("grant", "acme", *RISK, "--profile", "skype", "--expires", "soon"), "--expires"),
    (("grant", "acme", *RISK, "--profile", "skype", "--expires", "1000d"), "max_lifetime"),
    (("grant", "no such name!", *RISK, "--profile", "skype", "--expires", "1d"), "tenant"),
    (("revoke", "acme", "--reason", "test"), "no active exception"),
    (("revoke", "acme"), "--reason"),
    (("frobnicate",), "frobnicate"),
    (("explain",), "explain"),
))
def test_bad_input_is_refused_with_a_reason(lab, words, says):
    done = lab.steer.ctl(*words, check=False)
    assert done.returncode in (1, 2), done
    assert says in done.stderr, done.stderr
    assert lab.steer.exceptions() == []


def test_granting_a_tenant_that_nobody_has_seen_says_so(lab):
    done = lab.steer.grant("umbrella")
    assert "umbrella" in done.stdout
    assert "not connected" in done.stdout + done.stderr
    assert [e["tenant"] for e in lab.steer.exceptions()] == ["umbrella"]


def ask_grant(lab, **fields):
    """A grant that lacks nothing, but for what is said; what is None is left out."""
    wish = {"tenant": "acme", "profile": "skype", "change_request": "CR-1", "accepted_by": "ciso",
            "reason": "calls", "accept_risk": True, "expires_s": 3600,
            "risk_sha256": lab.steer.request("risk")["risk"]["sha256"], **fields}
    return lab.steer.request("grant", **{k: v for k, v in wish.items() if v is not None})


@pytest.mark.parametrize("fields, says", (
    ({"reason": None}, "reason: expected"),
    ({"reason": ""}, "reason: expected"),
    ({"change_request": "x" * 256}, "change_request: expected 1 to 255 bytes"),
    ({"accepted_by": None}, "accepted_by: expected"),
    ({"profile": 7}, "profile: expected"),
    ({"expires_s": None}, "expires_s: an exception needs an end"),
    ({"expires_s": 0}, "expires_s: expected 1 second"),
    ({"expires_s": 91 * 86400}, "max_lifetime"),
    ({"accept_risk": False}, "not inspected"),
    ({"scope": "198.18.1.5"}, "is no scope; expected tenant, host ADDRESS"),
    ({"destinations": "203.0.113.1/24"}, "destinations: \"203.0.113.1/24\" has bits set behind its length"),
    ({"scope": 7}, "scope: expected a text"),
    ({"destinations": ["203.0.113.0/24"]}, "destinations: expected a text"),
    ({"host": "198.18.1.5"}, "host: is not a member of this command"),
    ({"destinations": 2048 * "1"}, "destinations: expected 1 to 2047 bytes"),
    ({"risk_sha256": None}, "risk_sha256: the text"),
))
def test_every_refusal_names_the_field(lab, fields, says):
    answer = ask_grant(lab, **fields)
    assert not answer["ok"]
    assert says in answer["error"], answer
    assert lab.steer.exceptions() == []


def test_another_text_of_the_risk_is_refused_with_both_named(lab):
    ours = lab.steer.request("risk")["risk"]
    answer = ask_grant(lab, risk_sha256="ab" * 32, risk_version=7)
    assert not answer["ok"]
    for part in ("version 7", "ab" * 32, f"version {ours['version']}", ours["sha256"]):
        assert part in answer["error"], answer
    assert lab.steer.exceptions() == []


def test_the_record_is_complete(lab):
    lab.steer.grant("acme")
    record, = lab.steer.exceptions()
    ours = lab.steer.request("risk")["risk"]
    assert {key: record[key] for key in (
        "version", "tenant", "profile", "scope", "destinations", "change_request", "accepted_by",
        "reason", "risk_version", "risk_sha256", "granted_by", "granted_by_uid", "state",
        "ended_at", "ended_by", "end_reason")} == {
            "version": 1, "tenant": "acme", "profile": "skype", "scope": "tenant",
            "destinations": None, "change_request": "CR-1", "accepted_by": "ciso@acme.example",
            "reason": "calls", "risk_version": ours["version"], "risk_sha256": ours["sha256"],
            "granted_by": "root", "granted_by_uid": 0, "state": "active", "ended_at": None,
            "ended_by": None, "end_reason": None}
    assert record["granted_at"] < record["expires_at"]


def test_change_of_the_end_reaches_the_kernel(lab, watch, eventually):
    lab.grant_and_wait("acme")
    number = lab.steer.exceptions()[0]["id"]
    lab.steer.ctl("change", number, "--expires", "2s", "--reason", "soon over")
    told = watch.wait_for("exception-changed", "acme")
    assert told["exception_id"] == number and told["actor"] == "root"
    assert lab.wait_path("acme", None, deadline=6)
    watch.wait_for("exception-expired", "acme")
    eventually(lambda: lab.steer.exceptions() == [], "it is over")


def test_a_later_end_needs_the_risk_accepted_again(lab):
    lab.steer.grant("acme", expires="1d")
    before, = lab.steer.exceptions()
    later = ("change", before["id"], "--expires", "2d")
    for words in ((), ("--accept-risk",), ("--accepted-by", "cso@acme.example")):
        done = lab.steer.ctl(*later, *words, check=False)
        assert done.returncode == 1 and "not inspected" in done.stderr, done
    assert lab.steer.exceptions() == [before]
    lab.steer.ctl(*later, "--accept-risk", "--accepted-by", "cso@acme.example")
    after, = lab.steer.exceptions()
    assert (after["version"], after["accepted_by"]) == (2, "cso@acme.example")
    assert after["expires_at"] > before["expires_at"]
    done = lab.steer.ctl("change", before["id"], "--expires", "91d", "--accept-risk",
                         "--accepted-by", "cso@acme.example", check=False)
    assert "max_lifetime" in done.stderr and "first grant" in done.stderr
    assert lab.steer.exceptions() == [after]


def test_the_second_of_two_operators_is_refused(lab):
    lab.steer.grant("acme")
    number = lab.steer.exceptions()[0]["id"]
    lab.steer.ctl("change", number, "--reason", "the first one's", "--if-version", "1")
    for words in (("change", number, "--reason", "the second one's"),
                  ("revoke", "acme", "--reason", "the second one's")):
        done = lab.steer.ctl(*words, "--if-version", "1", check=False)
        assert done.returncode == 1
        assert "has version 2 by now, not 1" in done.stderr, done.stderr
    assert lab.steer.exceptions()[0]["reason"] == "the first one's"
    lab.steer.ctl("revoke", "acme", "--reason", "seen", "--if-version", "2")
    assert lab.steer.exceptions() == []


def test_granting_twice_is_refused(lab):
    lab.grant_and_wait("acme")
    done = lab.steer.ctl("grant", "acme", "--profile", "skype", *RISK, "--expires", "1d",
                         check=False)
    assert done.returncode == 1
    assert len(lab.steer.exceptions()) == 1


@pytest.mark.parametrize("command", ("status", "tenants", "exceptions", "profiles"))
def test_json_is_one_object_with_a_version(lab, command):
    done = lab.steer.ctl(command, "--json", check=False)
    assert json.loads(done.stdout)["v"] == 1


def test_explain_tells_the_path(lab):
    assert "bypass" not in lab.steer.ctl("explain", "globex").stdout.splitlines()[0]
    lab.grant_and_wait("acme")
    for subject in ("acme", lab.source("acme"), lab.source("acme", 6)):
        told = lab.steer.ctl("explain", subject).stdout
        assert "bypass" in told, told
        assert re.search(r"exception \d+: risk accepted by ciso@acme.example, granted by root for CR-1, "
                         "29 days 23 h", told), told
        assert "flows that began before it was granted, 0 min ago, stay enforced" in told, told
    lab.steer.revoke("acme")
    assert "risk accepted" not in lab.steer.ctl("explain", "acme").stdout


def test_history_keeps_who_accepted_the_risk(lab):
    lab.grant_and_wait("acme")
    lab.steer.revoke("acme", "end of test")
    told = lab.steer.ctl("exceptions", "--all").stdout
    assert "ciso@acme.example" in told
    assert "end of test" in told


def test_no_steerd_is_said_plainly(lab):
    lab.steer.stop()
    done = lab.steer.ctl("status", check=False)
    assert done.returncode == 1
    assert "steerd" in done.stderr


FULL = "#!/bin/sh\necho executed \"$@\"\nexit 7\n"


@pytest.fixture(name="copied")
def fixture_copied(tmp_path):
    """Run a copy of steerctl that has a script as steerctl-full beside it, in a directory of this mode."""
    def copied(mode, *words):
        there = tmp_path / f"{mode:o}"
        there.mkdir()
        shutil.copy(pathlib.Path(os.environ["TENANT_STEER_BUILD"]) / "sidecar" / "steerctl", there)
        (there / "steerctl-full").write_text(FULL)
        (there / "steerctl-full").chmod(0o755)
        there.chmod(mode)
        return subprocess.run([there / "steerctl", *words], cwd=there, capture_output=True, text=True,
                              env={"PATH": f"{there}:/usr/bin:/bin"}, check=False)

    return copied


@pytest.mark.parametrize("command", ("watch", "doctor"))
def test_what_needs_more_libraries_is_another_program(copied, command):
    done = copied(0o755, "--socket", "/nonexistent", command, "--json")
    assert done.stdout == f"executed --socket /nonexistent {command} --json\n", done
    assert done.returncode == 7, done


@pytest.mark.parametrize("words, code", (
    (("--socket", "/nonexistent", "status"), 1), (("watch", "--help"), 0), (("watch", "--no"), 2)))
def test_the_rest_is_not(copied, words, code):
    done = copied(0o755, *words)
    assert "executed" not in done.stdout and done.returncode == code, done


def test_a_program_that_anybody_may_have_put_there_is_not_executed(copied):
    done = copied(0o1777, "--socket", "/nonexistent", "doctor")
    assert "executed" not in done.stdout and done.returncode == 1, done
    if not pathlib.Path("/usr/libexec/tenant-steer/steerctl-full").exists():
        assert "cannot execute /" in done.stderr and "/tenant-steer/steerctl-full" in done.stderr


def test_it_starts_without_the_libraries_that_only_some_commands_need():
    """ZeroMQ, and those for the kernel: they take longer to load than a grant."""
    steerctl = pathlib.Path(os.environ["TENANT_STEER_BUILD"]) / "sidecar" / "steerctl"
    loaded = {program: subprocess.run(["ldd", steerctl.with_name(program)], capture_output=True,
                                      text=True, check=True).stdout
              for program in ("steerctl", "steerctl-full")}
    for library in ("libzmq", "libnftables", "libnl-3", "libsystemd"):
        assert library in loaded["steerctl-full"] and library not in loaded["steerctl"], loaded
