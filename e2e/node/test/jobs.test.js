// Jobs with the service SDK: twin patches and method calls over many devices, now and later, and each error class (S 6).
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { promisify } = require('node:util');
const { JobClient } = require('azure-iothub');
const {
  HOST, echo, fleetOfFile, until, within,
} = require('../support/fleet');

const HOUR_MS = 3_600_000;
const fleet = fleetOfFile();

const connectJobs = (policy) => JobClient.fromConnectionString(fleet.hub.connectionString(policy));
const devicesOf = (count) => Promise.all(Array.from({ length: count }, () => fleet.device()));
/** A condition that selects exactly these devices. */
const among = (devices) => `deviceId IN [${devices.map(({ id }) => `'${id}'`).join(', ')}]`;
const inMs = (ms) => new Date(Date.now() + ms);
const patchOf = (fields) => ({ etag: '*', ...fields });

/** The job; its counts add up, whatever happens. */
async function read(jobs, jobId) {
  const { jobStatus: job } = await jobs.getJob(jobId);
  const counts = job.deviceJobStatistics;
  const sum = counts.succeededCount + counts.failedCount + counts.cancelledCount + counts.runningCount + counts.pendingCount;
  assert.equal(counts.deviceCount, sum);
  return job;
}

/** The job once all its targets are settled, with `[targets, succeeded, failed, cancelled]`. */
async function untilOver(jobs, jobId, ms = 30_000) {
  const job = await until(async () => {
    const now = await read(jobs, jobId);
    return now.endTime && now;
  }, `the end of ${jobId}`, ms);
  const counts = job.deviceJobStatistics;
  assert.deepEqual([counts.runningCount, counts.pendingCount], [0, 0]);
  return { ...job, counts: [counts.deviceCount, counts.succeededCount, counts.failedCount, counts.cancelledCount] };
}

/** What `devices.jobs` says of the job's targets, by device. */
async function records(jobId, pageSize) {
  const query = fleet.registry.createQuery(`SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '${jobId}'`, pageSize);
  const found = [];
  while (query.hasMoreResults) {
    const { result, message } = await query.next(query.continuationToken);
    assert.equal(message.headers['x-ms-item-type'], 'DeviceJob');
    found.push(...result);
  }
  return Object.fromEntries(found.map((record) => [record.deviceId, record]));
}

/** All pages of the list. */
async function listed(jobs, ...filters) {
  const query = jobs.createQuery(...filters);
  const [found, sizes] = [[], []];
  while (query.hasMoreResults) {
    const { result, message } = await query.next(query.continuationToken);
    assert.equal(message.headers['x-ms-item-type'], 'JobResponse');
    found.push(...result);
    sizes.push(result.length);
  }
  return { found, sizes, ids: found.map(({ jobId }) => jobId) };
}

test('a twin job', async () => {
  const [jobs, jobId, site] = [connectJobs(), fleet.newId(), fleet.newId()];
  const [devices, other] = [await devicesOf(4), await fleet.device()];
  await Promise.all(devices.map(({ id }) => fleet.registry.updateTwin(id, { tags: { site } }, '*')));
  const twin = await (await fleet.connect(devices[0])).getTwin();
  const notified = new Promise((resolve) => {
    twin.on('properties.desired', (patch) => { if (patch.rate === 9) resolve(); });
  });
  const condition = `tags.site = '${site}'`;
  const patch = patchOf({ tags: { ring: '1' }, properties: { desired: { rate: 9 } } });
  const { jobStatus: made } = await jobs.scheduleTwinUpdate(jobId, condition, patch, new Date(), 300);
  assert.deepEqual([made.jobId, made.type, made.status], [jobId, 'scheduleUpdateTwin', 'queued']);
  const job = await untilOver(jobs, jobId);
  assert.deepEqual([job.status, job.counts, job.failureReason], ['completed', [4, 4, 0, 0], null]);
  assert.deepEqual([job.queryCondition, job.maxExecutionTimeInSeconds], [condition, 300]);
  assert.deepEqual(job.updateTwin, patch);
  const twins = await Promise.all(devices.map((device) => fleet.twin(device)));
  for (const { tags, properties } of twins) {
    assert.deepEqual(tags, { site, ring: '1' });
    assert.deepEqual([properties.desired.rate, properties.desired.$version], [9, 2]);
  }
  assert.equal((await fleet.twin(other)).tags?.ring, undefined);
  await within(15_000, 'the notification', notified);
  const found = await records(jobId, 3);
  assert.deepEqual(Object.keys(found).sort(), devices.map(({ id }) => id).sort());
  for (const record of Object.values(found)) {
    assert.deepEqual([record.status, record.jobType, record.outcome], ['completed', 'scheduleUpdateTwin', { deviceMethodResponse: null }]);
  }
});

