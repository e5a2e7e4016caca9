// What a connected device does: telemetry, twin, methods; and the same for its modules (D 2, D 4, D 5).
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { Message } = require('azure-iot-device');
const {
  Mqtt, MqttWs, echo, fleetOfFile, plain, report, until,
} = require('../support/fleet');
const { openEvents } = require('../support/events');

const fleet = fleetOfFile();

for (const [name, transport] of Object.entries({ mqtt: Mqtt, websocket: MqttWs })) {
  test(`telemetry with properties over ${name}`, async () => {
    const device = await fleet.device();
    const client = await fleet.connect(device, { transport });
    const stream = await openEvents(fleet.hub, device.id, 'telemetry');
    const message = new Message(JSON.stringify({ temperature: 21.5, unit: '°C' }));
    Object.assign(message, { messageId: 'm-1', correlationId: 'c/1 é', contentType: 'application/json', contentEncoding: 'utf-8' });
    message.properties.add('alert', 'yes');
    message.properties.add('a+b/c', 'ü &=%$ é');
    await client.sendEvent(message);
    const event = await stream.wait(() => true);
    assert.equal(event.deviceId, device.id);
    assert.deepEqual(event.body, { temperature: 21.5, unit: '°C' });
    assert.deepEqual(event.properties, { alert: 'yes', 'a+b/c': 'ü &=%$ é' });
    assert.equal(event.systemProperties['message-id'], 'm-1');
    assert.equal(event.systemProperties['correlation-id'], 'c/1 é');
    assert.equal(event.systemProperties['content-type'], 'application/json');
    assert.equal(event.systemProperties['content-encoding'], 'utf-8');
    stream.close();
  });
}

test('reported properties merge, with null, arrays and nesting', async () => {
  const device = await fleet.device();
  const twin = await (await fleet.connect(device)).getTwin();
  const steps = [
    [{ a: 1, b: { c: 'x', d: [1, 'two', { three: [3] }] } }, { a: 1, b: { c: 'x', d: [1, 'two', { three: [3] }] } }],
    [{ b: { d: [] } }, { a: 1, b: { c: 'x', d: [] } }],
    [{ a: null, never: null }, { b: { c: 'x', d: [] } }],
    [{ b: 'scalar', f: -1.5, t: true }, { b: 'scalar', f: -1.5, t: true }],
    [{ b: { object: { over: 'scalar', gone: null } } }, { b: { object: { over: 'scalar' } }, f: -1.5, t: true }],
  ];
  for (const [number, [patch, expected]] of steps.entries()) {
    await report(twin, patch);
    const { properties } = await fleet.twin(device);
    assert.deepEqual(plain(properties.reported), expected, `after step ${number}`);
    assert.equal(properties.reported.$version, number + 2);
  }
});

test('reported properties beyond the limits are refused with a reason, and change nothing', async () => {
  const device = await fleet.device();
  const twin = await (await fleet.connect(device)).getTwin();
  let deep = 1;
  for (let level = 0; level < 12; level += 1) deep = { deep }; // a root and eleven levels
  const refused = {
    'eleven levels': deep,
    'a key with a dot': { 'a.b': 1 },
    'a key with a dollar sign': { a$b: 1 },
    'a key with a space': { 'a b': 1 },
    'a key too long': { ['k'.repeat(1025)]: 1 },
    'a string too long': { s: 'x'.repeat(4097) },
    'an integer too large': { n: 2 ** 52 },
    'null in an array': { a: [null] },
    'too much': Object.fromEntries(Array.from({ length: 9 }, (_, n) => [`k${n}`, 'x'.repeat(4000)])),
  };
  for (const [what, patch] of Object.entries(refused)) {
    await assert.rejects(report(twin, patch), (error) => error.message.length > 10, what);
  }
  assert.equal((await fleet.twin(device)).version, 2);
  await report(twin, { n: 2 ** 52 - 1, s: 'x'.repeat(4096), ['k'.repeat(1024)]: [{ fine: 1 }] });
});

test('desired properties reach the device, with null, arrays and nesting', async () => {
  const device = await fleet.device();
  const client = await fleet.connect(device);
  const twin = await client.getTwin();
  const seen = [];
  twin.on('properties.desired', (patch) => seen.push(structuredClone(patch)));
  await until(() => seen.length === 1, 'the present section, told at once');
  assert.deepEqual(plain(seen[0]), {});
  // Attaching a handler subscribes in the background; a change before that is only fetched.
  await until(async () => {
    await fleet.setDesired(device, { warm: 'up' });
    return seen.length > 1;
  }, 'the first notification');
  await fleet.setDesired(device, { rate: 5, net: { ssid: 'a', dns: ['1.1.1.1', '9.9.9.9'] }, warm: null });
  await until(() => seen.at(-1).rate === 5, 'the notification');
  assert.deepEqual(plain(seen.at(-1)), { rate: 5, net: { ssid: 'a', dns: ['1.1.1.1', '9.9.9.9'] }, warm: null });
  const { properties } = await fleet.setDesired(device, { rate: null, net: { ssid: 'b' } });
  await until(() => seen.at(-1).$version === properties.desired.$version, 'the notification');
  assert.deepEqual(plain(seen.at(-1)), { rate: null, net: { ssid: 'b' } });
});

