// @stomp/stompjs 7, as an application's front end uses it, against a server that is killed and
// comes back.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';

import { Client, Versions } from '@stomp/stompjs';
import { WebSocket } from 'ws';

import { acknowledges, beats, carries, refuses, returns, room, talks, transacts } from './conversation.mjs';
import { ask, done, server, step } from './driver.mjs';
import { stompjs } from './peer.mjs';

const { topic, app } = room('stompjs');
const url = `${server.replace(/^http/, 'ws')}/ws`;

const beating = beats((options) => connect({ heartbeatToleranceMultiplier: 3, ...options }));

for (const version of [Versions.V1_0, Versions.V1_1, Versions.V1_2]) {
  const speak = (options) => connect({ stompVersions: new Versions([version]), ...options });
  step(`STOMP ${version}: it talks, and its DISCONNECT is answered`);
  const peer = await speak({});
  assert.equal(peer.client.connectedVersion, version);
  assert.equal(await peer.leave(), 'RECEIPT');
  await talks(speak);
  step(`STOMP ${version}: acknowledgements and transactions`);
  await acknowledges(speak);
  await transacts(speak);
  step(`STOMP ${version}: an ERROR and its close`);
  const { code, reason } = await refuses(speak);
  assert.equal(code, 1008);
  assert.equal(reason, 'There is no such destination.');
}

step('the highest version that both know is spoken');
const ada = await connect({ reconnectDelay: 100 });
assert.equal(ada.client.webSocket.protocol, 'v12.stomp');
assert.equal(ada.version, Versions.V1_2);

step('header values with line ends, colons and backslashes pass');
const values = ['C:\\temp\nsecond: line', 'https://chat.example/a:b', '\r\n', '한글 👋', ''];
await returns(connect, values.map((value) => [value, value]));
// It escapes and unescapes in STOMP 1.2 only. What it sends raw in 1.1 comes back escaped.
await returns((options) => connect({ stompVersions: new Versions([Versions.V1_1]), ...options }), [
  ['https://chat.example/a:b', 'https\\c//chat.example/a\\cb'],
]);

step('frames in binary messages, and frames that span messages, are understood');
await carries(connect, { forceBinaryWSFrames: true });
await carries(connect, { splitLargeFrames: true });
await carries(connect, { splitLargeFrames: true, maxWebSocketChunkSize: 1024 });

step('binary bodies come back octet by octet');
const adas = await ada.subscribe(topic);
const octets = Uint8Array.from({ length: 1024 }, (_, index) => index % 256);
for (const headers of [{ 'content-type': 'application/octet-stream' }, { 'content-type': 'image/png' }, {}]) {
  await ada.send(app, octets, headers);
  assert.deepEqual((await adas.take()).binaryBody, octets);
}
await ada.send(app, new TextEncoder().encode('text \0 with a NUL'), { 'content-type': 'text/plain' });
assert.equal((await adas.take()).body, 'text \0 with a NUL');

step('a key that is repeated is one message');
const key = randomUUID();
const first = await ada.send(app, 'once', { 'idempotency-key': key });
const second = await ada.send(app, 'once', { 'idempotency-key': key, 'receipt-after': 'stored' });
assert.equal(second['message-id'], first['message-id']);
assert.equal((await adas.take()).headers['message-id'], first['message-id']);
await ada.send(app, 'next');
await ada.send(app, 'and next');
const [next, afterNext] = await adas.takeAll(2);
assert.deepEqual([next.body, afterNext.body], ['next', 'and next']);

step('history comes in order');
const past = await ada.subscribe(topic, { history: '3' });
const bodies = await past.takeAll(3);
assert.deepEqual(bodies.map(({ body }) => body), ['once', 'next', 'and next']);
assert(bodies.every(({ headers }) => headers.replayed === 'true'));
past.unsubscribe();

step('the server is killed and comes back: the client too, and nothing is missing');
const last = await ada.send(app, 'last before', { 'receipt-after': 'stored' });
assert.equal((await adas.take()).body, 'last before');
await beating;
ada.mayEnd = true;
await ask('kill');
await ada.closes.take();
await ask('start');
const ben = await connect({ login: 'ben' });
const unseen = await ben.send(app, 'while ada was away', { 'receipt-after': 'stored' });
await ada.connects.take();
ada.mayEnd = false;
const again = await ada.subscribe(topic, { after: last['message-id'] });
assert.equal(again.receipt.recovered, 'true');
const missed = await again.take();
assert.equal(missed.body, 'while ada was away');
assert.equal(missed.headers['message-id'], unseen['message-id']);
const live = await ben.send(app, 'and live again');
assert.equal((await again.take()).headers['message-id'], live['message-id']);
assert(live['message-id'] > unseen['message-id']);
assert(unseen['message-id'] > last['message-id']);

step('a key is remembered over the restart: what has no receipt can be sent again');
const third = await ada.send(app, 'once', { 'idempotency-key': key });
assert.equal(third['message-id'], first['message-id']);
await ben.send(app, 'end');
assert.equal((await again.take()).body, 'end');

await ben.leave();
await ada.leave();
done();

function connect(options = {}) {
  const protocols = (options.stompVersions ?? Versions.default).protocolVersions();
  return stompjs({ Client }, () => new WebSocket(url, protocols), options);
}
