# SPDX-License-Identifier: GPL-2.0-or-later
"""A customer's attempt to reach a service; prints one JSON line that says what became of it.

    probe.py KIND --source ADDRESS --target ADDRESS [--timeout SECONDS] [--proxy ADDRESS]

With an explicit proxy, TCP goes by a CONNECT to the target's address, as Skype did with one.

outcome: answered (path says which way, as the far side saw it), denied (the connection was
closed or refused), timeout (nothing came back).
"""

import argparse
import json
import socket
import time

PROXY_PORT = 80


def connect(args, port, kind=socket.SOCK_STREAM):
    """Linux 6.1 may say EEXIST to what goes by IPComp, for a moment after the SA was made."""
    end = time.monotonic() + args.timeout
    while True:
        try:
            return connect_once(args, port, kind)
        except FileExistsError:
            if time.monotonic() > end:
                raise
        time.sleep(0.05)


def connect_once(args, port, kind):
    via = (args.proxy, PROXY_PORT) if args.proxy else (args.target, port)
    family = socket.AF_INET6 if ":" in via[0] else socket.AF_INET
    sock = socket.socket(family, kind)
    sock.settimeout(args.timeout)
    sock.bind((args.source, 0))
    sock.connect(via)
    if args.proxy:
        open_tunnel(sock, args.target, port)
    return sock


def open_tunnel(sock, target, port):
    """CONNECT; ConnectionError unless the proxy agrees."""
    host = f"[{target}]" if ":" in target else target
    sock.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        data = sock.recv(1)
        if not data:
            raise ConnectionError(f"the proxy says nothing but {answer!r}")
        answer += data
    if answer.split()[1:2] != [b"200"]:
        raise ConnectionError(f"the proxy refuses: {answer.splitlines()[0]!r}")


def read_all_or_line(sock, end=b"\n"):
    data = b""
    while not data.endswith(end) and len(data) < 65536:
        more = sock.recv(4096)
        if not more:
            break
        data += more
    return data


def nontls443(args):
    with connect(args, 443) as sock:
        sock.sendall(b"SKYPE-HELLO " + args.tag.encode() + b"\n")
        return read_all_or_line(sock)


def tls443(args):
    # Loading this takes as long as all else: only where it is needed.
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with connect(args, 443) as sock, context.wrap_socket(sock) as tls:
            tls.sendall(b"TLS-HELLO " + args.tag.encode() + b"\n")
            return read_all_or_line(tls)
    except ssl.SSLError as error:
        raise ConnectionError(str(error)) from error


def badtls443(args):
    """A record that says it is a TLS handshake, and is none."""
    with connect(args, 443) as sock:
        sock.sendall(b"\x16\x03\x03\x00\x20" + 32 * b"\xff")
        return read_all_or_line(sock)


def oldtls443(args):
    """A well-formed hello of SSL 3.0."""
    hello = b"\x03\x00" + 32 * b"\x07" + b"\x00" + b"\x00\x02\x00\x0a" + b"\x01\x00"
    hello = b"\x01" + len(hello).to_bytes(3, "big") + hello
    with connect(args, 443) as sock:
        sock.sendall(b"\x16\x03\x00" + len(hello).to_bytes(2, "big") + hello)
        return read_all_or_line(sock)


def http80(args):
    with connect(args, 80) as sock:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return read_all_or_line(sock, end=b"protocol=http\n")


def udp443(args):
    with connect(args, 443, socket.SOCK_DGRAM) as sock:
        sock.send(b"ping")
        return sock.recv(2048)


KINDS = {"nontls443": nontls443, "tls443": tls443, "badtls443": badtls443, "oldtls443": oldtls443,
         "http80": http80, "udp443": udp443}


def path_of(answer):
    for word in answer.decode(errors="replace").split():
        if word.startswith("path="):
            return word.removeprefix("path=")
    return None


def attempt(args):
    try:
        answer = KINDS[args.kind](args)
    except TimeoutError:
        return {"outcome": "timeout", "path": None, "detail": f"nothing in {args.timeout} s"}
    except ConnectionError as error:
        return {"outcome": "denied", "path": None, "detail": str(error)}
    if path_of(answer) is None:
        return {"outcome": "denied", "path": None, "detail": "closed without an answer"}
    return {"outcome": "answered", "path": path_of(answer), "detail": ""}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--source", required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--timeout", type=float, default=5.0)
    parser.add_argument("--tag", default="probe")
    parser.add_argument("--proxy")
    args = parser.parse_args()
    started = time.monotonic()
    result = attempt(args)
    result["seconds"] = round(time.monotonic() - started, 3)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
