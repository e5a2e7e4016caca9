// The service SDK: registry, modules, twins, queries, and each error class that it knows (S 1, 2, 4, 5, 7).
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { promisify } = require('node:util');
const { NoRetry } = require('azure-iot-common');
const { Client: ServiceClient, Registry, SharedAccessSignature } = require('azure-iothub');
const {
  HOST, echo, fleetOfFile, until, within,
} = require('../support/fleet');

const fleet = fleetOfFile();

/** Asserts that the call fails with an error of this name. */
async function fails(name, call) {
  await assert.rejects(call, (error) => {
    assert.equal(error.name, name, `${error.name}: ${error.message} ${error.responseBody}`);
    return true;
  });
}

test('the registry creates, reads, updates, lists and deletes', async () => {
  const deviceId = fleet.newId();
  const { responseBody: made } = await fleet.registry.create({ deviceId, status: 'enabled', statusReason: 'first' });
  assert.equal(made.deviceId, deviceId);
  assert.equal(made.statusReason, 'first');
  assert.equal(Buffer.from(made.authentication.symmetricKey.primaryKey, 'base64').length, 32);
  const { responseBody: read } = await fleet.registry.get(deviceId);
  assert.deepEqual([read.etag, read.generationId], [made.etag, made.generationId]);
  const { responseBody: changed } = await fleet.registry.update({ ...read, status: 'disabled' });
  assert.equal(changed.status, 'disabled');
  assert.notEqual(changed.etag, made.etag);
  const { responseBody: listed } = await fleet.registry.list();
  assert.ok(listed.some((device) => device.deviceId === deviceId));
  const { responseBody: statistics } = await fleet.registry.getRegistryStatistics();
  assert.equal(statistics.totalDeviceCount, statistics.enabledDeviceCount + statistics.disabledDeviceCount);
  assert.ok(statistics.disabledDeviceCount >= 1);
  const { httpResponse } = await fleet.registry.delete(deviceId);
  assert.equal(httpResponse.statusCode, 204);
  await fails('DeviceNotFoundError', fleet.registry.get(deviceId));
});

test('an id with every allowed character', async () => {
  const deviceId = `${fleet.newId()}-.%_*?!(),:=@$'`;
  await fleet.registry.create({ deviceId });
  assert.equal((await fleet.registry.get(deviceId)).responseBody.deviceId, deviceId);
  assert.equal((await fleet.registry.getTwin(deviceId)).responseBody.deviceId, deviceId);
  const rows = await fleet.registry.createQuery(`SELECT * FROM devices WHERE deviceId = '${deviceId.replace("'", "\\'")}'`).nextAsTwin();
  assert.deepEqual(rows.result.map((twin) => twin.deviceId), [deviceId]);
  await fleet.registry.delete(deviceId);
});

test('bulk creation, update and removal', async () => {
  const devices = Array.from({ length: 100 }, () => ({ deviceId: fleet.newId(), status: 'enabled' }));
  const { responseBody: created, httpResponse } = await fleet.registry.addDevices(devices);
  assert.equal(httpResponse.statusCode, 200);
  assert.deepEqual([created.isSuccessful, created.errors.length], [true, 0]);
  const present = await Promise.all(devices.slice(0, 3).map(({ deviceId }) => fleet.registry.get(deviceId)));
  const updates = present.map(({ responseBody }) => ({ ...responseBody, status: 'disabled' }));
  assert.equal((await fleet.registry.updateDevices(updates, true)).responseBody.isSuccessful, true);
  assert.equal((await fleet.registry.get(devices[0].deviceId)).responseBody.status, 'disabled');
  assert.equal((await fleet.registry.removeDevices(devices, true)).responseBody.isSuccessful, true);
  await fails('DeviceNotFoundError', fleet.registry.get(devices[99].deviceId));
});

test('bulk creation that fails in part', async () => {
  const [there, fresh] = [await fleet.device(), fleet.newId()];
  await assert.rejects(fleet.registry.addDevices([{ deviceId: there.id }, { deviceId: fresh }]), (error) => {
    assert.equal(error.name, 'ArgumentError');
    const body = JSON.parse(error.responseBody);
    assert.equal(body.isSuccessful, false);
    assert.deepEqual(body.errors.map(({ deviceId }) => deviceId), [there.id]);
    return true;
  });
  assert.equal((await fleet.registry.get(fresh)).responseBody.deviceId, fresh);
});

