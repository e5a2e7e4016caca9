"""Twins both ways: merge, null, arrays, nesting, versions, etags and every limit (S 4, D 4)."""

import pytest
from azure.iot.device.exceptions import ClientError
from azure.iot.hub.models import Twin, TwinProperties
from msrest.exceptions import HttpOperationError

from support.fleet import Patches
from support.rest import error_name


def desired(value, tags=None):
    return Twin(tags=tags, properties=TwinProperties(desired=value))


def plain(section):
    """A section without its bookkeeping."""
    return {key: value for key, value in section.items() if not key.startswith("$")}


def nested(levels):
    """A section with so many levels of objects below its root, and a value in the last."""
    value = 1
    for level in range(levels, -1, -1):
        value = {f"l{level}": value}
    return value


def test_a_new_twin(fleet, registry):
    twin = registry.get_twin(fleet.device().id)
    assert twin.etag == "AAAAAAAAAAE="
    assert twin.version == 2
    assert (twin.status, twin.connection_state, twin.authentication_type) == ("enabled", "Disconnected", "sas")
    for section in (twin.properties.desired, twin.properties.reported):
        assert section["$version"] == 1
        assert plain(section) == {}
        assert "$lastUpdated" in section["$metadata"]


def test_reported_merges(fleet, registry):
    device = fleet.device()
    client = fleet.connect(device)
    steps = [
        ({"a": 1, "b": {"c": "x", "d": [1, "two", {"three": [3]}]}}, {"a": 1, "b": {"c": "x", "d": [1, "two", {"three": [3]}]}}),
        ({"b": {"d": []}}, {"a": 1, "b": {"c": "x", "d": []}}),
        ({"a": None, "never": None}, {"b": {"c": "x", "d": []}}),
        ({"b": "scalar over object", "f": -1.5, "t": True}, {"b": "scalar over object", "f": -1.5, "t": True}),
        ({"b": {"object": {"over": "scalar", "null": None}}, "f": 1e300}, {"b": {"object": {"over": "scalar"}}, "f": 1e300, "t": True}),
        ({}, {"b": {"object": {"over": "scalar"}}, "f": 1e300, "t": True}),
        ({"b": None, "f": None, "t": None, "ünï 😀".replace(" ", "_"): "é"}, {"ünï_😀": "é"}),
    ]
    for number, (patch, expected) in enumerate(steps):
        client.patch_twin_reported_properties(patch)
        twin = registry.get_twin(device.id)
        assert plain(twin.properties.reported) == expected, f"after step {number}"
        assert twin.properties.reported["$version"] == number + 2
        assert twin.version == number + 3, "version counts reported changes too"
        assert twin.etag == "AAAAAAAAAAE=", "the etag does not"
        mine = client.get_twin()
        assert plain(mine["reported"]) == expected
        assert mine["reported"]["$version"] == number + 2
    assert set(mine) == {"desired", "reported"}
    assert "$metadata" not in mine["reported"]


def test_desired_reaches_the_device(fleet, registry):
    device = fleet.device()
    client = fleet.connect(device)
    patches = Patches(client)
    first = registry.update_twin(device.id, desired({"rate": 5, "net": {"ssid": "a", "dns": ["1.1.1.1", "9.9.9.9"]}, "off": True}))
    assert first.properties.desired["$version"] == 2
    assert patches.wait(lambda patch: patch["$version"] == 2) == {
        "rate": 5, "net": {"ssid": "a", "dns": ["1.1.1.1", "9.9.9.9"]}, "off": True, "$version": 2,
    }
    # The notification carries the change with its nulls, never the whole section.
    registry.update_twin(device.id, desired({"rate": None, "net": {"ssid": "b"}}))
    assert patches.wait(lambda patch: patch["$version"] == 3) == {"rate": None, "net": {"ssid": "b"}, "$version": 3}
    assert client.get_twin()["desired"] == {"net": {"ssid": "b", "dns": ["1.1.1.1", "9.9.9.9"]}, "off": True, "$version": 3}
    # Tags alone are none of the device's business.
    registry.update_twin(device.id, Twin(tags={"site": "a"}))
    registry.update_twin(device.id, desired({"last": 1}))
    patches.wait(lambda patch: patch["$version"] == 4)
    assert [patch["$version"] for patch in patches.seen] == [2, 3, 4]


