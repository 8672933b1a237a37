// The three STOMP libraries for JavaScript behind one face, so that one conversation tests them
// all. Each is used as an application uses it; what it gives to callbacks stays as it is. The
// libraries and the socket are the caller's, so this runs in Node and in a page.

import { broke, Inbox, waiter } from './wait.mjs';

class Peer {
  errors = new Inbox('an ERROR');
  closes = new Inbox('the end of the connection');
  pings = new Inbox('a heart-beat of ours');
  pongs = new Inbox('a heart-beat of the server');
  connects = new Inbox('CONNECTED');
  /// Set where an ERROR or a close is what is looked for; otherwise either ends the test.
  mayEnd = false;
  #receipts = new Map();
  #ids = 0;

  constructor(login) {
    this.login = login;
  }

  receipt(what) {
    this.#ids += 1;
    const id = `${what}-${this.#ids}`;
    const receipt = waiter(`the receipt of ${what}`);
    this.#receipts.set(id, receipt);
    return { id, promise: receipt.promise };
  }

  received({ headers }) {
    const receipt = this.#receipts.get(headers['receipt-id']);
    if (!receipt) broke(new Error(`nobody waits for the receipt ${headers['receipt-id']}`));
    this.#receipts.delete(headers['receipt-id']);
    receipt?.resolve(headers);
  }

  failed(frame) {
    this.errors.put(frame);
    if (!this.mayEnd) broke(new Error(`${this.login} got ERROR ${JSON.stringify(frame.headers)} ${frame.body}`));
  }

  closed(event) {
    this.closes.put(event);
    if (!this.mayEnd) broke(new Error(`${this.login}'s connection ended: ${event?.code} ${event?.reason}`));
  }

  debug(text) {
    if (text === '>>> PING') this.pings.put(Date.now());
    if (text === '<<< PONG') this.pongs.put(Date.now());
  }

  /// A subscription that is live, and what it brings.
  async subscribe(destination, headers = {}) {
    const inbox = new Inbox(`a message in ${destination} for ${this.login}`);
    const receipt = this.receipt('SUBSCRIBE');
    const { unsubscribe } = this.attach(destination, (message) => inbox.put(message), { ...headers, receipt: receipt.id });
    inbox.receipt = await receipt.promise;
    inbox.unsubscribe = unsubscribe;
    return inbox;
  }

  /// Sends, and returns the headers of the RECEIPT.
  async send(destination, body, headers = {}) {
    const receipt = this.receipt('SEND');
    this.publish(destination, body, { ...headers, receipt: receipt.id });
    return receipt.promise;
  }
}

/// @stomp/stompjs 7. `more` goes into its configuration.
export async function stompjs({ Client }, socket, { login = 'ada', passcode = '', heartbeat = 0, ...more } = {}) {
  const peer = new Peer(login);
  const client = new Client({
    webSocketFactory: socket,
    connectHeaders: { login, passcode },
    reconnectDelay: 0,
    heartbeatIncoming: heartbeat,
    heartbeatOutgoing: heartbeat,
    onConnect: (frame) => peer.connects.put(frame.headers),
    onStompError: (frame) => peer.failed(frame),
    onWebSocketClose: (event) => peer.closed(event),
    onUnhandledReceipt: (frame) => peer.received(frame),
    debug: (text) => peer.debug(text),
    ...more,
  });
  peer.client = client;
  peer.attach = (destination, take, headers) => client.subscribe(destination, take, headers);
  peer.publish = (destination, body, headers = {}) => {
    const what = typeof body === 'string' ? { body } : { binaryBody: body };
    client.publish({ destination, headers, ...what });
  };
  peer.begin = (id) => client.begin(id);
  // DISCONNECT with a receipt, and the close after it.
  peer.leave = async () => {
    const receipt = waiter('the receipt of DISCONNECT');
    client.onDisconnect = receipt.resolve;
    peer.mayEnd = true;
    await client.deactivate();
    return (await receipt.promise).command;
  };
  client.activate();
  peer.connected = await peer.connects.take();
  peer.version = peer.connected.version;
  return peer;
}

/// webstomp-client 1.2. `more` goes into its options.
export async function webstomp(library, socket, { login = 'ada', passcode, heartbeat = 0, ...more } = {}) {
  const client = library.over(socket(), { heartbeat: { outgoing: heartbeat, incoming: heartbeat }, ...more });
  return calling(client, { login, passcode }, (destination, body, headers) => client.send(destination, body, headers));
}

/// stompjs 2.3.
export async function stompjs2(library, socket, { login = 'ada', passcode, heartbeat = 0 } = {}) {
  const client = library.over(socket());
  client.heartbeat = { outgoing: heartbeat, incoming: heartbeat };
  return calling(client, { login, passcode }, (destination, body, headers) => client.send(destination, headers, body));
}

// Both have one callback for the connection and one for its faults: an ERROR frame first, then
// what the socket says of its close.
async function calling(client, { login, passcode = '' }, send) {
  const peer = new Peer(login);
  peer.client = client;
  client.debug = (text) => peer.debug(text);
  client.onreceipt = (frame) => peer.received(frame);
  peer.attach = (destination, take, headers) => client.subscribe(destination, take, headers);
  peer.publish = (destination, body, headers = {}) => send(destination, body, { ...headers });
  peer.begin = (id) => client.begin(id);
  // DISCONNECT, and the close without waiting for anything.
  peer.leave = async () => {
    const gone = waiter('the callback of disconnect');
    client.disconnect(gone.resolve);
    return gone.promise;
  };
  client.connect(
    { login, passcode },
    (frame) => peer.connects.put(frame.headers),
    (fault) => (fault.command === 'ERROR' ? peer.failed(fault) : peer.closed(fault)),
  );
  peer.connected = await peer.connects.take();
  peer.version = peer.connected.version;
  return peer;
}
