# SPDX-License-Identifier: GPL-2.0-or-later
"""The SSL-enforcement stage: HAProxy behind tproxy, which lets only TLS through."""

from .system import Process, run, wait_until

PROXY_PORT = 8443
PROXY_MARK = 1
PROXY_TABLE = 100

HAPROXY = f"""\
global
	maxconn 2000

defaults
	mode tcp
	timeout connect 5s
	timeout client 1h
	timeout server 1h

frontend enforcement
	bind :::{PROXY_PORT} v4v6 transparent
	# A client that says nothing is given this long; whoever says something that does not start
	# a TLS handshake is denied at once.
	tcp-request inspect-delay 1500ms
	tcp-request content accept if {{ req.ssl_hello_type 1 }}
	tcp-request content reject
	default_backend original_destination

backend original_destination
	option transparent
"""

NFT = f"""
table inet enforcement {{
	chain divert {{
		type filter hook prerouting priority mangle; policy accept;
		iifname "gw" tcp dport 443 tproxy to :{PROXY_PORT} meta mark set {PROXY_MARK} accept
	}}
}}
"""


def start_enforcement(network, state):
    """Divert port 443 into HAProxy; returns its process."""
    for family in ("-4", "-6"):
        network.ip("enforce", family, "rule", "add", "fwmark", PROXY_MARK, "lookup", PROXY_TABLE)
        network.ip("enforce", family, "route", "add", "local", "default", "dev", "lo",
                   "table", PROXY_TABLE)
    network.nft("enforce", NFT)
    config = state.dir("enforce") / "haproxy.cfg"
    config.write_text(HAPROXY)
    process = Process(state, "haproxy", ["ip", "netns", "exec", network.name("enforce"),
                                         "haproxy", "-db", "-f", config])
    wait_until(lambda: process.check_alive() or listening(network), "HAProxy listens")
    return process


def listening(network):
    sockets = run("ip", "netns", "exec", network.name("enforce"), "ss", "-Htln").stdout
    return f":{PROXY_PORT} " in sockets
