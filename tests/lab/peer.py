# SPDX-License-Identifier: GPL-2.0-or-later
"""The far side. Each service listens once per interface, so that its answer names the path.

Port 443 speaks two protocols, told apart by the first byte: TLS, and one that is not TLS, as
Skype does. Both answer one line, "path=bypass protocol=skype", and then echo what they get.
Port 80 answers HTTP, UDP port 443 echoes one datagram after the same words.

    peer.py CERTIFICATE KEY LOG ADDRESS4 ADDRESS6 PATH...
"""

import json
import socket
import ssl
import sys
import threading
import time

CONNECTIONS_MAX = 512
IDLE_SECONDS = 600
TLS_HANDSHAKE = b"\x16"


class Journal:
    """One JSON line for each connection that arrived, whatever became of it."""

    def __init__(self, path):
        self.file = open(path, "a", buffering=1)
        self.lock = threading.Lock()

    def write(self, **fields):
        with self.lock:
            self.file.write(json.dumps({"time": time.time(), **fields}) + "\n")


def open_socket(kind, path, address, port):
    """A socket that hears only what came in by the path's interface."""
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, f"from_{path}".encode())
    sock.bind((address, port))
    if kind == socket.SOCK_STREAM:
        sock.listen(128)
    return sock


def read_line(sock):
    line = b""
    while not line.endswith(b"\n") and len(line) < 1024:
        data = sock.recv(1)
        if not data:
            break
        line += data
    return line


def greet_and_echo(sock, path, protocol):
    line = read_line(sock)
    if not line:
        return ""
    sock.sendall(f"path={path} protocol={protocol}\n".encode())
    while data := sock.recv(65536):
        sock.sendall(data)
    return line.decode(errors="replace").strip()


def serve_https_or_not(sock, path, context):
    if sock.recv(1, socket.MSG_PEEK) != TLS_HANDSHAKE:
        return greet_and_echo(sock, path, "skype")
    with context.wrap_socket(sock, server_side=True) as tls:
        return greet_and_echo(tls, path, "tls")


def serve_http(sock, path, _context):
    line = read_line(sock)
    body = f"path={path} protocol=http\n"
    sock.sendall(f"HTTP/1.0 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    return line.decode(errors="replace").strip()


def handle(sock, source, path, serve, context, journal, slots):
    hello, error = "", None
    try:
        sock.settimeout(IDLE_SECONDS)
        hello = serve(sock, path, context)
    except (OSError, ssl.SSLError) as caught:
        error = str(caught)
    finally:
        sock.close()
        slots.release()
        journal.write(event="end", path=path, source=source, hello=hello, error=error)


def accept_forever(sock, port, path, serve, context, journal, slots):
    while True:
        peer, source = sock.accept()
        journal.write(event="arrived", path=path, port=port, source=source[0])
        slots.acquire()
        threading.Thread(target=handle, daemon=True,
                         args=(peer, source[0], path, serve, context, journal, slots)).start()


def echo_datagrams(sock, path):
    while True:
        data, source = sock.recvfrom(2048)
        sock.sendto(f"path={path} protocol=udp ".encode() + data, source)


def services(path, address, context, journal, slots):
    """The threads that serve one path at one address."""
    for port, serve in ((443, serve_https_or_not), (80, serve_http)):
        sock = open_socket(socket.SOCK_STREAM, path, address, port)
        yield threading.Thread(target=accept_forever,
                               args=(sock, port, path, serve, context, journal, slots))
    sock = open_socket(socket.SOCK_DGRAM, path, address, 443)
    yield threading.Thread(target=echo_datagrams, args=(sock, path))


def main(certificate, key, log, address4, address6, *paths):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    journal = Journal(log)
    slots = threading.BoundedSemaphore(CONNECTIONS_MAX)
    for path in paths:
        for address in (address4, address6):
            for thread in services(path, address, context, journal, slots):
                thread.start()
    journal.write(event="ready")


if __name__ == "__main__":
    main(*sys.argv[1:])
