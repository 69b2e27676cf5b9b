// The web page of an agent. Names, outputs and values come from anybody: they enter the page as text nodes alone, never as markup.
'use strict';

const $ = (id) => document.getElementById(id);
const main = $('main');

/** An element: attributes, `on…` handlers, then children; a child that is no element becomes text. */
function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const WORDS = { passing: 'passing', warning: 'warning', critical: 'critical' };
const shape = (status, label) => h('span', { class: `s ${WORDS[status] || (status === 'none' ? 'none' : 'other')}`, role: 'img', 'aria-label': label || status, title: label || status });
const worst = (passing, warning, critical) => (critical ? 'critical' : warning ? 'warning' : 'passing');
const many = (count, one, more) => `${count.toLocaleString('en')} ${count === 1 ? one : more || `${one}s`}`;
const by = (key) => (a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0);
const path = (text) => text.split('/').map(encodeURIComponent).join('/');
const to = (view, name) => `#/${view}/${encodeURIComponent(name)}`;

function span(ms) {
  const seconds = Math.max(0, Math.round((Date.now() - ms) / 1000));
  const [size, unit] = [[86400, 'd'], [3600, 'h'], [60, 'min']].find(([least]) => seconds >= least) || [1, 's'];
  return `${Math.floor(seconds / size)} ${unit}`;
}
/** How long ago, or with `lasts` for how long. */
function time(ms, lasts) {
  const date = new Date(ms);
  if (!ms || Number.isNaN(date.getTime())) return 'at an unknown time';
  const words = () => (lasts ? `for ${span(ms)}` : `${span(ms)} ago`);
  const element = h('time', { datetime: date.toISOString(), title: date.toLocaleString() }, words());
  element.words = words;
  return element;
}
setInterval(() => {
  for (const element of document.querySelectorAll('time')) element.textContent = element.words();
}, 5000);

// ---- What is known of the catalog -----------------------------------------------------------------------------------------------

const services = new Map();
const nodes = new Map();
let about = null;
let version = 0; // rises with each change

const service = ([name, tags, passing, warning, critical, on]) =>
  ({ name, tags, passing, warning, critical, on, status: worst(passing, warning, critical), text: `${name} ${tags.join(' ')}`.toLowerCase() });
const node = ([name, address, count, passing, warning, critical]) =>
  ({ name, address, count, passing, warning, critical, status: worst(passing, warning, critical), text: `${name} ${address}`.toLowerCase() });

function told(event) {
  const data = JSON.parse(event.data);
  heard = Date.now();
  const all = event.type === 'all';
  if (all) {
    services.clear();
    nodes.clear();
  }
  for (const line of data.services) services.set(line[0].toLowerCase(), service(line));
  for (const line of data.nodes) nodes.set(line[0].toLowerCase(), node(line));
  for (const name of data.goneServices || []) services.delete(name.toLowerCase());
  for (const name of data.goneNodes || []) nodes.delete(name.toLowerCase());
  const changed = all || data.services.length || data.nodes.length || data.goneServices.length || data.goneNodes.length;
  about = { dc: data.dc, agent: data.agent, version: data.version, server: data.server, leader: data.leader, age: data.age };
  $('where').textContent = `${about.dc} · ${about.agent}`;
  $('where').title = `muster ${about.version}, ${about.server ? 'server' : 'client'} agent ${about.agent} in ${about.dc}`;
  standing();
  if (changed) {
    version += 1;
    if (view && view.change) view.change();
  }
}

// ---- The stream of changes: only while somebody looks, because a browser opens few connections to one host ------------------------

let source = null;
let heard = 0;
function listen() {
  if (source || document.hidden) return;
  source = new EventSource('live');
  source.addEventListener('all', told);
  source.addEventListener('some', told);
  source.onerror = () => {
    if (source && source.readyState === EventSource.CLOSED) {
      source = null;
      setTimeout(listen, 3000);
    }
    standing();
  };
}
function rest() {
  if (source) source.close();
  source = null;
}
document.addEventListener('visibilitychange', () => {
  if (document.hidden) rest();
  else listen();
  if (view && view.wake) view.wake();
});
setInterval(() => {
  if (source && heard && Date.now() - heard > 15000) {
    rest();
    listen();
  }
  standing();
}, 3000);

let stood = '';
function standing() {
  const silent = !heard || Date.now() - heard > 8000;
  const [status, text] = silent ? ['critical', heard ? 'no word from the agent' : 'connecting']
    : !about.leader ? ['warning', `no leader, as of ${Math.round(about.age / 1000)} s ago`] : ['passing', 'live'];
  if (stood === text) return;
  stood = text;
  $('live').replaceChildren(shape(silent && !heard ? 'none' : status, status), h('span', {}, text));
}

// ---- Asking the agent -------------------------------------------------------------------------------------------------------------

async function ask(method, url, body, signal) {
  const answer = await fetch(url, { method, body, signal, cache: 'no-store', headers: { Accept: 'application/json' } });
  if (answer.ok || answer.status === 404) return answer;
  throw new Error((await answer.text()).trim() || `The agent answered ${answer.status}`);
}

