"""Connecting: SAS, X.509, WebSocket, renewal, takeover, and connections that the hub must end (D 1, D 7)."""

import time

import pytest
from azure.iot.device import IoTHubDeviceClient
from azure.iot.device.exceptions import ClientError, ConnectionFailedError, CredentialError

from support import mqtt, sas
from support.certificates import self_signed
from support.fleet import Patches, Recorder, wait_for
from support.hub import HOST


def report(client, value):
    """Proves that the connection carries something, by the answer to a patch."""
    client.patch_twin_reported_properties({"alive": value})


def connection_state(registry, device):
    return registry.get_device(device.id).connection_state


@pytest.mark.parametrize("websockets", [False, True], ids=["mqtt", "websocket"])
def test_sas_key(fleet, registry, websockets):
    device = fleet.device()
    assert connection_state(registry, device) == "Disconnected"
    client = fleet.connect(device, websockets=websockets)
    assert client.connected
    report(client, 1)
    assert registry.get_twin(device.id).properties.reported["alive"] == 1
    assert connection_state(registry, device) == "Connected"
    assert registry.get_twin(device.id).connection_state == "Connected"
    client.disconnect()
    wait_for(lambda: connection_state(registry, device) == "Disconnected", "Disconnected")
    client.connect()
    report(client, 2)
    assert registry.get_twin(device.id).properties.reported["alive"] == 2


def test_connection_string_of_the_command_line(hub, fleet, registry):
    device = fleet.device()
    text = hub.connection_string(device=device.id)
    assert sas.parse_connection_string(text)["SharedAccessKey"] == device.key
    client = fleet.keep(IoTHubDeviceClient.create_from_connection_string(text, server_verification_cert=hub.ca_text))
    client.connect()
    report(client, 1)
    assert registry.get_twin(device.id).properties.reported["alive"] == 1


def test_secondary_key(hub, fleet, registry):
    device = fleet.device()
    device.key = registry.get_device(device.id).authentication.symmetric_key.secondary_key
    report(fleet.connect(device), 1)


def test_policy_token_connects_any_device(hub, fleet, registry):
    device = fleet.device()
    parts = sas.parse_connection_string(hub.connection_string("device"))
    token = sas.token(device.resource, parts["SharedAccessKey"], policy="device")
    client = fleet.keep(IoTHubDeviceClient.create_from_sastoken(token, server_verification_cert=hub.ca_text))
    client.connect()
    report(client, 1)


@pytest.mark.parametrize("websockets", [False, True], ids=["mqtt", "websocket"])
@pytest.mark.parametrize("digest", ["sha1", "sha256"])
def test_x509_thumbprint(hub, fleet, registry, tmp_path, digest, websockets):
    device_id = fleet.new_id("py-x509")
    certificate = self_signed(tmp_path, device_id)
    spare = self_signed(tmp_path, device_id + "-spare")
    registry.create_device_with_x509(device_id, getattr(certificate, digest), getattr(spare, digest).lower(), "enabled")
    assert registry.get_device(device_id).authentication.type == "selfSigned"
    for which in (certificate, spare):
        client = fleet.keep(
            IoTHubDeviceClient.create_from_x509_certificate(
                which.as_sdk(), HOST, device_id, server_verification_cert=hub.ca_text, websockets=websockets
            )
        )
        client.connect()
        report(client, which.sha1)
        assert registry.get_twin(device_id).properties.reported["alive"] == which.sha1
        client.disconnect()


def x509_client(hub, fleet, device_id, certificate):
    return fleet.keep(
        IoTHubDeviceClient.create_from_x509_certificate(
            certificate.as_sdk(), HOST, device_id, server_verification_cert=hub.ca_text
        )
    )


