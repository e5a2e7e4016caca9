"""Modules: identities, twins and methods of their own beside the device's (S 2.4)."""

import pytest
from azure.iot.device.exceptions import CredentialError
from azure.iot.hub.models import CloudToDeviceMethod, Twin, TwinProperties
from msrest.exceptions import HttpOperationError

from support import sas
from support.fleet import Identity, Patches, Recorder
from support.rest import error_name


def status_of(call):
    with pytest.raises(HttpOperationError) as caught:
        call()
    return caught.value.response.status_code


def test_registry(fleet, registry, rest):
    device = fleet.device()
    made = registry.create_module_with_sas(device.id, "camera", "ops", None, None)
    assert (made.device_id, made.module_id, made.managed_by) == (device.id, "camera", "ops")
    assert made.authentication.symmetric_key.primary_key and made.generation_id and made.etag
    assert status_of(lambda: registry.create_module_with_sas(device.id, "camera", "", None, None)) == 409
    registry.create_module_with_x509(device.id, "gate", "", "A" * 40, "B" * 40)
    assert sorted(module.module_id for module in registry.get_modules(device.id)) == ["camera", "gate"]
    keys = made.authentication.symmetric_key
    changed = registry.update_module_with_sas(device.id, "camera", "others", made.etag, keys.primary_key, keys.secondary_key)
    assert changed.managed_by == "others" and changed.etag != made.etag
    assert changed.generation_id == made.generation_id
    stale = lambda: registry.update_module_with_sas(device.id, "camera", "", made.etag, keys.primary_key, keys.secondary_key)
    assert status_of(stale) == 412
    assert status_of(lambda: registry.delete_module(device.id, "camera", made.etag)) == 412
    registry.delete_module(device.id, "camera", changed.etag)
    assert error_name(rest.send("GET", f"/devices/{device.id}/modules/camera")) == "ModuleNotFound"
    assert status_of(lambda: registry.delete_module(device.id, "camera")) == 404
    assert status_of(lambda: registry.get_module_twin(device.id, "camera")) == 404
    assert error_name(rest.send("GET", "/devices/nobody/modules/camera")) == "DeviceNotFound"
    assert status_of(lambda: registry.create_module_with_sas("nobody", "camera", "", None, None)) == 404
    registry.delete_device(device.id)
    assert status_of(lambda: registry.get_module(device.id, "gate")) == 404


def test_twin_and_method_are_the_modules_own(fleet, registry):
    device = fleet.device()
    module = fleet.module(device)
    device_client, module_client = fleet.connect(device), fleet.connect(module)
    device_calls, module_calls = Recorder(device_client), Recorder(module_client)
    device_patches, module_patches = Patches(device_client), Patches(module_client)

    device_client.patch_twin_reported_properties({"who": "device"})
    module_client.patch_twin_reported_properties({"who": "module", "list": [1, 2]})
    assert registry.get_twin(device.id).properties.reported["who"] == "device"
    twin = registry.get_module_twin(device.id, module.module)
    assert twin.module_id == module.module
    assert twin.properties.reported["who"] == "module" and twin.connection_state == "Connected"

    patch = Twin(tags={"t": 1}, properties=TwinProperties(desired={"for": "module", "gone": None}))
    assert registry.update_module_twin(device.id, module.module, patch, twin.etag).tags == {"t": 1}
    module_patches.wait(lambda patch: patch.get("for") == "module")
    assert status_of(lambda: registry.update_module_twin(device.id, module.module, patch, twin.etag)) == 412
    replaced = registry.replace_module_twin(device.id, module.module, Twin(tags={}, properties=TwinProperties(desired={"x": 1})))
    assert replaced.properties.desired["x"] == 1 and "for" not in replaced.properties.desired
    assert module_client.get_twin()["desired"]["x"] == 1

    call = CloudToDeviceMethod(method_name="m", payload={"n": 1}, response_timeout_in_seconds=10)
    assert registry.invoke_device_module_method(device.id, module.module, call).payload == {"n": 1}
    assert (len(module_calls.requests), len(device_calls.requests)) == (1, 0)
    assert registry.invoke_device_method(device.id, call).payload == {"n": 1}
    assert (len(module_calls.requests), len(device_calls.requests)) == (1, 1)
    assert device_patches.seen == []


def test_keys_do_not_open_one_another(fleet, registry):
    device = fleet.device()
    module = fleet.module(device)
    for wrong in (Identity(device.id, module.key), Identity(device.id, device.key, module.module), Identity(device.id, module.key, "other")):
        with pytest.raises(CredentialError):
            fleet.client(wrong).connect()
    over_websocket = fleet.connect(module, websockets=True)
    over_websocket.patch_twin_reported_properties({"over": "websocket"})
    assert registry.get_module_twin(device.id, module.module).properties.reported["over"] == "websocket"


def test_a_disabled_device_blocks_its_modules(fleet, registry):
    from support.fleet import wait_for

    device = fleet.device()
    module = fleet.module(device)
    client = fleet.connect(module, connection_retry=False)
    registry.update_device_with_sas(device.id, "*", device.key, sas.OTHER_KEY, "disabled")
    wait_for(lambda: not client.connected, "the module's connection ends", 5)


def test_a_deleted_module_is_disconnected(fleet, registry):
    from support.fleet import wait_for

    device = fleet.device()
    module = fleet.module(device)
    own, client = fleet.connect(device, connection_retry=False), fleet.connect(module, connection_retry=False)
    registry.delete_module(device.id, module.module)
    wait_for(lambda: not client.connected, "the module's connection ends", 5)
    own.patch_twin_reported_properties({"still": "here"})
