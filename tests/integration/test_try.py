# SPDX-License-Identifier: GPL-2.0-or-later
"""steerctl try: one host or one user passes for some time, and what it needed is said afterwards."""

import json
import subprocess

import pytest

from lab.topology import SERVER4, SERVER6

ANY = """profile any { path = bypass; services = ["tcp/443", "udp/443"]; only_for = try; }
profile elsewhere { path = bypass; services = ["tcp/443"]; destinations = ["198.51.100.99"]; }
profile ssh { path = bypass; services = ["tcp/22"]; }"""
# A second host behind acme's gateway.
OTHER = {4: "198.18.1.77", 6: "2001:db8:a1::77"}
LENGTH = {4: 32, 6: 128}
SERVER = {4: SERVER4, 6: SERVER6}
RISK = ("--change-request", "CR-1", "--accepted-by", "A. Officer", "--accept-risk", "--reason", "it's a test")


@pytest.fixture(scope="module", name="with_any")
def fixture_with_any(lab_session):
    """Profiles that only a try may use, and some that can be granted; a second host of acme."""
    lab_session.steer.stop()
    lab_session.steer.start(more=ANY)
    for family in (4, 6):
        lab_session.network.ip("acme", "address", "replace", f"{OTHER[family]}/{LENGTH[family]}", "dev",
                               "lo")
    yield lab_session
    lab_session.steer.stop()
    lab_session.steer.start()


@pytest.fixture(name="trying")
def fixture_trying(with_any, lab):
    assert with_any is lab
    return lab


def begin(lab, tenant, *more, check=True):
    return lab.steer.ctl("try", tenant, *more, *RISK, check=check)


def find(lab, exception_id):
    return next(e for e in lab.steer.ask("exceptions", "--all")["exceptions"] if e["id"] == exception_id)


def the_try(lab):
    [exception] = lab.steer.exceptions()
    return exception


def result(lab, exception_id):
    return lab.steer.ask("try", "--result", exception_id)["try"]


def other(lab, family, timeout=None):
    return lab.verdict("acme", "nontls443", family, timeout, source=OTHER[family])


def wait_other(lab, family, eventually, path="bypass"):
    eventually(lambda: other(lab, family, 1.0)[1] == path, f"the host's path is {path}")


