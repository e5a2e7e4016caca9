"""Automatic configurations: their life with metrics, devices that enter and leave targets, edge deployments, and every
way to fail (S 8)."""

import pytest
from azure.iot.hub import IoTHubConfigurationManager
from azure.iot.hub.models import (
    Configuration, ConfigurationContent, ConfigurationMetrics, ConfigurationQueriesTestInput, Twin, TwinProperties,
)
from msrest.exceptions import HttpOperationError

from support.fleet import Patches, wait_for
from support.rest import error_name


@pytest.fixture
def configurations(hub):
    """The service SDK's client for configurations; what a test leaves is taken away."""
    manager = IoTHubConfigurationManager.from_connection_string(hub.connection_string())
    yield manager
    for left in manager.get_configurations():
        manager.delete_configuration(left.id)


def configuration(id, condition="", priority=1, rate=5, **more):
    content = more.pop("content", None) or ConfigurationContent(device_content={"properties.desired.rate": rate})
    return Configuration(id=id, content=content, target_condition=condition, priority=priority, **more)


def refused(call):
    """The status and the name of the error."""
    with pytest.raises(HttpOperationError) as caught:
        call()
    return caught.value.response.status_code, error_name(caught.value.response)


def devices_of(fleet, registry, site, count):
    devices = [fleet.device() for _ in range(count)]
    for device in devices:
        registry.update_twin(device.id, Twin(tags={"site": site}))
    return devices


def rate(registry, device):
    return registry.get_twin(device.id).properties.desired.get("rate")


def fares(registry, device):
    """How configurations fare in a device's twin; the SDK's twin has no field of its own for that."""
    return registry.get_twin(device.id).additional_properties.get("configurations")


def edge_device(fleet, registry):
    return registry.create_device_with_sas(fleet.new_id("edge"), None, None, "enabled", True).device_id


def modules_of(registry, device_id):
    return {module.module_id for module in registry.get_modules(device_id)}


def module_desired(registry, device_id, module_id):
    desired = registry.get_module_twin(device_id, module_id).properties.desired
    return {name: value for name, value in desired.items() if not name.startswith("$")}


def test_the_life_of_a_configuration_with_metrics(fleet, registry, configurations):
    site, id = fleet.new_id("site"), fleet.new_id("cfg")
    devices = devices_of(fleet, registry, site, 3)
    five = f"SELECT deviceId FROM devices WHERE tags.site = '{site}' AND properties.desired.rate = 5"
    wanted = configuration(
        id, f"tags.site = '{site}'", 10, labels={"team": "x"}, schema_version="1.0",
        metrics=ConfigurationMetrics(queries={"five": five}),
    )
    made = configurations.create_configuration(wanted)
    assert (made.id, made.priority, made.labels, made.schema_version) == (id, 10, {"team": "x"}, "1.0")
    assert made.content.device_content == {"properties.desired.rate": 5}
    assert made.created_time_utc == made.last_updated_time_utc and made.etag
    wait_for(lambda: all(rate(registry, device) == 5 for device in devices), "the rate in all twins", 5)

    read = configurations.get_configuration(id)
    assert read.system_metrics.results == {"targetedCount": 3, "appliedCount": 3}
    assert read.metrics.results == {"five": 3} and read.metrics.queries == {"five": five}
    assert (read.etag, read.target_condition) == (made.etag, f"tags.site = '{site}'")
    assert id in [one.id for one in configurations.get_configurations()]
    assert len(configurations.get_configurations(1)) == 1

    # As it was read, metrics and times included; the client sends a bare etag.
    read.priority, read.labels = 20, {"team": "y"}
    updated = configurations.update_configuration(read, read.etag)
    assert (updated.priority, updated.labels) == (20, {"team": "y"}) and updated.etag != made.etag
    assert refused(lambda: configurations.update_configuration(read, made.etag)) == (412, "PreconditionFailed")
    assert refused(lambda: configurations.delete_configuration(id, made.etag)) == (412, "PreconditionFailed")
    assert configurations.update_configuration(read, "*").priority == 20

    configurations.delete_configuration(id)
    assert refused(lambda: configurations.get_configuration(id)) == (404, "ConfigurationNotFound")
    wait_for(lambda: all(rate(registry, device) is None for device in devices), "the rate to go", 5)


