# SPDX-License-Identifier: GPL-2.0-or-later
"""All exceptions as one file: out of steerd with export, back with apply, wholly or not at all."""

import datetime
import json
import os
import pathlib
import socket
import subprocess
import threading

import pytest

from lab.lone import Lone

DONE, FAILED, USAGE, UNREACHABLE, DIFFERENT, CONFLICT = range(6)
MANY = 10000
# Of version 1 of the text, as docs/control.md has it.
RISK = "3d21e818327c1a0ea8f99a32fbc398a75c9490215110cdc9d82be02d863adb2d"


@pytest.fixture(name="lone")
def fixture_lone(tmp_path):
    lone = Lone(tmp_path, os.environ["TENANT_STEER_BUILD"])
    lone.start_anew()
    assert lone.start()
    yield lone
    lone.stop()


@pytest.fixture(name="apply")
def fixture_apply(lone, tmp_path):
    """apply(document or text, options ...): what steerctl said to a file with it."""
    return lambda wanted, *words: lone.ctl("apply", write(tmp_path, wanted), *words)


def write(directory, wanted):
    file = directory / "exceptions.json"
    file.write_text(wanted if isinstance(wanted, str) else json.dumps(wanted, indent=1))
    return file


def soon(days=30):
    """The end of an exception, as a profile allows it."""
    end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)
    return end.strftime("%Y-%m-%dT12:00:00Z")


def entry(tenant, /, **changes):
    """What a file says of an exception; None leaves a member out."""
    members = {"tenant": tenant, "profile": "skype", "expires_at": soon(),
               "change_request": "CR-7", "accepted_by": f"ciso@{tenant}.example",
               "reason": "by a list", "risk_sha256": RISK, **changes}
    return {k: v for k, v in members.items() if v is not None}


def document(*entries):
    return {"version": 1, "exceptions": list(entries)}


def grant(lone, tenant):
    done = lone.ctl("grant", tenant, "--profile", "skype", "--change-request", "CR-1",
                    "--accepted-by", f"ciso@{tenant}.example", "--accept-risk", "--reason", "calls",
                    "--expires", "30d")
    assert done.returncode == DONE, done


def in_force(lone):
    return [e["tenant"] for e in lone.ask("exceptions")["exceptions"]]


def history(lone):
    return lone.ask("history")["history"]


def actions(lone):
    return [(e["action"], e["tenant"]) for e in history(lone)]


def test_what_was_exported_is_no_change(lone, apply):
    for tenant in ("globex", "acme", "umbrella"):
        grant(lone, tenant)
    text = lone.ctl("export").stdout
    assert [e["tenant"] for e in json.loads(text)["exceptions"]] == ["acme", "globex", "umbrella"]
    done = apply(text, "--prune")
    assert done.returncode == DONE, done
    assert "unchanged 3" in done.stdout and "Nothing to do" in done.stdout
    assert apply(text, "--prune", "--dry-run").returncode == DONE
    assert len(actions(lone)) == 3
    assert lone.ctl("export").stdout == text


def test_more_than_a_page(lone, apply):
    wanted = document(*[entry(f"t{number:04}") for number in range(300)])
    assert apply(wanted).returncode == DONE
    told = json.loads(lone.ctl("export").stdout)["exceptions"]
    assert [e["tenant"] for e in told] == [e["tenant"] for e in wanted["exceptions"]]
    assert "unchanged 300" in apply(wanted).stdout


def test_a_dry_run_changes_nothing(lone, apply):
    grant(lone, "globex")
    done = apply(document(entry("acme")), "--prune", "--dry-run")
    assert done.returncode == DIFFERENT, done
    assert "+ grant  acme skype" in done.stdout and "- revoke globex skype" in done.stdout
    assert "nothing was changed" in done.stdout
    assert actions(lone) == [("grant", "globex")]
    told = json.loads(apply(document(entry("acme")), "--dry-run", "--json").stdout)["apply"]
    assert told["dry_run"] and not told["applied"]
    assert [(c["action"], c["entry"]) for c in told["changes"]] == [("grant", 1)]
    assert (told["granted"], told["left_alone"]) == (1, 1)
    told = json.loads(apply(document(entry("acme")), "--json").stdout)["apply"]
    assert told["applied"] and not told["dry_run"]