test('modules', async () => {
  const device = await fleet.device();
  await fleet.registry.addModule({ deviceId: device.id, moduleId: 'camera', managedBy: 'ops' });
  await fails('DeviceAlreadyExistsError', fleet.registry.addModule({ deviceId: device.id, moduleId: 'camera' }));
  const { responseBody: modules } = await fleet.registry.getModulesOnDevice(device.id);
  assert.deepEqual(modules.map(({ moduleId }) => moduleId), ['camera']);
  const { responseBody: stale } = await fleet.registry.getModule(device.id, 'camera');
  assert.equal(stale.managedBy, 'ops');
  await fleet.registry.updateModule({ ...stale, managedBy: 'others' }, true);
  await fails('InvalidEtagError', fleet.registry.updateModule(stale, false));
  await fails('InvalidEtagError', promisify(fleet.registry.removeModule.bind(fleet.registry))(stale));
  await fleet.registry.removeModule(device.id, 'camera');
  await assert.rejects(fleet.registry.getModule(device.id, 'camera'), /Not found/);
  await fails('DeviceNotFoundError', fleet.registry.getModule('nobody', 'camera'));
});

test('twins with etags', async () => {
  const device = await fleet.device();
  const { responseBody: twin } = await fleet.registry.getTwin(device.id);
  const stale = twin.etag;
  await twin.update({ tags: { site: 'a' }, properties: { desired: { x: { y: [1, 2] }, gone: null } } });
  assert.equal(twin.tags.site, 'a');
  assert.deepEqual(twin.properties.desired.x, { y: [1, 2] });
  assert.equal(twin.properties.desired.$version, 2);
  await fails('InvalidEtagError', fleet.registry.updateTwin(device.id, { tags: { site: 'b' } }, stale));
  const { responseBody: forced } = await fleet.registry.updateTwin(device.id, { tags: { site: null, ring: 1 } }, '*');
  assert.deepEqual(forced.tags, { ring: 1 });
  await fails('ArgumentError', fleet.registry.updateTwin(device.id, { tags: { 'a b': 1 } }, '*'));
});

test('queries: pages, projection, aggregates, groups, order', async () => {
  const site = fleet.newId();
  const devices = Array.from({ length: 12 }, (_, n) => ({ deviceId: fleet.newId(), tags: { site, n, room: `r${n % 3}` } }));
  await fleet.registry.addDevices(devices);
  const from = `FROM devices WHERE tags.site = '${site}'`;
  const query = fleet.registry.createQuery(`SELECT * ${from}`, 5);
  const [ids, sizes] = [[], []];
  while (query.hasMoreResults) {
    const { result } = await query.nextAsTwin();
    sizes.push(result.length);
    ids.push(...result.map((twin) => twin.deviceId));
  }
  assert.deepEqual(sizes, [5, 5, 2]);
  assert.deepEqual(ids.sort(), devices.map(({ deviceId }) => deviceId).sort());

  const rows = async (text) => (await fleet.registry.createQuery(text).next()).result;
  assert.deepEqual(await rows(`SELECT tags.n AS n ${from} ORDER BY tags.n DESC`), devices.map((_, n) => ({ n: 11 - n })));
  assert.deepEqual(await rows(`SELECT COUNT() AS n, MAX(tags.n) AS top ${from}`), [{ n: 12, top: 11 }]);
  const groups = await rows(`SELECT tags.room AS room, COUNT() AS n ${from} GROUP BY tags.room`);
  assert.deepEqual(groups.sort((a, b) => (a.room < b.room ? -1 : 1)), ['r0', 'r1', 'r2'].map((room) => ({ room, n: 4 })));
  await fails('ArgumentError', rows('SELECT * FROM devices WHERE tags.site = '));
  await fails('ArgumentError', fleet.registry.createQuery(`SELECT * ${from}`, 5).next('not a token'));
});