def test_x509_refusals(hub, fleet, registry, tmp_path):
    good = self_signed(tmp_path, "good")
    expired = self_signed(tmp_path, "expired", days_from=-30, days_to=-1)
    early = self_signed(tmp_path, "early", days_from=2, days_to=30)
    device_id = fleet.new_id("py-x509")
    registry.create_device_with_x509(device_id, good.sha256, good.sha256, "enabled")
    expired_id = fleet.new_id("py-x509")
    registry.create_device_with_x509(expired_id, expired.sha256, early.sha256, "enabled")
    with_key = fleet.device()
    cases = {
        "a foreign certificate": (device_id, self_signed(tmp_path, "foreign")),
        "an expired certificate": (expired_id, expired),
        "a certificate not valid yet": (expired_id, early),
        "a certificate where a key is asked for": (with_key.id, good),
        "an unknown device": ("nobody", good),
    }
    for what, (device, certificate) in cases.items():
        with pytest.raises(CredentialError):
            x509_client(hub, fleet, device, certificate).connect()
            pytest.fail(f"accepted {what}")
    # A key does not open a device of certificates, and no credential at all opens none.
    assert mqtt.connect_code(hub, device_id, sas.token(f"{HOST}/devices/{device_id}", sas.OTHER_KEY)) == 5
    assert mqtt.connect_code(hub, device_id) == 5
    x509_client(hub, fleet, device_id, good).connect()


def test_wrong_keys(hub, fleet):
    device, other = fleet.device(), fleet.device()
    wrong = type(device)(device.id, other.key)
    with pytest.raises(CredentialError):
        fleet.client(wrong).connect()
    unknown = type(device)("no-such-device", device.key)
    with pytest.raises(CredentialError):
        fleet.client(unknown).connect()
    report(fleet.connect(device), 1)


def test_refused_tokens(hub, fleet, registry):
    device, other = fleet.device(), fleet.device()
    resource, now = device.resource, int(time.time())
    right = sas.token(resource, device.key)
    service = sas.parse_connection_string(hub.connection_string("service"))["SharedAccessKey"]
    refused = {
        "expired": sas.token(resource, device.key, now - 3600),
        "expired in 1970": sas.token(resource, device.key, 0),
        "an expiry beyond all integers": sas.token(resource, device.key, "9" * 40),
        "a negative expiry": sas.token(resource, device.key, "-5"),
        "an expiry that is no number": sas.token(resource, device.key, "soon"),
        "signed with another key": sas.token(resource, sas.OTHER_KEY),
        "another device's": sas.token(other.resource, other.key),
        "another device's key for this resource": sas.token(resource, other.key),
        "this key for another resource": sas.token(other.resource, device.key),
        "a prefix that is no path segment": sas.token(resource[:-1], device.key),
        "a policy without DeviceConnect": sas.token(resource, service, policy="service"),
        "an unknown policy": sas.token(resource, device.key, policy="nobody"),
        "a forged signature": right.replace("sig=", "sig=AAAA"),
        "a prolonged expiry": right.replace("se=", "se=1"),
        "no signature": right.split("&sig=")[0] + "&se=" + right.split("&se=")[1],
        "not a token": "let me in",
        "empty": "",
    }
    for what, token in refused.items():
        assert mqtt.connect_code(hub, device.id, token) == 5, what
    accepted = {
        "right": right,
        "within the clock skew": sas.token(resource, device.key, now - 60),
        "far in the future": sas.token(resource, device.key, now + 100 * 365 * 86400),
    }
    for what, token in accepted.items():
        assert mqtt.connect_code(hub, device.id, token) == 0, what
    assert registry.get_twin(device.id).properties.reported.get("alive") is None


def test_user_name_and_client_id_must_agree(hub, fleet):
    device, other = fleet.device(), fleet.device()
    token = sas.token(device.resource, device.key)
    assert mqtt.connect_code(hub, device.id, token, client_id=other.id) == 5
    assert mqtt.connect_code(hub, device.id, token, username=f"{HOST}/{other.id}{mqtt.USERNAME_TAIL}") == 5
    assert mqtt.connect_code(hub, device.id, token) == 0
    for form in ["/api-version=2018-06-30", "/?api-version=2020-09-30&DeviceClientType=c%2F1.0&model-id=dtmi%3aa%3ab%3b1", ""]:
        assert mqtt.connect_code(hub, device.id, token, username=f"{HOST}/{device.id}{form}") == 0, form


