# SPDX-License-Identifier: GPL-2.0-or-later
"""One hunt: do what the seed says, judge every packet, check now and then that all is well."""

import collections
import time

from lab.steer import LEASE_SECONDS
from lab.system import PATIENCE, LabError, tail

from .choice import Choice
from .control import EXPIRY_SLACK, Operator
from .operations import Operations
from .plant import plant
from .quiet import Quiet
from .truth import LOSS, MS, SECOND, Broken, Faults, Judge, Tenant, Windows
from .vici import ViciError

TIMELINE = 400
LOST_AFTER_SECONDS = 3
SANITIZERS = ("ThreadSanitizer", "AddressSanitizer", "LeakSanitizer", "runtime error:")


class Hunt:
    def __init__(self, world, options, say):
        self.world, self.options, self.say = world, options, say
        slack = round(10 * MS * PATIENCE)
        self.tenants = [Tenant(m.number, m.name, m.pool) for m in world.members]
        self.faults = Faults()
        windows = None
        if world.esp == "userspace":
            windows = Windows(self.tenants, self.faults, LEASE_SECONDS * SECOND,
                              LOST_AFTER_SECONDS * SECOND, slack)
        self.judge = Judge(self.tenants, windows)
        self.operator = Operator(world.steer.control, LEASE_SECONDS * SECOND,
                                 round(EXPIRY_SLACK * PATIENCE), 5 * PATIENCE)
        self.choice = Choice(options.seed, world.members, world.plan.clients, world.plan.room,
                             options.slow)
        self.operations = Operations(world, self.operator, self.tenants, self.faults)
        self.quiet = Quiet(self)
        self.timeline = collections.deque(maxlen=TIMELINE)
        self.done, self.missed = collections.Counter(), collections.Counter()
        self.took = collections.Counter()
        self.count = 0
        self.planted = None  # the tenant that is let pass on purpose
        self.started = self.ended = time.monotonic()
        self.quiet_seconds = 0.0

    # Judging

    def note(self, text):
        self.timeline.append((time.time_ns(), text))

    def watch(self, timeout=0):
        """Judge what has come, notice what has died."""
        for path, seen in self.world.arrivals(timeout):
            if self.judge.take(path, seen):
                self.note(f"LEAK {seen}")
        for at in self.world.losses() if self.world.relay.alive() else ():
            self.faults.end(LOSS, at)
        self.operator.collect()
        self._check_alive()

    def _check_alive(self):
        steerd = self.world.steer.process
        if "steerd" not in self.operations.down and not steerd.alive():
            raise Broken(f"steerd ended by itself, {steerd.popen.returncode}:\n"
                         f"{tail(steerd.log, 60)}")
        for role, charon in self.world.charons.items():
            if role not in self.operations.down and not self.world.starting[role].is_alive() \
                    and not charon.process.alive():
                raise Broken(f"charon of {role} ended by itself:\n{tail(charon.log)}")

    def watch_for(self, seconds):
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.watch(min(left, 0.05))

    def wait(self, condition, what, deadline=15):
        """Until condition(), judging meanwhile."""
        end = time.monotonic() + deadline * PATIENCE
        while not (value := condition()):
            if time.monotonic() > end:
                raise Broken(f"not after {deadline * PATIENCE:.0f} s: "
                             f"{what() if callable(what) else what}")
            self.watch(0.02)
        return value

    # Operations

    def _enough(self):
        seconds = time.monotonic() - self.started
        return self.judge.leaks or self.count >= self.options.ops or \
            (self.options.seconds and seconds >= self.options.seconds)

    def _one(self):
        operation = self.choice.next()
        begun = time.monotonic()
        done = self.operations.do(operation)
        self.took[operation.kind] += time.monotonic() - begun
        self.note(str(operation) + ("" if done else " (could not)"))
        (self.done if done else self.missed)[operation.kind] += 1
        self.count += 1

    def _check_quietly(self):
        begun = time.monotonic()
        self.note("quiet")
        self.quiet.check()
        self.quiet_seconds += time.monotonic() - begun
        self.say(f"  {self.count} operations, {time.monotonic() - self.started:.0f} s, "
                 f"{sum(self.judge.counts.values())} packets judged, quiet for "
                 f"{time.monotonic() - begun:.1f} s")

    def run(self):
        """Returns the text of what is wrong, or None."""
        try:
            self._run()
        except (Broken, LabError, ViciError) as error:
            return str(error)
        finally:
            self.ended = time.monotonic()
        if self.judge.leaks:
            return f"{len(self.judge.leaks)} packets leaked"
        if self.options.plant:
            return "the planted leak was not seen"
        return self._check_logs()

    def _run(self):
        self.quiet.first()
        self._check_quietly()
        due = time.monotonic()
        while not self._enough():
            self._one()
            due = max(due + 1 / self.options.rate, time.monotonic() - 0.5)
            self.watch()
            self.watch_for(due - time.monotonic())
            if self.count == self.options.plant:
                self._check_quietly()
                self.planted = plant(self)
            if self.count % self.options.quiet == 0:
                self._check_quietly()
        if not self.judge.leaks:
            self._check_quietly()

    def _check_logs(self):
        log = self.world.steer.process.log.read_text(errors="replace")
        for word in SANITIZERS:
            if word in log:
                at = log.index(word)
                return f"steerd: {log[max(0, at - 200):at + 4000]}"
        dropped = self.world.dropped()
        return f"{dropped} packets were not looked at" if dropped else None

