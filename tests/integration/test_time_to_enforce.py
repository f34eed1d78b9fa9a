# SPDX-License-Identifier: GPL-2.0-or-later
"""How long bypassing goes on after it should end: measured at the bypass next hop, and promised.

An exempt tenant sends a fast stream, of one running flow and of ever new ones. The next hop's
kernel notes when each packet arrives; it and this program read one clock. Each test ends the
bypass in another way and says until when packets may arrive. That is never stretched for slow
machines: only the lease is longer there, and what it takes to see the end of it.
"""

import calendar
import contextlib
import signal
import time

import pytest

from lab.steer import LEASE_SECONDS
from lab.system import PATIENCE, process_state, wait_until

SECOND = 1000000000
LEASE = LEASE_SECONDS * SECOND
# steerd.conf of the lab.
LOST_AFTER = 3 * SECOND
RATE = 4000 if PATIENCE == 1 else 400
REVOCATIONS = 10 if PATIENCE == 1 else 3
ROUNDS = 3 if PATIENCE == 1 else 1
# As long after the deadline packets are looked for.
AFTER_SECONDS = 1.0
# Not even on a busy machine has the stream a gap as long as this: it went on until the end came.
GAP_SECONDS = 1.0 * PATIENCE


class Stream:
    """One stream and what of it arrived at the bypass next hop."""

    def __init__(self, lab):
        self.source = lab.source("acme")
        self.file = lab.state.path / "capture"
        self.capture = lab.capture("bypass", "gw", self.file)
        self.sender = lab.stream("acme", RATE)
        self.sent = None

    def wait_running(self):
        """Until it takes the bypass, new flows too. Grant before, or meanwhile."""
        port = self.sender.wait_first(30)["pinned"]
        wait_until(lambda: self.file.read_text().count(f" {port}\n") > 100 and
                   len(self.arrivals()[1]) > 100, "the stream is bypassed")

    def arrivals(self):
        """Times of arrival: of the running flow's packets, and of the others."""
        pinned, new = [], []
        for line in self.file.read_text().splitlines():
            words = line.split()
            if len(words) == 3 and words[1] == self.source:
                (pinned if int(words[2]) == self.sender.first["pinned"] else new) \
                    .append(int(words[0]))
        return pinned, new

    def stop(self):
        """Returns arrivals(); the stream went on until now and the capture missed nothing."""
        self.sent = self.sender.stop()
        heard = self.capture.stop()
        assert heard["dropped"] == 0, heard
        return self.arrivals()

    def kill(self):
        self.sender.kill()
        self.capture.kill()


@pytest.fixture(name="streaming")
def fixture_streaming(lab):
    """A context: a stream that takes the bypass. With grant=False the caller grants."""
    @contextlib.contextmanager
    def streaming(grant=True):
        stream = Stream(lab)
        try:
            if grant:
                lab.steer.grant("acme")
                stream.wait_running()
            yield stream
        finally:
            stream.kill()

    return streaming


def judge(stream, used, deadline):
    """Wait until the deadline is well over; then no packet may have arrived after it. Until used,
    the bypass was open, so packets did arrive, of both kinds. Returns when the last one did."""
    over = deadline + AFTER_SECONDS * SECOND
    wait_until(lambda: time.time_ns() >= over, "the deadline is well over",
               10 + max(0, over - time.time_ns()) / SECOND)
    pinned, new = stream.stop()
    assert stream.sent["last"] > deadline, "the stream went on"
    for times in (pinned, new):
        assert max(times) <= deadline, (max(times) - deadline) / 1e6
        assert max(times) > used - GAP_SECONDS * SECOND, (used - max(times)) / 1e6
    return max(pinned + new)


def after_ms(moment, last):
    return round((last - moment) / 1e6, 3)


def figures(lab, last_ms, deadline_ms):
    return {"esp": lab.esp, "packets_per_second": RATE, "last_packet_ms": last_ms,
            "allowed_ms": deadline_ms}


