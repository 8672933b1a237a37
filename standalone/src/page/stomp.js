// STOMP frames as octets, for the versions 1.0 to 1.2:
// https://stomp.github.io/stomp-specification-1.2.html

const text = new TextEncoder();
const utf8 = new TextDecoder('utf-8', { ignoreBOM: true });
const LF = 10;
const CR = 13;

// "Value Encoding": none in CONNECT and CONNECTED, none in 1.0, no carriage return in 1.1.
const ESCAPES = { '\\': '\\\\', '\n': '\\n', ':': '\\c', '\r': '\\r' };
const UNESCAPES = { '\\\\': '\\', '\\n': '\n', '\\c': ':', '\\r': '\r' };

/// The frame as one string. `headers` is a list of pairs or an object.
export function encode(command, headers, body = '', version = '1.2') {
  const bare = version === '1.0' || command === 'CONNECT';
  const special = version === '1.1' ? /[\\\n:]/g : /[\\\n:\r]/g;
  const escaped = (value) => (bare ? value : value.replace(special, (c) => ESCAPES[c]));
  const lines = [command];
  for (const [name, value] of Array.isArray(headers) ? headers : Object.entries(headers)) {
    lines.push(`${escaped(name)}:${escaped(String(value))}`);
  }
  if (body !== '') lines.push(`content-length:${octets(body)}`);
  return `${lines.join('\n')}\n\n${body}\0`;
}

/// The length of a text in octets of UTF-8, which is what STOMP counts.
export function octets(value) {
  return text.encode(value).length;
}

/// Cuts frames out of WebSocket messages. A frame may span messages, and a message may hold several.
export class Decoder {
  /// As CONNECTED said; what follows it is read, and is to be written, by its rules.
  version = '1.2';
  #rest = new Uint8Array(0);
  #limit;

  constructor(limit = 1 << 20) {
    this.#limit = limit;
  }

  /// Yields `{ command, headers, body }` for each frame that `data` completes; throws what a person
  /// can read when it is no STOMP. `data` is a string or an ArrayBuffer.
  *feed(data) {
    this.#append(typeof data === 'string' ? text.encode(data) : new Uint8Array(data));
    for (;;) {
      const found = this.#cut();
      if (!found) break;
      yield found;
    }
    if (this.#rest.length > this.#limit) throw new Error('The server sent a frame that is too large.');
  }

  #append(octets) {
    if (this.#rest.length === 0) {
      this.#rest = octets;
      return;
    }
    const joined = new Uint8Array(this.#rest.length + octets.length);
    joined.set(this.#rest);
    joined.set(octets, this.#rest.length);
    this.#rest = joined;
  }

  #cut() {
    const data = this.#rest;
    let at = 0;
    // Line ends between frames are heart-beats.
    while (at < data.length && (data[at] === LF || data[at] === CR)) at += 1;
    this.#rest = data.subarray(at);

    const lines = [];
    for (;;) {
      const end = data.indexOf(LF, at);
      if (end < 0) return null;
      const line = data.subarray(at, end > at && data[end - 1] === CR ? end - 1 : end);
      at = end + 1;
      if (line.length === 0) break;
      lines.push(utf8.decode(line));
    }
    const [command, ...rest] = lines;
    const headers = this.#headers(command, rest);

    let end;
    if (headers.has('content-length')) {
      end = at + Number(headers.get('content-length'));
      if (!Number.isSafeInteger(end)) throw new Error('The server sent a bad content-length.');
      if (end >= data.length) return null;
      if (data[end] !== 0) throw new Error('The server sent a frame without its end.');
    } else {
      end = data.indexOf(0, at);
      if (end < 0) return null;
    }
    this.#rest = data.subarray(end + 1);
    if (command === 'CONNECTED') this.version = headers.get('version') ?? '1.0';
    return { command, headers, body: utf8.decode(data.subarray(at, end)) };
  }

  #headers(command, lines) {
    const bare = this.version === '1.0' || command === 'CONNECTED';
    const plain = (value) => {
      if (bare) return value;
      return value.replace(/\\[^]?/g, (escape) => {
        if (escape in UNESCAPES) return UNESCAPES[escape];
        throw new Error('The server sent a header with an unknown escape.');
      });
    };
    const headers = new Map();
    for (const line of lines) {
      const colon = line.indexOf(':');
      if (colon < 0) throw new Error('The server sent a header without a colon.');
      const name = plain(line.slice(0, colon));
      // "Repeated Header Entries": the first one counts.
      if (!headers.has(name)) headers.set(name, plain(line.slice(colon + 1)));
    }
    return headers;
  }
}
