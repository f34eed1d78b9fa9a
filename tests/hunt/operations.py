# SPDX-License-Identifier: GPL-2.0-or-later
"""What each operation does. None waits for its effect, but for what an operator waits for."""

import signal
import time

from lab.topology import ADMIN_NFT

from . import settings
from .truth import LOSS, STEERD, STREAM
from .vici import ViciError

# To a steerd that is frozen; its answer is collected later.
NO_PATIENCE = 0.002
TABLE = ("inet", "tenant-steer")
ROUTING_TABLE = 5443
RULE_PRIORITY = 5200


class Operations:
    """Methods named after the operations, with _ for -, each taking the Operation."""

    def __init__(self, world, operator, tenants, faults):
        self.world = world
        self.operator = operator
        self.tenants = tenants
        self.faults = faults
        self.frozen = set()  # "steerd", "gw", "relay", names of clients
        self.down = set()
        self.moved = set()
        self.held = {}  # flows of a planted leak

    def do(self, operation):
        """Returns False if it could not be done, because what it is about is away."""
        try:
            return getattr(self, operation.kind.replace("-", "_"))(operation) is not False
        except (ViciError, BrokenPipeError):
            return False

    # Who it is about

    def _member(self, number):
        return self.world.members[number]

    def _vici(self, role):
        if role in self.frozen or role in self.down:
            raise ViciError(f"{role} is away")
        return self.world.vicis[role]

    def _client(self, number):
        """vici of the tenant's own charon."""
        return self._vici(self.world.clients[self._member(number).client].name)

    def _role(self, operation):
        return self.world.clients[operation.client].name

    # Tunnels

    def connect_one(self, number):
        self.tenants[number].connecting = time.time_ns()
        self._client(number).initiate(self._member(number).connection)

    def disconnect_one(self, number, force=True):
        self._client(number).terminate(self._member(number).connection, force)

    def connect(self, operation):
        if operation.other is not None:
            self.disconnect_one(operation.other)
        self.connect_one(operation.tenant)

    def disconnect(self, operation):
        self.disconnect_one(operation.tenant, force=False)

    def reconnect(self, operation):
        self.disconnect_one(operation.tenant)
        self.connect_one(operation.tenant)

    def swap(self, operation):
        self.disconnect_one(operation.tenant)
        self.connect_one(operation.other)

    def rekey_child(self, operation):
        self._client(operation.tenant).rekey(child=self._member(operation.tenant).connection)

    def _rekey_at_gateway(self, number):
        """The gateway knows its child SAs by their numbers: all have one name."""
        member = self._member(number)
        for _, identity, children in self._vici("gw").child_sas():
            if identity == member.name and children:
                self._vici("gw").rekey(**{"child-id": children[0]["uniqueid"]})
                return True
        return False

    def rekey_child_gw(self, operation):
        return self._rekey_at_gateway(operation.tenant)

    def rekey_both(self, operation):
        """Both ends at once: a collision."""
        self.rekey_child(operation)
        return self._rekey_at_gateway(operation.tenant)

    def rekey_ike(self, operation):
        self._client(operation.tenant).rekey(ike=self._member(operation.tenant).connection)

    def reauthenticate(self, operation):
        self._client(operation.tenant).rekey(ike=self._member(operation.tenant).connection,
                                             reauth="yes")

    def move(self, operation):
        """Another address first, then the old one goes: MOBIKE."""
        number, role = operation.client, self._role(operation)
        addresses = [self.world.clients[number].outer4, settings.other_outer(number)]
        if number in self.moved:
            addresses.reverse()
        self.moved ^= {number}
        self.world.batches[role].run(f"address add {addresses[1]}/24 dev eth0",
                                     f"address delete {addresses[0]}/24 dev eth0")

    def send(self, operation):
        member = self._member(operation.tenant)
        self.world.senders[member.client].tell(f"burst {member.number} {operation.number}")

    # Exceptions

    def grant(self, operation):
        if self.steerd_away():
            return False
        return bool(self.operator.grant(self.tenants[operation.tenant], operation.number))

    grant_short = grant

    def revoke(self, operation):
        timeout = NO_PATIENCE if "steerd" in self.frozen else None
        return self.operator.revoke(self.tenants[operation.tenant], timeout) != {}

    # steerd

    def steerd_away(self):
        return "steerd" in self.frozen or "steerd" in self.down

    def freeze_steerd(self, _):
        self._freeze("steerd", self.world.steer.process, STEERD)

    def thaw_steerd(self, _):
        self._thaw("steerd", self.world.steer.process, STEERD)

    def kill_steerd(self, _):
        self.faults.begin(STEERD, time.time_ns())
        self.down.add("steerd")
        self.world.steer.kill()

    def start_steerd(self, _):
        self.world.start_steerd()
        self.down.discard("steerd")
        # It has yet to start and to fetch a snapshot; until then it renews nothing.
        self.faults.end(STEERD, time.time_ns() + self.world.start_allowance)

    def restart_steerd(self, operation):
        """In order, as an upgrade does."""
        if self.steerd_away():
            return False
        self.faults.begin(STEERD, time.time_ns())
        self.world.steer.stop()
        return self.start_steerd(operation)

    def reload_steerd(self, _):
        """Not while it starts: until it handles the signal, it would end."""
        if self.steerd_away() or not self.operator.status():
            return False
        now = time.time_ns()
        self.faults.begin(STEERD, now)
        self.faults.end(STEERD, now + self.world.start_allowance)
        return self.world.steer.process.signal(signal.SIGHUP)

    def resync(self, _):
        return not self.steerd_away() and bool(self.operator.ask("resync"))

    # Processes and links

    def _freeze(self, name, process, fault=None):
        if fault:
            self.faults.begin(fault, time.time_ns())
        self.frozen.add(name)
        process.signal(signal.SIGSTOP)

    def _thaw(self, name, process, fault=None):
        process.signal(signal.SIGCONT)
        self.frozen.discard(name)
        if fault:
            self.faults.end(fault, time.time_ns())

    def _charon_process(self, role):
        """Not while it starts: whoever waits for it would wait in vain."""
        if self.world.started(role):
            return self.world.charons[role].process
        raise ViciError(f"{role} is starting")

    def _freeze_charon(self, role):
        self._freeze(role, self._charon_process(role))

    def _thaw_charon(self, role):
        if role not in self.frozen:
            return False
        return self._thaw(role, self.world.charons[role].process)

    def _kill_charon(self, role):
        self._charon_process(role)
        self.down.add(role)
        self.world.charons[role].kill()

    def _start_charon(self, role):
        if role not in self.down:
            return False
        self.world.start_charon(role)
        return self.down.discard(role)

    def freeze_gateway(self, _):
        self._freeze_charon("gw")

    def thaw_gateway(self, _):
        return self._thaw_charon("gw")

    def kill_gateway(self, _):
        self._kill_charon("gw")

    def start_gateway(self, _):
        return self._start_charon("gw")

    def freeze_client(self, operation):
        self._freeze_charon(self._role(operation))

    def thaw_client(self, operation):
        return self._thaw_charon(self._role(operation))

    def kill_client(self, operation):
        self._kill_charon(self._role(operation))

    def start_client(self, operation):
        return self._start_charon(self._role(operation))

    def freeze_relay(self, _):
        self._freeze("relay", self.world.relay, STREAM)

    def thaw_relay(self, _):
        self._thaw("relay", self.world.relay, STREAM)

    def kill_relay(self, _):
        now = time.time_ns()
        self.faults.begin(STREAM, now)
        self.faults.end(LOSS, now)
        self.world.relay.kill()

    def start_relay(self, _):
        self.world.start_relay()
        self.faults.end(STREAM, time.time_ns() + self.world.start_allowance)

    def lose_events(self, operation):
        if "relay" in self.frozen or not self.world.relay.alive():
            return False
        self.faults.begin(LOSS, time.time_ns())
        return self.world.relay.tell(str(operation.number))

    def wan_down(self, operation):
        self.world.batches["wan"].run(f"link set {self._role(operation)} down")

    def wan_up(self, operation):
        self.world.batches["wan"].run(f"link set {self._role(operation)} up")

    def bypass_down(self, _):
        self.world.batches["gw"].run("link set bypass down")

    def bypass_up(self, _):
        self.world.batches["gw"].run("link set bypass up")

    # What a stranger may do to the gateway

    def _nft(self, *words, **kwargs):
        return self.world.on_gateway("nft", *words, **kwargs).returncode == 0

    def delete_table(self, _):
        return self._nft("delete", "table", *TABLE)

    def flush_ruleset(self, _):
        return self._nft("-f", "-", input="flush ruleset\n" + ADMIN_NFT)

    def flush_set(self, _):
        name = "sa_skype" if self.world.esp == "kernel" else "host4_skype"
        return self._nft("flush", "set", *TABLE, name)

    def foreign_commit(self, _):
        return self._nft("-f", "-", input=ADMIN_NFT)

    def delete_rule(self, _):
        self.world.batches["gw"].run(f"rule delete priority {RULE_PRIORITY}",
                                     f"-6 rule delete priority {RULE_PRIORITY}")

    def flush_routes(self, _):
        self.world.batches["gw"].run(f"route flush table {ROUTING_TABLE}",
                                     f"-6 route flush table {ROUTING_TABLE}")

    def flush_conntrack(self, _):
        return self.world.on_gateway("conntrack", "-F").returncode == 0
