# SPDX-License-Identifier: GPL-2.0-or-later
"""Tunnels come up as fast without steerd as with it: it is never on their path."""

import statistics
import time

ROUNDS = 9
# A tunnel takes some ten milliseconds here; whoever waits for steerd waits for seconds.
TOLERANCE_SECONDS = 0.1


def median_setup(lab):
    times = []
    for _ in range(ROUNDS):
        lab.disconnect("roadwarrior")
        started = time.monotonic()
        lab.charons["roadwarrior"].initiate()
        times.append(time.monotonic() - started)
    return statistics.median(times)


def test_setup_does_not_wait_for_a_frozen_steerd(lab):
    running = median_setup(lab)
    lab.steer.freeze()
    try:
        frozen = median_setup(lab)
    finally:
        lab.steer.thaw()
    assert frozen < running + TOLERANCE_SECONDS, (running, frozen)


def test_setup_does_not_wait_for_an_absent_steerd(lab):
    running = median_setup(lab)
    lab.steer.stop()
    absent = median_setup(lab)
    assert absent < running + TOLERANCE_SECONDS, (running, absent)
