# SPDX-License-Identifier: GPL-2.0-or-later
"""steerctl doctor names what is broken with a command; the command, run as printed, mends it."""

import contextlib
import json
import os
import pathlib

import pytest

from lab.steer import MARK_MASK, RULE_PRIORITY, TABLE
from lab.system import run
from lab.topology import BYPASS_VIA, TO_BYPASS

OURS = f"{MARK_MASK & -MARK_MASK:#x}"


def visit(lab, *words, on_gateway=False):
    """The exit status and the findings by id; on the gateway where that matters."""
    command = [lab.steer.steerctl, "--socket", lab.steer.control, "doctor", "--json", *words]
    if on_gateway:
        command = lab.steer.on_gateway(*command)
    done = run(*command, check=False)
    assert done.returncode in (0, 1), done.stderr
    answer = json.loads(done.stdout)
    assert answer["v"] == 1 and answer["ok"] is True and answer["doctor"]["version"] == 1
    findings = {}
    for finding in answer["doctor"]["findings"]:
        assert set(finding) == {"id", "severity", "what", "why", "fix"}
        assert (finding["severity"] == "ok") == (finding["why"] is None)
        findings.setdefault(finding["id"], []).append(finding)
    bad = any(f["severity"] in ("warning", "error") for fs in findings.values() for f in fs)
    assert done.returncode == bad
    return done.returncode, findings


def look(lab, check, **kwargs):
    """The findings of one check that are not in order."""
    found = visit(lab, **kwargs)[1]
    return [f for f in found[check] if f["severity"] != "ok"]


def mend(lab, finding):
    """Run the command as it is printed, as root on the gateway."""
    assert finding["fix"], finding
    return lab.network.exec("gw", "sh", "-c", finding["fix"], check=False)


def gw(lab, command, check=True):
    return lab.network.exec("gw", "sh", "-c", command, check=check)


def test_in_order(lab):
    code, findings = visit(lab, on_gateway=True)
    worse = [f for fs in findings.values() for f in fs if f["severity"] not in ("ok", "info")]
    assert worse == [] and code == 0
    text = lab.steer.ctl("doctor").stdout
    assert "ok       forwarding" in text and "error" not in text