def test_replace(fleet, registry):
    device = fleet.device()
    client = fleet.connect(device)
    patches = Patches(client)
    registry.update_twin(device.id, desired({"keep": 1, "drop": 2}, tags={"old": 1}))
    twin = registry.replace_twin(device.id, desired({"keep": 1, "new": {"x": None, "y": 2}}, tags={"site": "b"}))
    assert plain(twin.properties.desired) == {"keep": 1, "new": {"y": 2}}
    assert twin.tags == {"site": "b"}
    seen = patches.wait(lambda patch: patch["$version"] == 3)
    assert seen["keep"] == 1 and seen["new"] == {"y": 2} and seen.get("drop", None) is None
    assert plain(client.get_twin()["desired"]) == {"keep": 1, "new": {"y": 2}}


def test_desired_while_offline_then_fetched(fleet, registry):
    device = fleet.device()
    client = fleet.connect(device)
    patches = Patches(client)
    client.disconnect()
    registry.update_twin(device.id, desired({"while": "offline"}))
    registry.update_twin(device.id, desired({"and": "again"}))
    client.connect()
    # The SDK fetches by itself after it reconnected, and hands over the whole desired section.
    assert plain(patches.wait(lambda patch: patch["$version"] == 3)) == {"while": "offline", "and": "again"}
    assert client.get_twin()["desired"] == {"while": "offline", "and": "again", "$version": 3}


def test_metadata(fleet, registry):
    device = fleet.device()
    client = fleet.connect(device)
    twin = registry.update_twin(device.id, desired({"a": {"b": [1, 2], "c": "x"}}))
    metadata = twin.properties.desired["$metadata"]
    for node in (metadata, metadata["a"], metadata["a"]["b"], metadata["a"]["c"]):
        assert node["$lastUpdatedVersion"] == 2
        assert node["$lastUpdated"].endswith("Z")
    assert set(metadata["a"]["b"]) == {"$lastUpdated", "$lastUpdatedVersion"}, "an array is a leaf"
    twin = registry.update_twin(device.id, desired({"a": {"c": None}}))
    metadata = twin.properties.desired["$metadata"]
    assert "c" not in metadata["a"]
    assert metadata["a"]["$lastUpdatedVersion"] == 3
    assert metadata["a"]["b"]["$lastUpdatedVersion"] == 2
    client.patch_twin_reported_properties({"a": {"b": 1}})
    metadata = registry.get_twin(device.id).properties.reported["$metadata"]
    assert "$lastUpdated" in metadata["a"]["b"] and "$lastUpdatedVersion" not in metadata["a"]["b"]


def test_etags(fleet, registry, rest):
    device = fleet.device()
    path = f"/twins/{device.id}"
    etag = registry.get_twin(device.id).etag
    assert registry.update_twin(device.id, Twin(tags={"n": 1}), etag).etag == "AAAAAAAAAAI="
    with pytest.raises(HttpOperationError) as caught:
        registry.update_twin(device.id, Twin(tags={"n": 2}), etag)
    assert caught.value.response.status_code == 412
    number = 2
    for form in ('"{}"', "{}", 'W/"{}"', "*", '"*"', None):
        current = registry.get_twin(device.id).etag
        headers = {"If-Match": form.format(current)} if form else {}
        answer = rest.send("PATCH", path, {"tags": {"n": number}}, headers)
        assert answer.status_code == 200, f"{form}: {answer.text}"
        assert answer.json()["tags"] == {"n": number}
        assert answer.headers["ETag"] == f'"{answer.json()["etag"]}"'
        number += 1
    for form in ('"AAAAAAAAAAE="', "AAAAAAAAAAE=", 'W/"AAAAAAAAAAE="', '"nonsense"'):
        for method in ("PATCH", "PUT"):
            answer = rest.send(method, path, {"tags": {"n": 99}}, {"If-Match": form})
            assert (answer.status_code, error_name(answer)) == (412, "PreconditionFailed"), f"{method} {form}"
    assert registry.get_twin(device.id).tags == {"n": number - 1}


ACCEPTED = {
    "ten levels": nested(10),
    "the largest integer": {"n": 4503599627370495},
    "the smallest integer": {"n": -4503599627370496},
    "a long string": {"s": "x" * 4096},
    "a long key": {"k" * 1024: 1},
    "an array of objects": {"a": [{"b": 1}, {"c": [2, 3]}]},
    "an empty object": {"o": {}},
    "keys of punctuation": {"a-b_c:d/e": 1},
}

