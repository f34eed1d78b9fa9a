# SPDX-License-Identifier: GPL-2.0-or-later
"""A fast flow of numbered datagrams to UDP port 443; each answer tells its way.

    datagrams.py --source ADDRESS --target ADDRESS

As fast as answers come, with at most WINDOW under way. SIGTERM ends it: it waits for what is
under way and prints one JSON line: how many were sent, how many came back by which path, how many the
sender's own kernel refused (they never left and are not counted as sent), and the seconds it
took. Standard library only.
"""

import argparse
import collections
import errno
import json
import select
import signal
import socket
import time

WINDOW = 16
SIZE = 200
# An answer that is not there by then never comes.
DRAIN_SECONDS = 5


class Datagrams:
    def __init__(self, source, target):
        self.sock = socket.socket(socket.AF_INET6 if ":" in target else socket.AF_INET,
                                  socket.SOCK_DGRAM)
        self.sock.bind((source, 0))
        self.sock.connect((target, 443))
        self.waiting = {}
        self.sent = self.refused = 0
        self.paths = collections.Counter()
        self.stopping = False

    def stop(self, *_):
        self.stopping = True

    def send(self):
        """While its SA is being replaced the sender's kernel may still take the one that has just
        gone, and says EINVAL (XfrmOutStateInvalid in the kernel's xfrm_proc documentation)."""
        try:
            self.sock.send(f"{self.sent}".encode().ljust(SIZE))
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self.refused += 1
            return
        self.waiting[self.sent] = time.monotonic()
        self.sent += 1

    def receive(self):
        """path=bypass protocol=udp NUMBER"""
        words = self.sock.recv(2048).decode().split()
        if self.waiting.pop(int(words[2]), None) is not None:
            self.paths[words[0].removeprefix("path=")] += 1

    def lost(self):
        return sum(time.monotonic() - sent > DRAIN_SECONDS for sent in self.waiting.values())

    def run(self):
        while not self.stopping or len(self.waiting) > self.lost():
            while not self.stopping and len(self.waiting) - self.lost() < WINDOW:
                self.send()
            if select.select([self.sock], [], [], 0.1)[0]:
                self.receive()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", required=True)
    parser.add_argument("--target", required=True)
    args = parser.parse_args()
    datagrams = Datagrams(args.source, args.target)
    signal.signal(signal.SIGTERM, datagrams.stop)
    started = time.monotonic()
    datagrams.run()
    print(json.dumps({"sent": datagrams.sent, "answered": datagrams.paths,
                      "refused": datagrams.refused,
                      "seconds": round(time.monotonic() - started, 1)}))


if __name__ == "__main__":
    main()
