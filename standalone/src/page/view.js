// The room on the page. Text of others only ever becomes `textContent`.

const GROUP_MS = 5 * 60_000;
const TONES = 8;
// Closer to the end than this many pixels is at the end.
const NEAR = 60;
const PROGRESS = { sending: 'Sending…', stored: '✓', failed: 'Not sent' };
const EMOJI = /^(?:\s*(?:\p{RI}{2}|\p{Extended_Pictographic}(?:\ufe0f|\p{Emoji_Modifier})?(?:\u200d\p{Extended_Pictographic}(?:\ufe0f|\p{Emoji_Modifier})?)*)){1,3}\s*$/u;

const clock = new Intl.DateTimeFormat(undefined, { hour: 'numeric', minute: '2-digit' });
const thisYear = new Intl.DateTimeFormat(undefined, { weekday: 'long', month: 'long', day: 'numeric' });
const anyYear = new Intl.DateTimeFormat(undefined, { dateStyle: 'long' });
const moment = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
const letters = new Intl.Segmenter();

const byId = (id) => document.getElementById(id);

export class View {
  /// Called with a message that failed: to send it once more, and to give it up.
  onretry = () => {};
  ondiscard = () => {};
  /// Called when the reader is near the oldest message.
  ontop = () => {};
  /// Shows `(kind, text)` above the messages; kinds are `warning` and `error`.
  notice = () => {};
  /// Called when the room is caught up with.
  attached = () => {};

  #title;
  #log = byId('log');
  #list = byId('messages');
  #template = byId('message').content.firstElementChild;
  #elements = new WeakMap();
  #shown = new WeakMap();
  #atEnd = true;
  #settling = false;
  #unread = 0;
  #unseen = 0;
  #stop = new AbortController();

