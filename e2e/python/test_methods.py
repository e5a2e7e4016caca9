"""Direct methods: every payload, every way to fail, exact deadlines (S 5, D 5)."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from azure.iot.hub.models import CloudToDeviceMethod
from msrest.exceptions import HttpOperationError

from support.fleet import Recorder, wait_for
from support.rest import error_number

PAYLOADS = [
    {"a": 1, "nested": {"é": [1, None, {"x": []}]}}, {}, [1, "two", None, {"three": 3}], [], "text", "", "ü\"\\\n😀",
    0, 42, -1.5, 1e300, True, False,
]


def method(name, payload=None, response=10, connect=None):
    return CloudToDeviceMethod(
        method_name=name, payload=payload, response_timeout_in_seconds=response, connect_timeout_in_seconds=connect
    )


def test_every_payload_there_and_back(fleet, registry, rest):
    device = fleet.device()
    calls = Recorder(fleet.connect(device))
    for payload in PAYLOADS:
        answer = registry.invoke_device_method(device.id, method("echo", payload))
        assert (answer.status, answer.payload) == (200, payload)
        assert type(answer.payload) is type(payload)
        assert (calls.requests[-1].name, calls.requests[-1].payload) == ("echo", payload)
    # The service SDK turns None into "", so null and none at all are sent by hand.
    for body in ({"methodName": "echo", "payload": None}, {"methodName": "echo"}):
        answer = rest.call_method(device.id, body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["status"] == 200 and answer.json().get("payload") is None
        assert calls.requests[-1].payload is None
    assert len(calls.requests) == len(PAYLOADS) + 2


def test_over_websocket(fleet, registry):
    device = fleet.device()
    calls = Recorder(fleet.connect(device, websockets=True))
    assert registry.invoke_device_method(device.id, method("echo", {"big": "x" * 100_000})).payload == {"big": "x" * 100_000}
    assert len(calls.requests) == 1


def test_any_status_is_the_devices(fleet, registry):
    device = fleet.device()
    Recorder(fleet.connect(device), lambda request: (request.payload, {"said": request.payload}))
    for status in (200, 201, 404, 500, 1, 999_999):
        answer = registry.invoke_device_method(device.id, method("fail", status))
        assert (answer.status, answer.payload) == (status, {"said": status})


def test_names(fleet, registry, rest):
    device = fleet.device()
    calls = Recorder(fleet.connect(device))
    for name in ("reboot", "Reboot", "thermostat*setTarget", "a-b_c.d", "x" * 100):
        registry.invoke_device_method(device.id, method(name, 1))
        assert calls.requests[-1].name == name
    for name in ("", None):
        answer = rest.call_method(device.id, {"methodName": name, "payload": 1})
        assert answer.status_code == 400, f"{name!r}: {answer.text}"
    assert rest.call_method(device.id, {"payload": 1}).status_code == 400


def test_unknown_to_the_application(fleet, registry):
    device = fleet.device()
    Recorder(fleet.connect(device), lambda request: (404, {"unknown": request.name}))
    answer = registry.invoke_device_method(device.id, method("dance"))
    assert (answer.status, answer.payload) == (404, {"unknown": "dance"})


def refused(call):
    with pytest.raises(HttpOperationError) as caught:
        call()
    return caught.value.response.status_code, error_number(caught.value.response)


def test_not_there(fleet, registry):
    offline, silent, disabled = fleet.device(), fleet.device(), fleet.device(status="disabled")
    fleet.connect(silent)  # connected, but never subscribed to methods
    assert refused(lambda: registry.invoke_device_method(offline.id, method("x"))) == (404, 404103)
    assert refused(lambda: registry.invoke_device_method(silent.id, method("x"))) == (404, 404103)
    assert refused(lambda: registry.invoke_device_method("no-such-device", method("x"))) == (404, 404001)
    assert refused(lambda: registry.invoke_device_module_method(offline.id, "no-such-module", method("x"))) == (404, 404010)
    status, number = refused(lambda: registry.invoke_device_method(disabled.id, method("x")))
    assert (status, number) in {(404, 404001), (404, 404103), (403, 403012)}


def test_no_answer_within_the_response_timeout(fleet, registry):
    device = fleet.device()
    held = []
    client = fleet.connect(device)
    calls = Recorder(client, lambda request: held.append(request))
    started = time.monotonic()
    assert refused(lambda: registry.invoke_device_method(device.id, method("sleep", response=5))) == (504, 504101)
    assert time.monotonic() - started >= 4.9
    # A late answer is nobody's; the next call is not disturbed by it.
    from azure.iot.device import MethodResponse

    client.send_method_response(MethodResponse.create_from_method_request(held[0], 200, "late"))
    calls._answer = lambda request: (200, "in time")
    assert registry.invoke_device_method(device.id, method("sleep")).payload == "in time"


def test_the_device_comes_within_the_connect_timeout(fleet, registry):
    device = fleet.device()
    client = fleet.client(device)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(registry.invoke_device_method, device.id, method("wake", {"n": 1}, response=20, connect=30))
        time.sleep(1)  # lets the call arrive first; if it does not, the test is only weaker
        client.connect()
        Recorder(client)
        result = answer.result(40)
    assert (result.status, result.payload) == (200, {"n": 1})


def test_the_device_does_not_come(fleet, registry):
    device = fleet.device()
    started = time.monotonic()
    assert refused(lambda: registry.invoke_device_method(device.id, method("wake", response=5, connect=2))) == (404, 404103)
    assert time.monotonic() - started >= 1.9


def test_the_device_leaves_during_the_call(fleet, registry):
    device = fleet.device()
    client = fleet.client(device, connection_retry=False)
    client.connect()
    calls = Recorder(client, lambda request: None)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(refused, lambda: registry.invoke_device_method(device.id, method("leave", response=30)))
        wait_for(lambda: calls.requests, "the call")
        client.disconnect()
        assert call.result(40) == (404, 404104)


def test_bad_calls(fleet, rest):
    device = fleet.device()
    Recorder(fleet.connect(device))
    bad = [
        {"methodName": "x", "responseTimeoutInSeconds": 4}, {"methodName": "x", "responseTimeoutInSeconds": 301},
        {"methodName": "x", "responseTimeoutInSeconds": -1}, {"methodName": "x", "connectTimeoutInSeconds": 301},
        {"methodName": "x", "connectTimeoutInSeconds": -1}, {"methodName": "x", "responseTimeoutInSeconds": "soon"},
        {"methodName": 7}, [], "x", None,
    ]
    for body in bad:
        answer = rest.call_method(device.id, body)
        assert answer.status_code == 400, f"{body}: {answer.status_code} {answer.text}"
        assert error_number(answer) // 1000 == 400, body
    answer = rest.call_method(device.id, {"methodName": "x", "payload": "x" * (128 * 1024 + 1)})
    assert answer.status_code in (400, 413), answer.text
    # The Azure CLI sends its timeouts as text.
    assert rest.call_method(device.id, {"methodName": "x", "responseTimeoutInSeconds": "5", "connectTimeoutInSeconds": "0"}).status_code == 200


def test_the_bytes_of_a_payload_arrive_as_they_were_sent(hub, fleet, rest):
    """Clients compare lengths: nothing is parsed and printed again (S 17)."""
    from support import mqtt, sas

    device = fleet.device()
    raw = b'{ "b" : 1.0,"a":[ 1 ,\t2 ], "u":"\\u00e9" }'
    with mqtt.Socket(hub) as client:
        client.send(mqtt.connect(device.id, sas.token(device.resource, device.key)))
        assert client.connack() == 0
        client.send(mqtt.subscribe("$iothub/methods/POST/#"))
        assert client.receive()[0] == 0x90
        with ThreadPoolExecutor(1) as pool:
            body = b'{"methodName":"raw","payload":' + raw + b"}"
            answer = pool.submit(rest.send, "POST", f"/twins/{device.id}/methods", data=body)
            first, packet = client.receive()
            assert first >> 4 == 3
            length = int.from_bytes(packet[:2], "big")
            topic, payload = packet[2:2 + length].decode(), packet[2 + length:]
            assert topic.startswith("$iothub/methods/POST/raw/?$rid=")
            assert payload == raw
            request_id = topic.split("$rid=")[1]
            client.send(mqtt.publish(f"$iothub/methods/res/207/?$rid={request_id}", b""))
            assert answer.result(20).json() == {"status": 207, "payload": None}


def test_many_at_once(fleet, registry):
    device = fleet.device()
    gate = threading.Event()

    def answer(request):
        gate.wait(10)
        return 200, request.payload

    Recorder(fleet.connect(device), answer)
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(registry.invoke_device_method, device.id, method("many", number, 20)) for number in range(8)]
        gate.set()
        assert [call.result(30).payload for call in calls] == list(range(8))