/** Asks, hands the answer over, and asks again whenever it has changed. Rests while nobody looks. */
function follow(url, take, fail) {
  let index = 0;
  let stop = new AbortController();
  let ended = false;
  const wake = new Set();
  const wait = (ms) => new Promise((done) => {
    wake.add(done);
    if (ms) setTimeout(done, ms);
  });
  (async () => {
    while (!ended) {
      if (document.hidden) {
        await wait(0);
        continue;
      }
      try {
        stop = new AbortController();
        const parameters = `${url.includes('?') ? '&' : '?'}index=${index}&wait=50s`;
        const answer = await ask('GET', url + (index ? parameters : ''), undefined, stop.signal);
        const next = Number(answer.headers.get('X-Consul-Index')) || 0;
        const data = answer.status === 404 ? null : await answer.json();
        if (ended) return;
        if (!index || next !== index) take(data);
        index = next < index ? 0 : next;
        if (!index) await wait(1000);
        else await wait(100); // a storm of changes is looked at ten times a second
      } catch (error) {
        if (ended) return;
        index = 0;
        if (error.name !== 'AbortError') {
          fail(error);
          await wait(2000);
        }
      }
    }
  })();
  return {
    end() { ended = true; stop.abort(); for (const done of wake) done(); },
    wake() { if (document.hidden) stop.abort(); for (const done of wake) done(); wake.clear(); },
  };
}

// ---- A list of any length: only the lines that can be seen are in the page --------------------------------------------------------

function List(kind, label, draw) {
  const root = h('div', { class: `list ${kind}`, role: 'list', 'aria-label': label });
  const shown = new Map();
  let items = [];
  let at = -1;
  const height = () => parseFloat(getComputedStyle(root).getPropertyValue('--row')) || 44;

  function paint() {
    const row = height();
    root.style.height = `${items.length * row + 1}px`;
    root.hidden = !items.length;
    const top = -root.getBoundingClientRect().top;
    const from = Math.max(0, Math.floor(top / row) - 6);
    const end = Math.min(items.length, Math.ceil((top + window.innerHeight) / row) + 6);
    const keep = new Set();
    for (let i = from; i < end; i += 1) {
      const item = items[i];
      keep.add(item.key);
      let line = shown.get(item.key);
      if (!line) {
        line = { element: h('a', {}), item: null };
        shown.set(item.key, line);
        root.append(line.element);
      }
      if (line.item !== item) {
        line.element.replaceChildren(...draw(item));
        line.element.setAttribute('href', item.href);
        line.item = item;
      }
      line.element.style.transform = `translateY(${i * row}px)`;
      line.element.setAttribute('role', 'listitem');
      line.element.setAttribute('aria-posinset', i + 1);
      line.element.setAttribute('aria-setsize', items.length);
      line.at = i;
    }
    for (const [key, line] of shown) {
      if (!keep.has(key) && line.element !== document.activeElement) {
        line.element.remove();
        shown.delete(key);
      }
    }
    // The order in which Tab walks is that of the list.
    const order = [...shown.values()].sort((a, b) => a.at - b.at);
    if (order.some((line, i) => root.children[i] !== line.element) && !root.contains(document.activeElement)) root.append(...order.map((line) => line.element));
  }
  function go(target) {
    if (!items.length) return;
    at = Math.max(0, Math.min(items.length - 1, target));
    const row = height();
    const top = root.getBoundingClientRect().top + at * row;
    const head = document.querySelector('header').offsetHeight + 8;
    if (top < head) window.scrollBy(0, top - head);
    else if (top + row > window.innerHeight - 8) window.scrollBy(0, top + row - window.innerHeight + 8);
    paint();
    shown.get(items[at].key).element.focus({ preventScroll: true });
  }
  root.addEventListener('focusin', (event) => {
    const line = [...shown.values()].find((one) => one.element === event.target);
    if (line) at = line.at;
  });
  return {
    root,
    paint,
    set(next) {
      const key = at >= 0 && items[at] ? items[at].key : null;
      items = next;
      if (key !== null) at = items.findIndex((item) => item.key === key);
      paint();
    },
    move(by) { go(at < 0 ? (by > 0 ? 0 : items.length - 1) : at + by); },
    edge(last) { go(last ? items.length - 1 : 0); },
    page(by) { go(Math.max(at, 0) + by * Math.max(1, Math.floor((window.innerHeight - 120) / height()))); },
  };
}

// ---- Views ------------------------------------------------------------------------------------------------------------------------

let view = null;
let scrolled = new Map();

