// Identities and SDK clients of one test file, and the service clients with all rights.
'use strict';

const { execFileSync } = require('node:child_process');
const crypto = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');
const { after, afterEach, before } = require('node:test');
const { NoRetry } = require('azure-iot-common');
const { Client, ModuleClient } = require('azure-iot-device');
const { Mqtt, MqttWs } = require('azure-iot-device-mqtt');
const { Client: ServiceClient, Registry } = require('azure-iothub');
const { HOST, Hub, within } = require('./hub');

const WAIT_MS = 15_000;

/** Makes identities with the service SDK and connects them with the device SDK. */
class Fleet {
  constructor() {
    this.prefix = `node-${crypto.randomBytes(4).toString('hex')}`;
    this.count = 0;
    this.clients = [];
    this.hub = Hub.ofSuite();
  }

  /** Service clients; made after every start, since connections of an earlier hub are dead. */
  connectServices() {
    this.registry = Registry.fromConnectionString(this.hub.connectionString());
    this.service = ServiceClient.fromConnectionString(this.hub.connectionString());
  }

  newId() {
    this.count += 1;
    return `${this.prefix}-${this.count}`;
  }

  /** A new device with generated keys. */
  async device(fields = {}) {
    const { responseBody } = await this.registry.create({ deviceId: this.newId(), status: 'enabled', ...fields });
    return identity(responseBody.deviceId, responseBody.authentication.symmetricKey.primaryKey);
  }

  /** A new module of `device`. */
  async module(device, moduleId = 'sensor') {
    await this.registry.addModule({ deviceId: device.id, moduleId });
    const { responseBody } = await this.registry.getModule(device.id, moduleId);
    return identity(device.id, responseBody.authentication.symmetricKey.primaryKey, moduleId);
  }

  /** A client that trusts the hub's authority and is closed after the test; not connected yet. */
  async client(who, { transport = Mqtt, options = {}, retry = true } = {}) {
    const Kind = who.module ? ModuleClient : Client;
    const client = Kind.fromConnectionString(who.connectionString, transport);
    await client.setOptions({ ca: this.hub.ca, ...options });
    if (!retry) client.setRetryPolicy(new NoRetry());
    return this.keep(client);
  }

  keep(client) {
    client.on('error', () => {}); // a connection that the hub ends is not the end of the test
    this.clients.push(client);
    return client;
  }

  /** A connected client. */
  async connect(who, how) {
    const client = await this.client(who, how);
    await within(WAIT_MS, 'the connection', client.open());
    return client;
  }

  async close() {
    for (const client of this.clients.splice(0)) {
      await within(5000, 'the client to close', client.close()).catch(() => {});
    }
  }

  /** A direct method; the result of the device. */
  async call(who, methodName, payload, { response = 10, connect = 0 } = {}) {
    const parameters = { methodName, payload, responseTimeoutInSeconds: response, connectTimeoutInSeconds: connect };
    const { result } = who.module
      ? await this.service.invokeDeviceMethod(who.id, who.module, parameters)
      : await this.service.invokeDeviceMethod(who.id, parameters);
    return result;
  }

  /** The twin as the service sees it. */
  async twin(who) {
    const { responseBody } = who.module
      ? await this.registry.getModuleTwin(who.id, who.module) : await this.registry.getTwin(who.id);
    return responseBody;
  }

  /** Merges `desired` from the service's side. */
  async setDesired(who, desired) {
    const patch = { properties: { desired } };
    const { responseBody } = who.module
      ? await this.registry.updateModuleTwin(who.id, who.module, patch, '*')
      : await this.registry.updateTwin(who.id, patch, '*');
    return responseBody;
  }
}

function identity(id, key, module) {
  const suffix = module ? `;ModuleId=${module}` : '';
  return { id, key, module, connectionString: `HostName=${HOST};DeviceId=${id}${suffix};SharedAccessKey=${key}` };
}

/** A fleet on a running hub for all tests of this file. */
function fleetOfFile() {
  const fleet = new Fleet();
  before(async () => {
    await fleet.hub.start();
    fleet.connectServices();
  });
  afterEach(() => fleet.close());
  after(() => fleet.hub.stop());
  return fleet;
}

/** Answers every call of `name` with 200 and the payload that came; returns the list of payloads. */
function echo(client, name = 'echo') {
  const payloads = [];
  const register = (client.onDeviceMethod || client.onMethod).bind(client);
  register(name, (request, response) => {
    payloads.push(request.payload);
    response.send(200, request.payload).catch(() => {});
  });
  return payloads;
}

/** Sends a reported patch and resolves with the answer. */
function report(twin, patch) {
  return within(WAIT_MS, 'the answer to a reported patch', new Promise((resolve, reject) => {
    twin.properties.reported.update(patch, (error) => (error ? reject(error) : resolve()));
  }));
}

/** Resolves with the first truthy `condition()`. */
async function until(condition, what, ms = WAIT_MS) {
  const deadline = Date.now() + ms;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`${what}: not within ${ms} ms`);
    await new Promise((resolve) => { setTimeout(resolve, 20); });
  }
}

/** A section without its bookkeeping. */
function plain(section) {
  return Object.fromEntries(Object.entries(section).filter(([key, value]) => !key.startsWith('$') && typeof value !== 'function'));
}

/** A self-signed certificate and key (PEM text) with thumbprints in hex, made by openssl. */
function selfSigned(folder, name) {
  const key = path.join(folder, `${name}.key`);
  const cert = path.join(folder, `${name}.pem`);
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes',
    '-keyout', key, '-out', cert, '-days', '30', '-subj', `/CN=${name}`], { stdio: 'pipe' });
  const text = fs.readFileSync(cert, 'utf8');
  const parsed = new crypto.X509Certificate(text);
  return {
    cert: text,
    key: fs.readFileSync(key, 'utf8'),
    sha1: parsed.fingerprint.replaceAll(':', ''),
    sha256: parsed.fingerprint256.replaceAll(':', ''),
  };
}

module.exports = { HOST, Mqtt, MqttWs, WAIT_MS, echo, fleetOfFile, identity, plain, report, selfSigned, until, within };
