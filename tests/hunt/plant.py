# SPDX-License-Identifier: GPL-2.0-or-later
"""A leak on purpose, to see that the judge sees it: a stranger lets a tenant without an exception
pass, while steerd cannot look."""

import time


def victims(hunt):
    intended = hunt.choice.intended
    return sorted(intended.connected - intended.exempt)


def element(hunt, number):
    """The set and the element that lets the tenant pass."""
    member = hunt.world.members[number]
    if hunt.world.esp == "kernel":
        for _, identity, children in hunt.world.vicis["gw"].child_sas():
            if identity == member.name and children:
                return "sa_skype", f"0x{children[0]['spi-in']}"
    for _, identity, children in hunt.world.vicis["gw"].child_sas():
        if identity == member.name and children:
            address = children[0]["remote-ts"][0].split("/")[0]
            return ("host4_skype", address) if member.pool is not None else \
                ("net4_skype", children[0]["remote-ts"][0])
    return None


def plant(hunt):
    found = [number for number in victims(hunt) if hunt.world.members[number].pool is not None]
    name, value = element(hunt, (found or victims(hunt))[0])
    hunt.note(f"planted: {name} {value}")
    hunt.operations.freeze_steerd(None)
    hunt.world.on_gateway("nft", "add", "element", "inet", "tenant-steer", name, f"{{ {value} }}")
    end = time.monotonic() + hunt.options.patience
    while not hunt.judge.leaks and time.monotonic() < end:
        hunt.watch(0.05)
    hunt.operations.thaw_steerd(None)
