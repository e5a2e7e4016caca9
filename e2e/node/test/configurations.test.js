// Automatic configurations with the service SDK: their life with metrics, devices that enter and leave targets, edge
// deployments, and each error class (S 8).
'use strict';

const assert = require('node:assert/strict');
const { afterEach, test } = require('node:test');
const { promisify } = require('node:util');
const { Registry } = require('azure-iothub');
const { fleetOfFile, until, within } = require('../support/fleet');

const fleet = fleetOfFile();

/** What a call answered. */
const body = async (call) => (await call).responseBody;
const deviceContent = (rate) => ({ deviceContent: { 'properties.desired.rate': rate } });
const configuration = (id, targetCondition = '', priority = 1, content = deviceContent(5), more = {}) => (
  { id, targetCondition, priority, content, ...more });
const rate = async (device) => (await fleet.twin(device)).properties.desired.rate;
const tag = (device, tags) => fleet.registry.updateTwin(device.id, { tags }, '*');
const edgeDevice = () => fleet.device({ capabilities: { iotEdge: true } });
const modulesOf = async (device) => (await body(fleet.registry.getModulesOnDevice(device.id))).map(({ moduleId }) => moduleId).sort();

/** The desired values of a module, without what the hub notes of them. */
async function moduleDesired(device, moduleId) {
  const { properties } = await body(fleet.registry.getModuleTwin(device.id, moduleId));
  return Object.fromEntries(Object.entries(properties.desired).filter(([name]) => !name.startsWith('$')));
}

afterEach(async () => {
  const left = await body(fleet.registry.getConfigurations());
  await Promise.all(left.map(({ id }) => fleet.registry.removeConfiguration(id)));
});

test('the life of a configuration, with metrics', async () => {
  const [{ registry }, id, site] = [fleet, fleet.newId(), fleet.newId()];
  const devices = await Promise.all(Array.from({ length: 3 }, () => fleet.device()));
  await Promise.all(devices.map((device) => tag(device, { site })));
  const condition = `tags.site = '${site}'`;
  const queries = { five: `SELECT deviceId FROM devices WHERE ${condition} AND properties.desired.rate = 5` };
  const wanted = configuration(id, condition, 10, deviceContent(5), { labels: { team: 'x' }, metrics: { queries } });
  const made = await body(registry.addConfiguration(wanted));
  assert.deepEqual([made.id, made.schemaVersion, made.priority, made.labels], [id, '1.0', 10, { team: 'x' }]);
  assert.deepEqual(made.content, deviceContent(5));
  assert.equal(made.createdTimeUtc, made.lastUpdatedTimeUtc);
  await until(async () => (await Promise.all(devices.map(rate))).every((value) => value === 5), 'the rate in all twins', 5000);

  const read = await body(registry.getConfiguration(id));
  assert.deepEqual(read.systemMetrics.results, { targetedCount: 3, appliedCount: 3 });
  assert.deepEqual(read.metrics, { results: { five: 3 }, queries });
  for (const query of Object.values(read.systemMetrics.queries)) {
    const { result } = await registry.createQuery(query).next();
    assert.equal(result.length, 3, query);
  }
  const all = await body(registry.getConfigurations());
  assert.deepEqual(all.map((one) => one.id), [id]);

  const updated = await body(registry.updateConfiguration({ ...read, priority: 20 }));
  assert.equal(updated.priority, 20);
  assert.notEqual(updated.etag, read.etag);
  const late = { ...read, priority: 30 };
  await assert.rejects(registry.updateConfiguration(late), (error) => error.response.statusCode === 412);
  assert.equal((await body(registry.updateConfiguration(late, true))).priority, 30);

  await registry.removeConfiguration(id);
  await until(async () => (await Promise.all(devices.map(rate))).every((value) => value === undefined), 'the rate to go', 5000);
  assert.deepEqual(await body(registry.getConfigurations()), []);
});

test('a connected device gets what its tag brings', async () => {
  const [device, site] = [await fleet.device(), fleet.newId()];
  const twin = await (await fleet.connect(device)).getTwin();
  const seen = [];
  twin.on('properties.desired', (patch) => seen.push(patch));
  await fleet.registry.addConfiguration(configuration('by-tag', `tags.site = '${site}'`));
  await tag(device, { site });
  assert.equal(await rate(device), 5, 'in the same commit as the tag');
  const { configurations } = await fleet.twin(device);
  assert.deepEqual(configurations, { 'by-tag': { status: 'Applied' } });
  await until(() => seen.some((patch) => patch.rate === 5), 'the notification');
  await tag(device, { site: null });
  assert.equal(await rate(device), undefined);
  await until(() => seen.some((patch) => patch.rate === null), 'the second notification');
});