test('each error class of the registry', async () => {
  const device = await fleet.device();
  await fails('DeviceAlreadyExistsError', fleet.registry.create({ deviceId: device.id }));
  await fails('DeviceNotFoundError', fleet.registry.get('nobody'));
  await fails('DeviceNotFoundError', fleet.registry.delete('nobody'));
  await fails('DeviceNotFoundError', fleet.registry.update({ deviceId: 'nobody' }));
  await fails('DeviceNotFoundError', fleet.registry.getTwin('nobody'));
  await fails('ArgumentError', fleet.registry.create({ deviceId: 'not allowed' }));
  await fails('ArgumentError', fleet.registry.create({ deviceId: fleet.newId(), status: 'sleepy' }));
  const limited = Registry.fromConnectionString(fleet.hub.connectionString('registryRead'));
  await fails('UnauthorizedError', limited.create({ deviceId: fleet.newId() }));
  await fails('UnauthorizedError', limited.getTwin(device.id));
  assert.equal((await limited.get(device.id)).responseBody.deviceId, device.id);
  const key = Buffer.from('k'.repeat(32)).toString('base64');
  const wrong = Registry.fromConnectionString(`HostName=${HOST};SharedAccessKeyName=iothubowner;SharedAccessKey=${key}`);
  await fails('UnauthorizedError', wrong.get(device.id));
  const parts = fleet.hub.connectionString().split(';').map((part) => part.slice(part.indexOf('=') + 1));
  const expired = SharedAccessSignature.create(HOST, parts[1], parts[2], Math.floor(Date.now() / 1000) - 3600);
  await fails('UnauthorizedError', Registry.fromSharedAccessSignature(expired.toString()).get(device.id));
});

test('each error class of a method call', async () => {
  const [offline, silent, leaving] = [await fleet.device(), await fleet.device(), await fleet.device()];
  const service = ServiceClient.fromConnectionString(fleet.hub.connectionString());
  service.setRetryPolicy(new NoRetry());
  const call = (deviceId, methodName = 'x', responseTimeoutInSeconds = 5, connectTimeoutInSeconds = 0) => (
    service.invokeDeviceMethod(deviceId, { methodName, payload: 1, responseTimeoutInSeconds, connectTimeoutInSeconds })
  );
  const status = (code) => (error) => {
    const body = JSON.parse(JSON.parse(error.responseBody).Message);
    assert.equal(body.errorCode, code);
    return true;
  };
  const client = await fleet.connect(silent);
  client.onDeviceMethod('sleep', () => {}); // never answers
  echo(client, 'awake');
  await until(async () => call(silent.id, 'awake', 5, 5).then(() => true, () => false), 'the subscription');
  const goes = await fleet.connect(leaving, { retry: false });
  const called = new Promise((resolve) => { goes.onDeviceMethod('leave', resolve); });
  await Promise.all([
    assert.rejects(call(offline.id), status(404103)),
    assert.rejects(call('nobody'), status(404001)),
    // The SDK's own timeout is exactly connect + response: a hub that is late shows as a socket error instead.
    fails('GatewayTimeoutError', call(silent.id, 'sleep')),
    // A method that the application has no handler for: this SDK lets it pass in silence.
    fails('GatewayTimeoutError', call(silent.id, 'unknown')),
    assert.rejects(call(offline.id, 'x', 5, 2), status(404103)),
    fails('ArgumentError', call(silent.id, 'sleep', 4)),
    fails('ArgumentError', call(silent.id, 'sleep', 301)),
    assert.rejects(call(leaving.id, 'leave', 20, 5), status(404104)),
    within(15_000, 'the call', called).then(() => goes.close()),
  ]);
});

test('a device that comes within the connect timeout answers', async () => {
  const device = await fleet.device();
  const client = await fleet.client(device);
  const answer = fleet.call(device, 'echo', { n: 1 }, { response: 20, connect: 20 });
  await new Promise((resolve) => { setTimeout(resolve, 500); }); // lets the call arrive first
  echo(client);
  await client.open();
  assert.deepEqual((await answer).payload, { n: 1 });
});
