# SPDX-License-Identifier: GPL-2.0-or-later
"""on_death = at-once: the table belongs to steerd's socket and goes with it."""

import json
import signal
import statistics
import time

import pytest

from lab.lab import HERE, PYTHON
from lab.steer import LEASE_SECONDS
from lab.system import PATIENCE
from lab.topology import SERVER4

KILLS = 5
# Far below the lease; what it takes is printed. Most of it is waiting for a processor.
AT_ONCE_SECONDS = 0.25 * PATIENCE
SLACK = 2.0


@pytest.fixture(name="at_once", params=["conntrack", "none"])
def fixture_at_once(lab, request):
    lab.steer.stop()
    # Without pinning replies carry no mark that strict filtering could look at.
    strict = "net.ipv4.conf.bypass.rp_filter"
    lab.network.sysctl("gw", {strict: 1 if request.param == "conntrack" else 2})
    lab.steer.start(on_death="at-once", pinning=request.param)
    lab.wait_synchronised()
    yield request.param
    lab.network.sysctl("gw", {strict: 1})
    lab.steer.stop()
    lab.steer.start()


@pytest.fixture(name="capture")
def fixture_capture(lab):
    """Packets to port 443 that reach the bypass router, and when the last of them did."""
    started = []

    def start():
        started.append(lab.spawn("bypass", PYTHON, HERE / "arrivals.py", "gw"))
        assert started[-1].stdout.readline() == "ready\n"
        return started[-1]

    yield start
    for popen in started:
        popen.kill()
        popen.wait()


def start_again(lab, pinning):
    lab.steer.start(on_death="at-once", pinning=pinning)
    lab.wait_synchronised()
    lab.wait_path("acme", "bypass")


def table(lab):
    return lab.network.exec("gw", "nft", "list", "tables").stdout


def last_after_kill(lab, capture, eventually):
    """Kill steerd under traffic; milliseconds from the signal to the last bypassed packet."""
    packets = capture()
    hammer = lab.spawn("acme", PYTHON, HERE / "hammer.py", "--source", lab.source("acme"),
                       "--target", SERVER4, "--seconds", 3)
    before = lab.bypassed_packets()
    eventually(lambda: lab.bypassed_packets() > before + 100, "the bypass is busy")
    killed = time.time_ns()
    lab.steer.process.popen.kill()
    lab.steer.kill()
    eventually(lambda: "tenant-steer" not in table(lab), "the table is gone")
    hammer.wait()
    packets.send_signal(signal.SIGTERM)
    seen = json.loads(packets.stdout.readline())
    assert seen["count"] > 100
    return (seen["last"] - killed) / 1e6


def test_bypass_ends_with_steerd(lab, at_once, capture, eventually, capsys):
    lab.grant_and_wait("acme")
    took = []
    for _ in range(KILLS):
        took.append(last_after_kill(lab, capture, eventually))
        assert lab.verdict("acme", "nontls443") == ("denied", None)
        start_again(lab, at_once)
    with capsys.disabled():
        print(f"\n  SIGKILL to last bypassed packet, pinning {at_once}: median "
              f"{statistics.median(took):.1f} ms of {[round(ms, 1) for ms in took]}")
    assert max(took) < AT_ONCE_SECONDS * 1000


def test_frozen_is_for_the_lease(lab, at_once, eventually):
    """A steerd that hangs keeps its socket; there the lease decides, as ever."""
    lab.grant_and_wait("acme")
    lab.steer.freeze()
    try:
        assert lab.wait_path("acme", None, deadline=LEASE_SECONDS + SLACK)
        assert "tenant-steer" in table(lab)
    finally:
        lab.steer.thaw()
    assert lab.wait_path("acme", "bypass")


def test_reload_disturbs_no_flow(lab, at_once, flows, watch):
    """The new configuration goes on with the socket, and so with the table."""
    lab.grant_and_wait("acme")
    flow = flows("acme")
    assert flow.path == "bypass"
    flow.wait_progress()
    lab.steer.process.signal(signal.SIGHUP)
    watch.wait_for("resynced")
    lab.wait_synchronised()
    flow.wait_progress()
    assert lab.verdict("acme", "nontls443") == ("answered", "bypass")
    last = flow.stop()
    assert last["complete"], last


def test_strangers_cannot_touch_it(lab, at_once):
    lab.grant_and_wait("acme")
    lab.network.exec("gw", "nft", "flush", "ruleset")
    lab.network.load_admin_nft()
    assert lab.verdict("acme", "nontls443") == ("answered", "bypass")
    done = lab.network.exec("gw", "nft", "delete", "table", "inet", "tenant-steer", check=False)
    assert done.returncode != 0
    assert lab.verdict("acme", "nontls443") == ("answered", "bypass")
