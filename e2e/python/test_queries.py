"""Queries: paging, projection, aggregates, grouping, order, errors (S 7)."""

import pytest
from azure.iot.hub.models import QuerySpecification
from msrest.exceptions import HttpOperationError

from support.rest import error_name

COUNT = 25


@pytest.fixture(scope="module")
def site(registry, rest):
    """25 devices of one site: five to a room, temperature n / 2, one in five with no room; three modules."""
    site = "query-site"
    items = [
        {
            "id": f"q-{number:02}", "importMode": "create", "status": "disabled" if number % 10 == 9 else "enabled",
            "tags": {"site": site, "n": number} | ({"room": f"r{number % 5}"} if number % 5 else {}),
            "properties": {"desired": {"t": number / 2, "list": [1, number], "a-b": number}},
        }
        for number in range(COUNT)
    ]
    assert rest.send("POST", "/devices", items).status_code == 200
    for number in range(3):
        registry.create_module_with_sas(f"q-{number:02}", "gauge", "", None, None)
    return site


def run(registry, text, page=None, continuation=None):
    return registry.query_iot_hub(QuerySpecification(query=text), continuation, page)


def rows(rest, text, page=None):
    """All rows of all pages, as JSON."""
    out, headers = [], {"x-ms-max-item-count": str(page)} if page else {}
    while True:
        answer = rest.send("POST", "/devices/query", {"query": text}, headers)
        assert answer.status_code == 200, f"{text}: {answer.text}"
        out += answer.json()
        if "x-ms-continuation" not in answer.headers:
            return out
        assert answer.json(), "no continuation after an empty page"
        headers["x-ms-continuation"] = answer.headers["x-ms-continuation"]


def where(site, condition=""):
    return f"SELECT * FROM devices WHERE tags.site = '{site}'" + (f" AND {condition}" if condition else "")


def test_twins_in_pages(site, registry):
    seen, continuation, sizes = [], None, []
    while True:
        result = run(registry, where(site), 10, continuation)
        assert result.type == "Twin"
        sizes.append(len(result.items))
        seen += [twin.device_id for twin in result.items]
        continuation = result.continuation_token
        if not continuation:
            break
    assert sizes == [10, 10, 5]
    assert sorted(seen) == [f"q-{number:02}" for number in range(COUNT)]
    exact = run(registry, where(site, "tags.n < 10"), 10)
    assert len(exact.items) == 10 and not exact.continuation_token, "a full last page is the last one"
    twin = run(registry, where(site, "deviceId = 'q-07'")).items[0]
    assert (twin.tags["n"], twin.properties.desired["t"], twin.properties.desired["$version"]) == (7, 3.5, 2)
    assert run(registry, "SELECT * FROM devices WHERE tags.site = 'nowhere'").items == []


CONDITIONS = {
    "tags.n >= 20": range(20, 25),
    "tags.n IN [1, 2, 99]": [1, 2],
    "tags.room NIN ['r1', 'r2', 'r3']": [4, 9, 14, 19, 24],
    "status = 'disabled'": [9, 19],
    "NOT IS_DEFINED(tags.room)": [0, 5, 10, 15, 20],
    "tags.room != 'r1' AND tags.n < 6": [2, 3, 4],
    "STARTSWITH(deviceId, 'q-1') AND NOT ENDS_WITH(DeviceId, '5')": [10, 11, 12, 13, 14, 16, 17, 18, 19],
    "properties.desired.t * 2 = tags.n AND tags.n % 12 = 0": [0, 12, 24],
    "properties.desired.[[a-b]] = 0x10": [16],
    "(tags.n = 3 OR tags.n = 4) AND tags.site = \"query-site\"": [3, 4],
    "capabilities.iotEdge = false AND connectionState = 'Disconnected' AND tags.n < 2": [0, 1],
    "properties.desired.$version = 2 AND tags.n = 11": [11],
    "tags.n = '3'": [],
    "tags.n > 'a'": [],
    "tags.missing = null": [],
    "array_contains(properties.desired.list, 21)": [21],
    "LENGTH(tags.room) = 2 AND UPPER(tags.room) = 'R4' AND tags.n < 10": [4, 9],
}


