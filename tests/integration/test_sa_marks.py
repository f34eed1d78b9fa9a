# SPDX-License-Identifier: GPL-2.0-or-later
"""Marks on SAs and policies are an admin's: steerd keeps them, and takes none for its own."""

import pytest

# acme's policies want a mark, which the admin's rules give to answers. What globex sends is marked
# as steerd marks what is to be bypassed.
GATEWAY = """
include swanctl-shipped.conf
connections {
	site-psk {
		children {
			site-psk {
				set_mark_in = 0x2b/0xff
				mark_in = 0x2b/0xff
				mark_out = 0x2b/0xff
			}
		}
	}
	site-certificate {
		children {
			site-certificate {
				set_mark_in = 0x01000000
			}
		}
	}
}
"""
NFT = """
table inet marks
delete table inet marks
table inet marks {
	chain keep {
		type filter hook prerouting priority mangle - 10; policy accept;
		meta mark & 0xff == 0x2b ct mark set ct mark & 0xffffff00 | 0x2b
		ct direction reply ct mark & 0xff == 0x2b meta mark set meta mark & 0xffffff00 | 0x2b
	}
}
"""


@pytest.fixture(name="marked")
def fixture_marked(lab):
    if lab.esp != "kernel":
        pytest.skip("this kernel has no ESP; tests/vm/run runs this test on one that has")
    restore = lab.configure_gateway(GATEWAY)
    lab.network.nft("gw", NFT)
    for name in ("acme", "globex"):
        lab.reconnect(name)
    yield lab
    restore()
    for name in ("acme", "globex"):
        lab.reconnect(name)
    lab.network.exec("gw", "nft", "delete", "table", "inet", "marks")


def test_an_admins_marks_stay_and_grant_nothing(marked):
    lab = marked
    acme, globex = [("acme", 4), ("acme", 6)], [("globex", 4), ("globex", 6)]
    before = [lab.bypassed_packets(lab.source(*one)) for one in globex]
    assert lab.verdicts("nontls443", *acme, *globex) == [("denied", None)] * 4
    lab.grant_and_wait("acme")
    assert lab.verdicts("nontls443", *acme) == [("answered", "bypass")] * 2
    assert lab.verdicts("nontls443", *globex) == [("denied", None)] * 2
    assert lab.verdicts("tls443", *globex) == [("answered", "enforce")] * 2
    assert [lab.bypassed_packets(lab.source(*one)) for one in globex] == before
