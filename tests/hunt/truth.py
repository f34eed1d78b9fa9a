# SPDX-License-Identifier: GPL-2.0-or-later
"""What the operators have been told, and whether a packet agrees with it.

All times are nanoseconds of the wall clock, which kernel, senders and hunt share.

A packet on the bypass side is a leak if its tenant had no active exception at any moment from
when it was sent to when it was captured. An exception counts from the moment a grant is asked
for until a revocation has returned, or until it expires.
"""

import collections

from .packet import NEW

MS = 1_000_000
SECOND = 1_000_000_000
FOREVER = 1 << 62

# In address mode (docs/architecture.md) the tenant that gets another's address passes for it until
# steerd has heard of it; the hunt's relay and a busy machine are in this ...
HEARING = 100 * MS
# ... if events were lost, until the next event or heartbeat shows it ...
HEARTBEAT = 1000 * MS
# ... and if nothing comes any more, until steerd has noticed the silence.
SILENCE_TICK = 250 * MS
NOTHING = "nothing was wrong"
STEERD, STREAM, LOSS = "steerd hung or away", "the stream hung", "events were lost"


class Broken(Exception):
    """Something is wrong that is not a leak: a daemon died, a control failed."""


class Exemption:
    """One tenant's active exception, from asking for it to its end."""

    def __init__(self, since, until):
        self.since = since
        self.until = until


class Tenant:
    def __init__(self, number, name, pool):
        self.number = number
        self.name = name
        self.pool = pool  # of virtual IPs, None: an address of its own
        self.exemptions = collections.deque(maxlen=512)
        self.connecting = 0  # when it was last told to connect

    def active(self, now):
        """The exception that may be active now, or None."""
        last = self.exemptions[-1] if self.exemptions else None
        return last if last and last.until >= now else None

    def exempt_within(self, start, end):
        return any(e.since <= end and e.until >= start for e in self.exemptions)

    def granting(self, now):
        """A grant is asked for: from now on it may be active; returns its exemption."""
        self.exemptions.append(Exemption(now, FOREVER))
        return self.exemptions[-1]

    def revoked(self, end):
        """A revocation has returned, or steerd has said that there is nothing to revoke."""
        last = self.exemptions[-1] if self.exemptions else None
        if last:
            last.until = min(last.until, end)


class Faults:
    """When something was broken that the documented windows depend on."""

    def __init__(self):
        self.spans = collections.defaultdict(lambda: collections.deque(maxlen=256))

    def begin(self, kind, now):
        spans = self.spans[kind]
        if not spans or spans[-1][1] != FOREVER:
            spans.append([now, FOREVER])

    def end(self, kind, now):
        spans = self.spans[kind]
        if spans and spans[-1][1] == FOREVER:
            spans[-1][1] = now

    def holds(self, kind, since, arrived, until):
        """Did the address change hands under such a fault, whose window was still open?"""
        return any(begin - HEARING <= since and begin <= arrived <= until(begin, end)
                   for begin, end in self.spans[kind])


class Holders:
    """Since when an address is its sender's. A customer whose gateway died keeps its address, and its
    sender believes in it, while the gateway gives it to another one, and then perhaps back: whoever was
    told to connect after another one's last packet came from there does not have it for longer."""

    def __init__(self, tenants):
        self.tenants = tenants
        self.last = {}    # source -> tenant and when its last packet left
        self.former = {}  # source -> the same of the tenant before it

    def note(self, packet):
        tenant, sent = self.last.get(packet.source, (packet.tenant, 0))
        if packet.sent < sent:
            return
        if tenant != packet.tenant:
            self.former[packet.source] = tenant, sent
        self.last[packet.source] = packet.tenant, packet.sent

    def since(self, packet):
        _, sent = self.former.get(packet.source, (None, 0))
        handed = self.tenants[packet.tenant].connecting >= sent
        return max(packet.since, sent) if handed else packet.since


class Windows:
    """The documented windows of address mode: how long a hand-over may show, by its cause."""

    def __init__(self, tenants, faults, lease, lost_after, slack):
        self.tenants = tenants
        self.faults = faults
        self.hearing = HEARING + slack
        # fault -> until when a hand-over that it has hidden may show.
        self.until = {
            STEERD: lambda begin, end: min(begin + lease, end + HEARING) + slack,
            STREAM: lambda begin, end: min(begin + lost_after + SILENCE_TICK,
                                           end + HEARTBEAT + HEARING) + slack,
            LOSS: lambda begin, end: end + HEARTBEAT + HEARING + slack,
        }
        self.longest = lease + lost_after + 10 * SECOND
        self.worst = collections.Counter()
        self.counts = collections.Counter()

    def _handed_over(self, packet):
        """Did somebody of the same pool have an exception, in whose place the sender is now?"""
        own = self.tenants[packet.tenant]
        return own.pool is not None and any(
            other.pool == own.pool and other is not own and
            other.exempt_within(packet.since - self.longest, packet.arrived)
            for other in self.tenants)

    def _cause(self, packet):
        for fault, until in self.until.items():
            if self.faults.holds(fault, packet.since, packet.arrived, until):
                return fault
        return NOTHING if packet.arrived - packet.since <= self.hearing else None

    def explain(self, packet):
        """The cause for which a packet may be on the bypass side, or None."""
        cause = self._cause(packet) if self._handed_over(packet) else None
        if cause:
            self.counts[cause] += 1
            self.worst[cause] = max(self.worst[cause], packet.arrived - packet.since)
        return cause


class Judge:
    """windows is None where there are none: in SA mode."""

    def __init__(self, tenants, windows):
        self.tenants = tenants
        self.windows = windows
        self.holders = Holders(tenants)
        self.counts = collections.Counter()
        self.leaks = []
        self.latest = collections.defaultdict(dict)
        self.late = 0  # how long after the last moment of an exception a packet arrived

    def _note_lateness(self, tenant, packet):
        before = [e for e in tenant.exemptions if e.since <= packet.arrived]
        if before and before[-1].until < packet.arrived:
            self.late = max(self.late, packet.arrived - before[-1].until)

    def take(self, path, packet):
        """Judge one packet that a next hop reported; returns whether it is a leak."""
        if packet.tenant is None or packet.tenant >= len(self.tenants):
            self.counts[path, "unknown"] += 1
            return path == "bypass" and self._leak(packet)
        tenant = self.tenants[packet.tenant]
        self.holders.note(packet)
        packet = packet._replace(since=self.holders.since(packet))
        exempt = tenant.exempt_within(packet.sent, packet.arrived)
        if packet.kind == NEW:
            self.latest[path][packet.tenant, packet.family] = packet.sent
        documented = path == "bypass" and not exempt and self.windows and \
            self.windows.explain(packet)
        self.counts[path, "exempt" if exempt else "documented" if documented
                    else "not exempt"] += 1
        if path == "bypass" and exempt:
            self._note_lateness(tenant, packet)
        return path == "bypass" and not exempt and not documented and self._leak(packet)

    def _leak(self, packet):
        self.leaks.append(packet)
        return True
