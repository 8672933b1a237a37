// The chat page in a real browser, of a server that wants tokens: how it gets them, what it says when
// one is refused or runs out, and that it shows none.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

import { bodies, browser, connected, count, data, faults, stored, visitor, write } from './browser.mjs';
import { ask, done, server, step } from './driver.mjs';
import { token } from './snippet.mjs';

const ROOM = 'lobby';
// Long enough for a page to connect on a busy machine.
const SHORT_S = 6;
const SHOTS = process.env.ROOMCAST_SHOTS;
const PHONE = { viewport: { width: 390, height: 780 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };

const secret = randomBytes(24).toString('hex');
const given = [];
await ask('kill');
await ask(`start --auth jwt --jwt-key ${secret} --jwt-leeway 0s`);

const ada = await visitor();
const ben = await visitor({ ...PHONE, colorScheme: 'dark' });

step('a server that wants tokens is asked for one, not for a name');
await ada.goto(server);
await ada.locator('#token').waitFor();
assert(await ada.locator('#name').isHidden());
assert.equal(await ada.textContent('#pick'), 'Pick a room.');
for (const field of ['#token', '#proof-token']) assert.equal(await ada.getAttribute(field, 'type'), 'password');
await ada.fill('#room', ROOM);
await shot('token-desktop-light', ada);
await ada.click('#join-form button.primary');
await says(ada, '#join-error', 'give a token');
await ada.fill('#token', 'two words');
await ada.click('#join-form button.primary');
await says(ada, '#join-error', 'no token');
assert.equal(await ada.inputValue('#token'), '');
assert.equal(await ada.evaluate(() => document.activeElement.id), 'token');

step('a wrong token is told, and another one is taken');
await ada.fill('#token', made('ada', {}, 600, 'x'.repeat(48)));
await ada.click('#join-form button.primary');
await refused(ada, 'Not signed in', 'refuses this token');
await hidden(ada);
await proves(ada, 'no token at all');
await says(ada, '#proof-error', 'no token');
await proves(ada, `Bearer ${made('ada')}`);
await connected(ada);
assert.equal(await ada.textContent('#who'), 'ada');
assert(await ada.locator('#proof').isHidden());

step('a link brings a token along, which leaves the address at once');
await ben.goto(`${server}/?room=${ROOM}#token=${made('ben', {}, SHORT_S)}`);
await connected(ben);
assert.equal(ben.url(), `${server}/?room=${ROOM}`);
assert.equal(await ben.textContent('#who'), 'ben');
await hidden(ben);

step('who has none is told so in a room too');
const nobody = await visitor(PHONE);
await nobody.goto(`${server}/?room=${ROOM}&name=mallory`);
await refused(nobody, 'Not signed in', 'needs a token');
await shot('token-phone-light', nobody);
await nobody.click('#leave');
await nobody.locator('#token').waitFor();
await shot('join-phone-light', nobody);
await nobody.context().close();

step('a token that runs out is asked for anew, and what is written waits');
await write(ada, 'hello');
await write(ben, 'before it runs out');
await stored(ben, 2);
await ben.fill('#text', 'typed and not sent');
await refused(ben, 'Token expired', 'has expired');
assert.equal(await ben.inputValue('#text'), 'typed and not sent');
await shot('expired-phone-dark', ben);
for (let index = 1; index <= 60; index += 1) await write(ada, `while ben is away ${index}`);
await stored(ada, 62);
await ben.fill('#text', '토큰 없이 쓴 말');
await ben.click('#send');
await ben.fill('#text', 'typed and not sent');
assert.deepEqual((await data(ben, 'state')).at(-1), 'sending');
await proves(ben, made('ben', {}, SHORT_S));
await stored(ben, 63);
await count(ada, 63);
assert.equal(await ben.inputValue('#text'), 'typed and not sent');
assert.deepEqual(await bodies(ben), await bodies(ada));
assert.deepEqual(await data(ben, 'id'), await data(ada, 'id'));
await hidden(ben);

step('nothing is lost or doubled when it runs out in the middle of what is being sent');
// Written all the while, whatever the state: the last ones wait for the next token.
await ben.evaluate(() => {
  window.written = 0;
  window.writing = setInterval(() => {
    window.written += 1;
    document.querySelector('#text').value = `on and on ${window.written}`;
    document.querySelector('#composer').requestSubmit();
  }, 20);
});
await refused(ben, 'Token expired', 'has expired');
await ben.waitForFunction(() => document.querySelectorAll('[data-state="sending"]').length > 5);
const written = await ben.evaluate(() => { clearInterval(window.writing); return window.written; });
await proves(ben, made('ben', {}, SHORT_S));
await stored(ben, 63 + written);
await count(ada, 63 + written);
const said = (await bodies(ada)).filter((body) => body.startsWith('on and on '));
assert.deepEqual(said, Array.from({ length: written }, (_, index) => `on and on ${index + 1}`));

step('a reload keeps the tab’s token and what waits, and asks again for one that has run out');
await refused(ben, 'Token expired', 'has expired');
await write(ben, 'written before the reload');
await ben.reload();
await refused(ben, 'Token expired', 'has expired');
assert.equal(await ben.textContent('#who'), 'ben');
assert.deepEqual(await bodies(ben), ['written before the reload']);
step('another’s token takes the page over, and sends nothing of what waits');
await proves(ben, made('carol'));
await connected(ben);
assert.equal(await ben.textContent('#who'), 'carol');
await write(ben, 'from carol');
await count(ada, 64 + written);
assert.deepEqual([(await bodies(ada)).at(-1), (await data(ada, 'sender')).at(-1)], ['from carol', 'carol']);
await ben.goto(`${server}/?room=${ROOM}#token=${made('ben')}`);
await connected(ben);
assert.equal(await ben.textContent('#who'), 'ben');
assert.equal(ben.url(), `${server}/?room=${ROOM}`);
await count(ada, 65 + written);
assert.equal((await bodies(ada)).at(-1), 'written before the reload');
await ada.reload();
await connected(ada);
assert.equal(await ada.textContent('#who'), 'ada');
await hidden(ada);

step('a token that waits in the form has run out: another is asked for');
await ben.goto(`${server}/#token=${made('ben', {}, -60)}`);
await says(ben, '#join-error', 'not valid any more');
await ben.locator('#token').waitFor();
await shot('join-phone-dark', ben);

step('a room that the token does not open is told, and one that it opens half is read');
const dora = await visitor({ colorScheme: 'dark' });
await dora.goto(`${server}/?room=board#token=${made('dora', { rooms: { [ROOM]: 'r' } })}`);
await refused(dora, 'Not allowed', 'not allowed in this room');
await shot('forbidden-desktop-dark', dora);
await hidden(dora);
await dora.goto(`${server}/?room=${ROOM}`);
await connected(dora);
await count(dora, 50);
await write(dora, 'may I?');
await dora.locator('.message[data-state="failed"]', { hasText: 'may I?' }).waitFor();
assert.equal(await dora.textContent('.message[data-state="failed"] .why'), 'This is not allowed.');
await write(ada, 'she may not');
await dora.locator('.message', { hasText: 'she may not' }).waitFor();
await connected(dora);
assert(!(await bodies(ada)).includes('may I?'));
await shot('read-only-desktop-dark', dora);

step('another token lets her in where the first did not');
await dora.goto(`${server}/?room=board`);
await refused(dora, 'Not allowed', 'not allowed in this room');
await proves(dora, made('dora'));
await connected(dora);
await dora.locator('#empty').waitFor();

step('the form says whose token it has, and forgets it when told to');
await dora.click('#leave');
await says(dora, '#holding-text', 'You are dora');
await shot('holding-desktop-dark', dora);
await dora.click('#forget');
await dora.locator('#token').waitFor();
assert.equal(await dora.evaluate(() => sessionStorage.getItem('roomcast:token')), null);

assert.deepEqual(faults, [], 'the pages had errors');
await browser.close();
done();

function made(sub, claims = {}, seconds = 600, by = secret) {
  given.push(token({ sub, rooms: { '*': 'rw' }, ...claims }, by, seconds));
  return given.at(-1);
}

async function proves(page, text) {
  await page.fill('#proof-token', text);
  await page.click('#proof button');
  assert.equal(await page.inputValue('#proof-token'), '');
}

async function refused(page, state, why) {
  await page.locator('#state[data-state="refused"]').waitFor();
  assert.equal(await page.textContent('#state'), state);
  await says(page, '#proof-text', why);
}

async function says(page, selector, part) {
  await page.waitForFunction(([at, text]) => document.querySelector(at)?.textContent.includes(text), [selector, part]);
}

// No token, and no part of one, is where somebody may see it, or where it outlives the tab.
async function hidden(page) {
  const open = await page.evaluate(() => [
    document.documentElement.outerHTML, location.href, document.title, document.cookie, document.referrer,
    ...Object.entries(localStorage).flat(), JSON.stringify(history.state), window.name,
    ...[...document.querySelectorAll('input, textarea')].map(({ value }) => value),
    ...performance.getEntriesByType('resource').map(({ name }) => name),
  ].join('\n'));
  for (const part of given.flatMap((one) => one.split('.').slice(1))) assert(!open.includes(part), 'a token is in sight');
}

async function shot(name, page) {
  if (!SHOTS) return;
  mkdirSync(SHOTS, { recursive: true });
  await page.screenshot({ path: join(SHOTS, `${name}.png`) });
}
