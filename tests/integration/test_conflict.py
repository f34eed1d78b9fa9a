# SPDX-License-Identifier: GPL-2.0-or-later
"""Userspace ESP knows addresses only: two tenants who share one are both enforced."""

import pytest

from lab.topology import Client

TWIN = Client("twin", 15, "site-psk", "198.18.1.10", "2001:db8:a1::10")
# Wider selectors than acme's, so that replies go on to acme's own tunnel.
GATEWAY = """
include swanctl-shipped.conf
connections {
	site-twin {
		version = 2
		remote_addrs = %any
		local {
			auth = psk
			id = gateway.example
		}
		remote {
			auth = psk
			id = twin.example
		}
		children {
			site-twin {
				local_ts = 0.0.0.0/0, ::/0
				remote_ts = 198.18.0.0/23, 2001:db8:a0::/47
			}
		}
	}
}
secrets {
	ike-twin {
		id = twin.example
		secret = "replace-me-acme-pre-shared-key"
	}
}
"""


def as_twin(text):
    return (text.replace("acme.example", "twin.example").replace("198.18.1.0/24", "198.18.0.0/23")
            .replace("2001:db8:a1::/64", "2001:db8:a0::/47"))


@pytest.fixture(name="twin")
def fixture_twin(lab):
    if lab.esp != "userspace":
        pytest.skip("kernel ESP: the SPI tells tenants with one address apart")
    restore = lab.configure_gateway(GATEWAY)
    yield lab
    if TWIN.name in lab.charons:
        lab.disconnect(TWIN.name)
    restore()


def test_two_tenants_with_one_address_are_both_enforced(twin, watch):
    lab = twin
    lab.grant_and_wait("acme")
    lab.add_client(TWIN, as_twin)
    watch.wait_for("tenant-conflict")
    assert lab.wait_path("acme", None)
    before = lab.bypassed_packets()
    assert lab.verdict("acme", "nontls443", 6) == ("denied", None)
    lab.probe(TWIN.name, "nontls443", timeout=1.0)
    assert lab.bypassed_packets() == before
    lab.disconnect(TWIN.name)
    assert lab.wait_path("acme", "bypass")
