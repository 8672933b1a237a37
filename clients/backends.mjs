// What docs/backends.md tells back ends to do: tokens signed with nothing but Node and Python, and a
// message that is posted with one of the application's own.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { promisify } from 'node:util';

import { Client } from '@stomp/stompjs';
import { WebSocket } from 'ws';

import { ask, done, server, step } from './driver.mjs';
import { stompjs } from './peer.mjs';
import { snippet, token } from './snippet.mjs';

const run = promisify(execFile);
const secret = randomBytes(24).toString('hex');
const url = `${server.replace(/^http/, 'ws')}/ws`;
const messages = `${server}/api/rooms/lobby/messages`;
const claims = { sub: '민지 "m"', rooms: { lobby: 'rw' }, aud: 'chat', iss: 'https://app.example' };
const signers = { 'Node.js': async (...given) => token(...given), Python: python };
await ask('kill');
const octets = randomBytes(48);
const jwk = JSON.stringify({ kty: 'oct', k: octets.toString('base64url') });
await ask(`start --auth jwt --jwt-key ${secret} --jwt-key ${jwk} --jwt-audience chat --jwt-issuer https://app.example`);

for (const [language, sign] of Object.entries(signers)) {
  step(`a token that ${language} has signed is taken, by WebSocket and by HTTP`);
  const good = await sign(claims, secret, 600);
  const connectHeaders = { Authorization: `Bearer ${good}` };
  const peer = await stompjs({ Client }, () => new WebSocket(url, ['v12.stomp']), { connectHeaders });
  assert.equal(peer.connected['user-name'], claims.sub);
  const inbox = await peer.subscribe('/topic/rooms/lobby');
  assert.equal(await post({ body: 'by HTTP' }, good), 201);
  const { headers, body } = await inbox.take();
  assert.deepEqual([headers.sender, body], [claims.sub, 'by HTTP']);
  await peer.leave();

  step(`and one by another secret, for another service, or that is over, is not (${language})`);
  for (const [bad, by, seconds] of [
    [claims, 'x'.repeat(48), 600], [{ ...claims, aud: 'shop' }, secret, 600],
    [{ ...claims, iss: 'https://else.example' }, secret, 600], [claims, secret, -60],
  ]) assert.equal(await post({ body: 'x' }, await sign(bad, by, seconds)), 401);
}

step('a secret that is no text is given as a JWK');
assert.equal(await post({ body: 'x' }, token(claims, octets)), 201);

step('a back end posts under any name by a token of its own, as the documentation says, and others do not');
const own = token({ ...claims, sub: 'app', backend: true }, secret);
const command = snippet('backends.md', 'sh').replace('https://chat.example/api/rooms/lobby/messages', messages);
assert(command.includes(messages));
const { stdout } = await run('sh', ['-ec', command], { env: { ...process.env, TOKEN: own } });
const { id } = JSON.parse(stdout);
const answer = await fetch(`${messages}?limit=1`, { headers: { Authorization: `Bearer ${own}` } });
const [last] = (await answer.json()).messages;
assert.deepEqual([last.id, last.sender, last.body], [id, 'notices', 'ada has joined']);
const users = token(claims, secret);
assert.equal(await post({ body: 'x', sender: 'notices' }, users), 403);
assert.equal(await post({ body: 'x' }, users, 'board'), 403);
assert.equal(await post({ body: 'x' }, own, 'board'), 201);
assert.equal(await post({ body: 'x' }), 401);
done();

async function python(...given) {
  const program = `${snippet('backends.md', 'python')}\nimport sys\nprint(token(*json.loads(sys.argv[1])))`;
  const { stdout } = await run('python3', ['-c', program, JSON.stringify(given)]);
  return stdout.trim();
}

async function post(message, by, room = 'lobby') {
  const { status } = await fetch(messages.replace('lobby', room), {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...(by ? { Authorization: `Bearer ${by}` } : {}) },
    body: JSON.stringify(message),
  });
  return status;
}
