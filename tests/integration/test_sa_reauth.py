# SPDX-License-Identifier: GPL-2.0-or-later
"""Reauthentication: the same tenant stays exempt and keeps its flows, another one is enforced.

In both modes: what counts is the order in which SAs come and go.
"""

import pytest

MAKE_BEFORE_BREAK = "charon {\n\tmake_before_break = yes\n}\n"
# A second connection of the customer that authenticates as somebody else, from the same site.
OTHER_AT_GATEWAY = """
include swanctl-shipped.conf
connections {
	site-other {
		version = 2
		remote_addrs = %any
		local {
			auth = psk
			id = gateway.example
		}
		remote {
			auth = psk
			id = other.example
		}
		children {
			site-other {
				local_ts = 0.0.0.0/0, ::/0
				remote_ts = 198.18.1.0/24, 2001:db8:a1::/64
			}
		}
	}
}
secrets {
	ike-other {
		id = other.example
		secret = "replace-me-acme-pre-shared-key"
	}
}
"""
OTHER_AT_SITE = """
connections {
	other {
		version = 2
		remote_addrs = 192.0.2.1
		local {
			auth = psk
			id = other.example
		}
		remote {
			auth = psk
			id = gateway.example
		}
		children {
			other {
				local_ts = 198.18.1.0/24, 2001:db8:a1::/64
				remote_ts = 0.0.0.0/0, ::/0
			}
		}
	}
}
"""


@pytest.fixture(name="order", params=("make-before-break", "break-before-make"))
def fixture_order(lab, request):
    """How the customers authenticate again: an IKE_SA keeps what was configured at its start."""
    for name in ("acme", "roadwarrior"):
        lab.charons[name].set_options(MAKE_BEFORE_BREAK if request.param.startswith("make") else "")
        lab.reconnect(name)
    lab.wait_synchronised()
    yield request.param
    for name in ("acme", "roadwarrior"):
        lab.charons[name].set_options("")


@pytest.mark.parametrize("customer, tenant", (("acme", "acme"), ("roadwarrior", "initech")))
def test_same_tenant_stays_exempt_and_keeps_its_flows(lab, flows, order, customer, tenant):
    lab.grant_and_wait(tenant, customer)
    source = lab.source(customer)
    running = [flows(customer, family) for family in (4, 6)]
    for flow in running:
        assert flow.path == "bypass"
        flow.wait_progress()
    before = lab.bypassed_packets(lab.source("globex"))
    for _ in range(2):
        lab.charons[customer].rekey("ike", None, "--reauth", deadline=20)
        for flow in running:
            flow.wait_progress()
    assert lab.source(customer) == source
    assert lab.verdicts("nontls443", (customer, 4), (customer, 6)) == [("answered", "bypass")] * 2
    for flow in running:
        last = flow.stop()
        assert last["complete"], (order, last)
    assert lab.verdict("globex", "nontls443") == ("denied", None)
    assert lab.bypassed_packets(lab.source("globex")) == before


@pytest.fixture(name="other")
def fixture_other(lab):
    """acme's site can also connect as tenant other.example."""
    site = lab.charons["acme"]
    shipped = (site.swanctl_dir / "swanctl.conf").read_text()
    restore = lab.configure_gateway(OTHER_AT_GATEWAY)
    site.configure(shipped + OTHER_AT_SITE)
    yield site
    site.swanctl("--terminate", "--ike", "other", "--force", check=False)
    site.configure(shipped)
    restore()


@pytest.mark.parametrize("first", ("make", "break"))
def test_another_tenant_in_its_place_is_enforced(lab, other, flows, eventually, first):
    lab.grant_and_wait("acme")
    flow = flows("acme")
    assert flow.path == "bypass"
    flow.wait_progress()
    steps = [lambda: other.initiate("other"), lambda: lab.disconnect("acme")]
    for step in steps if first == "make" else reversed(steps):
        step()
    eventually(lab.bypass_is_quiet, "what acme sent is through")
    before = lab.bypassed_packets()
    acme = [("acme", 4), ("acme", 6)]
    assert lab.verdicts("nontls443", *acme) == [("denied", None)] * 2
    assert lab.verdicts("tls443", *acme) == [("answered", "enforce")] * 2
    assert flow.stalled(0.5) or flow.ended()
    assert lab.bypassed_packets() == before
    lab.steer.grant("other.example")
    assert lab.wait_path("acme", "bypass")
