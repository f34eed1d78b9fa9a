# SPDX-License-Identifier: GPL-2.0-or-later
"""What one of charon's bus hooks costs with the plugin, and with a script that does nothing."""

import json
import tempfile

from lab.system import run

SETUPS = 40000
# A charon that sets up 4,500 child SAs a second is at its limit without any plugin.
RATE = 4500
LIMIT_US = 5.0


def measure(programs, progress, setups=SETUPS):
    results = {}
    for name, rate in (("paced", RATE), ("flood", 0)):
        with tempfile.TemporaryDirectory() as directory:
            done = run(programs / "bench_hook", directory, setups, rate, timeout=300)
        results[name] = figures = json.loads(done.stdout)
        progress(f"hook, {name}: {figures['all_us']['p50']:.2f} us (p99 "
                 f"{figures['all_us']['p99']:.2f}), a script {figures['script_us']['p50']:.0f} us "
                 f"(p99 {figures['script_us']['p99']:.0f})")
    return {"rate": RATE, "limit_us": LIMIT_US, "results": results,
            "passed": all(f["all_us"]["p99"] <= LIMIT_US for f in results.values())}
