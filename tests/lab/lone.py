# SPDX-License-Identifier: GPL-2.0-or-later
"""A steerd alone, in a network namespace of its own: no charon, no lab, any number at a time."""

import json
import os
import pathlib
import shutil
import socket
import subprocess

from lab.system import wait_until

CONFIG = """\
user = "";
charon {{ publish = "ipc://{dir}/events"; snapshot = "ipc://{dir}/snapshot"; }}
stream {{ bind = ["ipc://{dir}/stream"]; }}
control {{ socket = "{dir}/control"; group = ""; }}
store {{ sqlite = "{dir}/db/exceptions.db"; }}
steering {{ mode = sa; mark_mask = 0x0f000000; rule_priority = 5200; }}
path bypass {{ mark = 0x01000000; }}
profile skype {{ path = bypass; services = ["tcp/443"]; max_lifetime = 90d; }}
profile ssh {{ path = bypass; services = ["tcp/22"]; max_lifetime = 90d; }}
"""


class Lone:
    """A steerd that nobody talks to but this test; it can be killed at a write."""

    def __init__(self, directory, build):
        self.dir = directory
        self.build = pathlib.Path(build)
        self.library = self.build / "tests/unit/.libs/kill_at.so"
        self.steerctl = self.build / "sidecar/steerctl"
        self.process = None
        (directory / "steerd.conf").write_text(CONFIG.format(dir=directory))

    def start_anew(self):
        shutil.rmtree(self.dir / "db", ignore_errors=True)
        (self.dir / "db").mkdir()

    def start(self, kill_at=0, half=False):
        """Returns whether it came up: it may be killed before."""
        env = {key: value for key, value in os.environ.items() if not key.startswith("KILL_AT")}
        if kill_at:
            env.update(LD_PRELOAD=str(self.library), KILL_AT=str(kill_at),
                       KILL_AT_PATH=str(self.dir / "db"), **({"KILL_AT_HALF": "1"} if half else {}))
        self.process = subprocess.Popen(
            ["unshare", "-n", self.build / "sidecar/steerd", "--config", self.dir / "steerd.conf"],
            env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: self.process.poll() is not None or self.ask("stream"), "steerd is up")
        return self.process.poll() is None

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()

    def ask(self, command, **fields):
        """The answer; None if there is none: it was killed, or is not up yet."""
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(10)
                sock.connect(str(self.dir / "control"))
                sock.sendall(json.dumps({"v": 1, "command": command, **fields}).encode() + b"\n")
                with sock.makefile() as answer:
                    line = answer.readline()
            return json.loads(line) if line.endswith("\n") else None
        except OSError:
            return None

    def ctl(self, *words):
        return subprocess.run([self.steerctl, "--socket", self.dir / "control", *words],
                              capture_output=True, text=True, check=False)