def test_renewal_by_the_sdk(fleet, registry):
    """The SDK renews 120 s before the end of a token: here after 3 s, again and again, and subscribes to nothing."""
    device = fleet.device()
    client = fleet.client(device, sastoken_ttl=123)
    states = []
    client.on_connection_state_change = lambda: states.append(client.connected)
    client.connect()
    calls, patches = Recorder(client), Patches(client)
    wait_for(lambda: states.count(True) >= 3, f"two renewals ({states})", 30)
    wait_for(lambda: client.connected, "connected")
    invoke(registry, device, {"after": "renewal"})
    assert calls.requests[-1].payload == {"after": "renewal"}
    set_desired(registry, device, {"after": "renewal"})
    patches.wait(lambda patch: patch.get("after") == "renewal")


def test_renewal_by_the_application(hub, fleet, registry):
    device = fleet.device()
    client = fleet.keep(
        IoTHubDeviceClient.create_from_sastoken(
            sas.token(device.resource, device.key), server_verification_cert=hub.ca_text
        )
    )
    client.connect()
    calls = Recorder(client)
    client.update_sastoken(sas.token(device.resource, device.key, int(time.time()) + 7200))
    wait_for(lambda: client.connected, "connected")
    invoke(registry, device, 1)
    assert calls.requests[-1].payload == 1


def test_takeover_by_the_newer_connection(fleet, registry):
    device = fleet.device()
    first = fleet.connect(device, connection_retry=False)
    second = fleet.connect(device, connection_retry=False)
    wait_for(lambda: not first.connected, "the older connection ends")
    assert second.connected
    calls = Recorder(second)
    invoke(registry, device, "newer")
    assert calls.requests[-1].payload == "newer"
    assert connection_state(registry, device) == "Connected"


def disable(registry, device):
    found = registry.get_device(device.id)
    keys = found.authentication.symmetric_key
    registry.update_device_with_sas(device.id, found.etag, keys.primary_key, keys.secondary_key, "disabled")


@pytest.mark.parametrize("end", ["disabled", "deleted"])
def test_a_connection_ends_with_its_identity(fleet, registry, end):
    device, bystander = fleet.device(), fleet.device()
    client = fleet.connect(device, connection_retry=False)
    other = fleet.connect(bystander, connection_retry=False)
    if end == "disabled":
        disable(registry, device)
    else:
        registry.delete_device(device.id)
    wait_for(lambda: not client.connected, "the connection ends", 5)
    with pytest.raises((CredentialError, ConnectionFailedError)):
        client.connect()
    report(other, 1)
    assert other.connected


def test_a_disabled_device_may_return(fleet, registry):
    device = fleet.device(status="disabled")
    with pytest.raises((CredentialError, ConnectionFailedError)):
        fleet.client(device).connect()
    registry.update_device_with_sas(device.id, "*", device.key, device.key, "enabled")
    report(fleet.connect(device), 1)


def test_a_deleted_and_recreated_device_is_new(fleet, registry):
    device = fleet.device()
    report(fleet.connect(device, connection_retry=False), "old")
    before = registry.get_device(device.id).generation_id
    registry.delete_device(device.id)
    registry.create_device_with_sas(device.id, sas.OTHER_KEY, sas.OTHER_KEY, "enabled")
    assert registry.get_device(device.id).generation_id != before
    assert "alive" not in registry.get_twin(device.id).properties.reported
    with pytest.raises(ClientError):
        fleet.client(device).connect()


def invoke(registry, device, payload):
    from azure.iot.hub.models import CloudToDeviceMethod

    method = CloudToDeviceMethod(method_name="ping", payload=payload, response_timeout_in_seconds=10)
    answer = registry.invoke_device_method(device.id, method)
    assert answer.status == 200
    return answer.payload


def set_desired(registry, device, desired):
    from azure.iot.hub.models import Twin, TwinProperties

    return registry.update_twin(device.id, Twin(properties=TwinProperties(desired=desired)))