def test_a_connected_device_gets_what_its_tag_brings(fleet, registry, configurations):
    site, device = fleet.new_id("site"), fleet.device()
    patches = Patches(fleet.connect(device))
    configurations.create_configuration(configuration("by-tag", f"tags.site = '{site}'"))
    registry.update_twin(device.id, Twin(tags={"site": site}))
    assert rate(registry, device) == 5, "in the same commit as the tag"
    assert fares(registry, device) == {"by-tag": {"status": "Applied"}}
    patches.wait(lambda patch: patch.get("rate") == 5)
    registry.update_twin(device.id, Twin(tags={"site": None}))
    assert rate(registry, device) is None and fares(registry, device) is None
    patches.wait(lambda patch: patch.get("rate", 5) is None)


def test_priorities_and_what_a_person_set(fleet, registry, configurations):
    site = fleet.new_id("site")
    (device,) = devices_of(fleet, registry, site, 1)
    registry.update_twin(device.id, Twin(properties=TwinProperties(desired={"mine": True})))
    condition = f"tags.site = '{site}'"
    for id, priority, value in [("low", 1, 1), ("older", 2, 2), ("newer", 2, 3)]:
        configurations.create_configuration(configuration(id, condition, priority, value))
    wait_for(lambda: rate(registry, device) == 3, "the newer of two equals", 5)
    lost, won = {"status": "Targeted"}, {"status": "Applied"}
    wait_for(lambda: fares(registry, device) == {"low": lost, "older": lost, "newer": won}, "how they fare", 5)
    metadata = registry.get_twin(device.id).properties.desired["$metadata"]["rate"]
    assert metadata["$lastUpdatedBy"] == "newer" and int(metadata["$lastUpdatedByDigest"]) > 0
    for gone, value in [("newer", 2), ("older", 1), ("low", None)]:
        configurations.delete_configuration(gone)
        wait_for(lambda value=value: rate(registry, device) == value, f"the next after {gone}", 5)
    assert registry.get_twin(device.id).properties.desired["mine"] is True


def test_modules(fleet, registry, configurations):
    name = fleet.new_id("sensor")
    device = fleet.device()
    fleet.module(device, name)
    content = ConfigurationContent(module_content={"properties.desired.speed": {"max": 3}})
    configurations.create_configuration(
        configuration("of-modules", f"FROM devices.modules WHERE moduleId = '{name}'", content=content)
    )
    wait_for(lambda: module_desired(registry, device.id, name) == {"speed": {"max": 3}}, "the speed", 5)
    assert configurations.get_configuration("of-modules").system_metrics.results == {"targetedCount": 1, "appliedCount": 1}


def test_edge_deployments(fleet, registry, configurations):
    site, device_id = fleet.new_id("site"), edge_device(fleet, registry)
    registry.update_twin(device_id, Twin(tags={"site": site}))
    assert modules_of(registry, device_id) == {"$edgeAgent", "$edgeHub"}
    base = ConfigurationContent(modules_content={
        "$edgeAgent": {"properties.desired": {"schemaVersion": "1.1", "modules": {"one": {"version": "1"}}}},
        "$edgeHub": {"properties.desired": {"routes": {"up": "FROM /messages/* INTO $upstream"}}},
        "one": {"properties.desired": {"speed": 1}},
    })
    layer = ConfigurationContent(modules_content={
        "$edgeAgent": {"properties.desired.modules.two": {"version": "2"}},
        "two": {"properties.desired.size": 2},
    })
    for id, priority, content in [("base", 1, base), ("layer", 2, layer)]:
        configurations.create_configuration(configuration(id, f"tags.site = '{site}'", priority, content=content))
    everything = {"$edgeAgent", "$edgeHub", "one", "two"}
    wait_for(lambda: modules_of(registry, device_id) == everything, "the modules of the deployment", 5)
    assert module_desired(registry, device_id, "one") == {"speed": 1}
    assert module_desired(registry, device_id, "two") == {"size": 2}
    results = configurations.get_configuration("base").system_metrics.results
    assert results == {"targetedCount": 1, "appliedCount": 1, "reportedSuccessfulCount": 0, "reportedFailedCount": 0}


