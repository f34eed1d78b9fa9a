# SPDX-License-Identifier: GPL-2.0-or-later
"""A transfer on port 443 that goes on while things happen: numbered data out, the echo back.

    transfer.py --source ADDRESS --target ADDRESS --bytes N --seconds SECONDS

It is paced so that N bytes take about so many seconds, and goes on beyond them until SIGTERM;
then it sends what is still missing as fast as it can, waits for the echo and ends. Prints one
JSON line when it is answered, some a second and one at its end, with the hashes of what was sent
and of what came back.
"""

import argparse
import hashlib
import json
import selectors
import signal
import time

from flow import CHUNK, chunk, connect, retransmissions

# One write; a whole number of chunks.
BLOCK = 64 * CHUNK
# Sent and not echoed yet; the server reads on only when its echo has been taken.
IN_FLIGHT_MAX = 4 * 1024 * 1024
REPORT_SECONDS = 0.1
IDLE_SECONDS = 60


class Transfer:
    def __init__(self, sock, total, seconds):
        self.sock = sock
        self.total = total
        self.rate = total / seconds
        self.started = time.monotonic()
        self.sent = self.echoed = self.block = 0
        self.out, self.back = hashlib.sha256(), hashlib.sha256()
        self.pending = memoryview(b"")
        self.stopping = False
        self.gap = 0.0
        self.heard = self.started

    def stop(self, *_):
        self.stopping = True

    def finished(self):
        return self.stopping and self.sent >= self.total and not self.pending

    def may_send(self):
        if self.finished() or self.sent - self.echoed >= IN_FLIGHT_MAX:
            return False
        return self.stopping or self.sent < (time.monotonic() - self.started) * self.rate

    def send(self):
        if not self.pending:
            first = self.block * (BLOCK // CHUNK)
            self.pending = memoryview(b"".join(
                chunk(number) for number in range(first, first + BLOCK // CHUNK)))
            self.block += 1
        done = self.sock.send(self.pending)
        self.out.update(self.pending[:done])
        self.pending = self.pending[done:]
        self.sent += done

    def receive(self):
        data = self.sock.recv(262144)
        if not data:
            raise ConnectionError("closed by the other side")
        now = time.monotonic()
        self.gap, self.heard = max(self.gap, now - self.heard), now
        self.back.update(data)
        self.echoed += len(data)

    def report(self, **fields):
        print(json.dumps({"sent": self.sent, "echoed": self.echoed,
                          "retransmitted": retransmissions(self.sock),
                          "longest_gap": round(self.gap, 3), **fields}), flush=True)

    def run(self):
        """Until all is sent and back. OSError is the connection's end before that."""
        events = selectors.DefaultSelector()
        events.register(self.sock, selectors.EVENT_READ)
        reported = self.started
        while not self.finished() or self.echoed < self.sent:
            sending = self.may_send()
            events.modify(self.sock, selectors.EVENT_READ |
                          (selectors.EVENT_WRITE if sending else 0))
            for _, ready in events.select(0.005):
                if ready & selectors.EVENT_READ:
                    self.receive()
                if ready & selectors.EVENT_WRITE:
                    self.send()
            now = time.monotonic()
            if now - self.heard > IDLE_SECONDS:
                raise TimeoutError(f"nothing came back for {IDLE_SECONDS} s")
            if now - reported >= REPORT_SECONDS:
                self.report()
                reported = now


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--bytes", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    args = parser.parse_args()
    args.port, args.tls, args.timeout, args.proxy = 0, False, 15.0, None
    sock, path = connect(args)
    print(json.dumps({"path": path}), flush=True)
    sock.setblocking(False)
    transfer = Transfer(sock, args.bytes, args.seconds)
    signal.signal(signal.SIGTERM, transfer.stop)
    end = "complete"
    try:
        transfer.run()
    except OSError as error:
        end = str(error) or type(error).__name__
    transfer.report(end=end, path=path, hash_sent=transfer.out.hexdigest(),
                    hash_echoed=transfer.back.hexdigest())


if __name__ == "__main__":
    main()
