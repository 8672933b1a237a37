// The token that says who the reader is, for servers that want one. It is kept for this tab alone,
// and is shown nowhere.

const KEY = 'roomcast:token';
// What a header can carry, which is all that a token may have in it.
const TOKEN = /^[\x21-\x7e]{1,8192}$/;

let held = restored();

/// Whether there is one.
export function isHeld() {
  return held !== null;
}

/// The value of `Authorization`, or null.
export function authorization() {
  return held && `Bearer ${held.token}`;
}

/// Who the server last said that its bearer is, or null.
export function user() {
  return held?.user ?? null;
}

/// Remembers who its bearer is.
export function belongsTo(name) {
  if (!held || held.user === name) return;
  held.user = name;
  keep();
}

/// Takes a token, and says what is wrong with it, if anything is.
export function take(text) {
  const token = text.trim().replace(/^Bearer\s+/i, '');
  if (token === '') return 'Please give a token.';
  if (!TOKEN.test(token)) return 'This is no token: it has a space or a character that tokens do not have.';
  held = { token, user: null };
  keep();
  return '';
}

/// Takes the token of the address, `#token=…`, and takes it out of there at once. Browsers send
/// fragments to no server. Says whether there was one.
export function takeFromAddress() {
  const found = new URLSearchParams(location.hash.slice(1)).get('token');
  if (found === null) return false;
  history.replaceState(history.state, '', location.pathname + location.search);
  return take(found) === '';
}

/// Forgets it.
export function forget() {
  held = null;
  keep();
}

function restored() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY));
  } catch {
    return null;
  }
}

function keep() {
  try {
    if (held) sessionStorage.setItem(KEY, JSON.stringify(held));
    else sessionStorage.removeItem(KEY);
  } catch {
    // Then it is asked for after a reload.
  }
}
