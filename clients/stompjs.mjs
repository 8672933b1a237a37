// @stomp/stompjs 7, as an application's front end uses it, against a server that is killed and
// comes back.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';

import { Client, Versions } from '@stomp/stompjs';
import { WebSocket } from 'ws';

import { ask, done, server, step } from './driver.mjs';

const WAIT_MS = 30_000;
const ROOM = 'stompjs';
const TOPIC = `/topic/rooms/${ROOM}`;
const APP = `/app/rooms/${ROOM}`;
const url = `${server.replace(/^http/, 'ws')}/ws`;

for (const version of [Versions.V1_0, Versions.V1_1, Versions.V1_2]) {
  step(`STOMP ${version}: connect, subscribe, send, receipt, leave`);
  const client = await connect('ada', { stompVersions: new Versions([version]) });
  assert.equal(client.connectedVersion, version);
  const inbox = await subscribe(client, {});
  const body = `안녕하세요 👋 ${version}\n둘째 줄`;
  const receipt = await send(client, body, { 'content-type': 'text/plain;charset=utf-8' });
  const message = await inbox.take();
  assert.equal(message.body, body);
  assert.equal(message.headers['message-id'], receipt.headers['message-id']);
  assert.equal(message.headers['created-at'], receipt.headers['created-at']);
  assert.equal(message.headers.destination, TOPIC);
  assert.equal(message.headers.sender, 'ada');
  assert.equal(message.headers['content-type'], 'text/plain;charset=utf-8');
  assert.match(receipt.headers['message-id'], /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-/);
  // This library does not undo the escapes of STOMP 1.1, where a colon is `\\c`.
  assert(!Number.isNaN(Date.parse(receipt.headers['created-at'].replaceAll('\\c', ':'))));
  await leave(client);
}

step('header values with line ends, colons and backslashes pass');
const odd = 'C:\\temp\nsecond: line';
const ada = await connect('ada');
const adas = await subscribe(ada, {});
await send(ada, 'odd header', { 'x-odd': odd });
assert.equal((await adas.take()).headers['x-odd'], odd);

step('frames in binary messages, and frames that span messages, are understood');
const large = '가나다 '.repeat(4_000);
for (const options of [{ forceBinaryWSFrames: true }, { splitLargeFrames: true, maxWebSocketChunkSize: 1024 }]) {
  const client = await connect('ben', options);
  await send(client, large);
  const message = await adas.take();
  assert.equal(message.body, large);
  assert.equal(message.headers.sender, 'ben');
  await leave(client);
}

step('a key that is repeated is one message');
const key = randomUUID();
const first = await send(ada, 'once', { 'idempotency-key': key });
const second = await send(ada, 'once', { 'idempotency-key': key, 'receipt-after': 'stored' });
assert.equal(second.headers['message-id'], first.headers['message-id']);
assert.equal((await adas.take()).headers['message-id'], first.headers['message-id']);
const next = await send(ada, 'next', {});
assert.equal((await adas.take()).headers['message-id'], next.headers['message-id']);

step('UNSUBSCRIBE ends a subscription, and only that one');
const other = await subscribe(ada, {});
await send(ada, 'to both', {});
assert.equal((await other.take()).body, 'to both');
assert.equal((await adas.take()).body, 'to both');
other.subscription.unsubscribe();
await send(ada, 'to one', {});
assert.equal((await adas.take()).body, 'to one');
assert.deepEqual(other.left(), []);

step('history comes in order');
const past = await subscribe(ada, { history: '3' });
const bodies = [];
for (let index = 0; index < 3; index += 1) bodies.push(await past.take());
assert.deepEqual(bodies.map(({ body }) => body), ['next', 'to both', 'to one']);
assert(bodies.every(({ headers }) => headers.replayed === 'true'));
past.subscription.unsubscribe();

step('heart-beats go both ways, and hold an idle connection');
const beats = { '>>> PING': 0, '<<< PONG': 0 };
const beating = waiter('heart-beats');
const idle = await connect('idle', {
  heartbeatIncoming: 1_000,
  heartbeatOutgoing: 1_000,
  heartbeatToleranceMultiplier: 3,
  debug: (text) => {
    if (text in beats) beats[text] += 1;
    if (Object.values(beats).every((many) => many >= 3)) beating.resolve();
  },
  onWebSocketClose: () => beating.reject(new Error(`closed after ${JSON.stringify(beats)}`)),
});
await beating.promise;
await leave(idle);

