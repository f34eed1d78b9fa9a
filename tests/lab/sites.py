# SPDX-License-Identifier: GPL-2.0-or-later
"""Further customers, sites with a pre-shared key, whose tunnels are set up in many ways.

What is special about a way is written once, here or in a test, and becomes the configuration of
both ends: swanctl-examples/ shows the ordinary one.
"""

import contextlib
from dataclasses import dataclass

from .topology import GATEWAY4, Client

EVERYWHERE = "0.0.0.0/0, ::/0"
SECRET = "replace-me-site-pre-shared-key"

GATEWAY_CONNECTION = """
	site-{name} {{
		version = 2
		remote_addrs = %any
		dpd_delay = 30s
		local {{
			auth = psk
			id = gateway.example
		}}
		remote {{
			auth = psk
			id = {tenant}
		}}
		children {{{children}
		}}
	}}
"""
GATEWAY_CHILD = """
			site-{name}-{child} {{
				local_ts = {internet}
				remote_ts = {nets}
				{both}
				{gateway}
			}}"""
GATEWAY_SECRET = """
	ike-{name} {{
		id = {tenant}
		secret = "{secret}"
	}}
"""
SITE = """
connections {{
	gateway {{
		version = 2
		remote_addrs = {remote}
		{connection}
		dpd_delay = 30s
		local {{
			auth = psk
			id = {tenant}
		}}
		remote {{
			auth = psk
			id = gateway.example
		}}
		children {{{children}
		}}
	}}
}}
secrets {{
	ike-gateway {{
		id = gateway.example
		secret = "{secret}"
	}}
}}
"""
SITE_CHILD = """
			{child} {{
				local_ts = {nets}
				remote_ts = {internet}
				{both}
			}}"""


@dataclass(frozen=True)
class Site(Client):
    """A customer with child SAs of these names, each for some networks of the site."""

    example: str = "site-psk"
    children: tuple = ()      # pairs: name, selectors as in swanctl.conf
    more_hosts: tuple = ()    # addresses behind it beside inner4 and inner6

    @property
    def hosts(self):
        return super().hosts + self.more_hosts

    @property
    def tenant(self):
        return f"{self.name}.example"

    @property
    def connection(self):
        """Its name at the gateway."""
        return f"site-{self.name}"


NORTH = Site("north", 21, inner4="198.18.0.17", inner6="2001:db8:a4::10",
             children=(("internet", "198.18.0.16/28, 2001:db8:a4::/64"),))
SOUTH = Site("south", 22, inner4="198.18.0.33", inner6="2001:db8:a5::10",
             children=(("internet", "198.18.0.32/28, 2001:db8:a5::/64"),))


@dataclass(frozen=True)
class Way:
    """How sites are connected. The texts are lines of swanctl.conf."""

    remote: str = GATEWAY4          # the gateway's address that the customer knows
    behind_nat: bool = False
    internet: str = EVERYWHERE      # what the tunnel leads to
    connection: str = ""            # of the customer's connection
    child: str = ""                 # of the child SAs, at both ends
    gateway_child: str = ""         # of the child SAs, at the gateway only


ORDINARY = Way()


def gateway_config(sites, way=ORDINARY):
    """The gateway's swanctl.conf: as shipped, and these sites too."""
    connections = secrets = ""
    for site in sites:
        children = "".join(GATEWAY_CHILD.format(name=site.name, child=child, nets=nets,
                                                internet=way.internet, both=way.child,
                                                gateway=way.gateway_child)
                           for child, nets in site.children)
        connections += GATEWAY_CONNECTION.format(name=site.name, tenant=site.tenant,
                                                 children=children)
        secrets += GATEWAY_SECRET.format(name=site.name, tenant=site.tenant, secret=SECRET)
    return (f"include swanctl-shipped.conf\nconnections {{{connections}}}\n"
            f"secrets {{{secrets}}}\n")


def site_config(site, way=ORDINARY):
    """The customer's swanctl.conf."""
    children = "".join(SITE_CHILD.format(child=child, nets=nets, internet=way.internet,
                                         both=way.child) for child, nets in site.children)
    return SITE.format(tenant=site.tenant, remote=way.remote, connection=way.connection,
                       children=children, secret=SECRET)


class Sites:
    """Sites of one lab; their charons are started once and then only told other ways."""

    def __init__(self, lab, sites):
        self.lab = lab
        self.sites = sites
        self.undo = None

    def connect(self, way=ORDINARY):
        self.undo = self.lab.configure_gateway(gateway_config(self.sites, way))
        for site in self.sites:
            if site.name not in self.lab.charons:
                self.lab.add_site(site)
            self.lab.network.plug(site, "nat" if way.behind_nat else "wan")
            charon = self.lab.charons[site.name]
            charon.configure(site_config(site, way))
            for child, _ in site.children:
                charon.initiate(child)

    def disconnect(self):
        for site in self.sites:
            if site.name in self.lab.charons:
                self.lab.disconnect(site.name)
        if self.undo:
            self.undo()


@contextlib.contextmanager
def connected(lab, *sites, way=ORDINARY):
    """These sites have their tunnels within the block."""
    group = Sites(lab, sites)
    try:
        group.connect(way)
        yield
    finally:
        group.disconnect()