@pytest.mark.parametrize("family", (4, 6))
def test_one_host(trying, family, eventually):
    """It passes, the tenant's others and other tenants do not; the report names where it went."""
    lab = trying
    assert other(lab, family) == ("denied", None)
    begin(lab, "acme", "--host", OTHER[family], "--for", "1m")
    wait_other(lab, family, eventually)
    for name, at in (("acme", family), ("acme", 10 - family), ("globex", family)):
        assert lab.verdict(name, "nontls443", at) == ("denied", None)
    assert other(lab, 10 - family) == ("denied", None)

    exception = the_try(lab)
    assert (exception["kind"], exception["profile"]) == ("try", "any")
    assert exception["scope"] == f"host {OTHER[family]}"
    seen = eventually(lambda: result(lab, exception["id"])["flows"], "its flows are seen")
    assert [(flow["protocol"], flow["destination"], flow["port"]) for flow in seen] == [
        ("tcp", SERVER[family], 443)]
    assert seen[0]["answered"] >= 1

    text = lab.steer.ctl("try", "--result", exception["id"]).stdout
    assert SERVER[family] in text and "443" in text and "active" in text
    command = result(lab, exception["id"])["offer"]["command"]
    assert command in text
    lab.steer.revoke("acme")
    assert other(lab, family) == ("denied", None)
    # the command that is offered is one: as a shell reads it, once the risk is accepted
    ctl = f"{lab.steer.steerctl} --socket {lab.steer.control}"
    assert command.startswith("steerctl grant acme --profile skype --host ")
    done = subprocess.run(["sh", "-c", command.replace("steerctl", ctl, 1)], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 2 and "--accept-risk" in done.stderr
    subprocess.run(["sh", "-c", command.replace("steerctl", ctl, 1) + " --accept-risk"], check=True)
    granted = the_try(lab)
    assert (granted["kind"], granted["reason"]) == ("grant", "it's a test")
    wait_other(lab, family, eventually)


def test_one_user(trying, eventually):
    lab = trying
    user = next(t for t in lab.steer.ask("tenants")["tenants"] if t["tenant"] == "initech")["identity"]
    begin(lab, "initech", "--user", user)
    lab.wait_path("roadwarrior", "bypass")
    assert lab.verdict("acme", "nontls443") == ("denied", None)
    exception = the_try(lab)
    seen = eventually(lambda: result(lab, exception["id"])["flows"], "its flows are seen")
    assert (seen[0]["destination"], seen[0]["port"]) == (SERVER4, 443)
    assert f"--user {user}" in result(lab, exception["id"])["offer"]["command"].replace("'", "")


def test_ends_by_itself_with_steerd_frozen(trying, flows, eventually):
    """The kernel ends it: nothing of it is left in the sets, and its flow is not answered any more."""
    lab = trying
    begin(lab, "acme", "--host", OTHER[4], "--for", "3s")
    wait_other(lab, 4, eventually)
    flow = flows("acme", source=OTHER[4])
    assert flow.path == "bypass"
    exception = the_try(lab)
    lab.steer.freeze()
    try:
        def elements():
            listed = lab.network.exec("gw", "nft", "list", "table", "inet", "tenant-steer").stdout
            return OTHER[4] in listed
        eventually(lambda: not elements(), "the host is in no set", 8)
        before = lab.bypassed_packets(OTHER[4])
        assert other(lab, 4) == ("denied", None)
        assert lab.bypassed_packets(OTHER[4]) == before
    finally:
        lab.steer.thaw()
    eventually(lambda: not lab.steer.exceptions(), "steerd has written down its end")
    ended = find(lab, exception["id"])
    assert (ended["kind"], ended["state"]) == ("try", "expired")
    assert other(lab, 4) == ("denied", None)


def test_wait_for_the_report(trying, eventually):
    """--wait prints it at the end, and the log knows a try from a grant."""
    lab = trying
    words = [str(word) for word in (lab.steer.steerctl, "--socket", lab.steer.control, "try", "acme",
                                    "--host", OTHER[4], "--for", "4s", "--wait", "--json", *RISK)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as waiting:
        wait_other(lab, 4, eventually)
        printed = waiting.communicate(timeout=20)[0]
    begun, ended = (json.loads(line) for line in printed.splitlines())
    assert waiting.returncode == 0
    assert begun["exception"]["state"] == "active"
    assert ended["try"]["exception"]["id"] == begun["exception"]["id"]
    assert ended["try"]["exception"]["state"] == "expired"
    assert ended["try"]["flows"][0]["destination"] == SERVER4

    def actions():
        return [entry["action"] for entry in lab.steer.ask("history", "acme")["history"]
                if entry["exception_id"] == begun["exception"]["id"]]
    eventually(lambda: actions() == ["try", "expire"], "the log has its begin and its end")
    assert lab.steer.ask("audit", "verify")["audit"]["whole"]


def test_nothing_used_it(trying):
    lab = trying
    begin(lab, "acme", "--host", OTHER[4], "--profile", "ssh")
    assert other(lab, 4) == ("denied", None)
    found = lab.steer.ask("try", "--result", the_try(lab)["id"])
    assert found["try"]["flows"] == [] and found["try"]["offer"]["command"] is None


@pytest.mark.parametrize("more, says", (
    (("--host", OTHER[4], "--for", "61m"), "at most"),
    (("--host", OTHER[4], "--for", "61m", "--profile", "ssh"), "at most 60 minutes"),
    ((), "a try is of one host or one user"),
    (("--host", "198.18.1.0/24"), "is no address"),
    (("--host", OTHER[4], "--profile", "none"), "there is no profile"),
))
def test_bad_tries_are_refused(trying, more, says):
    done = begin(trying, "acme", *more, check=False)
    assert done.returncode == 1
    assert says in done.stderr, done.stderr
    assert trying.steer.exceptions() == []


def test_the_same_twice_is_refused(trying):
    lab = trying
    begin(lab, "acme", "--host", OTHER[4])
    done = begin(lab, "acme", "--host", OTHER[4], "--profile", "ssh", check=False)
    assert done.returncode == 1
    assert f"exception {the_try(lab)['id']} tries this host or user already" in done.stderr
    begin(lab, "acme", "--host", OTHER[6])
    assert len(lab.steer.exceptions()) == 2


def test_a_grant_has_no_report(trying):
    lab = trying
    lab.steer.grant("acme")
    done = lab.steer.ctl("try", "--result", the_try(lab)["id"], check=False)
    assert done.returncode == 1 and "is a grant, not a try" in done.stderr
    done = lab.steer.ctl("try", "--result", "999999", check=False)
    assert done.returncode == 1 and "there is no try 999999" in done.stderr
