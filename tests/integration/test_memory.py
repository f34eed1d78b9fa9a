# SPDX-License-Identifier: GPL-2.0-or-later
"""charon under valgrind with the plugin loaded: nothing invalid, nothing lost."""

import pathlib
import re

import pytest

SUPPRESSIONS = pathlib.Path(__file__).resolve().parents[2] / "charon-plugin" / "valgrind.supp"
PATIENCE = 120


@pytest.fixture(name="log")
def fixture_log(lab):
    """The gateway's charon runs under valgrind for one test; its report is in this file."""
    log = pathlib.Path(lab.state.path) / "valgrind.log"
    log.unlink(missing_ok=True)
    lab.gateway.stop()
    lab.gateway.wrapper = ("valgrind", "--leak-check=full", "--num-callers=30",
                           f"--suppressions={SUPPRESSIONS}", f"--log-file={log}")
    lab.gateway.start()
    yield log
    lab.gateway.stop()
    lab.gateway.wrapper = ()
    lab.gateway.start()


def summary(log, what):
    found = re.search(what + r": ([\d,]+)", log.read_text())
    return int(found.group(1).replace(",", "")) if found else None


def exercise(lab):
    for name in ("acme", "globex", "roadwarrior"):
        lab.reconnect(name)
    lab.wait_synchronised(PATIENCE)
    lab.grant_and_wait("acme")
    for command in (("--rekey", "--child", "internet"), ("--rekey", "--ike", "gateway")):
        assert lab.charons["acme"].swanctl(*command).returncode == 0
    lab.gateway.swanctl("--reload-settings")
    lab.steer.ctl("resync")
    lab.wait_synchronised(PATIENCE)
    lab.reconnect("roadwarrior")
    lab.disconnect("globex")


def test_charon_with_the_plugin_under_valgrind(lab, log):
    exercise(lab)
    lab.gateway.process.stop(PATIENCE)
    report = log.read_text()
    assert summary(log, "ERROR SUMMARY") == 0, report[-8000:]
    assert summary(log, "definitely lost") in (0, None), report[-8000:]
