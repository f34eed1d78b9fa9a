# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel ESP: an SPI bypasses only while the kernel's SA with it is the tenant's own.

A stranger, who has nothing to do with charon, gets an SA with the very SPI of an exempt tenant, and
sends real packets by it.
"""

import json

import pytest

from lab.system import run
from lab.topology import GATEWAY4, SERVER4, Client

# An address of acme's own network, so that nothing but the SA tells them apart.
STRANGER = Client("stranger", 16, "none", "198.18.1.77")
SECOND4 = "192.0.2.2"
# acme's, on the gateway
CONNECTION = "site-psk"
REQID = 9999
KEY = "0x" + "5a" * 20
KNOCK = f"""
import socket
for _ in range(3):
    with socket.socket() as sock:
        sock.settimeout(0.3)
        sock.bind(("{STRANGER.inner4}", 0))
        try:
            sock.connect(("{SERVER4}", 443))
        except OSError:
            pass
"""
COUNT = f"""
table inet stranger
delete table inet stranger
table inet stranger {{
	counter arrived {{ }}
	chain count {{
		type filter hook prerouting priority raw; policy accept;
		ip saddr {STRANGER.inner4} tcp dport 443 counter name arrived
	}}
}}
"""


class Stranger:
    """A host on the underlay, with an SA to the gateway made by hand on both sides."""

    def __init__(self, lab):
        self.lab = lab
        self.made = None
        lab.network.add_client(STRANGER)
        lab.network.ip(STRANGER.name, "route", "add", "default", "via", GATEWAY4)
        lab.network.ip("gw", "address", "add", f"{SECOND4}/24", "dev", "wan")
        lab.network.nft("gw", COUNT)

    def _xfrm(self, role, *words):
        self.lab.network.ip(role, "xfrm", *words)

    def _policy(self, role, direction, verb):
        _, destination = self.made
        template = () if verb == "delete" else (
            "priority", 1, "tmpl", "src", STRANGER.outer4, "dst", destination, "proto", "esp",
            "reqid", REQID, "mode", "tunnel")
        self._xfrm(role, "policy", verb, "dir", direction, "src", f"{STRANGER.inner4}/32",
                   "dst", f"{SERVER4}/32", *template)

    def hold(self, spi, destination):
        """Make the SA on both sides."""
        self.made = spi, destination
        for role, direction in (("gw", "fwd"), (STRANGER.name, "out")):
            self._xfrm(role, "state", "add", "src", STRANGER.outer4, "dst", destination,
                       "proto", "esp", "spi", f"{spi:#x}", "reqid", REQID, "mode", "tunnel",
                       "aead", "rfc4106(gcm(aes))", KEY, 128)
            self._policy(role, direction, "add")

    def release(self):
        if self.made:
            spi, destination = self.made
            for role, direction in (("gw", "fwd"), (STRANGER.name, "out")):
                self._xfrm(role, "state", "delete", "dst", destination, "proto", "esp",
                           "spi", f"{spi:#x}")
                self._policy(role, direction, "delete")
        self.made = None

    def arrived(self):
        listed = self.lab.network.exec("gw", "nft", "-j", "list", "counter", "inet", "stranger",
                                       "arrived").stdout
        return next(o["counter"]["packets"] for o in json.loads(listed)["nftables"]
                    if "counter" in o)

    def knock(self):
        """Send to port 443; how many packets took the bypass. They did arrive."""
        bypassed = self.lab.bypassed_packets(STRANGER.inner4)
        arrived = self.arrived()
        self.lab.network.exec(STRANGER.name, "/usr/bin/python3", "-c", KNOCK)
        assert self.arrived() > arrived, "the gateway decrypts what the stranger sends"
        return self.lab.bypassed_packets(STRANGER.inner4) - bypassed

    def close(self):
        self.release()
        self.lab.network.exec("gw", "nft", "delete", "table", "inet", "stranger")
        self.lab.network.ip("gw", "address", "delete", f"{SECOND4}/24", "dev", "wan")
        run("ip", "netns", "delete", self.lab.network.name(STRANGER.name))


@pytest.fixture(name="stranger")
def fixture_stranger(sa):
    stranger = Stranger(sa)
    yield stranger
    stranger.close()


def the_spi(lab):
    (spi,) = lab.gateway.spis_in(CONNECTION)
    return spi


def forget(lab, spi):
    """Delete acme's SA on the gateway; charon is not told."""
    lab.network.ip("gw", "xfrm", "state", "delete", "dst", GATEWAY4, "proto", "esp",
                   "spi", f"{spi:#x}")


def reasons(lab):
    """Why acme is enforced, as steerctl explains it; "" if it is not."""
    explained = lab.steer.ask("explain", "acme", "--dst", f"{SERVER4}:443")["explain"]
    assert (explained["path"] == "bypass") == all(r["ok"] for r in explained["reasons"])
    return " ".join(reason["text"] for reason in explained["reasons"] if not reason["ok"])


def test_without_verification_the_stranger_bypasses(sa, stranger):
    """What the other tests would miss if their stranger could not bypass anyway."""
    sa.steer.stop()
    sa.steer.start(verify_sa="no")
    try:
        sa.wait_synchronised()
        sa.grant_and_wait("acme")
        stranger.hold(the_spi(sa), SECOND4)
        assert stranger.knock() > 0
    finally:
        sa.steer.stop()
        sa.steer.start()


