// The page: choosing a name and a room, the connection's state, and the composer.

import { Link } from '/link.js';
import { MAX_BODY, Room } from '/room.js';
import { octets } from '/stomp.js';
import * as token from '/token.js';
import { View } from '/view.js';

const ERROR_MS = 10_000;
const ROOM = /^[A-Za-z0-9._~:@-]{1,128}$/;
const CONTROL = /\p{Cc}/u;
const MAX_NAME = 128;
const REFUSED = { unauthorized: 'Not signed in', 'token-expired': 'Token expired', forbidden: 'Not allowed' };

const byId = (id) => document.getElementById(id);
const text = byId('text');

/// What is open: `{ name, room, link, view }`, or null while joining.
let chat = null;
let older = false;
let needsToken = false;

// ---- Joining and leaving

byId('join-form').addEventListener('submit', (event) => {
  event.preventDefault();
  const room = byId('room').value.trim();
  const wrong = needsToken && !token.isHeld() ? token.take(byId('token').value) : '';
  const name = token.isHeld() ? '' : byId('name').value.trim();
  const [field, problem] = wrong ? ['token', wrong] : checked(name, room);
  byId('join-error').textContent = problem;
  for (const id of ['name', 'token', 'room']) byId(id).setAttribute('aria-invalid', String(id === field));
  byId('token').value = '';
  if (problem) {
    showFields();
    byId(field).focus();
    return;
  }
  history.pushState(null, '', address(room, name));
  enter(name, room);
});

byId('forget').addEventListener('click', () => {
  token.forget();
  ask();
});

byId('leave').addEventListener('click', () => {
  history.pushState(null, '', '/');
  follow();
});

addEventListener('popstate', () => follow());

function address(room, name) {
  return `/?${new URLSearchParams(name ? { room, name } : { room })}`;
}

function checked(name, room) {
  if (name === '' && !token.isHeld()) return ['name', 'Please give a name.'];
  if (octets(name) > MAX_NAME) return ['name', 'This name is too long.'];
  if (CONTROL.test(name)) return ['name', 'This name has a character that cannot be shown.'];
  if (room === '') return ['room', 'Please give a room.'];
  if (!ROOM.test(room)) return ['room', 'A room’s name is up to 128 letters, digits and . _ ~ : @ - without spaces.'];
  // A URL cannot name these two.
  if (room === '.' || room === '..') return ['room', 'A room needs more of a name than dots.'];
  return [null, ''];
}

/// Shows what the URL says.
function follow() {
  token.takeFromAddress();
  const url = new URLSearchParams(location.search);
  const name = (url.get('name') ?? '').trim();
  const room = (url.get('room') ?? '').trim();
  const [, problem] = checked(name, room);
  if (!problem) {
    enter(name, room);
    return;
  }
  leave();
  byId('name').value = name || remembered('name');
  byId('room').value = room || remembered('room');
  byId('join-error').textContent = room && (name || token.isHeld()) ? problem : '';
  ask();
}

/// Shows the fields that this server needs, once it has said whether it lets the reader in.
async function ask() {
  showFields();
  byId(byId('name').value || token.isHeld() ? 'room' : 'name').focus();
  const held = token.authorization();
  const headers = held ? { Authorization: held } : {};
  // Which room is asked for makes no difference: 401 comes before it is looked for.
  const answer = await fetch('/api/rooms/lobby/messages?limit=1', { headers }).catch(() => null);
  if (!answer || held !== token.authorization()) return;
  needsToken = answer.status === 401;
  if (needsToken && held) token.forget();
  showFields();
  if (needsToken && held) byId('join-error').textContent = 'Your token is not valid any more. Please give a new one.';
  if (needsToken && document.activeElement === byId('room')) byId('token').focus();
}

function showFields() {
  const isNamed = needsToken || token.isHeld();
  byId('pick').textContent = isNamed ? 'Pick a room.' : 'Pick a name and a room.';
  byId('by-name').hidden = isNamed;
  byId('by-token').hidden = !needsToken || token.isHeld();
  byId('holding').hidden = !token.isHeld();
  byId('holding-text').textContent = token.user() ? `You are ${token.user()}, by your token.` : 'You have a token.';
}

function enter(name, room) {
  leave();
  if (name) remember('name', name);
  remember('room', room);
  document.body.dataset.view = 'chat';
  byId('join').hidden = true;
  byId('chat').hidden = false;
  byId('room-title').textContent = room;
  byId('who').textContent = token.isHeld() ? token.user() ?? '…' : name;
  byId('proof').hidden = true;
  byId('invite').href = `/?${new URLSearchParams({ room })}`;
  byId('notice').hidden = true;
  byId('composer-error').textContent = '';

  const view = new View(room);
  view.notice = notice;
  view.attached = attached;
  const link = new Link(() => (token.isHeld() ? { Authorization: token.authorization() } : { login: name }));
  const open = new Room(room, token.isHeld() ? token.user() : name, link, view);
  open.onuser = (user) => {
    token.belongsTo(user);
    byId('who').textContent = user;
  };
  open.onstranger = (user) => {
    token.belongsTo(user);
    history.replaceState(null, '', address(room, token.isHeld() ? '' : user));
    enter(user, room);
  };
  link.onstate = showState;
  view.onretry = (message) => open.retry(message);
  view.ondiscard = (message) => open.discard(message);
  view.ontop = () => loadOlder(false);
  chat = { open, link, view };
  link.open();
  if (matchMedia('(pointer: fine)').matches) text.focus();
}

