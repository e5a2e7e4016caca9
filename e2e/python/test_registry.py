"""The identity registry: create, update, etags, conflicts, bulk, keys, statistics (S 2)."""

import base64

import pytest
from azure.iot.hub.models import AuthenticationMechanism, ExportImportDevice, SymmetricKey
from msrest.exceptions import HttpOperationError

from support import mqtt, sas
from support.rest import error_name


def failure(call):
    """Status and error name of a call that must fail."""
    with pytest.raises(HttpOperationError) as caught:
        call()
    return caught.value.response.status_code, error_name(caught.value.response)


def bulk_item(device_id, mode="create", **fields):
    fields.setdefault("authentication", AuthenticationMechanism(type="sas", symmetric_key=SymmetricKey()))
    return ExportImportDevice(id=device_id, import_mode=mode, status=fields.pop("status", "enabled"), **fields)


def test_create(fleet, registry):
    device_id = fleet.new_id()
    made = registry.create_device_with_sas(device_id, None, None, "enabled", status_reason="first")
    assert (made.device_id, made.status, made.status_reason) == (device_id, "enabled", "first")
    assert (made.connection_state, made.cloud_to_device_message_count) == ("Disconnected", 0)
    keys = made.authentication.symmetric_key
    assert keys.primary_key != keys.secondary_key
    assert len(base64.b64decode(keys.primary_key)) == 32
    assert made.authentication.type == "sas"
    assert base64.b64decode(made.etag).isdigit()
    again = registry.get_device(device_id)
    assert (again.etag, again.generation_id) == (made.etag, made.generation_id)
    assert registry.get_twin(device_id).device_etag == made.etag
    assert failure(lambda: registry.create_device_with_sas(device_id, None, None, "enabled")) == (409, "DeviceAlreadyExists")
    assert registry.get_device(device_id).etag == made.etag


def test_given_keys_and_other_kinds(fleet, registry):
    mine, other = base64.b64encode(b"p" * 16).decode(), base64.b64encode(b"s" * 64).decode()
    made = registry.create_device_with_sas(fleet.new_id(), mine, other, "enabled")
    keys = made.authentication.symmetric_key
    assert (keys.primary_key, keys.secondary_key) == (mine, other)
    made = registry.create_device_with_x509(fleet.new_id(), "a" * 40, "B" * 64, "disabled")
    thumbprints = made.authentication.x509_thumbprint
    assert (thumbprints.primary_thumbprint.lower(), thumbprints.secondary_thumbprint.lower()) == ("a" * 40, "b" * 64)
    assert made.authentication.symmetric_key is None or made.authentication.symmetric_key.primary_key is None


def test_ids(fleet, registry, rest):
    for device_id in ("x" * 128, "A-.%_*?!(),:=@$'", "UPPER", "upper"):
        assert registry.create_device_with_sas(device_id, None, None, "enabled").device_id == device_id
        assert registry.get_device(device_id).device_id == device_id
        assert registry.get_twin(device_id).device_id == device_id
        registry.delete_device(device_id)
    for device_id in ("x" * 129, "a/b", "a b", "é", "a\u0007"):
        status, name = failure(lambda: registry.create_device_with_sas(device_id, None, None, "enabled"))
        assert (status, name) == (400, "ArgumentInvalid"), device_id
    answer = rest.send("PUT", "/devices/one", {"deviceId": "two"})
    assert (answer.status_code, error_name(answer)) == (400, "ArgumentInvalid")


def test_update(fleet, registry):
    device = fleet.device()
    before = registry.get_device(device.id)
    updated = registry.update_device_with_sas(device.id, before.etag, sas.OTHER_KEY, device.key, "disabled", status_reason="spare")
    assert updated.authentication.symmetric_key.primary_key == sas.OTHER_KEY
    assert (updated.status, updated.status_reason) == ("disabled", "spare")
    assert updated.etag != before.etag and updated.generation_id == before.generation_id
    assert updated.status_updated_time.year > 2000
    stale = lambda: registry.update_device_with_sas(device.id, before.etag, device.key, device.key, "enabled")
    assert failure(stale) == (412, "PreconditionFailed")
    assert registry.update_device_with_sas(device.id, None, device.key, device.key, "enabled").status == "enabled"
    assert failure(lambda: registry.update_device_with_sas("nobody", "*", device.key, device.key, "enabled")) == (404, "DeviceNotFound")
    changed = registry.update_device_with_x509(device.id, "*", "a" * 40, "b" * 40, "enabled")
    assert changed.authentication.type == "selfSigned"


