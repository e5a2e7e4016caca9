"""Jobs: twin patches and method calls over many devices or modules, now or later, and every way to fail (S 6)."""

import itertools
import time
from datetime import datetime, timedelta, timezone

import pytest
from azure.core.exceptions import DeserializationError
from azure.iot.hub import IoTHubJobManager
from azure.iot.hub.models import CloudToDeviceMethod, JobRequest, QuerySpecification, Twin, TwinProperties
from msrest.exceptions import HttpOperationError

from support.fleet import Patches, Recorder, wait_for
from support.rest import error_name

TWIN_JOB, METHOD_JOB = "scheduleUpdateTwin", "scheduleDeviceMethod"
OVER = {"completed", "failed", "cancelled"}


@pytest.fixture
def jobs(hub):
    """The service SDK's client for jobs."""
    return IoTHubJobManager.from_connection_string(hub.connection_string())


def twin_job(condition, tags=None, desired=None, etag="*", **more):
    twin = Twin(etag=etag, tags=tags, properties=TwinProperties(desired=desired) if desired else None)
    return JobRequest(type=TWIN_JOB, update_twin=twin, query_condition=condition, **more)


def method_job(condition, payload=None, name="act", response=30, connect=None, **more):
    method = CloudToDeviceMethod(
        method_name=name, payload=payload, response_timeout_in_seconds=response, connect_timeout_in_seconds=connect
    )
    return JobRequest(type=METHOD_JOB, cloud_to_device_method=method, query_condition=condition, **more)


def among(devices):
    """A condition that selects exactly these devices."""
    return f"deviceId IN [{', '.join(repr(device.id) for device in devices)}]"


def in_seconds(seconds):
    return datetime.now(timezone.utc) + timedelta(seconds=seconds)


def counts(job):
    """How many targets there are, succeeded, failed and were cancelled; whatever happens, they add up."""
    all_of = job.device_job_statistics
    cancelled = all_of.additional_properties["cancelledCount"]
    settled = (all_of.succeeded_count, all_of.failed_count, cancelled)
    assert all_of.device_count == sum(settled) + all_of.running_count + all_of.pending_count
    return all_of.device_count, *settled


def until_over(jobs, job_id, seconds=30):
    """The job once all its targets are settled."""
    job = wait_for(lambda: (now := jobs.get_scheduled_job(job_id)).end_time and now, f"the end of {job_id}", seconds)
    assert job.status in OVER and job.created_time <= job.end_time
    assert job.start_time <= job.end_time or job.status == "cancelled", "only who never began ends before the start"
    assert (job.device_job_statistics.running_count, job.device_job_statistics.pending_count) == (0, 0)
    return job


def until_counts(jobs, job_id, seconds=30, **expected):
    """Waits until statistics such as `running=2` are reached."""
    def reached():
        statistics = jobs.get_scheduled_job(job_id).device_job_statistics
        return all(getattr(statistics, f"{name}_count") == count for name, count in expected.items())

    wait_for(reached, f"{job_id} to stand at {expected}", seconds)


def records(registry, job_id, condition="", page=None):
    """What `devices.jobs` says of the job's targets."""
    query = QuerySpecification(query=f"SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '{job_id}'{condition}")
    found, token = [], None
    while True:
        # The SDK reads every row as a twin; what it does not know lands in additional_properties.
        result = registry.query_iot_hub(query, token, page)
        assert result.type == "DeviceJob"
        known = ({"id": row.device_id, "module": row.module_id, "status": row.status} for row in result.items)
        found += [row.additional_properties | fields for row, fields in zip(result.items, known)]
        token = result.continuation_token
        if not token:
            return found


def by_device(registry, job_id):
    return {record["id"]: record for record in records(registry, job_id)}


