// The hub stops or is killed under connected devices: they come back by themselves and miss nothing that is to come.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { Message } = require('azure-iot-device');
const {
  Mqtt, MqttWs, echo, fleetOfFile, report, until,
} = require('../support/fleet');

const fleet = fleetOfFile();

for (const how of ['stop', 'kill']) {
  test(`devices return after ${how}`, async () => {
    const devices = [await fleet.device(), await fleet.device()];
    const clients = await Promise.all(devices.map((device, number) => fleet.connect(device, { transport: [Mqtt, MqttWs][number] })));
    const payloads = clients.map((client) => echo(client));
    const twins = await Promise.all(clients.map((client) => client.getTwin()));
    const seen = twins.map(() => []);
    await Promise.all(twins.map((twin, number) => {
      twin.on('properties.desired', (patch) => seen[number].push({ ...patch }));
      return report(twin, { acknowledged: how });
    }));
    await until(async () => {
      await Promise.all(devices.map((device) => fleet.setDesired(device, { before: how })));
      return seen.every((patches) => patches.some((patch) => patch.before === how));
    }, 'the subscriptions');
    const versions = await Promise.all(devices.map(async (device) => (await fleet.twin(device)).version));

    await fleet.hub[how]();
    await fleet.hub.start();
    fleet.connectServices();

    const after = await Promise.all(devices.map((device) => fleet.twin(device)));
    assert.deepEqual(after.map((twin) => twin.version), versions);
    for (const twin of after) assert.equal(twin.properties.reported.acknowledged, how);
    const isConnected = async (device) => (await fleet.twin(device)).connectionState === 'Connected';
    await until(async () => (await Promise.all(devices.map(isConnected))).every(Boolean), 'all are back', 40_000);
    await Promise.all(devices.map((device) => fleet.setDesired(device, { after: how })));
    await until(() => seen.every((patches) => patches.some((patch) => patch.after === how)), 'the notifications');
    const answers = await Promise.all(devices.map((device) => fleet.call(device, 'echo', how, { connect: 10 })));
    assert.deepEqual(answers.map(({ payload }) => payload), [how, how]);
    assert.deepEqual(payloads, [[how], [how]]);
    await Promise.all(clients.map((client) => client.sendEvent(new Message('after'))));
    await Promise.all(twins.map((twin) => report(twin, { again: how })));
  });
}
