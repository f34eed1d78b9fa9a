# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tenants of one customer's namespace send, all the time and from every address.

    python3 -m hunt.sender PERIOD TENANT@ADDRESS,ADDRESS... ...

Every PERIOD seconds and from each of the addresses that a tenant may have: a new flow of one
packet, and the next packet of each of its longer flows. An address that is not there right now
costs one failed call, so that the first packet leaves soon after its tunnel is up. On standard
input, "burst TENANT COUNT" asks for so many new flows at once.
"""

import ipaddress
import itertools
import os
import random
import select
import socket
import struct
import sys
import time

from . import packet

FLOW_PORTS = (40001, 40002)
# Packets of a longer flow before it ends and starts anew.
FLOW_LENGTHS = (8, 60)
NEW_PORTS = range(1024, 32768)
IP_FREEBIND = 15


class Source:
    """One tenant at one address."""

    def __init__(self, tenant, address):
        self.tenant = tenant
        self.family = ipaddress.ip_address(address).version
        kind, self.target = {4: (socket.AF_INET, packet.TARGET4),
                             6: (socket.AF_INET6, packet.TARGET6)}[self.family]
        self.packed = ipaddress.ip_address(address).packed
        self.packed_target = ipaddress.ip_address(self.target).packed
        self.sock = socket.socket(kind, socket.SOCK_RAW, packet.IPPROTO_TCP)
        self.sock.setblocking(False)
        # The sockets read nothing: their answers must not fill their buffers.
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
        # With both, the kernel refuses to send from an address that is not there.
        self.ancillary = []
        if self.family == 4:
            self.sock.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
            self.sock.bind((address, 0))
        else:
            information = self.packed + struct.pack("@I", 0)
            self.ancillary = [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, information)]
        self.ports = random.Random(address)
        self.numbers = itertools.count(1)
        self.flows = {port: [0, 0] for port in FLOW_PORTS}
        self.since = 0  # when the address was there first; 0: it is not

    def send(self, kind, port, numbers, flags):
        """Returns whether it left."""
        now = time.time_ns()
        label = packet.LABEL.pack(packet.MAGIC, self.tenant, kind, self.family,
                                  next(self.numbers), now, self.since or now)
        data = packet.segment(self.packed, self.packed_target, (port, packet.PORT), numbers,
                              flags, label)
        try:
            self.sock.sendmsg([data], self.ancillary, 0, (self.target, 0))
        except OSError:
            self.since = 0
            return False
        self.since = self.since or now
        return True

    def new_flow(self):
        return self.send(packet.NEW, self.ports.choice(NEW_PORTS), (packet.CLIENT_ISN, 0),
                         packet.SYN)

    def next_of_flow(self, port):
        flow = self.flows[port]
        at, length = flow
        seq = packet.CLIENT_ISN + at * packet.LABEL.size + (at > 0)
        if at == 0:
            flow[1] = self.ports.randint(*FLOW_LENGTHS)
            self.send(packet.OPEN, port, (seq, 0), packet.SYN)
        elif at < length:
            self.send(packet.DATA, port, (seq, packet.SERVER_ISN + 1), packet.ACK | packet.PSH)
        else:
            self.send(packet.END, port, (seq, packet.SERVER_ISN + 1), packet.RST)
        flow[0] = 0 if at >= length and at else at + 1

    def tick(self):
        if self.new_flow():
            for port in self.flows:
                self.next_of_flow(port)


def burst(sources, tenant, count):
    for source in sources:
        if source.tenant == tenant and source.new_flow():
            for _ in range(count - 1):
                source.new_flow()


def follow_commands(sources, until):
    """Do what is asked until the next tick; False at the end of standard input."""
    while (left := until - time.monotonic()) > 0:
        if not select.select([0], [], [], left)[0]:
            break
        data = os.read(0, 65536)
        if not data:
            return False
        for line in data.decode().splitlines():
            words = line.split()
            if len(words) == 3 and words[0] == "burst":
                burst(sources, int(words[1]), int(words[2]))
    return True


def parse(word):
    tenant, _, addresses = word.partition("@")
    return [Source(int(tenant), address) for address in addresses.split(",")]


def main(period, *words):
    sources = [source for word in words for source in parse(word)]
    due = time.monotonic()
    while True:
        for source in sources:
            source.tick()
        # Who was held up does not catch up.
        due = max(due + float(period), time.monotonic())
        if not follow_commands(sources, due):
            return


if __name__ == "__main__":
    main(*sys.argv[1:])
