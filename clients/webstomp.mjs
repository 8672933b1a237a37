// webstomp-client 1.2.6 over WebSocket, as an application's front end uses it.

import assert from 'node:assert/strict';

import library from 'webstomp-client';
import { WebSocket } from 'ws';

import { acknowledges, beats, carries, refuses, returns, room, talks, transacts } from './conversation.mjs';
import { done, server, step } from './driver.mjs';
import { webstomp } from './peer.mjs';

const { V1_0, V1_1, V1_2, supportedProtocols } = library.VERSIONS;
const url = `${server.replace(/^http/, 'ws')}/ws`;

step('it lists STOMP 1.0 first, and is given the highest');
assert.deepEqual(supportedProtocols(), ['v10.stomp', 'v11.stomp', 'v12.stomp']);
const peer = await connect();
assert.equal(peer.client.ws.protocol, 'v12.stomp');
assert.equal(peer.version, V1_2);
await peer.leave();

const beating = beats(connect);

for (const [version, protocols] of [[V1_0, ['v10.stomp']], [V1_1, ['v11.stomp', 'v10.stomp']], [V1_2, supportedProtocols()]]) {
  const speak = (options) => connect({ protocols, ...options });
  step(`STOMP ${version}: it talks`);
  const { version: spoken, client } = await speak({});
  assert.equal(spoken, version);
  client.disconnect();
  await talks(speak);
  step(`STOMP ${version}: acknowledgements and transactions`);
  await acknowledges(speak);
  await transacts(speak);
  step(`STOMP ${version}: an ERROR and its close`);
  const close = await refuses(speak);
  assert.equal(close.code, 1008);
  assert.equal(close.reason, 'There is no such destination.');
}

step('headers pass; it escapes none, and undoes no escape');
await returns(connect, [
  ['https://chat.example/a:b', 'https\\c//chat.example/a\\cb'],
  ['한글 👋', '한글 👋'],
  ['back\\\\slash', 'back\\\\slash'],
]);
await returns((options) => connect({ protocols: ['v10.stomp'], ...options }), [
  ['https://chat.example/a:b', 'https://chat.example/a:b'],
  ['C:\\temp', 'C:\\temp'],
]);
const wrong = await connect({ login: 'wrong' });
wrong.mayEnd = true;
wrong.publish('/app/rooms/odd', 'x', { 'x-odd': 'C:\\temp' });
assert.equal((await wrong.errors.take()).headers.code, 'malformed-frame');

step('bodies that it splits at 16 KiB, as text and as binary messages');
await carries(connect);
await carries(connect, { binary: true });

step('what it sends right before DISCONNECT and its close has arrived');
const { topic, app } = room('leaving');
const ben = await connect({ login: 'ben' });
const inbox = await ben.subscribe(topic);
const leaving = await connect({ login: 'leaving' });
for (let index = 0; index < 50; index += 1) leaving.publish(app, String(index));
await leaving.leave();
const heard = await inbox.takeAll(50);
assert.deepEqual(heard.map(({ body }) => Number(body)), heard.map((_, index) => index));
await ben.leave();

await beating;
done();

function connect({ protocols = supportedProtocols(), ...options } = {}) {
  return webstomp(library, () => new WebSocket(url, protocols), { protocols, ...options });
}
