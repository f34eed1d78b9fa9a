# SPDX-License-Identifier: GPL-2.0-or-later
"""From charon's hook to the element in the kernel, in real tunnels, against an updown script.

Both work on the same set-ups of the same child SA. steerd's end is the time of its
steering-applied event, taken after the kernel acknowledged the commit. The script's end is taken
by the script itself when nft has returned; its own time leaves fork and start of the shell out.
"""

import re

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
    """Give the gateway's connection an updown script; returns where it notes its times, and how
    to take it away again."""
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
    return log, lab.configure_gateway(changed)


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

    def times(self, scripted):
        """Set up once; when each thing happened, in microseconds."""
        before = len(self.log.read_text().splitlines())
        self.charon.swanctl("--initiate", "--child", "internet")
        seen = {}
        while not {"child-installing", "child-up", "steering-applied"} <= seen.keys():
            event = self.stream.next()
            seen.setdefault(event["type"], parse_time(event["time"]))
        if scripted:
            wait_until(lambda: len(self.log.read_text().splitlines()) > before, "the script ran")
            last = self.log.read_text().splitlines()[-1]
            seen["script-started"], seen["script-ended"] = map(int, last.split())
        return seen

    def run(self, count, scripted):
        times = []
        for _ in range(count):
            self.take_down()
            times.append(self.times(scripted))
        return times

    def start_anew(self, lab):
        """A tunnel with the configuration that is loaded now."""
        lab.reconnect(TENANT)
        wait_until(lambda: lab.connected(TENANT), "the tunnel is up")
        self.stream.wait_for("steering-applied", TENANT)
        self.stream.drain()


def interval(times, begin, end):
    return summary([(t[end] - t[begin]) / 1000 for t in times])


def measure(build, progress, setups=SETUPS):
    with Lab(build, f"{PREFIX}l-", f"{STATE}-lab") as lab:
        lab.steer.grant(TENANT)
        log, remove_script = add_script(lab)
        setup = SetUps(lab, log)
        setup.start_anew(lab)
        scripted = setup.run(setups, True)
        remove_script()
        setup.start_anew(lab)
        alone = setup.run(setups, False)
        setup.stream.close()
        # SA mode, as on a gateway with kernel ESP: the element needs the SPI alone, which is known
        # before the child SA is up. Without kernel ESP no packet would match it; its time is the same.
        # Nor is there an SA then, by which steerd could verify the SPI.
        lab.steer.stop()
        lab.steer.start(mode="sa", verify_sa="yes" if lab.esp == "kernel" else "no")
        setup = SetUps(lab, log)
        setup.start_anew(lab)
        by_spi = setup.run(setups, False)
        setup.stream.close()
        esp = lab.esp
    figures = {"sa_mode_hook_to_kernel": interval(by_spi, "child-up", "steering-applied"),
               "sa_mode_first_hook_to_kernel": interval(by_spi, "child-installing",
                                                        "steering-applied"),
               "hook_to_kernel": interval(alone, "child-up", "steering-applied"),
               "first_hook_to_kernel": interval(alone, "child-installing", "steering-applied"),
               "hook_to_kernel_beside_script": interval(scripted, "child-up", "steering-applied"),
               "script_itself": interval(scripted, "script-started", "script-ended"),
               "hook_to_script_end": interval(scripted, "child-up", "script-ended"),
               "first_hook_to_script_end": interval(scripted, "child-installing", "script-ended")}
    ratio = figures["hook_to_script_end"]["p50"] / max(figures["hook_to_kernel"]["p50"], 0.001)
    for name, values in figures.items():
        progress(f"set-up ({esp} ESP), {name}: {values['p50']:.3f} ms (p99 {values['p99']:.3f})")
    progress(f"set-up: 1/{ratio:.0f} of the script")
    return {"esp": esp, "ms": figures, "ratio": round(ratio, 1), "limit_ratio": RATIO,
            "passed": ratio >= RATIO}
