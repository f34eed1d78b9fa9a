# SPDX-License-Identifier: GPL-2.0-or-later
"""The packets of the hunt: TCP segments to port 443 that say whose they are and when they left.

No TCP stack is behind them. A flow's packets have fixed numbers, the same for every tenant: who
takes over an address goes on where the one before was, as conntrack sees it.
"""

import collections
import ipaddress
import struct

MAGIC = b"HUNT"
PORT = 443
TARGET4, TARGET6 = "203.0.113.10", "2001:db8:443::10"
# What a client's SYN starts from, and what its answer does.
CLIENT_ISN, SERVER_ISN = 0x10000000, 0x20000000
FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
WINDOW = 65535
IPPROTO_TCP = 6

# NEW: a flow of one packet. OPEN, DATA, END: of a flow that goes on, so that it is pinned.
NEW, OPEN, DATA, END = range(4)

HEADER = struct.Struct("!HHIIBBHHH")
# magic, tenant, kind, family, number, when it left, since when its sender has the address.
LABEL = struct.Struct("!4sHBBIQQ")
# What a next hop reports of a packet: when it arrived, from where, its label.
REPORT = struct.Struct(f"=QB16s{LABEL.size}s")

Packet = collections.namedtuple("Packet", "arrived source tenant kind family number sent since")


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def pseudo_header(source, target, length):
    """source and target are packed addresses."""
    if len(source) == 4:
        return source + target + struct.pack("!BBH", 0, IPPROTO_TCP, length)
    return source + target + struct.pack("!IHBB", length, 0, 0, IPPROTO_TCP)


def segment(source, target, ports, numbers, flags, payload=b""):
    """A TCP segment; ports: own and other's; numbers: seq and ack."""
    length = HEADER.size + len(payload)
    words = (*ports, *numbers, (HEADER.size // 4) << 4, flags, WINDOW)
    whole = pseudo_header(source, target, length) + HEADER.pack(*words, 0, 0) + payload
    return HEADER.pack(*words, checksum(whole), 0) + payload


def unpack(report):
    arrived, length, address, label = REPORT.unpack(report)
    magic, *fields = LABEL.unpack(label)
    source = str(ipaddress.ip_address(address[:length]))
    if magic != MAGIC:
        return Packet(arrived, source, None, None, None, None, arrived, arrived)
    return Packet(arrived, source, *fields)