# What breaks it; check and severity; words of the sentence; what cleans up after the mend, if any.
BYPASS = "bypass"
CASES = {
    "strict rp_filter on the interface": (
        f"sysctl -w net.ipv4.conf.{BYPASS}.src_valid_mark=0",
        "rp-filter", "error", "strict reverse-path filtering on bypass", ""),
    "strict rp_filter for all": (
        f"sysctl -w net.ipv4.conf.{BYPASS}.src_valid_mark=0 net.ipv4.conf.{BYPASS}.rp_filter=0"
        " net.ipv4.conf.all.rp_filter=1",
        "rp-filter", "error", "strict reverse-path filtering on bypass",
        f"sysctl -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.{BYPASS}.rp_filter=1"),
    "IPv4 forwarding off": (
        "sysctl -w net.ipv4.ip_forward=0",
        "forwarding", "error", "net.ipv4.ip_forward is 0", ""),
    "IPv4 forwarding off on the path": (
        f"sysctl -w net.ipv4.conf.{BYPASS}.forwarding=0",
        "forwarding", "error", "IPv4 packets from bypass", ""),
    "IPv6 forwarding off": (
        "sysctl -w net.ipv6.conf.all.forwarding=0",
        "forwarding", "error", "net.ipv6.conf.all.forwarding is 0", ""),
    "a foreign rule by our mark": (
        f"ip rule add priority 9000 fwmark {OURS}/{OURS} lookup 9",
        "rules", "error", f'rule 9000 "from all fwmark {OURS}/{OURS} lookup 9"', ""),
    "a foreign rule at our priority": (
        f"ip -6 rule add priority {RULE_PRIORITY} from 2001:db8:77::/48 lookup 9",
        "rules", "error", f"priority {RULE_PRIORITY} is taken", ""),
    "a foreign route in our table": (
        f"ip route add 203.0.113.99/32 via {BYPASS_VIA[0]} table {TABLE}",
        "rules", "error", "203.0.113.99", ""),
    "interface down": (
        f"ip link set {BYPASS} down",
        "interfaces", "error", "interface bypass, of path bypass, is down",
        # With the link went its IPv6 address.
        f"ip address replace {TO_BYPASS.addresses(1)[1]} dev {BYPASS}"),
    "next hop not on the interface": (
        f"ip address del {TO_BYPASS.addresses(1)[0]} dev {BYPASS}",
        "next-hops", "error", f"next hop {BYPASS_VIA[0]} is not on bypass",
        f"ip address add {TO_BYPASS.addresses(1)[0]} dev {BYPASS}; "
        f"ip route del {BYPASS_VIA[0]} dev {BYPASS}"),
    "an nft rule that sets our bits": (
        f"nft add rule inet admin nat meta mark set {MARK_MASK:#x}",
        "marks", "error", "may set steerd's bits of the packet mark", ""),
    "an nft rule that clears our bits": (
        "nft add rule inet admin nat meta mark set 1",
        "marks", "warning", "clears steerd's bits of the packet mark", ""),
    "an nft rule that restores a mark": (
        "nft add rule inet admin nat meta mark set ct mark",
        "marks", "error", "may set steerd's bits of the packet mark", ""),
    "an nft rule that saves a mark": (
        "nft add rule inet admin nat ct mark set meta mark",
        "marks", "warning", "changes steerd's bits of the conntrack mark", ""),
    "an iptables-nft rule": (
        f"iptables-nft -t mangle -A FORWARD -j MARK --set-xmark {OURS}/{OURS}",
        "marks", "error", 'chain "FORWARD" of table ip "mangle" may set',
        "nft delete table ip mangle"),
}


@pytest.mark.parametrize("case", CASES)
def test_named_and_mended(lab, eventually, case):
    breaks, check, severity, words, tidy = CASES[case]
    assert look(lab, check) == []
    gw(lab, breaks)
    try:
        found = look(lab, check)
        assert [f for f in found if f["severity"] == severity and words in f["what"]], found
        text = run(lab.steer.steerctl, "--socket", lab.steer.control, "doctor", check=False)
        assert text.returncode == 1 and words in text.stdout
        for finding in found:
            done = mend(lab, finding)
            assert done.returncode == 0, done.stderr
        eventually(lambda: look(lab, check) == [], "the printed command mends it")
    finally:
        gw(lab, tidy or ":", check=False)
    eventually(lambda: visit(lab)[0] == 0, lambda: f"all is in order again: {visit(lab)}")
    lab.grant_and_wait("acme")


def test_next_hop_silent(lab, eventually):
    hop, family = BYPASS_VIA[0], TO_BYPASS.addresses(2)[0]
    lab.network.ip("bypass", "address", "del", family, "dev", "gw")
    try:
        gw(lab, f"ip neighbour flush to {hop} dev {BYPASS};"
                f" ip neighbour replace {hop} dev {BYPASS} use")
        eventually(lambda: look(lab, "next-hops"), "the next hop is named")
        [finding] = look(lab, "next-hops")
        assert f"next hop {hop} does not answer" in finding["what"]
    finally:
        lab.network.ip("bypass", "address", "add", family, "dev", "gw")
        via = TO_BYPASS.address(1)[0]
        lab.network.ip("bypass", "route", "replace", "198.18.0.0/22", "via", via)
    assert mend(lab, finding).returncode == 0
    eventually(lambda: look(lab, "next-hops") == [], "the next hop answers")
    lab.grant_and_wait("acme")