def test_what_has_ended_by_itself_may_stay_in_the_file(lone, apply):
    done = apply(document(entry("acme", expires_at="2020-01-01T00:00:00Z"), entry("globex")))
    assert done.returncode == DONE and "over   acme skype: until 2020" in done.stdout, done
    assert "grant 1, change 0, revoke 0, over 1" in done.stdout
    assert in_force(lone) == ["globex"]
    done = apply(document(entry("globex", expires_at="2020-01-01T00:00:00Z")))
    assert done.returncode == FAILED and "an end to come" in done.stderr, "it is to be revoked"


def test_standard_input(lone):
    done = subprocess.run([lone.steerctl, "--socket", lone.dir / "control", "apply", "-"],
                          input=json.dumps(document(entry("acme"))), text=True,
                          capture_output=True, check=False)
    assert done.returncode == DONE, done
    assert in_force(lone) == ["acme"]


@pytest.mark.parametrize("changes, says", (
    ({"tenant": "no name"}, "entry 2: tenant: expected"),
    ({"profile": "nonsense"}, "entry 2: initech: there is no profile \"nonsense\""),
    ({"colour": "red"}, "entry 2: unknown member \"colour\""),
    ({"reason": 7}, "entry 2: reason: expected a text"),
    ({"reason": None}, "entry 2: initech: reason: expected"),
    ({"accepted_by": ""}, "entry 2: initech: accepted_by: expected"),
    ({"change_request": "x" * 256}, "entry 2: change_request: expected"),
    ({"expires_at": "soon"}, "entry 2: expires_at: expected a time"),
    ({"expires_at": "2099-01-01T00:00:00Z"}, "max_lifetime"),
    ({"risk_sha256": "ab" * 32}, "risk_sha256: not the hash"),
    ({"risk_sha256": None}, "risk_sha256: expected"),
    ({"scope": "198.18.1.5"}, "entry 2: scope: "),
    ({"scope": "host 198.18.1.0/24"}, "entry 2: scope: "),
    ({"destinations": "203.0.113.1/24"}, "entry 2: destinations: "),
    ({"destinations": "10.0.0.0/8"}, "private"),
    ({"tenant": "acme"}, "as entry 1, line 4"),
))
def test_a_wrong_entry_and_nothing_is_applied(lone, apply, changes, says):
    done = apply(document(entry("acme"), entry("initech", **changes)))
    assert done.returncode == FAILED, done
    assert says in done.stderr and "nothing was applied" in done.stderr, done.stderr
    assert done.stdout == ""
    assert in_force(lone) == [] and actions(lone) == []


@pytest.mark.parametrize("text, says", (
    ("", "line 1: not JSON"),
    ("{\"version\": 1,\n\"exceptions\": [\n}", "line 3: not JSON"),
    ("{\"version\": 2, \"exceptions\": []}", "version: expected 1"),
    ("{\"version\": 1}", "expected an object with"),
))
def test_a_wrong_file(lone, apply, text, says):
    done = apply(text, "--prune")
    assert done.returncode == FAILED and says in done.stderr, done


def test_exit_codes(lone, apply, tmp_path):
    assert lone.ctl("apply", tmp_path / "none").returncode == FAILED
    assert lone.ctl("apply").returncode == USAGE
    assert apply(document(), "--reason", "x").returncode == USAGE
    for words in (("export",), ("apply", tmp_path / "exceptions.json")):
        done = subprocess.run([lone.steerctl, "--socket", tmp_path / "nobody", *words],
                              capture_output=True, text=True, check=False)
        assert done.returncode == UNREACHABLE and "is steerd running" in done.stderr, done


class Connection:
    """A connection that takes its time."""

    def __init__(self, lone):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(str(lone.dir / "control"))
        self.answers = self.sock.makefile()

    def ask(self, command, **fields):
        self.sock.sendall(json.dumps({"v": 1, "command": command, **fields}).encode() + b"\n")
        return json.loads(self.answers.readline())

    def stage(self, *entries, **options):
        assert self.ask("apply-begin", **options)["ok"]
        answer = self.ask("apply-add", entries=list(entries))
        assert answer["ok"], answer
        return self.ask("apply-diff", after=0)

    def close(self):
        self.answers.close()
        self.sock.close()


