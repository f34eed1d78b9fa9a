# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands, deadlines and the state directory with the processes the lab started."""

import fcntl
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

POLL_INTERVAL = 0.05
COMMAND_TIMEOUT = 60
# An emulated machine is many times slower: there, all deadlines are longer by this factor.
PATIENCE = float(os.environ.get("TENANT_STEER_PATIENCE", "1"))


class LabError(Exception):
    """The lab could not do what was asked; the text says what and why."""


def run(*command, check=True, timeout=COMMAND_TIMEOUT, **kwargs):
    """Run a command to its end; returns the CompletedProcess with text output."""
    command = [str(word) for word in command]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=timeout, check=False, **kwargs)
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{' '.join(command)}: no end after {timeout} s") from error
    if check and done.returncode != 0:
        raise LabError(f"{' '.join(command)}: exit {done.returncode}: "
                       f"{done.stderr.strip() or done.stdout.strip()}")
    return done


def wait_until(condition, what, deadline=10.0):
    """Poll until condition() is true and return its value; LabError after deadline seconds.

    what is the text of the error, or a function that makes it then.
    """
    deadline *= PATIENCE
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            raise LabError(f"not after {deadline} s: {what() if callable(what) else what}")
        time.sleep(POLL_INTERVAL)


def tail(path, lines=15):
    """The last lines of a log, for error messages."""
    try:
        return "\n".join(pathlib.Path(path).read_text(errors="replace").splitlines()[-lines:])
    except OSError as error:
        return f"({error})"


def start_time(pid):
    """When the process started, in clock ticks since boot; None if there is no such process.

    Pid and start time together name one process for ever, a pid alone does not.
    """
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])


def process_state(pid):
    """One letter, see proc(5): T is stopped. None if there is no such process."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None


class StateDir:
    """The state directory: configurations, logs, sockets and the record of started processes."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.pids = self.path / "pids"
        self.lock = None

    def take(self):
        """Two runs at once would take each other's lab down; held until this process ends."""
        if self.lock is None:
            lock = open(f"{self.path}.lock", "w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise LabError(f"another run is using the lab in {self.path}") from error
            self.lock = lock

    def make(self):
        self.pids.mkdir(parents=True, exist_ok=True)
        self.path.chmod(0o755)

    def dir(self, *parts):
        path = self.path.joinpath(*parts)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def record(self, name, pid):
        entry = {"pid": pid, "start": start_time(pid)}
        (self.pids / f"{name}.json").write_text(json.dumps(entry))

    def forget(self, name):
        (self.pids / f"{name}.json").unlink(missing_ok=True)

    def kill_recorded(self):
        """End what an earlier run left, and only that: pid and start time must both match."""
        for record in sorted(self.pids.glob("*.json")):
            entry = json.loads(record.read_text() or "{}")
            pid, start = entry.get("pid"), entry.get("start")
            if pid and start is not None and start_time(pid) == start:
                os.kill(pid, signal.SIGKILL)
                wait_until(lambda p=pid, s=start: start_time(p) != s, f"process {pid} ends")
            record.unlink()

    def remove(self):
        shutil.rmtree(self.path, ignore_errors=True)


class Process:
    """One long-running process of the lab, logging to a file and recorded in the state dir."""

    def __init__(self, state, name, command, env=None):
        self.state = state
        self.name = name
        self.log = state.dir("log") / f"{name}.log"
        with open(self.log, "ab") as log:
            self.popen = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL,
                                          stdout=log, stderr=log, env={**os.environ, **(env or {})},
                                          start_new_session=True)
        state.record(name, self.popen.pid)

    @property
    def pid(self):
        return self.popen.pid

    def alive(self):
        return self.popen.poll() is None

    def check_alive(self):
        if not self.alive():
            raise LabError(f"{self.name} ended with {self.popen.returncode}:\n{tail(self.log)}")

    def signal(self, number):
        self.popen.send_signal(number)

    def kill(self):
        """The hard way, as a crash would."""
        if self.alive():
            self.popen.kill()
        self.popen.wait()
        self.state.forget(self.name)

    def stop(self, patience=10):
        """Ask, wait, and kill what does not listen. Returns the exit status."""
        if self.alive():
            self.popen.send_signal(signal.SIGCONT)
            self.popen.terminate()
            try:
                self.popen.wait(patience)
            except subprocess.TimeoutExpired:
                self.popen.kill()
        status = self.popen.wait()
        self.state.forget(self.name)
        return status
