# SPDX-License-Identifier: GPL-2.0-or-later
"""A long-lived connection on port 443, TLS or not: numbered data out, the same data back.

    flow.py --source ADDRESS --target ADDRESS [--port SOURCE-PORT] [--tls] [--proxy ADDRESS]

Prints one JSON line when it is answered, one at each tick and one at its end. SIGTERM ends it
in order: it stops sending, waits for the echo of everything sent, and reports whether each byte
came back. Standard library only.
"""

import argparse
import hashlib
import json
import select
import signal
import socket
import ssl
import struct
import time

from probe import PROXY_PORT, open_tunnel

CHUNK = 256
TICK = 0.05
DRAIN_SECONDS = 10
IN_FLIGHT_MAX = 16 * CHUNK
# struct tcp_info, linux/tcp.h: tcpi_total_retrans follows 8 bytes and 23 words.
TCP_INFO_TOTAL_RETRANS = 8 + 23 * 4


def say(**fields):
    print(json.dumps({"time": time.time(), **fields}), flush=True)


def chunk(number):
    """CHUNK bytes that no other number has."""
    return (hashlib.sha256(str(number).encode()).digest() * (CHUNK // 32))[:CHUNK]


def retransmissions(sock):
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return struct.unpack_from("=I", info, TCP_INFO_TOTAL_RETRANS)[0]


class Flow:
    def __init__(self, sock):
        self.sock = sock
        self.number = 0
        self.sent = 0
        self.echoed = 0
        self.expected = bytearray()
        self.stopping = False

    def stop(self, *_):
        self.stopping = True

    def send(self):
        data = chunk(self.number)
        self.sock.sendall(data)
        self.number += 1
        self.sent += len(data)
        self.expected += data

    def receive(self):
        """Returns False at the end of the connection; ValueError if a byte differs."""
        data = self.sock.recv(65536)
        if not data:
            return False
        if bytes(self.expected[:len(data)]) != data:
            raise ValueError(f"the echo differs after {self.echoed} bytes")
        del self.expected[:len(data)]
        self.echoed += len(data)
        return True

    def report(self, **fields):
        say(sent=self.sent, echoed=self.echoed, retransmitted=retransmissions(self.sock), **fields)

    def run(self):
        """Returns why the flow ended."""
        drain_until = None
        while True:
            if self.stopping and drain_until is None:
                drain_until = time.monotonic() + DRAIN_SECONDS
            if self.stopping and (not self.expected or time.monotonic() > drain_until):
                return "stopped"
            if not self.stopping and len(self.expected) < IN_FLIGHT_MAX:
                self.send()
            self.report()
            tick_end = time.monotonic() + TICK
            while (left := tick_end - time.monotonic()) > 0:
                if select.select([self.sock], [], [], left)[0] and not self.receive():
                    return "closed"


def connect(args):
    via = (args.proxy, PROXY_PORT) if args.proxy else (args.target, 443)
    sock = socket.socket(socket.AF_INET6 if ":" in via[0] else socket.AF_INET)
    sock.settimeout(args.timeout)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((args.source, args.port))
    sock.connect(via)
    if args.proxy:
        open_tunnel(sock, args.target, 443)
    if args.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        sock = context.wrap_socket(sock)
    sock.sendall(b"HELLO flow\n")
    answer = b""
    while not answer.endswith(b"\n"):
        data = sock.recv(1)
        if not data:
            raise ConnectionError("closed without an answer")
        answer += data
    sock.settimeout(DRAIN_SECONDS)
    return sock, answer.decode().split()[0].removeprefix("path=")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--timeout", type=float, default=5.0)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--proxy")
    args = parser.parse_args()
    try:
        sock, path = connect(args)
    except OSError as error:
        say(end=f"not answered: {error}", path=None)
        return
    say(path=path)
    flow = Flow(sock)
    signal.signal(signal.SIGTERM, flow.stop)
    try:
        end = flow.run()
    except (OSError, ValueError) as error:
        end = str(error)
    # A reset between two sends leaves no byte without its echo, and yet the flow did not go on.
    flow.report(end=end, path=path, complete=end == "stopped" and flow.sent == flow.echoed)


if __name__ == "__main__":
    main()
