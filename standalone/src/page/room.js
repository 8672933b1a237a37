// One room as one person sees it: what is in it, what is still on its way, and how both stay right
// over lost connections. It knows nothing of the page; `view` shows it.

import { authorization } from '/token.js';

/// How many messages are asked for at once.
export const PAGE = 50;
/// What the server takes as one message, less room for its headers, in octets.
export const MAX_BODY = 60 * 1024;

const WINDOW = 16;
const KEEP = 1_000;
const REPEAT_MS = 30_000;
// The server knows a key for 10 minutes; later a repeat could be a second message.
const KEY_LIFE_MS = 9 * 60_000;
const MAX_FAULTS = 3;
// What only another token can change.
const REFUSALS = ['unauthorized', 'token-expired'];

export class Room {
  /// Called with the reader's name when the server has said it.
  onuser = () => {};
  /// Called instead when it is not that of before: this room is not theirs.
  onstranger = () => {};

  #name;
  // Null until the server has said it, where nobody else does.
  #user;
  #link;
  #view;
  // In the order of the page: by id, and then what has none yet, as it was written.
  #messages = [];
  #byId = new Map();
  #receipts = new Map();
  #counter = 0;
  #subscription = null;
  // The newest message that the subscription delivered. A receipt's id does not count: messages
  // before that one may still be on their way.
  #seen = null;
  #complete = false;

  constructor(name, user, link, view) {
    this.#name = name;
    this.#user = user;
    this.#link = link;
    this.#view = view;
    link.onconnected = (user) => this.#welcome(user);
    link.onlost = () => this.#detach();
    link.onframe = (frame) => this.#receive(frame);
    link.ontick = () => this.#pump();
    this.#restore();
  }

  /// Writes a message. It is on the page at once, and is sent when the connection allows.
  send(body) {
    this.#draft({ key: randomKey(), body, at: new Date(), sentAt: 0, state: 'sending' });
    this.#save();
    this.#pump();
  }

  /// Sends once more what failed, under its first key.
  retry(message) {
    this.#show(Object.assign(message, { state: 'sending', why: '', sentAt: 0, faults: 0 }));
    this.#save();
    this.#pump();
  }

  /// Takes what failed off the page.
  discard(message) {
    this.#remove(message);
    this.#save();
  }

  /// Fetches the page of history before the oldest message; throws what a person can read.
  async older() {
    const oldest = this.#oldest;
    if (!oldest || this.#complete) return;
    const token = authorization();
    const answer = await fetch(`/api/rooms/${this.#name}/messages?limit=${PAGE}&before=${oldest}`, {
      headers: token ? { Authorization: token } : {},
    });
    const { messages, complete, error } = await answer.json().catch(() => ({}));
    if (!answer.ok || !messages) throw new Error(error?.message ?? `HTTP ${answer.status}`);
    // A page with holes is none: what is missing in it would never be asked for again.
    if (!complete) throw new Error('the server cannot read all of them at the moment.');
    // The room may have been loaded again meanwhile.
    if (this.#oldest !== oldest) return;
    this.#view.prepend(() => {
      for (const { id, sender, createdAt, body, bodyBase64 } of messages) {
        this.#arrive(id, sender, createdAt, body ?? `[${atob(bodyBase64).length} octets]`);
      }
    });
    this.#complete = messages.length < PAGE;
    this.#report();
  }

