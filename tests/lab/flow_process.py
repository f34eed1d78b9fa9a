# SPDX-License-Identifier: GPL-2.0-or-later
"""A running program that reports in JSON lines, such as flow.py: its reports as they come."""

import json
import subprocess
import threading
import time

from .system import wait_until


class Reporter:
    """Any such program. Reports are dicts, see the program; the last one is kept."""

    def __init__(self, command, last=None):
        self.popen = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE,
                                      stdin=subprocess.DEVNULL, text=True)
        self.first = None
        self.last = last or {}
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.popen.stdout:
            self.take(json.loads(line))

    def take(self, report):
        if self.first is None:
            self.first = report
        self.last = report

    def wait_first(self, deadline=15):
        """The first report."""
        wait_until(lambda: self.first or self.ended(), "the program reports", deadline)
        assert self.first, f"it ended with {self.popen.returncode}"
        return self.first

    def ended(self):
        return self.popen.poll() is not None

    def wait_ended(self, deadline=15):
        wait_until(self.ended, "the program ends", deadline)
        self.reader.join(5)
        return self.last

    def stop(self, deadline=20):
        """End it in order; returns its last report."""
        if not self.ended():
            self.popen.terminate()
        return self.wait_ended(deadline)

    def kill(self):
        self.popen.kill()
        self.popen.wait()


class FlowProcess(Reporter):
    """Long-lived connection of a customer."""

    def __init__(self, command):
        self.progress_at = time.monotonic()
        super().__init__(command, {"sent": 0, "echoed": 0})

    def take(self, report):
        if self.first is None:
            self.first = report
        if "sent" in report:
            if report["echoed"] > self.last["echoed"]:
                self.progress_at = time.monotonic()
            self.last = report

    @property
    def path(self):
        """Which way the far side saw it come; None if it was not answered."""
        return self.wait_first()["path"]

    def wait_progress(self, bytes_more=4096, deadline=10):
        """Until that many more bytes came back than until now."""
        goal = self.last["echoed"] + bytes_more
        wait_until(lambda: self.last["echoed"] >= goal or self.ended(), "the flow goes on",
                   deadline)
        assert not self.ended(), f"the flow ended: {self.last}"

    def stalled(self, seconds):
        """Has nothing come back for so long?"""
        return time.monotonic() - self.progress_at >= seconds
