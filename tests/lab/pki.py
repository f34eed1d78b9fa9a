# SPDX-License-Identifier: GPL-2.0-or-later
"""Certificates of one lab, made with openssl: an authority, the gateway, a customer, a server."""

from .system import run

GATEWAY_ID = "gateway.example"
GLOBEX_DN = "/C=CH/O=Globex/CN=globex.example"
DAYS = 30


class Pki:
    def __init__(self, directory):
        self.directory = directory

    def path(self, name):
        return self.directory / name

    def make(self):
        self._authority()
        self._issue("gateway", f"/C=CH/O=Example Gateway/CN={GATEWAY_ID}", f"DNS:{GATEWAY_ID}")
        self._issue("globex", GLOBEX_DN, "DNS:globex.example")
        self._issue("server", "/CN=server.example", "DNS:server.example")

    def _authority(self):
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-days", DAYS, "-subj", "/C=CH/O=Example Gateway/CN=Example CA",
            "-addext", "basicConstraints=critical,CA:TRUE",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
            "-keyout", self.path("ca.key"), "-out", self.path("ca.pem"))

    def _issue(self, name, subject, alternative_name):
        request, extensions = self.path(f"{name}.csr"), self.path(f"{name}.ext")
        extensions.write_text(f"subjectAltName={alternative_name}\n")
        run("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-subj", subject, "-keyout", self.path(f"{name}.key"), "-out", request)
        run("openssl", "x509", "-req", "-in", request, "-days", DAYS, "-CA", self.path("ca.pem"),
            "-CAkey", self.path("ca.key"), "-CAcreateserial", "-extfile", extensions,
            "-out", self.path(f"{name}.pem"))
