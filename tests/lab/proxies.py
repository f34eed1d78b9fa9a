# SPDX-License-Identifier: GPL-2.0-or-later
"""Two explicit proxies at one address: at the enforcement stage Squid, which looks into each CONNECT
and lets nothing but TLS through; on the bypass path tinyproxy, which does not look."""

import contextlib
import shutil

from .enforce import listening
from .system import Process, wait_until
from .topology import PROXY4, PROXY6, PROXY_PORT

# The first bytes in a tunnel are peeked at (ssl_bump); a server name in them is not needed. What does not
# begin with a TLS hello gets an error instead of a tunnel (on_unsupported_protocol).
SQUID = """\
http_port {proxy4}:{port} ssl-bump tls-cert={dir}/proxy.pem generate-host-certificates=off
http_port [{proxy6}]:{port} ssl-bump tls-cert={dir}/proxy.pem generate-host-certificates=off
visible_hostname proxy.example
acl begin at_step SslBump1
ssl_bump peek begin
ssl_bump splice all
on_unsupported_protocol respond all
http_access allow all
cache deny all
cache_mem 8 MB
pid_filename none
access_log stdio:{dir}/access.log
cache_log {dir}/cache.log
netdb_filename none
coredump_dir {dir}
shutdown_lifetime 1 second
"""

TINYPROXY = """\
Port {port}
Listen {proxy4}
Listen {proxy6}
Timeout 600
MaxClients 20
ConnectPort 443
LogLevel Connect
"""


def start_squid(lab):
    """It gives up root for the user "proxy", who then has to be able to write its logs."""
    directory = lab.state.dir("squid")
    certificate = lab.pki.path("server.key").read_text() + lab.pki.path("server.pem").read_text()
    (directory / "proxy.pem").write_text(certificate)
    for path in (directory, directory / "proxy.pem"):
        shutil.chown(path, "proxy")
    config = directory / "squid.conf"
    config.write_text(SQUID.format(proxy4=PROXY4, proxy6=PROXY6, port=PROXY_PORT, dir=directory))
    return Process(lab.state, "squid", ["ip", "netns", "exec", lab.network.name("enforce"),
                                        "squid", "-N", "-f", config])


def start_tinyproxy(lab):
    config = lab.state.dir("tinyproxy") / "tinyproxy.conf"
    config.write_text(TINYPROXY.format(proxy4=PROXY4, proxy6=PROXY6, port=PROXY_PORT))
    return Process(lab.state, "tinyproxy", ["ip", "netns", "exec", lab.network.name("bypass"),
                                            "tinyproxy", "-d", "-c", config])


@contextlib.contextmanager
def explicit_proxies(lab):
    """Both run, and the admin's rules lead to the enforcing one."""
    with contextlib.ExitStack() as stack:
        for role, start in (("enforce", start_squid), ("bypass", start_tinyproxy)):
            stack.callback(lab.network.add_local(role, PROXY4, PROXY6))
            process = start(lab)
            stack.callback(process.stop)
            wait_until(lambda r=role, p=process: p.check_alive() or
                       listening(lab.network, r, PROXY_PORT), f"the proxy of {role} listens", 20)
        stack.callback(lab.network.divert(PROXY4, PROXY6))
        yield
