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
