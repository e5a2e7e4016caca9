// Digital twins through the service SDK (S 13).
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { DigitalTwinClient, IoTHubTokenCredentials } = require('azure-iothub');
const {
  fleetOfFile, report, until,
} = require('../support/fleet');

const MODEL = 'dtmi:com:example:Pump;1';
const fleet = fleetOfFile();

async function pump() {
  const device = await fleet.device();
  const client = await fleet.connect(device, { options: { modelId: MODEL } });
  return { device, client, digitalTwins: new DigitalTwinClient(new IoTHubTokenCredentials(fleet.hub.connectionString())) };
}

test('model, view and patch', async () => {
  const { device, client, digitalTwins } = await pump();
  assert.equal((await fleet.twin(device)).modelId, MODEL);
  await report(await client.getTwin(), { temperature: 21, thermostat1: { __t: 'c', limit: 30 } });
  const view = await digitalTwins.getDigitalTwin(device.id);
  assert.equal(view.$dtId, device.id);
  assert.equal(view.$metadata.$model, MODEL);
  assert.equal(view.temperature, 21);
  assert.equal(view.thermostat1.limit, 30);
  const answer = await new Promise((resolve, reject) => {
    const patch = [{ op: 'add', path: '/speed', value: 5 }];
    digitalTwins.updateDigitalTwin(device.id, patch, (error, _, response) => (error ? reject(error) : resolve(response)));
  });
  assert.equal(answer.status, 202);
  assert.match(answer.headers.get('etag'), /^".+"$/);
  assert.equal((await fleet.twin(device)).properties.desired.speed, 5);
  await assert.rejects(digitalTwins.updateDigitalTwin(device.id, [{ op: 'add', path: '/speed', value: 6 }], '"AAAAAAAAAAE="'), { statusCode: 412 });
  await assert.rejects(digitalTwins.getDigitalTwin('nobody'), { statusCode: 404 });
});

test('commands', async () => {
  const { device, client, digitalTwins } = await pump();
  for (const name of ['start', 'thermostat1*reset']) {
    client.onDeviceMethod(name, (request, response) => response.send(202, { did: request.payload }));
  }
  const options = { connectTimeoutInSeconds: 5, responseTimeoutInSeconds: 10 };
  const root = await digitalTwins.invokeCommand(device.id, 'start', { speed: 3 }, options);
  assert.equal(root.xMsCommandStatuscode, 202);
  assert.deepEqual(root.body, { did: { speed: 3 } });
  const component = await digitalTwins.invokeComponentCommand(device.id, 'thermostat1', 'reset', 'now', options);
  assert.deepEqual(component.body, { did: 'now' });
  const offline = await fleet.device();
  await until(async () => digitalTwins.invokeCommand(offline.id, 'x', 1).then(() => false, (error) => error.statusCode === 404), 'a 404');
});
