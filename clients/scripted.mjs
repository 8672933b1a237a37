// The chat page against a server whose every frame is scripted, for what a real one does only in
// the worst moment: receipts before and after messages, gaps, refusals, frames in pieces.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { extname } from 'node:path';

import { bodies, browser, connected, count, data, enter, faults, visitor, write } from './browser.mjs';
import { done, step } from './driver.mjs';

const SERVER = 'http://roomcast.test';
const ROOM = 'lobby';
const PAGE = 50;
// Stands for the id of the page's newest subscription.
const SUBSCRIPTION = '<subscription>';
const FILES = new URL('../standalone/src/page/', import.meta.url);
const TYPES = { '.html': 'text/html', '.css': 'text/css', '.js': 'text/javascript', '.svg': 'image/svg+xml' };

step('a message and its receipt are one bubble, whichever comes first');
{
  const { page, next, put } = await scripted();
  await write(page, 'one');
  const one = await next('SEND');
  assert.equal(one.headers.destination, `/app/rooms/${ROOM}`);
  assert.equal(one.headers['receipt-after'], 'stored');
  assert.deepEqual(await data(page, 'state'), ['sending']);
  put(message(1, 'ada', 'one'));
  await page.locator(`.message[data-id="${id(1)}"]`).waitFor();
  assert.deepEqual(await data(page, 'state'), ['sending']);
  put(receipt(one, 1));
  await page.locator('.message[data-state="stored"]').waitFor();

  await write(page, 'two');
  const two = await next('SEND');
  assert.notEqual(two.headers['idempotency-key'], one.headers['idempotency-key']);
  put(receipt(two, 3));
  await page.locator(`.message[data-id="${id(3)}"][data-state="stored"]`).waitFor();
  put(message(2, 'ben', 'between'), message(3, 'ada', 'two'), message(4, 'ben', 'last'));
  await count(page, 4);
  assert.deepEqual(await bodies(page), ['one', 'between', 'two', 'last']);

  step('what another window says under the same name is not taken for one’s own');
  await write(page, 'same');
  const same = await next('SEND');
  put(message(5, 'ada', 'same'));
  await page.locator(`.message[data-id="${id(5)}"][data-state="sending"]`).waitFor();
  put(receipt(same, 6));
  await page.locator(`.message[data-id="${id(6)}"][data-state="stored"]`).waitFor();
  put(message(6, 'ada', 'same'), message(7, 'ben', 'end'));
  await count(page, 7);
  assert.deepEqual(await data(page, 'id'), [1, 2, 3, 4, 5, 6, 7].map(id));
  await page.context().close();
}

step('equal messages that are answered out of turn are each there once');
{
  const { page, next, put } = await scripted();
  await write(page, 'again');
  await write(page, 'again');
  const [first, second] = [await next('SEND'), await next('SEND')];
  put(message(1, 'ada', 'again'));
  await page.locator(`.message[data-id="${id(1)}"]`).waitFor();
  // The first bubble was taken for message 1, which turns out to be the second.
  put(receipt(second, 1));
  await page.locator(`.message[data-id="${id(1)}"][data-state="stored"]`).waitFor();
  assert.deepEqual((await data(page, 'state')).sort(), ['sending', 'stored']);
  put(message(2, 'ada', 'again'), receipt(first, 2));
  await page.waitForFunction(() => !document.querySelector('[data-state="sending"]'));
  assert.deepEqual(await data(page, 'id'), [id(1), id(2)]);
  assert.deepEqual(await data(page, 'key'), [second, first].map(({ headers }) => headers['idempotency-key']));
  await page.context().close();
}

step('frames in pieces, several in one message, binary ones, and escapes are understood');
{
  const { page, put, pieces } = await scripted();
  pieces(message(1, 'a:b\\c', '조각난 메시지 🙂'), 7);
  await count(page, 1);
  put(`\n\r\n${message(2, 'ben', 'two')}\n${message(3, 'ben', 'three\0with a zero')}`);
  put('\n');
  await count(page, 3);
  assert.deepEqual(await bodies(page), ['조각난 메시지 🙂', 'two', 'three\0with a zero']);
  assert.deepEqual(await data(page, 'sender'), ['a:b\\c', 'ben', 'ben']);
  await page.context().close();
}