def test_no_packet_after_revoke_returned(lab, streaming, record):
    last, took = [], []
    for _ in range(REVOCATIONS):
        with streaming() as stream:
            before = time.time_ns()
            lab.steer.revoke("acme")
            returned = time.time_ns()
            took.append(round((returned - before) / 1e6, 3))
            last.append(after_ms(returned, judge(stream, before, returned)))
    record("time-to-enforce", {"revoke": {**figures(lab, last, 0), "steerctl_ms": took}})


def wait_stopped(process):
    """Until the kernel has stopped it: a signal is sent before it has an effect."""
    wait_until(lambda: process_state(process.pid) == "T", "it is stopped")


@pytest.mark.parametrize("how", ("killed", "frozen"))
def test_steerd_gone_never_later_than_the_lease(lab, streaming, record, how):
    last = []
    for _ in range(ROUNDS):
        with streaming() as stream:
            if how == "killed":
                lab.steer.kill()
            else:
                lab.steer.freeze()
                wait_stopped(lab.steer.process)
            gone = time.time_ns()
            last.append(after_ms(gone, judge(stream, gone, gone + LEASE)))
            assert last[-1] > 0, "the lease was still running"
        if how == "killed":
            lab.steer.start()
        else:
            lab.steer.thaw()
        lab.wait_synchronised()
        lab.revoke_all()
    record("time-to-enforce", {f"steerd {how}": figures(lab, last, LEASE / 1e6)})


def test_silent_plugin(lab, relay, streaming, record):
    """Nothing of charon's stream arrives any more, while charon itself works on."""
    with streaming() as stream:
        relay.lose.add("heartbeat")
        silent = time.time_ns()
        last = after_ms(silent, judge(stream, silent, silent + LOST_AFTER + LEASE))
    record("time-to-enforce", {"charon silent": figures(lab, [last], (LOST_AFTER + LEASE) / 1e6)})


@pytest.mark.parametrize("how", ("killed", "frozen"))
def test_charon_gone(lab, streaming, record, how):
    """Kernel ESP goes on decrypting without charon, so bypassing has to be ended."""
    if lab.esp != "kernel":
        pytest.skip("userspace ESP: without charon no packet is decrypted at all")
    with streaming() as stream:
        try:
            if how == "killed":
                lab.gateway.kill()
            else:
                lab.gateway.process.signal(signal.SIGSTOP)
                wait_stopped(lab.gateway.process)
            gone = time.time_ns()
            last = after_ms(gone, judge(stream, gone, gone + LOST_AFTER + LEASE))
        finally:
            lab.gateway.process.signal(signal.SIGCONT)
    record("time-to-enforce", {f"charon {how}": figures(lab, [last], (LOST_AFTER + LEASE) / 1e6)})


def expiry(lab):
    """When acme's exception ends, in nanoseconds."""
    text = lab.steer.exceptions()[0]["expires_at"]
    seconds, _, fraction = text.rstrip("Z").partition(".")
    whole = calendar.timegm(time.strptime(seconds, "%Y-%m-%dT%H:%M:%S"))
    return whole * SECOND + int(fraction.ljust(9, "0") or 0)


@pytest.mark.parametrize("frozen", (False, True))
def test_expiry_is_the_kernels(lab, streaming, record, frozen):
    """Lease and plugin are no reason for a minute; the exception's own end is what ends it."""
    lab.steer.stop()
    lab.steer.start(lease="60s", lost_after="60s")
    lab.wait_synchronised()
    last = []
    for _ in range(ROUNDS):
        with streaming(grant=False) as stream:
            lab.steer.grant("acme", expires=f"{round(5 * PATIENCE)}s")
            ends = expiry(lab)
            stream.wait_running()
            try:
                if frozen:
                    lab.steer.freeze()
                    wait_stopped(lab.steer.process)
                assert time.time_ns() < ends, "too slow a machine for this test"
                last.append(after_ms(ends, judge(stream, ends, ends)))
            finally:
                lab.steer.thaw()
        lab.wait_synchronised()
    lab.steer.stop()
    record("time-to-enforce", {"expiry, steerd " + ("frozen" if frozen else "running"):
                               figures(lab, last, 0)})