def test_every_form_of_etag(fleet, registry, rest):
    device = fleet.device()
    path = f"/devices/{device.id}"
    for form in ('"{}"', "{}", 'W/"{}"', "*", '"*"'):
        body = rest.send("GET", path).json()
        answer = rest.send("PUT", path, body | {"statusReason": form}, {"If-Match": form.format(body["etag"])})
        assert answer.status_code == 200, f"{form}: {answer.text}"
        assert answer.json()["statusReason"] == form and answer.json()["etag"] != body["etag"]
        assert answer.headers["ETag"].strip('"') == answer.json()["etag"]
    stale = body["etag"]
    for form in ('"{}"', "{}", 'W/"{}"'):
        for method in ("PUT", "DELETE"):
            answer = rest.send(method, path, body if method == "PUT" else None, {"If-Match": form.format(stale)})
            assert (answer.status_code, error_name(answer)) == (412, "PreconditionFailed"), f"{method} {form}"
    assert rest.send("PUT", path, body).status_code == 409, "without If-Match it is a creation"
    assert rest.send("DELETE", path, headers={"If-Match": "*"}).status_code == 204
    assert rest.send("PUT", path, body, {"If-Match": "*"}).status_code == 404


def test_delete(fleet, registry):
    device = fleet.device()
    etag = registry.get_device(device.id).etag
    registry.update_device_with_sas(device.id, etag, device.key, device.key, "enabled")
    assert failure(lambda: registry.delete_device(device.id, etag)) == (412, "PreconditionFailed")
    registry.delete_device(device.id)
    assert failure(lambda: registry.get_device(device.id)) == (404, "DeviceNotFound")
    assert failure(lambda: registry.get_twin(device.id))[0] == 404
    assert failure(lambda: registry.delete_device(device.id)) == (404, "DeviceNotFound")


