// What every STOMP library must be able to do with the server, through its own interface. Each
// function is given `connect`, which brings a new peer (see `peer.mjs`), and checks one promise.

import assert from 'node:assert/strict';

/// The flags that the test starts the server with.
export const MAX_UNACKNOWLEDGED = 4;

let rooms = 0;

/// Where to subscribe and where to send, in a room that no one else is in.
export function room(name) {
  rooms += 1;
  return { topic: `/topic/rooms/${name}-${rooms}`, app: `/app/rooms/${name}-${rooms}` };
}

/// SUBSCRIBE, SEND, RECEIPT and MESSAGE agree with each other, UNSUBSCRIBE ends it.
export async function talks(connect) {
  const { topic, app } = room('talk');
  const ada = await connect({ login: 'ada' });
  const ben = await connect({ login: 'ben' });
  const adas = await ada.subscribe(topic);
  const bens = await ben.subscribe(topic, { id: 'bens' });
  const body = `안녕하세요 👋 ${ada.version}\n둘째 줄 \u2028 \\ "`;
  const receipt = await ada.send(app, body, { 'content-type': 'text/plain;charset=utf-8', 'x-plain': 'as it is' });
  for (const inbox of [adas, bens]) {
    const { headers, body: heard } = await inbox.take();
    assert.equal(heard, body);
    assert.equal(headers['message-id'], receipt['message-id']);
    assert.equal(headers['created-at'], receipt['created-at']);
    assert.equal(headers.destination, topic);
    assert.equal(headers.sender, 'ada');
    assert.equal(headers['content-type'], 'text/plain;charset=utf-8');
    assert.equal(headers['x-plain'], 'as it is');
    if (inbox === bens) assert.equal(headers.subscription, 'bens');
  }
  bens.unsubscribe();
  await ben.send(app, '', {});
  const empty = await adas.take();
  assert.equal(empty.body, '');
  assert.equal(empty.headers.sender, 'ben');
  // The server answers in order: what it had sent before this receipt would be here.
  await ben.subscribe(topic, {});
  assert.deepEqual(bens.left(), []);
  await ada.leave();
  await ben.leave();
}

/// Without acknowledgements a subscriber gets so many messages and no more; each mode goes on as
/// its acknowledgements allow.
export async function acknowledges(connect) {
  const { topic, app } = room('ack');
  const ada = await connect({ login: 'ada' });
  const all = await ada.subscribe(topic);
  const cumulative = await ada.subscribe(topic, { ack: 'client' });
  const individual = await ada.subscribe(topic, { ack: 'client-individual' });
  const many = 3 * MAX_UNACKNOWLEDGED;
  for (let index = 1; index <= many; index += 1) await ada.send(app, String(index));

  const first = await cumulative.takeAll(MAX_UNACKNOWLEDGED);
  const ones = await individual.takeAll(MAX_UNACKNOWLEDGED);
  assert.deepEqual(bodies(await all.takeAll(many)), numbers(1, many));
  assert.deepEqual(bodies(first), numbers(1, MAX_UNACKNOWLEDGED));
  await nothing(ada, app, [all], [cumulative, individual]);

  // The last one acknowledges those before it.
  first.at(-1).ack();
  assert.deepEqual(bodies(await cumulative.takeAll(MAX_UNACKNOWLEDGED)), numbers(5, 8));
  // One acknowledges itself, and so does a NACK: nothing is delivered again.
  ones[2].ack();
  ones[0].nack();
  assert.deepEqual(bodies(await individual.takeAll(2)), numbers(5, 6));
  // Whoever acknowledges twice is not punished.
  ones[2].ack();
  await nothing(ada, app, [all], [cumulative, individual]);
  cumulative.unsubscribe();
  individual.unsubscribe();
  await ada.send(app, 'still here');
  await ada.leave();
}