def one_page(jobs, kind=None, status=None, page=None, token=None):
    """One page of jobs, asked for by the SDK; what it reads them with is made to take the array that comes (S 6.1)."""
    headers = {"x-ms-max-item-count": page, "x-ms-continuation": token}
    operations = jobs.protocol.jobs
    read = operations._deserialize
    operations._deserialize = lambda _, answer: read("[JobResponse]", answer)
    try:
        sent = {name: str(value) for name, value in headers.items() if value}
        answer = operations.query_scheduled_jobs(kind, status, custom_headers=sent, raw=True)
    finally:
        operations._deserialize = read
    assert answer.response.headers["x-ms-item-type"] == "JobResponse"
    return answer.output, answer.response.headers.get("x-ms-continuation")


def refused(call):
    """The status and the name of the error."""
    with pytest.raises(HttpOperationError) as caught:
        call()
    return caught.value.response.status_code, error_name(caught.value.response)


# ---- twins

def test_a_twin_job(fleet, jobs, registry):
    site, job_id = fleet.new_id("site"), fleet.new_id("job")
    targets, other = [fleet.device() for _ in range(5)], fleet.device()
    for number, device in enumerate(targets):
        registry.update_twin(device.id, Twin(tags={"site": site, "n": number}))
    before = registry.get_twin(other.id)
    patches = Patches(fleet.connect(targets[0]))
    condition = f"tags.site = '{site}'"
    made = jobs.create_scheduled_job(job_id, twin_job(condition, {"ring": "1", "n": None}, {"rate": 9}, max_execution_time_in_seconds=300))
    assert (made.job_id, made.type, made.status) == (job_id, TWIN_JOB, "queued")
    job = until_over(jobs, job_id)
    assert (job.status, counts(job), job.failure_reason) == ("completed", (5, 5, 0, 0), None)
    assert (job.query_condition, job.max_execution_time_in_seconds) == (condition, 300)
    assert (job.update_twin.etag, job.update_twin.tags["ring"]) == ("*", "1")
    assert job.update_twin.properties.desired == {"rate": 9}
    for device in targets:
        twin = registry.get_twin(device.id)
        assert twin.tags == {"site": site, "ring": "1"}
        assert (twin.properties.desired["rate"], twin.properties.desired["$version"]) == (9, 2), "patched exactly once"
    patches.wait(lambda patch: patch.get("rate") == 9)
    assert registry.get_twin(other.id).etag == before.etag
    found = by_device(registry, job_id)
    assert set(found) == {device.id for device in targets}
    for record in found.values():
        assert (record["status"], record["jobType"], record["jobId"]) == ("completed", TWIN_JOB, job_id)
        assert record["outcome"] == {"deviceMethodResponse": None} and "error" not in record
        assert record["createdDateTimeUtc"] <= record["startTimeUtc"] <= record["endTimeUtc"] == record["lastUpdatedDateTimeUtc"]


def test_a_job_that_matches_nothing(fleet, jobs, registry):
    job_id = fleet.new_id("job")
    jobs.create_scheduled_job(job_id, twin_job("tags.site = 'nowhere at all'", {"x": 1}))
    job = until_over(jobs, job_id)
    assert (job.status, counts(job), records(registry, job_id)) == ("completed", (0, 0, 0, 0), [])


def test_a_patch_that_some_twins_cannot_take(fleet, jobs, registry):
    """Each twin's limits are its own: those that have no room fail, the others go on."""
    full, free, job_id = fleet.device(), fleet.device(), fleet.new_id("job")
    registry.update_twin(full.id, Twin(tags={f"t{number}": "x" * 1000 for number in range(7)}))
    jobs.create_scheduled_job(job_id, twin_job(among([full, free]), {"more": {"a": "y" * 1000, "b": "y" * 1000}}))
    job = until_over(jobs, job_id)
    assert (job.status, counts(job)) == ("completed", (2, 1, 1, 0))
    found = by_device(registry, job_id)
    assert (found[free.id]["status"], found[full.id]["status"]) == ("completed", "failed")
    assert found[full.id]["error"]["code"].startswith("400") and found[full.id]["error"]["description"]
    assert "more" in registry.get_twin(free.id).tags and "more" not in registry.get_twin(full.id).tags


# ---- methods

