# SPDX-License-Identifier: GPL-2.0-or-later
"""What to do next, from the seed alone: nothing here knows what became of the last operation.

So a seed gives the same operations each time, though not at the same moments. Faults last for a
number of operations, not of seconds.
"""

import random
from dataclasses import dataclass, field

# How often, relative to one another. The second column: how often where everything is slow.
TENANT_OPERATIONS = {
    "send": (18, 18), "connect": (8, 6), "disconnect": (4, 3), "swap": (12, 8),
    "reconnect": (4, 3), "rekey-child": (10, 10), "rekey-child-gw": (6, 6),
    "rekey-both": (4, 4), "rekey-ike": (5, 4), "reauthenticate": (2, 1),
    "grant": (8, 8), "grant-short": (6, 6), "revoke": (9, 9),
}
# About exceptions; all others are about tunnels. For whom has none yet; all others for who has one.
EXEMPTING = ("grant", "grant-short", "revoke")
GAINING = ("grant", "grant-short", "connect")
ANY_SHARE = 0.1
# Faults that last, and what ends them; the third column is the longest, in operations.
LASTING = {
    "freeze-steerd": ("thaw-steerd", (0.35, 0.35), 500),
    "kill-steerd": ("start-steerd", (0.35, 0.35), 500),
    "freeze-gateway": ("thaw-gateway", (0.7, 0.4), 120),
    "kill-gateway": ("start-gateway", (0.4, 0.2), 60),
    "freeze-client": ("thaw-client", (0.7, 0.4), 60),
    "kill-client": ("start-client", (0.3, 0.2), 60),
    "freeze-relay": ("thaw-relay", (0.2, 0.2), 500),
    "kill-relay": ("start-relay", (0.2, 0.2), 60),
    "wan-down": ("wan-up", (0.8, 0.5), 60),
    "bypass-down": ("bypass-up", (0.4, 0.3), 60),
}
MOMENTARY = {
    "move": (3, 2), "lose-events": (3, 3), "delete-table": (0.7, 0.7), "flush-ruleset": (0.5, 0.4),
    "delete-rule": (1.0, 1.0), "flush-routes": (0.6, 0.6), "flush-set": (0.8, 0.8),
    "foreign-commit": (0.8, 0.8), "flush-conntrack": (0.8, 0.6), "reload-steerd": (0.6, 0.5),
    "resync": (0.6, 0.6), "restart-steerd": (0.4, 0.3),
}
LIFETIMES = (1, 1, 1, 2, 2, 3, 5)
# A fault of the whole gateway ends within this share of the longest, in most cases.
SHORT_SHARE = 0.25


@dataclass(frozen=True)
class Operation:
    kind: str
    tenant: int = None
    other: int = None
    client: int = None
    number: int = 0

    def __str__(self):
        words = [self.kind]
        words += [f"t{n:02}" for n in (self.tenant, self.other) if n is not None]
        words += [f"client{self.client}"] if self.client is not None else []
        words += [str(self.number)] if self.number else []
        return " ".join(words)


@dataclass
class Intended:
    """How things would be if everything had succeeded."""

    connected: set = field(default_factory=set)
    exempt: set = field(default_factory=set)
    faults: dict = field(default_factory=dict)  # what ends it -> operations until then


