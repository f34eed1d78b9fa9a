# SPDX-License-Identifier: GPL-2.0-or-later
"""What comes in on an interface for TCP port 443 over IPv4, with the kernel's own time of arrival.

    capture.py INTERFACE FILE

Prints one JSON line when it listens; SIGTERM ends it. Then FILE has a line for each packet,
nanoseconds since 1970 and source address and port, and a last JSON line says how many packets
there were and how many the socket had no room for.
"""

import json
import select
import signal
import socket
import struct
import sys

ETH_P_IP = 0x0800
ROOM = 64 * 1024 * 1024
# linux/if_packet.h, asm-generic/socket.h; Python has no names for these.
SOL_PACKET, PACKET_STATISTICS = 263, 6
SO_RCVBUFFORCE, SO_TIMESTAMPNS = 33, 35
HEADERS = 128


def open_socket(interface):
    # With this protocol the socket hears what comes in only, not what goes out.
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    sock.bind((interface, ETH_P_IP))
    return sock


def describe(packet):
    """"ADDRESS PORT" of a TCP segment to port 443, or None."""
    header = (packet[0] & 15) * 4
    if packet[9] != socket.IPPROTO_TCP or len(packet) < header + 4:
        return None
    source, destination = struct.unpack_from("!HH", packet, header)
    return f"{socket.inet_ntoa(packet[12:16])} {source}" if destination == 443 else None


def arrival(ancillary):
    seconds, nanoseconds = struct.unpack("@ll", ancillary[0][2])
    return seconds * 1000000000 + nanoseconds


def take(sock, file):
    packet, ancillary, _, _ = sock.recvmsg(HEADERS, 64)
    if words := describe(packet):
        print(arrival(ancillary), words, file=file)


def main(interface, name):
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    sock = open_socket(interface)
    print(json.dumps({"listens": interface}), flush=True)
    with open(name, "w") as file:
        # What has arrived before the signal is still taken.
        while select.select([sock], [], [], 0 if stopping else 0.1)[0] or not stopping:
            if select.select([sock], [], [], 0)[0]:
                take(sock, file)
    packets, dropped = struct.unpack("=II", sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
    print(json.dumps({"packets": packets, "dropped": dropped}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