test('a method job over devices that are there and one that is not', async () => {
  const [jobs, jobId, devices] = [connectJobs(), fleet.newId(), await devicesOf(4)];
  const [well, failing, silent, offline] = devices;
  const clients = await Promise.all([well, failing, silent].map((device) => fleet.connect(device)));
  const payloads = echo(clients[0], 'reboot');
  clients[1].onDeviceMethod('reboot', (request, response) => { response.send(500, { said: 'no' }).catch(() => {}); });
  clients[2].onDeviceMethod('reboot', () => {}); // never answers
  await Promise.all([echo(clients[1]), echo(clients[2])]);
  await Promise.all([well, failing, silent].map((device, number) => (
    until(() => fleet.call(device, ['reboot', 'echo', 'echo'][number], 'first', { connect: 5 }).then(() => true, () => false), 'the subscription')
  )));
  const method = { methodName: 'reboot', payload: { n: 1 }, responseTimeoutInSeconds: 5 };
  const { jobStatus: made } = await jobs.scheduleDeviceMethod(jobId, among(devices), method);
  assert.deepEqual([made.type, made.status], ['scheduleDeviceMethod', 'queued']);
  const job = await untilOver(jobs, jobId);
  assert.deepEqual([job.status, job.counts], ['completed', [4, 2, 2, 0]]);
  assert.deepEqual([job.cloudToDeviceMethod.methodName, job.cloudToDeviceMethod.payload], ['reboot', { n: 1 }]);
  const found = await records(jobId);
  const said = ({ id }) => found[id].outcome?.deviceMethodResponse ?? found[id].error.code;
  assert.deepEqual(devices.map(said), [{ status: 200, payload: { n: 1 } }, { status: 500, payload: { said: 'no' } }, '504101', '404103']);
  assert.deepEqual(payloads.at(-1), { n: 1 });
  assert.equal(payloads.filter((payload) => payload !== 'first').length, 1);
});

test('a twin job over modules', async () => {
  const [jobs, jobId, name] = [connectJobs(), fleet.newId(), fleet.newId()];
  const devices = await devicesOf(2);
  const modules = await Promise.all(devices.map((device) => fleet.module(device, name)));
  const condition = `FROM devices.modules WHERE moduleId = '${name}'`;
  await jobs.scheduleTwinUpdate(jobId, condition, patchOf({ properties: { desired: { rate: 3 } } }));
  assert.deepEqual((await untilOver(jobs, jobId)).counts, [2, 2, 0, 0]);
  const twins = await Promise.all([...modules, ...devices].map((who) => fleet.twin(who)));
  assert.deepEqual(twins.map(({ properties }) => properties.desired.rate), [3, 3, undefined, undefined]);
  assert.deepEqual(Object.values(await records(jobId)).map(({ moduleId }) => moduleId), [name, name]);
});

test('a method job over modules', async () => {
  const [jobs, jobId, name] = [connectJobs(), fleet.newId(), fleet.newId()];
  const modules = await Promise.all((await devicesOf(2)).map((device) => fleet.module(device, name)));
  const payloads = await Promise.all(modules.map(async (who) => echo(await fleet.connect(who), 'act')));
  await Promise.all(modules.map((who) => (
    until(() => fleet.call(who, 'act', 'first', { connect: 5 }).then(() => true, () => false), 'the subscription')
  )));
  const condition = `FROM devices.modules WHERE devices.modules.moduleId = '${name}'`;
  await jobs.scheduleDeviceMethod(jobId, condition, { methodName: 'act', payload: 2, responseTimeoutInSeconds: 10 });
  assert.deepEqual((await untilOver(jobs, jobId)).counts, [2, 2, 0, 0]);
  assert.deepEqual(payloads.map((each) => each.filter((payload) => payload !== 'first')), [[2], [2]]);
});

