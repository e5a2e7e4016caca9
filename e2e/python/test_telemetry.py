"""Telemetry, as the event stream shows it (D 2), and the stream itself."""

import base64
import json
import uuid

import pytest
from azure.iot.device import Message

from support.rest import EventStream

CORRELATION = "c/1 é"


def words(text):
    """A JSON message of one string."""
    return Message(json.dumps(text), content_type="application/json")


def wanted(text):
    """Matches the event that holds `text`."""
    return lambda data: text in json.dumps(data, ensure_ascii=False)


@pytest.mark.parametrize("websockets", [False, True], ids=["mqtt", "websocket"])
def test_message_with_properties(fleet, rest, websockets):
    device = fleet.device()
    client = fleet.connect(device, websockets=websockets)
    message = Message(json.dumps({"temperature": 21.5, "unit": "°C"}), message_id=str(uuid.uuid4()))
    message.content_type, message.content_encoding = "application/json", "utf-8"
    message.correlation_id = CORRELATION
    message.custom_properties = {"alert": "yes", "a+b/c": "ü &=%$ é", "empty": ""}
    with EventStream(rest, device=device.id, sources="telemetry") as stream:
        client.send_message(message)
        event = stream.wait(lambda data: True)["data"]
    assert event["body"] == {"temperature": 21.5, "unit": "°C"}
    assert event["properties"] == {"alert": "yes", "a+b/c": "ü &=%$ é", "empty": ""}
    system = event["systemProperties"]
    assert system["message-id"] == message.message_id
    assert system["correlation-id"] == CORRELATION
    assert system["content-type"] == "application/json"
    assert system["content-encoding"] == "utf-8"
    assert event["deviceId"] == device.id


def test_bodies_of_every_kind(fleet, rest):
    device = fleet.device()
    client = fleet.connect(device)
    bodies = ["plain text", "", "é€😀", "x" * 200_000, bytes(range(256))]
    with EventStream(rest, device=device.id, sources="telemetry") as stream:
        for number, body in enumerate(bodies):
            message = Message(body)
            message.custom_properties["number"] = str(number)
            client.send_message(message)
        seen = [
            stream.wait(lambda data, n=number: data["properties"]["number"] == str(n)) for number in range(len(bodies))
        ]
    for body, event in zip(bodies, seen):
        assert base64.b64decode(event["data"]["bodyBase64"]) == (body if isinstance(body, bytes) else body.encode())
    order = [tuple(int(part) for part in event["position"].split(".")) for event in seen]
    assert order == sorted(order), "events stand in the order in which they were sent"


def test_too_large_is_refused_by_the_client_and_harms_nobody(fleet, rest):
    client = fleet.connect(fleet.device())
    with pytest.raises(ValueError):
        client.send_message("x" * 262_145)
    client.send_message("small")


def test_module_telemetry_is_the_modules(fleet, rest):
    device = fleet.device()
    client = fleet.connect(fleet.module(device, "camera"))
    with EventStream(rest, device=device.id, sources="telemetry") as stream:
        client.send_message("from a module")
        client.send_message_to_output("to an output", "out1")
        event = stream.wait(lambda data: data["systemProperties"].get("iothub-outputname") == "out1")["data"]
        assert (event["deviceId"], event["moduleId"]) == (device.id, "camera")
        assert len(stream.events) == 2


def test_filters_and_resume(fleet, rest, registry):
    device, other = fleet.device(), fleet.device()
    client, foreign = fleet.connect(device), fleet.connect(other)
    with EventStream(rest, device=device.id, sources="telemetry,twin") as stream:
        foreign.send_message(words("not for this stream"))
        client.send_message(words("one"))
        first = stream.wait(wanted("one"))
        client.patch_twin_reported_properties({"x": 1})
        stream.wait(lambda data: data["source"] == "twin" and data["operation"] == "updateTwin")
        assert "not for this stream" not in json.dumps(stream.events)
    client.send_message(words("two, while nobody listens"))
    for resume in ({"after": first["position"]}, {"last_event_id": first["position"]}):
        with EventStream(rest, device=device.id, sources="telemetry", **resume) as stream:
            event = stream.wait(lambda data: True)
            assert "two, while nobody listens" in json.dumps(event["data"])
    with EventStream(rest, device=device.id, sources="connection") as stream:
        client.disconnect()
        stream.wait(wanted("deviceDisconnected"))
        client.connect()
        stream.wait(wanted("deviceConnected"))
    with EventStream(rest, sources="lifecycle") as stream:
        made = fleet.device()
        stream.wait(lambda data: data["deviceId"] == made.id and "createDeviceIdentity" in json.dumps(data))
        registry.delete_device(made.id)
        stream.wait(lambda data: data["deviceId"] == made.id and "deleteDeviceIdentity" in json.dumps(data))


def test_stream_refusals(rest, hub):
    from support.rest import Rest

    assert rest.send("GET", "/api/events", authorization="").status_code == 401
    assert rest.send("GET", "/api/events", parameters={"source": "weather"}).status_code == 400
    assert rest.send("GET", "/api/events", parameters={"after": "yesterday"}).status_code == 400
    assert Rest(hub, "registryRead").send("GET", "/api/events").status_code == 401
