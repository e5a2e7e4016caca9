// The quick start for Node works as it is printed.
'use strict';

const assert = require('node:assert/strict');
const { execFileSync, spawn } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');
const { fleetOfFile, until } = require('../support/fleet');

const fleet = fleetOfFile();

test('the programs of the document', async () => {
  const text = fs.readFileSync(path.join(__dirname, '../../../docs/quickstart-node.md'), 'utf8');
  const programs = Object.fromEntries(text.split('```js\n').slice(1).map((block) => {
    const code = block.split('\n```')[0];
    return [code.split('\n')[0].replace('// ', ''), code];
  }));
  assert.deepEqual(Object.keys(programs).sort(), ['back-end.js', 'device.js', 'make-device.js']);
  // Below the suite's own folder, so that the programs find the SDKs.
  const folder = fs.mkdtempSync(path.join(__dirname, '..', 'node_modules', '.quickstart-'));
  const env = { ...process.env, SERVICE: fleet.hub.connectionString() };
  delete env.NODE_TEST_CONTEXT;
  const run = (name) => execFileSync(process.execPath, [path.join(folder, name)], { env, encoding: 'utf8', timeout: 60_000 });
  let device;
  try {
    for (const [name, code] of Object.entries(programs)) fs.writeFileSync(path.join(folder, name), code);
    assert.equal(run('make-device.js'), 'pump-1 sas\n');
    env.DEVICE = fleet.hub.deviceConnectionString('pump-1');
    let output = '';
    device = spawn(process.execPath, [path.join(folder, 'device.js')], { env });
    for (const pipe of [device.stdout, device.stderr]) pipe.on('data', (data) => { output += data; });
    await until(() => output.includes('ready'), 'the device is ready');
    assert.equal(run('back-end.js'), '200 { rebooting: true }\npump-1 Connected\n');
    await until(() => output.includes('method reboot { delay: 5 }'), 'the method');
    await until(() => /desired \{.*rate: 5/.test(output), 'the desired properties');
  } finally {
    device?.kill('SIGKILL');
    fs.rmSync(folder, { recursive: true });
  }
});
