# SPDX-License-Identifier: GPL-2.0-or-later
"""steerctl explain of flows that run: one that began before the grant, one after, none; and its facts as
members of their own."""

import concurrent.futures
import json
import re
import signal
import socket

import pytest

from lab.system import wait_until
from lab.topology import SERVER4, SERVER6

FAMILIES = (4, 6)
SERVER = {4: SERVER4, 6: SERVER6}
DESTINATION = {4: f"{SERVER4}:443", 6: f"[{SERVER6}]:443"}
OLD, NEW, NONE = 50001, 50002, 50003
# The packets of a flow from NEW have been dropped: its entry is still there.
MARKED = 50004
ELSEWHERE = "203.0.113.128/25"


def why(lab, family=4, *more):
    """What is said, with all flows: on a slow machine a look-up may be cut short."""
    def ask():
        told = lab.steer.ask("explain", lab.source("acme", family), "--dst", DESTINATION[family],
                             *more)["explain"]
        return told if told["flows"]["complete"] else None

    return wait_until(ask, "the look-up is complete", 20)


def paths(explained):
    """Where each flow that is listed goes, by its source port."""
    return {flow["source_port"]: flow["path"] for flow in explained["flows"]["list"]}


def endpoint(lab, family, port):
    source = lab.source("acme", family)
    return f"[{source}]:{port}" if family == 6 else f"{source}:{port}"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_flow_before_the_grant_and_one_after(lab, flows, family, eventually):
    old = flows("acme", family, port=OLD, tls=True)
    assert old.path == "enforce"
    eventually(lambda: paths(why(lab, family)) == {OLD: "enforce"}, "the flow is found")
    before = why(lab, family)
    assert (before["path"], before["missing_step"], before["exception"]) == ("enforce", "exception",
                                                                             None)
    one, = before["flows"]["list"]
    assert (one["source"], one["destination"], one["port"], one["protocol"], one["zone"]) == (
        lab.source("acme", family), SERVER[family], 443, "tcp", 0)
    assert one["pinned"] and one["path_name"] is None and one["answered"]

    lab.grant_and_wait("acme")
    new = flows("acme", family, port=NEW)
    assert new.path == "bypass"
    eventually(lambda: paths(why(lab, family)) == {OLD: "enforce", NEW: "bypass"},
               "both flows are found")
    told = why(lab, family)
    assert (told["path"], told["new_flows"], told["missing_step"]) == ("bypass", "bypass", None)
    found = told["flows"]
    assert found["complete"] and found["problem"] is None
    assert [found[name] for name in ("count", "bypass", "enforce", "drop", "not_listed")] == [
        2, 1, 1, 0, 0]
    assert {flow["path_name"] for flow in found["list"]} == {None, "bypass"}
    text = lab.steer.ctl("explain", lab.source("acme", family), "--dst", DESTINATION[family]).stdout
    assert (f"1 flow from {endpoint(lab, family, OLD)} runs, pinned to enforcement since it began "
            "before the kernel had the exception; new flows take bypass path bypass") in text
    assert f"1 flow from {endpoint(lab, family, NEW)} runs, pinned to bypass path bypass\n" in text
    old.wait_progress()
    new.wait_progress()


@pytest.mark.parametrize("family", FAMILIES)
def test_one_flow_by_its_source_port(lab, flows, family, eventually):
    assert flows("acme", family, port=OLD, tls=True).path == "enforce"
    lab.grant_and_wait("acme")
    assert flows("acme", family, port=NEW).path == "bypass"
    walks = lab.steer.status()["counters"]["flow_lookup_walks"]

    told = why(lab, family, "--source-port", OLD)
    assert (told["path"], told["new_flows"], told["missing_step"]) == ("enforce", "bypass", "pinning")
    assert paths(told) == {OLD: "enforce"}
    assert told["summary"] == ("The flow goes through the enforcement stage, to its end; new flows "
                               "go around it.")
    assert "began before the kernel had the exception" in [
        reason["text"] for reason in told["reasons"] if not reason["ok"]][0]
    told = why(lab, family, "--source-port", NEW)
    assert (told["path"], told["missing_step"]) == ("bypass", None)
    assert paths(told) == {NEW: "bypass"}
    # Each was one question to the kernel.
    assert lab.steer.status()["counters"]["flow_lookup_walks"] == walks

    told = why(lab, family, "--source-port", NONE)
    assert (told["path"], told["flows"]["count"], told["flows"]["list"]) == ("bypass", 0, [])
    # Of one that is not in zone 0 the whole table is looked through.
    assert lab.steer.status()["counters"]["flow_lookup_walks"] == walks + 1
    assert told["flows"]["sentences"] == ["no such flow runs"] and told["flows"]["complete"]
    eventually(lambda: why(lab, family, "--proto", "udp")["flows"]["count"] == 0, "none is of UDP")


