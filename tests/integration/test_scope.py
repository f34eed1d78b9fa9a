# SPDX-License-Identifier: GPL-2.0-or-later
"""Exceptions of a part of a tenant: one host, a network, one user, some destinations; nothing beside it."""

import pytest

from lab.topology import SERVER4, SERVER6

FAMILIES = (4, 6)
# A second host behind acme's gateway, and a network that holds it and not the first.
OTHER = {4: "198.18.1.77", 6: "2001:db8:a1::77"}
NETWORK = {4: "198.18.1.64/26", 6: "2001:db8:a1::40/122"}
SERVER = {4: SERVER4, 6: SERVER6}
PORT = {4: f"{SERVER4}:443", 6: f"[{SERVER6}]:443"}
LENGTH = {4: 32, 6: 128}
GRANT = ("--profile", "skype", "--change-request", "CR-1", "--accepted-by", "x", "--accept-risk", "--reason",
         "calls", "--expires", "1d")


@pytest.fixture(name="two")
def fixture_two(lab):
    """The lab, with a second host behind acme."""
    for family in FAMILIES:
        lab.network.ip("acme", "address", "replace", f"{OTHER[family]}/{LENGTH[family]}", "dev", "lo")
    return lab


def other(lab, family, timeout=None):
    return lab.verdict("acme", "nontls443", family, timeout, source=OTHER[family])


def exceptions_of(lab, tenant):
    return [e for e in lab.steer.exceptions() if e["tenant"] == tenant]


def why(lab, subject, *more):
    return lab.steer.ask("explain", subject, *more)["explain"]


def texts(explained):
    return " ".join(reason["text"] for reason in explained["reasons"])


@pytest.mark.parametrize("family", FAMILIES)
def test_one_host(two, family, eventually):
    lab = two
    lab.steer.grant("acme", "--host", OTHER[family])
    eventually(lambda: other(lab, family, 1.0)[1] == "bypass", "the host's path is the bypass")
    before = lab.bypassed_packets(lab.source("acme", family))
    for source in (lab.source("acme", 4), lab.source("acme", 6), OTHER[10 - family]):
        assert lab.verdict("acme", "nontls443", 6 if ":" in source else 4,
                           source=source) == ("denied", None)
    assert lab.verdict("globex", "nontls443", family) == ("denied", None)
    assert lab.bypassed_packets(lab.source("acme", family)) == before

    assert why(lab, OTHER[family])["path"] == "bypass"
    told = why(lab, lab.source("acme", family))
    assert told["path"] == "enforce"
    assert f"host {OTHER[family]}" in texts(told)
    assert why(lab, "acme")["path"] == "enforce"
    [exception] = exceptions_of(lab, "acme")
    assert (exception["scope"], exception["destinations"]) == (f"host {OTHER[family]}", None)
    assert f"host {OTHER[family]}" in lab.steer.ctl("exceptions").stdout


@pytest.mark.parametrize("family", FAMILIES)
def test_one_network(two, family, eventually):
    lab = two
    lab.steer.grant("acme", "--prefix", NETWORK[family])
    eventually(lambda: other(lab, family, 1.0)[1] == "bypass", "the network's path is the bypass")
    assert lab.verdict("acme", "nontls443", family) == ("denied", None)
    lab.steer.revoke("acme")
    assert other(lab, family) == ("denied", None)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_user(lab, family):
    user = next(t for t in lab.steer.ask("tenants")["tenants"] if t["tenant"] == "initech")
    lab.steer.grant("initech", "--user", "somebody else")
    assert lab.verdict("roadwarrior", "nontls443", family) == ("denied", None)
    lab.steer.grant("initech", "--user", user["identity"])
    lab.wait_path("roadwarrior", "bypass")
    assert lab.verdict("roadwarrior", "nontls443", family) == ("answered", "bypass")
    if lab.esp == "kernel":
        # nothing new in the kernel: the SPI is in the set of those that are exempt to the whole
        listed = lab.network.exec("gw", "nft", "list", "table", "inet", "tenant-steer").stdout
        assert "elements" in listed.split("set sa_skype")[1].split("}")[0]
        assert "elements" not in listed.split("set sas_skype")[1].split("}")[0]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("part", (False, True))
