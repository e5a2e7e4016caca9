"""Bytes that no SDK sends. In each case the hub ends that one connection, and nobody else notices."""

import json
import socket
import ssl
import struct

import pytest
from azure.iot.hub.models import CloudToDeviceMethod

from support import mqtt, sas
from support.fleet import Recorder
from support.hub import HOST, HTTPS_PORT, MQTT_PORT

SILENT_CONNECTIONS = 1000


@pytest.fixture
def bystander(fleet, registry):
    """A healthy device; after the test it must still be the same connection, and work."""
    device = fleet.device()
    client = fleet.client(device)
    states = []
    client.connect()
    client.on_connection_state_change = lambda: states.append(client.connected)
    calls = Recorder(client)
    yield client
    call = CloudToDeviceMethod(method_name="m", payload="still here", response_timeout_in_seconds=10)
    assert registry.invoke_device_method(device.id, call).payload == "still here"
    assert len(calls.requests) == 1
    client.patch_twin_reported_properties({"still": "here"})
    client.send_message("still here")
    assert states == [], "it never lost its connection"


def before_connect(device):
    token = sas.token(device.resource, device.key)
    good = mqtt.connect(device.id, token)
    protocol = mqtt.text("MQTT") + bytes([4, 0xC0, 0, 60])
    return {
        "noise": bytes(range(256)) * 8,
        "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "a packet before CONNECT": mqtt.publish(f"devices/{device.id}/messages/events/", b"x"),
        "a ping before CONNECT": b"\xc0\x00",
        "an endless length": b"\x10\xff\xff\xff\xff\xff\xff",
        "a CONNECT of 256 MB": b"\x10" + mqtt.length(268_435_455) + b"\x00\x04MQTT",
        "a CONNECT of 1 MB": mqtt.packet(0x10, b"\x00\x04MQTT" + bytes(1_000_000)),
        "a string longer than its packet": mqtt.packet(0x10, protocol + struct.pack(">H", 60000) + b"abc"),
        "an empty CONNECT": b"\x10\x00",
        "reserved flags in the header": bytes([0x1F]) + good[1:],
        "the reserved connect flag": mqtt.connect(device.id, token, flags=0xC1),
        "a Will of QoS 3": mqtt.connect(device.id, token, flags=0xDC),
        "bytes after the password": mqtt.packet(0x10, mqtt.body_of(good) + b"trailing"),
        "invalid UTF-8": mqtt.connect(device.id, token, username=b"\xff\xfe\xfd"),
        "a zero character": mqtt.connect(device.id, token, username=f"{HOST}/{device.id}\0"),
        "packet type 0": b"\x00\x00",
        "packet type 15": b"\xf0\x00",
    }


def after_connect(device):
    events = f"devices/{device.id}/messages/events/"
    return {
        "a second CONNECT": mqtt.connect(device.id, sas.token(device.resource, device.key)),
        "QoS 2": mqtt.publish(events, b"x", qos=2),
        "QoS 3": mqtt.publish(events, b"x", qos=3),
        "packet id 0": mqtt.publish(events, b"x", qos=1, packet_id=0),
        "a message of 300 KB": mqtt.publish(events, bytes(300_000)),
        "a length of 200 MB": b"\x30" + mqtt.length(200_000_000) + mqtt.text(events),
        "a topic longer than its packet": mqtt.packet(0x30, b"\xff\xff" + b"abc"),
        "a topic of invalid UTF-8": mqtt.publish(b"devices/\xff\xfe/messages/events/", b"x"),
        "an empty topic": mqtt.publish("", b"x"),
        "another device's topic": mqtt.publish("devices/somebody-else/messages/events/", b"x"),
        "an unknown operation": mqtt.publish("$iothub/twin/EXPLODE/?$rid=1", b"{}"),
        "a twin GET without a request id": mqtt.publish("$iothub/twin/GET/", b""),
        "a foreign topic": mqtt.publish("some/other/topic", b"x"),
        "a SUBSCRIBE of nothing": mqtt.packet(0x82, b"\x00\x01"),
        "a SUBSCRIBE with wrong flags": mqtt.packet(0x80, b"\x00\x01" + mqtt.text("$iothub/twin/res/#") + b"\x00"),
        "a CONNACK from the client": b"\x20\x02\x00\x00",
        "an endless length": b"\x30\xff\xff\xff\xff\x01",
        "noise": bytes(range(255, -1, -1)) * 4,
    }


def test_nonsense_before_connect(hub, fleet, bystander):
    device = fleet.device()
    for what, data in before_connect(device).items():
        with mqtt.Socket(hub) as client:
            client.send(data)
            assert client.ended(), what


