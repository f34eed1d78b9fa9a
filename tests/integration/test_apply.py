# SPDX-License-Identifier: GPL-2.0-or-later
"""All exceptions as one file: out of steerd with export, and back with apply, wholly or not at all."""

import copy
import json
import socket
import subprocess

import pytest

DONE, FAILED, USAGE, UNREACHABLE, DIFFERENT, CONFLICT = range(6)
MANY = 10000


@pytest.fixture(name="fresh")
def fixture_fresh(lab):
    """The lab with a database of its own."""
    lab.steer.stop()
    kept, lab.steer.store = lab.steer.store, lab.steer.dir / "apply.db"
    lab.steer.start()
    lab.wait_synchronised()
    yield lab
    lab.steer.stop()
    for left in lab.steer.dir.glob("apply.db*"):
        left.unlink()
    lab.steer.store = kept


@pytest.fixture(name="apply")
def fixture_apply(fresh, tmp_path):
    """apply(document or text, options ...): what steerctl said to a file with it."""
    def apply(document, *words):
        file = tmp_path / "exceptions.json"
        file.write_text(document if isinstance(document, str) else json.dumps(document, indent=1))
        return fresh.steer.ctl("apply", file, *words, check=False)

    return apply


def export(lab):
    return json.loads(lab.steer.ctl("export").stdout)


def entry(lab, tenant, **changes):
    """What a file says of an exception; None leaves a member out."""
    members = {"tenant": tenant, "profile": "skype", "expires_at": "2027-01-15T08:00:00Z",
               "change_request": "CR-7", "accepted_by": f"ciso@{tenant}.example",
               "reason": "by a list", "risk_sha256": lab.steer.request("risk")["risk"]["sha256"]}
    members["expires_at"] = soon(lab)
    return {k: v for k, v in {**members, **changes}.items() if v is not None}


def soon(lab, days=30):
    """A time that a profile allows, as steerd's own clock has it."""
    stdout = subprocess.run(["date", "-u", "-d", f"+{days} days", "+%FT%TZ"], check=True,
                            capture_output=True, text=True).stdout
    assert lab
    return stdout.strip()


def document(*entries):
    return {"version": 1, "exceptions": list(entries)}


def actions(lab):
    return [(e["action"], e["tenant"]) for e in lab.steer.ask("history")["history"]]


def test_what_was_exported_is_no_change(fresh, apply):
    for tenant in ("globex", "acme", "umbrella"):
        fresh.steer.grant(tenant)
    text = fresh.steer.ctl("export").stdout
    assert [e["tenant"] for e in json.loads(text)["exceptions"]] == ["acme", "globex", "umbrella"]
    done = apply(text, "--prune")
    assert done.returncode == DONE, done
    assert "unchanged 3" in done.stdout and "Nothing to do" in done.stdout
    assert apply(text, "--prune", "--dry-run").returncode == DONE
    assert len(actions(fresh)) == 3
    assert fresh.steer.ctl("export").stdout == text


def test_more_than_a_page(fresh, apply):
    wanted = document(*[entry(fresh, f"t{number:04}") for number in range(300)])
    assert apply(wanted).returncode == DONE
    told = export(fresh)["exceptions"]
    assert [e["tenant"] for e in told] == [e["tenant"] for e in wanted["exceptions"]]
    assert "unchanged 300" in apply(wanted).stdout


def test_the_whole_life_by_files(fresh, flows, apply):
    """Granted, changed, revoked, and in the kernel each time."""
    assert apply(document(entry(fresh, "acme"), entry(fresh, "globex"))).returncode == DONE
    assert fresh.wait_path("acme", "bypass")
    assert fresh.wait_path("globex", "bypass")
    flow = flows("acme")
    assert flow.path == "bypass"
    wanted = document(entry(fresh, "acme", reason="more calls", expires_at=soon(fresh, 60)))
    done = apply(wanted)
    assert "~ change acme skype, exception 1: " in done.stdout
    assert 'reason "by a list" -> "more calls"' in done.stdout
    assert "left alone 1" in done.stdout
    assert fresh.verdict("globex", "nontls443") == ("answered", "bypass")
    done = apply(wanted, "--prune", "--reason", "ticket 9 is closed")
    assert done.returncode == DONE and "- revoke globex skype, exception 2" in done.stdout
    assert fresh.verdict("globex", "nontls443") == ("denied", None)
    flow.wait_progress()
    assert apply(document(), "--prune").returncode == DONE
    assert fresh.verdict("acme", "nontls443") == ("denied", None)
    assert not flow.wait_ended(30)["complete"]
    assert actions(fresh) == [("grant", "acme"), ("grant", "globex"), ("change", "acme"),
                              ("revoke", "globex"), ("revoke", "acme")]
    told = fresh.steer.ask("history")["history"]
    assert all((e["actor"], e["actor_uid"]) == ("root", 0) for e in told)
    assert told[3]["record"]["end_reason"] == "ticket 9 is closed"
    assert fresh.steer.ctl("audit", "verify").returncode == 0