/** The search field, and what is searched for, which stands in the address so that it can be kept and shared. */
function Search(label, typed) {
  const field = h('input', { type: 'search', placeholder: label, 'aria-label': label, autocomplete: 'off', spellcheck: 'false', id: 'search' });
  field.value = route().query.get('q') || '';
  field.addEventListener('input', () => {
    remember('q', field.value);
    typed();
  });
  return field;
}
const finder = (text) => {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return (item) => words.every((word) => item.text.includes(word));
};
function remember(name, value) {
  const { where, query } = route();
  if (value) query.set(name, value);
  else query.delete(name);
  history.replaceState(null, '', `#/${where}${query.size ? `?${query}` : ''}`);
}
function route() {
  const [where, query] = location.hash.replace(/^#\/?/, '').split('?');
  return { where: where || 'services', query: new URLSearchParams(query || '') };
}

const counts = (item) => h('span', { class: 'counts' }, ['critical', 'warning', 'passing'].map((status) =>
  item[status] > 0 && h('span', {}, shape(status), item[status].toLocaleString('en'))));

/** Services or nodes: a list with a search and a switch for each status. */
function Overview(kind, title, rows, draw, what) {
  let only = route().query.get('only') || '';
  const list = List(kind, title, draw);
  const search = Search(`Search ${kind}`, () => fill());
  const switches = h('div', { class: 'only', role: 'group', 'aria-label': 'Show only' });
  const line = h('p', { class: 'soft', 'aria-live': 'polite' });
  const empty = h('p', { class: 'empty', hidden: true });
  const root = h('div', {}, h('div', { class: 'top' }, h('h1', {}, title), line), h('div', { class: 'tools' }, search, switches), list.root, empty, help());
  const buttons = ['critical', 'warning', 'passing'].map((status) => {
    const number = h('b', {});
    const button = h('button', { type: 'button', 'aria-pressed': 'false', onclick: () => {
      only = only === status ? '' : status;
      remember('only', only);
      fill();
    } }, shape(status), number, h('span', {}, status));
    switches.append(button);
    return { status, number, button };
  });
  let known = new Map();
  function fill() {
    const found = finder(search.value);
    const all = [...rows.values()].sort(by((item) => item.name.toLowerCase()));
    const sums = { passing: 0, warning: 0, critical: 0 };
    const items = [];
    const next = new Map();
    for (const item of all) {
      sums[item.status] += 1;
      if ((only && item.status !== only) || !found(item)) continue;
      item.key = item.name;
      item.href = to(kind, item.name);
      next.set(item.key, item);
      items.push(item);
    }
    known = next;
    for (const { status, number, button } of buttons) {
      number.textContent = sums[status].toLocaleString('en');
      button.setAttribute('aria-pressed', String(only === status));
    }
    line.textContent = items.length === all.length ? many(all.length, what) : `${items.length.toLocaleString('en')} of ${many(all.length, what)}`;
    empty.hidden = items.length > 0;
    empty.textContent = !about ? 'Waiting for the agent …' : all.length ? 'Nothing matches.' : `There are no ${kind} yet.`;
    list.set(items);
  }
  return { root, title, list, search, start: fill, change: fill };
}

const help = () => h('p', { class: 'keys-help' }, [['/', 'search'], ['j k', 'move'], ['Enter', 'open'], ['Esc', 'back']].map(([key, what]) => h('span', {}, key.split(' ').map((one) => h('kbd', {}, one)), what)));

const serviceLine = (item) => [
  shape(item.status),
  h('span', { class: 'name cut' }, item.name),
  h('span', { class: 'cut' }, item.tags.map((tag) => h('span', { class: 'tag' }, tag))),
  counts(item),
];
const nodeLine = (item) => [
  shape(item.status),
  h('span', { class: 'name cut' }, item.name),
  h('span', { class: 'cut soft mono' }, item.address),
  h('span', { class: 'cut soft' }, many(item.count, 'service')),
  counts(item),
];

/** One past or present change: `[when, status, kind, actor, reason]`. */
const changeText = ([, , kind, actor, reason]) => ` · ${[kind, actor, reason].filter(Boolean).join(' · ')}`;

function cause(row) {
  const past = row.past || [];
  const [at, status] = row.cause;
  // A check's row changes with its output too; servers keep when its status did.
  const since = past.length && past[0][1] === status ? past[0] : null;
  const present = status ? [`${status} `, since ? time(since[0], true) : ['as of ', time(at)], changeText(since || row.cause)]
    : ['registered ', time(at), changeText(row.cause)];
  if (past.length < 2) return h('p', { class: 'cause' }, present.flat());
  return h('details', { class: 'cause' }, h('summary', {}, present.flat()),
    h('ol', {}, past.map((one) => h('li', {}, one[1] ? shape(one[1]) : null, h('span', {}, one[1] && `${one[1]} `, time(one[0]), changeText(one))))));
}

function check(row) {
  const kind = [row.type, row.interval && `every ${row.interval}`, row.of === 'node' && 'of the node'].filter(Boolean).join(', ');
  return h('div', { class: `check ${WORDS[row.status] || ''}` }, shape(row.status),
    h('div', { class: 'line' }, h('b', {}, row.name || row.id), h('span', { class: 'soft' }, row.status, kind && ` · ${kind}`, row.id !== row.name && ` · ${row.id}`)),
    row.notes && h('p', { class: 'soft' }, row.notes),
    row.output && h('pre', { tabindex: row.output.length > 600 ? '0' : null }, row.output),
    cause(row));
}

const checksOf = (row) => row.checks.slice().sort(by((one) => ['critical', 'warning', 'passing'].indexOf(one.status) + one.id));

function instance(row, onNode) {
  const address = `${row.address || row.nodeAddress || ''}${row.port ? `:${row.port}` : ''}`;
  const meta = Object.entries(row.meta);
  return h('article', { class: 'card', 'aria-label': row.id }, h('div', { class: 'head' },
    h('h3', {}, shape(row.status), onNode ? h('a', { class: 'link', href: to('services', row.service) }, row.service) : h('a', { class: 'link', href: to('nodes', row.node) }, row.node)),
    address && h('span', { class: 'mono' }, address),
    row.id !== row.service && h('span', { class: 'mono' }, row.id),
    row.tags.length > 0 && h('span', {}, row.tags.map((tag) => h('span', { class: 'tag' }, tag)))),
  h('div', { class: 'more' }, meta.map(([key, value]) => h('span', {}, `${key} = ${value}`)), cause(row),
    !row.owned && h('span', {}, 'kept by no agent')),
  checksOf(row).map(check));
}

/** Cards that stay where they are while others change: what is unchanged is not made anew, what was opened stays open. */
function Cards(make) {
  const root = h('div', {});
  const kept = new Map();
  let first = true;
  let most = 50;
  let rows = [];
  const more = h('button', { type: 'button', onclick: () => { most += 200; fill(); } });
  function fill() {
    const next = new Set();
    const cards = rows.slice(0, most).map((row) => {
      next.add(row.key);
      const text = JSON.stringify(row);
      const old = kept.get(row.key);
      if (old && old.text === text) return old.card;
      const card = make(row);
      if (old) {
        const open = [...old.card.querySelectorAll('details')].map((details) => details.open);
        card.querySelectorAll('details').forEach((details, i) => { details.open = Boolean(open[i]); });
      }
      if (!first) card.classList.add('fresh');
      kept.set(row.key, { text, card });
      return card;
    });
    for (const key of kept.keys()) if (!next.has(key)) kept.delete(key);
    if (cards.length !== root.children.length || cards.some((card, i) => root.children[i] !== card)) root.replaceChildren(...cards);
    first = false;
    more.hidden = rows.length <= most;
    more.textContent = `Show more (${(rows.length - most).toLocaleString('en')} left)`;
  }
  return { root, more, set(next) { rows = next; fill(); } };
}

const order = (row) => ({ critical: 0, warning: 1, passing: 2 }[row.status] ?? 1);
const fact = (name, value) => value && h('div', {}, h('dt', {}, name), h('dd', {}, value));

/** One service or one node, followed by a waiting read of its own. */
function Detail(url, name, title, draw) {
  const head = h('h1', { class: 'title' }, title);
  const body = h('div', {}, h('p', { class: 'soft' }, 'Waiting for the agent …'));
  const root = h('div', {}, head, body);
  const fail = (error) => { if (!body.querySelector('.card')) body.replaceChildren(h('p', { class: 'note bad', role: 'alert' }, error.message)); };
  let painter = null;
  let going = null;
  return {
    root, title,
    start() {
      going = follow(`${url}?stale&name=${encodeURIComponent(name)}`, (data) => {
        if (!data) {
          painter = null;
          head.replaceChildren(title);
          body.replaceChildren(h('p', { class: 'empty' }, 'There is nothing of this name. It appears here when it is registered.'));
          return;
        }
        if (!painter) painter = draw(head, body);
        painter(data);
      }, fail);
    },
    leave() { going.end(); },
    wake() { going.wake(); },
  };
}

function Service(name) {
  return Detail('service', name, name, (head, body) => {
    const cards = Cards((row) => instance(row, false));
    const line = h('dl', { class: 'facts' });
    let all = [];
    const search = Search('Search instances', () => fill());
    const fill = () => cards.set(all.filter(finder(search.value)));
    body.replaceChildren(line, h('div', { class: 'tools' }, search), cards.root, cards.more);
    return (data) => {
      all = data.instances.map((row) => ({ ...row, key: `${row.node} ${row.id}`, text: `${row.node} ${row.id} ${row.address || row.nodeAddress} ${row.port} ${row.status} ${row.tags.join(' ')}`.toLowerCase() }));
      all.sort((a, b) => order(a) - order(b) || by((row) => row.key)(a, b));
      const of = (status) => all.filter((row) => row.status === status).length;
      head.replaceChildren(shape(worst(of('passing'), of('warning'), of('critical'))), h('span', {}, data.name));
      const tags = [...new Set(all.flatMap((row) => row.tags))].sort();
      line.replaceChildren(...[fact('Instances', String(all.length)), ...['critical', 'warning', 'passing'].map((status) => of(status) > 0 &&
        h('div', {}, h('dt', { class: 'count' }, shape(status), status), h('dd', {}, String(of(status))))),
      tags.length > 0 && fact('Tags', tags.join(', '))].filter(Boolean));
      search.parentElement.hidden = all.length < 6;
      fill();
    };
  });
}

function Node(name) {
  return Detail('node', name, name, (head, body) => {
    const line = h('dl', { class: 'facts' });
    const own = h('div', { class: 'card' });
    const cards = Cards((row) => instance(row, true));
    const none = h('p', { class: 'empty' }, 'No service runs here.');
    const why = h('div', {});
    body.replaceChildren(line, why, h('section', {}, h('h2', {}, 'Checks of the node'), own), h('section', {}, h('h2', {}, 'Services'), cards.root, cards.more, none));
    let before = '';
    return (data) => {
      const statuses = data.checks.concat(data.services.flatMap((row) => row.checks)).map((row) => row.status);
      const has = (status) => statuses.includes(status);
      head.replaceChildren(shape(worst(1, has('warning'), has('critical'))), h('span', {}, data.name));
      line.replaceChildren(...[fact('Address', h('span', { class: 'mono' }, data.address)), fact('ID', data.id && h('span', { class: 'mono' }, data.id)),
        ...Object.entries(data.meta).filter(([, value]) => value).map(([key, value]) => fact(key, value))].filter(Boolean));
      why.replaceChildren(cause(data));
      if (before !== JSON.stringify(data.checks)) {
        before = JSON.stringify(data.checks);
        own.replaceChildren(...checksOf(data).map(check));
        own.parentElement.hidden = !data.checks.length;
      }
      const rows = data.services.map((row) => ({ ...row, nodeAddress: data.address, key: row.id }));
      none.hidden = rows.length > 0;
      cards.set(rows.sort((a, b) => order(a) - order(b) || by((row) => row.service + row.id)(a, b)));
    };
  });
}

// ---- Keys -------------------------------------------------------------------------------------------------------------------------

function crumbs(key) {
  const parts = key.split('/');
  const links = [key ? h('a', { class: 'link', href: '#/kv/' }, 'Keys') : 'Keys'];
  parts.forEach((part, i) => {
    if (part === '' && i === parts.length - 1) return;
    const last = i === parts.length - 1;
    const below = `${parts.slice(0, i + 1).join('/')}/`;
    links.push(h('span', { class: 'soft' }, '/'), last ? h('span', {}, part) : h('a', { class: 'link', href: `#/kv/${path(below)}` }, part || '(empty)'));
  });
  return h('h1', { class: 'crumbs' }, links);
}

/** The names below a prefix, up to the next slash. */
function Folder(prefix) {
  const list = List('keys', 'Keys', (item) => [h('span', { class: item.folder ? 'folder' : 'leaf', role: 'img', 'aria-label': item.folder ? 'folder' : 'key' }), h('span', { class: 'cut' }, item.name)]);
  const search = Search('Search this folder', () => fill());
  const line = h('p', { class: 'soft', 'aria-live': 'polite' });
  const empty = h('p', { class: 'empty' }, 'Waiting for the agent …');
  const said = h('div', { role: 'alert' });
  const all = h('button', { type: 'button', class: 'danger', hidden: true, onclick: async () => {
    if (!await sure('Delete this folder?', `All keys below ${prefix} are deleted, also those in folders below it.`, 'Delete all')) return;
    try {
      await ask('DELETE', `/v1/kv/${path(prefix)}?recurse`);
      location.hash = `#/kv/${path(above(prefix))}`;
    } catch (error) {
      said.replaceChildren(h('p', { class: 'note bad' }, error.message));
    }
  } }, 'Delete folder');
  const root = h('div', {}, h('div', { class: 'top' }, crumbs(prefix), line), said,
    h('div', { class: 'tools' }, search, h('a', { class: 'button', href: `#/kv-new/${path(prefix)}` }, 'New key'), all), list.root, empty, help());
  let keys = [];
  let going = null;
  function fill() {
    const items = keys.filter(finder(search.value));
    line.textContent = items.length === keys.length ? many(keys.length, 'entry', 'entries') : `${items.length.toLocaleString('en')} of ${many(keys.length, 'entry', 'entries')}`;
    empty.hidden = items.length > 0;
    empty.textContent = keys.length ? 'Nothing matches.' : 'There are no keys here.';
    all.hidden = !prefix || !keys.length;
    list.set(items);
  }
  return {
    root, title: prefix || 'Keys', list, search,
    up: prefix ? `#/kv/${path(above(prefix))}` : null,
    start() {
      going = follow(`/v1/kv/${path(prefix)}?keys&separator=/`, (names) => {
        keys = (names || []).filter((key) => key !== prefix).map((key) => {
          const name = key.slice(prefix.length);
          return { key, name, folder: key.endsWith('/'), text: name.toLowerCase(), href: `#/kv/${path(key)}` };
        });
        // A key that ends in a slash is in its own folder, without a name.
        if ((names || []).includes(prefix) && prefix) keys.unshift({ key: prefix, name: '(the folder’s own value)', folder: false, text: prefix.toLowerCase(), href: `#/kv-key/${path(prefix)}` });
        fill();
      }, (error) => { empty.hidden = false; empty.textContent = error.message; });
    },
    leave() { going.end(); },
    wake() { going.wake(); },
  };
}
const above = (key) => key.replace(/[^/]*\/?$/, '');

function bytesOf(base64) {
  return Uint8Array.from(atob(base64 || ''), (letter) => letter.charCodeAt(0));
}

/** One key. A save says which version it replaces, so that nobody's write is lost unseen. */
function Key(key, fresh) {
  const name = h('input', { id: 'key-name', value: key, autocomplete: 'off', spellcheck: 'false', required: true });
  const area = h('textarea', { id: 'key-value', spellcheck: 'false', 'aria-describedby': 'key-about' });
  const said = h('div', { role: 'alert' });
  const info = h('dl', { class: 'facts', id: 'key-about' });
  const save = h('button', { class: 'main' }, fresh ? 'Create key' : 'Save');
  const remove = h('button', { type: 'button', class: 'danger', hidden: fresh, onclick: () => drop() }, 'Delete');
  const newer = h('button', { type: 'button', hidden: true, onclick: () => show(last) }, 'Take the newer value');
  const form = h('form', { class: 'key', onsubmit: (event) => { event.preventDefault(); store(); } },
    fresh && h('label', { for: 'key-name' }, 'Key'), fresh && name, h('label', { for: 'key-value' }, 'Value'), area,
    h('div', { class: 'buttons' }, save, newer, remove));
  const root = h('div', {}, h('div', { class: 'top' }, fresh ? h('h1', {}, 'New key') : crumbs(key)), said, info, form);
  let seen = null; // the row that is being edited
  let last = null; // the newest row
  let shown = '';
  let binary = false;
  let going = null;
  const say = (text, kind) => said.replaceChildren(...(text ? [h('p', { class: `note ${kind || ''}` }, text)] : []));
  const dirty = () => !area.readOnly && area.value !== shown;

  function show(row) {
    seen = row;
    newer.hidden = true;
    binary = false;
    let text = '';
    const bytes = bytesOf(row && row.Value);
    try {
      text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
      binary = /[\u0000-\u0008\u000e-\u001f]/.test(text) || text.includes('\r');
    } catch {
      binary = true;
    }
    // A field would change these bytes: they are shown and left alone.
    if (binary) text = [...bytes.slice(0, 4096)].map((byte, i) => byte.toString(16).padStart(2, '0') + (i % 16 === 15 ? '\n' : ' ')).join('');
    area.value = shown = text;
    area.readOnly = binary;
    save.hidden = binary;
    say(binary ? `These ${many(bytes.length, 'byte')} are no plain text: shown as hexadecimal${bytes.length > 4096 ? ' (the first 4,096)' : ''}, not to be edited here.` : '');
    if (row) {
      info.replaceChildren(...[fact('Size', many(bytes.length, 'byte')), fact('Flags', String(row.Flags)), fact('Index', String(row.ModifyIndex)),
        row.LockIndex > 0 && fact('Locked', many(row.LockIndex, 'time')), row.Session && fact('Held by session', h('span', { class: 'mono' }, row.Session))].filter(Boolean));
    }
  }
  async function store() {
    const target = fresh ? name.value.replace(/^\/+/, '') : key;
    if (!target) { say('A key needs a name.', 'bad'); return; }
    save.disabled = true;
    try {
      const flags = seen && seen.Flags ? `&flags=${seen.Flags}` : '';
      const answer = await ask('PUT', `/v1/kv/${path(target)}?cas=${seen ? seen.ModifyIndex : 0}${flags}`, area.value);
      if (await answer.json() === true) {
        shown = area.value;
        if (fresh) {
          location.hash = `#/kv${target.endsWith('/') ? '' : '-key'}/${path(target.endsWith('/') ? above(target) : target)}`;
        } else {
          await reread();
          say('Saved.', 'good');
        }
      } else if (fresh) {
        say('There is such a key already. Nothing was changed.', 'bad');
      } else {
        await reread(true);
        say('It was changed or deleted by somebody else meanwhile, so nothing was saved. Take the newer value, or save again to replace it.', 'bad');
        newer.hidden = !last;
      }
    } catch (error) {
      say(error.message, 'bad');
    }
    save.disabled = false;
  }
  async function reread(keep) {
    const answer = await ask('GET', `/v1/kv/${path(key)}`);
    last = answer.status === 404 ? null : (await answer.json())[0];
    if (keep) seen = last;
    else show(last);
  }
  async function drop() {
    if (!await sure('Delete this key?', key, 'Delete')) return;
    try {
      const answer = await ask('DELETE', `/v1/kv/${path(key)}?cas=${seen ? seen.ModifyIndex : 0}`);
      if (await answer.json() === true) location.hash = `#/kv/${path(above(key))}`;
      else {
        await reread();
        say('It was changed by somebody else meanwhile, so it was not deleted. This is its value now.', 'bad');
      }
    } catch (error) {
      say(error.message, 'bad');
    }
  }
  root.addEventListener('keydown', (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key === 's') {
      event.preventDefault();
      if (!save.hidden && !save.disabled) form.requestSubmit();
    }
  });
  return {
    root, title: fresh ? 'New key' : key, up: `#/kv/${path(above(key))}`, dirty,
    start() {
      if (fresh) { name.focus(); name.setSelectionRange(key.length, key.length); return; }
      going = follow(`/v1/kv/${path(key)}`, (rows) => {
        last = rows && rows[0];
        if (!last) {
          seen = null;
          info.replaceChildren();
          save.textContent = 'Create key';
          remove.hidden = true;
          say(shown || area.value ? 'This key is deleted.' : 'There is no such key.', 'bad');
        } else if (seen && last.ModifyIndex === seen.ModifyIndex) {
          // What was saved from here.
        } else if (dirty()) {
          say('It was changed by somebody else meanwhile. A save is refused until you have looked.', 'bad');
          newer.hidden = false;
        } else {
          save.textContent = 'Save';
          remove.hidden = false;
          show(last);
        }
      }, (error) => say(error.message, 'bad'));
    },
    leave() { if (going) going.end(); },
    wake() { if (going) going.wake(); },
  };
}

