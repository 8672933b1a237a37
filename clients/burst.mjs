// Everybody speaks at once, and everybody hears everybody. It runs in Node and in a page.

import { waiter } from './wait.mjs';

/// Has every peer write `many` messages to a room that all of them listen to, as fast as they can.
/// Returns the first thing that is wrong with what they heard, or nothing.
export async function burst(peers, room, many, size) {
  const inboxes = await Promise.all(peers.map((peer) => peer.subscribe(`/topic/rooms/${room}`)));
  const last = waiter('the receipts of the last messages');
  Promise.all(peers.map((peer) => {
    for (let index = 1; index < many; index += 1) peer.publish(`/app/rooms/${room}`, body(index, size));
    return peer.send(`/app/rooms/${room}`, body(many, size));
  })).then(last.resolve, last.reject);
  const heard = await Promise.all(inboxes.map((inbox) => inbox.takeAll(many * peers.length)));
  await last.promise;

  const [order] = heard.map((messages) => messages.map(({ headers }) => headers['message-id']));
  for (const [index, messages] of heard.entries()) {
    const { login } = peers[index];
    if (messages.some(({ headers }, at) => headers['message-id'] !== order[at])) return `${login} heard another order`;
    for (const sender of peers) {
      const bodies = messages.filter(({ headers }) => headers.sender === sender.login).map((message) => message.body);
      const wrong = bodies.findIndex((text, at) => text !== body(at + 1, size));
      if (wrong >= 0) return `${login} heard ${sender.login}'s ${bodies[wrong].slice(0, 9)} in place ${wrong + 1}`;
      if (bodies.length !== many) return `${login} heard ${bodies.length} of ${sender.login}'s ${many}`;
    }
  }
  // What comes a second time comes before this.
  await peers[0].send(`/app/rooms/${room}`, 'end');
  for (const [index, inbox] of inboxes.entries()) {
    const { body: text } = await inbox.take();
    if (text !== 'end') return `${peers[index].login} heard ${text.slice(0, 9)} after all was said`;
  }
  inboxes.forEach((inbox) => inbox.unsubscribe());
  return undefined;
}

// What SockJS quotes, and what JSON in a script must not have as it is, is part of each.
function body(number, size) {
  return `${number} 안녕 👋 "\\ \u2028\u2029\u200d\ufeff </script> ${'x'.repeat(size)}`;
}
