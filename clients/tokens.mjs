// STOMP libraries with tokens, over TLS where the test says so: the code of docs/frontends.md through
// the lives of several tokens, refusals that end nothing, and sockjs-client on each of its transports.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';

import { Client, Versions } from '@stomp/stompjs';
import SockJS from 'sockjs-client';
import stompLibrary from 'stompjs';
import webstompLibrary from 'webstomp-client';
import { WebSocket } from 'ws';

import { ask, done, server, step } from './driver.mjs';
import { stompjs, stompjs2, webstomp } from './peer.mjs';
import { snippet, token } from './snippet.mjs';
import { Inbox } from './wait.mjs';

// Long enough to connect on a busy machine.
const SHORT_S = 4;
const LIVES = 3;
const TRANSPORTS = ['websocket', 'xhr-streaming', 'eventsource', 'xhr-polling'];
const LIBRARIES = {
  stompjs: (socket, options) => stompjs({ Client }, socket, options),
  webstomp: (socket, options) => webstomp(webstompLibrary, socket, options),
  stompjs2: (socket, options) => stompjs2(stompLibrary, socket, options),
};
const protocols = Versions.default.protocolVersions();
const url = `${server.replace(/^http/, 'ws')}/ws`;
const secret = randomBytes(24).toString('hex');

await ask('kill');
await ask(`start --auth jwt --jwt-key ${secret} --jwt-leeway 0s --jwt-query access_token --refusals message`);
const ben = await connect({ Authorization: `Bearer ${made('ben')}` });

step('the front end of the documentation lives through several tokens, and loses and doubles nothing');
let lives = 0;
const front = await documented(async () => {
  lives += 1;
  return made('ada', { rooms: { lobby: 'rw' } }, lives <= LIVES ? SHORT_S : 600);
});
await front.connects.take();
let sent = 0;
while (lives <= LIVES) {
  sent += 1;
  front.send(`ada ${sent}`);
  await ben.send('/app/rooms/lobby', `ben ${sent}`, { 'receipt-after': 'stored' });
}
while (front.heard.length < 2 * sent || front.waiting.size > 0) await front.events.take();
assert.deepEqual(front.closes, Array(LIVES).fill(4001));
const numbered = (name) => Array.from({ length: sent }, (_, index) => `${name} ${index + 1}`);
for (const name of ['ada', 'ben']) {
  const words = front.heard.filter(([sender]) => sender === name).map(([, body]) => body);
  assert.deepEqual(words, numbered(name));
}
await front.client.deactivate();
const all = await history('lobby', made('ben'));
assert.deepEqual(all.map(({ sender, body }) => [sender, body]), front.heard);

step('it does not come back with a token that is no good');
const stranger = await documented(async () => made('ada', {}, 600, 'x'.repeat(48)));
while (stranger.closes.length === 0) await stranger.events.take();
assert.deepEqual([stranger.closes, stranger.client.active], [[3000], false]);

step('it does not come back for a room that is not its own');
const guest = await documented(async () => made('guest', { rooms: {} }));
while (guest.closes.length === 0) await guest.events.take();
assert.deepEqual([guest.closes, guest.client.active], [[3003], false]);

step('a refused SUBSCRIBE and a refused SEND are told to who listens, and end nothing');
const dora = await connect({ Authorization: `Bearer ${made('dora', { rooms: { lobby: 'rw', board: 'r' } })}` });
const errors = await dora.subscribe('/user/queue/errors');
const refused = dora.attach('/topic/rooms/secret', () => assert.fail('this is not dora’s'), {});
const told = await errors.take();
assert.deepEqual(JSON.parse(told.body), {
  code: 'forbidden', message: 'This is not allowed.', destination: '/topic/rooms/secret',
});
refused.unsubscribe();
const board = await dora.subscribe('/topic/rooms/board');
dora.publish('/app/rooms/board', 'x', { receipt: 'r-1' });
const second = await errors.take();
assert.equal(JSON.parse(second.body).destination, '/app/rooms/board');
assert.equal(second.headers['receipt-id'], 'r-1');
const bens = await ben.send('/app/rooms/board', 'from ben');
assert.equal((await board.take()).headers['message-id'], bens['message-id']);
await dora.send('/app/rooms/lobby', 'dora is still here');
assert.deepEqual([errors.left(), board.left()], [[], []]);
await dora.leave();

