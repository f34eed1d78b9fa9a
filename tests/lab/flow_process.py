# SPDX-License-Identifier: GPL-2.0-or-later
"""A running flow.py: its reports as they come."""

import json
import subprocess
import threading
import time

from .system import wait_until


class FlowProcess:
    """Long-lived connection of a customer. Reports are dicts, see flow.py."""

    def __init__(self, command):
        self.popen = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE,
                                      stdin=subprocess.DEVNULL, text=True)
        self.first = None
        self.last = {"sent": 0, "echoed": 0}
        self.progress_at = time.monotonic()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.popen.stdout:
            report = json.loads(line)
            if self.first is None:
                self.first = report
            if "sent" in report:
                if report["echoed"] > self.last["echoed"]:
                    self.progress_at = time.monotonic()
                self.last = report

    @property
    def path(self):
        """Which way the far side saw it come; None if it was not answered."""
        wait_until(lambda: self.first, "the flow is answered or refused", 15)
        return self.first["path"]

    def wait_progress(self, bytes_more=4096, deadline=10):
        """Until that many more bytes came back than until now."""
        goal = self.last["echoed"] + bytes_more
        wait_until(lambda: self.last["echoed"] >= goal or self.ended(), "the flow goes on",
                   deadline)
        assert not self.ended(), f"the flow ended: {self.last}"

    def stalled(self, seconds):
        """Has nothing come back for so long?"""
        return time.monotonic() - self.progress_at >= seconds

    def ended(self):
        return self.popen.poll() is not None

    def wait_ended(self, deadline=15):
        wait_until(self.ended, "the flow ends", deadline)
        self.reader.join(5)
        return self.last

    def stop(self):
        """End it in order; the last report says whether every byte came back."""
        if not self.ended():
            self.popen.terminate()
        return self.wait_ended(20)

    def kill(self):
        self.popen.kill()
        self.popen.wait()