def test_a_method_job(fleet, jobs, registry):
    devices, job_id = [fleet.device() for _ in range(4)], fleet.new_id("job")
    failing, refusing = devices[2:]
    answers = {failing.id: lambda _: (500, {"said": "no"}), refusing.id: lambda _: (404, None)}
    calls = {device.id: Recorder(fleet.connect(device), answers.get(device.id)) for device in devices}
    payload = {"n": 1, "nested": {"é": [None, True]}}
    made = jobs.create_scheduled_job(job_id, method_job(among(devices), payload, "reboot"))
    assert (made.job_id, made.type, made.status) == (job_id, METHOD_JOB, "queued")
    job = until_over(jobs, job_id)
    # A device that answers was called, whatever it says.
    assert (job.status, counts(job)) == ("completed", (4, 4, 0, 0))
    assert (job.cloud_to_device_method.method_name, job.cloud_to_device_method.payload) == ("reboot", payload)
    for each in calls.values():
        assert [(request.name, request.payload) for request in each.requests] == [("reboot", payload)]
    found = by_device(registry, job_id)
    said = {device.id: found[device.id]["outcome"]["deviceMethodResponse"] for device in devices}
    assert said == {
        devices[0].id: {"status": 200, "payload": payload}, devices[1].id: {"status": 200, "payload": payload},
        failing.id: {"status": 500, "payload": {"said": "no"}}, refusing.id: {"status": 404, "payload": None},
    }


def test_devices_that_do_not_answer(fleet, jobs, registry):
    """Offline, connected without methods, silent, gone during the call, deleted: each fails for its own reason."""
    devices = offline, deaf, silent, leaving, well = [fleet.device() for _ in range(5)]
    job_id = fleet.new_id("job")
    fleet.connect(deaf)
    Recorder(fleet.connect(silent), lambda _: None)
    client = fleet.client(leaving, connection_retry=False)
    client.connect()
    left = Recorder(client, lambda _: None)
    Recorder(fleet.connect(well))
    jobs.create_scheduled_job(job_id, method_job(among(devices), 1, response=5))
    wait_for(lambda: left.requests, "the call")
    client.disconnect()
    job = until_over(jobs, job_id)
    assert (job.status, counts(job)) == ("completed", (5, 1, 4, 0))
    found = by_device(registry, job_id)
    codes = {device_id: record["error"]["code"] for device_id, record in found.items() if record["status"] == "failed"}
    assert codes == {offline.id: "404103", deaf.id: "404103", silent.id: "504101", leaving.id: "404104"}
    assert all("outcome" not in found[device_id] and found[device_id]["error"]["description"] for device_id in codes)
    assert found[well.id]["outcome"]["deviceMethodResponse"] == {"status": 200, "payload": 1}


def test_an_offline_device_that_comes_in_time(fleet, jobs, registry):
    came, absent, deleted = devices = [fleet.device() for _ in range(3)]
    job_id = fleet.new_id("job")
    jobs.create_scheduled_job(job_id, method_job(among(devices), {"n": 1}, connect=8))
    until_counts(jobs, job_id, pending=3)
    assert jobs.get_scheduled_job(job_id).status == "running"
    registry.delete_device(deleted.id)
    calls = Recorder(fleet.connect(came))
    wait_for(lambda: calls.requests, "the call", 5)
    job = until_over(jobs, job_id)
    assert (job.status, counts(job)) == ("completed", (3, 1, 2, 0))
    found = by_device(registry, job_id)
    assert found[came.id]["outcome"]["deviceMethodResponse"] == {"status": 200, "payload": {"n": 1}}
    assert found[absent.id]["error"]["code"] == "404103"
    assert found[deleted.id]["error"]["code"] in {"404001", "404103"}
    assert len(calls.requests) == 1


def test_a_jobs_time_ends_the_wait_for_devices(fleet, jobs, registry):
    device, job_id = fleet.device(), fleet.new_id("job")
    jobs.create_scheduled_job(job_id, method_job(among([device]), 1, connect=300, max_execution_time_in_seconds=2))
    assert counts(until_over(jobs, job_id, 15)) == (1, 0, 1, 0)
    assert records(registry, job_id)[0]["error"]["code"] == "404103"
    calls = Recorder(fleet.connect(device))
    registry.invoke_device_method(device.id, CloudToDeviceMethod(method_name="after", response_timeout_in_seconds=10))
    assert [request.name for request in calls.requests] == ["after"], "too late for the job"