step('who does not listen gets an ERROR');
const deaf = await connect({ authorization: `bearer ${made('deaf', { rooms: {} })}` });
deaf.mayEnd = true;
deaf.publish('/app/rooms/lobby', 'x', { receipt: 'r-1' });
const { headers } = await deaf.errors.take();
assert.deepEqual([headers.code, headers['receipt-id']], ['forbidden', 'r-1']);
assert.equal((await deaf.closes.take()).code, 3003);

for (const transport of TRANSPORTS) {
  step(`${transport}: all libraries bring their token in CONNECT, or in the query`);
  const rooms = { [`by-${transport}`]: 'rw' };
  for (const [library, open] of Object.entries(LIBRARIES)) {
    const mine = made(library, { rooms });
    for (const [query, passcode] of [['', mine], [`?access_token=${mine}`, '']]) {
      const peer = await open(sockjs(transport, query), { login: 'mallory', passcode });
      assert.equal(peer.connected['user-name'], library);
      const inbox = await peer.subscribe(`/topic/rooms/by-${transport}`);
      await peer.send(`/app/rooms/by-${transport}`, 'hello');
      assert.equal((await inbox.take()).headers.sender, library);
      await peer.leave();
    }
  }

  step(`${transport}: the end of a token, and a token that is no good, reach the library`);
  const brief = await LIBRARIES.stompjs(sockjs(transport, ''), { passcode: made('brief', {}, SHORT_S) });
  brief.mayEnd = true;
  assert.equal((await brief.errors.take()).headers.code, 'token-expired');
  assert.equal((await brief.closes.take()).code, 4001);
  const socket = sockjs(transport, '')();
  const closes = new Inbox('the end of a connection with a wrong token');
  socket.onopen = () => socket.send('CONNECT\naccept-version:1.2\nAuthorization:Bearer wrong\n\n\0');
  socket.onclose = ({ code, reason }) => closes.put([code, reason]);
  assert.deepEqual(await closes.take(), [3000, 'A valid token is needed.']);
}

await ben.leave();
done();

function made(sub, claims = {}, seconds = 600, by = secret) {
  return token({ sub, rooms: { '*': 'rw' }, ...claims }, by, seconds);
}

function connect(connectHeaders) {
  return stompjs({ Client }, () => new WebSocket(url, protocols), { connectHeaders });
}

function sockjs(transport, query) {
  return () => new SockJS(`${server}/sockjs${query}`, null, { transports: transport, timeout: 20_000 });
}

// Runs the code of the documentation, with nothing changed but where it connects to, and how soon it
// comes back.
async function documented(newToken) {
  const seen = { heard: [], closes: [], connects: new Inbox('CONNECTED'), events: new Inbox('anything') };
  class Observed extends Client {
    constructor({ onConnect, ...config }) {
      super({
        ...config,
        brokerURL: url,
        webSocketFactory: () => new WebSocket(url, protocols),
        reconnectDelay: 100,
        onWebSocketClose: ({ code }) => note(() => seen.closes.push(code)),
        onConnect: (frame) => { onConnect(frame); note(() => seen.connects.put(frame.headers)); },
        debug: (text) => { if (text.startsWith('<<< RECEIPT')) note(() => {}); },
      });
    }
  }
  // After what the code itself does with it.
  const note = (what) => { what(); setImmediate(() => seen.events.put()); };
  const run = new Function('Client', 'newToken', 'console', `return (async () => {
    ${snippet('frontends.md', 'js')}
    return { client, send, waiting };
  })()`);
  const log = (...line) => note(() => seen.heard.push(line));
  return Object.assign(seen, await run(Observed, newToken, { log }));
}

async function history(room, by) {
  const messages = [];
  for (let before = ''; ;) {
    const answer = await fetch(`${server}/api/rooms/${room}/messages?limit=100${before}`, {
      headers: { Authorization: `Bearer ${by}` },
    });
    assert.equal(answer.status, 200);
    const page = await answer.json();
    if (page.messages.length === 0) return messages;
    messages.unshift(...page.messages);
    before = `&before=${messages[0].id}`;
  }
}