def test_conditions(site, rest):
    for condition, expected in CONDITIONS.items():
        found = sorted(row["tags"]["n"] for row in rows(rest, where(site, condition)))
        assert found == list(expected), condition


def test_projection(site, rest, registry):
    answer = rest.send("POST", "/devices/query", {"query": f"SELECT DeviceId, tags.room, properties.desired.t AS warmth FROM devices WHERE tags.site = '{site}' AND tags.n IN [5, 6]"})
    assert answer.headers["x-ms-item-type"] == "Raw"
    found = sorted(answer.json(), key=lambda row: row["deviceId"])
    assert found == [{"deviceId": "q-05", "warmth": 2.5}, {"deviceId": "q-06", "room": "r1", "warmth": 3}]
    # The Python SDK reads every row as a twin; what it does not know lands in additional_properties.
    item = run(registry, "SELECT deviceId, tags.n AS number FROM devices WHERE deviceId = 'q-08'").items[0]
    assert (item.device_id, item.additional_properties["number"]) == ("q-08", 8)


def test_aggregates_and_groups(site, rest):
    condition = f"FROM devices WHERE tags.site = '{site}'"
    totals = rows(rest, f"SELECT COUNT() AS n, SUM(tags.n) AS total, AVG(properties.desired.t) AS mean, MIN(tags.n) AS low, MAX(tags.n) AS high {condition}")
    assert totals == [{"n": 25, "total": 300, "mean": 6, "low": 0, "high": 24}]
    assert rows(rest, f"SELECT COUNT() AS n {condition} AND tags.n > 100") == [{"n": 0}]
    groups = rows(rest, f"SELECT tags.room AS room, COUNT() AS n {condition} GROUP BY tags.room")
    assert sorted(groups, key=lambda row: row.get("room", "")) == [
        {"n": 5}, {"room": "r1", "n": 5}, {"room": "r2", "n": 5}, {"room": "r3", "n": 5}, {"room": "r4", "n": 5},
    ]
    statuses = rows(rest, f"SELECT status, COUNT() AS n {condition} GROUP BY status")
    assert sorted(statuses, key=lambda row: row["n"]) == [{"status": "disabled", "n": 2}, {"status": "enabled", "n": 23}]


def test_order_and_top(site, rest):
    condition = f"FROM devices WHERE tags.site = '{site}'"
    found = [row["n"] for row in rows(rest, f"SELECT tags.n AS n {condition} ORDER BY tags.n DESC", page=7)]
    assert found == list(range(24, -1, -1))
    found = [row["n"] for row in rows(rest, f"SELECT TOP 12 tags.n AS n {condition} ORDER BY tags.n", page=5)]
    assert found == list(range(12))
    assert len(rows(rest, f"SELECT TOP 3 * {condition}")) == 3


def test_modules(site, rest, registry):
    result = run(registry, "SELECT * FROM devices.modules WHERE moduleId = 'gauge'")
    assert sorted(twin.device_id for twin in result.items) == ["q-00", "q-01", "q-02"]
    assert {twin.module_id for twin in result.items} == {"gauge"}
    found = rows(rest, "SELECT deviceId, moduleId FROM devices.modules WHERE deviceId IN ['q-01', 'q-02']")
    assert sorted(row["deviceId"] for row in found) == ["q-01", "q-02"]
    assert rows(rest, "SELECT * FROM devices WHERE moduleId = 'gauge'") == []


