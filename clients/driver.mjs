// How a script talks with the test that started it. The script writes `ask kill` or `ask start`
// about the server and waits for a line in answer; at the end it writes `done`. Anything else that
// it writes is for whoever reads the log of a failed test.

import { createInterface } from 'node:readline';

const answers = [];
const waiting = [];

createInterface({ input: process.stdin })
  .on('line', (line) => (waiting.length > 0 ? waiting.shift()(line) : answers.push(line)))
  // The test is gone, and with it the server.
  .on('close', () => process.exit(2));

/// Has the test do something, and returns what it says when that is done.
export function ask(what) {
  console.log(`ask ${what}`);
  if (answers.length > 0) return answers.shift();
  return new Promise((resolve) => { waiting.push(resolve); });
}

/// Says what is checked from here on.
export function step(what) {
  console.log(`- ${what}`);
}

/// Ends the script well.
export function done() {
  console.log('done');
  process.exit(0);
}

/// The server's address, as `http://127.0.0.1:8080`.
export const server = process.env.ROOMCAST_URL;