  get #oldest() {
    return this.#messages.find((message) => message.id)?.id;
  }

  #welcome(user) {
    if (this.#user !== null && this.#user !== user) {
      // What waits here is another's, and must not be sent as this one's.
      this.onstranger(user);
      return;
    }
    this.onuser(user);
    if (this.#user === null) this.#become(user);
    this.#attach(null);
  }

  // So far there was nothing but what has been written since the page was opened.
  #become(user) {
    const written = [...this.#messages];
    for (const message of written) this.#remove(message);
    this.#user = user;
    this.#restore();
    for (const message of written) this.#draft(message);
    this.#save();
  }

  // `gap` is the message after which something may be missing, when the room is loaded again.
  #attach(gap) {
    if (this.#subscription) this.#link.send('UNSUBSCRIBE', { id: this.#subscription.id });
    const after = gap ? null : this.#seen;
    this.#subscription = { id: `room-${(this.#counter += 1)}`, after, gap, count: 0, first: null };
    this.#link.send('SUBSCRIBE', {
      id: this.#subscription.id,
      destination: `/topic/rooms/${this.#name}`,
      ...(after ? { after } : { history: PAGE }),
      receipt: this.#expect({ subscription: this.#subscription }),
    });
    this.#pump();
  }

  #detach() {
    this.#subscription = null;
    this.#receipts.clear();
    for (const message of this.#messages) message.inFlight = false;
  }

  #receive({ command, headers, body }) {
    if (command === 'MESSAGE') {
      // What is left of an earlier subscription.
      if (headers.get('subscription') !== this.#subscription.id) return;
      // It is in no history, and not where the room goes on from. The page shows what stays.
      if (headers.get('ephemeral')) return;
      const id = headers.get('message-id');
      if (!this.#seen || id > this.#seen) this.#seen = id;
      if (headers.get('replayed')) {
        this.#subscription.first ??= id;
        this.#subscription.count += 1;
      }
      this.#arrive(id, headers.get('sender') ?? '', headers.get('created-at'), body);
      this.#trim();
      this.#report();
    } else if (command === 'RECEIPT') {
      const waiting = this.#receipts.get(headers.get('receipt-id'));
      this.#receipts.delete(headers.get('receipt-id'));
      if (waiting?.message) this.#stored(waiting.message, headers);
      else if (waiting?.subscription) this.#attached(waiting.subscription, headers);
    } else if (command === 'ERROR') {
      this.#refused(headers, body);
    }
  }

  // The past that was asked for is here, or as much of it as the server could find.
  #attached(subscription, headers) {
    if (subscription !== this.#subscription) return;
    const { after, gap, first, count } = subscription;
    const recovered = headers.get('recovered') !== 'false';
    this.#link.settle();
    if (after && !recovered) {
      this.#attach(after);
      return;
    }
    if (!recovered) {
      this.#view.notice('warning', 'The server cannot say whether this is all: some messages may be missing here.');
    } else if (gap && first > gap && count === PAGE) {
      // What is before the newest page is fetched by reading back, as on the first visit.
      for (const message of this.#messages.filter(({ id }) => id && id < first)) this.#withdraw(message);
      this.#complete = false;
      this.#view.notice('warning', 'You were away for too long to catch up one by one, so the room was '
        + 'loaded again. Read back for what came meanwhile.');
    }
    this.#view.attached();
    this.#report();
    // Fewer than were asked for: mostly the whole room, but a server may give less at once. Should
    // this fail, the reader can still ask for more.
    if (!after && count < PAGE) this.older().catch(() => {});
  }

  // The server's word on one message: its id, and that it is in the history.
  #stored(message, headers) {
    const id = headers.get('message-id');
    const { id: guess, at } = message;
    if (guess !== id) {
      this.#take(message);
      const copy = this.#byId.get(id);
      if (copy) this.#withdraw(copy);
      this.#add(Object.assign(message, { id, at: new Date(headers.get('created-at')) }));
      // What was taken for this one came from another window under the same name.
      if (guess) this.#arrive(guess, this.#user, at, message.body);
    }
    message.state = 'stored';
    this.#show(message);
    this.#save();
    this.#pump();
    this.#report();
  }

  #refused(headers, detail) {
    const message = headers.get('message') ?? 'The server closed the connection.';
    // Where there is nothing more exact to say the body ends with the same sentence.
    const text = detail.includes(message) ? message : `${message} ${detail}`.trim();
    const culprit = this.#receipts.get(headers.get('receipt-id'))?.message;
    const code = headers.get('code');
    // A message that is forbidden does not end one's stay.
    if (REFUSALS.includes(code) || (code === 'forbidden' && !culprit)) {
      this.#link.hold(code);
      return;
    }
    if (!culprit) this.#view.notice('error', text);
    for (const message of culprit ? [culprit] : this.#messages) {
      if (!message.inFlight || message.id) continue;
      // Without a name it may be any of these: one that is refused again and again is the one.
      message.faults = (message.faults ?? 0) + 1;
      if (culprit || message.faults >= MAX_FAULTS) this.#fail(message, text);
    }
  }

  #fail(message, why) {
    Object.assign(message, { state: 'failed', why, inFlight: false });
    this.#show(message);
    this.#save();
  }

  #arrive(id, sender, at, body) {
    if (this.#byId.has(id)) return;
    const mine = sender === this.#user;
    // One's own message mostly comes before its receipt. It takes the place of the draft, and
    // should the receipt name another id, `#stored` parts them again.
    const draft = mine && this.#messages.find((other) => (
      !other.id && other.state === 'sending' && other.sentAt > 0 && other.body === body
    ));
    if (draft) this.#take(draft);
    this.#add(Object.assign(draft || { sender, mine, body }, { id, at: new Date(at) }));
  }

  // Sends what waits, in order, and again what has waited too long for its receipt.
  #pump() {
    if (!this.#link.connected) return;
    const waiting = this.#messages.filter(({ state }) => state === 'sending');
    const now = Date.now();
    let free = WINDOW - waiting.filter(({ inFlight }) => inFlight).length;
    for (const message of waiting) {
      if (message.sentAt > 0 && now - message.sentAt > KEY_LIFE_MS) {
        if (message.id) this.#show(Object.assign(message, { state: undefined, inFlight: false }));
        else this.#fail(message, 'It is not known whether this was sent.');
        continue;
      }
      if (message.inFlight ? now - message.triedAt < REPEAT_MS : free <= 0) continue;
      if (!message.inFlight) free -= 1;
      Object.assign(message, { inFlight: true, triedAt: now, sentAt: message.sentAt || now });
      this.#save();
      this.#link.send('SEND', {
        destination: `/app/rooms/${this.#name}`,
        'content-type': 'text/plain;charset=utf-8',
        'idempotency-key': message.key,
        'receipt-after': 'stored',
        receipt: this.#expect({ message }),
      }, message.body);
    }
  }

  #expect(waiting) {
    const receipt = `receipt-${(this.#counter += 1)}`;
    this.#receipts.set(receipt, waiting);
    return receipt;
  }

  #add(message) {
    let at = this.#messages.length;
    if (message.id) {
      const later = (other) => !other.id || other.id > message.id;
      while (at > 0 && later(this.#messages[at - 1])) at -= 1;
      this.#byId.set(message.id, message);
    }
    this.#messages.splice(at, 0, message);
    this.#show(message);
  }

  #show(message) {
    this.#view.place(message, this.#messages[this.#messages.indexOf(message) + 1]);
  }

  #take(message) {
    this.#messages.splice(this.#messages.indexOf(message), 1);
    this.#byId.delete(message.id);
  }

  #remove(message) {
    this.#take(message);
    this.#view.remove(message);
  }

  // Takes a message out of the room's past; what has no receipt yet goes back among the drafts.
  #withdraw(message) {
    if (message.state !== 'sending') {
      this.#remove(message);
      return;
    }
    this.#take(message);
    this.#add(Object.assign(message, { id: undefined }));
  }

  // A page that stays open for days keeps its newest messages; the others can be loaded again.
  #trim() {
    if (this.#messages.length < 2 * KEEP || !this.#view.atEnd) return;
    for (const message of this.#messages.slice(0, -KEEP)) {
      if (message.id && message.state !== 'sending') this.#remove(message);
    }
    this.#complete = false;
  }

  #report() {
    const kept = this.#messages.some((message) => message.id);
    this.#view.past({
      empty: this.#messages.length === 0,
      more: kept && !this.#complete,
      complete: kept && this.#complete,
    });
  }

  get #storageKey() {
    return `roomcast:${this.#name}:${this.#user}`;
  }

  // What has no receipt outlives a reload of the page, with its key.
  #save() {
    if (this.#user === null) return;
    const waiting = this.#messages
      .filter(({ state }) => state === 'sending' || state === 'failed')
      .map(({ key, body, at, sentAt, state, why }) => ({ key, body, at, sentAt, state, why }));
    try {
      sessionStorage.setItem(this.#storageKey, JSON.stringify(waiting));
    } catch {
      // A full or forbidden storage costs only this: the page itself still has them.
    }
  }

  #restore() {
    if (this.#user === null) return;
    let waiting = [];
    try {
      waiting = JSON.parse(sessionStorage.getItem(this.#storageKey) ?? '[]');
    } catch {
      // As above.
    }
    for (const message of waiting) this.#draft({ ...message, at: new Date(message.at) });
  }

  #draft(message) {
    this.#add({ ...message, mine: true, sender: this.#user });
  }
}

// `crypto.randomUUID` is missing where the page came over plain HTTP.
function randomKey() {
  const octets = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(octets, (octet) => octet.toString(16).padStart(2, '0')).join('');
}
