# SPDX-License-Identifier: GPL-2.0-or-later
"""What a packet's way through the gateway costs: ns a packet for each step, TCP, 60-byte frames.

    sender --veth--> gateway --veth--> far side, by the ordinary way or by the bypass

Each step has a gateway (a namespace) of its own, all measured in turn in each round, so that
whatever else the machine does meets them all alike. Sender, gateway and far side work on one
processor, one packet after the other: a packet's time is all of theirs, see bench_path.c. The
baseline is a gateway with conntrack and strongSwan's rule for its table 220. steerd itself makes
the table and fills it, from the events of a charon that bench_publisher plays. It works in address
mode: without ESP in the kernel no packet has an SA, so the set is one of addresses.
"""

import contextlib
import json
import random
import subprocess
import tempfile
from dataclasses import dataclass

from lab.system import LabError, run, wait_until

from benchlib import PREFIX, QUEUE, STEERD_CORE, Gateway, Publisher, other_core, percentile

ROUNDS = 9
MANY, FEW = 100000, 1000
# Behind those of the exempt, see bench_publisher.c.
NOT_EXEMPT = 100001
WARM, WIDE, COLD = 1024, 16384, 16384
PACKETS = 100 * 1024
# Where a packet takes ten microseconds.
PACKETS_SLOW = 10 * 1024
# The store; a disk would take minutes for so many exceptions.
MEMORY = "/dev/shm"
SRC, DST = PREFIX + "src", PREFIX + "dst"
GATEWAY_MAC, NOBODYS_MAC = "02:00:00:00:00:01", "02:00:00:00:00:ff"
TENANTS_NET = "198.18.0.0/15"
MARK, TABLE = "0x01000000/0x0f000000", 5443
# gateway's interface, its address, next hop
LINKS = (("in", "192.0.2.1", "192.0.2.2"), ("out", "192.0.2.5", "192.0.2.6"),
         ("bypass", "192.0.2.9", "192.0.2.10"))

SHARES = (("other ports", 0.95), ("other 443", 0.92), ("exempt 443", 0.88))
GROWTH_MAX = 1.10
TIMES = (("ip rules", 8.0), ("iptables-nft", 7.0), ("iptables-legacy", 3.5))


def ip(netns, *words, **kwargs):
    return run("ip", "-n", netns, *words, **kwargs)


class PathGateway(Gateway):
    """A gateway between the sender's and the far side's namespace."""

    mode = "address"
    # bench_publisher has the sender's core, which is never idle.
    lost_after = "60s"
    via = "192.0.2.10"

    def connect(self):
        role = self.netns.removeprefix(PREFIX)
        # Nothing of its own accord.
        run(*self.command("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1"))
        for (name, address, hop), (end, peer) in zip(
                LINKS, ((SRC, role), (DST, role), (DST, role + "-b"))):
            ip(self.netns, "link", "add", name, "address", GATEWAY_MAC, "type", "veth",
               "peer", "name", peer, "netns", end)
            ip(self.netns, "address", "add", f"{address}/30", "dev", name)
            ip(self.netns, "link", "set", "dev", name, "up")
            ip(end, "link", "set", "dev", peer, "up")
            # Frames that are for somebody else: the far side drops them before it routes.
            ip(self.netns, "neighbour", "add", hop, "lladdr", NOBODYS_MAC, "dev", name)
        run(*self.command("sysctl", "-qw", "net.ipv4.ip_forward=1",
                          "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0",
                          *(f"net.ipv4.conf.{name}.rp_filter=0" for name, _, _ in LINKS)))
        ip(self.netns, "route", "add", "default", "via", LINKS[1][2])
        ip(self.netns, "route", "add", TENANTS_NET, "via", LINKS[0][2])

    def stop(self):
        if self.steerd:
            self.steerd.stop()
            self.steerd = None

    def nft(self, text):
        run(*self.command("nft", "-f", "-"), input=text, timeout=300)

    # The steps, each with all before it.

    def conntrack(self):
        """A rule in a chain that no packet comes by switches it on."""
        self.nft("table inet on {\n chain never {\n ct state new\n }\n}\n")

    def baseline(self):
        self.conntrack()
        ip(self.netns, "rule", "add", "priority", 220, "lookup", 220)
        ip(self.netns, "route", "add", TENANTS_NET, "via", LINKS[0][2], "table", 220)

    def bypass_table(self, *rule):
        ip(self.netns, "route", "add", "default", "via", LINKS[2][2], "table", TABLE)
        if rule:
            ip(self.netns, "rule", "add", "priority", 5200, *rule, "lookup", TABLE)

    def ip_rules(self):
        self.baseline()
        self.bypass_table()
        rules = (f"rule add priority {5200 + n} from {address} ipproto 6 dport 443 lookup {TABLE}"
                 for n, address in enumerate(addresses(FEW)))
        ip(self.netns, "-batch", "-", input="\n".join(rules), timeout=300)

    def nft_rules(self):
        self.baseline()
        self.bypass_table("fwmark", MARK)
        mark, mask = MARK.split("/")
        rules = "\n".join(f"ip saddr {address} tcp dport 443 meta mark set meta mark & "
                          f"{0xffffffff ^ int(mask, 0):#x} | {mark}" for address in addresses(FEW))
        self.nft("table inet per-tenant {\n chain pre {\n type filter hook prerouting priority "
                 f"mangle; policy accept;\n{rules}\n }}\n}}\n")

    def iptables(self, variant):
        self.baseline()
        self.bypass_table("fwmark", MARK)
        rules = "\n".join(f"-A PREROUTING -s {address}/32 -p tcp --dport 443 -j MARK --set-xmark "
                          f"{MARK}" for address in addresses(FEW))
        run(*self.command(f"{variant}-restore"), input=f"*mangle\n{rules}\nCOMMIT\n", timeout=300)