function sure(title, text, yes) {
  const dialog = $('ask');
  $('ask-title').textContent = title;
  $('ask-text').textContent = text;
  $('ask-yes').textContent = yes;
  dialog.returnValue = '';
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener('close', () => done(dialog.returnValue === 'yes'), { once: true }));
}

// ---- Sessions and members ---------------------------------------------------------------------------------------------------------

function Plain(kind, title, what, draw, begin) {
  const list = List(kind, title, draw);
  const search = Search(`Search ${what}s`, () => fill());
  const line = h('p', { class: 'soft', 'aria-live': 'polite' });
  const empty = h('p', { class: 'empty' }, 'Waiting for the agent …');
  const root = h('div', {}, h('div', { class: 'top' }, h('h1', {}, title), line), h('div', { class: 'tools' }, search), list.root, empty, help());
  let rows = [];
  function fill() {
    const items = rows.filter(finder(search.value));
    line.textContent = items.length === rows.length ? many(rows.length, what) : `${items.length.toLocaleString('en')} of ${many(rows.length, what)}`;
    empty.hidden = items.length > 0;
    empty.textContent = rows.length ? 'Nothing matches.' : `There are no ${what}s.`;
    list.set(items);
  }
  let going = null;
  return {
    root, title, list, search,
    start() { going = begin((next) => { rows = next; fill(); }, (error) => { empty.hidden = false; empty.textContent = error.message; }); },
    leave() { going.end(); },
    wake() { going.wake(); },
  };
}