  constructor(title) {
    this.#title = title;
    const { signal } = this.#stop;
    this.#list.replaceChildren();
    this.past({ empty: false, more: false, complete: false });
    this.#log.addEventListener('scroll', () => this.#scrolled(), { signal, passive: true });
    byId('newest').addEventListener('click', () => this.toEnd(), { signal });
    document.addEventListener('visibilitychange', () => this.#retitle(), { signal });
    const resized = new ResizeObserver(() => this.#settle());
    resized.observe(this.#log);
    signal.addEventListener('abort', () => resized.disconnect());
    this.#count(0);
    this.#retitle();
  }

  /// Whether the newest message is in sight.
  get atEnd() {
    return this.#atEnd;
  }

  /// Gives the page back.
  close() {
    this.#stop.abort();
    this.#list.replaceChildren();
  }

  /// Shows a message as it now is, before `next`, or at the end.
  place(message, next) {
    const old = this.#elements.get(message);
    const element = old ?? this.#create(message);
    const before = next ? this.#elements.get(next) : null;
    // An element that is where it belongs is left there: a move is read out like an addition.
    if (!old || element.nextElementSibling !== before) {
      const left = element.nextElementSibling;
      this.#list.insertBefore(element, before);
      if (left) this.#join(left);
    }
    this.#fill(element, message);
    this.#join(element);
    if (element.nextElementSibling) this.#join(element.nextElementSibling);
    if (!old && !next) this.#announce(message);
    this.#settle();
  }

  /// Takes a message off the page.
  remove(message) {
    const element = this.#elements.get(message);
    const next = element.nextElementSibling;
    element.remove();
    this.#elements.delete(message);
    if (next) this.#join(next);
    else if (this.#list.lastElementChild) this.#join(this.#list.lastElementChild);
  }

  /// Runs `add`, which places older messages, and leaves what is being read where it is.
  prepend(add) {
    const anchor = this.#list.firstElementChild;
    const top = anchor?.getBoundingClientRect().top;
    this.#log.setAttribute('aria-busy', 'true');
    add();
    this.#log.removeAttribute('aria-busy');
    if (anchor) this.#log.scrollTop += anchor.getBoundingClientRect().top - top;
  }

  /// Shows the newest message, and keeps to it.
  toEnd() {
    this.#atEnd = true;
    this.#count(0);
    this.#settle();
  }

  /// What is known of the room's past.
  past({ empty, more, complete }) {
    byId('empty').hidden = !empty;
    byId('older').hidden = !more;
    byId('beginning').hidden = !complete;
  }

  #create(message) {
    const element = this.#template.cloneNode(true);
    this.#elements.set(message, element);
    this.#shown.set(element, message);
    const [initial] = letters.segment(message.sender || '?');
    element.dataset.sender = message.sender;
    element.dataset.tone = tone(message.sender);
    element.classList.toggle('mine', message.mine);
    element.classList.toggle('emoji', EMOJI.test(message.body));
    element.querySelector('.avatar').textContent = initial.segment.toUpperCase();
    element.querySelector('.name').textContent = message.sender;
    element.querySelector('.bubble').textContent = message.body;
    element.querySelector('.retry').addEventListener('click', () => this.onretry(message));
    element.querySelector('.discard').addEventListener('click', () => this.ondiscard(message));
    return element;
  }

  #fill(element, { id, key, at, state, why }) {
    set(element, 'id', id);
    set(element, 'key', key);
    set(element, 'state', state);
    const time = element.querySelector('time');
    time.dateTime = at.toISOString();
    time.textContent = clock.format(at);
    time.title = moment.format(at);
    const progress = element.querySelector('.progress');
    progress.textContent = PROGRESS[state] ?? '';
    if (state === 'stored') {
      progress.title = 'Stored';
      progress.setAttribute('role', 'img');
      progress.setAttribute('aria-label', 'Stored');
    }
    element.querySelector('.failure').hidden = state !== 'failed';
    element.querySelector('.why').textContent = why ?? '';
  }

  // Days and groups depend on the message before, and on whether one follows.
  #join(element) {
    const message = this.#shown.get(element);
    const before = element.previousElementSibling;
    const earlier = before && this.#shown.get(before);
    const sameDay = earlier && earlier.at.toDateString() === message.at.toDateString();
    const day = element.querySelector('.day');
    day.textContent = sameDay ? '' : dayOf(message.at);
    day.hidden = Boolean(sameDay);
    const joined = sameDay && earlier.sender === message.sender && message.at - earlier.at < GROUP_MS;
    element.classList.toggle('first', !joined);
    element.classList.toggle('last', true);
    if (before) before.classList.toggle('last', !joined || clock.format(earlier.at) !== clock.format(message.at));
    const after = element.nextElementSibling;
    if (after) element.classList.toggle('last', after.classList.contains('first'));
  }

  #announce(message) {
    if (message.key) {
      this.toEnd();
    } else if (!this.#atEnd) {
      this.#count(this.#unread + 1);
    }
    if (document.hidden && !message.mine) {
      this.#unseen += 1;
      this.#retitle();
    }
  }

  #count(unread) {
    this.#unread = unread;
    const button = byId('newest');
    button.hidden = unread === 0;
    button.textContent = unread === 1 ? '1 new message ↓' : `${unread} new messages ↓`;
  }

  #retitle() {
    if (!document.hidden) this.#unseen = 0;
    document.title = `${this.#unseen > 0 ? `(${this.#unseen}) ` : ''}${this.#title} · Roomcast`;
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#log;
    // What was added since the last frame has not been scrolled to yet.
    if (this.#settling && this.#atEnd) return;
    this.#atEnd = scrollHeight - scrollTop - clientHeight < NEAR;
    if (this.#atEnd) this.#count(0);
    if (scrollTop < clientHeight / 2 && scrollHeight > clientHeight) this.ontop();
  }

  // Once a frame, however many messages came.
  #settle() {
    if (this.#settling) return;
    this.#settling = true;
    requestAnimationFrame(() => {
      this.#settling = false;
      if (this.#atEnd) this.#log.scrollTop = this.#log.scrollHeight;
    });
  }
}

function set(element, name, value) {
  if (value === undefined) delete element.dataset[name];
  else element.dataset[name] = value;
}

function tone(name) {
  let sum = 0;
  for (const letter of name) sum = (sum * 31 + letter.codePointAt(0)) >>> 0;
  return sum % TONES;
}

function dayOf(date) {
  const now = new Date();
  if (date.toDateString() === now.toDateString()) return 'Today';
  return (date.getFullYear() === now.getFullYear() ? thisYear : anyYear).format(date);
}