def test_bad_identities(rest, fleet):
    good = {"deviceId": "bad", "status": "enabled"}
    key, short = sas.OTHER_KEY, base64.b64encode(b"short").decode()

    def keys(primary, secondary):
        return {"authentication": {"type": "sas", "symmetricKey": {"primaryKey": primary, "secondaryKey": secondary}}}

    def thumbprints(primary):
        return {"authentication": {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": primary, "secondaryThumbprint": None}}}

    cases = [
        {"status": "sleepy"}, {"statusReason": "x" * 129}, keys(key, None), keys("not base64!", key), keys(short, short),
        thumbprints("xyz"), thumbprints("a" * 41), thumbprints(None), {"authentication": {"type": "magic"}}, {"authentication": 5},
    ]
    for case in cases:
        answer = rest.send("PUT", "/devices/bad", good | case)
        assert answer.status_code == 400, f"{case}: {answer.status_code} {answer.text}"
        assert error_name(answer)
    for body in (b"", b"{", b"[]", b"null", b'{"deviceId":"bad"} x', b"\xff"):
        answer = rest.send("PUT", "/devices/bad", data=body)
        assert answer.status_code == 400, f"{body}: {answer.status_code}"
    assert rest.send("GET", "/devices/bad").status_code == 404
    assert rest.send("PUT", "/devices/bad", good | {"unknownField": 1}).status_code == 200
    assert rest.send("DELETE", "/devices/bad").status_code == 204


def test_bulk(fleet, registry):
    ids = [fleet.new_id("py-bulk") for _ in range(100)]
    items = [bulk_item(device_id, tags={"batch": "a", "n": number}) for number, device_id in enumerate(ids)]
    result = registry.bulk_create_or_update_devices(items)
    assert (result.is_successful, result.errors, result.warnings) == (True, [], [])
    assert registry.get_twin(ids[99]).tags == {"batch": "a", "n": 99}
    assert registry.get_device(ids[0]).authentication.symmetric_key.primary_key
    assert len({device.device_id for device in registry.get_devices(1000)} & set(ids)) == 100
    assert len(registry.get_devices(7)) == 7
    deleted = registry.bulk_create_or_update_devices([bulk_item(device_id, "delete") for device_id in ids])
    assert deleted.is_successful
    assert not {device.device_id for device in registry.get_devices()} & set(ids)


def test_bulk_with_partial_failure(fleet, registry, rest):
    there, new, gone = fleet.device().id, fleet.new_id(), fleet.new_id()
    etag = registry.get_device(there).etag
    answer = rest.send("POST", "/devices", [
        {"id": there, "importMode": "create", "status": "enabled"},
        {"id": new, "importMode": "create", "status": "enabled", "properties": {"desired": {"x": 1}}},
        {"id": gone, "importMode": "update", "status": "enabled"},
        {"id": "bad id", "importMode": "create", "status": "enabled"},
    ])
    assert answer.status_code == 400
    assert answer.headers["IotHubErrorCode"] == "BulkRegistryOperationFailure"
    body = answer.json()
    assert body["isSuccessful"] is False and body["warnings"] == []
    errors = {error["deviceId"]: str(error["errorCode"]) for error in body["errors"]}
    assert errors.keys() == {there, gone, "bad id"}
    assert errors[there] in ("DeviceAlreadyExists", "409001") and errors[gone] in ("DeviceNotFound", "404001")
    assert all(error["errorStatus"] for error in body["errors"])
    assert registry.get_twin(new).properties.desired["x"] == 1, "the good ones are done"
    assert registry.get_device(there).etag == etag
    result = registry.bulk_create_or_update_devices([bulk_item(there)])
    assert (result.is_successful, [error.device_id for error in result.errors]) == (False, [there])


def test_bulk_modes(fleet, registry, rest):
    device_id = fleet.new_id()

    def run(mode, **fields):
        answer = rest.send("POST", "/devices/", [{"id": device_id, "importMode": mode} | fields])
        return answer.status_code, [str(error["errorCode"]) for error in answer.json()["errors"]]

    assert run("createOrUpdate", status="enabled", tags={"a": 1}) == (200, [])
    etag = registry.get_device(device_id).etag
    assert run("updateIfMatchETag", status="disabled", eTag="AAAA")[1] in (["PreconditionFailed"], ["412001"])
    assert run("updateIfMatchETag", status="disabled", eTag=etag) == (200, [])
    assert registry.get_device(device_id).status == "disabled"
    assert run("UpdateTwin", tags={"a": 2}, properties={"desired": {"d": 1}}) == (200, [])
    twin = registry.get_twin(device_id)
    assert (twin.tags["a"], twin.properties.desired["d"], twin.status) == (2, 1, "disabled")
    assert run("updateTwinIfMatchETag", tags={"a": 3}, twinETag="AAAAAAAAAAE=")[0] == 400
    assert run("updateTwinIfMatchETag", tags={"a": 3}, twinETag=twin.etag) == (200, [])
    assert run("deleteIfMatchETag", eTag=etag)[0] == 400
    assert run("delete") == (200, [])
    assert rest.send("GET", f"/devices/{device_id}").status_code == 404


def test_bulk_refused_as_a_whole(fleet, rest, registry):
    one = fleet.new_id()
    many = [{"id": f"{one}-{number}", "importMode": "create"} for number in range(101)]
    answer = rest.send("POST", "/devices", many)
    assert (answer.status_code, error_name(answer)) == (413, "TooManyDevices")
    assert rest.send("GET", f"/devices/{one}-0").status_code == 404
    twice = rest.send("POST", "/devices", [{"id": one, "importMode": "create"}] * 2)
    assert twice.status_code == 400 and "DeviceDefinedMultipleTimes" in twice.text
    for body in (b"{}", b"[", b"[1]", b'[{"importMode":"create"}]', b'[{"id":"x","importMode":"explode"}]'):
        assert rest.send("POST", "/devices", data=body).status_code == 400, body


def test_regenerated_keys(hub, fleet, registry, rest):
    device, other = fleet.device(), fleet.device()
    module = fleet.module(device)
    parameters = {"api-version": "2024-03-31"}

    def regenerate(which, *devices):
        return rest.send("POST", "/devices/keys/regenerate", {"policyKey": which, "devices": list(devices)}, parameters=parameters)

    secondary = registry.get_device(device.id).authentication.symmetric_key.secondary_key
    answer = regenerate("primaryKey", {"id": device.id}, {"id": device.id, "moduleId": module.module})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["policyKey"] == "primaryKey" and body["errors"] == []
    keys = registry.get_device(device.id).authentication.symmetric_key
    assert keys.primary_key != device.key and keys.secondary_key == secondary
    rotated = {entry.get("moduleId") or "": entry for entry in body["rotatedKeys"]}
    assert rotated[""]["id"] == device.id and rotated[""]["primaryKey"] == keys.primary_key
    assert rotated["sensor"]["primaryKey"] != module.key
    assert mqtt.connect_code(hub, device.id, sas.token(device.resource, device.key)) == 5
    assert mqtt.connect_code(hub, device.id, sas.token(device.resource, keys.primary_key)) == 0
    partial = regenerate("both", {"id": other.id}, {"id": "nobody"})
    assert partial.status_code == 207
    assert [error["id"] for error in partial.json()["errors"]] == ["nobody"]
    assert registry.get_device(other.id).authentication.symmetric_key.primary_key != other.key
    assert regenerate("both", {"id": "nobody"}).status_code == 400
    assert regenerate("tertiaryKey", {"id": other.id}).status_code == 400


def test_statistics(fleet, registry):
    before = registry.get_device_registry_statistics()
    enabled, disabled = fleet.device(), fleet.device(status="disabled")
    after = registry.get_device_registry_statistics()
    assert after.total_device_count == before.total_device_count + 2
    assert after.enabled_device_count == before.enabled_device_count + 1
    assert after.disabled_device_count == before.disabled_device_count + 1
    connected = registry.get_service_statistics().connected_device_count
    fleet.connect(enabled)
    assert registry.get_service_statistics().connected_device_count == connected + 1
    registry.delete_device(disabled.id)
    assert registry.get_device_registry_statistics().disabled_device_count == before.disabled_device_count


def test_list_with_and_without_slash(fleet, rest):
    fleet.device()
    for path in ("/devices", "/devices/"):
        answer = rest.send("GET", path, parameters={"top": "1", "api-version": "2021-04-12"})
        assert answer.status_code == 200 and len(answer.json()) == 1, path
        assert answer.headers["Content-Type"].lower() == "application/json; charset=utf-8"