# ---- modules

@pytest.mark.parametrize("kind", [TWIN_JOB, METHOD_JOB])
def test_modules_as_targets(fleet, jobs, registry, kind):
    job_id, name = fleet.new_id("job"), fleet.new_id("module")
    modules = [fleet.module(fleet.device(), name) for _ in range(3)]
    bystander = fleet.module(modules[0], "bystander")
    clients = [fleet.connect(module) for module in (*modules, bystander)]
    calls, patches = [Recorder(client) for client in clients], [Patches(client) for client in clients]
    condition = f"FROM devices.modules WHERE devices.modules.moduleId = '{name}'"
    twin = kind == TWIN_JOB
    jobs.create_scheduled_job(job_id, twin_job(condition, desired={"rate": 3}) if twin else method_job(condition, {"n": 2}))
    job = until_over(jobs, job_id)
    assert (job.status, counts(job), job.query_condition) == ("completed", (3, 3, 0, 0), condition)
    found = records(registry, job_id)
    assert sorted(record["id"] for record in found) == sorted(module.id for module in modules)
    assert {record["module"] for record in found} == {name}
    if twin:
        for each in patches[:3]:
            each.wait(lambda patch: patch.get("rate") == 3)
        assert [registry.get_module_twin(module.id, name).properties.desired["rate"] for module in modules] == [3, 3, 3]
        assert "rate" not in registry.get_module_twin(modules[0].id, "bystander").properties.desired
        assert "rate" not in registry.get_twin(modules[0].id).properties.desired
    else:
        assert [[request.payload for request in each.requests] for each in calls] == [[{"n": 2}]] * 3 + [[]]


# ---- later, and cancelled

def test_scheduled_for_later(fleet, jobs, registry):
    device, late, job_id, site = fleet.device(), fleet.device(), fleet.new_id("job"), fleet.new_id("site")
    start = in_seconds(3)
    made = jobs.create_scheduled_job(job_id, twin_job(f"tags.site = '{site}'", desired={"rate": 1}, start_time=start))
    assert made.status == "scheduled"
    waiting = jobs.get_scheduled_job(job_id)
    assert (waiting.status, counts(waiting), waiting.end_time) == ("scheduled", (0, 0, 0, 0), None)
    assert abs(waiting.start_time - start) < timedelta(seconds=1) and waiting.created_time < start
    # The targets are those that match when it starts.
    for each in (device, late):
        registry.update_twin(each.id, Twin(tags={"site": site}))
    job = until_over(jobs, job_id)
    assert (job.status, counts(job)) == ("completed", (2, 2, 0, 0)) and job.end_time >= start
    assert registry.get_twin(late.id).properties.desired["rate"] == 1
    past = fleet.new_id("job")
    jobs.create_scheduled_job(past, twin_job(among([device]), desired={"rate": 2}, start_time=in_seconds(-86_400)))
    assert counts(until_over(jobs, past)) == (1, 1, 0, 0), "a start in the past is now"


def test_cancelled_before_it_starts(fleet, jobs, registry):
    device, job_id = fleet.device(), fleet.new_id("job")
    jobs.create_scheduled_job(job_id, twin_job(among([device]), {"x": 1}, start_time=in_seconds(2)))
    cancelled = jobs.cancel_scheduled_job(job_id)
    assert (cancelled.job_id, cancelled.status) == (job_id, "cancelled")
    # Another job that was due after it has run, so that its time has passed.
    after = fleet.new_id("job")
    jobs.create_scheduled_job(after, twin_job(among([device]), {"y": 1}, start_time=in_seconds(3)))
    until_over(jobs, after)
    job = until_over(jobs, job_id)
    assert (job.status, counts(job), records(registry, job_id)) == ("cancelled", (0, 0, 0, 0), [])
    assert registry.get_twin(device.id).tags == {"y": 1}
    assert refused(lambda: jobs.cancel_scheduled_job(job_id)) == (409, "GenericConflict")