const Sessions = () => Plain('sessions', 'Sessions', 'session', (row) => [
  shape('passing', 'held'), h('span', { class: 'name cut' }, row.name || row.id),
  h('span', { class: 'cut soft' }, row.ttl ? `TTL ${row.ttl}` : 'no TTL', `, then ${row.behavior}`),
  h('span', { class: 'cut soft' }, `on ${row.node}`, row.name && ` · ${row.id}`),
], (take, fail) => follow('/v1/session/list', (all) => take((all || []).map((row) => ({
  key: row.ID, id: row.ID, name: row.Name, node: row.Node, ttl: row.TTL, behavior: row.Behavior, href: to('nodes', row.Node),
  text: `${row.ID} ${row.Name} ${row.Node}`.toLowerCase(),
})).sort(by((row) => row.name + row.key))), fail));

const STANDINGS = { 1: ['passing', 'alive'], 2: ['warning', 'leaving'], 3: ['none', 'left'], 4: ['critical', 'failed'] };

const Cluster = () => Plain('members', 'Cluster', 'member', (row) => [
  shape(row.shape, row.standing), h('span', { class: 'name cut' }, row.name),
  h('span', { class: 'cut soft' }, row.leads ? 'leader' : row.role),
  h('span', { class: 'cut soft' }, row.cause ? `${row.standing}: ${row.cause}` : `${row.standing} · `, !row.cause && h('span', { class: 'mono' }, row.address)),
], (take, fail) => {
  let ended = false;
  const look = async () => {
    if (ended || document.hidden) return;
    try {
      const [members, leader] = await Promise.all([ask('GET', '/v1/agent/members').then((answer) => answer.json()), ask('GET', '/v1/status/leader').then((answer) => answer.json())]);
      if (ended) return;
      take(members.map((row) => {
        const [status, standing] = STANDINGS[row.Status] || ['warning', 'unknown'];
        const server = row.Tags.role === 'consul';
        const address = `${row.Addr.includes(':') ? `[${row.Addr}]` : row.Addr}:${row.Port}`;
        return {
          key: row.Name, name: row.Name, shape: status, standing, role: server ? 'server' : 'client', address, cause: row.Cause,
          leads: server && leader === `${row.Addr.includes(':') ? `[${row.Addr}]` : row.Addr}:${row.Tags.port}`,
          href: to('nodes', row.Name), text: `${row.Name} ${row.Addr} ${standing} ${server ? 'server' : 'client'}`.toLowerCase(),
        };
      }).sort(by((row) => (row.role === 'server' ? '0' : '1') + row.name)));
    } catch (error) {
      fail(error);
    }
  };
  look();
  const again = setInterval(look, 2000); // gossip has no index to wait for
  return { end() { ended = true; clearInterval(again); }, wake: look };
});

