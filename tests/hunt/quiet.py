# SPDX-License-Identifier: GPL-2.0-or-later
"""Now and then everything is mended, and then it must work: the positive control.

Without it, a hunt in which no packet arrives anywhere would find no leak either.
"""

import time

from .choice import Operation
from .truth import MS, SECOND, Broken
from .vici import ViciError

ATTEMPTS = 8
CONTROL_SECONDS, SETTLE_SECONDS = 5, 1


class Quiet:
    def __init__(self, hunt):
        self.hunt = hunt
        self.world = hunt.world
        self.operations = hunt.operations
        self.operator = hunt.operator
        self.checks = self.renewed = 0

    def first(self):
        """Connect whom the choice takes for connected, grant what it takes for granted."""
        self.hunt.wait(lambda: self.operator.status(), "steerd answers")

    def check(self):
        self._mend()
        self.hunt.wait(lambda: self.operator.status().get("state") == "steering",
                       lambda: f"steerd steers: {self.operator.status()}", 30)
        self._settle_exceptions()
        # A tunnel that looks well may yet go, or take no packets: those of whom nothing arrives
        # anywhere get a new one. Flows on the wrong path are steerd's, and it has to mend them.
        missing = None
        for _ in range(ATTEMPTS):
            self._settle_tunnels()
            self.hunt.wait(self._synchronised, self._difference, 30)
            since = time.time_ns()
            missing = self._missing_within(CONTROL_SECONDS, since)
            if not missing:
                break
            for number in {number for _, (number, family) in missing
                           if not self._seen(number, family, since)}:
                self._clear(number)
                self.renewed += 1
        if missing:
            raise Broken("; ".join(self._tell(path, *key) for path, key in missing))
        self.checks += 1

    # Everything in order

    def _mend(self):
        choice, operations = self.hunt.choice, self.operations
        for kind, client in list(choice.intended.faults):
            operations.do(Operation(kind, client=client))
        choice.calm()
        self.world.relay.tell("0")
        self.world.wait_started()
        self.hunt.wait(lambda: not self.operator.pending, "revocations are answered", 30)

    def _settle_exceptions(self):
        """What the choice takes for granted, for long; nothing else."""
        wanted = self.hunt.choice.intended.exempt
        for tenant in self.hunt.tenants:
            active = tenant.active(time.time_ns())
            if tenant.number not in wanted or (active and not self._lasts(active)):
                self.operator.revoke(tenant)
        listed = self._listed()
        for tenant in self.hunt.tenants:
            if tenant.name in listed and not tenant.active(time.time_ns()):
                raise Broken(f"{tenant.name} has an exception that was revoked or has expired")
            if tenant.number in wanted and tenant.name not in listed:
                self.operator.grant(tenant)

    def _listed(self):
        answer = self.operator.ask("exceptions")
        return {e["tenant"] for e in answer.get("exceptions", ()) if e["state"] == "active"}

    def _lasts(self, exemption):
        return 1_000_000 * MS < exemption.until - time.time_ns() < 10_000_000_000 * MS

    def _children(self, role):
        """Connection or identity -> SPIs that its installed child SAs receive with."""
        found = {}
        for name, identity, children in self.world.vicis[role].child_sas():
            key = identity if role == "gw" else name
            spi = "spi-in" if role == "gw" else "spi-out"
            found.setdefault(key, set()).update(child[spi] for child in children)
        return {key: spis for key, spis in found.items() if spis}

    def _state(self):
        """number -> (what the client sends with, what the gateway receives with)."""
        gateway = self._children("gw")
        clients = {client.name: self._children(client.name) for client in self.world.clients}
        return {m.number: (clients[self.world.clients[m.client].name].get(m.connection, set()),
                           gateway.get(m.name, set())) for m in self.world.members}

    def _wrong(self, state):
        """Who is not as intended: its ends differ, or it is up or down against the plan."""
        intended = self.hunt.choice.intended.connected
        return [number for number, (client, gateway) in state.items()
                if client != gateway or bool(client) != (number in intended)]

    def _settle_tunnels(self):
        """First those that are to go, so that their addresses are free. Each time they get longer:
        on a busy machine a new attempt would only end one that was about to succeed."""
        for attempt in range(ATTEMPTS):
            wrong = self._settled_within(SETTLE_SECONDS * (attempt + 1))
            if not wrong:
                return
            for number in wrong:
                self._clear(number)
            for number in wrong:
                if number in self.hunt.choice.intended.connected:
                    self.operations.connect_one(number)
        raise Broken(f"tunnels do not come up or go: {self._state()}")

    def _settled_within(self, seconds):
        end = time.monotonic() + seconds * self.hunt.options.patience
        while True:
            try:
                wrong = self._wrong(self._state())
            except ViciError as error:
                raise Broken(f"charon does not answer: {error}") from error
            if not wrong or time.monotonic() > end:
                return wrong
            self.hunt.watch(0.05)

    def _clear(self, number):
        member = self.world.members[number]
        self.operations.disconnect_one(number)
        for name, identity, _ in self.world.vicis["gw"].child_sas():
            if identity == member.name:
                self.world.vicis["gw"].terminate(name, force=True)
                break

    def _synchronised(self):
        self.known = self.operator.status().get("child_sas")
        self.held = sum(len(spis) for spis in self._children("gw").values())
        return self.known == self.held

    def _difference(self):
        return f"steerd knows {self.known} child SAs, charon has {self.held}"

    # Positive control

    def _missing_within(self, seconds, since):
        """Do every connected tenant's new flows arrive on the path that they should take? Returns
        those that do not."""
        end = time.monotonic() + seconds * self.hunt.options.patience
        intended = self.hunt.choice.intended
        missing = [(("bypass" if number in intended.exempt else "enforce"), (number, family))
                   for number in intended.connected for family in (4, 6)]
        while missing and time.monotonic() < end:
            self.hunt.watch(0.02)
            missing = [(path, key) for path, key in missing
                       if self.hunt.judge.latest[path].get(key, 0) <= since]
        return missing

    def _seen(self, number, family, since):
        return any(latest.get((number, family), 0) > since
                   for latest in self.hunt.judge.latest.values())

    def _tell(self, path, number, family):
        """What is wrong with flows that do not arrive, and what steerd says of their tenant."""
        seen = {path: latest.get((number, family)) for path, latest in
                self.hunt.judge.latest.items()}
        ages = ", ".join(f"{path} {(time.time_ns() - at) / SECOND:.1f} s ago"
                         for path, at in seen.items() if at)
        tenant = self.hunt.tenants[number].name
        explained = self.operator.ask("explain", subject=tenant)
        return (f"new IPv{family} flows of {tenant} do not arrive by {path}; last seen by: "
                f"{ages or 'none'}; steerd says {explained}")
