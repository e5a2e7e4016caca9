// The hub's event stream (server-sent events), read in the background.
'use strict';

const https = require('node:https');
const { SharedAccessSignature } = require('azure-iothub');
const { HOST, until } = require('./fleet');

/** An `Authorization` from a service connection string. */
function authorization(connectionString) {
  const parts = Object.fromEntries(connectionString.split(';').map((part) => {
    const at = part.indexOf('=');
    return [part.slice(0, at), part.slice(at + 1)];
  }));
  const expiry = Math.floor(Date.now() / 1000) + 3600;
  return SharedAccessSignature.create(parts.HostName, parts.SharedAccessKeyName, parts.SharedAccessKey, expiry).toString();
}

/** Resolves, when the stream is open, with `{ events, wait, close }`. */
function openEvents(hub, device, sources) {
  const events = [];
  return new Promise((resolve, reject) => {
    const request = https.get({
      host: HOST,
      path: `/api/events?source=${sources}&device=${encodeURIComponent(device)}`,
      headers: { Authorization: authorization(hub.connectionString()), Accept: 'text/event-stream' },
      agent: false,
    }, (response) => {
      if (response.statusCode !== 200) {
        reject(new Error(`the event stream answered ${response.statusCode}`));
        return;
      }
      let rest = '';
      response.setEncoding('utf8');
      response.on('error', () => {});
      response.on('data', (chunk) => {
        const blocks = (rest + chunk).split('\n\n');
        rest = blocks.pop();
        for (const block of blocks) {
          const data = block.split('\n').filter((line) => line.startsWith('data:')).map((line) => line.slice(5)).join('\n');
          if (data) events.push(JSON.parse(data));
        }
      });
      resolve({
        events,
        wait: (matches) => until(() => events.find(matches), `an event (seen: ${JSON.stringify(events)})`),
        close: () => request.destroy(),
      });
    });
    request.on('error', reject);
  });
}

module.exports = { authorization, openEvents };
