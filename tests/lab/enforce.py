# SPDX-License-Identifier: GPL-2.0-or-later
"""The SSL-enforcement stages: HAProxy behind tproxy. The first lets only TLS through; the second, on a
path of its own, tunnels what is not TLS, and of what is lets only that through which is well-formed and
not too old."""

import contextlib

from .system import Process, run, wait_until
from .topology import FROM_SECOND, SERVER4, SERVER6, TO_SECOND

PROXY_PORT = 8443
PROXY_MARK = 1
PROXY_TABLE = 100

HAPROXY = """\
global
	maxconn 2000

defaults
	mode tcp
	timeout connect 5s
	timeout client 1h
	timeout server 1h

frontend enforcement
	bind :::{port} v4v6 transparent
	# A client that says nothing is given this long; whoever says something that does not start
	# a TLS handshake is denied at once.
	tcp-request inspect-delay 1500ms
{rules}
	default_backend original_destination

backend original_destination
	option transparent
"""

TLS_ONLY = """\
	tcp-request content accept if { req.ssl_hello_type 1 }
	tcp-request content reject
"""

# 22 is the type of a record with a handshake, 3.1 what TLS 1.0 calls itself. A hello that is not
# whole yet is waited for.
TLS_ENFORCED = """\
	tcp-request content accept if { req.ssl_hello_type 1 } { req.ssl_ver ge 3.1 }
	tcp-request content reject if { req.payload(0,1) -m bin 16 }
	tcp-request content accept if { req.len gt 0 }
	tcp-request content reject
"""

NFT = f"""
table inet enforcement {{
	chain divert {{
		type filter hook prerouting priority mangle; policy accept;
		iifname "gw" tcp dport 443 tproxy to :{PROXY_PORT} meta mark set {PROXY_MARK} accept
	}}
}}
"""


def start_enforcement(network, state, role="enforce", rules=TLS_ONLY):
    """Divert port 443 into HAProxy; returns its process."""
    for family in ("-4", "-6"):
        network.ip(role, family, "rule", "add", "fwmark", PROXY_MARK, "lookup", PROXY_TABLE)
        network.ip(role, family, "route", "add", "local", "default", "dev", "lo",
                   "table", PROXY_TABLE)
    network.nft(role, NFT)
    config = state.dir(role) / "haproxy.cfg"
    config.write_text(HAPROXY.format(port=PROXY_PORT, rules=rules))
    process = Process(state, f"haproxy-{role}", ["ip", "netns", "exec", network.name(role),
                                                 "haproxy", "-db", "-f", config])
    wait_until(lambda: process.check_alive() or listening(network, role),
               f"HAProxy of {role} listens")
    return process


def listening(network, role, port=PROXY_PORT):
    sockets = run("ip", "netns", "exec", network.name(role), "ss", "-Htln").stdout
    return f":{port} " in sockets


@contextlib.contextmanager
def second_stage(lab):
    """A path "second" to the internet, by a stage that tunnels what is not TLS; gives its next hops.
    The servers answer there, too."""
    lab.network.add_stage("second", FROM_SECOND, TO_SECOND)
    stage = start_enforcement(lab.network, lab.state, "second", TLS_ENFORCED)
    try:
        with lab.servers("second", SERVER4, SERVER6, "second"):
            yield TO_SECOND.address(2)
    finally:
        stage.stop()
        lab.network.remove_stage("second")