// ---- Which view -------------------------------------------------------------------------------------------------------------------

function open() {
  const { where } = route();
  const slash = where.indexOf('/');
  const kind = slash < 0 ? where : where.slice(0, slash);
  let name = slash < 0 ? '' : where.slice(slash + 1);
  let first = '';
  try {
    const parts = name.split('/').map(decodeURIComponent);
    name = parts.join('/');
    [first] = parts;
  } catch { /* not ours: taken as it stands */ }
  switch (kind) {
    case 'nodes': return name ? [Node(first), 'nodes'] : [Overview('nodes', 'Nodes', nodes, nodeLine, 'node'), 'nodes'];
    case 'kv': return [name === '' || name.endsWith('/') ? Folder(name) : Key(name, false), 'kv/'];
    case 'kv-key': return [Key(name, false), 'kv/'];
    case 'kv-new': return [Key(name, true), 'kv/'];
    case 'sessions': return [Sessions(), 'sessions'];
    case 'cluster': return [Cluster(), 'cluster'];
    default: return name ? [Service(first), 'services'] : [Overview('services', 'Services', services, serviceLine, 'service'), 'services'];
  }
}

let stands = location.hash;
function turn() {
  if (view && view.dirty && view.dirty() && location.hash !== stands && !window.confirm('Leave without saving?')) {
    history.replaceState(null, '', stands);
    return;
  }
  if (view) {
    scrolled.set(stands, window.scrollY);
    if (view.leave) view.leave();
  }
  stands = location.hash;
  const [next, tab] = open();
  view = next;
  document.title = `${view.title} · muster`;
  for (const link of document.querySelectorAll('nav a')) {
    if (link.getAttribute('href') === `#/${tab}`) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  main.replaceChildren(view.root);
  main.focus({ preventScroll: true });
  view.start();
  window.scrollTo(0, view.list ? scrolled.get(stands) || 0 : 0);
  if (view.list) view.list.paint();
}
window.addEventListener('hashchange', turn);
window.addEventListener('beforeunload', (event) => { if (view && view.dirty && view.dirty()) event.preventDefault(); });
let due = false;
const repaint = () => {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    if (view && view.list) view.list.paint();
  });
};
window.addEventListener('scroll', repaint, { passive: true });
window.addEventListener('resize', repaint);
document.querySelector('.skip').addEventListener('click', (event) => {
  event.preventDefault();
  main.focus();
});

