# SPDX-License-Identifier: GPL-2.0-or-later
"""The admin loads another map of tenants while the tunnels are up: no tunnel is set up again, and who is
another tenant's now is no longer exempt as the old one's."""

import pytest

DENIED = ("denied", None)
# As shipped, with one line changed. Later sections replace the values of earlier ones.
TENANTS = """
charon {{ plugins {{ tenant-tag {{{more}
	tenants {{
	acme {{ match = {acme} }}
	globex {{ match = {globex} }}
}} }} }} }}
"""
ACME, GLOBEX = "acme.example", '"C=CH, O=Globex, CN=*"'
SWAPPED = TENANTS.format(acme=GLOBEX, globex=ACME, more="")
ACME_IS_GLOBEX = TENANTS.format(acme="nobody.example", globex=f"{ACME}, {GLOBEX}", more="")
NOBODY = TENANTS.format(acme=f"{ACME}", globex=GLOBEX, more="\n\tidentity = eap")


@pytest.fixture(name="tenants")
def fixture_tenants(lab):
    """tenants(text) loads that map; it is the shipped one again in the end."""
    before = lab.gateway.extra
    yield lambda text: lab.gateway.set_options(before + text)
    lab.gateway.set_options(before)
    lab.wait_synchronised()


def ids(lab):
    """What charon calls the tunnels: these stay."""
    return {name: (lab.gateway.current_ids("ike", name), lab.gateway.spis_in(name))
            for name in ("site-psk", "site-certificate")}


def tenants_of(lab):
    return {row["tenant"]: row["child_sas"] for row in lab.steer.ask("tenants")["tenants"]}


@pytest.mark.parametrize("family", (4, 6))
def test_exempt_child_sa_becomes_another_tenants(lab, tenants, flows, watch, family):
    lab.grant_and_wait("acme")
    before = ids(lab)
    flow = flows("acme", family)
    assert flow.path == "bypass"
    flow.wait_progress()
    tenants(ACME_IS_GLOBEX)
    taken = watch.wait_for("child-reassigned", "acme")
    up = watch.wait_for("child-up", "globex")
    assert (taken["child_id"], taken["spi_in"]) == (up["child_id"], up["spi_in"])
    assert taken["seq"] < up["seq"]
    watch.wait_for("steering-withdrawn", "acme")
    assert lab.verdict("acme", "nontls443", family) == DENIED
    assert lab.verdict("acme", "tls443", family) == ("answered", "enforce")
    ended = flow.wait_ended(30)
    assert not ended["complete"]
    assert ids(lab) == before
    assert tenants_of(lab)["globex"] == 2
    # the exception waits for whoever is acme
    tenants("")
    assert lab.wait_path("acme", "bypass", family=family)
    assert ids(lab) == before


def test_two_tenants_are_swapped(lab, tenants, watch):
    """What is taken is taken before anything is given."""
    lab.grant_and_wait("acme")
    assert lab.verdict("globex", "nontls443") == DENIED
    before, since = ids(lab), len(watch.events)
    tenants(SWAPPED)
    # globex' customer is acme now, and the other way round
    assert lab.wait_path("globex", "bypass")
    assert lab.verdict("acme", "nontls443") == DENIED
    assert lab.verdict("acme", "tls443") == ("answered", "enforce")
    assert ids(lab) == before
    story = [(e["type"], e["tenant"]) for e in watch.events[since:]
             if e["type"] in ("child-reassigned", "child-up")]
    assert sorted(story[:2]) == [("child-reassigned", "acme"), ("child-reassigned", "globex")]
    assert sorted(story[2:4]) == [("child-up", "acme"), ("child-up", "globex")]


def test_nobodys_child_sa_is_not_exempt(lab, tenants, watch):
    """Another order of sources, by which a pre-shared key proves nothing."""
    lab.grant_and_wait("acme")
    before = ids(lab)
    tenants(NOBODY)
    watch.wait_for("child-reassigned", "acme")
    watch.wait_for("tenant-unidentified")
    assert lab.wait_path("acme", None)
    assert ids(lab) == before
    assert lab.verdict("acme", "tls443") == ("answered", "enforce")


def test_both_exempt_flows_go_on(lab, tenants, flows, watch):
    """The new tenant has an exception, too: what runs goes on, as its."""
    lab.grant_and_wait("acme")
    lab.steer.grant("globex")
    lab.wait_path("globex", "bypass")
    flow = flows("acme")
    assert flow.path == "bypass"
    flow.wait_progress()
    tenants(ACME_IS_GLOBEX)
    watch.wait_for("child-up", "globex")
    assert lab.wait_path("acme", "bypass")
    flow.wait_progress()
    lab.steer.revoke("globex")
    assert lab.verdict("acme", "nontls443") == DENIED
    assert not flow.wait_ended(30)["complete"]


def test_nothing_happens_to_others(lab, tenants, flows, watch):
    """The same map again, or another one that is about others."""
    lab.grant_and_wait("acme")
    flow = flows("acme")
    flow.wait_progress()
    since = len(watch.events)
    tenants("")
    tenants(TENANTS.format(acme=ACME, globex='"C=DE, O=Globex, CN=*"', more=""))
    # which by that is a tenant of its subject's name
    taken = watch.wait_for("child-reassigned", "globex", since)
    assert taken["tenant"] == "globex"
    flow.wait_progress()
    assert not watch.seen("child-reassigned", "acme", since)
    assert not watch.seen("steering-withdrawn", "acme", since)
    end = flow.stop()
    assert end["complete"]