def test_cancelled_while_it_runs(fleet, jobs, registry):
    """What was sent is waited for; what was not is never sent."""
    called, absent, job_id = fleet.device(), fleet.device(), fleet.new_id("job")
    gate = []
    calls = Recorder(fleet.connect(called), lambda _: wait_for(lambda: gate, "the gate") and (200, "done"))
    jobs.create_scheduled_job(job_id, method_job(among([called, absent]), 1, connect=60))
    wait_for(lambda: calls.requests, "the call")
    until_counts(jobs, job_id, running=1, pending=1)
    assert jobs.cancel_scheduled_job(job_id).status == "cancelled"
    comes = Recorder(fleet.connect(absent))
    gate.append(True)
    job = until_over(jobs, job_id)
    assert (job.status, counts(job)) == ("cancelled", (2, 1, 0, 1))
    found = by_device(registry, job_id)
    assert (found[called.id]["status"], found[absent.id]["status"]) == ("completed", "canceled")
    registry.invoke_device_method(absent.id, CloudToDeviceMethod(method_name="after", response_timeout_in_seconds=10))
    assert [request.name for request in comes.requests] == ["after"]


# ---- lists and queries

def test_lists_in_pages(fleet, jobs):
    later = {"start_time": in_seconds(3600)}
    twins = [fleet.new_id("list") for _ in range(5)]
    methods = [fleet.new_id("list") for _ in range(2)]
    for job_id in twins:
        jobs.create_scheduled_job(job_id, twin_job("*", {"x": 1}, **later))
    for job_id in methods:
        jobs.create_scheduled_job(job_id, method_job("*", **later))

    def listed(kind=None, status=None, page=None):
        found, sizes, token = [], [], None
        for _ in range(1000):
            some, token = one_page(jobs, kind, status, page, token)
            found, sizes = found + some, sizes + [len(some)]
            if not token:
                return found, sizes
        raise AssertionError("the list does not end")

    def ids(*filters):
        return {job.job_id for job in listed(*filters)[0]}

    assert set(twins + methods) <= ids()
    found, sizes = listed(TWIN_JOB, "scheduled", 2)
    assert [job.job_id for job in found if job.job_id in twins] == sorted(twins)
    assert all(size == 2 for size in sizes[:-1]) and 1 <= sizes[-1] <= 2
    assert {(job.type, job.status) for job in found} == {(TWIN_JOB, "scheduled")}
    assert ids(METHOD_JOB.upper(), "SCHEDULED") >= set(methods) and not ids(METHOD_JOB) & set(twins)
    assert not ids(None, "completed") & set(twins + methods)
    assert ids("exportDevices") == set()
    jobs.cancel_scheduled_job(twins[0])
    assert twins[0] in ids(None, "cancelled") and twins[0] not in ids(None, "scheduled")
    # The SDK's own call sends the same request, and then trips over an array; so it does with the service itself.
    with pytest.raises(DeserializationError):
        jobs.query_scheduled_jobs(TWIN_JOB, "scheduled")
    for refusal in (lambda: one_page(jobs, status="sleepy"), lambda: one_page(jobs, page=2, token="not a token")):
        assert refused(refusal) == (400, "ArgumentInvalid")
    for job_id in twins[1:] + methods:
        jobs.cancel_scheduled_job(job_id)