function leave() {
  chat?.link.close();
  chat?.view.close();
  chat = null;
  clearInterval(countdown);
  document.title = 'Roomcast';
  document.body.dataset.view = 'join';
  byId('chat').hidden = true;
  byId('join').hidden = false;
}

function remembered(what) {
  try {
    return localStorage.getItem(`roomcast:${what}`) ?? '';
  } catch {
    return '';
  }
}

function remember(what, value) {
  try {
    localStorage.setItem(`roomcast:${what}`, value);
  } catch {
    // Then it is asked for the next time.
  }
}

// ---- The connection

let countdown;

function showState({ name, retryAt, why }) {
  clearInterval(countdown);
  const state = byId('state');
  state.dataset.state = name;
  byId('reconnect').hidden = name !== 'offline' && why !== 'forbidden';
  byId('proof').hidden = name !== 'refused';
  const show = () => {
    const seconds = Math.max(1, Math.ceil((retryAt - Date.now()) / 1000));
    state.textContent = `Offline – retrying in ${seconds} s`;
  };
  if (name === 'offline') {
    show();
    countdown = setInterval(show, 1000);
  } else if (name === 'refused') {
    state.textContent = REFUSED[why];
    byId('proof-text').textContent = refusal(why);
    byId('proof-error').textContent = '';
  } else {
    state.textContent = name === 'connected' ? 'Connected' : 'Connecting…';
  }
}

function refusal(why) {
  if (why === 'forbidden') return 'You are not allowed in this room. Another token may let you in.';
  if (why === 'token-expired') return 'Your token has expired. What you write waits here until you give a new one.';
  return token.isHeld() ? 'The server refuses this token. Please give another one.'
    : 'This server needs a token, and takes your name from it.';
}

byId('reconnect').addEventListener('click', () => chat?.link.open());

byId('proof').addEventListener('submit', (event) => {
  event.preventDefault();
  const problem = token.take(byId('proof-token').value);
  byId('proof-token').value = '';
  byId('proof-error').textContent = problem;
  if (!problem) chat?.link.open();
  text.focus();
});

// ---- Notices

let fading;

function notice(kind, message) {
  clearTimeout(fading);
  byId('notice').dataset.kind = kind;
  byId('notice-text').textContent = message;
  byId('notice').hidden = false;
}

// An error that a new connection has healed may be read a while longer.
function attached() {
  if (byId('notice').hidden || byId('notice').dataset.kind !== 'error') return;
  fading = setTimeout(() => { byId('notice').hidden = true; }, ERROR_MS);
}

byId('notice-close').addEventListener('click', () => { byId('notice').hidden = true; });

// ---- Older messages

byId('older').addEventListener('click', () => loadOlder(true));

async function loadOlder(asked) {
  // Reading on by scrolling waits after a failure; the button does not.
  if (!chat || older || (!asked && byId('older').dataset.failed)) return;
  const { open } = chat;
  older = true;
  byId('older').setAttribute('aria-busy', 'true');
  byId('older').textContent = 'Loading…';
  try {
    await open.older();
    delete byId('older').dataset.failed;
  } catch (error) {
    byId('older').dataset.failed = 'true';
    if (chat?.open === open) notice('error', `Older messages could not be loaded: ${error.message}`);
  }
  older = false;
  byId('older').removeAttribute('aria-busy');
  byId('older').textContent = 'Load older messages';
}

// ---- The composer

byId('composer').addEventListener('submit', (event) => {
  event.preventDefault();
  const body = text.value.trim();
  text.focus();
  if (body === '') return;
  const size = octets(body);
  if (size > MAX_BODY) {
    const kib = Math.ceil(size / 1024);
    byId('composer-error').textContent = `This message has ${kib} KiB; ${MAX_BODY / 1024} KiB is the most that can be sent.`;
    return;
  }
  text.value = '';
  grow();
  chat.open.send(body);
});

text.addEventListener('keydown', (event) => {
  // While a syllable or a word is being composed, Enter ends that; Safari says so only by 229.
  if (event.key !== 'Enter' || event.isComposing || event.keyCode === 229) return;
  if (event.shiftKey || event.altKey || event.ctrlKey || event.metaKey) return;
  // On a touch keyboard Enter is the only way to a new line, and the button is at hand.
  if (!matchMedia('(pointer: fine)').matches) return;
  event.preventDefault();
  byId('composer').requestSubmit();
});

text.addEventListener('input', grow);

// A touch on the button would close the keyboard.
byId('send').addEventListener('pointerdown', (event) => event.preventDefault());

function grow() {
  byId('composer-error').textContent = '';
  text.style.height = 'auto';
  text.style.height = `${text.scrollHeight}px`;
}

// Where a keyboard covers the page instead of making it smaller, the page makes itself smaller.
visualViewport?.addEventListener('resize', () => {
  document.body.style.setProperty('--height', `${visualViewport.height}px`);
  scrollTo(0, 0);
});

follow();
