// sockjs-client 1.6 in Node, with each of its transports forced in turn, under each of the STOMP
// libraries, against a server that is killed and comes back.

import assert from 'node:assert/strict';

import { Client } from '@stomp/stompjs';
import SockJS from 'sockjs-client';
import stompLibrary from 'stompjs';
import webstompLibrary from 'webstomp-client';

import { burst } from './burst.mjs';
import { ask, done, server, step } from './driver.mjs';
import { stompjs, stompjs2, webstomp } from './peer.mjs';

const TRANSPORTS = ['websocket', 'xhr-streaming', 'eventsource', 'xhr-polling'];
const LIBRARIES = {
  stompjs: (socket, options) => stompjs({ Client }, socket, options),
  webstomp: (socket, options) => webstomp(webstompLibrary, socket, options),
  stompjs2: (socket, options) => stompjs2(stompLibrary, socket, options),
};
// What one listener may have waiting is 512 KiB. This is less, and passes a stream's 128 KiB thrice.
const MANY = 100;
const SIZE = 1_300;

for (const transport of TRANSPORTS) {
  step(`${transport}: all libraries speak at once, and hear each other in order and once`);
  const peers = [];
  for (const library of Object.keys(LIBRARIES)) peers.push(await connect(transport, library));
  assert.equal(await burst(peers, `burst-${transport}`, MANY, SIZE), undefined);

  step(`${transport}: an ERROR and the reason of the close reach the libraries`);
  await Promise.all(Object.keys(LIBRARIES).map((library) => refused(transport, library)));

  step(`${transport}: nothing that is sent right before the end is lost`);
  const [listener] = peers;
  const inbox = await listener.subscribe(`/topic/rooms/leaving-${transport}`);
  const leaving = await connect(transport, 'stompjs', { login: 'leaving' });
  for (let index = 0; index < 50; index += 1) leaving.publish(`/app/rooms/leaving-${transport}`, String(index));
  assert.equal(await leaving.leave(), 'RECEIPT');
  const heard = await inbox.takeAll(50);
  assert.deepEqual(heard.map(({ body }) => Number(body)), heard.map((_, index) => index));
  await Promise.all(peers.map((peer) => peer.leave()));
}

step('the server is killed: every connection ends, and new ones miss nothing');
// In Node only the WebSocket notices that the server has gone: sockjs-client does not hear of an
// answer that breaks off. Where it is so, heart-beats tell.
const everyone = [];
for (const transport of TRANSPORTS) {
  for (const library of Object.keys(LIBRARIES)) everyone.push(await connect(transport, library, { heartbeat: 2_000 }));
}
const last = await everyone[0].send('/app/rooms/restart', 'last before', { 'receipt-after': 'stored' });
for (const peer of everyone) peer.mayEnd = true;
await ask('kill');
await Promise.all(everyone.map((peer) => peer.closes.take()));
await ask('start');
const again = await Promise.all(everyone.map(({ transport, library }) => connect(transport, library)));
const unseen = await again[0].send('/app/rooms/restart', 'after it');
for (const peer of again) {
  const inbox = await peer.subscribe('/topic/rooms/restart', { after: last['message-id'] });
  assert.equal(inbox.receipt.recovered, 'true');
  const { headers, body } = await inbox.take();
  assert.equal(body, 'after it');
  assert.equal(headers['message-id'], unseen['message-id']);
}
await Promise.all(again.map((peer) => peer.leave()));
done();

async function connect(transport, library, options = {}) {
  let socket;
  const peer = await LIBRARIES[library](() => {
    // What it takes a connection to take long for is guessed from one request, too boldly for a
    // machine that is busy with other tests.
    socket = new SockJS(`${server}/sockjs`, null, { transports: transport, timeout: 20_000 });
    return socket;
  }, { login: `${transport} ${library}`, ...options });
  assert.equal(socket.transport, transport);
  return Object.assign(peer, { transport, library, socket });
}

async function refused(transport, library) {
  const peer = await connect(transport, library, { login: 'wrong' });
  const end = new Promise((resolve) => { peer.socket.addEventListener('close', resolve); });
  peer.mayEnd = true;
  peer.publish('/app/nowhere', 'x', { receipt: 'r-1' });
  const { headers } = await peer.errors.take();
  assert.equal(headers.code, 'bad-destination');
  assert.equal(headers['receipt-id'], 'r-1');
  assert.match(headers.message, /destination/);
  await peer.closes.take();
  const { code, reason, wasClean } = await end;
  assert.deepEqual([code, reason, wasClean], [1008, 'There is no such destination.', true]);
}