def test_queries_of_device_jobs(fleet, jobs, registry, rest):
    devices, job_id = [fleet.device() for _ in range(7)], fleet.new_id("job")
    for device in devices[:2]:
        Recorder(fleet.connect(device))
    jobs.create_scheduled_job(job_id, method_job(among(devices), 1))
    until_over(jobs, job_id)
    assert sorted(record["id"] for record in records(registry, job_id, page=3)) == sorted(device.id for device in devices)
    for condition, count in {
        "status = 'failed'": 5, "devices.jobs.status = 'Completed'": 2, "status = 'pending'": 0,
        "error.code = '404103'": 5, "outcome.deviceMethodResponse.status = 200": 2,
        f"deviceId = '{devices[0].id}'": 1, f"jobType = '{METHOD_JOB}'": 7,
        "devices.jobs.createdDateTimeUtc > '2020-01-01T00:00:00Z'": 7,
    }.items():
        assert len(records(registry, job_id, f" AND {condition}")) == count, condition
    text = f"SELECT status, COUNT() AS n FROM devices.jobs WHERE jobId = '{job_id}' GROUP BY status"
    groups = rest.send("POST", "/devices/query", {"query": text}).json()
    assert sorted(groups, key=lambda row: row["n"]) == [{"status": "completed", "n": 2}, {"status": "failed", "n": 5}]
    assert records(registry, "no-such-job") == []


# ---- what is refused

def test_each_error_class(hub, fleet, jobs):
    taken = fleet.new_id("job")
    condition, later = "deviceId = 'nobody'", {"start_time": in_seconds(3600)}
    jobs.create_scheduled_job(taken, twin_job(condition, {"x": 1}, **later))

    def creating(request):
        return lambda: jobs.create_scheduled_job(fleet.new_id("refused"), request)

    invalid, null = (400, "ArgumentInvalid"), (400, "ArgumentNull")
    for what, expected, call in [
        ("the same again", (409, "JobAlreadyExists"), lambda: jobs.create_scheduled_job(taken, twin_job(condition, {"x": 1}, **later))),
        ("its id for another", (409, "JobAlreadyExists"), lambda: jobs.create_scheduled_job(taken, method_job("*"))),
        ("get an unknown one", (404, "JobNotFound"), lambda: jobs.get_scheduled_job("no-such-job")),
        ("cancel an unknown one", (404, "JobNotFound"), lambda: jobs.cancel_scheduled_job("no-such-job")),
        ("two ids", invalid, creating(twin_job(condition, {"x": 1}, job_id="another"))),
        ("an id with a blank", invalid, lambda: jobs.create_scheduled_job("not allowed", twin_job(condition, {"x": 1}))),
        ("half a condition", invalid, creating(twin_job("tags.site = ", {"x": 1}))),
        ("a whole query", invalid, creating(twin_job("SELECT * FROM devices", {"x": 1}))),
        ("an empty condition", invalid, creating(twin_job("", {"x": 1}))),
        ("over jobs", invalid, creating(twin_job("FROM devices.jobs WHERE status = 'failed'", {"x": 1}))),
        ("no condition", null, creating(twin_job(None, {"x": 1}))),
        ("no etag", invalid, creating(twin_job(condition, {"x": 1}, etag=None))),
        ("another etag", invalid, creating(twin_job(condition, {"x": 1}, etag="AAAA"))),
        ("a bad tag", invalid, creating(twin_job(condition, {"a b": 1}))),
        ("no twin", null, creating(JobRequest(type=TWIN_JOB, query_condition=condition))),
        ("no method", null, creating(JobRequest(type=METHOD_JOB, query_condition=condition))),
        ("no method name", invalid, creating(method_job(condition, name=""))),
        ("a method that must answer too soon", invalid, creating(method_job(condition, response=4))),
        ("a method that may answer too late", invalid, creating(method_job(condition, response=301))),
        ("a device that may come too late", invalid, creating(method_job(condition, connect=301))),
        ("another type", (400, "GenericBadRequest"), creating(JobRequest(type="restoreFromBackup", query_condition=condition))),
        ("no type", null, creating(JobRequest(query_condition=condition))),
        ("no time", invalid, creating(twin_job(condition, {"x": 1}, max_execution_time_in_seconds=0))),
        ("endless time", invalid, creating(twin_job(condition, {"x": 1}, max_execution_time_in_seconds=10**15))),
        ("in 2200", invalid, creating(twin_job(condition, {"x": 1}, start_time=datetime(2200, 1, 1, tzinfo=timezone.utc)))),
    ]:
        assert refused(call) == expected, what
    assert not any(job.job_id.startswith("refused") for job in one_page(jobs)[0]), "what was refused does not exist"
    assert jobs.cancel_scheduled_job(taken).status == "cancelled"