def test_content_applied_by_hand(fleet, registry, configurations):
    device_id, plain = edge_device(fleet, registry), fleet.device()
    content = ConfigurationContent(modules_content={
        "$edgeAgent": {"properties.desired": {"modules": {"one": {}, "two": {}}}},
        "one": {"properties.desired": {"speed": 1}},
    })
    assert configurations.apply_configuration_on_edge_device(device_id, content) is None
    assert modules_of(registry, device_id) == {"$edgeAgent", "$edgeHub", "one", "two"}
    assert module_desired(registry, device_id, "one") == {"speed": 1}

    def apply(device_id, content):
        return refused(lambda: configurations.apply_configuration_on_edge_device(device_id, content))

    assert apply(plain.id, content) == (400, "InvalidConfigurationContent")
    of_device = ConfigurationContent(device_content={"properties.desired.rate": 1})
    assert apply(device_id, of_device) == (400, "InvalidConfigurationContent")
    assert apply("no-such-device", content) == (404, "DeviceNotFound")


def test_queries_are_tested(configurations):
    def test(condition, **metrics):
        given = ConfigurationQueriesTestInput(target_condition=condition, custom_metric_queries=metrics)
        found = configurations.test_configuration_queries(given)
        return bool(found.target_condition_error), set(found.custom_metric_query_errors or {})

    assert test("tags.a = 1", good="SELECT * FROM devices") == (False, set())
    assert test("tags.a =", good="SELECT * FROM devices", bad="SELECT") == (True, {"bad"})


def test_error_classes(fleet, hub, configurations):
    configurations.create_configuration(configuration("taken"))
    other = ConfigurationContent(device_content={"properties.desired.rate": 6})
    large = ConfigurationContent(device_content={"properties.desired.text": "x" * 200_000})
    strange = ConfigurationContent(device_content={"tags.rate": 6})
    metric = ConfigurationMetrics(queries={"bad": "SELECT"})
    create = configurations.create_configuration
    readers = IoTHubConfigurationManager.from_connection_string(hub.connection_string("service"))
    device_policy = IoTHubConfigurationManager.from_connection_string(hub.connection_string("device"))
    cases = {
        "the same id": (409, "ConfigurationAlreadyExists", lambda: create(configuration("taken"))),
        "an id with upper case": (400, "ArgumentInvalid", lambda: create(configuration("Taken"))),
        "a bad condition": (400, "InvalidConfigurationTargetCondition", lambda: create(configuration("new", "tags.a ="))),
        "a condition over desired": (
            400, "InvalidConfigurationTargetCondition", lambda: create(configuration("new", "properties.desired.a = 1")),
        ),
        "a bad path": (400, "InvalidConfigurationContent", lambda: create(configuration("new", content=strange))),
        "no content": (
            400, "InvalidConfigurationContent", lambda: create(configuration("new", content=ConfigurationContent())),
        ),
        "too much": (400, "InvalidConfigurationContent", lambda: create(configuration("new", content=large))),
        "a bad metric": (
            400, "InvalidConfigurationCustomMetricsQuery", lambda: create(configuration("new", metrics=metric)),
        ),
        "a bad priority": (400, "ArgumentInvalid", lambda: create(configuration("new", priority=-1))),
        "other content": (
            400, "CannotModifyImmutableConfigurationContent",
            lambda: configurations.update_configuration(configuration("taken", content=other), "*"),
        ),
        "an update of nothing": (
            404, "ConfigurationNotFound", lambda: configurations.update_configuration(configuration("none"), "*"),
        ),
        "a deletion of nothing": (404, "ConfigurationNotFound", lambda: configurations.delete_configuration("none")),
        "no right to write": (401, "IotHubUnauthorizedAccess", lambda: readers.create_configuration(configuration("new"))),
        "no right to read": (401, "IotHubUnauthorizedAccess", lambda: device_policy.get_configurations()),
    }
    for what, (status, name, call) in cases.items():
        assert refused(call) == (status, name), what
    assert [one.id for one in readers.get_configurations()] == ["taken"], "nothing was written"