/// What is sent in a transaction is published at COMMIT, in order, and never after ABORT; an
/// acknowledgement waits like it.
export async function transacts(connect) {
  const { topic, app } = room('transaction');
  const ada = await connect({ login: 'ada' });
  const inbox = await ada.subscribe(topic);
  const window = await ada.subscribe(topic, { ack: 'client' });
  const kept = ada.begin('kept');
  const dropped = ada.begin();
  ada.publish(app, 'one', { transaction: kept.id });
  ada.publish(app, 'never', { transaction: dropped.id });
  ada.publish(app, 'two', { transaction: kept.id });
  await ada.send(app, 'at once');
  assert.equal((await inbox.take()).body, 'at once');
  dropped.abort();
  kept.commit();
  const [one, two] = await inbox.takeAll(2);
  assert.deepEqual([one.body, two.body], ['one', 'two']);
  assert(!('transaction' in one.headers));
  for (let index = 4; index <= MAX_UNACKNOWLEDGED + 1; index += 1) await ada.send(app, String(index));
  const seen = await window.takeAll(MAX_UNACKNOWLEDGED);
  const acks = ada.begin('acks');
  seen.at(-1).ack({ transaction: acks.id });
  await nothing(ada, app, [inbox], [window]);
  acks.commit();
  assert.equal((await window.take()).body, String(MAX_UNACKNOWLEDGED + 1));
  assert(!bodies(inbox.left()).includes('never'));
  await ada.leave();
}

/// An ERROR reaches the library's callback with its code and its message, then the close.
export async function refuses(connect) {
  const ada = await connect({ login: 'ada' });
  ada.mayEnd = true;
  ada.publish('/app/nowhere', 'x', { receipt: 'r-1' });
  const { headers } = await ada.errors.take();
  assert.equal(headers.code, 'bad-destination');
  assert.equal(headers['receipt-id'], 'r-1');
  assert.match(headers.message, /destination/);
  return ada.closes.take();
}

/// A body that the library sends in several WebSocket messages, near the largest frame.
export async function carries(connect, options = {}) {
  const { topic, app } = room('large');
  const ada = await connect({ login: 'ada', ...options });
  const inbox = await ada.subscribe(topic);
  const large = `가나다 👋 ${'라마바 '.repeat(6_000)}`;
  assert(new TextEncoder().encode(large).length > 58 * 1024);
  await ada.send(app, large, {});
  assert.equal((await inbox.take()).body, large);
  await ada.leave();
}

/// Heart-beats of a second go both ways, and an idle connection outlives several of them.
export async function beats(connect) {
  const idle = await connect({ login: 'idle', heartbeat: 1_000 });
  const { topic, app } = room('idle');
  await Promise.all([idle.pings.takeAll(3), idle.pongs.takeAll(3)]);
  const inbox = await idle.subscribe(topic);
  await idle.send(app, 'still here');
  assert.equal((await inbox.take()).body, 'still here');
  await idle.leave();
}

/// What an application's own headers look like when they come back, by the values sent.
export async function returns(connect, values, options = {}) {
  const { topic, app } = room('headers');
  const ada = await connect({ login: 'ada', ...options });
  const inbox = await ada.subscribe(topic);
  for (const [sent, heard] of values) {
    await ada.send(app, 'x', { 'x-odd': sent });
    assert.equal((await inbox.take()).headers['x-odd'], heard);
  }
  await ada.leave();
}

// The members of `quiet` have nothing, though a message has come to those of `loud`, which are in
// the same room on the same connection.
async function nothing(peer, app, loud, quiet) {
  const mark = `mark ${Date.now()}`;
  await peer.send(app, mark);
  for (const inbox of loud) {
    for (;;) {
      const { body } = await inbox.take();
      if (body === mark) break;
    }
  }
  for (const inbox of quiet) assert.deepEqual(bodies(inbox.left()), []);
}

function bodies(messages) {
  return messages.map(({ body }) => body);
}

function numbers(from, to) {
  return Array.from({ length: to - from + 1 }, (_, index) => String(from + index));
}
