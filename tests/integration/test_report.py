# SPDX-License-Identifier: GPL-2.0-or-later
"""steerctl report: which exceptions were used, by how many flows, for how many bytes, to where."""

import re
import time

import pytest

from lab.system import wait_until
from lab.topology import SERVER4, SERVER6

FAMILIES = (4, 6)
ACCT = "net.netfilter.nf_conntrack_acct"


def server(family):
    return SERVER4 if family == 4 else SERVER6


def report(lab, *words):
    return lab.steer.ask("report", *words)["report"]


def exception_of(lab, tenant):
    return next(e["id"] for e in lab.steer.exceptions() if e["tenant"] == tenant)


def usage(lab, number, *words):
    """What the report says of one exception."""
    return next(e for e in report(lab, *words)["exceptions"] if e["id"] == number)


def wait_usage(lab, number, condition, what):
    wait_until(lambda: condition(usage(lab, number)),
               lambda: f"{what}; now {usage(lab, number)}", 15)
    return usage(lab, number)


def forget_flows(lab, source):
    """The kernel forgets the customer's flows now, not when they time out."""
    family = "ipv6" if ":" in source else "ipv4"
    lab.network.exec("gw", "conntrack", "-D", "-f", family, "-s", source, check=False)


@pytest.fixture(name="counting")
def fixture_counting(lab):
    lab.network.sysctl("gw", {ACCT: 1})
    yield lab
    lab.network.sysctl("gw", {ACCT: 0})


@pytest.mark.parametrize("family", FAMILIES)
def test_flow_of_known_size(counting, flows, family):
    lab = counting
    before = report(lab)["unattributed"]["flows"]
    lab.steer.grant("acme")
    number = exception_of(lab, "acme")
    lab.wait_path("acme", "bypass", family=family)
    forget_flows(lab, lab.source("acme", family))
    start = wait_usage(lab, number, lambda e: e["flows"] and e["ended"] == e["flows"],
                       "the probes have ended")
    flow = flows("acme", family)
    assert flow.path == "bypass"
    flow.wait_progress()
    ended = flow.stop()
    assert ended["complete"] and ended["sent"] == ended["echoed"] > 0
    forget_flows(lab, lab.source("acme", family))
    end = wait_usage(lab, number, lambda e: e["ended"] == start["ended"] + 1, "the flow has ended")
    assert end["flows"] == start["flows"] + 1 and end["uncounted"] == 0
    # Both directions carry the data and their headers: at most as much again for small segments.
    for member in ("bytes_sent", "bytes_received"):
        used = end[member] - start[member]
        assert ended["sent"] < used < 2 * ended["sent"] + 4096, (member, used, ended)
    assert [(d["address"], d["protocol"], d["port"]) for d in end["destinations"]] == \
        [(server(family), "tcp", 443)]
    assert end["destinations"][0]["bytes_sent"] == end["bytes_sent"]
    assert end["scope"] == "tenant" and end["accepted_by"] == "ciso@acme.example"
    assert end["granted_by"] == "root" and end["change_request"] == "CR-1" and end["active"]
    assert report(lab)["unattributed"]["flows"] == before


def test_bytes_that_nobody_counted_are_not_zero(lab):
    lab.grant_and_wait("acme")
    number = exception_of(lab, "acme")
    forget_flows(lab, lab.source("acme"))
    used = wait_usage(lab, number, lambda e: e["ended"], "a flow has ended")
    assert used["bytes_sent"] is None and used["uncounted"] == used["ended"]
    assert re.search(rf"exception {number} .*?bytes not counted", lab.steer.ctl("report").stdout,
                     re.DOTALL)
    doctor = lab.network.exec("gw", lab.steer.steerctl, "--socket", lab.steer.control, "doctor",
                              check=False).stdout
    assert "sysctl -w net.netfilter.nf_conntrack_acct=1" in doctor


def flows_of(lab, tenant):
    return [(e["id"], e["flows"]) for e in report(lab, tenant)["exceptions"]]


