# SPDX-License-Identifier: GPL-2.0-or-later
"""An operator who grants and revokes, and writes down what steerd answered, and when."""

import datetime
import json
import socket
import time

from .truth import FOREVER, MS

LONG = 30 * 86400
# steerd's clock and the kernel's timer.
EXPIRY_SLACK = 20 * MS


def nanoseconds(text):
    """RFC 3339 to nanoseconds of the wall clock."""
    moment = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return round(moment.timestamp() * 1_000_000) * 1000


class Request:
    """One request on a connection of its own, which may be answered much later."""

    def __init__(self, path, command, **fields):
        self.fields = fields
        self.data = b""
        self.sock = socket.socket(socket.AF_UNIX)
        try:
            self.sock.settimeout(1)
            self.sock.connect(str(path))
            self.sock.sendall(json.dumps({"v": 1, "command": command, **fields}).encode() + b"\n")
        except OSError:
            self.close()

    def close(self):
        if self.sock:
            self.sock.close()
        self.sock = None

    def wait(self, timeout):
        """The answer; {} if there will never be one; None: not yet."""
        end = time.monotonic() + timeout
        while self.sock:
            try:
                self.sock.settimeout(max(end - time.monotonic(), 0.0001))
                more = self.sock.recv(65536)
            except TimeoutError:
                return None
            except OSError:
                more = b""
            self.data += more
            if not more or self.data.endswith(b"\n"):
                self.close()
        return json.loads(self.data) if self.data.endswith(b"\n") else {}


class Operator:
    def __init__(self, path, lease, slack=EXPIRY_SLACK, patience=5.0):
        self.path = path
        self.lease = lease
        self.slack = slack
        self.patience = patience
        self.pending = []  # (tenant, Request to revoke), to a steerd that is frozen
        self.unanswered = self.refused = 0
        self.risk = None  # the hash of its text

    def ask(self, command, **fields):
        return Request(self.path, command, **fields).wait(self.patience) or {}

    def _settled(self, tenant):
        """A revocation that is still to be answered must not be taken for a later one."""
        for _ in range(2):
            if all(waiting is not tenant for waiting, _ in self.pending):
                return True
            self.pending[0][1].wait(self.patience)
            self.collect()
        return False

    def grant(self, tenant, lifetime=0):
        """Returns steerd's answer; without one the exception may be active all the same."""
        if not self._settled(tenant):
            return {}
        before = tenant.active(time.time_ns())
        exemption = before or tenant.granting(time.time_ns())
        if not self.risk:
            self.risk = self.ask("risk").get("risk", {}).get("sha256")
        answer = self.ask("grant", tenant=tenant.name, profile="skype", change_request="CR-1",
                          accepted_by="hunt", reason="hunt", accept_risk=True,
                          risk_sha256=self.risk, expires_s=lifetime or LONG)
        if "exception" in answer:
            until = nanoseconds(answer["exception"]["expires_at"]) + self.slack
            known = before and before.until != FOREVER
            exemption.until = max(until, before.until) if known else until
        elif not answer:
            self.unanswered += 1
            exemption.until = FOREVER
        elif before is None:
            exemption.until = time.time_ns()
        return answer

    def revoke(self, tenant, timeout=None):
        """Returns the answer, or None if it is to come."""
        request = Request(self.path, "revoke", tenant=tenant.name, reason="hunt")
        answer = request.wait(self.patience if timeout is None else timeout)
        if answer is None:
            self.pending.append((tenant, request))
        else:
            self._revoked(tenant, answer)
        return answer

    def _revoked(self, tenant, answer):
        """Only an answer counts: that it is done, or that there is nothing to revoke. One that says
        that the kernel refused promises the end of the lease."""
        if "kernel refused" in answer.get("message", ""):
            self.refused += 1
            tenant.revoked(time.time_ns() + self.lease)
        elif answer.get("revoked") or "no active exception" in str(answer.get("error", "")):
            tenant.revoked(time.time_ns())
        else:
            self.unanswered += 1

    def collect(self):
        """Answers that have come since."""
        waiting, self.pending = self.pending, []
        for tenant, request in waiting:
            answer = request.wait(0)
            if answer is None:
                self.pending.append((tenant, request))
            else:
                self._revoked(tenant, answer)

    def status(self):
        return self.ask("status").get("status", {})