step('a wrong destination is an ERROR that says so');
const failing = waiter('ERROR');
const wrong = await connect('wrong', { reconnectDelay: 0, onStompError: failing.resolve });
wrong.publish({ destination: '/app/nowhere', body: 'x' });
const error = await failing.promise;
assert.equal(error.headers.code, 'bad-destination');
assert.match(error.headers.message, /destination/);
await wrong.deactivate();

step('the server is killed and comes back: the client too, and nothing is missing');
const last = await send(ada, 'last before', { 'receipt-after': 'stored' });
assert.equal((await adas.take()).body, 'last before');
const lost = waiter('the close');
const back = waiter('the reconnection');
ada.onWebSocketClose = lost.resolve;
ada.onConnect = back.resolve;
await ask('kill');
await lost.promise;
await ask('start');
const ben = await connect('ben');
const unseen = await send(ben, 'while ada was away', { 'receipt-after': 'stored' });
await back.promise;
const again = await subscribe(ada, { after: last.headers['message-id'] });
assert.equal(again.receipt.headers.recovered, 'true');
const missed = await again.take();
assert.equal(missed.body, 'while ada was away');
assert.equal(missed.headers['message-id'], unseen.headers['message-id']);
const live = await send(ben, 'and live again', {});
assert.equal((await again.take()).headers['message-id'], live.headers['message-id']);
assert(live.headers['message-id'] > unseen.headers['message-id']);
assert(unseen.headers['message-id'] > last.headers['message-id']);
assert.deepEqual(again.left(), []);

step('a key is remembered over the restart: what has no receipt can be sent again');
const third = await send(ada, 'once', { 'idempotency-key': key });
assert.equal(third.headers['message-id'], first.headers['message-id']);

await leave(ben);
await leave(ada);
done();

function waiter(what) {
  const waiting = {};
  waiting.promise = new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`waited in vain for ${what}`)), WAIT_MS);
    waiting.resolve = (value) => { clearTimeout(timer); resolve(value); };
    waiting.reject = reject;
  });
  return waiting;
}

async function connect(login, options = {}) {
  const connected = waiter('CONNECTED');
  const client = new Client({
    webSocketFactory: () => new WebSocket(url, (options.stompVersions ?? Versions.default).protocolVersions()),
    connectHeaders: { login, passcode: '' },
    reconnectDelay: 100,
    heartbeatIncoming: 0,
    heartbeatOutgoing: 0,
    onConnect: connected.resolve,
    onStompError: ({ headers, body }) => { throw new Error(`ERROR ${headers.message} ${body}`); },
    ...options,
  });
  client.activate();
  await connected.promise;
  return client;
}

// DISCONNECT with a receipt, and the close after it.
async function leave(client) {
  const receipt = waiter('the receipt of DISCONNECT');
  client.onDisconnect = receipt.resolve;
  client.onWebSocketClose = () => {};
  await client.deactivate();
  assert.equal((await receipt.promise).command, 'RECEIPT');
}

// A subscription that is live, and what it brings.
async function subscribe(client, headers) {
  const messages = [];
  const takers = [];
  const receipt = waiter('the receipt of SUBSCRIBE');
  const id = randomUUID();
  client.watchForReceipt(id, receipt.resolve);
  const subscription = client.subscribe(TOPIC, (message) => {
    if (takers.length > 0) takers.shift().resolve(message);
    else messages.push(message);
  }, { ...headers, receipt: id });
  return {
    subscription,
    receipt: await receipt.promise,
    left: () => messages.map(({ body }) => body),
    take: () => {
      if (messages.length > 0) return messages.shift();
      const taker = waiter('a message');
      takers.push(taker);
      return taker.promise;
    },
  };
}

async function send(client, body, headers = {}) {
  const receipt = waiter('the receipt of SEND');
  const id = randomUUID();
  client.watchForReceipt(id, receipt.resolve);
  client.publish({ destination: APP, body, headers: { ...headers, receipt: id } });
  return receipt.promise;
}
