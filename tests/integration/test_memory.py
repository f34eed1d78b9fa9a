# SPDX-License-Identifier: GPL-2.0-or-later
"""charon under valgrind with the plugin loaded: nothing invalid, nothing lost."""

import pathlib
import re

import pytest

SUPPRESSIONS = pathlib.Path(__file__).resolve().parents[2] / "charon-plugin" / "valgrind.supp"
PATIENCE = 120
# Frames of the plugin; --keep-debuginfo names them although it is unloaded at the end.
OURS = re.compile(r"tenant_tag|tenant-tag|event_encode|json_")


@pytest.fixture(name="log")
def fixture_log(lab):
    """The gateway's charon runs under valgrind for one test; its report is in this file."""
    log = pathlib.Path(lab.state.path) / "valgrind.log"
    log.unlink(missing_ok=True)
    lab.gateway.stop()
    lab.gateway.wrapper = ("valgrind", "--leak-check=full", "--num-callers=30", "--keep-debuginfo=yes",
                           f"--suppressions={SUPPRESSIONS}", f"--log-file={log}")
    lab.gateway.start()
    yield log
    lab.gateway.stop()
    lab.gateway.wrapper = ()
    lab.gateway.start()


def records(log):
    """What valgrind reports: one text for each error or lost block."""
    text = re.sub(r"(?m)^==\d+== ?", "", log.read_text())
    return [block for block in re.split(r"\n\s*\n", text) if re.search(r"(?m)^ +at 0x", block)]


def is_leak(record):
    return "definitely lost" in record or "possibly lost" in record


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
    assert "HEAP SUMMARY" in log.read_text(), "charon ended in good order"
    found = records(log)
    assert [record for record in found if not is_leak(record)] == []
    # charon may lose a message that was under way when it was stopped; ours may lose nothing.
    assert [record for record in found if OURS.search(record)] == []
