# SPDX-License-Identifier: GPL-2.0-or-later
"""A leak on purpose, to see that the judge sees it: a stranger lets a tenant without an exception
pass, while steerd cannot look."""

import time


def element(hunt, member):
    """The set and the element that lets the tenant pass."""
    for _, identity, children in hunt.world.vicis["gw"].child_sas():
        if identity == member.name and children:
            if hunt.world.esp == "kernel":
                return "sa_skype", f"0x{children[0]['spi-in']}"
            return "host4_skype", children[0]["remote-ts"][0].split("/")[0]
    return None


def victim(hunt):
    """A connected road warrior without an exception; connected now, if there is none."""
    intended = hunt.choice.intended
    for member in hunt.world.members:
        if member.pool is not None and member.number in intended.connected:
            hunt.operator.revoke(hunt.tenants[member.number])
            intended.exempt.discard(member.number)
            return member
    return None


def plant(hunt):
    """Returns the number of the tenant that passes, until the judge has seen it.

    Everything was in order just before, so nobody has a window to pass in: without this the judge
    may take the tenant for somebody who has had an exempt one's address for a moment."""
    windows, hunt.judge.windows = hunt.judge.windows, None
    member = victim(hunt)
    name, value = element(hunt, member)
    hunt.note(f"planted: {name} {value}")
    hunt.operations.freeze_steerd(None)
    hunt.world.on_gateway("nft", "add", "element", "inet", "tenant-steer", name, f"{{ {value} }}")
    end = time.monotonic() + hunt.options.patience
    while not hunt.judge.leaks and time.monotonic() < end:
        hunt.watch(0.05)
    hunt.operations.thaw_steerd(None)
    hunt.judge.windows = windows
    return member.number
