# SPDX-License-Identifier: GPL-2.0-or-later
"""Connections to port 443 one after the other, as fast as they are refused.

    hammer.py --source ADDRESS --target ADDRESS --seconds N [--port PORT]

It starts before the source address exists, so that its first packet leaves in the very moment in
which the tunnel is there. Every second connection comes from the given source port, which a
connection of somebody else may have used before. Prints one JSON line with counts by outcome.
"""

import argparse
import collections
import errno
import json
import socket
import time

ATTEMPT_SECONDS = 1.0


def attempt(args, port):
    sock = socket.socket(socket.AF_INET6 if ":" in args.target else socket.AF_INET)
    sock.settimeout(ATTEMPT_SECONDS)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Reset at close, so that the port is free for the next attempt.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    with sock:
        sock.bind((args.source, port))
        sock.connect((args.target, 443))
        sock.sendall(b"SKYPE-HELLO hammer\n")
        answer = sock.recv(256).decode(errors="replace")
    return answer.split()[0].removeprefix("path=") if answer else "denied"


def outcome(args, port):
    try:
        return attempt(args, port)
    except TimeoutError:
        return "timeout"
    except ConnectionError:
        return "denied"
    except OSError as error:
        if error.errno in (errno.EADDRNOTAVAIL, errno.ENETUNREACH, errno.EHOSTUNREACH,
                           errno.EADDRINUSE):
            return "not ready"
        raise


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--port", type=int, default=0)
    args = parser.parse_args()
    counts, number = collections.Counter(), 0
    end = time.monotonic() + args.seconds
    while time.monotonic() < end:
        counts[outcome(args, args.port if number % 2 else 0)] += 1
        number += 1
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
