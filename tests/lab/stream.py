# SPDX-License-Identifier: GPL-2.0-or-later
"""A fast stream to port 443 that nothing slows down: one running flow, and ever new ones.

    stream.py --source ADDRESS --target ADDRESS --rate PACKETS-PER-SECOND

It connects until the bypass path answers and prints one JSON line with the connection's port.
From then on it sends acknowledgements of that connection past the kernel's TCP, which would wait
longer and longer once they are lost, and every few packets the SYN of a new connection, until
SIGTERM. Then it prints how many it sent and when the last one left. IPv4 only.
"""

import argparse
import json
import signal
import socket
import struct
import time

# linux/tcp.h; Python has no names for these.
TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ = 19, 20, 21
TCP_RECV_QUEUE, TCP_SEND_QUEUE = 1, 2
TCP_REPAIR_OFF_NO_WP = -1
SYN, ACK = 2, 16
NEW_FLOW_EVERY = 4
PORTS = range(10000, 30000)
RETRY_SECONDS = 0.02


def say(**fields):
    print(json.dumps(fields), flush=True)


def connect(args):
    """A connection that is answered by the bypass path, however long that takes."""
    while True:
        sock = socket.socket()
        sock.settimeout(args.timeout)
        try:
            sock.bind((args.source, 0))
            sock.connect((args.target, 443))
            sock.sendall(b"HELLO stream\n")
            if sock.recv(256).startswith(b"path=bypass "):
                return sock
        except OSError:
            pass
        sock.close()
        time.sleep(RETRY_SECONDS)


def sequence_numbers(sock):
    """The next byte to send and the next byte to receive."""
    numbers = []
    sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    for queue in (TCP_SEND_QUEUE, TCP_RECV_QUEUE):
        sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE, queue)
        numbers.append(sock.getsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ) & 0xffffffff)
    sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP)
    return numbers


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xffff) + (total >> 16)
    return ~(total + (total >> 16)) & 0xffff


def segment(args, port, flags, sequence, acknowledged):
    """An IPv4 packet; the kernel fills in what is 0 in the IP header."""
    addresses = socket.inet_aton(args.source) + socket.inet_aton(args.target)
    fields = [port, 443, sequence, acknowledged, 5 << 4, flags, 512, 0, 0]
    pseudo = addresses + struct.pack("!HH", socket.IPPROTO_TCP, 20)
    fields[7] = checksum(pseudo + struct.pack("!HHIIBBHHH", *fields))
    header = struct.pack("!BBHHHBBH", 0x45, 0, 0, 0, 0, 64, socket.IPPROTO_TCP, 0) + addresses
    return header + struct.pack("!HHIIBBHHH", *fields)


def send_forever(args, pinned, new, stopping):
    """Returns how many were sent, and when the last one was."""
    # With this protocol it only sends: it would hear all TCP otherwise.
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    sent, last, due = 0, 0, time.monotonic()
    while not stopping:
        packet = pinned if sent % NEW_FLOW_EVERY else new[sent // NEW_FLOW_EVERY % len(new)]
        try:
            raw.sendto(packet, (args.target, 0))
        except OSError:
            pass    # no tunnel for a moment
        sent, last = sent + 1, time.time_ns()
        due = max(due + 1 / args.rate, time.monotonic() - 0.01)
        time.sleep(max(0, due - time.monotonic()))
    return sent, last


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--rate", type=float, default=4000)
    parser.add_argument("--timeout", type=float, default=2.0)
    args = parser.parse_args()
    new = [segment(args, port, SYN, port, 0) for port in PORTS]
    sock = connect(args)
    port = sock.getsockname()[1]
    pinned = segment(args, port, ACK, *sequence_numbers(sock))
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    say(pinned=port)
    sent, last = send_forever(args, pinned, new, stopping)
    say(sent=sent, last=last)


if __name__ == "__main__":
    main()
