# SPDX-License-Identifier: GPL-2.0-or-later
"""Who there is, and the configurations of their charons.

Each client is a namespace with one charon and several tenants: a site with an address of its own
and a road warrior for each pool. Each pool has fewer addresses than road warriors; no two of one
client share a pool, so that an address says whose packet it is.
"""

from dataclasses import dataclass

from lab.topology import GATEWAY4, Client

SECRET = "replace-me-hunt-pre-shared-key"
IKE_PROPOSAL, ESP_PROPOSAL = "aes128-sha256-x25519", "aes128gcm16"
STAYS = "198.19.99.1"
EVERYTHING = "0.0.0.0/0, ::/0"
SITES = "198.18.2.0/24, 2001:db8:a2::/64"

# Logs are for reading after a leak; each packet that finds no SA is none of their business.
LOGGING = "charon { filelog { lab { esp = -1\n net = 0\n enc = 0\n knl = 0\n asn = 0\n } } }\n"
# Who is cut off notices soon.
TIMES = "charon { retransmit_timeout = 0.5\n retransmit_base = 1.4\n retransmit_tries = 5\n }\n"
# All come from few addresses, and may leave half-open IKE SAs behind.
MANY_AT_ONCE = "charon { dos_protection = no\n half_open_timeout = 5\n }\n"
NO_ROUTES = "charon { install_routes = no }\n"
IDENTITY = "charon { plugins { tenant-tag { load = yes\n identity = id } } }\n"


@dataclass(frozen=True)
class Plan:
    """How many of everything; room: addresses of a pool."""

    clients: int = 4
    pools: int = 2
    room: int = 2


@dataclass(frozen=True)
class Member:
    number: int
    client: int
    pool: int = None

    @property
    def name(self):
        """Its identity, and with that the tenant."""
        return f"t{self.number:02}@" + ("site" if self.pool is None else f"pool{self.pool}") \
            + ".example"

    @property
    def connection(self):
        return f"t{self.number:02}"


def members(plan):
    found = []
    for client in range(plan.clients):
        for pool in (None, *range(plan.pools)):
            found.append(Member(len(found), client, pool))
    return found


def site_addresses(client):
    return f"198.18.2.{4 * client + 1}", f"2001:db8:a2::{4 * client + 1:x}"


def pool_addresses(plan, pool):
    """IPv4 and IPv6, in order."""
    first = 16 * (pool + 1)
    return ([f"198.18.3.{first + n}" for n in range(plan.room)],
            [f"2001:db8:a3::{first + n:x}" for n in range(plan.room)])


def addresses(plan, member):
    """Every address that a tenant may ever send from."""
    if member.pool is None:
        return list(site_addresses(member.client))
    four, six = pool_addresses(plan, member.pool)
    return four + six


def lab_client(number):
    four, six = site_addresses(number)
    return Client(f"client{number}", 20 + number, "", four, six)


def other_outer(number):
    """The address that a client moves to and back from."""
    return f"192.0.2.{120 + number}"


def client_connection(member):
    if member.pool is None:
        four, six = site_addresses(member.client)
        mine = f"local_ts = {four}/30, {six}/126"
        vips = ""
    else:
        mine, vips = "", "vips = 0.0.0.0, ::"
    return f"""
	{member.connection} {{
		version = 2
		remote_addrs = {GATEWAY4}
		proposals = {IKE_PROPOSAL}
		{vips}
		local {{
			auth = psk
			id = {member.name}
		}}
		remote {{
			auth = psk
			id = gateway.example
		}}
		children {{
			{member.connection} {{
				{mine}
				remote_ts = {EVERYTHING}
				esp_proposals = {ESP_PROPOSAL}
			}}
		}}
	}}
"""


def secrets():
    return f'secrets {{\n\tike-all {{\n\t\tsecret = "{SECRET}"\n\t}}\n}}\n'


def client_swanctl(mine):
    return "connections {" + "".join(map(client_connection, mine)) + "}\n" + secrets()


def gateway_connection(name, pools="", remote_ts=""):
    return f"""
	{name} {{
		version = 2
		remote_addrs = %any
		proposals = {IKE_PROPOSAL}
		unique = replace
		dpd_delay = 5s
		{pools}
		local {{
			auth = psk
			id = gateway.example
		}}
		remote {{
			auth = psk
			id = *@{name}.example
		}}
		children {{
			net {{
				local_ts = {EVERYTHING}
				{remote_ts}
				esp_proposals = {ESP_PROPOSAL}
			}}
		}}
	}}
"""


def gateway_swanctl(plan):
    connections = gateway_connection("site", remote_ts=f"remote_ts = {SITES}")
    pools = ""
    for pool in range(plan.pools):
        connections += gateway_connection(f"pool{pool}", f"pools = pool{pool}v4, pool{pool}v6")
        for version, listed in zip((4, 6), pool_addresses(plan, pool)):
            pools += f"\tpool{pool}v{version} {{\n\t\taddrs = {listed[0]}-{listed[-1]}\n\t}}\n"
    return "connections {" + connections + "}\npools {\n" + pools + "}\n" + secrets()