def test_events_are_told(fresh, watch, apply):
    fresh.steer.grant("globex")
    apply(document(entry(fresh, "acme")), "--prune")
    assert watch.wait_for("exception-granted", "acme")["actor"] == "root"
    assert watch.wait_for("exception-revoked", "globex")["reason"]


def test_a_dry_run_changes_nothing(fresh, apply):
    fresh.steer.grant("globex")
    done = apply(document(entry(fresh, "acme")), "--prune", "--dry-run")
    assert done.returncode == DIFFERENT, done
    assert "+ grant  acme skype" in done.stdout and "- revoke globex skype" in done.stdout
    assert "nothing was changed" in done.stdout
    assert actions(fresh) == [("grant", "globex")]
    told = json.loads(apply(document(entry(fresh, "acme")), "--dry-run", "--json").stdout)["apply"]
    assert told["dry_run"] and not told["applied"]
    assert [(c["action"], c["entry"]) for c in told["changes"]] == [("grant", 1)]
    assert (told["granted"], told["left_alone"]) == (1, 1)
    told = json.loads(apply(document(entry(fresh, "acme")), "--json").stdout)["apply"]
    assert told["applied"] and not told["dry_run"]


def test_standard_input(fresh):
    done = subprocess.run([fresh.steer.steerctl, "--socket", fresh.steer.control, "apply", "-"],
                          input=json.dumps(document(entry(fresh, "acme"))), text=True,
                          capture_output=True, check=False)
    assert done.returncode == DONE, done
    assert [e["tenant"] for e in fresh.steer.exceptions()] == ["acme"]


@pytest.mark.parametrize("changes, says", (
    ({"tenant": "no name"}, "line 21, entry 2: tenant: expected"),
    ({"profile": "nonsense"}, "entry 2: initech: there is no profile \"nonsense\""),
    ({"colour": "red"}, "entry 2: unknown member \"colour\""),
    ({"reason": 7}, "entry 2: reason: expected a text"),
    ({"reason": None}, "entry 2: initech: reason: expected"),
    ({"accepted_by": ""}, "entry 2: initech: accepted_by: expected"),
    ({"change_request": "x" * 256}, "entry 2: change_request: expected"),
    ({"expires_at": "soon"}, "entry 2: expires_at: expected a time"),
    ({"expires_at": "2020-01-01T00:00:00Z"}, "an end to come"),
    ({"expires_at": "2099-01-01T00:00:00Z"}, "max_lifetime"),
    ({"risk_sha256": "ab" * 32}, "risk_sha256: not the hash"),
    ({"risk_sha256": None}, "risk_sha256: expected"),
    ({"scope": "198.18.1.5"}, "scope: expected \"tenant\""),
    ({"destinations": "203.0.113.0/24"}, "destinations: expected none"),
    ({"tenant": "acme"}, "as entry 1, line 4"),
))
def test_a_wrong_entry_and_nothing_is_applied(fresh, apply, changes, says):
    done = apply(document(entry(fresh, "acme"), entry(fresh, "initech", **changes)))
    assert done.returncode == FAILED, done
    assert says in done.stderr and "nothing was applied" in done.stderr, done.stderr
    assert done.stdout == ""
    assert fresh.steer.exceptions() == [] and actions(fresh) == []


@pytest.mark.parametrize("text, says", (
    ("", "line 1: not JSON"),
    ("{\"version\": 1,\n\"exceptions\": [\n}", "line 3: not JSON"),
    ("{\"version\": 2, \"exceptions\": []}", "version: expected 1"),
    ("{\"version\": 1}", "expected an object with"),
))
def test_a_wrong_file(fresh, apply, text, says):
    done = apply(text, "--prune")
    assert done.returncode == FAILED and says in done.stderr, done