def test_some_destinations(two, family, part, eventually):
    lab = two
    host = ("--host", OTHER[family]) if part else ()
    elsewhere = {4: "203.0.113.128/25", 6: "2001:db8:443:ffff::/64"}[family]
    lab.steer.grant("acme", *host, "--destination", elsewhere)
    assert other(lab, family) == ("denied", None)
    assert why(lab, OTHER[family], "--dst", PORT[family])["path"] == "enforce"
    lab.steer.grant("acme", *host, "--destination", elsewhere, "--destination", SERVER[family])
    eventually(lambda: other(lab, family, 1.0)[1] == "bypass", "the destination is reached")
    assert why(lab, OTHER[family], "--dst", PORT[family])["path"] == "bypass"
    own = lab.verdict("acme", "nontls443", family)
    assert own == (("denied", None) if part else ("answered", "bypass"))
    assert lab.verdict("globex", "nontls443", family) == ("denied", None)


def test_what_overlaps_remains(two, flows, eventually):
    """One of two exceptions that cover a host ends: its flow goes on; then the other, and it ends."""
    lab = two
    lab.steer.grant("acme", "--prefix", NETWORK[4])
    lab.steer.grant("acme", "--host", OTHER[4], "--destination", SERVER4)
    eventually(lambda: other(lab, 4, 1.0)[1] == "bypass", "the host's path is the bypass")
    flow = flows("acme", source=OTHER[4])
    assert flow.path == "bypass"
    first, second = (e["id"] for e in exceptions_of(lab, "acme"))
    lab.steer.ctl("revoke", "acme", "--id", first, "--reason", "over")
    assert [e["id"] for e in exceptions_of(lab, "acme")] == [second]
    flow.wait_progress()
    assert other(lab, 4) == ("answered", "bypass")
    lab.steer.ctl("revoke", "acme", "--id", second, "--reason", "over")
    assert not flow.wait_ended(30)["complete"]
    assert other(lab, 4) == ("denied", None)


def test_a_part_ends_by_itself_and_the_rest_stays(two, eventually):
    lab = two
    lab.steer.grant("acme", "--prefix", NETWORK[4], expires="3s")
    lab.steer.grant("acme", "--host", lab.source("acme"))
    eventually(lambda: other(lab, 4, 1.0)[1] == "bypass", "the network's path is the bypass")
    eventually(lambda: other(lab, 4, 1.0)[1] is None, "the network's exception has ended", 8)
    assert lab.verdict("acme", "nontls443") == ("answered", "bypass")


def test_a_part_survives_a_new_steerd(two, eventually):
    lab = two
    lab.steer.grant("acme", "--host", OTHER[4], "--destination", SERVER4)
    lab.steer.grant("acme", "--host", OTHER[6])
    lab.steer.stop()
    lab.steer.start()
    lab.wait_synchronised()
    for family in FAMILIES:
        eventually(lambda family=family: other(lab, family, 1.0)[1] == "bypass",
                   "the host's path is the bypass again")
        assert lab.verdict("acme", "nontls443", family) == ("denied", None)


def test_a_host_that_nobody_has(lab):
    done = lab.steer.grant("acme", "--host", "198.18.2.10")
    assert "no child SA of the tenant has this address" in done.stdout
    assert lab.verdict("globex", "nontls443") == ("denied", None)
    assert "no child SA of the tenant has it" in texts(why(lab, "acme"))


@pytest.mark.parametrize("more, says", (
    (("--host", "198.18.1.0/24"), "scope"),
    (("--host", "127.0.0.1"), "loopback"),
    (("--prefix", "198.18.1.1/24"), "bits set behind"),
    (("--destination", "10.0.0.0/8"), "private"),
    (("--destination", "203.0.113.1/24"), "destinations"),
    (17 * ("--destination", "203.0.113.1"), "at most 16"),
))
def test_bad_scopes_are_refused(lab, more, says):
    done = lab.steer.ctl("grant", "acme", *GRANT, *more, check=False)
    assert done.returncode == 1
    assert says in done.stderr, done.stderr
    assert lab.steer.exceptions() == []


def test_the_same_part_twice_is_refused(lab):
    lab.steer.grant("acme", "--prefix", "198.18.1.5/32", "--destination", "203.0.113.7")
    done = lab.steer.ctl("grant", "acme", *GRANT, "--host", "198.18.1.5", "--destination",
                         "203.0.113.7/32", check=False)
    assert done.returncode == 1
    [exception] = lab.steer.exceptions()
    assert f"already: {exception['id']};" in done.stderr