def test_bodies_that_are_no_jobs(rest, jobs):
    good = {"type": TWIN_JOB, "updateTwin": {"etag": "*", "tags": {"x": 1}}, "queryCondition": "deviceId = 'nobody'"}
    for data in (b"", b"{", b"[]", b'"x"', b"null", b"\xff"):
        assert rest.send("PUT", "/jobs/v2/no-job", data=data).status_code == 400, data
    for change in (
        {"startTime": "tomorrow"}, {"startTime": 5}, {"maxExecutionTimeInSeconds": "long"}, {"maxExecutionTimeInSeconds": -1},
        {"updateTwin": []}, {"updateTwin": "x"}, {"queryCondition": 1}, {"type": 7}, {"queryCondition": "(" * 4000},
    ):
        assert rest.send("PUT", "/jobs/v2/no-job", good | change).status_code == 400, change
    long = rest.send("PUT", "/jobs/v2/no-job", good | {"queryCondition": f"deviceId = '{'x' * 9000}'"})
    assert long.status_code in (400, 412), long.text
    assert refused(lambda: jobs.get_scheduled_job("no-job"))[0] == 404
    # Node sends null for what it does not say, and C# types in Pascal case.
    lenient = good | {"type": "ScheduleUpdateTwin", "startTime": None, "maxExecutionTimeInSeconds": None, "jobId": None}
    made = rest.send("PUT", "/jobs/v2/lenient-job", lenient)
    assert (made.status_code, made.json()["status"], made.json()["type"]) == (200, "queued", TWIN_JOB)


@pytest.mark.parametrize("policy", ["registryRead", "registryReadWrite", "device"])
def test_no_right_to_jobs(hub, fleet, jobs, registry, policy):
    device, job_id = fleet.device(), fleet.new_id("job")
    jobs.create_scheduled_job(job_id, twin_job(among([device]), {"x": 1}, start_time=in_seconds(3600)))
    limited = IoTHubJobManager.from_connection_string(hub.connection_string(policy))
    for call in (
        lambda: limited.create_scheduled_job(fleet.new_id("job"), twin_job(among([device]), {"x": 1})),
        lambda: limited.get_scheduled_job(job_id),
        lambda: limited.cancel_scheduled_job(job_id),
        lambda: one_page(limited),
    ):
        assert refused(call)[0] == 401
    assert jobs.get_scheduled_job(job_id).status == "scheduled"
    service = IoTHubJobManager.from_connection_string(hub.connection_string("service"))
    assert service.cancel_scheduled_job(job_id).status == "cancelled"
    assert registry.get_twin(device.id).tags is None


# ---- a hub that is killed

def test_killed_in_the_middle_of_a_method_job(hub, fleet, jobs, registry):
    """Nobody is called twice: who was called and did not answer is told apart, and the job goes on with the rest."""
    answered, called, absent = ([fleet.device() for _ in range(3)] for _ in range(3))
    later, job_id = fleet.new_id("job"), fleet.new_id("job")
    clients = {device.id: fleet.connect(device) for device in answered + called}
    calls = {device.id: Recorder(clients[device.id]) for device in answered}
    calls |= {device.id: Recorder(clients[device.id], lambda _: None) for device in called}
    jobs.create_scheduled_job(job_id, method_job(among(answered + called + absent), {"n": 1}, response=300, connect=300))
    jobs.create_scheduled_job(later, twin_job(among(absent), {"later": True}, start_time=in_seconds(5)))
    until_counts(jobs, job_id, succeeded=3, running=3, pending=3)
    wait_for(lambda: all(each.requests for each in calls.values()), "all calls")

    hub.kill()
    wait_for(lambda: not any(client.connected for client in clients.values()), "all see that the hub has gone")
    hub.start()
    wait_for(lambda: all(client.connected for client in clients.values()), "all are back", 40)

    calls |= {device.id: Recorder(fleet.connect(device)) for device in absent}
    job = until_over(jobs, job_id)
    assert (job.status, counts(job)) == ("completed", (9, 6, 3, 0))
    found = by_device(registry, job_id)
    for device in called:
        assert (found[device.id]["status"], found[device.id]["error"]["code"]) == ("failed", "OutcomeUnknown")
    for device in answered + absent:
        assert found[device.id]["outcome"]["deviceMethodResponse"] == {"status": 200, "payload": {"n": 1}}
    # A call from now on arrives after everything that the job sent.
    for device in called:
        calls[device.id]._answer = lambda request: (200, request.payload)
    for device_id, each in calls.items():
        registry.invoke_device_method(device_id, CloudToDeviceMethod(method_name="after", response_timeout_in_seconds=10))
        assert [request.name for request in each.requests] == ["act", "after"], device_id
    assert counts(until_over(jobs, later)) == (3, 3, 0, 0), "a job that waited for its time is not forgotten"