def test_zones_and_readers_are_no_fault(lab):
    """Good to know, and not counted as wrong."""
    gw(lab, f"nft add rule inet admin nat meta mark {OURS} counter;"
            " nft 'add chain inet admin raw { type filter hook prerouting priority raw; }';"
            " nft add rule inet admin raw iifname nothing ct zone set 7")
    try:
        code, findings = visit(lab)
        assert code == 0
        assert findings["zones"][0]["severity"] == findings["marks"][0]["severity"] == "info"
    finally:
        lab.network.load_admin_nft()


def test_legacy_iptables(lab):
    """Seen by steerctl itself, which therefore runs on the gateway."""
    assert look(lab, "legacy-marks", on_gateway=True) == []
    done = gw(lab, "iptables-legacy -t mangle -A FORWARD -m comment --comment x"
                   f" -j MARK --set-xmark {OURS}/{OURS}", check=False)
    if done.returncode != 0:
        pytest.skip(f"no iptables-legacy here: {done.stderr.strip()}")
    try:
        [finding] = look(lab, "legacy-marks", on_gateway=True)
        assert finding["severity"] == "error"
        assert mend(lab, finding).returncode == 0
        assert look(lab, "legacy-marks", on_gateway=True) == []
    finally:
        gw(lab, "iptables-legacy -t mangle -F")


def test_charon_not_heard(lab, eventually):
    lab.gateway.kill()
    eventually(lambda: look(lab, "charon"), "charon's silence is named", 15)
    [finding] = look(lab, "charon")
    assert finding["severity"] == "error" and "charon is not heard" in finding["what"]
    assert finding["fix"] == "systemctl restart strongswan"
    lab.gateway.start()
    eventually(lambda: look(lab, "charon") == [], "charon is heard again", 15)


@contextlib.contextmanager
def restarted(lab, **changes):
    lab.steer.stop()
    lab.steer.start(**changes)
    try:
        yield
    finally:
        lab.steer.stop()
        lab.steer.start()


def test_mode_that_does_not_fit(lab, eventually):
    userspace = lab.esp == "userspace"
    with restarted(lab, mode="sa" if userspace else "address"):
        lab.wait_synchronised()
        [finding] = look(lab, "esp")
        assert ("in user space" if userspace else "the kernel handles ESP") in finding["what"]
        assert mend(lab, finding).returncode == 0
        eventually(lambda: lab.steer.active() and look(lab, "esp") == [], "the mode fits")
        lab.grant_and_wait("acme")


def test_damaged_database(lab, eventually):
    store = lab.steer.store
    with lab.steer.damaged_store() as damage:
        lab.steer.start()
        [finding] = look(lab, "store")
        assert finding["severity"] == "error" and str(store) in finding["what"]
        assert mend(lab, finding).returncode == 0
        eventually(lambda: look(lab, "store") == [], "the database can be used")
        assert store.with_name(store.name + ".broken").read_bytes() == damage
        lab.wait_synchronised()
        lab.grant_and_wait("acme")


def test_steerd_not_running(lab):
    """It is said, and the same checks run without it: a preflight."""
    lab.steer.stop()
    code, findings = visit(lab)
    assert code == 1 and "cannot connect" in findings["steerd"][0]["what"]
    assert "systemctl start steerd" == findings["steerd"][0]["fix"]
    config = lab.steer.config
    assert visit(lab, "--config", config, on_gateway=True)[0] == 0
    gw(lab, "sysctl -w net.ipv4.ip_forward=0")
    try:
        found = visit(lab, "--config", config, on_gateway=True)[1]["forwarding"]
        assert found[0]["severity"] == "error"
    finally:
        assert mend(lab, found[0]).returncode == 0
    assert visit(lab, "--config", config, on_gateway=True)[0] == 0
    bad = lab.state.path / "bad.conf"
    bad.write_text(config.read_text().replace("lease = ", "leese = "))
    assert "leese" in visit(lab, "--config", bad)[1]["settings"][0]["what"]


MODPROBE = pathlib.Path("/proc/sys/kernel/modprobe")


