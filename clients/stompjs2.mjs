// stompjs 2.3.3, the library of most Spring tutorials, over WebSocket.

import assert from 'node:assert/strict';

import library from 'stompjs';
import { WebSocket } from 'ws';

import { acknowledges, beats, carries, refuses, returns, room, talks, transacts } from './conversation.mjs';
import { done, server, step } from './driver.mjs';
import { stompjs2 } from './peer.mjs';

const { V1_0, V1_1, supportedVersions } = library.VERSIONS;
const url = `${server.replace(/^http/, 'ws')}/ws`;
// Its own, see `Stomp.client`.
const PROTOCOLS = ['v10.stomp', 'v11.stomp'];

step('it speaks STOMP 1.1 at most, and is given that');
assert.equal(supportedVersions(), '1.1,1.0');
const peer = await connect();
assert.equal(peer.client.ws.protocol, 'v11.stomp');
assert.equal(peer.version, V1_1);
assert.match(peer.connected['heart-beat'], /^\d+,\d+$/);
await peer.leave();

step('no subprotocol, as over SockJS, is no obstacle');
const plain = await stompjs2(library, () => new WebSocket(url));
assert.equal(plain.client.ws.protocol, '');
assert.equal(plain.version, V1_1);
await plain.leave();

const beating = beats(connect);
for (const version of [V1_1, V1_0]) {
  library.VERSIONS.supportedVersions = () => version;
  step(`STOMP ${version}: it talks`);
  assert.equal((await connect()).version, version);
  await talks(connect);
  step(`STOMP ${version}: acknowledgements and transactions`);
  await acknowledges(connect);
  await transacts(connect);
  step(`STOMP ${version}: an ERROR and its close`);
  // It makes a sentence of the close, without code and reason.
  assert.match(await refuses(connect), /^Whoops! Lost connection to /);
}

step('headers pass in STOMP 1.0, which has no escapes');
await returns(connect, [
  ['https://chat.example/a:b', 'https://chat.example/a:b'],
  ['C:\\temp', 'C:\\temp'],
  ['한글 👋', '한글 👋'],
]);
library.VERSIONS.supportedVersions = supportedVersions;

step('headers pass in STOMP 1.1; it escapes none, and undoes no escape');
await returns(connect, [
  ['https://chat.example/a:b', 'https\\c//chat.example/a\\cb'],
  ['한글 👋', '한글 👋'],
  ['back\\\\slash', 'back\\\\slash'],
]);
const wrong = await connect({ login: 'wrong' });
wrong.mayEnd = true;
wrong.publish('/app/rooms/odd', 'x', { 'x-odd': 'C:\\temp' });
assert.equal((await wrong.errors.take()).headers.code, 'malformed-frame');

step('bodies that it splits at 16 KiB');
await carries(connect);

step('a receipt that it asks of DISCONNECT hinders nothing, and what it sent before has arrived');
const { topic, app } = room('leaving');
const ben = await connect({ login: 'ben' });
const inbox = await ben.subscribe(topic);
const leaving = await connect({ login: 'leaving' });
for (let index = 0; index < 50; index += 1) leaving.publish(app, String(index));
// It closes without waiting, so the RECEIPT may come or not.
leaving.client.onreceipt = undefined;
leaving.client.disconnect(() => {}, { receipt: 'bye' });
const heard = await inbox.takeAll(50);
assert.deepEqual(heard.map(({ body }) => Number(body)), heard.map((_, index) => index));
await ben.leave();

await beating;
done();

function connect(options) {
  return stompjs2(library, () => new WebSocket(url, PROTOCOLS), options);
}