@pytest.fixture(name="connection")
def fixture_connection(lone):
    connection = Connection(lone)
    yield connection
    connection.close()


@pytest.mark.parametrize("other", ("grant", "change", "revoke"))
def test_what_was_compared_must_still_be_so(lone, connection, other):
    grant(lone, "globex")
    assert connection.stage(entry("acme"))["granted"] == 1
    if other == "grant":
        grant(lone, "initech")
    elif other == "change":
        lone.ctl("change", "1", "--reason", "more")
    else:
        lone.ctl("revoke", "globex", "--reason", "over")
    before = actions(lone)
    answer = connection.ask("apply-commit")
    assert "meanwhile" in answer["conflict"] and "nothing was done" in answer["conflict"]
    assert actions(lone) == before
    assert "acme" not in in_force(lone)
    assert not connection.ask("apply-commit")["ok"], "it is over"


def test_others_are_served_meanwhile(lone, apply):
    asker, asked = Connection(lone), 0
    applying = subprocess.Popen([lone.steerctl, "--socket", lone.dir / "control", "apply", write(
        lone.dir, document(*[entry(f"t{number:05}") for number in range(MANY)]))],
                                stdout=subprocess.DEVNULL)
    while applying.poll() is None:
        assert asker.ask("status")["status"]["exceptions"] in (0, MANY), "all or nothing"
        asker.ask("history", limit=1)
        asked += 1
    asker.close()
    assert applying.returncode == DONE and asked > 10
    assert lone.ask("status")["status"]["exceptions"] == MANY


def test_staged_entries_die_with_the_connection(lone, connection, eventually):
    wish = entry("acme")
    connection.stage(wish)
    second = Connection(lone)
    answer = second.ask("apply-begin")
    assert not answer["ok"] and "root is applying" in answer["error"]
    assert not second.ask("apply-commit")["ok"]
    connection.close()
    eventually(lambda: second.ask("apply-begin")["ok"], "another may begin")
    assert second.ask("apply-diff", after=0)["granted"] == 0
    assert second.ask("apply-commit")["done"]
    second.close()
    assert in_force(lone) == []


@pytest.mark.parametrize("asked, says", (
    ((("apply-add", {"entries": []}),), "nothing was begun"),
    ((("apply-begin", {}), ("apply-add", {})), "entries: expected a list"),
    ((("apply-begin", {}), ("apply-add", {"entries": [7]})), "entry 1: expected an object"),
    ((("apply-begin", {}), ("apply-commit", {})), "not all compared"),
    ((("apply-begin", {}), ("apply-add", {"entries": [{}]})), "entry 1: tenant: expected"),
    ((("apply-begin", {}), ("apply-diff", {}), ("apply-add", {"entries": [entry("acme")]})),
     "being compared"),
    ((("apply-begin", {"reason": "x" * 256}),), "reason: expected 1 to 255 bytes"),
    ((("apply-begin", {}), ("apply-diff", {"after": -1})), "after: expected"),
))
def test_out_of_order(connection, asked, says):
    answer = None
    for command, fields in asked:
        answer = connection.ask(command, **fields)
    assert not answer["ok"] and says in answer["error"], answer


def test_a_refused_list_cannot_be_committed(lone, connection):
    answer = connection.stage(entry("acme"), entry("globex", profile="nonsense"))
    assert not answer["ok"]
    assert not connection.ask("apply-commit")["ok"]
    assert in_force(lone) == []