test('desired properties set while offline are fetched', async () => {
  const device = await fleet.device();
  await fleet.setDesired(device, { while: 'offline', list: [1, { x: 2 }] });
  const client = await fleet.connect(device);
  const twin = await client.getTwin();
  assert.deepEqual(plain(twin.properties.desired), { while: 'offline', list: [1, { x: 2 }] });
  await client.close();
  await fleet.setDesired(device, { while: 'away' });
  await client.open();
  const again = await client.getTwin();
  assert.equal(again.properties.desired.while, 'away');
});

const PAYLOADS = [
  { a: 1, nested: { é: [1, null, { x: [] }] } }, {}, [1, 'two', null, { three: 3 }], [], 'text', '', 'ü"\\\n😀',
  0, 42, -1.5, 1e300, true, false, null, undefined,
];

for (const [name, transport] of Object.entries({ mqtt: Mqtt, websocket: MqttWs })) {
  test(`methods carry every payload there and back over ${name}`, async () => {
    const device = await fleet.device();
    const payloads = echo(await fleet.connect(device, { transport }));
    for (const payload of PAYLOADS) {
      const result = await fleet.call(device, 'echo', payload, { connect: 5 });
      assert.equal(result.status, 200);
      assert.deepEqual(result.payload ?? null, payload ?? null);
      assert.deepEqual(payloads.at(-1) ?? null, payload ?? null);
    }
    assert.equal(payloads.length, PAYLOADS.length);
  });
}

test('the status of a method is the device\'s, and a response needs no payload', async () => {
  const device = await fleet.device();
  const client = await fleet.connect(device);
  client.onDeviceMethod('fail', (request, response) => response.send(request.payload.status));
  for (const status of [201, 404, 500, 999999]) {
    const result = await fleet.call(device, 'fail', { status }, { connect: 5 });
    assert.equal(result.status, status);
    assert.equal(result.payload ?? null, null);
  }
});

test('modules have twins, methods and telemetry of their own', async () => {
  const device = await fleet.device();
  const module = await fleet.module(device);
  const own = await fleet.connect(device);
  const client = await fleet.connect(module);
  const overWebsocket = await fleet.connect(await fleet.module(device, 'second'), { transport: MqttWs });
  const [deviceCalls, moduleCalls] = [echo(own), echo(client)];
  assert.deepEqual((await fleet.call(module, 'echo', { n: 1 }, { connect: 5 })).payload, { n: 1 });
  assert.deepEqual([deviceCalls.length, moduleCalls.length], [0, 1]);

  const twin = await client.getTwin();
  await report(twin, { who: 'module' });
  await report(await overWebsocket.getTwin(), { who: 'second' });
  await report(await own.getTwin(), { who: 'device' });
  assert.equal((await fleet.twin(module)).properties.reported.who, 'module');
  assert.equal((await fleet.twin(device)).properties.reported.who, 'device');
  const seen = [];
  twin.on('properties.desired', (patch) => seen.push({ ...patch }));
  await until(async () => {
    await fleet.setDesired(module, { for: 'module' });
    return seen.some((patch) => patch.for === 'module');
  }, 'the notification');
  assert.equal(plain((await fleet.twin(device)).properties.desired).for, undefined);

  const stream = await openEvents(fleet.hub, device.id, 'telemetry');
  await client.sendOutputEvent('out1', new Message('{"from":"module"}'));
  const event = await stream.wait(() => true);
  assert.deepEqual([event.deviceId, event.moduleId], [device.id, 'sensor']);
  stream.close();
});

test('twenty devices at once', async () => {
  const devices = await Promise.all(Array.from({ length: 20 }, () => fleet.device()));
  await Promise.all(devices.map(async (device, number) => {
    const client = await fleet.connect(device, { transport: number % 2 ? MqttWs : Mqtt });
    echo(client);
    await report(await client.getTwin(), { number });
  }));
  const answers = await Promise.all(devices.map((device, number) => fleet.call(device, 'echo', number, { connect: 10 })));
  assert.deepEqual(answers.map(({ payload }) => payload), devices.map((_, number) => number));
});
