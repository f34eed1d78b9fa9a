# SPDX-License-Identifier: GPL-2.0-or-later
"""Every event that travels keeps to the published schema, on both streams."""

import json
import pathlib

import jsonschema
import pytest
import zmq

from lab.system import wait_until

SCHEMA = pathlib.Path(__file__).resolve().parents[2] / "protocol" / "events.schema.json"


@pytest.fixture(name="validator")
def fixture_validator():
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


@pytest.fixture(name="charon_stream")
def fixture_charon_stream(lab):
    context = zmq.Context()
    socket = context.socket(zmq.SUB)
    socket.setsockopt(zmq.SUBSCRIBE, b"")
    socket.connect(lab.steer.publish)
    assert socket.poll(5000), "the plugin greets a new subscriber with a heartbeat"
    yield socket
    context.destroy(linger=0)


def read(socket, until, deadline=10):
    """Topics and events up to the first for which until(event) holds."""
    got = []

    def done():
        while socket.poll(100):
            topic, text = socket.recv_multipart()
            got.append((topic.decode(), json.loads(text)))
            if until(got[-1][1]):
                return True
        return False

    wait_until(done, "the awaited event", deadline)
    return got


def topic_of(event):
    if event["type"] == "heartbeat":
        return "charon.heartbeat"
    return f"tenant.{event['tenant'] or '%unidentified'}.{event['type']}"


def test_the_plugins_events(lab, validator, charon_stream):
    lab.reconnect("acme")
    lab.charons["acme"].swanctl("--rekey", "--child", "internet")
    got = read(charon_stream, lambda event: event["type"] == "child-rekey")
    kinds = {event["type"] for _, event in got}
    assert {"child-installing", "child-up", "child-down", "child-rekey"} <= kinds
    for topic, event in got:
        validator.validate(event)
        assert topic == topic_of(event)
    numbers = [event["seq"] for _, event in got if event["type"] != "heartbeat"]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_the_operators_events(lab, validator):
    since = lab.steer.sequence()
    lab.grant_and_wait("acme")
    lab.reconnect("acme")
    lab.steer.revoke("acme")
    events = lab.steer.request("events", since=since)["events"]
    kinds = {event["type"] for event in events}
    assert {"exception-granted", "steering-applied", "child-up", "exception-revoked",
            "steering-withdrawn"} <= kinds
    for event in events:
        validator.validate(event)
    assert [event["seq"] for event in events] == list(range(since + 1, since + 1 + len(events)))


def test_the_schema_refuses_what_the_decoder_refuses(validator):
    good = {"v": 1, "epoch": "0123456789abcdef", "seq": 1, "time": "2026-01-31T12:00:00.000001Z",
            "type": "child-up", "tenant": "acme", "spi_in": "c1234567", "child_id": 1, "ike_id": 1}
    validator.validate(good)
    for key, value in (("tenant", "a b"), ("tenant", "%3d"), ("spi_in", "C1234567"), ("v", 2),
                       ("time", "2026-01-31T12:00:00Z"), ("type", "child-sideways"),
                       ("child_id", 0)):
        assert not validator.is_valid({**good, key: value}), key