@pytest.fixture(name="fake")
def fixture_fake(tmp_path):
    """fake(answers by command, words): what steerctl said to a steerd that says what it is told to;
    a command without an answer ends the connection."""
    def fake(answers, *words):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "fake"))
        listener.listen()
        listener.settimeout(30)

        def serve():
            peer = listener.accept()[0]
            with peer, peer.makefile() as requests:
                for line in requests:
                    command = json.loads(line)["command"]
                    if command not in answers:
                        return
                    answer = answers[command]
                    answer = answer() if callable(answer) else answer
                    peer.sendall(json.dumps({"v": 1, "ok": True, **answer}).encode() + b"\n")

        thread = threading.Thread(target=serve)
        thread.start()
        steerctl = pathlib.Path(os.environ["TENANT_STEER_BUILD"]) / "sidecar" / "steerctl"
        done = subprocess.run([steerctl, "--socket", tmp_path / "fake", *words],
                              capture_output=True, text=True, check=False)
        thread.join()
        listener.close()
        return done

    return fake


STAGED = {"apply-begin": {}, "apply-add": {"entries": 1},
          "apply-diff": {"changes": [], "next": 1, "more": False, "granted": 1, "changed": 0,
                         "revoked": 0, "over": 0, "unchanged": 0, "left_alone": 0}}


def test_a_conflict_has_an_exit_code_of_its_own(fake, tmp_path):
    file = write(tmp_path, document(entry("acme")))
    done = fake({**STAGED, "apply-commit": {"conflict": "somebody was quicker"}}, "apply", file)
    assert done.returncode == CONFLICT and "somebody was quicker" in done.stderr, done


def test_lost_while_it_commits(fake, tmp_path):
    """Then nobody knows; steerctl says so, and not that it failed."""
    file = write(tmp_path, document(entry("acme")))
    done = fake(STAGED, "apply", file)
    assert done.returncode == UNREACHABLE and "all applied or not at all" in done.stderr, done


def test_an_export_is_of_one_moment(fake):
    """Something changes between each two pages; it is not mixed, and it ends."""
    pages = iter(range(1000))
    done = fake({"export": lambda: {"exceptions": [], "last": 7, "more": True,
                                    "generation": next(pages)}}, "export")
    assert done.returncode == FAILED and "try again" in done.stderr, done
    assert done.stdout == ""


def test_kernel_and_operators_hear_of_it(lab, flows, watch, tmp_path):
    """Granted, changed, revoked by files: each counts at the next packet, and is told."""
    def apply(wanted, *words):
        done = lab.steer.ctl("apply", write(tmp_path, wanted), *words, check=False)
        assert done.returncode == DONE, done
        return done.stdout

    apply(document(entry("acme"), entry("globex")))
    assert lab.wait_path("acme", "bypass") and lab.wait_path("globex", "bypass")
    assert watch.wait_for("exception-granted", "acme")["actor"] == "root"
    flow = flows("acme")
    assert flow.path == "bypass"
    wanted = document(entry("acme", reason="more calls", expires_at=soon(60)))
    told = apply(wanted)
    assert "~ change acme skype, exception " in told and "left alone 1" in told
    assert 'reason "by a list" -> "more calls"' in told
    assert lab.verdict("globex", "nontls443") == ("answered", "bypass")
    assert "- revoke globex skype" in apply(wanted, "--prune", "--reason", "ticket 9 is closed")
    assert lab.verdict("globex", "nontls443") == ("denied", None)
    assert watch.wait_for("exception-revoked", "globex")["reason"] == "ticket 9 is closed"
    flow.wait_progress()
    apply(document(), "--prune")
    assert lab.verdict("acme", "nontls443") == ("denied", None)
    assert not flow.wait_ended(30)["complete"]


def test_the_lease_goes_on(lab, flows, tmp_path):
    """10,000 at once: a flow that bypasses loses nothing."""
    lab.grant_and_wait("acme")
    flow = flows("acme")
    assert flow.path == "bypass"
    kept = json.loads(lab.steer.ctl("export").stdout)
    many = document(*kept["exceptions"], *[entry(f"t{number:05}") for number in range(MANY)])
    assert "steering" in json.dumps(lab.steer.status())
    lab.steer.ctl("apply", write(tmp_path, many))
    flow.wait_progress()
    lab.steer.ctl("apply", "--prune", write(tmp_path, kept))
    flow.wait_progress()
    assert [e["tenant"] for e in lab.steer.exceptions()] == ["acme"]
    assert lab.steer.active()
