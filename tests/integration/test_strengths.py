# SPDX-License-Identifier: GPL-2.0-or-later
"""How much an exception lets through: anything on 443, listed destinations, only what is not TLS."""

import json
import pathlib
import signal

import pytest

from lab.enforce import second_stage
from lab.system import LabError
from lab.topology import OTHER4, OTHER6, PRIVATE4, PRIVATE6, SERVER4, SERVER6

TOP = pathlib.Path(__file__).resolve().parents[2]
FAMILIES = (4, 6)
DENIED = ("denied", None)
PATHS = """
path second {{ mark = 0x02000000; table = 5444; via = {via}; interface = "second";
	enforces_tls = yes; }}
profile non-tls {{ path = second; services = ["tcp/443"]; }}
profile listed {{ path = bypass; services = ["tcp/443"]; destinations = {listed}; }}
profile only-v4 {{ path = bypass; services = ["tcp/443"]; destinations = ["{server4}"]; }}
profile test {{ path = bypass; services = ["tcp/443", "udp/443"]; only_for = try; }}
"""
LISTED = ["203.0.113.0/28", f"{SERVER6}"]


def by_family(family, address4, address6):
    return address4 if family == 4 else address6


def more_config(via, listed):
    return PATHS.format(via=json.dumps(via), listed=json.dumps(listed), server4=SERVER4)


@pytest.fixture(scope="module", name="second")
def fixture_second(lab_session):
    """The lab with a second stage, more servers, and profiles for all of it."""
    with second_stage(lab_session) as via, \
            lab_session.servers("other", OTHER4, OTHER6), \
            lab_session.servers("private", PRIVATE4, PRIVATE6):
        lab_session.steer.stop()
        lab_session.steer.start(more=more_config(via, LISTED))
        yield lab_session, via
        lab_session.steer.stop()
        lab_session.steer.start()


@pytest.fixture(name="strong")
def fixture_strong(second, lab):
    return second[0]


def grant(lab, tenant, profile, path="bypass", family=4):
    lab.steer.grant(tenant, profile=profile)
    target = by_family(family, SERVER4, SERVER6)
    lab.wait_path(tenant, path, family=family, target=target)


@pytest.mark.parametrize("family", FAMILIES)
def test_non_tls_only_still_enforces_tls(strong, flows, family):
    source = strong.source("globex", family)
    grant(strong, "acme", "non-tls", "second", family)
    flow = flows("acme", family)
    assert flow.path == "second"
    assert strong.verdict("acme", "tls443", family) == ("answered", "second")
    arrived = len(strong.arrivals(path="second"))
    for kind in ("badtls443", "oldtls443"):
        assert strong.verdict("acme", kind, family) == DENIED
    assert len(strong.arrivals(path="second")) == arrived
    before = strong.bypassed_packets(source)
    assert strong.verdict("globex", "nontls443", family) == DENIED
    assert strong.verdict("globex", "tls443", family) == ("answered", "enforce")
    assert strong.bypassed_packets(source) == before
    flow.wait_progress()
    strong.steer.revoke("acme")
    assert strong.verdict("acme", "nontls443", family) == DENIED
    assert not flow.wait_ended(30)["complete"]


def test_the_plain_bypass_enforces_nothing(strong):
    """What the second stage denies arrives by a path without one."""
    grant(strong, "acme", "skype")
    for kind in ("badtls443", "oldtls443"):
        arrived = len(strong.arrivals(path="bypass"))
        strong.probe("acme", kind)
        assert len(strong.arrivals(path="bypass")) == arrived + 1


@pytest.mark.parametrize("family", FAMILIES)
def test_only_listed_destinations(strong, flows, family):
    other = by_family(family, OTHER4, OTHER6)
    grant(strong, "acme", "listed", family=family)
    assert strong.verdict("acme", "tls443", family) == ("answered", "bypass")
    arrived = len(strong.arrivals(path="bypass"))
    assert strong.verdict("acme", "nontls443", family, target=other) == DENIED
    assert strong.verdict("acme", "tls443", family, target=other) == ("answered", "enforce")
    assert strong.verdict("acme", "udp443", family) == ("answered", "direct")
    assert len(strong.arrivals(path="bypass")) == arrived
    flow = flows("acme", family)
    assert flow.path == "bypass"
    flow.wait_progress()
    strong.steer.revoke("acme")
    assert strong.verdict("acme", "nontls443", family) == DENIED
    assert not flow.wait_ended(30)["complete"]