REFUSED = {
    "eleven levels": nested(11),
    "an integer too large": {"n": 4503599627370496},
    "an integer too small": {"n": -4503599627370497},
    "a string too long": {"s": "x" * 4097},
    "a string too long in bytes": {"s": "é" * 2049},
    "a key too long": {"k" * 1025: 1},
    "a key with a dot": {"a.b": 1},
    "a key with a dollar sign": {"a$b": 1},
    "a key with a space": {"a b": 1},
    "a key with a control character": {"a\u0007b": 1},
    "a dollar key below the root": {"a": {"$b": 1}},
    "null in an array": {"a": [1, None]},
    "null in an object in an array": {"a": [{"b": None}]},
    "too large as a whole": {f"k{number}": "x" * 4000 for number in range(9)},
}


def test_limits_for_the_service(fleet, registry):
    device = fleet.device()
    for what, value in ACCEPTED.items():
        twin = registry.replace_twin(device.id, desired(value, tags={}))
        assert plain(twin.properties.desired) == value, what
    before = registry.get_twin(device.id)
    tags_too = {"too large tags": {f"k{number}": "x" * 1000 for number in range(9)}}
    for kind, cases in (("desired", REFUSED), ("tags", REFUSED | tags_too)):
        for what, value in cases.items():
            body = desired(value) if kind == "desired" else Twin(tags=value)
            for write in (registry.update_twin, registry.replace_twin):
                with pytest.raises(HttpOperationError) as caught:
                    write(device.id, body)
                    pytest.fail(f"{kind} took {what}")
                assert caught.value.response.status_code in (400, 413), f"{kind}: {what}"
                assert "ErrorCode:" in caught.value.response.text, f"{kind}: {what}"
    after = registry.get_twin(device.id)
    assert (after.etag, after.version) == (before.etag, before.version), "no refused write left a trace"
    assert plain(after.properties.desired) == plain(before.properties.desired)


def refused(client, patch, what):
    """The SDK's own words are few; the status of the hub's answer is in the cause."""
    with pytest.raises(ClientError) as caught:
        client.patch_twin_reported_properties(patch)
        pytest.fail(f"took {what}")
    assert "status 4" in str(caught.value.__cause__), f"{what}: {caught.value.__cause__!r}"


def test_limits_for_the_device(fleet, registry):
    device = fleet.device()
    client = fleet.connect(device)
    for what, value in ACCEPTED.items():
        client.patch_twin_reported_properties(value)
        client.patch_twin_reported_properties({key: None for key in value})
    before = registry.get_twin(device.id)
    for what, value in REFUSED.items():
        refused(client, value, what)
    after = registry.get_twin(device.id)
    assert after.version == before.version, "no refused write left a trace"
    assert plain(after.properties.reported) == {}
    assert client.connected


def test_the_sum_counts_not_the_patch(fleet):
    """Each patch is small; the document they add up to is not."""
    client = fleet.connect(fleet.device())
    for number in range(7):
        client.patch_twin_reported_properties({f"k{number}": "x" * 4090})
    refused(client, {"k7": "x" * 4090, "k8": "x" * 500}, "too much in all")
    client.patch_twin_reported_properties({"k0": None})
    client.patch_twin_reported_properties({"k7": "x" * 4090})


def test_bodies_that_are_no_twin(fleet, registry, rest):
    device = fleet.device()
    before = registry.get_twin(device.id).version
    path = f"/twins/{device.id}"
    deep = b'{"tags":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}"
    cases = [b"", b"{", b"nonsense", b'"text"', b"[]", b'{"tags":3}', b'{"properties":{"desired":[1]}}', b'{"tags":{"a":1}} x',
             b'{"tags":{"a":"\xff"}}', deep]
    for body in cases:
        for method in ("PATCH", "PUT"):
            answer = rest.send(method, path, data=body)
            assert answer.status_code == 400, f"{method} {body[:40]}: {answer.status_code} {answer.text}"
            assert error_name(answer)
    assert registry.get_twin(device.id).version == before
    assert rest.send("PATCH", path, {"tags": {"fine": True}, "unknown": 1}).status_code == 200


def test_reported_is_the_devices_alone(fleet, registry, rest):
    device = fleet.device()
    rest.send("PATCH", f"/twins/{device.id}", {"properties": {"reported": {"forged": 1}}})
    assert plain(registry.get_twin(device.id).properties.reported) == {}


def test_echoed_bookkeeping_is_ignored(fleet, registry):
    device = fleet.device()
    registry.update_twin(device.id, desired({"a": 1}))
    twin = registry.get_twin(device.id)
    twin.properties.desired["b"] = 2
    updated = registry.update_twin(device.id, twin, twin.etag)
    assert plain(updated.properties.desired) == {"a": 1, "b": 2}
    assert updated.properties.desired["$version"] == 3
