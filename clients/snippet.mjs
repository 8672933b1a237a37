// The code in the documentation, so that what readers copy is what runs.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

const DOCS = new URL('../docs/', import.meta.url);

/// The first block of code in this language in a file of `docs/`.
export function snippet(file, language) {
  const [, code] = readFileSync(new URL(file, DOCS), 'utf8').split(`\n\`\`\`${language}\n`);
  assert(code, `${file} has no block in ${language}`);
  return code.slice(0, code.indexOf('\n```'));
}

/// What the block defines under these names, as a module.
export async function imported(code, names) {
  return import(`data:text/javascript,${encodeURIComponent(`${code}\nexport { ${names} };`)}`);
}

/// `token(claims, secret, seconds)`, as an application signs with Node.
export const { token } = await imported(snippet('backends.md', 'js'), 'token');
