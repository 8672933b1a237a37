// The chat page in a real browser: several people in one room, a server that is killed and comes
// back, a network that goes and returns. Nothing may be lost, doubled or out of order on any page.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

import { bodies, browser, connected, count, data, enter, faults, stored, visitor, write } from './browser.mjs';
import { ask, done, server, step } from './driver.mjs';

const ROOM = 'lobby';
const PAGE = 50;
const MAX_BODY = 60 * 1024;
const SHOTS = process.env.ROOMCAST_SHOTS;
const PHONE = { viewport: { width: 390, height: 780 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };

const minji = await visitor();
const jonas = await visitor({ colorScheme: 'dark' });

step('a name and a room are chosen in the form, or by the URL');
await minji.goto(server);
await minji.fill('#name', '민지');
await minji.fill('#room', 'no such room!');
await minji.click('#join-form button.primary');
await minji.waitForFunction(() => document.querySelector('#join-error').textContent.includes('room'));
await minji.fill('#room', ROOM);
await minji.click('#join-form button.primary');
await connected(minji);
assert.equal(new URL(minji.url()).searchParams.get('name'), '민지');
assert.equal(await minji.title(), `${ROOM} · Roomcast`);
await minji.locator('#empty').waitFor();
await enter(jonas, server, ROOM, 'Jonas');

step('what one writes is on both pages, once, as it was written');
const written = [
  '안녕하세요! 오늘 오후 세 시에 뵐게요.', 'Hello 👋🏽 Minji 👩‍👩‍👧‍👦', '두 줄\n입니다: \\n "따옴표" \t끝',
  '<img src=x onerror="window.broken = 1"><b>bold</b> &amp;', 'x'.repeat(300), '같은 말', '같은 말', '🙏',
];
for (const [index, body] of written.entries()) {
  const [writer, reader] = index % 2 === 0 ? [minji, jonas] : [jonas, minji];
  await write(writer, body);
  await stored(writer, index + 1);
  await count(reader, index + 1);
}
for (const page of [minji, jonas]) assert.deepEqual(await bodies(page), written);
await same([minji, jonas]);
assert.equal(await minji.locator('#messages img, #messages b').count(), 0);
assert.equal(await minji.evaluate(() => window.broken), undefined);
assert.deepEqual(await data(minji, 'sender'), written.map((_, index) => (index % 2 === 0 ? '민지' : 'Jonas')));

step('Enter that ends a composition sends nothing, and Shift+Enter is a new line');
await minji.fill('#text', '한글');
await minji.locator('#text').dispatchEvent('keydown', { key: 'Enter', isComposing: true });
await minji.locator('#text').press('Shift+Enter');
assert.equal(await minji.inputValue('#text'), '한글\n');
await minji.fill('#text', '');

step('a body that is too large is refused before it is sent, and the largest is not');
await minji.fill('#text', 'y'.repeat(MAX_BODY + 1));
await minji.locator('#text').press('Enter');
await minji.waitForFunction(() => document.querySelector('#composer-error').textContent.includes('KiB'));
assert.equal((await minji.inputValue('#text')).length, MAX_BODY + 1);
await write(minji, '가'.repeat(MAX_BODY / 3));
await stored(minji, written.length + 1);
await count(jonas, written.length + 1);
assert.deepEqual(await bodies(jonas), [...written, '가'.repeat(MAX_BODY / 3)]);

step('a late visitor reads back to the beginning, and stays where they read');
await burst(jonas, 130, 'line');
await stored(jonas, written.length + 131);
const ada = await visitor(PHONE);
await enter(ada, server, ROOM, 'Ada');
await count(ada, PAGE);
await ada.waitForFunction(() => {
  const log = document.querySelector('#log');
  return log.scrollHeight - log.scrollTop - log.clientHeight < 2;
});
for (;;) {
  const before = await ada.locator('.message').count();
  const anchor = await ada.locator('.message').first().elementHandle();
  await ada.locator('#log').evaluate((log) => { log.scrollTop = 0; });
  await ada.waitForFunction((many) => (
    document.querySelectorAll('.message').length > many || !document.querySelector('#beginning').hidden
  ), before);
  if (await ada.locator('#beginning').isVisible()) break;
  const { y } = await anchor.boundingBox();
  assert(y > -50 && y < 780, `what was read has moved to ${y}`);
}
await count(ada, written.length + 131);
await same([minji, jonas, ada]);
assert(await ada.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'the page is wider than the phone');

step('who reads back is told of new messages, and not moved');
await ada.locator('#log').evaluate((log) => { log.scrollTop = 0; });
await write(jonas, 'something new');
await ada.locator('#newest').waitFor();
assert.equal(await ada.locator('#log').evaluate((log) => log.scrollTop), 0);
await ada.click('#newest');
await ada.waitForFunction(() => {
  const log = document.querySelector('#log');
  return log.scrollHeight - log.scrollTop - log.clientHeight < 2;
});
await stored(jonas, written.length + 132);

step('light and dark are different, and readable');
const [light, dark] = await Promise.all([minji, jonas].map((page) => (
  page.evaluate(() => Number(getComputedStyle(document.body).backgroundColor.match(/\d+/)[0]))
)));
assert(light > 200 && dark < 60, `the grounds are ${light} and ${dark}`);
await shot('desktop-light', minji);
await shot('desktop-dark', jonas);
await shot('phone-light', ada);

step('the server is killed in the middle of a burst, and what is written then is sent once');
await burst(minji, 20, 'before');
await Promise.all([burst(minji, 20, 'during'), ask('kill')]);
for (const page of [minji, jonas, ada]) await page.locator('#state[data-state="offline"]').waitFor();
await write(minji, 'while it is down');
await write(jonas, '서버가 없을 때');
await jonas.locator('.message[data-state="sending"]', { hasText: '서버가 없을 때' }).waitFor();
await shot('phone-offline', ada);
await ask('start');
for (const page of [minji, jonas, ada]) await connected(page);
const all = written.length + 132 + 42;
await stored(minji, all);
await stored(jonas, all);
await same([minji, jonas, ada]);
const said = await bodies(minji);
const numbered = (word, many) => Array.from({ length: many }, (_, index) => `${word} ${index + 1}`);
assert.deepEqual(said.filter((body) => /^(before|during) /.test(body)), [...numbered('before', 20), ...numbered('during', 20)]);
assert.deepEqual(said.filter((body) => body.startsWith('line ')), numbered('line', 130));

step('live delivery goes on after the restart');
await write(jonas, '다시 왔어요');
await write(minji, 'and so am I');
await stored(minji, all + 2);
await stored(jonas, all + 2);
await same([minji, jonas, ada]);

step('a network that goes and returns leaves no hole and no repeat');
await jonas.context().setOffline(true);
await jonas.locator('#state[data-state="offline"]').waitFor();
await write(jonas, 'from the tunnel');
await burst(minji, 70, 'tunnel');
await stored(minji, all + 72);
await jonas.context().setOffline(false);
await connected(jonas);
await stored(jonas, all + 73);
await same([minji, jonas, ada]);

step('a reload shows the same again');
await jonas.reload();
await connected(jonas);
await count(jonas, PAGE);
assert.deepEqual(await data(jonas, 'id'), (await data(minji, 'id')).slice(-PAGE));

step('the pages and the history agree');
const history = [];
for (let before = ''; ;) {
  const answer = await fetch(`${server}/api/rooms/${ROOM}/messages?limit=100${before}`);
  const { messages } = await answer.json();
  if (messages.length === 0) break;
  history.unshift(...messages);
  before = `&before=${messages[0].id}`;
}
assert.deepEqual(await data(minji, 'id'), history.map(({ id }) => id));
assert.deepEqual(await bodies(minji), history.map(({ body }) => body));

const dim = await visitor({ ...PHONE, colorScheme: 'dark' });
await enter(dim, server, ROOM, '하늘');
await count(dim, PAGE);
await write(dim, '어두운 화면에서도 잘 보이네요 🌙');
await dim.locator('.message[data-state="stored"]').waitFor();
await shot('phone-dark', dim);

assert.deepEqual(faults, [], 'the pages had errors');
await browser.close();
done();

// As fast as the page takes it, which no keyboard is.
async function burst(page, many, word) {
  await page.evaluate(([count, name]) => {
    for (let index = 1; index <= count; index += 1) {
      document.querySelector('#text').value = `${name} ${index}`;
      document.querySelector('#composer').requestSubmit();
    }
  }, [many, word]);
}

// Until all pages have the same messages; each once and in the order of the ids.
async function same(pages) {
  const [first, ...others] = pages;
  const wanted = await data(first, 'id');
  assert.deepEqual(wanted, [...new Set(wanted)].sort());
  for (const page of others) {
    await count(page, wanted.length);
    assert.deepEqual(await data(page, 'id'), wanted);
    assert.deepEqual(await bodies(page), await bodies(first));
  }
}

async function shot(name, page) {
  if (!SHOTS) return;
  mkdirSync(SHOTS, { recursive: true });
  await page.screenshot({ path: join(SHOTS, `${name}.png`) });
}