def test_one_spi_at_two_addresses_is_enforced_for_both(sa, stranger, watch, eventually):
    sa.grant_and_wait("acme")
    spi = the_spi(sa)
    stranger.hold(spi, SECOND4)
    conflict = watch.wait_for("tenant-conflict", "acme")
    assert conflict["spi_in"] == f"{spi:08x}"
    assert "more than one SA" in conflict["reason"]
    eventually(lambda: sa.steer.exempt_spis() == set(), "no SPI is left in the set")
    assert stranger.knock() == 0
    before = sa.bypassed_packets()
    assert sa.verdict("acme", "nontls443") == ("denied", None)
    assert sa.verdict("acme", "tls443") == ("answered", "enforce")
    assert sa.bypassed_packets() == before
    assert sa.steer.status()["conflicts"] == 1
    assert "more than one SA" in reasons(sa)
    stranger.release()
    assert sa.wait_path("acme", "bypass")
    assert sa.steer.status()["conflicts"] == 0


def test_spi_held_by_a_stranger_is_not_programmed_early(sa, stranger, watch):
    """One cannot make charon draw the stranger's SPI: the tenant's own SA goes instead, and all is
    decided anew by a steerd that finds the stranger's there."""
    sa.grant_and_wait("acme")
    spi = the_spi(sa)
    forget(sa, spi)
    stranger.hold(spi, SECOND4)
    watch.wait_for("tenant-conflict", "acme")
    sa.steer.stop()
    sa.steer.start()
    sa.wait_synchronised()
    assert sa.steer.exempt_spis() == set()
    assert stranger.knock() == 0
    assert "somebody else's" in reasons(sa)
    stranger.release()
    sa.reconnect("acme")
    assert sa.wait_path("acme", "bypass")


def test_stranger_takes_the_place_of_the_tenants_sa(sa, stranger, watch, eventually):
    sa.grant_and_wait("acme")
    spi = the_spi(sa)
    forget(sa, spi)
    stranger.hold(spi, GATEWAY4)
    conflict = watch.wait_for("tenant-conflict", "acme")
    assert "somebody else's" in conflict["reason"]
    eventually(lambda: sa.steer.exempt_spis() == set(), "no SPI is left in the set")
    assert stranger.knock() == 0
    assert "somebody else's" in reasons(sa)
    stranger.release()
    sa.reconnect("acme")
    assert sa.wait_path("acme", "bypass")
    assert sa.steer.exempt_spis() == sa.gateway.spis_in(CONNECTION)


def test_sa_deleted_behind_charons_back(sa, watch, eventually):
    sa.grant_and_wait("acme")
    spi = the_spi(sa)
    forget(sa, spi)
    withdrawn = watch.wait_for("steering-withdrawn", "acme")
    assert "no SA with this SPI" in withdrawn["reason"]
    assert not watch.seen("tenant-conflict")
    eventually(lambda: sa.steer.exempt_spis() == set(), "no SPI is left in the set")
    assert "no SA with this SPI" in reasons(sa)
    sa.reconnect("acme")
    assert sa.wait_path("acme", "bypass")


def test_what_a_killed_charon_left_is_nobodys(sa, watch):
    """acme's side knows nothing of the kill and goes on sending by the old SA."""
    sa.grant_and_wait("acme")
    spi = the_spi(sa)
    sa.gateway.kill()
    sa.gateway.start()
    watch.wait_for("resynced")
    sa.wait_synchronised()
    listed = sa.network.ip("gw", "xfrm", "state").stdout
    assert f"{spi:#x}" in listed, "the kernel still has the SA"
    assert sa.steer.exempt_spis() == set()
    before = sa.bypassed_packets()
    assert sa.verdict("acme", "nontls443")[0] == "denied"
    assert sa.bypassed_packets() == before
    sa.reconnect("acme")
    assert sa.wait_path("acme", "bypass")
    assert sa.steer.exempt_spis() == sa.gateway.spis_in(CONNECTION)
    assert spi not in sa.steer.exempt_spis()


def test_rekeys_and_reconnects_are_never_doubted(sa, watch):
    """Verifying costs an honest tenant nothing: no withdrawal but with the child SA's own end."""
    sa.grant_and_wait("acme")
    since = len(watch.events)
    for _ in range(3):
        sa.charons["acme"].swanctl("--rekey", "--child", "internet")
        watch.wait_for("child-rekey", "acme", since=since)
        since = len(watch.events)
        assert sa.verdict("acme", "nontls443") == ("answered", "bypass")
    assert not watch.seen("tenant-conflict")
    assert not watch.seen("steering-withdrawn", "acme") or all(
        event["count"] > 0 and "reason" not in event
        for event in watch.seen("steering-withdrawn", "acme"))
    counters = sa.steer.status()["counters"]
    assert counters["kernel_sas"] > 0
    assert counters["kernel_sa_failures"] == 0


@pytest.fixture(name="sa_mode_without_sas")
def fixture_sa_mode_without_sas(lab):
    if lab.esp == "kernel":
        pytest.skip("this kernel has ESP: charon's child SAs have SAs in it")
    lab.steer.stop()
    lab.steer.start(mode="sa")
    lab.wait_synchronised()
    yield lab
    lab.steer.stop()
    lab.steer.start()


def test_child_sa_that_the_kernel_does_not_have(sa_mode_without_sas, eventually):
    """Where charon handles ESP itself, SA mode is a mistake: it says so, and exempts nobody."""
    lab = sa_mode_without_sas
    lab.steer.grant("acme")
    assert lab.steer.status()["exempt_child_sas"] == 0
    eventually(lambda: "no SA with this SPI" in reasons(lab), "the kernel was asked")
    assert lab.steer.exempt_spis() == set()
    lab.reconnect("acme")
    eventually(lambda: "no SA with this SPI" in reasons(lab), "the kernel was asked again")
    eventually(lambda: lab.steer.exempt_spis() == set(), "what was programmed early is withdrawn")
    assert lab.steer.status()["exempt_child_sas"] == 0