def test_a_flow_that_has_ended_does_not_run(lab, flows, eventually):
    flow = flows("acme", port=OLD, tls=True)
    eventually(lambda: paths(why(lab)) == {OLD: "enforce"}, "the flow is found")
    flow.stop()
    eventually(lambda: why(lab)["flows"]["count"] == 0, "it is not there any more")


def test_a_flow_whose_exception_has_ended(lab, flows, eventually):
    """The tenant has another one, so its entry is kept, and its packets are dropped."""
    lab.steer.grant("acme", "--destination", ELSEWHERE)
    lab.steer.grant("acme", "--destination", SERVER4)
    lab.wait_path("acme", "bypass")
    assert flows("acme", port=NEW).path == "bypass"
    assert why(lab, 4, "--source-port", NEW)["path"] == "bypass"
    number = next(e["id"] for e in lab.steer.exceptions() if e["destinations"] == SERVER4)
    lab.steer.ctl("revoke", "acme", "--id", number, "--reason", "over")
    told = why(lab, 4, "--source-port", NEW)
    assert (told["path"], told["new_flows"], told["missing_step"]) == ("drop", "enforce", "scope")
    assert paths(told) == {NEW: "drop"} and told["flows"]["drop"] == 1
    assert "and dropped: no exception or lease lets its packets pass now" in told["flows"]["sentences"][0]


def test_a_mark_that_no_path_has_is_enforced(lab, flows, eventually):
    """Somebody writes into steerd's bits: nobody decided that this flow may go around."""
    lab.grant_and_wait("acme")
    flow = flows("acme", port=MARKED)
    assert flow.path == "bypass"
    flow.popen.send_signal(signal.SIGSTOP)
    # Its kernel acknowledges later what it got: with the other mark that would end the flow.
    eventually(lab.bypass_is_quiet, "the flow is silent")
    assert why(lab, 4, "--source-port", MARKED)["path"] == "bypass"
    lab.network.exec("gw", "conntrack", "-U", "-s", lab.source("acme"), "-p", "tcp",
                     "--sport", MARKED, "--mark", "0x04000000/0x0f000000")
    told = why(lab, 4, "--source-port", MARKED)
    assert (told["path"], told["new_flows"], told["missing_step"]) == ("enforce", "bypass", "pinning")
    assert "enforced: no path has the conntrack mark 0x04000000" in told["flows"]["sentences"][0]
    flow.popen.send_signal(signal.SIGCONT)
    # The enforcement stage knows nothing of it, and resets it; what had been dropped of the flow
    # from NEW passes again meanwhile, so the packets on the bypass say nothing.
    assert not flow.wait_ended(30)["complete"]


def test_many_flows_are_counted_and_few_are_listed(lab, eventually):
    """Of a UDP service nothing is listened for: one datagram makes a flow."""
    script = ("import socket\n"
              "for port in range(20000, 20040):\n"
              " s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
              f" s.bind(('{lab.source('acme')}', port))\n"
              f" s.sendto(b'x', ('{SERVER4}', 8443))\n")
    lab.network.exec("acme", "/usr/bin/python3", "-c", script)

    def found():
        return lab.steer.ask("explain", lab.source("acme"), "--dst", f"{SERVER4}:8443", "--proto",
                             "udp")["explain"]["flows"]

    eventually(lambda: found()["count"] == 40, "all are found")
    told = found()
    assert (len(told["list"]), told["not_listed"], told["enforce"]) == (16, 24, 40)
    assert re.search(r"40 flows from 198\.18\.\S+, .* and others run, pinned to enforcement",
                     told["sentences"][0])


