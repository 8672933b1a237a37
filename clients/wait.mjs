// Waits that end: with what was waited for, at their deadline, or when something else has broken.
// It runs in Node and in a page.

const WAIT_MS = 30_000;

const pending = new Set();
let broken;

/// Has every wait end with this error, those that begin later too.
export function broke(error) {
  broken ??= error;
  for (const waiting of pending) waiting.reject(broken);
}

/// A promise that others keep.
export function waiter(what) {
  const waiting = {};
  waiting.promise = new Promise((resolve, reject) => {
    const end = (settle) => (value) => {
      clearTimeout(waiting.timer);
      pending.delete(waiting);
      settle(value);
    };
    waiting.resolve = end(resolve);
    waiting.reject = end(reject);
  });
  waiting.timer = setTimeout(() => waiting.reject(new Error(`waited in vain for ${what}`)), WAIT_MS);
  pending.add(waiting);
  if (broken) waiting.reject(broken);
  return waiting;
}

/// What has come and was not taken yet, in order.
export class Inbox {
  #what;
  #items = [];
  #takers = [];

  constructor(what) {
    this.#what = what;
  }

  put(item) {
    if (this.#takers.length > 0) this.#takers.shift().resolve(item);
    else this.#items.push(item);
  }

  /// The next one, waiting for it where it has not come.
  async take() {
    if (this.#items.length > 0) return this.#items.shift();
    const taker = waiter(this.#what);
    this.#takers.push(taker);
    return taker.promise;
  }

  async takeAll(many) {
    const taken = [];
    while (taken.length < many) taken.push(await this.take());
    return taken;
  }

  /// What nobody has taken.
  left() {
    return [...this.#items];
  }
}
