// Front ends in a real browser, on pages of another origin than the server's: the STOMP libraries
// over WebSocket and over each transport of sockjs-client that the browser has.

import assert from 'node:assert/strict';

import { browser, faults, visitor } from './browser.mjs';
import { ask, done, server, step } from './driver.mjs';
import { serve } from './pages.mjs';

// What crosses to another origin, in the order in which sockjs-client tries them.
const TRANSPORTS = ['websocket', 'xhr-streaming', 'eventsource', 'iframe-eventsource', 'iframe-htmlfile',
  'xhr-polling', 'iframe-xhr-polling', 'jsonp-polling'];
const MANY = 40;
const SIZE = 2_000;

const port = await serve(server);
// One server under several names: to a browser these are different origins, and the last one is
// another origin of the same site as the server.
const home = `http://localhost:${port}`;
const foreign = [`http://elsewhere.localhost:${port}`, `http://127.0.0.1:${port}`];
await ask('kill');
await ask(`start --allowed-origin ${home} --sockjs-client-url ${home}/sockjs.js`);

step('stompjs over WebSocket, from a page of an allowed origin');
assert.equal(await talk(await open(home), 'stompjs', null), undefined);

for (const transport of TRANSPORTS) {
  step(`${transport}: all libraries speak at once, and hear each other in order and once`);
  const page = await open(home);
  assert.equal(await talk(page, 'stompjs,webstomp,stompjs2', transport), undefined);
  step(`${transport}: an ERROR and the reason of the close reach the library`);
  assert.deepEqual(await refusal(page, transport), {
    code: 'bad-destination', close: [1008, 'There is no such destination.', true],
  });
  await page.context().close();
}

step('htmlfile, which needs page and server to be of one origin');
const own = await open(home);
assert.equal(await talk(own, 'stompjs,webstomp,stompjs2', 'htmlfile', home), undefined);

step('with WebSocket switched off, sockjs-client falls back by itself');
const without = await visitor();
await without.addInitScript(() => { delete window.WebSocket; });
await without.goto(home);
assert.equal(await without.evaluate(() => typeof WebSocket), 'undefined');
assert.equal(await talk(without, 'stompjs,webstomp,stompjs2', undefined), undefined);
assert.equal(await without.evaluate(() => window.used), 'xhr-streaming');

// Not after this: a frame that nobody's library has made finds no callback in its parent. And
// sockjs-client takes its JSONP callback away when it closes, while an answer may be on its way.
const late = /_jp\.\w+ is not a function/;
assert.deepEqual(faults.filter((fault) => !late.test(fault)), [], 'the pages had errors');

step('a page of another site is refused, and so is one of another port; the allowed one is not');
assert.deepEqual(await reach(home), ['open', 'open', 'open', 'loaded', 200]);
for (const origin of foreign) assert.deepEqual(await reach(origin), [1006, 1006, 1002, 'refused', 403], origin);

await browser.close();
done();

async function open(origin) {
  const page = await visitor();
  await page.goto(origin);
  return page;
}

// Libraries speak through a transport, or through a plain WebSocket where that is null, or through
// what sockjs-client chooses where it is undefined. Returns what is wrong, or nothing.
async function talk(page, libraries, transport, at = server) {
  return page.evaluate(async ([url, names, forced, many, size]) => {
    const { burst } = await import('/burst.mjs');
    const peer = await import('/peer.mjs');
    const socket = () => {
      if (forced === null) return new WebSocket(`${url.replace('http', 'ws')}/ws`, StompJs.Versions.default.protocolVersions());
      // As in Node: its guess is too bold for a busy machine.
      return new SockJS(`${url}/sockjs`, null, { transports: forced, timeout: 20_000 });
    };
    const sockets = [];
    const keep = () => { sockets.push(socket()); return sockets.at(-1); };
    const open = {
      stompjs: () => peer.stompjs(StompJs, keep, { login: 'stompjs' }),
      webstomp: () => peer.webstomp(webstomp, keep, { login: 'webstomp' }),
      stompjs2: () => peer.stompjs2(Stomp, keep, { login: 'stompjs2' }),
    };
    const peers = [];
    for (const name of names.split(',')) peers.push(await open[name]());
    window.used = sockets[0].transport;
    if (forced && sockets.some(({ transport }) => transport !== forced)) return `${window.used} is used`;
    const wrong = await burst(peers, `page-${forced}-${Date.now()}`, many, size);
    for (const each of peers) await each.leave();
    return wrong;
  }, [at, libraries, transport, MANY, SIZE]);
}

async function refusal(page, transport) {
  return page.evaluate(async ([url, forced]) => {
    const { stompjs } = await import('/peer.mjs');
    let closing;
    const peer = await stompjs(StompJs, () => {
      const socket = new SockJS(`${url}/sockjs`, null, { transports: forced, timeout: 20_000 });
      closing = new Promise((resolve) => {
        socket.addEventListener('close', ({ code, reason, wasClean }) => resolve([code, reason, wasClean]));
      });
      return socket;
    });
    peer.mayEnd = true;
    peer.publish('/app/nowhere', 'x', {});
    const { headers } = await peer.errors.take();
    await peer.closes.take();
    return { code: headers.code, close: await closing };
  }, [server, transport]);
}

// How far a page gets that opens everything there is, those included for which a browser does not
// ask the server's leave: a script and a frame.
async function reach(origin) {
  const page = await open(origin);
  const reached = await page.evaluate(async (url) => {
    const end = (socket) => new Promise((resolve) => {
      socket.onopen = () => resolve('open');
      socket.onclose = ({ code }) => resolve(code);
    });
    window.callback = () => {};
    const script = document.createElement('script');
    const loaded = new Promise((resolve) => {
      script.onload = () => resolve('loaded');
      script.onerror = () => resolve('refused');
    });
    script.src = `${url}/sockjs/000/${Date.now()}/jsonp?c=callback`;
    document.body.append(script);
    return [
      await end(new WebSocket(`${url.replace('http', 'ws')}/ws`)),
      await end(new WebSocket(`${url.replace('http', 'ws')}/sockjs/websocket`)),
      await end(new SockJS(`${url}/sockjs`)),
      await loaded,
    ];
  }, server);
  const framed = page.waitForResponse((answer) => answer.url().includes('/htmlfile'));
  await page.evaluate((url) => {
    const frame = document.createElement('iframe');
    frame.src = `${url}/sockjs/000/${Date.now()}/htmlfile?c=callback`;
    document.body.append(frame);
  }, server);
  const status = (await framed).status();
  await page.context().close();
  return [...reached, status];
}
