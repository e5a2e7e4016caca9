"""Who may do what over REST: policies, tokens, versions of the protocol (S 1)."""

import time

import pytest
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import CloudToDeviceMethod, QuerySpecification, Twin
from msrest.exceptions import HttpOperationError

from support import sas
from support.hub import HOST
from support.rest import Rest, error_name

POLICIES = {
    "iothubowner": {"read", "write", "service"},
    "service": {"service"},
    "device": set(),
    "registryRead": {"read"},
    "registryReadWrite": {"read", "write"},
}


@pytest.mark.parametrize("policy", POLICIES)
def test_policies(hub, fleet, policy):
    registry = IoTHubRegistryManager.from_connection_string(hub.connection_string(policy))
    device, doomed = fleet.device(), fleet.device()
    method = CloudToDeviceMethod(method_name="x", payload=1, response_timeout_in_seconds=5)
    operations = [
        ("read", lambda: registry.get_device(device.id)),
        ("read", lambda: registry.get_devices(1)),
        ("read", lambda: registry.get_modules(device.id)),
        ("read", registry.get_device_registry_statistics),
        ("write", lambda: registry.create_device_with_sas(fleet.new_id(), None, None, "enabled")),
        ("write", lambda: registry.update_device_with_sas(device.id, "*", device.key, device.key, "enabled")),
        ("write", lambda: registry.create_module_with_sas(device.id, "m", "", None, None)),
        ("write", lambda: registry.delete_device(doomed.id)),
        ("service", lambda: registry.get_twin(device.id)),
        ("service", lambda: registry.update_twin(device.id, Twin(tags={"a": 1}))),
        ("service", lambda: registry.query_iot_hub(QuerySpecification(query="SELECT * FROM devices"))),
        ("service", lambda: registry.invoke_device_method(device.id, method)),
    ]
    for number, (right, operation) in enumerate(operations):
        try:
            operation()
            status = 200
        except HttpOperationError as error:
            status = error.response.status_code
        if right in POLICIES[policy]:
            assert status in (200, 404), f"operation {number} ({right}): {status}"  # 404: the device is offline
        else:
            assert status == 401, f"operation {number} ({right}): {status}"
    still = IoTHubRegistryManager.from_connection_string(hub.connection_string())
    if "service" not in POLICIES[policy]:
        assert still.get_twin(device.id).tags is None
    if "write" not in POLICIES[policy]:
        assert still.get_device(doomed.id).device_id == doomed.id


def test_refused_tokens(hub, fleet, rest):
    device = fleet.device()
    parts = sas.parse_connection_string(rest.connection_string)
    key, now = parts["SharedAccessKey"], int(time.time())
    right = sas.token(HOST, key, policy="iothubowner")
    refused = {
        "none": "",
        "expired": sas.token(HOST, key, now - 3600, "iothubowner"),
        "an expiry beyond all integers": sas.token(HOST, key, "9" * 40, "iothubowner"),
        "another key": sas.token(HOST, sas.OTHER_KEY, policy="iothubowner"),
        "an unknown policy": sas.token(HOST, key, policy="nobody"),
        "another policy's key": sas.token(HOST, key, policy="service"),
        "another host": sas.token("example.org", key, policy="iothubowner"),
        "another path": sas.token(f"{HOST}/twins", key, policy="iothubowner"),
        "another device": sas.token(f"{HOST}/devices/other", key, policy="iothubowner"),
        "a prefix that is no segment": sas.token(f"{HOST}/devices/{device.id[:-1]}", key, policy="iothubowner"),
        "no policy": sas.token(HOST, key),
        "forged": right.replace("sig=", "sig=AAAA"),
        "prolonged": right.replace("&se=", "&se=9"),
        "a device's": sas.token(device.resource, device.key),
        "basic": "Basic aW90aHVib3duZXI6eA==",
        "bearer": "Bearer abc.def.ghi",
        "broken": "SharedAccessSignature sr&sig&se",
        "percent signs": "SharedAccessSignature sr=%zz&sig=%&se=%&skn=%",
        "endless": "SharedAccessSignature sr=" + "a" * 4000,
    }
    for what, token in refused.items():
        answer = rest.send("GET", f"/devices/{device.id}", authorization=token)
        assert answer.status_code == 401, f"{what}: {answer.status_code} {answer.text}"
        assert error_name(answer).startswith(("IotHubUnauthorized", "GenericUnauthorized")), what
        assert key not in answer.text and device.key not in answer.text
    accepted = {
        "within the clock skew": sas.token(HOST, key, now - 60, "iothubowner"),
        "far in the future": sas.token(HOST, key, now + 100 * 365 * 86400, "iothubowner"),
        "this path": sas.token(f"{HOST}/devices/{device.id}", key, policy="iothubowner"),
        "upper-case host": sas.token(HOST.upper(), key, policy="iothubowner"),
    }
    for what, token in accepted.items():
        answer = rest.send("GET", f"/devices/{device.id}", authorization=token)
        assert answer.status_code == 200, f"{what}: {answer.text}"


def test_versions_and_unknown_routes(fleet, rest):
    device = fleet.device()
    path = f"/devices/{device.id}"
    for version in ("2018-06-30", "2020-05-31-preview", "2021-04-12", "2024-03-31"):
        assert rest.send("GET", path, parameters={"api-version": version}).status_code == 200, version
    for parameters in ({}, {"api-version": ""}, {"api-version": "tomorrow"}):
        answer = rest.send("GET", path, parameters=parameters)
        assert (answer.status_code, error_name(answer)) == (400, "InvalidProtocolVersion"), parameters
    assert rest.send("GET", "/no/such/route").status_code == 404
    assert rest.send("POST", path).status_code in (404, 405)
    answer = rest.send("GET", "/devices/nobody")
    assert answer.headers["x-ms-request-id"]
    assert answer.json()["ExceptionMessage"].startswith("Tracking ID:")


def test_policies_of_the_command_line_and_rotation(hub, rest):
    listed = rest.send("GET", "/api/policies")
    assert listed.status_code == 200
    for policy in POLICIES:
        key = sas.parse_connection_string(hub.connection_string(policy))["SharedAccessKey"]
        assert policy in listed.text and key not in listed.text
    assert Rest(hub, "service").send("GET", "/api/policies/iothubowner").status_code == 401
    before = Rest(hub, "registryRead")
    assert before.send("GET", "/devices").status_code == 200
    assert rest.send("POST", "/api/policies/registryRead/rotate", {"key": "primary"}).status_code == 200
    assert before.send("GET", "/devices").status_code == 401, "the old key is dead at once"
    assert Rest(hub, "registryRead").send("GET", "/devices").status_code == 200


def test_status_and_description(rest):
    assert rest.send("GET", "/api/status").status_code == 200
    assert rest.send("GET", "/api/status", authorization="").status_code == 401
    document = rest.send("GET", "/api/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    for path in ("/devices/{id}", "/twins/{id}", "/devices/query", "/api/events"):
        assert path in document["paths"], f"{path} not among {sorted(document['paths'])}"
