# SPDX-License-Identifier: GPL-2.0-or-later
"""One command to a charon that may not be running just now: what swanctl would not begin.

The protocol is in strongSwan's src/libcharon/plugins/vici/README.md.
"""

import socket
import struct

CMD_REQUEST, KEY_VALUE = 0, 3


def _name(text):
    return struct.pack("!B", len(text)) + text.encode()


def command(path, name, **values):
    """Leave the command in charon's socket; returns the connection, on which the answer comes."""
    message = struct.pack("!B", CMD_REQUEST) + _name(name)
    for key, value in values.items():
        message += struct.pack("!B", KEY_VALUE) + _name(key) + struct.pack("!H", len(value)) \
            + value.encode()
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    sock.sendall(struct.pack("!I", len(message)) + message)
    return sock
