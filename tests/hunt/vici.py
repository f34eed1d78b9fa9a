# SPDX-License-Identifier: GPL-2.0-or-later
"""A client of charon's vici socket that keeps its connection: no swanctl forked for each command.

The protocol is described in strongSwan's src/libcharon/plugins/vici/README.md. A packet is its
length (32 bit), a type and, for most types, a name; then a message of nested sections.
"""

import select
import socket
import struct
import time

CMD_REQUEST, CMD_RESPONSE, CMD_UNKNOWN = 0, 1, 2
EVENT_REGISTER, EVENT_UNREGISTER, EVENT_CONFIRM, EVENT_UNKNOWN, EVENT = 3, 4, 5, 6, 7
SECTION_START, SECTION_END, KEY_VALUE, LIST_START, LIST_ITEM, LIST_END = 1, 2, 3, 4, 5, 6
PACKET_MAX = 512 * 1024


class ViciError(Exception):
    """charon is not there, does not answer in time, or does not know the command."""


def encode_name(name):
    data = name.encode()
    return bytes([len(data)]) + data


def encode_value(value):
    data = str(value).encode()
    return struct.pack("!H", len(data)) + data


def encode(message):
    """A dict of strings, numbers, lists and dicts as a vici message."""
    out = b""
    for key, value in message.items():
        if isinstance(value, dict):
            out += (bytes([SECTION_START]) + encode_name(key) + encode(value)
                    + bytes([SECTION_END]))
        elif isinstance(value, list):
            items = b"".join(bytes([LIST_ITEM]) + encode_value(item) for item in value)
            out += bytes([LIST_START]) + encode_name(key) + items + bytes([LIST_END])
        else:
            out += bytes([KEY_VALUE]) + encode_name(key) + encode_value(value)
    return out


class Decoder:
    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, length):
        self.at += length
        return self.data[self.at - length:self.at]

    def name(self):
        return self.take(self.take(1)[0]).decode()

    def value(self):
        return self.take(struct.unpack("!H", self.take(2))[0]).decode(errors="replace")

    def items(self):
        found = []
        while self.take(1)[0] == LIST_ITEM:
            found.append(self.value())
        return found

    def section(self):
        found = {}
        while self.at < len(self.data):
            kind = self.take(1)[0]
            if kind == SECTION_END:
                break
            name = self.name()
            if kind == SECTION_START:
                found[name] = self.section()
            elif kind == KEY_VALUE:
                found[name] = self.value()
            else:
                found[name] = self.items()
        return found


class Vici:
    """One connection; made anew when charon was. Not for several threads at once."""

    def __init__(self, path, patience=5.0):
        self.path = str(path)
        self.patience = patience
        self.sock = None

    def close(self):
        if self.sock:
            self.sock.close()
        self.sock = None

    def _send(self, kind, name, message=b""):
        packet = bytes([kind]) + encode_name(name) + message
        self.sock.sendall(struct.pack("!I", len(packet)) + packet)

    def _read(self, length, end):
        data = b""
        while len(data) < length:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.sock], [], [], left)[0]:
                raise TimeoutError("no answer")
            more = self.sock.recv(length - len(data))
            if not more:
                raise ConnectionError("closed")
            data += more
        return data

    def _packet(self, end):
        length = struct.unpack("!I", self._read(4, end))[0]
        if not 0 < length <= PACKET_MAX:
            raise ViciError(f"a packet of {length} bytes")
        packet = Decoder(self._read(length, end))
        kind = packet.take(1)[0]
        if kind == EVENT:
            packet.name()
        return kind, packet

    def _connect(self):
        if self.sock is None:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(self.patience)
            self.sock.connect(self.path)

    def _expect(self, kind, wanted, name):
        if kind != wanted:
            raise ViciError(f"{name}: an answer of type {kind}")

    def _exchange(self, command, message, event, end):
        found = []
        self._connect()
        if event:
            self._send(EVENT_REGISTER, event)
            self._expect(self._packet(end)[0], EVENT_CONFIRM, event)
        self._send(CMD_REQUEST, command, encode(message))
        kind, packet = self._packet(end)
        while kind == EVENT:
            found.append(packet.section())
            kind, packet = self._packet(end)
        self._expect(kind, CMD_RESPONSE, command)
        answer = packet.section()
        if event:
            self._send(EVENT_UNREGISTER, event)
            self._expect(self._packet(end)[0], EVENT_CONFIRM, event)
        return answer, found

    def request(self, command, message=None, event=None):
        """Returns the answer and the events streamed before it. ViciError: no answer."""
        end = time.monotonic() + self.patience
        try:
            return self._exchange(command, message or {}, event, end)
        except (OSError, TimeoutError) as error:
            self.close()
            raise ViciError(f"{command}: {error}") from error
        except ViciError:
            self.close()
            raise

    # The commands that the hunt needs. None waits for the other side.

    def initiate(self, child):
        return self.request("initiate", {"child": child, "timeout": -1})[0]

    def terminate(self, ike, force=False):
        return self.request("terminate", {"ike": ike, "timeout": -1,
                                          "force": "yes" if force else "no"})[0]

    def rekey(self, **what):
        return self.request("rekey", what)[0]

    def child_sas(self):
        """[(connection, identity of the peer, its installed child SAs)] of established IKE SAs."""
        found = []
        for event in self.request("list-sas", {}, "list-sa")[1]:
            for name, ike in event.items():
                if ike.get("state") == "ESTABLISHED":
                    installed = [child for child in ike.get("child-sas", {}).values()
                                 if child.get("state") == "INSTALLED"]
                    found.append((name, ike.get("remote-id"), installed))
        return found