document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $('ask').open) return;
  const typing = event.target.matches('input, textarea');
  const search = view && view.search;
  const list = view && view.list;
  const did = () => event.preventDefault();
  if (event.key === 'Escape') {
    if (search && event.target === search && search.value) {
      search.value = '';
      search.dispatchEvent(new Event('input'));
    } else if (typing) event.target.blur();
    else if (view && view.up) location.hash = view.up;
    else if (route().where.includes('/') && !route().where.startsWith('kv')) location.hash = `#/${route().where.split('/')[0]}`;
    return;
  }
  if (typing && !(event.target === search && (event.key === 'ArrowDown' || event.key === 'Enter'))) return;
  if (event.key === '/') {
    const field = search || document.getElementById('search');
    if (field) { did(); field.focus(); field.select(); }
  } else if (list) {
    const keys = { j: () => list.move(1), ArrowDown: () => list.move(1), k: () => list.move(-1), ArrowUp: () => list.move(-1), PageDown: () => list.page(1), PageUp: () => list.page(-1), Home: () => list.edge(false), End: () => list.edge(true) };
    if (typing && event.key === 'Enter') { did(); list.edge(false); } else if (keys[event.key]) { did(); keys[event.key](); }
  } else if (event.key === 'j' || event.key === 'k') {
    // Where there are cards, from one heading's link to the next.
    const links = [...main.querySelectorAll('.card h3 a')];
    const now = links.indexOf(document.activeElement);
    const next = links[now < 0 ? 0 : now + (event.key === 'j' ? 1 : -1)];
    if (next) { did(); next.focus(); next.closest('.card').scrollIntoView({ block: 'nearest' }); }
  }
});

turn();
listen();
standing();
