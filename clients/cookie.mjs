// A token in a cookie, which a real browser sends along whichever page asks: the server's own page
// uses it, a page of another origin does not.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { createServer, request } from 'node:http';

import { bodies, browser, connected, count, faults, stored, visitor, write } from './browser.mjs';
import { ask, done, server, step } from './driver.mjs';
import { token } from './snippet.mjs';

const secret = randomBytes(24).toString('hex');
const flags = `start --auth jwt --jwt-key ${secret} --jwt-cookie session`;
const value = token({ sub: 'ada', rooms: { lobby: 'rw' } }, secret);
const messages = `${server}/api/rooms/lobby/messages`;
const elsewhere = createServer((asked, response) => {
  response.writeHead(200, { 'content-type': 'text/html' }).end('<!doctype html><title>elsewhere</title>');
});
await new Promise((resolve) => { elsewhere.listen(0, '127.0.0.1', resolve); });
// Another port is another origin of the same site: not even SameSite=Strict keeps the cookie away.
const foreign = `http://127.0.0.1:${elsewhere.address().port}`;
await ask('kill');
await ask(flags);

step('the server’s own page uses the cookie, and has its user’s name from it');
const page = await visitor();
await page.context().addCookies([{ name: 'session', value, url: server, httpOnly: true, sameSite: 'Strict' }]);
await page.goto(`${server}/?room=lobby&name=mallory`);
await page.waitForFunction(() => document.querySelector('#who').textContent === 'ada');
await connected(page);
await write(page, 'by cookie');
await stored(page, 1);
assert.deepEqual((await history()).map(({ sender, body }) => [sender, body]), [['ada', 'by cookie']]);
assert.equal(await page.evaluate(() => document.cookie), '');

step('a page of another origin with the same visitor is refused everywhere');
const other = await page.context().newPage();
await other.goto(foreign);
assert.deepEqual(await reach(), [1006, 'unread', 'unread']);
// What a page could send if nobody asked its origin.
const headers = { Cookie: `session=${value}`, 'Content-Type': 'application/json', Origin: foreign };
const forged = await fetch(messages, { method: 'POST', headers, body: JSON.stringify({ body: 'forged' }) });
assert.deepEqual([forged.status, (await forged.json()).error.code], [403, 'bad-origin']);
assert.equal((await history()).length, 1, 'a page of another site has written');
for (const path of ['/ws', '/sockjs/websocket', `/sockjs/000/${Date.now()}/websocket`]) {
  assert.equal(await upgrade(path, foreign), 403, path);
  assert.equal(await upgrade(path, 'null'), 403, path);
  assert.equal(await upgrade(path, server), 101, path);
}

step('it was the origin: where that is allowed, its cookie counts');
await ask('kill');
await ask(`${flags} --allowed-origin ${foreign}`);
assert.deepEqual(await reach(), ['CONNECTED ada', 200, 'unread']);
await page.reload();
await connected(page);
await count(page, 1);
assert.deepEqual(await bodies(page), ['by cookie']);

assert.deepEqual(faults, [], 'the pages had errors');
await browser.close();
done();

// How far the other page gets: by WebSocket, by reading the history, and by a POST as a form sends it.
async function reach() {
  return other.evaluate(async ([url, at]) => {
    const socket = new WebSocket(`${url.replace('http', 'ws')}/ws`, ['v12.stomp']);
    const ended = await new Promise((resolve) => {
      socket.onopen = () => socket.send('CONNECT\naccept-version:1.2\nhost:x\n\n\0');
      socket.onmessage = ({ data }) => resolve(`${data.split('\n')[0]} ${/user-name:(.*)/.exec(data)?.[1]}`);
      socket.onclose = ({ code }) => resolve(code);
    });
    const read = await fetch(at, { credentials: 'include' }).then(({ status }) => status, () => 'unread');
    const body = JSON.stringify({ body: 'forged' });
    const posted = await fetch(at, { method: 'POST', mode: 'no-cors', credentials: 'include', body });
    return [ended, read, posted.status === 0 ? 'unread' : posted.status];
  }, [server, messages]);
}

// The status of an upgrade with the cookie, from a page of this origin.
async function upgrade(path, origin) {
  return new Promise((resolve, reject) => {
    request(`${server}${path}`, { headers: {
      Connection: 'Upgrade',
      Upgrade: 'websocket',
      'Sec-WebSocket-Version': '13',
      'Sec-WebSocket-Key': randomBytes(16).toString('base64'),
      'Sec-WebSocket-Protocol': 'v12.stomp',
      Cookie: `session=${value}`,
      Origin: origin,
    } })
      .on('response', (answer) => { answer.resume(); resolve(answer.statusCode); })
      .on('upgrade', (answer, socket) => { socket.destroy(); resolve(answer.statusCode); })
      .on('error', reject)
      .end();
  });
}

async function history() {
  const answer = await fetch(messages, { headers: { Authorization: `Bearer ${value}` } });
  return (await answer.json()).messages;
}
