# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab's relay that loses events, as a process of its own, to be frozen and killed.

    python3 -m hunt.relay UPSTREAM DOWNSTREAM

Each line of standard input is a number: so many of the next messages are lost, heartbeats too.
When the last one was lost, a line with the time goes to standard output.
"""

import os
import sys
import time

from lab.lossy import LossyRelay


class CountingRelay(LossyRelay):
    """Loses the next messages, of whatever type."""

    left = 0

    def loses(self, kind):
        if self.left <= 0:
            return super().loses(kind)
        self.left -= 1
        if self.left == 0:
            os.write(1, b"%d\n" % time.time_ns())
        return True


def main(upstream, downstream):
    relay = CountingRelay(upstream, downstream)
    while data := os.read(0, 4096):
        relay.left = int(data.split()[-1])
    relay.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