def test_exit_codes(fresh, apply, tmp_path):
    assert fresh.steer.ctl("apply", tmp_path / "none", check=False).returncode == FAILED
    assert fresh.steer.ctl("apply", check=False).returncode == USAGE
    assert apply(document(), "--reason", "x").returncode == USAGE
    for words in (("export",), ("apply", tmp_path / "exceptions.json")):
        done = subprocess.run([fresh.steer.steerctl, "--socket", tmp_path / "nobody", *words],
                              capture_output=True, text=True, check=False)
        assert done.returncode == UNREACHABLE and "is steerd running" in done.stderr, done


class Connection:
    """A connection that takes its time."""

    def __init__(self, lab):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(str(lab.steer.control))
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
def fixture_connection(fresh):
    connection = Connection(fresh)
    yield connection
    connection.close()


@pytest.mark.parametrize("other", ("grant", "change", "revoke"))
def test_what_was_compared_must_still_be_so(fresh, connection, other):
    fresh.steer.grant("globex")
    assert connection.stage(entry(fresh, "acme"))["granted"] == 1
    if other == "grant":
        fresh.steer.grant("initech")
    elif other == "change":
        fresh.steer.ctl("change", 1, "--reason", "more")
    else:
        fresh.steer.revoke("globex")
    before = actions(fresh)
    answer = connection.ask("apply-commit")
    assert "meanwhile" in answer["conflict"] and "nothing was done" in answer["conflict"]
    assert actions(fresh) == before
    assert "acme" not in [e["tenant"] for e in fresh.steer.exceptions()]
    assert not connection.ask("apply-commit")["ok"], "it is over"


def test_staged_entries_die_with_the_connection(fresh, connection, eventually):
    wish = entry(fresh, "acme")
    connection.stage(wish)
    second = Connection(fresh)
    answer = second.ask("apply-begin")
    assert not answer["ok"] and "root is applying" in answer["error"]
    assert not second.ask("apply-commit")["ok"]
    connection.close()
    eventually(lambda: second.ask("apply-begin")["ok"], "another may begin")
    assert second.ask("apply-diff", after=0)["granted"] == 0
    assert second.ask("apply-commit")["done"]
    second.close()
    assert fresh.steer.exceptions() == []


@pytest.mark.parametrize("asked, says", (
    ((("apply-add", {"entries": []}),), "nothing was begun"),
    ((("apply-begin", {}), ("apply-add", {})), "entries: expected a list"),
    ((("apply-begin", {}), ("apply-add", {"entries": [7]})), "entry 1: expected an object"),
    ((("apply-begin", {}), ("apply-commit", {})), "not all compared"),
    ((("apply-begin", {}), ("apply-diff", {}), ("apply-add", {"entries": [{}]})), "entry 1: tenant"),
    ((("apply-begin", {"reason": "x" * 256}),), "reason: expected 1 to 255 bytes"),
    ((("apply-begin", {}), ("apply-diff", {"after": -1})), "after: expected"),
))
def test_out_of_order(connection, asked, says):
    answer = None
    for command, fields in asked:
        answer = connection.ask(command, **fields)
    assert not answer["ok"] and says in answer["error"], answer


def test_a_refused_list_cannot_be_committed(fresh, connection):
    answer = connection.stage(entry(fresh, "acme"), entry(fresh, "globex", profile="nonsense"))
    assert not answer["ok"]
    assert not connection.ask("apply-commit")["ok"]
    assert fresh.steer.exceptions() == []


def test_the_lease_and_others_go_on(fresh, flows, apply):
    """10,000 at once: a bypassed flow loses nothing, and status answers."""
    fresh.grant_and_wait("acme")
    flow = flows("acme")
    asker = Connection(fresh)
    wanted = export(fresh)
    one = entry(fresh, "t")
    wanted["exceptions"] += [{**one, "tenant": f"t{number:05}"} for number in range(MANY)]
    file = fresh.steer.dir / "many.json"
    file.write_text(json.dumps(wanted))
    applying = subprocess.Popen([fresh.steer.steerctl, "--socket", fresh.steer.control, "apply",
                                 file], stdout=subprocess.DEVNULL)
    asked = 0
    while applying.poll() is None:
        assert asker.ask("status")["status"]["state"] == "steering"
        asked += 1
    asker.close()
    file.unlink()
    assert applying.returncode == DONE and asked > 10
    flow.wait_progress()
    assert flow.path == "bypass"
    assert fresh.steer.status()["exceptions"] == MANY + 1
    wanted = copy.deepcopy(wanted)
    wanted["exceptions"] = wanted["exceptions"][:1]
    assert apply(wanted, "--prune").returncode == DONE
    flow.wait_progress()
    assert fresh.steer.status()["exceptions"] == 1