test('priorities', async () => {
  const [device, site] = [await fleet.device(), fleet.newId()];
  await tag(device, { site });
  const condition = `tags.site = '${site}'`;
  for (const [id, priority, value] of [['low', 1, 1], ['older', 2, 2], ['newer', 2, 3]]) {
    await fleet.registry.addConfiguration(configuration(id, condition, priority, deviceContent(value)));
  }
  await until(async () => (await rate(device)) === 3, 'the newer of two equals', 5000);
  for (const [gone, value] of [['newer', 2], ['older', 1], ['low', undefined]]) {
    await fleet.registry.removeConfiguration(gone);
    await until(async () => (await rate(device)) === value, `the next after ${gone}`, 5000);
  }
});

test('edge deployments and content that is applied by hand', async () => {
  const [site, deployed, byHand, plain] = [fleet.newId(), await edgeDevice(), await edgeDevice(), await fleet.device()];
  const system = ['$edgeAgent', '$edgeHub'];
  assert.deepEqual(await modulesOf(deployed), system);
  const content = { modulesContent: {
    $edgeAgent: { 'properties.desired': { modules: { one: { version: '1' }, two: {} } } },
    one: { 'properties.desired': { speed: 1 } },
  } };
  await fleet.registry.addConfiguration(configuration('base', `tags.site = '${site}'`, 1, content));
  await tag(deployed, { site });
  assert.deepEqual(await modulesOf(deployed), [...system, 'one', 'two']);
  assert.deepEqual(await moduleDesired(deployed, 'one'), { speed: 1 });
  assert.deepEqual(await modulesOf(byHand), system);

  await fleet.registry.applyConfigurationContentOnDevice(byHand.id, content);
  assert.deepEqual(await modulesOf(byHand), [...system, 'one', 'two']);
  assert.deepEqual(await moduleDesired(byHand, 'one'), { speed: 1 });
  for (const [device, given] of [[plain, content], [byHand, deviceContent(1)]]) {
    await assert.rejects(fleet.registry.applyConfigurationContentOnDevice(device.id, given), (error) => {
      assert.equal(error.response.headers['iothub-errorcode'], 'InvalidConfigurationContent');
      return error.name === 'ArgumentError';
    });
  }
});

test('callbacks', async () => {
  const call = (name, ...args) => within(5000, name, promisify(fleet.registry[name].bind(fleet.registry))(...args));
  assert.equal((await call('addConfiguration', configuration('called'))).id, 'called');
  const read = await call('getConfiguration', 'called');
  assert.equal((await call('updateConfiguration', { ...read, priority: 7 })).priority, 7);
  assert.equal((await call('getConfigurations')).length, 1);
  await call('removeConfiguration', 'called');
});

test('each error class', async () => {
  const { registry } = fleet;
  await registry.addConfiguration(configuration('taken'));
  const service = Registry.fromConnectionString(fleet.hub.connectionString('service'));
  const add = (...fields) => registry.addConfiguration(configuration('new', ...fields));
  const cases = {
    // The SDK has one name for every conflict, and none for a configuration that is not there.
    'the same id': ['DeviceAlreadyExistsError', 'ConfigurationAlreadyExists', () => registry.addConfiguration(configuration('taken'))],
    'upper case': ['ArgumentError', 'ArgumentInvalid', () => registry.addConfiguration(configuration('Taken'))],
    'get an unknown one': ['Error', 'ConfigurationNotFound', () => registry.getConfiguration('none')],
    'update an unknown one': ['Error', 'ConfigurationNotFound', () => registry.updateConfiguration(configuration('none'), true)],
    'remove an unknown one': ['Error', 'ConfigurationNotFound', () => registry.removeConfiguration('none')],
    'a bad condition': ['ArgumentError', 'InvalidConfigurationTargetCondition', () => add('tags.a =')],
    'a bad path': ['ArgumentError', 'InvalidConfigurationContent', () => add('', 1, { deviceContent: { 'tags.a': 1 } })],
    'too much content': ['ArgumentError', 'InvalidConfigurationContent', () => add('', 1, deviceContent('x'.repeat(200_000)))],
    'a bad metric': ['ArgumentError', 'InvalidConfigurationCustomMetricsQuery', () => (
      add('', 1, deviceContent(1), { metrics: { queries: { bad: 'SELECT' } } }))],
    'other content': ['ArgumentError', 'CannotModifyImmutableConfigurationContent', () => (
      registry.updateConfiguration(configuration('taken', '', 1, deviceContent(6)), true))],
    'no right to write': ['UnauthorizedError', 'IotHubUnauthorizedAccess', () => service.addConfiguration(configuration('new'))],
  };
  for (const [what, [name, code, call]] of Object.entries(cases)) {
    await assert.rejects(call, (error) => {
      assert.equal(error.name, name, `${what}: ${error.name}: ${error.message} ${error.responseBody}`);
      assert.equal(error.response.headers['iothub-errorcode'], code, what);
      return true;
    });
  }
  assert.deepEqual((await body(service.getConfigurations())).map(({ id }) => id), ['taken'], 'nothing was written');
});
