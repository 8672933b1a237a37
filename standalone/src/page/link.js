// One STOMP connection that comes back by itself, with heart-beats in both directions.

import { Decoder, encode } from '/stomp.js';

const PROTOCOLS = ['v12.stomp', 'v11.stomp', 'v10.stomp'];
const BEAT_MS = 10_000;
const CONNECT_MS = 10_000;
const MIN_PAUSE_MS = 500;
const MAX_PAUSE_MS = 30_000;
// Closes after which to come back as one is fails the same way, for when their ERROR got lost.
const HELD = new Map([[3000, 'unauthorized'], [4001, 'token-expired']]);

export class Link {
  /// Called with `{ name: 'connecting' | 'connected' | 'offline' | 'refused', retryAt?, why? }`;
  /// `retryAt` as of `Date.now()`, `why` as of `hold`.
  onstate = () => {};
  /// Called with the user's name when the server has answered CONNECTED.
  onconnected = () => {};
  /// Called when the connection is gone, however it went.
  onlost = () => {};
  /// Called with each frame after CONNECTED, and with an ERROR at any time.
  onframe = () => {};
  /// Called every few seconds while connected.
  ontick = () => {};

  #credentials;
  #socket = null;
  #decoder;
  #connected = false;
  #closed = false;
  #held = false;
  #failures = 0;
  #retry;
  #startedAt = 0;
  #sentAt = 0;
  #heardAt = 0;
  #beats = { out: 0, in: 0 };
  #ticker;

  /// `credentials` returns the headers of CONNECT that say who one is.
  constructor(credentials) {
    this.#credentials = credentials;
    this.#ticker = new Worker('/beat.js');
    this.#ticker.onmessage = () => this.#tick();
    this.#listen(true);
  }

  get connected() {
    return this.#connected;
  }

  /// Connects now, when it is not connected or about to be.
  open = () => {
    if (this.#socket || this.#closed) return;
    clearTimeout(this.#retry);
    this.#held = false;
    this.#startedAt = Date.now();
    this.#decoder = new Decoder();
    this.onstate({ name: 'connecting' });
    const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
    const socket = new WebSocket(`${scheme}://${location.host}/ws`, PROTOCOLS);
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => this.#write('CONNECT', {
      'accept-version': '1.2,1.1,1.0',
      host: location.hostname,
      ...this.#credentials(),
      'heart-beat': `${BEAT_MS},${BEAT_MS}`,
    });
    socket.onmessage = (event) => this.#read(socket, event.data);
    socket.onclose = ({ code }) => (HELD.has(code) ? this.hold(HELD.get(code)) : this.#lose(socket));
    this.#socket = socket;
  };

  /// Sends a frame; what is sent while not connected is lost, as on a connection that breaks.
  send(command, headers, body) {
    if (this.#connected) this.#write(command, headers, body);
  }

  /// Ends the connection and makes no other before `open` is called, because to come back as one is
  /// would be refused again; `why` is the `code` of the refusal.
  hold(why) {
    this.#held = true;
    this.#drop();
    this.onlost();
    this.onstate({ name: 'refused', why });
  }

  /// The server has proved useful: the next break is not a failure to connect.
  settle() {
    this.#failures = 0;
  }

  /// Leaves, for good.
  close() {
    this.#closed = true;
    clearTimeout(this.#retry);
    this.#ticker.terminate();
    this.#listen(false);
    this.send('DISCONNECT', {});
    this.#drop();
  }

  #listen(on) {
    const change = on ? 'addEventListener' : 'removeEventListener';
    window[change]('online', this.#again);
    window[change]('pageshow', this.#again);
    window[change]('offline', this.#offline);
    document[change]('visibilitychange', this.#seen);
  }

  #again = () => {
    if (!this.#held) this.open();
  };

  #seen = () => {
    if (!document.hidden) this.#again();
  };

  // The connection may still look open for minutes; a new one tells.
  #offline = () => {
    if (this.#socket) this.#lose(this.#socket);
  };

  #write(command, headers, body) {
    this.#socket.send(encode(command, headers, body, this.#decoder.version));
    this.#sentAt = Date.now();
  }

  #read(socket, data) {
    this.#heardAt = Date.now();
    let frames = [];
    try {
      frames = [...this.#decoder.feed(data)];
    } catch (error) {
      this.onframe({ command: 'ERROR', headers: new Map([['message', error.message]]), body: '' });
      this.#lose(socket);
    }
    for (const frame of frames) {
      // The frame before may have ended the connection.
      if (this.#socket !== socket) return;
      if (frame.command === 'CONNECTED') this.#welcome(frame.headers);
      else this.onframe(frame);
    }
  }

  #welcome(headers) {
    const [out, wanted] = (headers.get('heart-beat') ?? '0,0').split(',').map(Number);
    // "Heart-beating": 0 on either side means none, else the slower of the two.
    this.#beats = {
      out: wanted > 0 ? Math.max(BEAT_MS, wanted) : 0,
      in: out > 0 ? Math.max(BEAT_MS, out) : 0,
    };
    this.#connected = true;
    this.onstate({ name: 'connected' });
    this.onconnected(headers.get('user-name') ?? '');
  }

  #tick() {
    if (!this.#socket) return;
    const now = Date.now();
    if (!this.#connected) {
      if (now - this.#startedAt > CONNECT_MS) this.#lose(this.#socket);
      return;
    }
    // Twice the time, as the network may delay what was sent in time.
    if (this.#beats.in > 0 && now - this.#heardAt > 2 * this.#beats.in) {
      this.#lose(this.#socket);
      return;
    }
    if (this.#beats.out > 0 && now - this.#sentAt > this.#beats.out / 2) {
      this.#socket.send('\n');
      this.#sentAt = now;
    }
    this.ontick();
  }

  #drop() {
    const socket = this.#socket;
    this.#socket = null;
    this.#connected = false;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  #lose(socket) {
    if (this.#socket !== socket) return;
    this.#drop();
    this.onlost();
    if (this.#closed) return;
    // Jittered from the first pause on, so that a server that restarts is not met by all at once.
    const bound = Math.min(MAX_PAUSE_MS, MIN_PAUSE_MS * 2 ** this.#failures);
    const pause = bound * (0.5 + Math.random() / 2);
    this.#failures += 1;
    this.#retry = setTimeout(this.open, pause);
    this.onstate({ name: 'offline', retryAt: Date.now() + pause });
  }
}
