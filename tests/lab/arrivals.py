# SPDX-License-Identifier: GPL-2.0-or-later
"""When packets to port 443 came in on an interface, as the kernel stamped them.

    arrivals.py INTERFACE

Says "ready", and at SIGTERM one JSON line: how many came, and when the last one did, in
nanoseconds of the clock that time.time_ns() reads.
"""

import json
import signal
import socket
import struct
import sys

SO_TIMESTAMPNS = 35
ETH_P_ALL = 3
PORT = 443
IPPROTO_TCP = 6


def is_to_port(packet):
    if len(packet) < 40:
        return False
    if packet[0] >> 4 == 4:
        header, protocol = (packet[0] & 15) * 4, packet[9]
    else:
        header, protocol = 40, packet[6]
    return protocol == IPPROTO_TCP and \
        struct.unpack_from("!H", packet, header + 2)[0] == PORT


def main(interface):
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind((interface, ETH_P_ALL))
    count, last = 0, None

    def stop(*_):
        print(json.dumps({"count": count, "last": last}), flush=True)
        sys.exit(0)

    signal.signal(signal.SIGTERM, stop)
    print("ready", flush=True)
    while True:
        packet, ancillary, _, address = sock.recvmsg(128, 64)
        if address[2] == socket.PACKET_OUTGOING or not is_to_port(packet):
            continue
        seconds, nanoseconds = struct.unpack("=qq", ancillary[0][2])
        count, last = count + 1, seconds * 10 ** 9 + nanoseconds


if __name__ == "__main__":
    main(sys.argv[1])
