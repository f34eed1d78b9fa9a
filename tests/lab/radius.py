# SPDX-License-Identifier: GPL-2.0-or-later
"""A RADIUS server beside the gateway's charon: hostapd's, which needs no more than a file of users. It says
with each one whose password is right what the user's class is."""

import contextlib

from .system import Process, run, wait_until

PORT = 1812
SECRET = "replace-me-radius-secret"
# interface: it is opened by no driver, but has to be named
HOSTAPD = """\
interface=lo
driver=none
eap_server=1
eap_user_file={dir}/users
radius_server_clients={dir}/clients
radius_server_auth_port={port}
"""
USER = '"initech" MSCHAPV2 "replace-me-initech-password"\nradius_accept_attr=25:s:{user_class}\n'

# The gateway leaves it to the server who a road warrior is.
ASKED = """
include swanctl-shipped.conf
connections {
	roadwarriors {
		remote {
			auth = eap-radius
		}
	}
}
"""
OPTIONS = f"""
charon {{ plugins {{ eap-radius {{
	class_group = yes
	servers {{
		local {{
			address = 127.0.0.1
			auth_port = {PORT}
			secret = {SECRET}
		}}
	}}
}} }} }}
"""


class Radius:
    """The server, with one user."""

    def __init__(self, lab, user_class):
        self.lab = lab
        self.inside = ("ip", "netns", "exec", lab.network.name(lab.gateway.role))
        self.dir = lab.state.dir("hostapd")
        (self.dir / "clients").write_text(f"127.0.0.1 {SECRET}\n")
        (self.dir / "hostapd.conf").write_text(HOSTAPD.format(dir=self.dir, port=PORT))
        self.process = None
        self.set_class(user_class)

    def set_class(self, user_class):
        """From the next authentication on the user is one of these."""
        self.stop()
        (self.dir / "users").write_text(USER.format(user_class=user_class))
        self.process = Process(self.lab.state, "hostapd",
                               [*self.inside, "hostapd", self.dir / "hostapd.conf"])
        wait_until(lambda: self.process.check_alive() or self._listens(), "hostapd listens", 20)

    def _listens(self):
        return f":{PORT} " in run(*self.inside, "ss", "-Huln").stdout

    def stop(self):
        if self.process:
            self.process.stop()


@contextlib.contextmanager
def radius(lab, user_class):
    """Road warriors are authenticated by it; gives the server."""
    server = Radius(lab, user_class)
    restore = lab.configure_gateway(ASKED)
    try:
        yield server
    finally:
        restore()
        server.stop()
