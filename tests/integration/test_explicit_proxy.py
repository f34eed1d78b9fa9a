# SPDX-License-Identifier: GPL-2.0-or-later
"""The old Skype recipe: a client that has an explicit proxy, sends it CONNECT with a raw address, and then
speaks something that is not TLS. Exempt, it is answered by the proxy on the bypass path."""

import pytest

from lab.proxies import explicit_proxies
from lab.topology import PROXY4, PROXY6, PROXY_PORT

FAMILIES = (4, 6)
DENIED = ("denied", None)
PROFILE = f"""
profile recipe {{ path = bypass; services = ["tcp/443"];
	explicit_proxy = ["{PROXY4}:{PROXY_PORT}", "[{PROXY6}]:{PROXY_PORT}"]; }}
profile proxy-only {{ path = bypass; explicit_proxy = "{PROXY4}:{PROXY_PORT}"; }}
"""


def proxy(family):
    return PROXY4 if family == 4 else PROXY6


@pytest.fixture(scope="module", name="proxies")
def fixture_proxies(lab_session):
    with explicit_proxies(lab_session):
        lab_session.steer.stop()
        lab_session.steer.start(more=PROFILE)
        yield lab_session
        lab_session.steer.stop()
        lab_session.steer.start()


@pytest.fixture(name="both")
def fixture_both(proxies, lab):
    return proxies


@pytest.mark.parametrize("family", FAMILIES)
def test_everybody_is_answered_by_the_enforcing_proxy(both, family):
    for name in ("acme", "globex"):
        assert both.verdict(name, "tls443", family, proxy=proxy(family)) == ("answered", "enforce")
        arrived = len(both.arrivals())
        assert both.verdict(name, "nontls443", family, proxy=proxy(family)) == DENIED
        assert len(both.arrivals()) == arrived


@pytest.mark.parametrize("family", FAMILIES)
def test_exempt_tenant_is_answered_by_the_other_one(both, flows, family):
    both.steer.grant("acme", profile="recipe")
    assert both.wait_path("acme", "bypass", family=family, proxy=proxy(family))
    assert both.verdict("acme", "tls443", family, proxy=proxy(family)) == ("answered", "bypass")
    # the services as well, other ports not
    assert both.verdict("acme", "nontls443", family) == ("answered", "bypass")
    assert both.verdict("acme", "http80", family) == ("answered", "direct")
    for name in ("globex", "roadwarrior"):
        assert both.verdict(name, "nontls443", family, proxy=proxy(family)) == DENIED
        assert both.verdict(name, "tls443", family, proxy=proxy(family)) == ("answered", "enforce")
    flow = flows("acme", family, proxy=proxy(family))
    assert flow.path == "bypass"
    flow.wait_progress()
    both.steer.revoke("acme")
    assert both.verdict("acme", "nontls443", family, proxy=proxy(family)) == DENIED
    assert both.verdict("acme", "tls443", family, proxy=proxy(family)) == ("answered", "enforce")
    ended = flow.wait_ended(30)
    assert not ended["complete"]


def test_without_services_only_the_proxy_bypasses(both):
    both.steer.grant("acme", profile="proxy-only")
    assert both.wait_path("acme", "bypass", proxy=PROXY4)
    assert both.verdict("acme", "nontls443") == DENIED
    assert both.verdict("acme", "tls443") == ("answered", "enforce")
    assert both.verdict("acme", "nontls443", 6, proxy=PROXY6) == DENIED
    assert both.steer.ask("explain", "acme", "--dst", f"{PROXY4}:{PROXY_PORT}")[
        "explain"]["path"] == "bypass"
