// A web server for the pages that the browser's scripts test with: an empty page that has the
// libraries, and the modules that run in it.

import { readFile } from 'node:fs/promises';
import { createServer, request } from 'node:http';

const FILES = {
  '/sockjs.js': 'node_modules/sockjs-client/dist/sockjs.js',
  '/stompjs.js': 'node_modules/@stomp/stompjs/bundles/stomp.umd.js',
  '/webstomp.js': 'node_modules/webstomp-client/dist/webstomp.js',
  '/stompjs2.js': 'node_modules/stompjs/lib/stomp.js',
  '/burst.mjs': 'burst.mjs',
  '/peer.mjs': 'peer.mjs',
  '/wait.mjs': 'wait.mjs',
};
const LIBRARIES = ['/sockjs.js', '/stompjs.js', '/webstomp.js', '/stompjs2.js'];

const PAGE = `<!doctype html><meta charset="utf-8"><title>clients</title><body>${
  LIBRARIES.map((path) => `<script src="${path}"></script>`).join('')}</body>`;

/// Serves on a free port of the loopback, which is returned. What is asked of `/sockjs` is the
/// upstream server's to answer, as behind a proxy that has page and server under one name.
export async function serve(upstream) {
  const server = createServer(async (asked, response) => {
    const { pathname } = new URL(asked.url, 'http://localhost');
    if (pathname === '/') {
      response.writeHead(200, { 'content-type': 'text/html' }).end(PAGE);
    } else if (pathname in FILES) {
      const text = await readFile(new URL(FILES[pathname], import.meta.url));
      response.writeHead(200, { 'content-type': 'text/javascript' }).end(text);
    } else if (pathname.startsWith('/sockjs/')) {
      forward(asked, response, upstream);
    } else {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  return server.address().port;
}

function forward(asked, response, upstream) {
  const { method, headers, url } = asked;
  const onward = request(new URL(url, upstream), { method, headers }, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
  });
  // Either end may go away in the middle of a stream.
  onward.on('error', () => response.destroy());
  response.on('close', () => onward.destroy());
  asked.pipe(onward);
}