test('scheduled for later, and cancelled', async () => {
  const [jobs, device] = [connectJobs(), await fleet.device()];
  const [comes, never] = [fleet.newId(), fleet.newId()];
  const start = inMs(3000);
  const { jobStatus: made } = await jobs.scheduleTwinUpdate(comes, among([device]), patchOf({ tags: { came: true } }), start, 60);
  assert.equal(made.status, 'scheduled');
  await jobs.scheduleTwinUpdate(never, among([device]), patchOf({ tags: { never: true } }), inMs(2000), 60);
  const { jobStatus: cancelled } = await jobs.cancelJob(never);
  assert.deepEqual([cancelled.jobId, cancelled.status], [never, 'cancelled']);
  const job = await untilOver(jobs, comes);
  assert.deepEqual([job.status, job.counts], ['completed', [1, 1, 0, 0]]);
  assert.ok(new Date(job.endTime) >= start);
  assert.deepEqual((await fleet.twin(device)).tags, { came: true });
  assert.deepEqual((await untilOver(jobs, never)).counts, [0, 0, 0, 0]);
  assert.equal((await read(jobs, never)).status, 'cancelled');
});

test('callbacks', async () => {
  const [jobs, jobId] = [connectJobs(), fleet.newId()];
  const call = (name, ...args) => promisify(jobs[name].bind(jobs))(...args);
  const made = await call('scheduleTwinUpdate', jobId, "deviceId = 'nobody'", patchOf({ tags: { x: 1 } }), inMs(HOUR_MS), 60);
  assert.equal(made.status, 'scheduled');
  assert.equal((await call('getJob', jobId)).status, 'scheduled');
  assert.equal((await call('cancelJob', jobId)).status, 'cancelled');
  await assert.rejects(call('cancelJob', jobId), { name: 'DeviceAlreadyExistsError', message: /is cancelled/ });
});

test('lists in pages', async () => {
  const jobs = connectJobs();
  const twins = Array.from({ length: 5 }, () => fleet.newId());
  const methods = [fleet.newId()];
  const condition = "deviceId = 'nobody'";
  await Promise.all(twins.map((id) => jobs.scheduleTwinUpdate(id, condition, patchOf({ tags: { x: 1 } }), inMs(HOUR_MS), 60)));
  await jobs.scheduleDeviceMethod(methods[0], condition, { methodName: 'act' }, inMs(HOUR_MS), 60);
  const { found, sizes, ids } = await listed(jobs, 'scheduleUpdateTwin', 'scheduled', 2);
  assert.deepEqual(ids, [...twins].sort());
  assert.deepEqual(sizes, [2, 2, 1]);
  assert.ok(found.every(({ type, status }) => type === 'scheduleUpdateTwin' && status === 'scheduled'));
  assert.deepEqual((await listed(jobs, 'ScheduleDeviceMethod', 'Scheduled')).ids, methods);
  const all = (await listed(jobs)).ids;
  assert.ok([...twins, ...methods].every((id) => all.includes(id)));
  assert.equal(new Set(all).size, all.length);
  await jobs.cancelJob(twins[0]);
  assert.ok((await listed(jobs, undefined, 'cancelled')).ids.includes(twins[0]));
  assert.equal((await listed(jobs, 'scheduleUpdateTwin', 'scheduled')).ids.includes(twins[0]), false);
  await Promise.all([...twins.slice(1), ...methods].map((id) => jobs.cancelJob(id)));
  assert.deepEqual((await listed(jobs, undefined, 'scheduled')).ids, []);
});

