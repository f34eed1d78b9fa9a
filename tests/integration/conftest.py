# SPDX-License-Identifier: GPL-2.0-or-later
"""One lab for the whole run; each test starts without exceptions and with all tunnels up.

TENANT_STEER_BUILD names the build directory. Run as root: the lab makes network namespaces.
"""

import json
import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lab.lab import Lab, progress_to_stderr  # noqa: E402
from lab.lossy import LossyRelay  # noqa: E402
from lab.system import wait_until  # noqa: E402
from lab.sites import Site  # noqa: E402
from lab.topology import ACME, CLIENTS  # noqa: E402

PREFIX = "tst-"
STATE_DIR = "/run/tenant-steer-tests"
LOG_TAIL = 40


@pytest.fixture(scope="session", name="lab_session")
def fixture_lab_session():
    build = os.environ.get("TENANT_STEER_BUILD")
    assert build, "TENANT_STEER_BUILD must name the build directory"
    lab = Lab(build, PREFIX, STATE_DIR, progress_to_stderr)
    try:
        lab.up()
        yield lab
    finally:
        if "TENANT_STEER_KEEP" not in os.environ:
            lab.down()


def restore(lab):
    """Whatever the last test did: daemons run, no exceptions, tunnels up."""
    if not lab.steer.process or not lab.steer.process.alive():
        lab.steer.start()
    if not lab.gateway.process.alive():
        lab.gateway.start()
    lab.network.load_admin_nft()
    for client in CLIENTS:
        if not lab.connected(client.name):
            lab.reconnect(client.name)
    lab.wait_synchronised()
    lab.revoke_all()


@pytest.fixture(name="lab")
def fixture_lab(lab_session):
    restore(lab_session)
    return lab_session


@pytest.fixture(name="sa")
def fixture_sa(lab):
    """The lab, if its kernel has ESP."""
    if lab.esp != "kernel":
        assert os.environ.get("TENANT_STEER_ESP") != "kernel", "this kernel should have ESP"
        pytest.skip("this kernel has no ESP; tests/vm/run runs this test on one that has")
    return lab


@pytest.fixture(scope="session", name="twin_of_acme")
def fixture_twin_of_acme():
    """Makes the customer whose host has the very address of acme's, given its selectors."""
    return lambda nets: Site("twin", 15, inner4=ACME.inner4, inner6=ACME.inner6,
                             children=(("internet", nets),))


@pytest.fixture(name="watch")
def fixture_watch(lab):
    watch = lab.steer.watch()
    yield watch
    watch.stop()


@pytest.fixture(name="flows")
def fixture_flows(lab):
    """Start flows that end with the test."""
    started = []

    def start(*args, **kwargs):
        started.append(lab.flow(*args, **kwargs))
        return started[-1]

    yield start
    for flow in started:
        flow.kill()


@pytest.fixture(name="relay")
def fixture_relay(lab):
    """steerd hears charon through a relay that can lose events."""
    relay = LossyRelay(lab.steer.publish, lab.steer.relayed)
    lab.steer.stop()
    lab.steer.start(publish=lab.steer.relayed)
    lab.wait_synchronised()
    yield relay
    lab.steer.stop()
    relay.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """A failed test shows what steerd logged."""
    outcome = yield
    report = outcome.get_result()
    lab = item.funcargs.get("lab_session")
    if report.failed and lab and lab.steer:
        log = lab.state.path / "log" / "steerd.log"
        text = log.read_text(errors="replace") if log.exists() else ""
        report.sections.append(("steerd", "\n".join(text.splitlines()[-LOG_TAIL:])))


@pytest.fixture(scope="session", name="measured")
def fixture_measured():
    """What was measured in this run, by name."""
    return {}


@pytest.fixture(name="record")
def fixture_record(measured, capsys):
    """record(name, figures): what was measured goes into pytest's output and into NAME.json below
    TENANT_STEER_RESULTS, by default the build directory."""
    directory = pathlib.Path(os.environ.get("TENANT_STEER_RESULTS")
                             or os.environ["TENANT_STEER_BUILD"])

    def record(name, figures):
        measured.setdefault(name, {}).update(figures)
        (directory / f"{name}.json").write_text(json.dumps(measured[name], indent=1) + "\n")
        with capsys.disabled():
            print(f"\n{name}: {json.dumps(figures)}", flush=True)

    return record


@pytest.fixture(name="eventually")
def fixture_eventually():
    return wait_until
