// Whether the description that a server gives of its API is OpenAPI, and whether it is true: each
// answer in the file ROOMCAST_ANSWERS, which the test got from real servers, has to be one that it
// describes, and each that it describes has to be among them.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';

import { Validator } from '@seriousme/openapi-schema-validator';
import Ajv from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';

import { done, server, step } from './driver.mjs';

step('the description is served as JSON, and is OpenAPI 3.1');
const served = await fetch(`${server}/api/openapi.json`);
assert.equal(served.status, 200);
assert.equal(served.headers.get('content-type'), 'application/json');
const api = await served.json();
const validator = new Validator();
const verdict = await validator.validate(structuredClone(api));
assert.ok(verdict.valid, JSON.stringify(verdict.errors, null, 2));
assert.equal(validator.version, '3.1');
assert.equal(api.info.version, process.env.ROOMCAST_VERSION);

const ajv = new Ajv({ strict: false, allErrors: true });
addFormats(ajv);
ajv.addSchema(api, 'api');

/// Validates a value by the schema at a place in the description, given as keys.
function holds(keys, value) {
  const pointer = keys.map((key) => encodeURIComponent(key.replace(/~/g, '~0').replace(/\//g, '~1')));
  const check = ajv.compile({ $ref: `api#/${pointer.join('/')}` });
  return check(value) ? null : ajv.errorsText(check.errors);
}

/// What stands at these keys, and the keys where it stands when it is elsewhere.
function resolve(keys) {
  const found = keys.reduce((part, key) => part?.[key], api);
  return found?.$ref && Object.keys(found).length === 1
    ? resolve(found.$ref.slice(2).split('/'))
    : [found, keys];
}

step('every answer is described');
const seen = new Set();
for (const answer of JSON.parse(await readFile(process.env.ROOMCAST_ANSWERS, 'utf8'))) {
  const what = `${answer.method} ${answer.path} ${answer.status} ${answer.body}`;
  const path = answer.path.split('?')[0];
  const template = Object.keys(api.paths).find((known) =>
    new RegExp(`^${known.replace(/\{[a-z]+\}/g, '[^/]*')}$`).test(path));
  const operation = ['paths', template, answer.method.toLowerCase()];
  const [response, keys] = resolve([...operation, 'responses', String(answer.status)]);
  assert.ok(response, `${what}: no such status`);
  const type = answer.headers['content-type'];
  assert.ok(response.content[type], `${what}: not as ${type}`);
  const body = JSON.parse(answer.body);
  assert.equal(holds([...keys, 'content', type, 'schema'], body), null, what);
  for (const name of Object.keys(response.headers ?? {})) {
    const value = answer.headers[name.toLowerCase()];
    const [{ schema }, header] = resolve([...keys, 'headers', name]);
    const typed = schema.type === 'integer' ? Number(value) : value;
    assert.equal(holds([...header, 'schema'], typed), null, `${what}: ${name}`);
  }
  seen.add([template, answer.method, answer.status, body.error?.code].join(' '));

  if (answer.request !== null) {
    const draft = ['components', 'schemas', 'Draft'];
    const wrong = holds(draft, answer.request);
    // What is too large, or comes from elsewhere, may still be well-formed.
    if (answer.status === 201) assert.equal(wrong, null, what);
    if (body.error?.code === 'bad-body') assert.notEqual(wrong, null, `${what} is described as right`);
  }
}

step('every answer that is described was given');
for (const [template, item] of Object.entries(api.paths)) {
  for (const method of ['get', 'post']) {
    for (const status of Object.keys(item[method].responses).filter((status) => status !== 'default')) {
      const content = item[method].responses[status].content['application/json'];
      const codes = content.schema.properties?.error.properties.code.enum ?? [undefined];
      for (const code of codes) {
        const name = [template, method.toUpperCase(), status, code].join(' ');
        assert.ok(seen.delete(name), `${name} was never answered`);
      }
    }
  }
}
assert.deepEqual([...seen], [], 'these codes are not described');

done();
