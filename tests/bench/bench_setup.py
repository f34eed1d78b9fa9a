# SPDX-License-Identifier: GPL-2.0-or-later
"""From charon's hook to the element in the kernel, in real tunnels, against an updown script.

Both work on the same set-ups of the same child SA. steerd's end is the time of its
steering-applied event, taken after the kernel acknowledged the commit. The script's end is taken
by the script itself when nft has returned; its own time leaves fork and start of the shell out.
"""

import re
import time

from lab.lab import Lab
from lab.system import wait_until

import zmq

from benchlib import PREFIX, STATE, Stream, parse_time, summary

SETUPS = 200
TENANT = "acme"
RATIO = 20

SCRIPT = """\
#!/bin/bash
started=$EPOCHREALTIME
[ "$PLUTO_VERB" = up-client ] || exit 0
nft add element inet scratch exempt "{{ $RANDOM }}"
echo "${{started/./}} ${{EPOCHREALTIME/./}}" >>{log}
"""

SCRATCH = """\
table inet scratch {
	set exempt { type mark; size 65536; }
}
"""


def add_script(lab):
    """Give the gateway's connection an updown script; returns where it notes its times."""
    log = lab.state.path / "updown.log"
    script = lab.state.path / "updown"
    script.write_text(SCRIPT.format(log=log))
    script.chmod(0o755)
    log.touch()
    lab.network.nft("gw", SCRATCH)
    shipped = (lab.gateway.swanctl_dir / "swanctl.conf").read_text()
    changed, count = re.subn(r"(site-psk \{\n)(\s+)(local_ts)", rf"\1\2updown = {script}\n\2\3",
                             shipped)
    assert count == 1
    lab.configure_gateway(changed)
    return log


class SetUps:
    """One CHILD_SA that is set up and taken down, over and over."""

    def __init__(self, lab, log):
        self.charon = lab.charons[TENANT]
        self.log = log
        self.stream = Stream(zmq.Context.instance(), f"ipc://{lab.steer.dir}/stream",
                             ["charon.heartbeat", f"tenant.{TENANT}."])
        self.stream.next()

    def take_down(self):
        self.charon.swanctl("--terminate", "--child", "internet")
        self.stream.wait_for("steering-withdrawn", TENANT)

    def times(self):
        """Set up once; when each thing happened, in microseconds."""
        before = len(self.log.read_text().splitlines())
        self.charon.swanctl("--initiate", "--child", "internet")
        seen = {}
        while not {"child-installing", "child-up", "steering-applied"} <= seen.keys():
            event = self.stream.next()
            seen.setdefault(event["type"], event.get("time"))
        wait_until(lambda: len(self.log.read_text().splitlines()) > before, "the script ran")
        started, ended = map(int, self.log.read_text().splitlines()[-1].split())
        return {"installing": parse_time(seen["child-installing"]),
                "up": parse_time(seen["child-up"]), "applied": parse_time(seen["steering-applied"]),
                "script_started": started, "script_ended": ended}


def intervals(times):
    pairs = {"hook_to_kernel": ("up", "applied"),
             "first_hook_to_kernel": ("installing", "applied"),
             "script_itself": ("script_started", "script_ended"),
             "first_hook_to_script_end": ("installing", "script_ended"),
             "hook_to_script_end": ("up", "script_ended")}
    return {name: summary([(t[b] - t[a]) / 1000 for t in times]) for name, (a, b) in pairs.items()}


def measure(build, progress, setups=SETUPS):
    with Lab(build, f"{PREFIX}l-", f"{STATE}-lab") as lab:
        lab.steer.grant(TENANT)
        setup = SetUps(lab, add_script(lab))
        lab.reconnect(TENANT)
        time.sleep(1)
        setup.stream.drain()
        times = []
        for _ in range(setups):
            setup.take_down()
            times.append(setup.times())
        setup.stream.close()
        esp = lab.esp
    figures = intervals(times)
    ratio = figures["script_itself"]["p50"] / max(figures["hook_to_kernel"]["p50"], 0.001)
    progress(f"set-up ({esp} ESP): hook to kernel {figures['hook_to_kernel']['p50']:.3f} ms (p99 "
             f"{figures['hook_to_kernel']['p99']:.3f}), script itself "
             f"{figures['script_itself']['p50']:.3f} ms: 1/{ratio:.0f}")
    return {"esp": esp, "ms": figures, "ratio": round(ratio, 1), "limit_ratio": RATIO,
            "passed": ratio >= RATIO}
