# SPDX-License-Identifier: GPL-2.0-or-later
"""steerctl plan: what a grant would let through, seen without letting anything through."""

import contextlib
import json
import subprocess

import pytest

from lab.system import wait_until
from lab.topology import PRIVATE4, PRIVATE6, SERVER4, SERVER6

FAMILIES = (4, 6)
DENIED = ("denied", None)
ACCT = "net.netfilter.nf_conntrack_acct"


def server(family):
    return SERVER4 if family == 4 else SERVER6


def forget_flows(lab):
    """What earlier tests left in the kernel's table."""
    lab.network.exec("gw", "conntrack", "-F", check=False)


class Plan:
    """A `steerctl plan` under way."""

    def __init__(self, lab, tenant, *words, seconds=4, profile="skype", as_json=True):
        command = [lab.steer.steerctl, "--socket", lab.steer.control, "plan", tenant,
                   "--profile", profile, "--for", f"{seconds}s", *words,
                   *(["--json"] if as_json else [])]
        self.popen = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE, text=True)

    def finish(self):
        out, err = self.popen.communicate(timeout=60)
        assert self.popen.returncode == 0, err
        return out

    def result(self):
        return json.loads(self.finish())["plan"]


def observed(lab, number):
    return lab.steer.request("plan-result", id=number)["plan"]


@contextlib.contextmanager
def begun(lab, tenant, **more):
    """An observation by this process; what is yielded asks for the result of it."""
    answer = lab.steer.request("plan", tenant=tenant, profile="skype", **more)
    assert answer["ok"], answer
    number = answer["plan"]["id"]

    def finished():
        wait_until(lambda: observed(lab, number)["state"] == "done", "the window is over", 30)
        return observed(lab, number)

    yield finished


def rows(plan):
    return [(d["address"], d["protocol"], d["port"]) for d in plan["destinations"]]


@pytest.mark.parametrize("family", FAMILIES)
def test_denied_flows_are_listed_and_stay_denied(lab, family):
    forget_flows(lab)
    before = lab.bypassed_packets()
    table = lab.network.exec("gw", "nft", "-s", "list", "table", "inet", "tenant-steer").stdout
    with begun(lab, "acme", duration_s=4) as result:
        assert lab.verdict("acme", "nontls443", family) == DENIED
        assert lab.verdict("acme", "nontls443", family) == DENIED
        assert lab.verdict("globex", "nontls443", family) == DENIED
        assert lab.verdict("acme", "http80", family) == ("answered", "direct")
        plan = result()
    assert rows(plan) == [(server(family), "tcp", 443)]
    found = plan["destinations"][0]
    assert (found["live"], found["new"], found["bypassed"], found["now"]) == (0, 2, 0, "enforce")
    assert not plan["lower_bound"] and not any(plan["left_out"].values())
    assert lab.bypassed_packets() == before
    assert lab.network.exec("gw", "nft", "-s", "list", "table", "inet",
                            "tenant-steer").stdout == table
    assert not lab.steer.exceptions()


def test_nothing_of_another_tenant(lab):
    forget_flows(lab)
    with begun(lab, "initech", duration_s=3) as result:
        assert lab.verdict("globex", "nontls443") == DENIED
        assert lab.verdict("acme", "nontls443") == DENIED
        plan = result()
    assert plan["destinations"] == [] and plan["other_destinations"]["new"] == 0


def test_live_flows_with_their_bytes(lab, flows):
    forget_flows(lab)
    lab.network.sysctl("gw", {ACCT: 1})
    try:
        flow = flows("acme", tls=True)
        assert flow.path == "enforce"
        flow.wait_progress()
        plan = Plan(lab, "acme", seconds=1).result()
    finally:
        lab.network.sysctl("gw", {ACCT: 0})
    assert rows(plan) == [(SERVER4, "tcp", 443)]
    found = plan["destinations"][0]
    assert (found["live"], found["new"], found["now"]) == (1, 0, "enforce")
    assert found["bytes_sent"] > 4096 and found["bytes_received"] > 4096
    assert flow.stop()["complete"]


def test_bytes_that_nobody_counted_are_not_zero(lab, flows):
    forget_flows(lab)
    flow = flows("acme", tls=True)
    flow.wait_progress()
    plan = Plan(lab, "acme", seconds=1).result()
    assert plan["destinations"][0]["bytes_sent"] is None


def test_what_bypasses_already_is_said(lab):
    lab.grant_and_wait("acme")
    forget_flows(lab)
    with begun(lab, "acme", duration_s=2) as result:
        assert lab.verdict("acme", "nontls443") == ("answered", "bypass")
        plan = result()
    found = plan["destinations"][0]
    assert (found["new"], found["bypassed"], found["now"]) == (1, 1, "bypass")


@pytest.mark.parametrize("family", FAMILIES)
def test_reserved_destinations_are_left_out(lab, family):
    private = PRIVATE4 if family == 4 else PRIVATE6
    forget_flows(lab)
    with begun(lab, "acme", duration_s=3) as result:
        lab.probe("acme", "nontls443", family, timeout=1.0, target=private)
        plan = result()
    assert plan["destinations"] == []
    assert plan["left_out"]["reserved"] == 1


def test_only_those_of_a_host(lab):
    forget_flows(lab)
    with begun(lab, "acme", duration_s=2, host="198.18.1.99") as result:
        assert lab.verdict("acme", "nontls443") == DENIED
        assert result()["destinations"] == []
    with begun(lab, "acme", duration_s=2, prefix=f"{lab.source('acme')}/32") as result:
        assert lab.verdict("acme", "nontls443") == DENIED
        assert len(result()["destinations"]) == 1


def test_text_ends_with_the_command(lab):
    forget_flows(lab)
    plan = Plan(lab, "acme", seconds=3, as_json=False)
    assert lab.verdict("acme", "nontls443") == DENIED
    text = plan.finish()
    assert SERVER4 in text and "enforce" in text
    assert "steerctl grant acme --profile skype" in text and "--accept-risk" in text


def test_limits(lab):
    with begun(lab, "acme", duration_s=1) as result:
        again = lab.steer.request("plan", tenant="acme", profile="skype", duration_s=1)
        assert not again["ok"] and "one at a time" in again["error"]
        result()
    plans = [Plan(lab, "acme", seconds=5) for _ in range(3)]
    wait_until(lambda: lab.steer.status()["counters"]["plan_observations"] == 3, "three observe")
    with begun(lab, "acme", duration_s=2) as result:
        fifth = lab.steer.ctl("plan", "acme", "--profile", "skype", "--for", "1s", check=False)
        assert fifth.returncode == 1 and "are under way" in fifth.stderr
        result()
    for plan in plans:
        plan.result()


def test_refused(lab):
    for fields, words in (({"tenant": "nobody"}, "not connected"),
                          ({"profile": "none"}, "no profile"),
                          ({"duration_s": 0}, "duration_s"),
                          ({"duration_s": 3601}, "duration_s"),
                          ({"host": "198.18.1.0/24"}, "host"),
                          ({"host": "198.18.1.1", "prefix": "198.18.1.0/24"}, "one of them")):
        answer = lab.steer.request("plan", **{"tenant": "acme", "profile": "skype", **fields})
        assert not answer["ok"] and words in answer["error"], answer
    answer = lab.steer.request("plan-result", id=999999)
    assert not answer["ok"] and "no such observation" in answer["error"]