step('a lost connection: the page subscribes after what it saw, and repeats what has no receipt');
{
  const { page, next, put, drop } = await scripted();
  put(message(8, 'ben', 'typing').replace('sender:', 'ephemeral:true\nsender:'), message(4, 'ben', 'seen'));
  await count(page, 1);
  assert.deepEqual(await bodies(page), ['seen']);
  await write(page, 'lost');
  const lost = await next('SEND');
  // A receipt for a later message does not hide what may have been missed before it.
  await write(page, 'later');
  put(receipt(await next('SEND'), 9));
  await page.locator(`.message[data-id="${id(9)}"]`).waitFor();
  drop();
  await page.locator('#state[data-state="offline"]').waitFor();
  const subscribe = await next('SUBSCRIBE');
  assert.equal(subscribe.headers.after, id(4));
  assert.equal(subscribe.headers.history, undefined);
  const again = await next('SEND');
  assert.equal(again.headers['idempotency-key'], lost.headers['idempotency-key']);
  assert.equal(again.body, 'lost');
  put(message(5, 'ada', 'lost', true), message(9, 'ada', 'later', true));
  put(answer(subscribe, { recovered: 'true' }), receipt(again, 5));
  await page.waitForFunction(() => !document.querySelector('[data-state="sending"]'));
  assert.deepEqual(await bodies(page), ['seen', 'lost', 'later']);
  assert(await page.locator('#notice').isHidden());
  await page.context().close();
}

step('a gap that cannot be filled is told, the room is loaded again, and reading back fills it');
{
  const { page, next, put, drop, history } = await scripted();
  put(message(1, 'ben', 'm1'), message(2, 'ben', 'm2'));
  await count(page, 2);
  drop();
  const after = await next('SUBSCRIBE');
  assert.equal(after.headers.after, id(2));
  put(message(90, 'ben', 'm90', true), answer(after, { recovered: 'false' }));
  await next('UNSUBSCRIBE');
  const reload = await next('SUBSCRIBE');
  assert.equal(reload.headers.history, String(PAGE));
  for (let number = 51; number <= 100; number += 1) put(message(number, 'ben', `m${number}`, true));
  put(answer(reload, { recovered: 'true' }));
  await page.locator('#notice[data-kind="warning"]').waitFor();
  await count(page, PAGE);
  assert.deepEqual(await data(page, 'id'), range(51, 100).map(id));
  history.push({ complete: false, messages: range(40, 50).map(json) });
  await page.click('#older');
  await page.locator('#notice[data-kind="error"]').waitFor();
  assert.equal((await bodies(page)).length, PAGE);
  history.push({ complete: true, messages: range(1, 50).map(json) }, { complete: true, messages: [] });
  await page.click('#older');
  await count(page, 100);
  assert.deepEqual(await data(page, 'id'), range(1, 100).map(id));
  await page.context().close();
}

step('when nothing can be recovered, what is on the page stays, with a warning');
{
  const { page, next, put, drop } = await scripted();
  put(message(1, 'ben', 'kept'));
  await count(page, 1);
  drop();
  put(answer(await next('SUBSCRIBE'), { recovered: 'false' }));
  put(answer(await next('SUBSCRIBE'), { recovered: 'false' }));
  await page.locator('#notice[data-kind="warning"]').waitFor();
  assert.deepEqual(await bodies(page), ['kept']);
  await page.context().close();
}

step('a refused message says why, is not sent again by itself, and can be sent again or given up');
{
  const { page, next, put, drop } = await scripted();
  await write(page, 'bad');
  const bad = await next('SEND');
  put(frame('ERROR', { message: 'Not allowed.', code: 'x', 'receipt-id': bad.headers.receipt }, 'It is rude.'));
  drop();
  await page.locator('.message[data-state="failed"]', { hasText: 'Not allowed. It is rude.' }).waitFor();
  put(answer(await next('SUBSCRIBE'), {}));
  await connected(page);
  await page.reload();
  await next('SUBSCRIBE');
  await connected(page);
  assert.deepEqual(await data(page, 'state'), ['failed']);
  await page.click('.retry');
  const retried = await next('SEND');
  assert.equal(retried.headers['idempotency-key'], bad.headers['idempotency-key']);
  put(frame('ERROR', { message: 'Not allowed.', 'receipt-id': retried.headers.receipt }));
  drop();
  await page.click('.discard');
  await count(page, 0);

  step('an ERROR that names no message blames none before it has come three times');
  await next('SUBSCRIBE');
  await write(page, 'poison');
  for (let time = 1; time <= 3; time += 1) {
    await next('SEND');
    put(frame('ERROR', { message: 'Malformed.' }));
    drop();
    if (time < 3) await next('SUBSCRIBE');
  }
  await page.locator('.message[data-state="failed"]').waitFor();
  assert.equal(await page.locator('#notice-text').textContent(), 'Malformed.');
  await page.context().close();
}