def test_a_query_sees_every_acknowledged_write(fleet, rest, registry):
    device = fleet.device()
    client = fleet.connect(device)
    text = f"SELECT properties.reported.n AS n, connectionState FROM devices WHERE deviceId = '{device.id}'"
    for number in range(20):
        client.patch_twin_reported_properties({"n": number})
        assert rows(rest, text) == [{"n": number, "connectionState": "Connected"}]
    registry.delete_device(device.id)
    assert rows(rest, text) == []


SYNTAX_ERRORS = [
    "SELECT", "SELECT * FROM", "SELECT * FROM gadgets", "SELEKT * FROM devices", "SELECT * FROM devices WHERE",
    "SELECT * FROM devices WHERE tags.a =", "SELECT * FROM devices WHERE tags.a = 'x", "SELECT * FROM devices WHERE (tags.a = 1",
    "SELECT * FROM devices WHERE NOSUCH(tags.a)", "SELECT * FROM devices WHERE tags.a ~ 1", "SELECT * FROM devices GROUP BY",
    "SELECT * FROM devices; DROP TABLE devices", "SELECT *, COUNT() FROM devices WHERE tags.a IN (1, 2) x", "\u0000", "😀",
]


def test_syntax_errors(rest, registry):
    for text in SYNTAX_ERRORS:
        answer = rest.send("POST", "/devices/query", {"query": text})
        assert answer.status_code == 400, f"{text!r}: {answer.status_code} {answer.text}"
        assert error_name(answer) == "ArgumentInvalid", text
    with pytest.raises(HttpOperationError) as caught:
        run(registry, "SELECT * FROM devices WHERE tags.a ==== 3")
    assert "1:" in caught.value.response.text, "the place is named"
    assert error_name(rest.send("POST", "/devices/query", {})) == "ArgumentNull"
    for body in (b"", b"[]", b'{"query":5}', b"{"):
        assert rest.send("POST", "/devices/query", data=body).status_code == 400, body


def test_enormous_queries(site, rest):
    parentheses = "SELECT * FROM devices WHERE " + "(" * 10_000 + "1 = 1" + ")" * 10_000
    nots = "SELECT * FROM devices WHERE " + "NOT " * 2000 + "true"
    minus = "SELECT * FROM devices WHERE " + "[" * 4000
    large = "SELECT * FROM devices WHERE tags.a = '" + "x" * 10_000_000 + "'"
    for text in (parentheses, nots, minus, large, "SELECT * FROM devices WHERE tags.a = '" + "x" * 8192 + "'"):
        answer = rest.send("POST", "/devices/query", {"query": text})
        assert answer.status_code in (400, 413), f"{text[:40]}: {answer.status_code}"
    assert len(rows(rest, where(site))) == COUNT


def test_continuations_of_another_hand(site, rest):
    first = rest.send("POST", "/devices/query", {"query": where(site)}, {"x-ms-max-item-count": "10"})
    token = first.headers["x-ms-continuation"]
    middle = len(token) // 2
    flipped = token[:middle] + ("A" if token[middle] != "A" else "B") + token[middle + 1:]
    for bad in (flipped, token[:-4], token + "AAAA", "nonsense", "AAAA", "x" * 5000):
        answer = rest.send("POST", "/devices/query", {"query": where(site)}, {"x-ms-max-item-count": "10", "x-ms-continuation": bad})
        assert answer.status_code in (400, 431), f"{bad[:40]}: {answer.status_code} {answer.text}"
    other = rest.send("POST", "/devices/query", {"query": "SELECT * FROM devices"}, {"x-ms-max-item-count": "10", "x-ms-continuation": token})
    assert other.status_code == 400, "a token belongs to its query"
    for bad in ("0", "-1", "many"):
        answer = rest.send("POST", "/devices/query", {"query": where(site)}, {"x-ms-max-item-count": bad})
        assert answer.status_code in (200, 400), bad
    clamped = rest.send("POST", "/devices/query", {"query": where(site)}, {"x-ms-max-item-count": "100000"})
    assert clamped.status_code == 200 and len(clamped.json()) == COUNT
