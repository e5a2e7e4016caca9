// Import and export jobs with the service SDK, in containers that are folders, and each error class (S 3).
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { pathToFileURL } = require('node:url');
const { test } = require('node:test');
const { fleetOfFile, until } = require('../support/fleet');

const fleet = fleetOfFile();
let folders = 0;

/** A folder that the hub may use, and its URL. */
function container() {
  folders += 1;
  const folder = path.join(fleet.hub.bulk, `node-${process.pid}-${folders}`);
  fs.mkdirSync(folder, { recursive: true });
  return { folder, url: pathToFileURL(folder).href };
}

const bodyOf = (answer) => answer.responseBody ?? answer;
const lines = (file) => fs.readFileSync(file, 'utf8').split('\n').filter(Boolean).map((line) => JSON.parse(line));

async function untilOver(answer) {
  const job = bodyOf(answer);
  assert.equal(job.status, 'enqueued');
  return until(async () => {
    const now = bodyOf(await fleet.registry.getJob(job.jobId));
    return ['completed', 'failed', 'cancelled'].includes(now.status) && now;
  }, `the end of ${job.jobId}`, 60_000);
}

test('a fleet goes out and comes back with its keys', async () => {
  const devices = await Promise.all([fleet.device(), fleet.device()]);
  const { folder, url } = container();
  const done = await untilOver(await fleet.registry.exportDevicesToBlob(url, false));
  assert.deepEqual([done.status, done.progress, done.failureReason], ['completed', 100, null]);
  const exported = lines(path.join(folder, 'devices.txt')).filter(({ id }) => devices.some((device) => device.id === id));
  assert.equal(exported.length, 2);
  fs.writeFileSync(path.join(folder, 'devices.txt'), exported.map((line) => `${JSON.stringify(line)}\n`).join(''));
  for (const { id } of devices) await fleet.registry.delete(id);
  const back = await untilOver(await fleet.registry.importDevicesFromBlob(url, url));
  assert.equal(back.status, 'completed');
  assert.equal(fs.readFileSync(path.join(folder, 'importErrors.log'), 'utf8'), '');
  for (const line of exported) {
    const { responseBody: device } = await fleet.registry.get(line.id);
    assert.deepEqual(device.authentication.symmetricKey, line.authentication.symmetricKey);
  }
  const all = bodyOf(await fleet.registry.listJobs());
  assert.ok([done, back].every(({ jobId }) => all.some((job) => job.jobId === jobId)));
});

test('keys are left out if asked', async () => {
  const device = await fleet.device();
  const { folder, url } = container();
  await untilOver(await fleet.registry.exportDevicesToBlob(url, true));
  const line = lines(path.join(folder, 'devices.txt')).find(({ id }) => id === device.id);
  assert.deepEqual(line.authentication.symmetricKey, { primaryKey: null, secondaryKey: null });
});

test('bad lines are named and the rest is imported', async () => {
  const there = await fleet.device();
  const { folder, url } = container();
  const given = [{ id: there.id, importMode: 'create' }, { id: fleet.newId(), importMode: 'update' }];
  fs.writeFileSync(path.join(folder, 'devices.txt'), `${given.map((line) => JSON.stringify(line)).join('\n')}\nnot a line\n{\n`);
  const done = await untilOver(await fleet.registry.importDevicesFromBlob(url, url));
  assert.equal(done.status, 'completed');
  const errors = lines(path.join(folder, 'importErrors.log')).map(({ line, errorCode }) => [line, errorCode]);
  assert.deepEqual(errors, [[1, 409001], [2, 404001], [4, 400006]]);
});

test('what cannot be is refused', async () => {
  const { url } = container();
  const { registry } = fleet;
  const refused = async (call, status, name) => {
    await assert.rejects(call, (error) => {
      assert.equal(error.response?.statusCode, status, error);
      assert.match(String(error.responseBody), new RegExp(`ErrorCode:${name};`));
      return true;
    });
  };
  await refused(registry.exportDevicesToBlob('file:///etc', false), 400, 'BlobContainerValidationError');
  await refused(registry.exportDevicesToBlob('https://other.example/c?sig=x', false), 400, 'BlobContainerValidationError');
  await refused(registry.importDevicesFromBlob(url, url), 400, 'BlobContainerValidationError');
  await refused(registry.exportDevicesToBlobByIdentity(url, false), 400, 'ManagedIdentityNotEnabled');
  await refused(registry.importDevicesFromBlobByIdentity(url, url), 400, 'ManagedIdentityNotEnabled');
  await refused(registry.getJob('no-such-job'), 404, 'JobNotFound');
  await refused(registry.cancelJob('no-such-job'), 404, 'JobNotFound');
  const done = await untilOver(await registry.exportDevicesToBlob(url, false));
  await refused(registry.cancelJob(done.jobId), 409, 'GenericConflict');
});

test('a container that is not there fails the job', async () => {
  const { url } = container();
  const done = await untilOver(await fleet.registry.exportDevicesToBlob(`${url}/none`, false));
  assert.equal(done.status, 'failed');
  assert.match(done.failureReason, /'none'/);
});