def test_never_used(lab):
    """One that nobody used is told; what another tenant does, enforced, appears nowhere."""
    lab.steer.grant("globex")
    number = exception_of(lab, "globex")
    enforced = flows_of(lab, "initech")
    lab.grant_and_wait("acme")
    used = exception_of(lab, "acme")
    lab.steer.revoke("globex")
    assert lab.verdict("globex", "nontls443") == ("denied", None)
    assert lab.verdict("roadwarrior", "tls443") == ("answered", "enforce")
    wait_usage(lab, used, lambda e: e["flows"], "acme has used its exception")
    unused = usage(lab, number)
    assert (unused["flows"], unused["ended"], unused["ever_used"]) == (0, 0, False)
    assert unused["destinations"] == [] and unused["first_use"] is None and not unused["active"]
    everything = report(lab)
    text = lab.steer.ctl("report").stdout
    assert re.search(rf"exception {number} .*?used by +nobody, never", text, re.DOTALL)
    assert re.search(rf"Not used in this month: exceptions .*\b{number}\b", text)
    assert {e["tenant"] for e in everything["exceptions"]} >= {"acme", "globex"}
    assert flows_of(lab, "initech") == enforced
    alone = report(lab, "globex")
    assert {e["tenant"] for e in alone["exceptions"]} == {"globex"}
    assert "destinations" not in alone["unattributed"]


def test_only_what_was_in_force_in_the_month(lab):
    lab.steer.grant("acme")
    number = exception_of(lab, "acme")
    month = report(lab)["month"]
    assert month == time.strftime("%Y-%m", time.gmtime())
    assert number in [e["id"] for e in report(lab, "--month", month)["exceptions"]]
    assert report(lab, "--month", "2020-01")["exceptions"] == []
    for wrong in ("2020-13", "2020", "january"):
        refused = lab.steer.ctl("report", "--month", wrong, check=False)
        assert refused.returncode == 1 and "YYYY-MM" in refused.stderr


def test_kept_over_a_restart(lab, flows):
    lab.grant_and_wait("acme")
    number = exception_of(lab, "acme")
    flow = flows("acme")
    before = wait_usage(lab, number, lambda e: e["flows"], "the flows are counted")
    unattributed = report(lab)["unattributed"]["ended"]
    lab.steer.stop()
    lab.steer.start()
    lab.wait_synchronised()
    assert usage(lab, number)["flows"] >= before["flows"]
    # Whose flow it was that began before is not known any more, and not guessed.
    flow.wait_progress()
    assert flow.stop()["complete"]
    flows_now = usage(lab, number)["flows"]
    forget_flows(lab, lab.source("acme"))
    wait_until(lambda: report(lab)["unattributed"]["ended"] > unattributed, "its end is counted")
    assert usage(lab, number)["flows"] == flows_now


def test_steering_does_without_the_accounting(lab):
    """A file that is no database: status says so, nothing else is different, and what comes after counts."""
    file = lab.steer.store.parent / (lab.steer.store.name + ".usage")
    lab.steer.stop()
    for part in lab.steer.store.parent.glob(f"{file.name}*"):
        part.unlink()
    file.write_text("no database" * 1000)
    lab.steer.start()
    lab.wait_synchronised()
    try:
        lab.grant_and_wait("acme")
        number = exception_of(lab, "acme")
        wait_until(lambda: not lab.steer.status()["accounting"]["ok"], "the file is complained of")
        assert lab.steer.active() and lab.steer.status()["store"]["ok"]
        assert not lab.steer.request("report")["ok"]
        lab.steer.revoke("acme")
        assert lab.verdict("acme", "nontls443") == ("denied", None)
    finally:
        file.unlink()
    wait_until(lambda: lab.steer.status()["accounting"]["ok"], "it is written again", 25)
    assert usage(lab, number)["flows"] > 0


def test_part_of_a_tenant(lab):
    """Two exceptions of one tenant, for a host each: each has its own flows."""
    source, other = lab.source("acme"), "198.18.1.77"
    lab.network.ip("acme", "address", "replace", f"{other}/32", "dev", "lo")
    lab.steer.grant("acme", "--host", source)
    lab.steer.grant("acme", "--host", other)
    numbers = {e["scope"]: e["id"] for e in lab.steer.exceptions()}
    mine, others = numbers[f"host {source}"], numbers[f"host {other}"]
    lab.wait_path("acme", "bypass")
    used = wait_usage(lab, mine, lambda e: e["flows"], "the first host's flows are counted")
    assert used["scope"] == f"host {source}"
    assert usage(lab, others)["flows"] == 0
    lab.wait_path("acme", "bypass", source=other)
    wait_usage(lab, others, lambda e: e["flows"], "the second host's flows are counted")