test('each error class', async () => {
  const [jobs, taken] = [connectJobs(), fleet.newId()];
  const [condition, patch, method] = ["deviceId = 'nobody'", patchOf({ tags: { x: 1 } }), { methodName: 'act' }];
  await jobs.scheduleTwinUpdate(taken, condition, patch, inMs(HOUR_MS), 60);
  const limited = connectJobs('registryReadWrite');
  const key = Buffer.from('k'.repeat(32)).toString('base64');
  const wrong = JobClient.fromConnectionString(`HostName=${HOST};SharedAccessKeyName=iothubowner;SharedAccessKey=${key}`);
  const twin = (text, update = patch, ...when) => jobs.scheduleTwinUpdate(fleet.newId(), text, update, ...when);
  const cases = {
    // The SDK has one name for every conflict, and none for a job that is not there.
    'the same id': ['DeviceAlreadyExistsError', 409, 'JobAlreadyExists', () => jobs.scheduleTwinUpdate(taken, condition, patch)],
    'the same id, another type': ['DeviceAlreadyExistsError', 409, 'JobAlreadyExists', () => jobs.scheduleDeviceMethod(taken, condition, method)],
    'get an unknown one': ['Error', 404, 'JobNotFound', () => jobs.getJob('no-such-job')],
    'cancel an unknown one': ['Error', 404, 'JobNotFound', () => jobs.cancelJob('no-such-job')],
    'a bad condition': ['ArgumentError', 400, 'ArgumentInvalid', () => twin('tags.site = ')],
    'a whole query': ['ArgumentError', 400, 'ArgumentInvalid', () => twin('SELECT * FROM devices')],
    'no etag': ['ArgumentError', 400, 'ArgumentInvalid', () => twin(condition, { tags: { x: 1 } })],
    'a bad tag': ['ArgumentError', 400, 'ArgumentInvalid', () => twin(condition, patchOf({ tags: { 'a b': 1 } }))],
    'in 2200': ['ArgumentError', 400, 'ArgumentInvalid', () => twin(condition, patch, new Date('2200-01-01'), 60)],
    'too long': ['ArgumentError', 400, 'ArgumentInvalid', () => twin(condition, patch, new Date(), 1e15)],
    'a method that may answer too late': ['ArgumentError', 400, 'ArgumentInvalid', () => (
      jobs.scheduleDeviceMethod(fleet.newId(), condition, { ...method, responseTimeoutInSeconds: 301 }))],
    'an unknown status': ['ArgumentError', 400, 'ArgumentInvalid', () => jobs.createQuery(undefined, 'sleepy').next()],
    'no right to create': ['UnauthorizedError', 401, undefined, () => limited.scheduleTwinUpdate(fleet.newId(), condition, patch)],
    'no right to read': ['UnauthorizedError', 401, undefined, () => limited.getJob(taken)],
    'no right to cancel': ['UnauthorizedError', 401, undefined, () => limited.cancelJob(taken)],
    'no right to list': ['UnauthorizedError', 401, undefined, () => limited.createQuery().next()],
    'a wrong key': ['UnauthorizedError', 401, undefined, () => wrong.getJob(taken)],
  };
  for (const [what, [name, status, code, call]] of Object.entries(cases)) {
    await assert.rejects(call, (error) => {
      assert.equal(error.name, name, `${what}: ${error.name}: ${error.message} ${error.responseBody}`);
      assert.equal(error.response.statusCode, status, what);
      if (code) assert.equal(error.response.headers['iothub-errorcode'], code, what);
      return true;
    });
  }
  assert.equal((await jobs.cancelJob(taken)).jobStatus.status, 'cancelled');
});

test('a hub that is killed in the middle of a method job', async () => {
  const [jobId, devices] = [fleet.newId(), await devicesOf(3)];
  const [answering, silent, absent] = devices;
  const seen = Object.fromEntries(devices.map(({ id }) => [id, 0]));
  const handle = (device, client, answers) => client.onDeviceMethod('act', (request, response) => {
    seen[device.id] += 1;
    if (answers) response.send(200, request.payload).catch(() => {});
  });
  const clients = await Promise.all([answering, silent].map((device) => fleet.connect(device)));
  handle(answering, clients[0], true);
  handle(silent, clients[1], false);
  clients.forEach((client) => echo(client));
  const ready = (device) => until(() => fleet.call(device, 'echo', 0, { connect: 5 }).then(() => true, () => false), 'the subscription', 40_000);
  await Promise.all([ready(answering), ready(silent)]);
  // This SDK has no connect timeout for jobs, so the device that is not there fails at once: the job waits for the silent one.
  const method = { methodName: 'act', payload: { n: 1 }, responseTimeoutInSeconds: 300 };
  await connectJobs().scheduleDeviceMethod(jobId, among(devices), method);
  await until(async () => {
    const { deviceJobStatistics: counts } = await read(connectJobs(), jobId);
    return counts.succeededCount === 1 && counts.failedCount === 1 && counts.runningCount === 1 && seen[silent.id] === 1;
  }, 'the calls');
  await fleet.hub.kill();
  await fleet.hub.start();
  fleet.connectServices();
  const job = await untilOver(connectJobs(), jobId);
  assert.deepEqual([job.status, job.counts], ['completed', [3, 1, 2, 0]]);
  const found = await records(jobId);
  assert.deepEqual([found[silent.id].error.code, found[absent.id].error.code], ['OutcomeUnknown', '404103']);
  assert.deepEqual(found[answering.id].outcome.deviceMethodResponse, { status: 200, payload: { n: 1 } });
  // What is called now arrives after anything that the job might have sent again.
  await Promise.all([ready(answering), ready(silent)]);
  assert.deepEqual(devices.map(({ id }) => seen[id]), [1, 1, 0]);
});
