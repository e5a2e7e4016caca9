"""Import and export jobs with containers that are folders, and every way to be refused (S 3).

The SDK has no public method for them; its own protocol layer does.
"""

import json
import time

import pytest
from azure.iot.hub.protocol.models import JobProperties
from msrest.exceptions import HttpOperationError

from support.fleet import wait_for
from support.rest import error_name

OVER = {"completed", "failed", "cancelled"}


@pytest.fixture
def jobs(registry):
    """The SDK's calls for import and export jobs."""
    return registry.protocol.jobs


@pytest.fixture
def bulk(hub):
    """Folders that the hub may use, and their URLs."""
    root = hub.bulk / str(time.monotonic_ns())

    def folder(name):
        (root / name).mkdir(parents=True, exist_ok=True)
        return root / name, (root / name).as_uri()

    return folder


def until_over(jobs, job):
    assert job.status == "enqueued" and job.job_id
    return wait_for(lambda: (now := jobs.get_import_export_job(job.job_id)).status in OVER and now, job.job_id, 60)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_fleet_goes_out_and_comes_back(jobs, bulk, fleet, registry):
    devices = [fleet.device() for _ in range(3)]
    folder, url = bulk("fleet")
    job = jobs.create_import_export_job(JobProperties(type="export", output_blob_container_uri=url))
    done = until_over(jobs, job)
    assert (done.status, done.progress, done.failure_reason) == ("completed", 100, None)
    assert done.start_time_utc <= done.end_time_utc and done.output_blob_container_uri == url
    exported = {line["id"]: line for line in lines(folder / "devices.txt") if "moduleId" not in line}
    keys = {device.id: registry.get_device(device.id).authentication.symmetric_key.primary_key for device in devices}
    assert {id: exported[id]["authentication"]["symmetricKey"]["primaryKey"] for id in keys} == keys
    back, back_url = bulk("back")
    (back / "some.txt").write_text("".join(json.dumps(exported[device.id]) + "\n" for device in devices))
    for device in devices:
        registry.delete_device(device.id)
    done = until_over(jobs, jobs.create_import_export_job(JobProperties(
        type="import", input_blob_container_uri=back_url, input_blob_name="some.txt", output_blob_container_uri=back_url,
    )))
    assert (done.status, done.failure_reason) == ("completed", None)
    assert (back / "importErrors.log").read_text() == ""
    for device in devices:
        assert registry.get_device(device.id).authentication.symmetric_key.primary_key == keys[device.id]
    assert {job.job_id, done.job_id} <= {each.job_id for each in jobs.get_import_export_jobs()}


def test_keys_are_left_out_if_asked(jobs, bulk, fleet):
    device = fleet.device()
    folder, url = bulk("fleet")
    done = until_over(jobs, jobs.create_import_export_job(JobProperties(
        type="export", output_blob_container_uri=url, output_blob_name="a/b.txt", exclude_keys_in_export=True,
    )))
    assert done.status == "completed"
    line = next(line for line in lines(folder / "a/b.txt") if line["id"] == device.id)
    assert line["authentication"]["symmetricKey"] == {"primaryKey": None, "secondaryKey": None}


def test_bad_lines_are_named_and_the_rest_is_imported(jobs, bulk, fleet, registry):
    folder, url = bulk("fleet")
    there, new = fleet.device().id, fleet.new_id()
    given = [{"id": there, "importMode": "create"}, {"id": new}, {"id": fleet.new_id(), "importMode": "delete"}]
    (folder / "devices.txt").write_text("".join(json.dumps(line) + "\n" for line in given) + "{\n")
    done = until_over(jobs, jobs.create_import_export_job(JobProperties(
        type="import", input_blob_container_uri=url, output_blob_container_uri=url,
    )))
    assert done.status == "completed"
    errors = lines(folder / "importErrors.log")
    assert [(error["line"], error["errorCode"]) for error in errors] == [(1, 409001), (3, 404001), (4, 400006)]
    assert errors[0]["deviceId"] == there and errors[0]["errorStatus"]
    assert registry.get_device(new).device_id == new
    registry.delete_device(new)


def test_refused_jobs(jobs, bulk):
    _, url = bulk("fleet")
    for status, name, fields in [
        (400, "ArgumentNull", {"output_blob_container_uri": url}),
        (400, "ArgumentInvalid", {"type": "backup", "output_blob_container_uri": url}),
        (400, "ArgumentNull", {"type": "export"}),
        (400, "ArgumentNull", {"type": "import", "output_blob_container_uri": url}),
        (400, "BlobContainerValidationError", {"type": "export", "output_blob_container_uri": "file:///etc"}),
        (400, "BlobContainerValidationError", {"type": "export", "output_blob_container_uri": "https://h/c?sig=x"}),
        (400, "BlobContainerValidationError", {
            "type": "import", "output_blob_container_uri": url, "input_blob_container_uri": url, "input_blob_name": "no",
        }),
    ]:
        with pytest.raises(HttpOperationError) as refused:
            jobs.create_import_export_job(JobProperties(**fields))
        assert (refused.value.response.status_code, error_name(refused.value.response)) == (status, name), fields


def test_unknown_and_finished_jobs(jobs, bulk):
    for call in (jobs.get_import_export_job, jobs.cancel_import_export_job):
        with pytest.raises(HttpOperationError) as refused:
            call("no-such-job")
        assert (refused.value.response.status_code, error_name(refused.value.response)) == (404, "JobNotFound")
    _, url = bulk("fleet")
    done = until_over(jobs, jobs.create_import_export_job(JobProperties(type="export", output_blob_container_uri=url)))
    with pytest.raises(HttpOperationError) as refused:
        jobs.cancel_import_export_job(done.job_id)
    assert refused.value.response.status_code == 409


def test_a_container_that_is_not_there_fails_the_job(jobs, bulk):
    _, url = bulk("fleet")
    done = until_over(jobs, jobs.create_import_export_job(JobProperties(
        type="export", output_blob_container_uri=url + "/none",
    )))
    assert done.status == "failed" and "'none'" in done.failure_reason
