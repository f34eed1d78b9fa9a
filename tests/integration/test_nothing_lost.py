# SPDX-License-Identifier: GPL-2.0-or-later
"""The whole steerd, killed at each write to its database while it is asked for something.

What was being done is wholly there after a restart, or wholly absent; what was answered is there; and the
audit log is whole. It runs in a network namespace of its own, without charon and without the lab.
(tests/unit/test_nothing_lost.c does the same with the modules alone, many times more.)
"""

import json
import os
import pathlib
import shutil
import socket
import subprocess

import pytest

from lab.system import wait_until

CONFIG = """\
user = "";
charon {{ publish = "ipc://{dir}/events"; snapshot = "ipc://{dir}/snapshot"; }}
stream {{ bind = ["ipc://{dir}/stream"]; }}
control {{ socket = "{dir}/control"; group = ""; }}
store {{ sqlite = "{dir}/db/exceptions.db"; }}
steering {{ mode = sa; mark_mask = 0x0f000000; rule_priority = 5200; }}
path bypass {{ mark = 0x01000000; }}
profile skype {{ path = bypass; services = ["tcp/443"]; max_lifetime = 90d; }}
profile ssh {{ path = bypass; services = ["tcp/22"]; max_lifetime = 90d; }}
"""
# The database starts anew after so many rounds.
ROUNDS = 20
LEAST_KILLS = 40


class Lone:
    """A steerd that nobody talks to but this test."""

    def __init__(self, directory, build):
        self.dir = directory
        self.build = pathlib.Path(build)
        self.library = self.build / "tests/unit/.libs/kill_at.so"
        self.steerctl = self.build / "sidecar/steerctl"
        self.process = None
        (directory / "steerd.conf").write_text(CONFIG.format(dir=directory))

    def start_anew(self):
        shutil.rmtree(self.dir / "db", ignore_errors=True)
        (self.dir / "db").mkdir()

    def start(self, kill_at=0, half=False):
        """Returns whether it came up: it may be killed before."""
        env = {key: value for key, value in os.environ.items() if not key.startswith("KILL_AT")}
        if kill_at:
            env.update(LD_PRELOAD=str(self.library), KILL_AT=str(kill_at),
                       KILL_AT_PATH=str(self.dir / "db"), **({"KILL_AT_HALF": "1"} if half else {}))
        self.process = subprocess.Popen(
            ["unshare", "-n", self.build / "sidecar/steerd", "--config", self.dir / "steerd.conf"],
            env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: self.process.poll() is not None or self.ask("stream"), "steerd is up")
        return self.process.poll() is None

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()

    def ask(self, command, **fields):
        """The answer; None if there is none: it was killed, or is not up yet."""
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(10)
                sock.connect(str(self.dir / "control"))
                sock.sendall(json.dumps({"v": 1, "command": command, **fields}).encode() + b"\n")
                with sock.makefile() as answer:
                    line = answer.readline()
            return json.loads(line) if line.endswith("\n") else None
        except OSError:
            return None

    def ctl(self, *words):
        return subprocess.run([self.steerctl, "--socket", self.dir / "control", *words],
                              capture_output=True, text=True, check=False)


@pytest.fixture(name="lone")
def fixture_lone(tmp_path):
    lone = Lone(tmp_path, os.environ["TENANT_STEER_BUILD"])
    assert lone.library.exists(), "make check in tests/unit makes it"
    yield lone
    lone.stop()


def work(lone, number):
    """Ask for a few things; yields after each how many entries of the log it makes, and its answer."""
    risk = {"accept_risk": True, "risk_sha256": lone.risk}
    wish = {"change_request": "CR", "accepted_by": "x", "reason": "x", "expires_s": 3600, **risk}
    acme, globex = f"acme-{number}", f"globex-{number}"
    answer = lone.ask("grant", tenant=acme, profile="skype", **wish)
    yield 1, answer
    yield 1, lone.ask("change", id=answer["exception"]["id"], expires_s=7200, accepted_by="y", **risk)
    yield 1, lone.ask("grant", tenant=acme, profile="ssh", **wish)
    yield 1, lone.ask("grant", tenant=globex, profile="ssh", **wish)
    yield 2, lone.ask("revoke", tenant=acme, reason="over")
    yield 1, lone.ask("revoke", tenant=globex, reason="over")


def entries(lone):
    """How many the log has, which must be whole, and as the exceptions are."""
    told = lone.ctl("audit", "verify", "--json")
    assert told.returncode == 0, told
    return json.loads(told.stdout)["audit"]["entries"]


def count_state(lone):
    """The entries that the exceptions as they are must have made: their versions."""
    return sum(e["version"] for e in lone.ask("exceptions", all=True)["exceptions"])


def one_round(lone, number, half, before):
    """Killed at write `number`. Returns (killed, entries afterwards)."""
    done, under_way = 0, 0
    if lone.start(number, half):
        for made, answer in work(lone, number):
            if answer is None:
                under_way = made
                break
            assert answer["ok"], answer
            done += made
    killed = lone.process.poll() is not None or under_way
    lone.stop()
    assert lone.start()
    after = entries(lone)
    assert after in (before + done, before + done + under_way), (number, before, done, under_way)
    assert after == count_state(lone)
    lone.stop()
    return killed, after


@pytest.mark.parametrize("half", (False, True), ids=("before", "halfway"))
def test_killed_at_each_write(lone, half):
    lone.start_anew()
    assert lone.start()
    lone.risk = lone.ask("risk")["risk"]["sha256"]
    lone.stop()
    number, before, kills, killed = 0, 0, 0, True
    while killed:
        if number % ROUNDS == ROUNDS - 1:
            lone.start_anew()
            before = 0
        number += 1
        killed, before = one_round(lone, number, half, before)
        kills += bool(killed)
    assert kills >= LEAST_KILLS