def test_family_without_a_prefix_is_enforced(strong):
    grant(strong, "acme", "only-v4")
    assert strong.verdict("acme", "nontls443", 4) == ("answered", "bypass")
    assert strong.verdict("acme", "nontls443", 6) == DENIED


@pytest.mark.parametrize("family", FAMILIES)
def test_without_a_list_private_destinations_are_enforced(strong, family):
    private = by_family(family, PRIVATE4, PRIVATE6)
    other = by_family(family, OTHER4, OTHER6)
    grant(strong, "acme", "skype", family=family)
    arrived = len(strong.arrivals(path="bypass"))
    assert strong.verdict("acme", "nontls443", family, target=private) == DENIED
    assert strong.verdict("acme", "tls443", family, target=private) == ("answered", "enforce")
    assert len(strong.arrivals(path="bypass")) == arrived
    assert strong.verdict("acme", "nontls443", family, target=other) == ("answered", "bypass")


@pytest.fixture(name="reload")
def fixture_reload(strong, second):
    """Load another list; it is the old one again in the end."""
    def load(listed):
        strong.steer.write_config(more=more_config(second[1], listed))
        strong.steer.process.signal(signal.SIGHUP)

    yield load
    load(LISTED)
    strong.wait_synchronised()


def test_shorter_list_stops_flows_that_run(strong, reload, flows, eventually):
    """A reload with a list that no longer has the server."""
    grant(strong, "acme", "listed")
    flow = flows("acme")
    assert flow.path == "bypass"
    flow.wait_progress()
    reload(["203.0.113.0/29"])
    assert strong.wait_path("acme", None)
    eventually(lambda: flow.stalled(1.0), "the flow stalls")
    echoed = flow.last["echoed"]
    assert strong.verdict("acme", "nontls443") == DENIED
    assert flow.last["echoed"] == echoed
    reload(LISTED)
    assert strong.wait_path("acme", "bypass")


def test_profiles_say_what_they_let_through(strong):
    found = {row["profile"]: row for row in strong.steer.ask("profiles")["profiles"]}
    assert {name: (row["strength"], row["risk"], row["path"]) for name, row in found.items()} == {
        "skype": ("any-443", "high", "bypass"),
        "non-tls": ("non-tls-only", "low", "second"),
        "listed": ("destinations", "medium", "bypass"),
        "only-v4": ("destinations", "medium", "bypass"),
        "test": ("any-443", "high", "bypass")}
    assert found["listed"]["destinations"] == LISTED
    assert found["test"]["services"] == ["tcp/443", "udp/443"]
    assert (found["test"]["only_for"], found["test"]["max_lifetime_s"]) == ("try", 3600)
    text = strong.steer.ctl("profiles").stdout
    assert "any-443" in text and "203.0.113.0/28" in text


def test_shipped_profiles_fit_into_the_kernel(strong, second):
    shipped = (TOP / "sidecar" / "steerd.conf").read_text()
    profiles = shipped[shipped.index("profile whatsapp"):]
    strong.steer.stop()
    strong.steer.start(more=profiles)
    try:
        strong.wait_synchronised()
        found = {row["profile"]: row["strength"] for row in strong.steer.ask("profiles")["profiles"]}
        assert found == {"skype": "any-443", "whatsapp": "any-443", "telegram": "destinations",
                         "ssh-443": "any-443", "teams-media": "destinations",
                         "zoom": "destinations", "any": "any-443"}
        listed = strong.network.exec("gw", "nft", "-j", "list", "set", "inet", "tenant-steer",
                                     "dst4_zoom").stdout
        assert listed.count('"prefix"') == 49
    finally:
        strong.steer.stop()
        strong.steer.start(more=more_config(second[1], LISTED))


def test_profile_for_try_is_not_granted(strong):
    with pytest.raises(LabError, match="only for steerctl try"):
        strong.steer.grant("acme", profile="test", expires="10m")
    assert not strong.steer.exceptions()


def test_explain_looks_at_the_destination(strong):
    grant(strong, "acme", "listed")

    def told(destination):
        return strong.steer.ask("explain", "acme", "--dst", destination)["explain"]

    assert told(f"{SERVER4}:443")["path"] == "bypass"
    assert told(f"[{SERVER6}]:443")["path"] == "bypass"
    assert told(f"{OTHER4}:443")["path"] == "enforce"
    assert told("10.99.0.10:443")["path"] == "enforce"
    assert "never a destination" in json.dumps(told("10.99.0.10:443"))
