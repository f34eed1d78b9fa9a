# SPDX-License-Identifier: GPL-2.0-or-later
"""Starting with bad input, and leaving nothing behind."""

import json

import pytest

from lab.steer import RULE_PRIORITY, TABLE
from lab.system import run


def try_config(lab, text):
    """Start steerd with this configuration, which must be refused."""
    config = lab.state.path / "bad.conf"
    config.write_text(text)
    return run(*lab.steer.on_gateway(lab.steer.steerd, "--config", config), check=False, timeout=10)


@pytest.mark.parametrize("old, new, line_has, key", (
    ("lease = 3s", "lease = banana", "lease", "lease"),
    ("lease = 3s", "lease = 3s; leese = 3s", "leese", "leese"),
    ("mark = 0x01000000", "mark = 0x10000000", "mark = 0x10000000", "mark"),
    ("services = [\"tcp/443\"]", "services = [\"tcp/banana\"]", "banana", "services"),
    ("path = bypass;", "path = nowhere;", "nowhere", "path"),
    ("mode = auto", "mode = sometimes", "sometimes", "mode"),
    ("table = 5443", "table = 254", "table = 254", "table"),
))
def test_bad_configuration_names_file_line_and_key(lab, old, new, line_has, key):
    text = lab.steer.config.read_text()
    assert old in text
    text = text.replace(old, new)
    line = next(number for number, content in enumerate(text.splitlines(), 1)
                if line_has in content)
    done = try_config(lab, text)
    assert done.returncode not in (0, None)
    assert f"bad.conf:{line}:" in done.stderr, done.stderr
    assert key in done.stderr


def test_missing_configuration(lab):
    missing = lab.state.path / "missing.conf"
    done = run(*lab.steer.on_gateway(lab.steer.steerd, "--config", missing), check=False)
    assert done.returncode != 0
    assert "missing.conf" in done.stderr


def test_damaged_database_means_enforced(lab):
    """Nothing is exempt, the file stays as it is for whoever repairs it."""
    lab.grant_and_wait("acme")
    with lab.steer.damaged_store() as damage:
        lab.steer.start(wait=False)
        assert lab.steer.wait_log("exceptions.db")
        assert lab.wait_path("acme", None)
        assert lab.steer.store.read_bytes() == damage
    assert lab.wait_path("acme", "bypass")


def kernel_state(lab):
    rules = json.loads(lab.network.ip("gw", "-j", "rule", "show").stdout) + \
        json.loads(lab.network.ip("gw", "-6", "-j", "rule", "show").stdout)
    return {
        "nft": "tenant-steer" in lab.network.exec("gw", "nft", "list", "tables").stdout,
        "rules": [rule for rule in rules
                  if rule["priority"] in range(RULE_PRIORITY, RULE_PRIORITY + 10)],
        "routes": [lab.network.ip("gw", family, "route", "show", "table", TABLE, check=False).stdout
                   for family in ("-4", "-6")],
    }


def test_flush_leaves_nothing(lab):
    lab.grant_and_wait("acme")
    before = kernel_state(lab)
    assert before["nft"] and before["rules"] and all(before["routes"])
    admin = lab.network.exec("gw", "nft", "list", "table", "inet", "admin").stdout
    lab.steer.stop()
    lab.steer.flush()
    assert kernel_state(lab) == {"nft": False, "rules": [], "routes": ["", ""]}
    assert lab.network.exec("gw", "nft", "list", "table", "inet", "admin").stdout == admin
    assert lab.verdict("acme", "nontls443") == ("denied", None)


def test_second_steerd_is_refused(lab):
    done = try_config(lab, lab.steer.config.read_text())
    assert done.returncode != 0
    assert lab.steer.process.alive()
    lab.grant_and_wait("acme")