class Choice:
    """tenants: each with .number, .pool, .client; room: addresses of each pool."""

    def __init__(self, seed, tenants, clients, room, slow):
        self.random = random.Random(seed)
        self.tenants = tenants
        self.clients = clients
        self.room = room
        self.intended = Intended(exempt={t.number for t in tenants if t.number % 2 == 0})
        column = 1 if slow else 0
        self.longest_share = 0.2 if slow else 1.0
        weights = {kind: w[column] for kind, w in {**TENANT_OPERATIONS, **MOMENTARY}.items()}
        weights.update({kind: w[column] for kind, (_, w, _) in LASTING.items()})
        self.kinds, self.weights = list(weights), list(weights.values())
        for tenant in tenants:
            self._connect(tenant)

    def _connect(self, tenant):
        """Returns who has to leave for it."""
        sharing = [t.number for t in self.tenants
                   if t.pool is not None and t.pool == tenant.pool
                   and t.number in self.intended.connected]
        leaves = None
        if tenant.number not in sharing and len(sharing) >= self.room:
            leaves = self.random.choice(sharing)
            self.intended.connected.discard(leaves)
        self.intended.connected.add(tenant.number)
        return leaves

    def _due(self):
        """The end of a fault whose time has come."""
        ended = None
        for key in self.intended.faults:
            self.intended.faults[key] -= 1
            if ended is None and self.intended.faults[key] <= 0:
                ended = key
        if ended is not None:
            del self.intended.faults[ended]
        return ended

    def next(self):
        ended = self._due()
        if ended is not None:
            return Operation(ended[0], client=ended[1])
        while True:
            kind = self.random.choices(self.kinds, self.weights)[0]
            operation = self._operation(kind)
            if operation:
                return operation

    def _operation(self, kind):
        if kind in LASTING:
            return self._fault(kind)
        if kind in TENANT_OPERATIONS:
            return self._of_tenant(kind, self._tenant(kind))
        if kind == "move":
            return Operation(kind, client=self.random.randrange(self.clients))
        if kind == "lose-events":
            return Operation(kind, number=self.random.choice((1, 1, 1, 2, 3, 8)))
        return Operation(kind)

    def _tenant(self, kind):
        """Mostly one for whom the operation means something, now and then any."""
        members = self.intended.exempt if kind in EXEMPTING else self.intended.connected
        fitting = [t for t in self.tenants if (t.number in members) != (kind in GAINING)]
        if not fitting or self.random.random() < ANY_SHARE:
            fitting = self.tenants
        return self.random.choice(fitting)

    def _fault(self, kind):
        """None if such a fault, or one of the same process, is there already."""
        end, _, longest = LASTING[kind]
        client = self.random.randrange(self.clients) if "client" in kind or "wan" in kind else None
        subject = kind.split("-")[1], client
        if any((key[0].split("-")[1], key[1]) == subject for key in self.intended.faults):
            return None
        longest = max(2, round(longest * self.longest_share))
        if self.random.random() < 0.7:
            longest = max(2, round(longest * SHORT_SHARE))
        self.intended.faults[end, client] = self.random.randint(1, longest)
        return Operation(kind, client=client)

    def _of_tenant(self, kind, tenant):
        number = tenant.number
        if kind == "connect":
            return Operation("connect", number, other=self._connect(tenant))
        if kind == "disconnect":
            self.intended.connected.discard(number)
        elif kind == "swap":
            return self._swap(tenant)
        elif kind == "send":
            return Operation(kind, number, number=self.random.randint(2, 20))
        elif kind in ("grant", "grant-short"):
            if self._away("steerd"):
                return None
            self.intended.exempt.add(number)
            lifetime = self.random.choice(LIFETIMES) if kind == "grant-short" else 0
            return Operation(kind, number, number=lifetime)
        elif kind == "revoke":
            self.intended.exempt.discard(number)
        return Operation(kind, number)

    def _swap(self, tenant):
        """A road warrior that is not connected takes the place of one that is."""
        others = [t for t in self.tenants if t.pool is not None and t.pool == tenant.pool
                  and t.number not in self.intended.connected]
        if tenant.number not in self.intended.connected or not others:
            return None
        other = self.random.choice(others)
        self.intended.connected.discard(tenant.number)
        self.intended.connected.add(other.number)
        return Operation("swap", tenant.number, other=other.number)

    def _away(self, what):
        return any(key[0].split("-")[1] == what for key in self.intended.faults)

    def calm(self):
        """All faults end: what a quiet check does."""
        self.intended.faults.clear()
