# SPDX-License-Identifier: GPL-2.0-or-later
"""The next hop of a path: reports every packet to TCP port 443, and answers what opens a flow.

    python3 -m hunt.nexthop INTERFACE

Writes a packet.REPORT for each packet to standard output, with the kernel's time stamp. A line
with the number of packets that the kernel had to drop goes to standard error at the end.
"""

import os
import select
import socket
import struct
import sys
import time

from . import packet

ETHERNET = 14
ETH_P_IP, ETH_P_IPV6 = 0x0800, 0x86dd
ETH_P_ALL = 3
PACKET_HOST = 0
PACKET_STATISTICS, SOL_PACKET = 6, 263
SO_TIMESTAMPNS = 35
BUFFER = 32 << 20
SO_RCVBUFFORCE = 33
TIMESPEC = struct.Struct("@qq")


def open_socket(interface):
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    sock.bind((interface, 0))
    sock.setblocking(False)
    return sock


def stamp(ancillary):
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, nanoseconds = TIMESPEC.unpack(data)
            return seconds * 1_000_000_000 + nanoseconds
    return time.time_ns()


def parse(frame):
    """Source and target address, offset of the TCP header; None: not TCP."""
    kind = frame[12] << 8 | frame[13]
    if kind == ETH_P_IP and frame[ETHERNET + 9] == packet.IPPROTO_TCP:
        length = (frame[ETHERNET] & 0xf) * 4
        return frame[26:30], frame[30:34], ETHERNET + length
    if kind == ETH_P_IPV6 and frame[ETHERNET + 6] == packet.IPPROTO_TCP:
        return frame[22:38], frame[38:54], ETHERNET + 40
    return None


def ip_header(source, target, length):
    if len(source) == 16:
        return struct.pack("!IHBB", 6 << 28, length, packet.IPPROTO_TCP, 64) + source + target
    words = ("!BBHHHBBH4s4s", 0x45, 0, 20 + length, 0, 0, 64, packet.IPPROTO_TCP)
    bare = struct.pack(*words, 0, source, target)
    return struct.pack(*words, packet.checksum(bare), source, target)


def answer(frame, source, target, tcp):
    """The frame that answers a SYN."""
    port, own, seq = struct.unpack_from("!HHI", frame, tcp)
    data = len(frame) - tcp - packet.HEADER.size
    reply = packet.segment(target, source, (own, port), (packet.SERVER_ISN, seq + 1 + data),
                           packet.SYN | packet.ACK)
    return frame[6:12] + frame[0:6] + frame[12:14] + ip_header(target, source, len(reply)) + reply


def handle(sock, frame, arrived):
    """The report of a packet to port 443, or nothing."""
    found = parse(frame)
    if not found:
        return b""
    source, target, tcp = found
    if frame[tcp + 2] << 8 | frame[tcp + 3] != packet.PORT:
        return b""
    label = frame[tcp + packet.HEADER.size:][:packet.LABEL.size]
    if len(label) < packet.LABEL.size or not label.startswith(packet.MAGIC):
        label = bytes(packet.LABEL.size)
    elif label[6] == packet.OPEN:
        try:
            sock.send(answer(frame, source, target, tcp))
        except OSError:
            pass  # The link is down: one of the things that are tried.
    return packet.REPORT.pack(arrived, len(source), source, label)


def read_some(sock):
    reports = b""
    for _ in range(256):
        try:
            frame, ancillary, _flags, address = sock.recvmsg(2048, 128)
        except BlockingIOError:
            break
        except OSError:
            continue
        if address[2] == PACKET_HOST:
            reports += handle(sock, frame, stamp(ancillary))
    return reports


def main(interface):
    sock = open_socket(interface)
    while True:
        readable = select.select([sock, 0], [], [])[0]
        if 0 in readable and not os.read(0, 1):
            break
        view = memoryview(read_some(sock))
        while view:
            view = view[os.write(1, view):]
    dropped = struct.unpack("@II", sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1]
    print(f"dropped {dropped}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1])