assert.deepEqual(faults, [], 'the pages had errors');
await browser.close();
done();

// A page of ada's whose server is this script: `next` waits for a frame of the page, `put` sends
// texts, `pieces` sends one in binary messages of that length, `drop` closes the connection.
async function scripted() {
  const page = await visitor();
  const frames = [];
  const waiting = [];
  const history = [];
  let socket;
  await page.route(`${SERVER}/**`, (route) => {
    const { pathname } = new URL(route.request().url());
    if (pathname.startsWith('/api/')) return route.fulfill({ json: history.shift() ?? { messages: [], complete: true } });
    const file = pathname === '/' ? 'index.html' : pathname.slice(1);
    return route.fulfill({ body: readFileSync(new URL(file, FILES)), contentType: `${TYPES[extname(file)]}; charset=utf-8` });
  });
  await page.routeWebSocket(/\/ws$/, (opened) => {
    socket = opened;
    socket.onMessage((data) => {
      if (data === '\n') return;
      const read = parse(data);
      if (read.command === 'CONNECT') {
        assert.equal(read.headers.login, 'ada');
        socket.send(frame('CONNECTED', { version: '1.2', 'heart-beat': '10000,10000', 'user-name': 'ada' }));
        return;
      }
      const waiter = waiting.findIndex(({ command }) => command === read.command);
      if (waiter >= 0) waiting.splice(waiter, 1)[0].resolve(read);
      else frames.push(read);
    });
  });
  const next = (command) => {
    const ready = frames.findIndex((read) => read.command === command);
    if (ready >= 0) return frames.splice(ready, 1)[0];
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no ${command} came`)), 30_000);
      waiting.push({ command, resolve: (read) => { clearTimeout(timer); resolve(read); } });
    });
  };
  await enter(page, SERVER, ROOM, 'ada');
  let subscription = await next('SUBSCRIBE');
  socket.send(answer(subscription, { recovered: 'true' }));
  const fill = (text) => text.replaceAll(SUBSCRIPTION, subscription.headers.id);
  return {
    page,
    history,
    put: (...all) => all.forEach((one) => socket.send(fill(one))),
    pieces: (text, length) => {
      const octets = Buffer.from(fill(text));
      for (let start = 0; start < octets.length; start += length) socket.send(octets.subarray(start, start + length));
    },
    drop: () => socket.close({ code: 1012 }),
    next: async (command) => {
      const read = await next(command);
      if (command === 'SUBSCRIBE') subscription = read;
      return read;
    },
  };
}

function range(first, last) {
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}

function id(number) {
  return `0190a000-0000-7000-8000-${String(number).padStart(12, '0')}`;
}

function at(number) {
  return new Date(Date.UTC(2026, 0, 1, 0, 0, number)).toISOString();
}

function json(number) {
  return { id: id(number), room: ROOM, sender: 'ben', createdAt: at(number), body: `m${number}` };
}

function frame(command, headers, body = '') {
  const escape = (value) => value.replace(/[\\:\n\r]/g, (c) => ({ '\\': '\\\\', ':': '\\c', '\n': '\\n', '\r': '\\r' })[c]);
  const lines = Object.entries(headers).map(([name, value]) => `${name}:${command === 'CONNECTED' ? value : escape(value)}`);
  return `${command}\n${lines.join('\n')}\ncontent-length:${Buffer.byteLength(body)}\n\n${body}\0`;
}

function message(number, sender, body, replayed = false) {
  return frame('MESSAGE', {
    subscription: SUBSCRIPTION,
    'message-id': id(number),
    destination: `/topic/rooms/${ROOM}`,
    'content-type': 'text/plain',
    sender,
    'created-at': at(number),
    ...(replayed && { replayed: 'true' }),
  }, body);
}

function receipt(sent, number) {
  return frame('RECEIPT', { 'receipt-id': sent.headers.receipt, 'message-id': id(number), 'created-at': at(number) });
}

function answer(sent, headers) {
  return frame('RECEIPT', { 'receipt-id': sent.headers.receipt, ...headers });
}

function parse(data) {
  const end = data.indexOf('\n\n');
  const [command, ...lines] = data.slice(0, end).split('\n');
  const plain = (value) => value.replace(/\\(.)/g, (_, c) => ({ c: ':', n: '\n', r: '\r', '\\': '\\' })[c]);
  const headers = Object.fromEntries(lines.map((line) => {
    const colon = line.indexOf(':');
    return [line.slice(0, colon), plain(line.slice(colon + 1))];
  }));
  return { command, headers, body: data.slice(end + 2, -1) };
}
