"""Digital twins: model id, view, JSON Patch, commands (S 13, D 10)."""

import pytest
from azure.iot.hub.models import Twin, TwinProperties
from msrest.exceptions import HttpOperationError

from support.fleet import Patches, Recorder

MODEL = "dtmi:com:example:Pump;1"


@pytest.fixture
def pump(fleet):
    device = fleet.device()
    return device, fleet.connect(device, product_info=MODEL)


def test_model_id(pump, registry):
    device, _ = pump
    assert registry.get_twin(device.id).additional_properties["modelId"] == MODEL


def test_view(pump, registry, digital_twins):
    device, client = pump
    client.patch_twin_reported_properties({
        "temperature": 21, "thermostat1": {"__t": "c", "target": {"value": 22, "ac": 200, "av": 2, "ad": "ok"}},
    })
    registry.update_twin(device.id, Twin(properties=TwinProperties(desired={"thermostat1": {"__t": "c", "target": 22}})))
    view = digital_twins.get_digital_twin(device.id)
    assert view["$dtId"] == device.id
    assert view["$metadata"]["$model"] == MODEL
    assert view["temperature"] == 21
    assert "lastUpdateTime" in view["$metadata"]["temperature"]
    component = view["thermostat1"]
    assert component["target"] == 22
    about = component["$metadata"]["target"]
    assert (about["desiredValue"], about["desiredVersion"], about["ackVersion"], about["ackCode"], about["ackDescription"]) == (22, 2, 2, 200, "ok")


def test_patch(pump, registry, digital_twins):
    device, client = pump
    patches = Patches(client)
    digital_twins.update_digital_twin(device.id, [{"op": "add", "path": "/speed", "value": 5}])
    patches.wait(lambda patch: patch.get("speed") == 5)
    digital_twins.update_digital_twin(device.id, [{"op": "add", "path": "/thermostat1", "value": {"$metadata": {}, "target": 20}}])
    assert patches.wait(lambda patch: "thermostat1" in patch)["thermostat1"] == {"__t": "c", "target": 20}
    digital_twins.update_digital_twin(device.id, [{"op": "replace", "path": "/thermostat1/target", "value": 24}, {"op": "remove", "path": "/speed"}])
    patches.wait(lambda patch: patch.get("thermostat1", {}).get("target") == 24)
    desired = registry.get_twin(device.id).properties.desired
    assert desired["thermostat1"] == {"__t": "c", "target": 24} and "speed" not in desired


def test_patch_refusals(pump, registry, digital_twins):
    device, _ = pump
    etag = registry.get_twin(device.id).etag
    registry.update_twin(device.id, Twin(tags={"n": 1}))
    version = registry.get_twin(device.id).version
    good = [{"op": "add", "path": "/speed", "value": 5}]
    cases = [
        (404, "nobody", good, None), (412, device.id, good, f'"{etag}"'),
        (400, device.id, [{"op": "explode", "path": "/speed", "value": 5}], None), (400, device.id, [{"op": "add", "value": 5}], None),
        (400, device.id, [{"op": "add", "path": "speed", "value": 5}], None), (400, device.id, [{"op": "add", "path": "/speed"}], None),
    ]
    for status, device_id, patch, match in cases:
        with pytest.raises(HttpOperationError) as caught:
            digital_twins.update_digital_twin(device_id, patch, match)
            pytest.fail(f"took {patch}")
        assert caught.value.response.status_code == status, f"{patch}: {caught.value.response.text}"
    assert registry.get_twin(device.id).version == version


def test_commands(pump, digital_twins):
    device, client = pump
    calls = Recorder(client, lambda request: (202, {"did": request.payload}))
    assert digital_twins.invoke_command(device.id, "start", {"speed": 3}, 1, 10) == {"did": {"speed": 3}}
    assert calls.requests[-1].name == "start"
    assert digital_twins.invoke_component_command(device.id, "thermostat1", "reset", "now", 1, 10) == {"did": "now"}
    assert calls.requests[-1].name == "thermostat1*reset"


def test_command_status_and_errors(pump, fleet, rest, digital_twins):
    device, client = pump
    Recorder(client, lambda request: (207, [1]))
    answer = rest.send("POST", f"/digitaltwins/{device.id}/commands/x", 5)
    assert (answer.status_code, answer.json(), answer.headers["x-ms-command-statuscode"]) == (200, [1], "207")
    assert answer.headers["x-ms-request-id"]
    offline = fleet.device()
    for device_id, response, status in ((offline.id, 10, 404), ("nobody", 10, 404), (device.id, 4, 400)):
        with pytest.raises(HttpOperationError) as caught:
            digital_twins.invoke_command(device_id, "x", {}, 0, response)
        assert caught.value.response.status_code == status