def test_killed_again_and_again_under_devices_that_come_and_go(hub, fleet, jobs, registry):
    """At whatever moment the hub is killed, no device acts twice and none is forgotten."""
    job_id, waves = fleet.new_id("job"), [[fleet.device() for _ in range(6)] for _ in range(4)]
    devices = list(itertools.chain.from_iterable(waves))
    calls = {}
    jobs.create_scheduled_job(job_id, method_job(among(devices), 7, connect=300))
    until_counts(jobs, job_id, pending=len(devices))

    def comes(device, pause):
        calls[device.id] = Recorder(fleet.connect(device), lambda request: time.sleep(pause) or (200, request.payload))

    for wave in waves[:-1]:
        for number, device in enumerate(wave):
            comes(device, number % 3 / 5)
        # Of this wave some were called and answered, some called only, and the last perhaps not even called.
        hub.kill()
        hub.start()
    for device in waves[-1]:
        comes(device, 0)
    wait_for(lambda: all(client.connected for client in fleet._clients), "all are back", 60)
    job = until_over(jobs, job_id, 60)
    found = by_device(registry, job_id)
    assert (job.status, counts(job)[0], set(found)) == ("completed", len(devices), set(calls))
    for device_id, record in found.items():
        called = len(calls[device_id].requests)
        if record["status"] == "completed":
            assert (called, record["outcome"]["deviceMethodResponse"]["payload"]) == (1, 7)
        else:
            assert called <= 1 and record["error"]["code"] == "OutcomeUnknown"
    assert {found[device.id]["status"] for device in waves[-1]} == {"completed"}, "nothing happened to these"


def test_killed_in_the_middle_of_a_twin_job(hub, fleet, jobs, registry, rest):
    """A patch and the note that it was made are one: after the restart every twin has it once."""
    site, job_id, count = fleet.new_id("site"), fleet.new_id("job"), 1500
    for start in range(0, count, 100):
        items = [{"id": f"{site}-{number}", "tags": {"site": site}} for number in range(start, start + 100)]
        assert rest.send("POST", "/devices", items).status_code == 200
    jobs.create_scheduled_job(job_id, twin_job(f"tags.site = '{site}'", desired={"rate": 1}))
    wait_for(lambda: jobs.get_scheduled_job(job_id).device_job_statistics.succeeded_count, "the first ones")
    hub.kill()
    hub.start()
    job = until_over(jobs, job_id, 60)
    assert (job.status, counts(job)) == ("completed", (count, count, 0, 0))
    assert len(by_device(registry, job_id)) == count
    text = f"SELECT COUNT() AS n FROM devices WHERE tags.site = '{site}' AND properties.desired.$version = 2 AND properties.desired.rate = 1"
    assert rest.send("POST", "/devices/query", {"query": text}).json() == [{"n": count}]
    for start in range(0, count, 100):
        items = [{"id": f"{site}-{number}", "importMode": "delete"} for number in range(start, start + 100)]
        assert rest.send("POST", "/devices", items).status_code == 200
