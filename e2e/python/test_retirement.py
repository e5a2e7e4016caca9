"""A retired device, with the official device SDK: its connection ends, its key fails over MQTT and WebSocket, and it comes
back with the same key. And a device that erases itself and signs for it, as docs/retirement.md says."""

import base64
import hashlib
import hmac
import json

import pytest
from azure.iot.device import MethodResponse
from azure.iot.device.exceptions import CredentialError

from support.fleet import wait_for
from support.rest import error_name


def retire(rest, device, **body):
    return rest.send("POST", f"/api/devices/{device.id}/retire", body)


def refused(fleet, device, **options):
    """A fresh client with the device's key is told that it proves nothing."""
    with pytest.raises(CredentialError):
        fleet.client(device, **options).connect()


def test_a_retired_device_is_shut_out_and_comes_back(fleet, rest):
    device = fleet.device()
    # A client that does not come back by itself, so that the end of its connection is seen.
    client = fleet.connect(device, auto_connect=False, connection_retry=False)
    client.patch_twin_reported_properties({"firmware": {"version": "1.2"}})
    assert rest.send("PATCH", f"/twins/{device.id}", {"tags": {"site": "a"}}).status_code == 200
    before = rest.send("GET", f"/twins/{device.id}").json()

    retired = retire(rest, device, reason="worn out")
    assert retired.status_code == 200, retired.text
    wait_for(lambda: not client.connected, "the end of the connection")
    refused(fleet, device, connection_retry=False)
    refused(fleet, device, connection_retry=False, websockets=True)
    assert error_name(rest.send("GET", f"/twins/{device.id}")) == "DeviceNotFound"
    query = {"query": f"SELECT tags.site, properties.reported.firmware.version FROM devices.retired WHERE deviceId = '{device.id}'"}
    assert rest.send("POST", "/devices/query", query).json() == [{"site": "a", "version": "1.2"}]

    assert rest.send("POST", f"/api/retired/{device.id}/restore", {}).status_code == 200
    back = fleet.connect(device)
    twin = back.get_twin()
    assert twin["reported"] == {"firmware": {"version": "1.2"}, "$version": before["properties"]["reported"]["$version"]}


def test_the_service_sdk_is_told_why_it_cannot_create(fleet, rest, registry):
    device = fleet.device()
    assert retire(rest, device).status_code == 200
    with pytest.raises(Exception) as error:
        registry.create_device_with_sas(device.id, None, None, "enabled")
    assert error.value.response.status_code == 409
    assert "was retired at" in error.value.response.text


@pytest.mark.parametrize("honest", [True, False])
def test_a_device_erases_itself_and_signs_for_it(fleet, rest, honest):
    device = fleet.device()
    client = fleet.client(device, connection_retry=False)

    def wipe(request):
        at, nonce = "2026-05-04T08:15:30Z", request.payload["nonce"]
        text = f"fleetyard-erase-receipt-1\n{device.id}\n{at}\n{nonce}"
        key = base64.b64decode(device.key) if honest else b"another key of thirty-two bytes!"
        signature = base64.b64encode(hmac.new(key, text.encode(), hashlib.sha256).digest()).decode()
        receipt = {"deviceId": device.id, "erasedAt": at, "nonce": nonce, "signature": signature}
        client.send_method_response(MethodResponse.create_from_method_request(request, 200, {"receipt": receipt}))

    client.on_method_request_received = wipe
    client.connect()
    answer = retire(rest, device, eraseMethod={"methodName": "wipe", "payload": {"deep": True}, "connectTimeoutInSeconds": 10})
    if honest:
        assert answer.status_code == 200, answer.text
        assert answer.json()["receipt"]["erasedAt"] == "2026-05-04T08:15:30Z"
        wait_for(lambda: not client.connected, "the end of the connection")
    else:
        assert (answer.status_code, error_name(answer)) == (409, "GenericConflict"), answer.text
        assert rest.send("GET", f"/devices/{device.id}").status_code == 200, "it is not retired"


def test_everything_about_a_device_ends_with_its_end(fleet, rest):
    device = fleet.device()
    fleet.connect(device).send_message("hello")
    wait_for(lambda: "telemetry" in sources(rest, device), "its message in the log")
    assert sources(rest, device)[-1] == "end"


def sources(rest, device):
    lines = rest.send("GET", f"/api/devices/{device.id}/everything").text.splitlines()
    parts = [json.loads(line) for line in lines]
    return [part["event"]["source"] if part["part"] == "event" else part["part"] for part in parts]
