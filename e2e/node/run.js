// Runs the Node suite: makes a data folder with its certificate authority, then every test file against a hub on it.
//
// Node reads NODE_EXTRA_CA_CERTS only when it starts, so the authority must exist before the tests do.
'use strict';

const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { Hub } = require('./support/hub');

async function main() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'fleetyard-e2e-node-'));
  try {
    const hub = new Hub(folder);
    await hub.start();
    await hub.stop();
    const files = process.argv.slice(2);
    const tests = fs.readdirSync(path.join(__dirname, 'test')).sort().map((name) => path.join('test', name));
    const done = spawnSync(
      process.execPath,
      ['--test', '--test-concurrency=1', '--test-reporter=spec', ...(files.length ? files : tests)],
      {
        cwd: __dirname,
        stdio: 'inherit',
        env: { ...process.env, FLEETYARD_E2E_FOLDER: folder, NODE_EXTRA_CA_CERTS: hub.caPath, NODE_NO_WARNINGS: '1' },
      },
    );
    return done.status ?? 1;
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

main().then(
  (status) => { process.exitCode = status; },
  (error) => { console.error(error.message); process.exitCode = 1; },
);
