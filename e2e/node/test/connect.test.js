// Connecting: SAS, X.509, WebSocket, renewal, takeover, and connections that the hub must end (D 1, D 7).
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { test } = require('node:test');
const { Client, SharedAccessKeyAuthenticationProvider } = require('azure-iot-device');
const {
  HOST, Mqtt, MqttWs, echo, fleetOfFile, identity, report, selfSigned, until, within,
} = require('../support/fleet');

const fleet = fleetOfFile();
const TRANSPORTS = { mqtt: Mqtt, websocket: MqttWs };

async function connectionState(device) {
  return (await fleet.registry.get(device.id)).responseBody.connectionState;
}

/** Opens, expecting to be refused; resolves with the error's name. */
async function refusal(who, how) {
  const client = await fleet.client(who, { ...how, retry: false });
  return within(15_000, 'a refusal', client.open().then(() => 'no error', (error) => error.name));
}

for (const [name, transport] of Object.entries(TRANSPORTS)) {
  test(`a key opens a connection over ${name}`, async () => {
    const device = await fleet.device();
    const client = await fleet.connect(device, { transport });
    await report(await client.getTwin(), { over: name });
    assert.equal((await fleet.twin(device)).properties.reported.over, name);
    assert.equal(await connectionState(device), 'Connected');
    await client.close();
    await until(async () => await connectionState(device) === 'Disconnected', 'Disconnected');
    await client.open();
    assert.equal(await connectionState(device), 'Connected');
  });

  test(`a self-signed certificate opens a connection over ${name}`, async () => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'fleetyard-e2e-certificates-'));
    try {
      const deviceId = fleet.newId();
      const [primary, secondary, foreign] = ['primary', 'secondary', 'foreign'].map((each) => selfSigned(folder, each));
      await fleet.registry.create({
        deviceId,
        status: 'enabled',
        authentication: {
          type: 'selfSigned',
          x509Thumbprint: { primaryThumbprint: primary.sha1, secondaryThumbprint: secondary.sha256.toLowerCase() },
        },
      });
      const who = { id: deviceId, connectionString: `HostName=${HOST};DeviceId=${deviceId};x509=true` };
      for (const { cert, key } of [primary, secondary]) {
        const client = await fleet.connect(who, { transport, options: { cert, key } });
        await client.getTwin();
        await client.close();
      }
      const { cert, key } = foreign;
      assert.equal(await refusal(who, { transport, options: { cert, key } }), 'UnauthorizedError');
      assert.equal(await refusal(identity(deviceId, Buffer.from('k'.repeat(32)).toString('base64')), { transport }), 'UnauthorizedError');
    } finally {
      fs.rmSync(folder, { recursive: true });
    }
  });
}

test('wrong credentials are an UnauthorizedError', async () => {
  const [device, other] = [await fleet.device(), await fleet.device()];
  assert.equal(await refusal(identity(device.id, other.key)), 'UnauthorizedError');
  assert.equal(await refusal(identity(device.id, other.key), { transport: MqttWs }), 'UnauthorizedError');
  assert.equal(await refusal(identity('no-such-device', device.key)), 'UnauthorizedError');
  await fleet.connect(device);
});

test('the SDK renews its token without subscribing again', async () => {
  const device = await fleet.device();
  // Valid for 8 s, renewed 5 s before the end: every 3 s the SDK disconnects and connects anew.
  const provider = SharedAccessKeyAuthenticationProvider.fromConnectionString(device.connectionString, 8, 5);
  let renewals = 0;
  provider.on('newTokenAvailable', () => { renewals += 1; });
  const client = fleet.keep(Client.fromAuthenticationProvider(provider, Mqtt));
  await client.setOptions({ ca: fleet.hub.ca });
  await client.open();
  const payloads = echo(client);
  const twin = await client.getTwin();
  const seen = [];
  twin.on('properties.desired', (patch) => seen.push({ ...patch }));
  await until(() => renewals >= 2, 'two renewals', 20_000);
  await until(async () => await connectionState(device) === 'Connected', 'Connected');
  await fleet.setDesired(device, { after: 'renewal' });
  await until(() => seen.some((patch) => patch.after === 'renewal'), 'the notification');
  const { payload } = await fleet.call(device, 'echo', { after: 'renewal' }, { connect: 10 });
  assert.deepEqual(payload, { after: 'renewal' });
  assert.equal(payloads.length, 1);
});

test('the newer connection takes over', async () => {
  const device = await fleet.device();
  const first = await fleet.connect(device, { retry: false });
  let ended = false;
  first.on('disconnect', () => { ended = true; });
  const second = await fleet.connect(device, { retry: false });
  await until(() => ended, 'the end of the older connection');
  echo(second);
  assert.equal((await fleet.call(device, 'echo', 'newer', { connect: 5 })).payload, 'newer');
});

for (const end of ['disabled', 'deleted']) {
  test(`a connection ends when its identity is ${end}`, async () => {
    const [device, bystander] = [await fleet.device(), await fleet.device()];
    const client = await fleet.connect(device, { retry: false });
    const other = await fleet.connect(bystander, { retry: false });
    let [ended, disturbed] = [false, false];
    client.on('disconnect', () => { ended = true; });
    other.on('disconnect', () => { disturbed = true; });
    if (end === 'disabled') {
      await fleet.registry.update({ deviceId: device.id, status: 'disabled' });
    } else {
      await fleet.registry.delete(device.id);
    }
    await until(() => ended, 'the end of the connection', 5000);
    assert.match(await refusal(device), /UnauthorizedError|ServiceUnavailableError/);
    await report(await other.getTwin(), { still: 'here' });
    assert.equal(disturbed, false);
  });
}
