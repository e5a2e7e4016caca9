// The hub under test: one real `fleetyard serve` process on the ports that the SDKs insist on.
'use strict';

const { execFileSync, spawn } = require('node:child_process');
const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const readline = require('node:readline');

const HOST = 'localhost';
const HTTPS_PORT = 443;
const MQTT_PORT = 8883;
const START_MS_MAX = 30_000;
const STOP_MS_MAX = 30_000;
const LOG_LINES_MAX = 80;

/** The program under test: FLEETYARD_BIN, or else the debug build. */
function binary() {
  const found = path.resolve(process.env.FLEETYARD_BIN || path.join(__dirname, '../../../target/debug/fleetyard'));
  if (!fs.existsSync(found)) throw new Error(`${found} does not exist: build it (cargo build) or set FLEETYARD_BIN`);
  return found;
}

/** One data folder and the process that serves it; may be stopped, killed and started again. */
class Hub {
  constructor(folder) {
    this.binary = binary();
    this.data = path.join(folder, 'data');
    this.bulk = path.join(folder, 'bulk');
    fs.mkdirSync(this.bulk, { recursive: true });
    this.caPath = path.join(this.data, 'tls', 'ca.pem');
    this.log = [];
  }

  /** The hub on the folder that run.js made. */
  static ofSuite() {
    const folder = process.env.FLEETYARD_E2E_FOLDER;
    if (!folder) throw new Error('run the suite with `npm test`, or one file with `node run.js test/FILE`');
    return new Hub(folder);
  }

  get ca() {
    return fs.readFileSync(this.caPath, 'utf8');
  }

  /** Starts the process; resolves when it said that it is ready. */
  async start() {
    for (const port of [HTTPS_PORT, MQTT_PORT]) await requireFree(port);
    this.process = spawn(this.binary, [
      'serve', '--data', this.data, '--hostname', HOST,
      '--https-address', `127.0.0.1:${HTTPS_PORT}`, '--mqtt-address', `127.0.0.1:${MQTT_PORT}`,
      '--metrics-address', '127.0.0.1:0',
    ], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, FLEETYARD_BULK_FOLDER: this.bulk } });
    this.exited = new Promise((resolve) => this.process.once('exit', (code, signal) => resolve({ code, signal })));
    readline.createInterface({ input: this.process.stderr }).on('line', (line) => this.note(line));
    const ready = new Promise((resolve) => {
      readline.createInterface({ input: this.process.stdout }).on('line', (line) => {
        this.note(line);
        if (line.startsWith('ready')) resolve('ready');
      });
    });
    const outcome = await within(START_MS_MAX, 'the hub to become ready', Promise.race([ready, this.exited]));
    if (outcome !== 'ready') throw new Error(`the hub ended (${JSON.stringify(outcome)}):\n${this.log.join('\n')}`);
  }

  note(line) {
    this.log.push(line);
    if (this.log.length > LOG_LINES_MAX) this.log.shift();
  }

  /** Ends it in order, as Ctrl-C does. */
  async stop() {
    if (this.process.exitCode !== null || this.process.signalCode !== null) {
      throw new Error(`the hub had ended before:\n${this.log.join('\n')}`);
    }
    this.process.kill('SIGINT');
    const { code } = await within(STOP_MS_MAX, 'the hub to end', this.exited);
    if (code !== 0) throw new Error(`the hub ended with code ${code} after SIGINT:\n${this.log.join('\n')}`);
  }

  /** Ends it as a power cut would. */
  async kill() {
    this.process.kill('SIGKILL');
    await this.exited;
  }

  /** Asks the program for a connection string, as an operator would. */
  connectionString(policy = 'iothubowner') {
    return this.ask('--policy', policy);
  }

  deviceConnectionString(deviceId) {
    return this.ask('--device', deviceId);
  }

  ask(...choice) {
    return execFileSync(this.binary, ['connection-string', '--data', this.data, ...choice], { encoding: 'utf8' }).trim();
  }
}

function requireFree(port) {
  return new Promise((resolve, reject) => {
    const probe = net.createServer();
    probe.once('error', (error) => reject(new Error(
      `port ${port} on 127.0.0.1 cannot be used (${error.code}): the SDKs connect to 443 and 8883 only; `
      + 'end what listens there, and run as root or with CAP_NET_BIND_SERVICE',
    )));
    probe.listen(port, '127.0.0.1', () => probe.close(resolve));
  });
}

/** `promise`, or an error that names what was waited for. */
async function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${ms} ms in vain for ${what}`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

module.exports = { HOST, Hub, within };
