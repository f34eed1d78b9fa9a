# SPDX-License-Identifier: GPL-2.0-or-later
"""steerctl says what was wrong, and changes nothing then."""

import json

import pytest

RISK = ("--change-request", "CR-1", "--accepted-by", "ciso@acme.example", "--accept-risk")


@pytest.mark.parametrize("words, says", (
    (("grant", "acme", "--profile", "skype"), "--accept-risk"),
    (("grant", "acme", "--profile", "skype", *RISK[:-1], "--expires", "1d"), "--accept-risk"),
    (("grant", "acme", "--profile", "skype", "--accepted-by", "x", "--accept-risk",
      "--expires", "1d"), "--change-request"),
    (("grant", "acme", "--profile", "skype", "--change-request", "x", "--accept-risk",
      "--expires", "1d"), "--accepted-by"),
    (("grant", "acme", *RISK, "--profile", "nonsense", "--expires", "1d"), "no such profile"),
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