def addresses(count):
    """Those of the first child SAs, see bench_publisher.c."""
    return [f"198.{18 + (n >> 16)}.{n >> 8 & 255}.{n & 255}" for n in range(count)]


def steers(gateway, count):
    try:
        status = gateway.status()
    except OSError:
        return False
    return status["state"] == "steering" and status["exempt_child_sas"] == count


@contextlib.contextmanager
def steered(gateway, count):
    """steerd on a gateway, with as many exempt child SAs of one tenant each."""
    gateway.baseline()
    with contextlib.ExitStack() as stack:
        memory = stack.enter_context(tempfile.TemporaryDirectory(dir=MEMORY))
        gateway.new_store(("t", count), directory=memory)
        publisher = Publisher(gateway, count, count, QUEUE, esp="userspace")
        stack.callback(publisher.stop)
        stack.callback(gateway.stop)
        publisher.order("hold", 0, count)
        gateway.start(core=STEERD_CORE, wait=False)
        wait_until(lambda: steers(gateway, count), f"{count} child SAs are steered", 300)
        yield


class Sender:
    """bench_path, on a processor without steerd."""

    def __init__(self, programs):
        self.popen = subprocess.Popen(
            ["taskset", "-c", str(other_core()), str(programs / "bench_path")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, *words):
        self.popen.stdin.write(" ".join(str(word) for word in words) + "\n")
        self.popen.stdin.flush()
        answer = self.popen.stdout.readline()
        if not answer:
            raise LabError(f"bench_path ended with {self.popen.wait()}")
        return json.loads(answer)

    def close(self):
        self.popen.stdin.close()
        self.popen.wait(30)
        self.popen.stdout.close()


@dataclass(frozen=True)
class Lane:
    """One kind of packets through one gateway."""

    gateway: str
    name: str
    first: int = 0                  # whose they are: child SAs, see bench_path.c
    span: int = MANY
    port: int = 443
    flows: int = WARM
    packets: int = PACKETS
    kind: str = "ack"               # syn: each packet is a flow's first
    arrives: str = "out"            # where they come out; "": nowhere

    @property
    def key(self):
        return f"{self.gateway}: {self.name}"


def lanes_of(gateway, span, exempt_to, slow=False):
    """Every kind of packet."""
    packets = PACKETS_SLOW if slow else PACKETS
    exempt = {"span": span, "arrives": exempt_to}
    other = {"first": NOT_EXEMPT, "span": 31000}
    yield Lane(gateway, "exempt 443", packets=packets, **exempt)
    yield Lane(gateway, "other 443", packets=packets, **other)
    yield Lane(gateway, "other ports", packets=packets, span=span, port=80)
    if slow:
        return
    yield Lane(gateway, "exempt 443, many flows", flows=WIDE, packets=4 * WIDE, **exempt)
    yield Lane(gateway, "other 443, many flows", flows=WIDE, packets=4 * WIDE, **other)
    yield Lane(gateway, "other ports, many flows", flows=WIDE, packets=4 * WIDE, span=span, port=80)
    cold = {"flows": COLD, "packets": COLD, "kind": "syn"}
    yield Lane(gateway, "exempt 443, first packets", **exempt, **cold)
    yield Lane(gateway, "other 443, first packets", **other, **cold)
    yield Lane(gateway, "other ports, first packets", span=span, port=80, **cold)
    yield Lane(gateway, "exempt 443, replies", span=span, kind="reply", arrives="in")
    yield Lane(gateway, "other 443, replies", **{**other, "arrives": "in"}, kind="reply")


# The steps before ours, whose packets are all alike; and what else an admin could do.
STEPS = ("bare", "conntrack", "baseline")
OURS = {f"steerd {FEW}": FEW, f"steerd {MANY}": MANY}
RULES = {"ip rules": PathGateway.ip_rules, "nft rules": PathGateway.nft_rules,
         "iptables-nft": lambda gateway: gateway.iptables("iptables-nft"),
         "iptables-legacy": lambda gateway: gateway.iptables("iptables-legacy")}
SET_UP = {"link": None, "bare": None, "conntrack": PathGateway.conntrack,
          "baseline": PathGateway.baseline, **RULES}


def all_lanes():
    yield Lane("link", "any, dropped where it arrives", arrives="")
    yield Lane("bare", "any", kind="ack")
    yield Lane("conntrack", "any")
    yield from lanes_of("baseline", MANY, "out")
    for gateway, count in OURS.items():
        yield from lanes_of(gateway, count, "bypass")
    for gateway in RULES:
        yield from lanes_of(gateway, FEW, "bypass", slow=True)


def role_of(gateway):
    return gateway.replace(" ", "-")[:12]


class Runner:
    """Prepares lanes and runs them; checks that each packet came out where it should."""

    def __init__(self, sender):
        self.sender = sender
        self.numbers = {}

    def number(self, lane, kind):
        key = (lane, kind)
        if key not in self.numbers:
            role = role_of(lane.gateway)
            netns, interface = (SRC, role) if kind in ("syn", "ack") else (DST, role)
            self.numbers[key] = self.sender.ask(
                "lane", netns, interface, lane.flows, lane.first, lane.span,
                97 if lane.span > 97 * 100 else 1, lane.port, kind)["lane"]
        return self.numbers[key]

    def forget_flows(self, lane):
        run("ip", "netns", "exec", PREFIX + role_of(lane.gateway), "conntrack", "-F")

    def shake_hands(self, lane):
        for kind in ("syn", "synack", "ack"):
            self.sender.ask("send", self.number(lane, kind), 1)

    def send(self, lane):
        """What bench_path says about it."""
        done = self.sender.ask("send", self.number(lane, lane.kind), lane.packets // lane.flows)
        if done["refused"]:
            raise LabError(f"{lane.key}: {done}")
        return done

    def check(self, lane):
        """Send once; each packet must come out where it should, and nothing anywhere else."""
        before = arrived(lane)
        done = self.send(lane)
        after = arrived(lane)
        came = {name: after[name] - before[name] for name in after if after[name] != before[name]}
        if lane.arrives and came != {lane.arrives: done["sent"]}:
            raise LabError(f"{lane.key}: {done}, but came out: {came}")


def arrived(lane):
    """Packets that came out, by the gateway's interface."""
    role, counts = role_of(lane.gateway), {}
    for netns in (SRC, DST):
        for link in json.loads(ip(netns, "-j", "-s", "link", "show").stdout):
            if "stats64" in link:
                counts[netns, link["ifname"]] = link["stats64"]["rx"]["packets"]
    return {"in": counts[SRC, role], "out": counts[DST, role], "bypass": counts[DST, role + "-b"]}


@contextlib.contextmanager
def namespaces():
    """The sender's and the far side's."""
    for netns in (SRC, DST):
        run("ip", "netns", "delete", netns, check=False)
        run("ip", "netns", "add", netns)
        run("ip", "netns", "exec", netns, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
    try:
        yield
    finally:
        for netns in (SRC, DST):
            run("ip", "netns", "delete", netns)


@contextlib.contextmanager
def world(build, programs):
    """All gateways, and what runs on them."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(namespaces())
        gateways = {name: stack.enter_context(PathGateway(build, programs, role_of(name)))
                    for name in (*SET_UP, *OURS)}
        # What a packet costs without a gateway: there it is for somebody else.
        ip(gateways["link"].netns, "link", "set", "dev", "in", "address", "02:00:00:00:00:77")
        for name, set_up in SET_UP.items():
            if set_up:
                set_up(gateways[name])
        for name, count in OURS.items():
            stack.enter_context(steered(gateways[name], count))
        yield


def median(values):
    return percentile(values, 50)


def take_round(runner, lanes, use):
    """First the lanes whose packets are all flows' first ones, then those that have flows."""
    for lane in lanes:
        if lane.kind == "syn":
            runner.forget_flows(lane)
            use(lane)
    for lane in lanes:
        if lane.kind != "syn" and lane.arrives:
            runner.shake_hands(lane)
    for lane in lanes:
        if lane.kind != "syn":
            use(lane)


def take_rounds(runner, lanes, rounds, progress, figure):
    """ns a packet: {lane's key: [one of each round]}."""
    taken = {lane.key: [] for lane in lanes}
    shuffled, order = list(lanes), random.Random(1)
    take_round(runner, shuffled, runner.check)
    for number in range(rounds):
        order.shuffle(shuffled)
        take_round(runner, shuffled,
                   lambda lane: taken[lane.key].append(runner.send(lane)[figure]))
        progress(f"round {number + 1} of {rounds}")
    take_round(runner, shuffled, runner.check)
    return taken


def ratio(taken, one, other):
    """The median of what the rounds say, each for itself."""
    return median([a / b for a, b in zip(taken[one], taken[other])])


def shares(taken, gateway):
    """Rate against the baseline's for the same packets."""
    return {name: round(ratio(taken, f"baseline: {name}", f"{gateway}: {name}"), 3)
            for name in (lane.name for lane in lanes_of(gateway, MANY, "bypass"))}


def judge(taken):
    found = {f"share of {gateway}": shares(taken, gateway) for gateway in OURS}
    found["growth"] = {name: round(ratio(taken, f"steerd {MANY}: {name}", f"steerd {FEW}: {name}"),
                                   3) for name, _ in SHARES}
    # A packet for which there is no rule passes them all, wherever the tenants' rules are.
    found["times"] = {rules: {"no rule's": round(ratio(taken, f"{rules}: other 443",
                                                       f"steerd {FEW}: exempt 443"), 2),
                              "tenants'": round(ratio(taken, f"{rules}: exempt 443",
                                                      f"steerd {FEW}: exempt 443"), 2)}
                      for rules in RULES}
    ours = found[f"share of steerd {MANY}"]
    found["passed"] = all(ours[name] >= least for name, least in SHARES) and \
        all(value <= GROWTH_MAX for value in found["growth"].values()) and \
        all(found["times"][rules]["no rule's"] >= least for rules, least in TIMES)
    return found


def describe(taken, found, progress):
    for key, values in taken.items():
        progress(f"{key:45} {median(values):8.0f} ns (least {min(values):.0f}, "
                 f"most {max(values):.0f})")
    for name, values in found.items():
        progress(f"{name}: {values}")


def measure(build, programs, progress, rounds=ROUNDS, busy=False):
    """On a busy machine the best tenth of each round's packets is taken instead of the median."""
    figure = "best_ns" if busy else "median_ns"
    with world(build, programs), contextlib.closing(Sender(programs)) as sender:
        taken = take_rounds(Runner(sender), list(all_lanes()), rounds, progress, figure)
    found = judge(taken)
    describe(taken, found, progress)
    return {"rounds": rounds, "mode": "address", "figure": figure,
            "ns": {key: {"median": median(values), "min": min(values), "max": max(values)}
                   for key, values in taken.items()}, **found}