@pytest.fixture(name="unpinned")
def fixture_unpinned(lab):
    lab.steer.stop()
    lab.steer.flush()
    lab.steer.start(pinning="none")
    lab.wait_synchronised()
    yield lab
    lab.revoke_all()
    lab.steer.stop()
    lab.steer.flush()


def test_without_pinning(unpinned, flows, eventually):
    lab = unpinned
    assert flows("acme", port=OLD, tls=True).path == "enforce"
    eventually(lambda: paths(why(lab)) == {OLD: "enforce"}, "the flow is found")
    told = why(lab)["flows"]
    assert not told["list"][0]["pinned"]
    assert "not pinned (pinning = none): each packet goes as that of a new flow" in told["sentences"][0]


def test_facts_are_members(lab):
    lab.grant_and_wait("acme")
    told = why(lab)
    listed, = lab.steer.exceptions()
    assert told["exception"] == listed
    assert (told["exception"]["accepted_by"], told["exception"]["granted_by"]) == (
        "ciso@acme.example", "root")
    assert (told["profile"], told["path_name"]) == ("skype", "bypass")
    assert 29 * 86400 < told["remaining_s"] <= 30 * 86400
    assert {reason["step"] for reason in told["reasons"]} >= {"connected", "exception", "kernel",
                                                              "lease"}
    # A tenant has many addresses: its flows are not looked for.
    assert lab.steer.ask("explain", "acme")["explain"]["flows"] is None


@pytest.mark.parametrize("words, step", (
    (("globex",), "exception"),
    (("umbrella",), "connected"),
    (("198.18.77.77",), "connected"),
    (("acme", "--dst", f"{SERVER4}:8443"), "service"),
    (("acme", "--dst", f"{SERVER4}:443", "--proto", "udp"), "service"),
    (("acme", "--dst", "192.168.1.1:443"), "destination"),
))
def test_the_missing_step_has_a_name(lab, words, step):
    lab.grant_and_wait("acme")
    told = lab.steer.ask("explain", *words)["explain"]
    assert (told["path"], told["missing_step"]) == ("enforce", step)
    assert told["exception"] is None or step != "exception"


@pytest.mark.parametrize("words, says", (
    (("acme", "--dst", f"{SERVER4}:443", "--source-port", "50001"), "source_port: needs an inner address"),
    (("198.18.1.5", "--source-port", "50001"), "source_port: needs an inner address, and dst"),
    (("198.18.1.5", "--dst", f"{SERVER4}:443", "--source-port", "65536"), "expected 1 to 65535"),
    (("198.18.1.5", "--dst", f"{SERVER4}:443", "--source-port", "http"), "--source-port"),
    (("198.18.1.5", "--proto", "tcp"), "proto: needs dst"),
))
def test_bad_questions_are_refused(lab, words, says):
    done = lab.steer.ctl("explain", *words, check=False)
    assert done.returncode in (1, 2) and says in done.stderr, done


def test_an_answer_that_waits_keeps_its_order(lab):
    """Two questions at once on one connection, and others' beside them."""
    explain = {"v": 1, "command": "explain", "subject": lab.source("acme"), "dst": DESTINATION[4]}
    lines = "".join(json.dumps(request) + "\n"
                    for request in (explain, {"v": 1, "command": "risk"}, explain))

    def talk(_number):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect(str(lab.steer.control))
            sock.sendall(lines.encode())
            with sock.makefile() as answers:
                return [json.loads(answers.readline()) for _ in range(3)]

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for first, second, third in pool.map(talk, range(4)):
            assert first["explain"]["flows"]["count"] == third["explain"]["flows"]["count"] == 0
            assert "risk" in second
