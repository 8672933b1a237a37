// The browser that the scripts drive, and what they ask of a page.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';

import { chromium } from 'playwright-core';

const BROWSERS = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

/// Errors that a page's own script has thrown.
export const faults = [];

const executablePath = process.env.CHROMIUM ?? BROWSERS.find(existsSync);
assert(executablePath, 'no Chromium: run scripts/test, or name one in CHROMIUM');
export const browser = await chromium.launch({
  executablePath,
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});

/// A page of someone new: nothing is shared with others.
export async function visitor(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1100, height: 760 }, ...options });
  const page = await context.newPage();
  page.on('pageerror', (error) => faults.push(String(error)));
  return page;
}

export async function enter(page, server, room, name) {
  await page.goto(`${server}/?${new URLSearchParams({ room, name })}`);
  await connected(page);
}

export async function connected(page) {
  await page.locator('#state[data-state="connected"]').waitFor();
}

export async function write(page, body) {
  await page.fill('#text', body);
  await page.click('#send');
}

export async function bodies(page) {
  return page.locator('.message .bubble').evaluateAll((all) => all.map((bubble) => bubble.textContent));
}

/// One datum of each message: `id`, `key`, `sender` or `state`.
export async function data(page, name) {
  return page.locator('.message').evaluateAll((all, what) => all.map(({ dataset }) => dataset[what]), name);
}

/// Until there are exactly so many messages.
export async function count(page, many) {
  try {
    await page.waitForFunction((wanted) => document.querySelectorAll('.message').length === wanted, many);
  } catch {
    const found = (await bodies(page)).map((body) => body.slice(0, 40));
    assert.fail(`${found.length} messages instead of ${many}: ${JSON.stringify(found)}`);
  }
}

/// Until there are so many messages and none is on its way.
export async function stored(page, many) {
  await count(page, many);
  await page.waitForFunction(() => {
    const failed = document.querySelector('.message[data-state="failed"]');
    if (failed) throw new Error(`not sent: ${failed.textContent}`);
    return !document.querySelector('.message[data-state="sending"]');
  });
}