def test_nonsense_after_connect(hub, fleet, registry, bystander):
    device = fleet.device()
    token = sas.token(device.resource, device.key)
    for what, data in after_connect(device).items():
        with mqtt.Socket(hub) as client:
            client.send(mqtt.connect(device.id, token))
            assert client.connack() == 0, what
            client.send(data)
            try:
                assert client.ended(), what
            except TimeoutError:
                pytest.fail(f"the hub kept the connection after {what}")
    assert registry.get_twin(device.id).version == 2


def test_truncated_connects(hub, fleet, bystander):
    """Every packet cut short: the client goes away in the middle of it."""
    device = fleet.device()
    packet = mqtt.connect(device.id, sas.token(device.resource, device.key))
    for cut in range(1, len(packet), 23):
        with mqtt.Socket(hub) as client:
            client.send(packet[:cut])


def test_bad_patches_by_hand(hub, fleet, registry, bystander):
    """A bad document is answered with a status and a body that Node can read; the connection goes on."""
    device = fleet.device()
    documents = [b"", b"{", b"[]", b'"x"', b"\xff", b'{"a":\xff}', b'{"a b":1}', b'{"a":' * 10_000 + b"1" + b"}" * 10_000]
    with mqtt.Socket(hub) as client:
        client.send(mqtt.connect(device.id, sas.token(device.resource, device.key)))
        assert client.connack() == 0
        for number, document in enumerate(documents + [b'{"fine":1}']):
            client.send(mqtt.publish(f"$iothub/twin/PATCH/properties/reported/?$rid={number}", document))
            _, packet = client.receive()
            length = int.from_bytes(packet[:2], "big")
            topic, body = packet[2:2 + length].decode(), packet[2 + length:]
            if number < len(documents):
                assert topic == f"$iothub/twin/res/400/?$rid={number}", f"{document[:20]}: {topic}"
                error = json.loads(body)
                assert error["errorCode"] // 1000 == 400 and error["message"], body
            else:
                assert topic == f"$iothub/twin/res/204/?$rid={number}&$version=2"
    assert registry.get_twin(device.id).version == 3


def test_foreign_subscription_is_refused_in_band(hub, fleet, bystander):
    device = fleet.device()
    with mqtt.Socket(hub) as client:
        client.send(mqtt.connect(device.id, sas.token(device.resource, device.key)))
        assert client.connack() == 0
        client.send(mqtt.subscribe("#", 7))
        assert client.receive() == (0x90, b"\x00\x07\x80")
        client.send(b"\xc0\x00")
        assert client.receive() == (0xD0, b"")


def test_silent_connections(hub, fleet, rest, bystander):
    """A thousand connections that send nothing keep nobody else out."""
    device, silent = fleet.device(), []
    try:
        for number in range(SILENT_CONNECTIONS):
            silent.append(socket.create_connection(("127.0.0.1", (MQTT_PORT, HTTPS_PORT)[number % 2]), timeout=10))
        # By hand: the SDK cannot use sockets beyond the thousandth of a process.
        assert mqtt.connect_code(hub, device.id, sas.token(device.resource, device.key)) == 0
        assert rest.send("GET", f"/devices/{device.id}").status_code == 200
    finally:
        for each in silent:
            each.close()


def test_noise_instead_of_tls(hub, bystander):
    for port in (MQTT_PORT, HTTPS_PORT):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
            raw.sendall(b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x3c\x00\x00GET / HTTP/1.0\r\n\r\n" * 10)
            try:
                while raw.recv(4096):
                    pass
            except ConnectionError:
                pass


def test_a_client_that_never_reads(hub, fleet, bystander):
    """It asks for its twin again and again and takes no answer: the hub bounds what it holds, and goes on."""
    device = fleet.device()
    with mqtt.Socket(hub) as client:
        client.send(mqtt.connect(device.id, sas.token(device.resource, device.key)))
        assert client.connack() == 0
        client.socket.settimeout(2)
        ask = b"".join(mqtt.publish(f"$iothub/twin/GET/?$rid={number}", b" ") for number in range(1000))
        for _ in range(50):
            try:
                client.socket.sendall(ask)
            except OSError:
                break  # the hub stopped reading, or closed: both are bounds


def test_tls_versions(hub):
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = ssl.create_default_context(cafile=str(hub.ca_path))
        context.minimum_version = context.maximum_version = version
        for port in (MQTT_PORT, HTTPS_PORT):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
                with context.wrap_socket(raw, server_hostname=HOST) as secure:
                    assert secure.version() == ("TLSv1.2" if version == ssl.TLSVersion.TLSv1_2 else "TLSv1.3")
