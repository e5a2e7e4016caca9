"""The hub stops or is killed under connected devices: they come back by themselves, and nothing acknowledged is lost.

The Python SDK subscribes to nothing again after a reconnection (D 1.6), so what arrives afterwards proves that the
hub kept the subscriptions.
"""

import pytest
from azure.iot.device import Message
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import CloudToDeviceMethod, Twin, TwinProperties

from support.fleet import Patches, Recorder, wait_for
from support.rest import EventStream


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_devices_return_without_subscribing_again(hub, fleet, rest, how):
    device, over_websocket, offline = fleet.device(), fleet.device(), fleet.device()
    module = fleet.module(device)
    clients = [fleet.connect(device), fleet.connect(over_websocket, websockets=True), fleet.connect(module)]
    calls, patches = [Recorder(client) for client in clients], [Patches(client) for client in clients]
    for number, client in enumerate(clients):
        client.patch_twin_reported_properties({"before": number})
    with EventStream(rest, device=device.id, sources="telemetry") as stream:
        clients[0].send_message(Message('"first"', content_type="application/json"))
        position = stream.wait(lambda data: True)["position"]
    clients[0].send_message(Message('"second"', content_type="application/json"))
    registry = IoTHubRegistryManager.from_connection_string(hub.connection_string())
    registry.update_twin(offline.id, Twin(tags={"acknowledged": how}))
    before = {each.id: registry.get_twin(each.id) for each in (device, over_websocket, offline)}

    getattr(hub, how)()
    wait_for(lambda: not any(client.connected for client in clients), "all see that the hub has gone")
    hub.start()
    wait_for(lambda: all(client.connected for client in clients), "all are back", 40)

    registry = IoTHubRegistryManager.from_connection_string(hub.connection_string())
    for device_id, twin in before.items():
        after = registry.get_twin(device_id)
        assert (after.etag, after.device_etag, after.version) == (twin.etag, twin.device_etag, twin.version)
        assert (after.tags, after.properties.reported) == (twin.tags, twin.properties.reported)
    desired = Twin(properties=TwinProperties(desired={"after": how}))
    registry.update_twin(device.id, desired)
    registry.update_twin(over_websocket.id, desired)
    registry.update_module_twin(device.id, module.module, desired)
    for each in patches:
        each.wait(lambda patch: patch.get("after") == how)
    call = CloudToDeviceMethod(method_name="m", payload={"after": how}, response_timeout_in_seconds=10)
    assert registry.invoke_device_method(device.id, call).payload == {"after": how}
    assert registry.invoke_device_method(over_websocket.id, call).payload == {"after": how}
    assert registry.invoke_device_module_method(device.id, module.module, call).payload == {"after": how}
    assert [len(each.requests) for each in calls] == [1, 1, 1]
    for number, client in enumerate(clients):
        client.patch_twin_reported_properties({"after": number})
    with EventStream(rest, device=device.id, sources="telemetry", after=position) as stream:
        assert stream.wait(lambda data: True)["data"]["body"] == "second"


def test_desired_while_the_hub_was_away_from_the_device(hub, fleet):
    """Changed after the restart but before the device is back: it fetches by itself."""
    device = fleet.device()
    client = fleet.connect(device, connection_retry_interval=4)
    patches = Patches(client)
    hub.kill()
    wait_for(lambda: not client.connected, "the device sees that the hub has gone")
    hub.start()
    registry = IoTHubRegistryManager.from_connection_string(hub.connection_string())
    registry.update_twin(device.id, Twin(properties=TwinProperties(desired={"missed": True})))
    patches.wait(lambda patch: patch.get("missed") is True, 40)


def test_every_acknowledged_report_survives_a_kill(hub, fleet):
    device = fleet.device()
    client = fleet.connect(device)
    for number in range(1, 31):
        client.patch_twin_reported_properties({"n": number})
    hub.kill()
    hub.start()
    registry = IoTHubRegistryManager.from_connection_string(hub.connection_string())
    reported = registry.get_twin(device.id).properties.reported
    assert (reported["n"], reported["$version"]) == (30, 31)