@pytest.fixture(name="without_nft_xfrm")
def fixture_without_nft_xfrm(lab, eventually):
    """The kernel has no nft_xfrm and cannot get it; undone at the end."""
    if not os.environ.get("TENANT_STEER_GUEST"):
        pytest.skip("modules are only taken away in a virtual machine; tests/vm/run does it")
    lab.steer.stop()
    gw(lab, "nft flush ruleset")
    before = MODPROBE.read_text()
    MODPROBE.write_text("/bin/false")
    try:
        # What used it is destroyed a little later.
        eventually(lambda: run("rmmod", "nft_xfrm", check=False).returncode == 0,
                   "nft_xfrm is unloaded")
        yield
    finally:
        MODPROBE.write_text(before)
        run("modprobe", "nft_xfrm")


def test_kernel_without_nft_xfrm(lab, without_nft_xfrm):
    """It is named, nobody is exempt, and with the module all is well."""
    lab.steer.start()
    lab.steer.grant("acme")
    assert lab.verdict("acme", "nontls443") == ("denied", None)
    found = look(lab, "nft-xfrm", on_gateway=True)
    assert [f["severity"] for f in found] == ["error"]
    assert found[0]["fix"] == "modprobe nft_xfrm"
    assert mend(lab, found[0]).returncode == 0
    lab.wait_path("acme", "bypass")
    assert look(lab, "nft-xfrm", on_gateway=True) == []


FLOWTABLE = """
table inet fast
delete table inet fast
table inet fast {{
	flowtable f {{
		hook ingress priority 0
		devices = {{ {devices} }}
	}}
	chain forward {{
		type filter hook forward priority filter; policy accept;
		{guard} flow add @f
	}}
}}
"""


@pytest.fixture(name="fast")
def fixture_fast(lab):
    """Load a flowtable over the tenants' interface, whose rule begins with these words."""
    def load(guard):
        text = FLOWTABLE.format(devices=f"{lab.tenant_interface}, bypass, enforce", guard=guard)
        done = run("ip", "netns", "exec", lab.network.name("gw"), "nft", "-f", "-", input=text,
                   check=False)
        if "No such file or directory" in done.stderr:
            pytest.skip("this kernel has no flowtables")
        assert done.returncode == 0, done.stderr

    yield load
    gw(lab, "nft delete table inet fast", check=False)


def test_flowtable_means_enforced(lab, flows, fast, eventually):
    """An offloaded flow would pass no rules: steerd enforces, ends what runs, and says which."""
    lab.grant_and_wait("acme")
    flow = flows("acme")
    assert flow.path == "bypass"
    flow.wait_progress()
    fast("")
    [finding] = look(lab, "flowtable")
    assert finding["severity"] == "error" and 'flowtable "f" of table inet "fast"' \
        in finding["what"]
    eventually(lambda: not lab.steer.active(), "steerd enforces")
    assert 'flowtable "f"' in lab.steer.status()["reason"]
    assert lab.wait_path("acme", None)
    eventually(lambda: flow.ended() or flow.stalled(1.0), "the flow that was offloaded ends")
    assert lab.bypass_is_quiet(2.0)
    lab.steer.stop()
    lab.steer.start()
    eventually(lambda: "flowtable" in (lab.steer.status()["reason"] or ""), "also after a start")
    assert lab.verdict("acme", "nontls443") == ("denied", None)
    assert mend(lab, finding).returncode == 0
    assert look(lab, "flowtable") == []
    assert lab.wait_path("acme", "bypass")


def test_flowtable_that_leaves_our_flows_out(lab, flows, fast, eventually):
    """With the words that the doctor recommends it is no fault, and a revocation is at once."""
    fast(f"ct mark & {MARK_MASK:#x} == 0")
    assert look(lab, "flowtable") == []
    lab.grant_and_wait("acme")
    flow = flows("acme")
    assert flow.path == "bypass"
    flow.wait_progress()
    lab.steer.revoke("acme")
    after = lab.bypassed_packets()
    eventually(lambda: flow.ended() or flow.stalled(1.0), "the flow ends")
    assert lab.bypassed_packets() == after
